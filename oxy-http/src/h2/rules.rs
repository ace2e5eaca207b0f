//! What a peer's frames must be like, where the `h2` crate does not insist, or names another error than RFC 9113 does.
//!
//! All of it ends the connection. Where RFC 9113 asks for the end of a stream only, the connection may be ended instead
//! (section 5.4.1); what an honest peer may do by mistake, such as a malformed request, is left to the stream.

use ::h2::Reason;

use super::frame::{
    CONTINUATION, DATA, END_HEADERS, FLAG_ONE, GOAWAY, HEADERS, Head, PADDED, PING, PRIORITY,
    PRIORITY_UPDATE, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY,
};
use super::hpack::{Broken, Decompressor};

/// The largest frame that a peer may send: the initial value of `SETTINGS_MAX_FRAME_SIZE`, which ours do not change.
pub(crate) const MAX_FRAME: usize = 16_384;

/// The largest window (RFC 9113 section 6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// How many streams are remembered on which a client has more to send. A client that we have told to stop may never say
/// so itself; of what is forgotten, the `h2` crate decides.
const REMEMBERED: usize = 256;

type Judged = Result<(), Reason>;

/// Who sends the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

/// What has come of one direction of a connection.
#[derive(Debug)]
pub(crate) struct Rules {
    from: Role,
    greeted: bool,
    decompressor: Decompressor,
    block: Option<Block>,
    /// How many blocks have begun.
    blocks: u32,
    /// How large the last one was that has ended, decompressed.
    size: usize,
    streams: Streams,
}

/// A field block that has begun and not ended.
#[derive(Clone, Copy, Debug)]
struct Block {
    stream: u32,
    is_trailers: bool,
}

impl Rules {
    pub(crate) fn of_client() -> Self {
        Self::of(Role::Client)
    }

    pub(crate) fn of_server() -> Self {
        Self::of(Role::Server)
    }

    fn of(from: Role) -> Self {
        Self {
            from,
            greeted: false,
            decompressor: Decompressor::default(),
            block: None,
            blocks: 0,
            size: 0,
            streams: Streams::default(),
        }
    }

    /// Which block of the connection is being read, if one is: it has begun and not ended.
    pub(crate) fn block(&self) -> Option<u32> {
        self.block.map(|_| self.blocks)
    }

    /// How large the block was, decompressed, that has ended with this frame; 0 if none has.
    pub(crate) fn size(&self, head: &Head) -> usize {
        match head.kind {
            HEADERS | CONTINUATION if head.has(END_HEADERS) => self.size,
            _ => 0,
        }
    }

    /// How much of a frame's payload is wanted.
    pub(crate) fn wanted(head: &Head) -> usize {
        match head.kind {
            HEADERS | CONTINUATION | SETTINGS | PRIORITY | WINDOW_UPDATE => head.length,
            DATA if head.has(PADDED) => 1,
            PRIORITY_UPDATE => 4,
            _ => 0,
        }
    }

