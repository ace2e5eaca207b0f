//! Chunked bodies (RFC 9112 section 7.1), read piece by piece at any split.

use std::ops::Range;

use oxy_core::ErrorKind;

use super::index::{Field, Span};
use super::known::Known;
use super::reject::Reject;
use super::token::{is_field_byte, is_tchar, trim};
use crate::limits::ChunkLimits;

/// Reads a chunked body. Between calls it holds a few words, and trailers only if there are any.
#[derive(Debug, Default)]
pub struct Decoder {
    /// While a size is read: the size so far. In data: how much is left.
    remaining: u64,
    trailers: Option<Box<Trailers>>,
    extensions: u32,
    line: u32,
    state: State,
}

/// What [`Decoder::decode`] has found.
#[derive(Debug)]
pub enum Step {
    /// Payload: this range of the input.
    Data(Range<usize>),
    /// The input is used up.
    NeedMore,
    /// The body is complete. What was not consumed belongs to the next message.
    Done(Option<Box<Trailers>>),
}

/// A trailer section (RFC 9110 section 6.5): its raw lines and where the fields are in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trailers {
    /// The field lines, each with its CRLF, without the blank line at the end.
    pub block: Vec<u8>,
    /// The fields, as positions in `block`.
    pub fields: Vec<Field>,
}

impl Trailers {
    /// The names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Known, &[u8], &[u8])> {
        self.fields.iter().map(|field| {
            (
                field.known,
                field.name().of(&self.block),
                field.value().of(&self.block),
            )
        })
    }
}

/// Where a whole buffer was brought by [`Decoder::compact`].
#[derive(Debug)]
pub struct Compacted {
    /// How many bytes of payload stand at the start of the buffer now.
    pub payload: usize,
    /// How many bytes of the buffer were consumed: what follows them is untouched.
    pub consumed: usize,
    /// Whether the body is complete.
    pub done: bool,
    /// The trailers, if it is and there are any.
    pub trailers: Option<Box<Trailers>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    #[default]
    Start,
    Size,
    /// After whitespace that has to lead to a semicolon.
    BeforeSemicolon,
    /// After a semicolon.
    BeforeName,
    Name,
    /// After whitespace behind a name: `=` or `;` has to follow.
    AfterName,
    BeforeValue,
    Value,
    Quoted,
    QuotedPair,
    /// Behind a quoted value: the line end, or a semicolon.
    AfterQuoted,
    LineFeed,
    Data,
    DataReturn,
    DataFeed,
    /// At the start of a trailer line.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerFeed,
    LastFeed,
    Done,
    /// Something was wrong, and stays so.
    Failed,
}

impl Decoder {
    /// A decoder at the start of a body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads on. Returns how much of `input` was consumed, and what it was; call again with the rest until it says
    /// [`Step::NeedMore`] or [`Step::Done`]. The first byte that cannot belong to a chunked body is an error.
    pub fn decode(&mut self, input: &[u8], limits: &ChunkLimits) -> Result<(usize, Step), Reject> {
        let mut at = 0;
        loop {
            if self.state == State::Done {
                return Ok((at, Step::Done(self.take_trailers())));
            }
            if at == input.len() {
                return Ok((at, Step::NeedMore));
            }
            if self.state == State::Data {
                let left = input.len() - at;
                let take =
                    usize::try_from(self.remaining).map_or(left, |remaining| remaining.min(left));
                self.remaining -= take as u64;
                if self.remaining == 0 {
                    self.state = State::DataReturn;
                }
                return Ok((at + take, Step::Data(at..at + take)));
            }
            match self.step(input[at], limits) {
                Ok(next) => self.state = next,
                Err(reject) => {
                    self.state = State::Failed;
                    return Err(reject);
                }
            }
            at += 1;
        }
    }

    /// Reads a whole buffer and moves the payload of all chunks together to its start, so that what came in one read
    /// goes out as one chunk whatever its sizes were.
    pub fn compact(&mut self, buf: &mut [u8], limits: &ChunkLimits) -> Result<Compacted, Reject> {
        let mut all = Compacted {
            payload: 0,
            consumed: 0,
            done: false,
            trailers: None,
        };
        loop {
            let (consumed, step) = self.decode(&buf[all.consumed..], limits)?;
            match step {
                Step::Data(range) => {
                    let length = range.len();
                    buf.copy_within(
                        all.consumed + range.start..all.consumed + range.end,
                        all.payload,
                    );
                    all.payload += length;
                    all.consumed += consumed;
                }
                Step::NeedMore => {
                    all.consumed += consumed;
                    return Ok(all);
                }
                Step::Done(trailers) => {
                    all.consumed += consumed;
                    all.done = true;
                    all.trailers = trailers;
                    return Ok(all);
                }
            }
        }
    }

