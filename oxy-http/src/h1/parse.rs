//! Reading heads: `httparse` finds the parts, and a second look holds them to RFC 9112 to the letter.
//!
//! `httparse` takes what servers take: a bare LF for a line end, say. A proxy that hands such a message on lets two
//! readers see two messages in the same bytes, so here a message is either one that everybody reads alike or refused.

use std::mem::MaybeUninit;

use httparse::{Header, Status};
use oxy_core::ErrorKind;

use super::facts::{Facts, Transfer, fields, nominate};
use super::index::{Framing, RequestIndex, ResponseIndex, Span};
use super::known::Known;
use super::reject::Reject;
use super::{target, token};
use crate::limits::HeadLimits;

/// Whether a whole head was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parse {
    /// More bytes are needed. The index holds nothing of use.
    Partial,
    /// The head is complete and indexed.
    Complete,
}

/// What a response's framing has to know of the request (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MethodKind {
    /// HEAD: the response has no body.
    Head,
    /// CONNECT: a successful response turns the connection into a tunnel.
    Connect,
    /// Any other.
    #[default]
    Other,
}

impl MethodKind {
    /// The kind of `method`.
    pub fn of(method: &[u8]) -> Self {
        match method {
            b"HEAD" => Self::Head,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }
}

/// Longest method that is taken: the longest registered one (UPDATEREDIRECTREF) has 17 letters.
const MAX_METHOD: usize = 32;

/// Most bytes of empty lines before a request line. RFC 9112 section 2.2 asks for one CRLF to be ignored, which old
/// clients send after a body; more than two have no honest sender.
const MAX_EMPTY_LINES: usize = 4;

/// Fields that fit on the stack; only where the limit is set higher is a list allocated, for heads that need it.
const STACK_FIELDS: usize = 128;

/// Largest target that `http::Uri` is sure to hold.
const MAX_URI: usize = 65_000;

/// Reads the head of a request at the start of `buf` into `index`.
///
/// Positions in the index count from the start of `buf`, so that `buf[index.head_len..]` is what follows the head.
/// Nothing of `buf` is remembered between calls: hand in the same bytes with more behind them. Since that costs the
/// whole head again each time, it pays to call only when a new line feed has come in (a head ends in one) or when the
/// buffer has reached a limit.
pub fn request(buf: &[u8], limits: &HeadLimits, index: &mut RequestIndex) -> Result<Parse, Reject> {
    index.clear();
    let start = empty_lines(buf)?;
    let window = window(&buf[start..], limits);
    if window.is_empty() {
        return Ok(Parse::Partial);
    }
    if !token::is_tchar(window[0]) && window != b"\r" {
        return Err(Reject::malformed("bad method"));
    }
    let mut on_stack = [const { MaybeUninit::uninit() }; STACK_FIELDS];
    let room = limits.max_fields.min(STACK_FIELDS);
    match request_with(buf, start, window, limits, &mut on_stack[..room], index) {
        Err(Reject {
            kind: ErrorKind::HeadTooLarge,
            why: TOO_MANY_FIELDS,
        }) if limits.max_fields > STACK_FIELDS => {
            index.clear();
            let mut on_heap =
                vec![MaybeUninit::uninit(); limits.max_fields.min(window.len() / MIN_FIELD + 1)];
            request_with(buf, start, window, limits, &mut on_heap, index)
        }
        done => done,
    }
}

/// Reads the head of a response at the start of `buf` into `index`, for a request of kind `method`.
///
/// It works as [`request`] does. A head with a status of 1xx is read like any other: the final one follows it.
pub fn response(
    buf: &[u8],
    limits: &HeadLimits,
    method: MethodKind,
    index: &mut ResponseIndex,
) -> Result<Parse, Reject> {
    index.clear();
    let window = window(buf, limits);
    match window.first() {
        None => return Ok(Parse::Partial),
        // httparse would skip empty lines here, which only a request may have before it.
        Some(b'H') => {}
        Some(_) => return Err(Reject::malformed("not a status line")),
    }
    let mut on_stack = [const { MaybeUninit::uninit() }; STACK_FIELDS];
    let room = limits.max_fields.min(STACK_FIELDS);
    match response_with(window, limits, method, &mut on_stack[..room], index) {
        Err(Reject {
            kind: ErrorKind::HeadTooLarge,
            why: TOO_MANY_FIELDS,
        }) if limits.max_fields > STACK_FIELDS => {
            index.clear();
            let mut on_heap =
                vec![MaybeUninit::uninit(); limits.max_fields.min(window.len() / MIN_FIELD + 1)];
            response_with(window, limits, method, &mut on_heap, index)
        }
        done => done,
    }
}

const TOO_MANY_FIELDS: &str = "too many fields";

/// The shortest field line: `a:` and CRLF.
const MIN_FIELD: usize = 4;

/// How many bytes of empty lines there are before a request.
fn empty_lines(buf: &[u8]) -> Result<usize, Reject> {
    let mut at = 0;
    loop {
        match buf.get(at..).unwrap_or_default() {
            [b'\r', b'\n', ..] if at < MAX_EMPTY_LINES => at += 2,
            [b'\r'] if at < MAX_EMPTY_LINES => return Ok(buf.len()),
            [b'\r' | b'\n', ..] => {
                return Err(Reject::malformed("stray line end before the request"));
            }
            _ => return Ok(at),
        }
    }
}

/// As much of `buf` as a head may have.
fn window<'a>(buf: &'a [u8], limits: &HeadLimits) -> &'a [u8] {
    // Positions are 32 bits wide.
    let most = limits.max_head.min(i32::MAX as usize);
    &buf[..buf.len().min(most)]
}