    /// Judges a frame by its header.
    pub(crate) fn head(&mut self, head: &Head) -> Judged {
        if head.length > MAX_FRAME {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        // Section 3.4: settings come first.
        let is_settings = head.kind == SETTINGS && !head.has(FLAG_ONE);
        if !std::mem::replace(&mut self.greeted, true) && !is_settings {
            return Err(Reason::PROTOCOL_ERROR);
        }
        // Section 4.3: nothing comes between the frames of a field block, frames of unknown types included.
        let continues = self
            .block
            .is_some_and(|block| head.kind == CONTINUATION && head.stream == block.stream);
        if continues != (self.block.is_some() || head.kind == CONTINUATION) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let on_connection = head.stream == 0;
        let belongs = match head.kind {
            DATA | HEADERS | PRIORITY | RST_STREAM => !on_connection,
            SETTINGS | PING | GOAWAY => on_connection,
            // Section 8.4: a client cannot push, and our settings forbid it to a server.
            PUSH_PROMISE => false,
            // RFC 9218 section 7.1.
            PRIORITY_UPDATE => on_connection && self.from == Role::Client,
            _ => true,
        };
        if !belongs {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let fits = match head.kind {
            SETTINGS if head.has(FLAG_ONE) => head.length == 0,
            SETTINGS => head.length.is_multiple_of(6),
            PING => head.length == 8,
            PRIORITY => head.length == 5,
            RST_STREAM | WINDOW_UPDATE => head.length == 4,
            GOAWAY => head.length >= 8,
            PRIORITY_UPDATE => head.length >= 4,
            DATA => head.length >= usize::from(head.has(PADDED)),
            HEADERS => head.length >= before_block(head),
            _ => true,
        };
        if !fits {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        if self.from == Role::Client {
            self.state(head)?;
        } else if head.kind == HEADERS {
            self.begin(head.stream, false);
        }
        Ok(())
    }

    fn begin(&mut self, stream: u32, is_trailers: bool) {
        self.blocks = self.blocks.wrapping_add(1);
        self.block = Some(Block {
            stream,
            is_trailers,
        });
    }

    /// Sections 5.1 and 5.1.1.
    fn state(&mut self, head: &Head) -> Judged {
        let ends = head.has(FLAG_ONE);
        match head.kind {
            HEADERS => {
                let is_trailers = self.streams.headers(head.stream, ends)?;
                self.begin(head.stream, is_trailers);
            }
            DATA => self.streams.data(head.stream, ends)?,
            RST_STREAM => self.streams.reset(head.stream)?,
            WINDOW_UPDATE if self.streams.is_idle(head.stream) => {
                return Err(Reason::PROTOCOL_ERROR);
            }
            _ => {}
        }
        Ok(())
    }

    /// Judges a frame by what was wanted of its payload.
    pub(crate) fn payload(&mut self, head: &Head, payload: &[u8]) -> Judged {
        match head.kind {
            DATA => match payload {
                // Section 6.1: the padding is less than the payload, its own length included.
                [padding, ..] if usize::from(*padding) >= head.length => {
                    Err(Reason::PROTOCOL_ERROR)
                }
                _ => Ok(()),
            },
            HEADERS => self.fragment(head, headers(head, payload)?),
            CONTINUATION => self.fragment(head, payload),
            SETTINGS => self.settings(payload),
            PRIORITY => depends(head.stream, payload),
            WINDOW_UPDATE if number(payload) & MAX_WINDOW == 0 => Err(Reason::PROTOCOL_ERROR),
            PRIORITY_UPDATE => match number(payload) & MAX_WINDOW {
                // There are no pushed streams.
                stream if stream % 2 == 0 => Err(Reason::PROTOCOL_ERROR),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn fragment(&mut self, head: &Head, fragment: &[u8]) -> Judged {
        let end = head.has(END_HEADERS);
        let met = self.decompressor.fragment(fragment, end);
        let met = met.map_err(|Broken| Reason::COMPRESSION_ERROR)?;
        // Section 8.1: trailers have no pseudo-fields.
        if met.pseudo && self.block.is_some_and(|block| block.is_trailers) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if end {
            self.block = None;
            self.size = met.size;
        }
        Ok(())
    }

    /// Section 6.5.2, RFC 8441 section 3 and RFC 9218 section 2.1.
    fn settings(&self, payload: &[u8]) -> Judged {
        for setting in payload.chunks_exact(6) {
            let name = u16::from_be_bytes([setting[0], setting[1]]);
            let value = number(&setting[2..]);
            match name {
                // A server has no use for pushes to itself.
                2 if value > u32::from(self.from == Role::Client) => {
                    return Err(Reason::PROTOCOL_ERROR);
                }
                4 if value > MAX_WINDOW => return Err(Reason::FLOW_CONTROL_ERROR),
                5 if !(16_384..1 << 24).contains(&value) => return Err(Reason::PROTOCOL_ERROR),
                8 | 9 if value > 1 => return Err(Reason::PROTOCOL_ERROR),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The octets of HEADERS that are not its field block, padding aside.
fn before_block(head: &Head) -> usize {
    usize::from(head.has(PADDED)) + if head.has(WITH_PRIORITY) { 5 } else { 0 }
}

/// The fragment in a HEADERS frame (section 6.2).
fn headers<'a>(head: &Head, payload: &'a [u8]) -> Result<&'a [u8], Reason> {
    let mut rest = payload;
    let mut padding = 0;
    if head.has(PADDED) {
        let (&length, after) = rest.split_first().ok_or(Reason::FRAME_SIZE_ERROR)?;
        padding = usize::from(length);
        rest = after;
    }
    if head.has(WITH_PRIORITY) {
        let (priority, after) = rest.split_at_checked(5).ok_or(Reason::FRAME_SIZE_ERROR)?;
        depends(head.stream, priority)?;
        rest = after;
    }
    let length = rest
        .len()
        .checked_sub(padding)
        .ok_or(Reason::PROTOCOL_ERROR)?;
    Ok(&rest[..length])
}

/// RFC 7540 section 5.3.1: a stream cannot depend on itself. RFC 9113 has no priorities any more, and nobody honest has
/// ever sent this.
fn depends(stream: u32, priority: &[u8]) -> Judged {
    if number(priority) & MAX_WINDOW == stream {
        return Err(Reason::PROTOCOL_ERROR);
    }
    Ok(())
}

/// The first four octets.
fn number(payload: &[u8]) -> u32 {
    match payload {
        [a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]),
        _ => 0,
    }
}

/// The streams of a client, as far as it says itself what they are.
#[derive(Debug, Default)]
struct Streams {
    /// The last that was opened.
    last: u32,
    /// What was passed over when it was.
    skipped: std::ops::Range<u32>,
    /// Those on which it has more to send, in order.
    sending: Vec<u32>,
    /// Streams before this one may have more to send and be forgotten.
    from: u32,
}

impl Streams {
    /// Whether a stream has not been opened. Even ones are a server's, which opens none.
    fn is_idle(&self, stream: u32) -> bool {
        stream != 0 && (stream > self.last || stream.is_multiple_of(2))
    }

    /// Tells whether these are trailers.
    fn headers(&mut self, stream: u32, ends: bool) -> Result<bool, Reason> {
        if stream.is_multiple_of(2) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if stream <= self.last {
            if self.skipped.contains(&stream) {
                return Err(Reason::PROTOCOL_ERROR);
            }
            self.data(stream, ends)?;
            return Ok(true);
        }
        if stream > self.last.saturating_add(2) {
            self.skipped = self.last + 1..stream;
        }
        self.last = stream;
        if !ends {
            if self.sending.len() >= REMEMBERED {
                self.from = self.sending.remove(0) + 1;
            }
            self.sending.push(stream);
        }
        Ok(false)
    }

    fn data(&mut self, stream: u32, ends: bool) -> Judged {
        if self.is_idle(stream) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        match self.sending.binary_search(&stream) {
            Ok(at) if ends => {
                self.sending.remove(at);
            }
            Err(_) if stream >= self.from => return Err(Reason::STREAM_CLOSED),
            _ => {}
        }
        Ok(())
    }

    fn reset(&mut self, stream: u32) -> Judged {
        if self.is_idle(stream) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if let Ok(at) = self.sending.binary_search(&stream) {
            self.sending.remove(at);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_open_and_close_in_order() {
        let mut streams = Streams::default();
        assert_eq!(streams.data(1, false), Err(Reason::PROTOCOL_ERROR));
        assert_eq!(streams.headers(2, false), Err(Reason::PROTOCOL_ERROR));
        assert_eq!(streams.headers(1, false), Ok(false));
        assert_eq!(streams.data(1, false), Ok(()));
        assert_eq!(streams.headers(1, true), Ok(true));
        assert_eq!(streams.data(1, false), Err(Reason::STREAM_CLOSED));
        assert_eq!(streams.headers(1, true), Err(Reason::STREAM_CLOSED));
        assert_eq!(streams.headers(7, false), Ok(false));
        assert_eq!(streams.headers(3, true), Err(Reason::PROTOCOL_ERROR));
        assert_eq!(streams.reset(9), Err(Reason::PROTOCOL_ERROR));
        assert_eq!(streams.reset(7), Ok(()));
        assert_eq!(streams.reset(7), Ok(()));
        assert_eq!(streams.data(7, true), Err(Reason::STREAM_CLOSED));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut streams = Streams::default();
        for n in 0..10_000 {
            assert_eq!(streams.headers(2 * n + 1, false), Ok(false));
        }
        assert_eq!(streams.sending.len(), REMEMBERED);
        assert_eq!(streams.data(1, true), Ok(()), "forgotten");
        assert_eq!(streams.data(19_999, true), Ok(()));
        assert_eq!(streams.data(19_999, true), Err(Reason::STREAM_CLOSED));
    }
}