    #[inline]
    #[expect(
        clippy::match_same_arms,
        reason = "one arm for each transition, in the order of the grammar"
    )]
    fn step(&mut self, byte: u8, limits: &ChunkLimits) -> Result<State, Reject> {
        let next = match (self.state, byte) {
            (State::Start | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                self.remaining = self
                    .remaining
                    .checked_mul(16)
                    .and_then(|size| size.checked_add(u64::from(digit)))
                    // As for Content-Length: sums of sizes must not wrap further on.
                    .filter(|&size| i64::try_from(size).is_ok())
                    .ok_or(Reject::malformed("chunk size too large"))?;
                State::Size
            }
            (
                State::Size
                | State::Name
                | State::AfterName
                | State::Value
                | State::AfterQuoted
                | State::BeforeSemicolon,
                b';',
            ) => State::BeforeName,
            (State::Size | State::Name | State::Value | State::AfterQuoted, b'\r') => {
                State::LineFeed
            }
            (
                State::Size | State::BeforeSemicolon | State::Value | State::AfterQuoted,
                b' ' | b'\t',
            ) => State::BeforeSemicolon,
            (State::BeforeName, b' ' | b'\t') => State::BeforeName,
            (State::BeforeName | State::Name, _) if is_tchar(byte) => State::Name,
            (State::Name | State::AfterName, b' ' | b'\t') => State::AfterName,
            (State::Name | State::AfterName, b'=') => State::BeforeValue,
            (State::BeforeValue, b' ' | b'\t') => State::BeforeValue,
            (State::BeforeValue, b'"') => State::Quoted,
            (State::BeforeValue | State::Value, _) if is_tchar(byte) => State::Value,
            (State::Quoted, b'"') => State::AfterQuoted,
            (State::Quoted, b'\\') => State::QuotedPair,
            (State::Quoted | State::QuotedPair, _) if is_field_byte(byte) => State::Quoted,
            (State::LineFeed, b'\n') => {
                self.line = 0;
                return Ok(if self.remaining == 0 {
                    State::Trailer
                } else {
                    State::Data
                });
            }
            (State::DataReturn, b'\r') => return Ok(State::DataFeed),
            (State::DataFeed, b'\n') => return Ok(State::Start),
            (
                State::Trailer
                | State::TrailerName
                | State::TrailerValue
                | State::TrailerFeed
                | State::LastFeed,
                _,
            ) => {
                return self.trailer_step(byte, limits);
            }
            (State::DataReturn | State::DataFeed, _) => {
                return Err(Reject::malformed("chunk data without its line end"));
            }
            (State::Start | State::Size, _) => return Err(Reject::malformed("bad chunk size")),
            _ => return Err(Reject::malformed("bad chunk line")),
        };
        self.line += 1;
        if self.line > limits.max_line {
            return Err(Reject::malformed("chunk line too long"));
        }
        if !matches!(next, State::Size | State::LineFeed) {
            self.extensions += 1;
            if self.extensions > limits.max_extensions {
                return Err(Reject::malformed("too many chunk extensions"));
            }
        }
        Ok(next)
    }

    fn trailer_step(&mut self, byte: u8, limits: &ChunkLimits) -> Result<State, Reject> {
        let next = match (self.state, byte) {
            (State::Trailer, b'\r') => return Ok(State::LastFeed),
            (State::LastFeed, b'\n') => return Ok(State::Done),
            (State::Trailer | State::TrailerName, _) if is_tchar(byte) => State::TrailerName,
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerValue, b'\r') => State::TrailerFeed,
            (State::TrailerValue, _) if is_field_byte(byte) => State::TrailerValue,
            (State::TrailerFeed, b'\n') => State::Trailer,
            _ => return Err(Reject::malformed("bad trailer")),
        };
        let trailers = self.trailers.get_or_insert_default();
        if trailers.block.len() >= limits.max_trailers as usize {
            return Err(Reject::new(ErrorKind::HeadTooLarge, "trailers too long"));
        }
        if self.state == State::Trailer {
            // `line` counts the fields here.
            self.line += 1;
            if self.line > limits.max_trailer_fields {
                return Err(Reject::new(ErrorKind::HeadTooLarge, "too many trailers"));
            }
        }
        trailers.block.push(byte);
        Ok(next)
    }

    /// The trailers with their index. Every line of the block has passed `trailer_step`.
    fn take_trailers(&mut self) -> Option<Box<Trailers>> {
        let mut trailers = self.trailers.take()?;
        let Trailers { block, fields } = &mut *trailers;
        let mut start = 0;
        while start < block.len() {
            let end = start + memchr::memchr(b'\r', &block[start..])?;
            let colon = start + memchr::memchr(b':', &block[start..end])?;
            let value = trim(&block[colon + 1..end]);
            let lead = block[colon + 1..end]
                .iter()
                .take_while(|byte| matches!(byte, b' ' | b'\t'))
                .count();
            let value_start = colon + 1 + lead;
            let name = Span::new(start, colon);
            if name.len() <= Field::MAX_NAME {
                let known = Known::of(&block[start..colon]);
                fields.push(Field::new(
                    name,
                    Span::new(value_start, value_start + value.len()),
                    known,
                ));
            }
            start = end + 2;
        }
        Some(trailers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Decoded = (Vec<u8>, Option<Vec<(String, String)>>, usize);

    fn pairs(trailers: &Trailers) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        trailers
            .iter()
            .map(|(_, name, value)| (text(name), text(value)))
            .collect()
    }

    /// The payload, the trailers and how much was consumed, or none if it does not end.
    fn decode_pieces<'a>(
        pieces: impl IntoIterator<Item = &'a [u8]>,
        limits: &ChunkLimits,
    ) -> Result<Option<Decoded>, Reject> {
        let mut decoder = Decoder::new();
        let mut payload = Vec::new();
        let mut total = 0;
        for mut piece in pieces {
            loop {
                let (consumed, step) = decoder.decode(piece, limits)?;
                total += consumed;
                match step {
                    Step::Data(range) => payload.extend_from_slice(&piece[range]),
                    Step::NeedMore => break,
                    Step::Done(trailers) => {
                        return Ok(Some((payload, trailers.map(|t| pairs(&t)), total)));
                    }
                }
                piece = &piece[consumed..];
            }
        }
        Ok(None)
    }

    fn decode(input: &[u8]) -> Result<Option<Decoded>, Reject> {
        let limits = ChunkLimits::default();
        let whole = decode_pieces([input], &limits);
        assert_eq!(
            decode_pieces(input.chunks(1), &limits),
            whole,
            "{:?}",
            String::from_utf8_lossy(input)
        );
        for cut in 0..input.len().min(200) {
            let (head, tail) = input.split_at(cut);
            assert_eq!(decode_pieces([head, tail], &limits), whole, "cut at {cut}");
        }
        let mut buf = input.to_vec();
        match (Decoder::new().compact(&mut buf, &limits), &whole) {
            (Ok(all), Ok(Some((payload, trailers, total)))) => {
                assert!(all.done);
                assert_eq!(&buf[..all.payload], &payload[..]);
                assert_eq!(all.consumed, *total);
                assert_eq!(all.trailers.map(|t| pairs(&t)), *trailers);
                assert_eq!(buf[all.consumed..], input[all.consumed..]);
            }
            (Ok(all), Ok(None)) => assert!(!all.done && all.consumed == input.len()),
            (Err(one), Err(other)) => assert_eq!(one, *other),
            (one, other) => panic!("{one:?} {other:?}"),
        }
        whole
    }

    #[test]
    fn it_stays_small() {
        assert!(size_of::<Decoder>() <= 32);
    }

    #[test]
    fn good_bodies() {
        let payload = |input: &str| {
            decode(input.as_bytes())
                .unwrap()
                .map(|(payload, ..)| String::from_utf8(payload).unwrap())
        };
        assert_eq!(payload("0\r\n\r\n").as_deref(), Some(""));
        assert_eq!(
            payload("5\r\nhello\r\n0\r\n\r\nrest").as_deref(),
            Some("hello")
        );
        assert_eq!(
            payload("1\r\na\r\n00A\r\n0123456789\r\n000\r\n\r\n").as_deref(),
            Some("a0123456789")
        );
        assert_eq!(
            payload("2;a\r\nab\r\n0;b=c;d=\"e\\\"\t;\"\r\n\r\n").as_deref(),
            Some("ab")
        );
        assert_eq!(
            payload("2 ; a = b ;c\r\nab\r\n0\r\n\r\n").as_deref(),
            Some("ab")
        );
        assert_eq!(payload("5\r\nhel"), None);
        assert_eq!(payload("7FFFFFFFFFFFFFFF\r\nhel"), None);
        assert_eq!(payload("0\r\nA: b\r\n"), None);
    }

    #[test]
    fn trailers_are_kept() {
        let (_, trailers, total) = decode(b"0\r\nA: b \r\nvia:\r\nC:\t\xff d\r\n\r\nX")
            .unwrap()
            .unwrap();
        let trailers = trailers.unwrap();
        assert_eq!(trailers[0], ("A".into(), "b".into()));
        assert_eq!(trailers[1], ("via".into(), String::new()));
        assert_eq!(trailers.len(), 3);
        assert_eq!(total, b"0\r\nA: b \r\nvia:\r\nC:\t\xff d\r\n\r\n".len());
    }

    #[test]
    fn bad_bodies() {
        for bad in [
            "\r\n",
            ";a\r\n",
            "0x5\r\n",
            "+5",
            "-5",
            "0_5",
            " 5",
            "\x0b5",
            "5\0",
            "G",
            "5 \r",
            "5\n",
            "5\r\r",
            "5;\r",
            "5;=",
            "5;a=\r",
            "5;a=b c",
            "5;a=\"b\"c",
            "5;a=\"\r",
            "5;a=\"\n",
            "5;a\n",
            "5;a\0",
            "5 a",
            "10000000000000005",
            "8000000000000000",
            "FFFFFFFFFFFFFFFFF",
            "5\r\nhelloX",
            "5\r\nhello\n",
            "5\r\nhello\rX",
            "0\r\n\n",
            "0\r\n\rX",
            "0\r\n:",
            "0\r\nA \x3a",
            "0\r\n A",
            "0\r\nA: b\r\n c",
            "0\r\nA: b\n",
            "0\r\nA(: b",
            "0\r\nA\r",
            "0\r\nA: \0",
            "0\r\nA: b\rX",
        ] {
            assert!(decode(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn limits_hold() {
        let limits = ChunkLimits {
            max_line: 8,
            max_extensions: 10,
            max_trailers: 12,
            max_trailer_fields: 2,
        };
        let run = |input: &[u8]| decode_pieces([input], &limits);
        assert!(run(b"1;abcde\r\nx").is_ok());
        assert!(run(b"1;abcdef\r\n").is_err());
        assert!(run(b"1;abcd\r\nx\r\n1;abcd\r\nx\r\n").is_ok());
        assert!(run(b"1;abcd\r\nx\r\n1;abcd\r\nx\r\n1;a").is_err());
        assert!(run(b"0\r\na:1\r\nb:2\r\n\r\n").is_ok());
        assert_eq!(
            run(b"0\r\na:\r\nb:\r\nc").unwrap_err().kind,
            ErrorKind::HeadTooLarge
        );
        assert_eq!(
            run(b"0\r\nabcdefghij:12").unwrap_err().kind,
            ErrorKind::HeadTooLarge
        );
    }

    #[test]
    fn an_error_stays() {
        let mut decoder = Decoder::new();
        let limits = ChunkLimits::default();
        assert!(decoder.decode(b"x", &limits).is_err());
        assert!(decoder.decode(b"5\r\n", &limits).is_err());
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_at_any_split(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                super::super::write::chunk_head(chunk.len() as u64, &mut wire);
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(super::super::write::CRLF);
            }
            wire.extend_from_slice(super::super::write::LAST_CHUNK);
            let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(wire.len())).collect();
            places.sort_unstable();
            let mut pieces = Vec::new();
            let mut start = 0;
            for place in places {
                pieces.push(&wire[start..place]);
                start = place;
            }
            pieces.push(&wire[start..]);
            let (payload, trailers, total) = decode_pieces(pieces, &ChunkLimits::default()).unwrap().unwrap();
            prop_assert_eq!(payload, chunks.concat());
            prop_assert_eq!(trailers, None);
            prop_assert_eq!(total, wire.len());
        }

        #[test]
        fn arbitrary_bytes_mean_the_same_at_any_split(input in prop::collection::vec(
            prop::sample::select(&b"0123aF;= \t\r\n\"\\:xX\0\xff"[..]), 0..60)) {
            let _ = decode(&input);
        }
    }
}
