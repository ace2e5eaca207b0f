//! Errors of HTTP/2 as the rest of the proxy knows them, and the other way round.

use ::h2::Reason;
use oxy_core::{Error, ErrorKind, Retry, Side};

use super::guard::Verdict;

/// What the guard has let a connection go for, that `side` is the other end of. To be called once, because it is counted.
pub(crate) fn judged(verdict: Verdict, side: Side) -> Error {
    match verdict {
        Verdict::Flood(flood) => {
            flood.note();
            Error::new(ErrorKind::Overloaded, side).because(flood)
        }
        Verdict::Violation(reason) => Error::new(ErrorKind::Malformed, side)
            .context("frames of HTTP/2")
            .because(::h2::Error::from(reason)),
    }
}

/// What has gone wrong with a stream, or with the connection beneath it, that `side` is the other end of.
pub(crate) fn fault(error: ::h2::Error, side: Side) -> Error {
    if let Some(io) = error.get_io() {
        let error = std::io::Error::new(io.kind(), io.to_string());
        return Error::io(side, error).context("an HTTP/2 connection");
    }
    let reason = error.reason().unwrap_or(Reason::INTERNAL_ERROR);
    let remote = error.is_remote();
    let kind = match reason {
        // It says that it has done nothing (RFC 9113 section 8.7).
        Reason::REFUSED_STREAM => ErrorKind::Closed,
        Reason::ENHANCE_YOUR_CALM => ErrorKind::Overloaded,
        _ if remote => ErrorKind::Closed,
        // What we have noticed about it.
        _ if error.is_library() => ErrorKind::Malformed,
        _ => ErrorKind::Closed,
    };
    let untouched = remote
        && (reason == Reason::REFUSED_STREAM || error.is_go_away() && reason == Reason::NO_ERROR);
    let retry = if untouched { Retry::Safe } else { Retry::Never };
    Error::new(kind, side)
        .retry(retry)
        .context("an HTTP/2 stream")
        .because(error)
}

/// With what a stream is reset that `error` has ended (RFC 9113 section 7).
pub(crate) fn reason(error: &Error) -> Reason {
    match (error.kind(), error.side()) {
        (ErrorKind::Malformed, Side::Down) => Reason::PROTOCOL_ERROR,
        (ErrorKind::Overloaded | ErrorKind::Draining, _) => Reason::REFUSED_STREAM,
        (ErrorKind::Timeout | ErrorKind::Closed, Side::Down) => Reason::CANCEL,
        _ => Reason::INTERNAL_ERROR,
    }
}
