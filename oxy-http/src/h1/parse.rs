//! Reading heads, to the letter of RFC 9112.
//!
//! Servers take more than that: a bare LF for a line end, say. A proxy that hands such a message on lets two readers see
//! two messages in the same bytes, so here a message is either one that everybody reads alike or refused.

use oxy_core::ErrorKind;

use super::facts::{Facts, Transfer, fields, nominate};
use super::index::{Framing, RequestIndex, ResponseIndex, Span};
use super::known::Known;
use super::reject::Reject;
use super::{scan, target};
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
    let head = &buf[..start + room(buf.len() - start, limits)];
    let Some(line) = request_line(head, start, limits)? else {
        return partial(head.len() - start, limits);
    };
    index.method = line.method;
    index.target = line.target;
    index.minor = line.minor;
    index.fields_start = line.end;
    let method = line.method.of(head);
    target::read(head, line.target, method, index)?;

    let mut facts = Facts::default();
    let end = fields(
        head,
        line.end,
        limits.max_fields,
        &mut index.fields,
        &mut facts,
    )?;
    let Some(end) = end else {
        return partial(head.len() - start, limits);
    };
    index.head_len = end;
    conclude_request(index, &facts, method)?;
    nominate(head, &mut index.fields, &facts)?;
    Ok(Parse::Complete)
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
    let head = &buf[..room(buf.len(), limits)];
    let Some(line) = status_line(head)? else {
        return partial(head.len(), limits);
    };
    index.status = line.status;
    index.minor = line.minor;
    index.reason = line.reason;
    index.fields_start = line.end;

    let mut facts = Facts {
        is_response: true,
        ..Facts::default()
    };
    let end = fields(
        head,
        line.end,
        limits.max_fields,
        &mut index.fields,
        &mut facts,
    )?;
    let Some(end) = end else {
        return partial(head.len(), limits);
    };
    index.head_len = end;
    conclude_response(index, &facts, method)?;
    nominate(head, &mut index.fields, &facts)?;
    Ok(Parse::Complete)
}

/// How much of `length` bytes a head may have.
fn room(length: usize, limits: &HeadLimits) -> usize {
    // Positions are 32 bits wide.
    length.min(limits.max_head).min(i32::MAX as usize)
}

/// A head of which `length` bytes are there, and not its end.
fn partial(length: usize, limits: &HeadLimits) -> Result<Parse, Reject> {
    if length >= limits.max_head {
        return Err(Reject::new(ErrorKind::HeadTooLarge, "head too long"));
    }
    Ok(Parse::Partial)
}

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

/// What a request line has (RFC 9112 section 3).
struct RequestLine {
    method: Span,
    target: Span,
    minor: u8,
    end: usize,
}

/// The request line of `head` that begins at `start`; none if not all of it is there.
fn request_line(
    head: &[u8],
    start: usize,
    limits: &HeadLimits,
) -> Result<Option<RequestLine>, Reject> {
    let rest = &head[start..];
    let length = scan::token_bytes(&rest[..rest.len().min(MAX_METHOD + 1)]);
    if length > MAX_METHOD {
        // RFC 9112 section 3: longer than any that is implemented.
        return Err(Reject::new(ErrorKind::Unsupported, "method too long"));
    }
    let rest = match &rest[length..] {
        [] => return Ok(None),
        [b' ', rest @ ..] if length > 0 => rest,
        _ => return Err(Reject::malformed("bad method")),
    };
    let method = Span::new(start, start + length);
    let start = method.range().end + 1;
    let most = limits.max_target.min(MAX_URI);
    let length = scan::visible(&rest[..rest.len().min(most + 1)]);
    if length > most {
        return Err(Reject::new(ErrorKind::TargetTooLong, "target too long"));
    }
    let rest = match &rest[length..] {
        [] => return Ok(None),
        [b' ', rest @ ..] => rest,
        _ => return Err(Reject::malformed("bad request line")),
    };
    let target = Span::new(start, start + length);
    let Some(minor) = version(rest, b"\r\n")? else {
        return Ok(None);
    };
    Ok(Some(RequestLine {
        method,
        target,
        minor,
        end: target.range().end + " HTTP/1.1\r\n".len(),
    }))
}