fn request_with<'b>(
    buf: &'b [u8],
    start: usize,
    window: &'b [u8],
    limits: &HeadLimits,
    room: &mut [MaybeUninit<Header<'b>>],
    index: &mut RequestIndex,
) -> Result<Parse, Reject> {
    let mut found = httparse::Request::new(&mut []);
    let length = match found.parse_with_uninit_headers(window, room) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => {
            request_line_limits(window, limits)?;
            partial(window, limits)?;
            return Ok(Parse::Partial);
        }
        // What is wrong with it depends on bytes that are still to come.
        Err(httparse::Error::Version) if has_begun_version(window) => {
            request_line_limits(window, limits)?;
            return Ok(Parse::Partial);
        }
        Err(error) => {
            request_line_limits(window, limits)?;
            return Err(because(error, is_other_version(window)));
        }
    };
    let (Some(method), Some(path), Some(minor)) = (found.method, found.path, found.version) else {
        return Err(Reject::malformed("not a request line"));
    };
    request_line_limits(window, limits)?;
    // With single spaces everything on the line has its place, and httparse has put nothing anywhere else.
    let target_start = start + method.len() + 1;
    let target_end = target_start + path.len();
    let fields_start = target_end + " HTTP/1.x\r\n".len();
    if buf.get(fields_start - 2..fields_start) != Some(b"\r\n") {
        return Err(Reject::malformed("bare LF after the request line"));
    }
    index.method = Span::new(start, start + method.len());
    index.target = Span::new(target_start, target_end);
    index.minor = minor;
    index.fields_start = fields_start;
    index.head_len = start + length;
    target::read(buf, index.target, method.as_bytes(), index)?;

    let mut facts = Facts::default();
    let placed = fields(
        buf,
        fields_start,
        index.head_len,
        found.headers,
        &mut index.fields,
        &mut facts,
    );
    placed?;
    index.seen = facts.seen;
    index.host = facts.host;
    if facts.host.is_none() && minor == 1 {
        return Err(Reject::malformed("no Host"));
    }
    index.framing = match (facts.transfer, facts.length) {
        (Transfer::Absent, None) => Framing::None,
        (Transfer::Absent, Some(length)) => Framing::Length(length),
        (Transfer::Refused(reject), _) => return Err(reject),
        // RFC 9112 section 6.1 lets a proxy choose between refusing and repairing both of these; whoever sends them
        // by accident is rare, and whoever sends them on purpose is not to be helped.
        (_, Some(_)) => {
            return Err(Reject::malformed(
                "both Transfer-Encoding and Content-Length",
            ));
        }
        (Transfer::Chunked, None) if minor == 0 => {
            return Err(Reject::malformed("Transfer-Encoding in HTTP/1.0"));
        }
        (Transfer::Chunked, None) => Framing::Chunked,
    };
    // RFC 9110 section 9.3.8 forbids content with TRACE; with CONNECT (section 9.3.6) it has no meaning, and what
    // follows the head is the tunnel's.
    if !index.framing.is_empty() && matches!(method, "TRACE" | "CONNECT") {
        return Err(Reject::malformed("a body where the method has none"));
    }
    index.keep_alive = facts.keep_alive(minor);
    index.te_trailers = facts.te_trailers && minor == 1;
    index.upgrade = minor == 1
        && facts.upgrade
        && facts.seen.has(Known::Upgrade)
        && index.framing.is_empty()
        && method != "CONNECT";
    // An expectation in HTTP/1.0 is to be ignored (RFC 9110 section 10.1.1).
    if facts.seen.has(Known::Expect) && minor == 1 {
        if !facts.expect_continue {
            return Err(Reject::new(ErrorKind::Expectation, "unknown expectation"));
        }
        index.expect_continue = !index.framing.is_empty();
    }
    nominate(buf, &mut index.fields, &facts)?;
    Ok(Parse::Complete)
}

fn response_with<'b>(
    window: &'b [u8],
    limits: &HeadLimits,
    method: MethodKind,
    room: &mut [MaybeUninit<Header<'b>>],
    index: &mut ResponseIndex,
) -> Result<Parse, Reject> {
    let mut found = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut found, window, room);
    let length = match parsed {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => {
            partial(window, limits)?;
            return Ok(Parse::Partial);
        }
        Err(error) => {
            return Err(because(
                error,
                is_version(window.get(..8).unwrap_or_default()),
            ));
        }
    };
    let (Some(minor), Some(status)) = (found.version, found.code) else {
        return Err(Reject::malformed("not a status line"));
    };
    if !(100..600).contains(&status) {
        return Err(Reject::malformed("status code out of range"));
    }
    // httparse hides a reason that is not ASCII, so that the line is taken apart here.
    const BEFORE_REASON: usize = "HTTP/1.1 200".len();
    let line_end = memchr::memchr(b'\n', window).unwrap_or(window.len());
    let reason = match window.get(BEFORE_REASON..line_end) {
        Some([b'\r']) => Span::new(BEFORE_REASON, BEFORE_REASON),
        Some([b' ', reason @ .., b'\r'])
            if reason.iter().all(|&byte| token::is_field_byte(byte)) =>
        {
            Span::new(BEFORE_REASON + 1, line_end - 1)
        }
        _ => return Err(Reject::malformed("not a status line")),
    };
    index.status = status;
    index.minor = minor;
    index.reason = reason;
    index.fields_start = line_end + 1;
    index.head_len = length;

    let mut facts = Facts {
        is_response: true,
        ..Facts::default()
    };
    let placed = fields(
        window,
        index.fields_start,
        length,
        found.headers,
        &mut index.fields,
        &mut facts,
    );
    placed?;
    index.seen = facts.seen;
    let interim_or_204 = status < 200 || status == 204;
    let tunnel = method == MethodKind::Connect && (200..300).contains(&status);
    let bodiless = interim_or_204 || status == 304 || method == MethodKind::Head || tunnel;
    match facts.transfer {
        Transfer::Refused(reject) => return Err(reject),
        Transfer::Chunked if facts.length.is_some() => {
            return Err(Reject::malformed(
                "both Transfer-Encoding and Content-Length",
            ));
        }
        Transfer::Chunked if minor == 0 => {
            return Err(Reject::malformed("Transfer-Encoding in HTTP/1.0"));
        }
        // RFC 9112 section 6.1 forbids it; for CONNECT it is to be ignored (RFC 9110 section 9.3.6).
        Transfer::Chunked if interim_or_204 && !tunnel => {
            return Err(Reject::malformed(
                "Transfer-Encoding where there can be no body",
            ));
        }
        Transfer::Chunked | Transfer::Absent => {}
    }
    index.framing = match (facts.transfer, facts.length) {
        _ if bodiless => Framing::None,
        (Transfer::Chunked, _) => Framing::Chunked,
        (_, Some(length)) => Framing::Length(length),
        (_, None) => Framing::UntilClose,
    };
    index.content_length = if interim_or_204 || tunnel {
        None
    } else {
        facts.length
    };
    index.upgrade = facts.upgrade && facts.seen.has(Known::Upgrade);
    // Who announces a body where there is none may well send it, and it would be read as the next response.
    index.keep_alive = facts.keep_alive(minor)
        && index.framing != Framing::UntilClose
        && !(interim_or_204 && facts.length.is_some_and(|length| length > 0));
    nominate(window, &mut index.fields, &facts)?;
    Ok(Parse::Complete)
}