/// What a status line has (RFC 9112 section 4).
struct StatusLine {
    status: u16,
    minor: u8,
    reason: Span,
    end: usize,
}

/// The status line at the start of `head`; none if not all of it is there.
fn status_line(head: &[u8]) -> Result<Option<StatusLine>, Reject> {
    const BEFORE_STATUS: usize = "HTTP/1.1 ".len();
    const BEFORE_REASON: usize = "HTTP/1.1 200".len();
    let Some(minor) = version(head, b" ")? else {
        return Ok(None);
    };
    let mut status = 0;
    for at in BEFORE_STATUS..BEFORE_REASON {
        status = match head.get(at) {
            Some(digit @ b'0'..=b'9') => status * 10 + u16::from(digit - b'0'),
            Some(_) => return Err(Reject::malformed("bad status line")),
            None => return Ok(None),
        };
    }
    if !(100..600).contains(&status) {
        return Err(Reject::malformed("status code out of range"));
    }
    let at = BEFORE_REASON + scan::field_bytes(&head[BEFORE_REASON..]);
    let reason = match head.get(BEFORE_REASON) {
        Some(b' ') => Span::new(BEFORE_REASON + 1, at),
        // Many leave out the space before a reason that they do not give either.
        Some(b'\r') => Span::new(at, at),
        Some(_) => return Err(Reject::malformed("bad status line")),
        None => return Ok(None),
    };
    match &head[at..] {
        [b'\r', b'\n', ..] => Ok(Some(StatusLine {
            status,
            minor,
            reason,
            end: at + 2,
        })),
        [] | [b'\r'] => Ok(None),
        _ => Err(Reject::malformed("bad status line")),
    }
}

/// The minor version in the HTTP-version at the start of `text`, which `then` has to follow (RFC 9112 section 2.3); none if
/// not all of both is there.
fn version(text: &[u8], then: &[u8]) -> Result<Option<u8>, Reject> {
    const FORM: &[u8] = b"HTTP/0.0";
    let (version, rest) = text.split_at(text.len().min(FORM.len()));
    match version {
        b"HTTP/1.1" if rest.starts_with(then) => return Ok(Some(1)),
        b"HTTP/1.0" if rest.starts_with(then) => return Ok(Some(0)),
        _ => {}
    }
    let is_version = version
        .iter()
        .zip(FORM)
        .all(|(&byte, &form)| byte == form || (form == b'0' && byte.is_ascii_digit()));
    if !is_version || !then.starts_with(&rest[..rest.len().min(then.len())]) {
        return Err(Reject::malformed("bad HTTP version"));
    }
    if rest.len() < then.len() {
        return Ok(None);
    }
    Err(Reject::new(ErrorKind::Version, "unknown HTTP version"))
}

/// What the fields of a request say, together and with its method.
fn conclude_request(index: &mut RequestIndex, facts: &Facts, method: &[u8]) -> Result<(), Reject> {
    let minor = index.minor;
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
    if !index.framing.is_empty() && matches!(method, b"TRACE" | b"CONNECT") {
        return Err(Reject::malformed("a body where the method has none"));
    }
    index.keep_alive = facts.keep_alive(minor);
    index.te_trailers = facts.te_trailers && minor == 1;
    index.upgrade = minor == 1
        && facts.upgrade
        && facts.seen.has(Known::Upgrade)
        && index.framing.is_empty()
        && method != b"CONNECT";
    // An expectation in HTTP/1.0 is to be ignored (RFC 9110 section 10.1.1).
    if facts.seen.has(Known::Expect) && minor == 1 {
        if !facts.expect_continue {
            return Err(Reject::new(ErrorKind::Expectation, "unknown expectation"));
        }
        index.expect_continue = !index.framing.is_empty();
    }
    Ok(())
}

/// What the fields of a response say, together and with its status.
fn conclude_response(
    index: &mut ResponseIndex,
    facts: &Facts,
    method: MethodKind,
) -> Result<(), Reject> {
    let (status, minor) = (index.status, index.minor);
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
    Ok(())
}

#[cfg(test)]
mod tests;