/// Refuses a head that can no longer become a good one, or one that fits.
fn partial(window: &[u8], limits: &HeadLimits) -> Result<(), Reject> {
    if window.len() >= limits.max_head {
        return Err(Reject::new(ErrorKind::HeadTooLarge, "head too long"));
    }
    for end in memchr::memchr_iter(b'\n', window) {
        if end == 0 || window[end - 1] != b'\r' {
            return Err(Reject::malformed("bare LF in the head"));
        }
    }
    Ok(())
}

/// Refuses a method or a target that is too long, complete or not.
fn request_line_limits(window: &[u8], limits: &HeadLimits) -> Result<(), Reject> {
    let head = &window[..window.len().min(MAX_METHOD + 1)];
    let Some(method) = head.iter().position(|&byte| !token::is_tchar(byte)) else {
        return if head.len() > MAX_METHOD {
            // RFC 9112 section 3: longer than any that is implemented.
            Err(Reject::new(ErrorKind::Unsupported, "method too long"))
        } else {
            Ok(())
        };
    };
    let Some(rest) = window[method..].strip_prefix(b" ") else {
        return Ok(());
    };
    let most = limits.max_target.min(MAX_URI);
    if rest.len() > most
        && !rest[..=most]
            .iter()
            .any(|byte| matches!(byte, b' ' | b'\r' | b'\n'))
    {
        return Err(Reject::new(ErrorKind::TargetTooLong, "target too long"));
    }
    Ok(())
}

fn because(error: httparse::Error, other_version: bool) -> Reject {
    match error {
        httparse::Error::HeaderName => Reject::malformed("bad field name"),
        httparse::Error::HeaderValue => Reject::malformed("bad field value"),
        httparse::Error::NewLine => Reject::malformed("bad line end"),
        httparse::Error::Status => Reject::malformed("bad status line"),
        httparse::Error::Token => Reject::malformed("bad request line"),
        httparse::Error::TooManyHeaders => Reject::new(ErrorKind::HeadTooLarge, TOO_MANY_FIELDS),
        httparse::Error::Version if other_version => {
            Reject::new(ErrorKind::Version, "unknown HTTP version")
        }
        httparse::Error::Version => Reject::malformed("bad HTTP version"),
    }
}

/// Whether a request line ends in a version of HTTP that is well-formed: 505 rather than 400.
fn is_other_version(window: &[u8]) -> bool {
    let line = &window[..memchr::memchr(b'\r', window).unwrap_or(window.len())];
    let mut parts = line.splitn(3, |&byte| byte == b' ').skip(2);
    parts
        .next()
        .is_some_and(|version| is_version(version) && !matches!(version, b"HTTP/1.0" | b"HTTP/1.1"))
}

/// Whether a request line stops within what may become another version.
fn has_begun_version(window: &[u8]) -> bool {
    const FORM: &[u8] = b"HTTP/0.0";
    let begun = window.splitn(3, |&byte| byte == b' ').nth(2);
    begun.is_some_and(|begun| {
        begun.len() < FORM.len() && is_version(&[begun, &FORM[begun.len()..]].concat())
    })
}

/// Whether `text` is an HTTP-version (RFC 9112 section 2.3).
fn is_version(text: &[u8]) -> bool {
    matches!(text, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit())
}

#[cfg(test)]
mod tests;
