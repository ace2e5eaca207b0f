//! The one error type of the workspace.
//!
//! An [`Error`] says what went wrong ([`ErrorKind`]), on whose side ([`Side`]), and whether the work may be
//! tried again ([`Retry`]). One table, [`Error::status`] and its siblings, maps it to what a peer is told, so that
//! every layer refuses in the same words.

use std::error::Error as StdError;
use std::fmt;

/// The result of everything that can fail in Oxy.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The peer's bytes are not what the protocol allows (400 to a client, 502 when an origin sent them).
    Malformed,
    /// The request target is longer than the limit (414).
    TargetTooLong,
    /// The header section is larger than the limit, in bytes or in fields (431).
    HeadTooLarge,
    /// The body is larger than the limit (413).
    BodyTooLarge,
    /// The peer asks for something that is not implemented, such as an unknown transfer coding (501).
    Unsupported,
    /// The protocol version is not one that is spoken here (505).
    Version,
    /// An expectation that cannot be met (417).
    Expectation,
    /// The peer, or the name that it asked for, is not allowed (403).
    Denied,
    /// The request is not for this proxy (421).
    Misdirected,
    /// The proxy would talk to itself (508).
    Loop,
    /// A time limit has passed (408 towards a client that was slow, 504 when an origin was).
    Timeout,
    /// The peer closed or reset the connection before it had said all.
    Closed,
    /// A connection could not be opened (502).
    Connect,
    /// A name could not be resolved (502).
    Dns,
    /// A TLS handshake failed: a certificate that is not trusted, nothing in common, no TLS at all (502 when an origin's).
    Tls,
    /// A limit on concurrent work, or a resource such as descriptors, is exhausted (503).
    Overloaded,
    /// The process is going away (503).
    Draining,
    /// There is nowhere to send this (404 or 502, by side).
    NoRoute,
    /// The operating system reported an error that has no better name.
    Io,
    /// An error of the program itself or of a hook (500).
    Internal,
}

/// On whose side the error arose, seen from the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client's.
    Down,
    /// The origin's, or the next hop's.
    Up,
    /// Ours.
    Local,
}

/// Whether the work that failed may be tried again elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// It may have been done: never again by itself.
    Never,
    /// A reused connection died before a byte came back: again on a fresh one, where the request allows it.
    IfReused,
    /// Nothing was sent: always safe.
    Safe,
}

/// What went wrong, on which side, and whether it may be tried again.
///
/// `Display` prints this level only; the cause is reached through [`StdError::source`].
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    side: Side,
    retry: Retry,
    context: Option<&'static str>,
    told: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` on `side`, with no retry, context or source.
    pub fn new(kind: ErrorKind, side: Side) -> Self {
        Self(Box::new(Inner {
            kind,
            side,
            retry: Retry::Never,
            context: None,
            told: false,
            source: None,
        }))
    }

    /// An error that the client caused.
    pub fn down(kind: ErrorKind) -> Self {
        Self::new(kind, Side::Down)
    }

    /// An error that the origin, or the way to it, caused.
    pub fn up(kind: ErrorKind) -> Self {
        Self::new(kind, Side::Up)
    }

    /// An error of our own.
    pub fn local(kind: ErrorKind) -> Self {
        Self::new(kind, Side::Local)
    }

    /// An error made by the application's own code.
    pub fn app(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::local(ErrorKind::Internal).because(source)
    }

    /// The kind that fits an [`std::io::Error`] on `side`, with it as the source.
    pub fn io(side: Side, source: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match source.kind() {
            Io::TimedOut => ErrorKind::Timeout,
            Io::ConnectionReset
            | Io::ConnectionAborted
            | Io::BrokenPipe
            | Io::UnexpectedEof
            | Io::NotConnected
            | Io::WriteZero => ErrorKind::Closed,
            Io::ConnectionRefused
            | Io::AddrNotAvailable
            | Io::HostUnreachable
            | Io::NetworkUnreachable => ErrorKind::Connect,
            _ => match source.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    ErrorKind::Overloaded
                }
                _ => ErrorKind::Io,
            },
        };
        Self::new(kind, side).because(source)
    }

    /// Adds what was being done, in a few words.
    #[must_use]
    pub fn context(mut self, context: &'static str) -> Self {
        self.0.context = Some(context);
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Says whether the work may be tried again.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Moves the blame to `side`.
    #[must_use]
    pub fn on(mut self, side: Side) -> Self {
        self.0.side = side;
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// On whose side.
    pub fn side(&self) -> Side {
        self.0.side
    }

    /// Whether the work may be tried again.
    pub fn retryable(&self) -> Retry {
        self.0.retry
    }

    /// What was being done, if it was noted.
    pub fn what(&self) -> Option<&'static str> {
        self.0.context
    }

    /// Whether somebody has told of it, which the caller now does.
    pub(crate) fn told(&mut self) -> bool {
        std::mem::replace(&mut self.0.told, true)
    }

    /// The HTTP status (RFC 9110 section 15) that tells a client of this error.
    pub fn status(&self) -> u16 {
        use ErrorKind as K;
        match (self.0.kind, self.0.side) {
            (K::Timeout, Side::Down) => 408,
            (K::Timeout, _) => 504,
            (K::Overloaded | K::Draining, _) => 503,
            (K::Denied, _) => 403,
            (K::Loop, _) => 508,
            (K::Internal, _) => 500,
            // Whatever else an origin does wrong is one thing to a client: a bad gateway.
            (K::Dns | K::Connect, _) | (_, Side::Up) => 502,
            (K::Malformed | K::Closed | K::Tls, _) => 400,
            (K::TargetTooLong, _) => 414,
            (K::HeadTooLarge, _) => 431,
            (K::BodyTooLarge, _) => 413,
            (K::Unsupported, _) => 501,
            (K::Version, _) => 505,
            (K::Expectation, _) => 417,
            (K::Misdirected, _) => 421,
            (K::NoRoute, _) => 404,
            (K::Io, _) => 500,
        }
    }

    /// Whether a log should show this at `warn` (ours, or the way to an origin) rather than `debug` (a client's doing,
    /// which anybody on the internet can cause at any rate).
    pub fn is_loud(&self) -> bool {
        self.0.side != Side::Down && !matches!(self.0.kind, ErrorKind::Denied | ErrorKind::Draining)
    }

    /// A short name for metrics and logs: a bounded set of values.
    pub fn name(&self) -> &'static str {
        self.0.kind.name()
    }
}

impl ErrorKind {
    /// A short name for metrics and logs: a bounded set of values.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TargetTooLong => "target_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::BodyTooLarge => "body_too_large",
            Self::Unsupported => "unsupported",
            Self::Version => "version",
            Self::Expectation => "expectation",
            Self::Denied => "denied",
            Self::Misdirected => "misdirected",
            Self::Loop => "loop",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Connect => "connect",
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
            Self::NoRoute => "no_route",
            Self::Io => "io",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.0.side {
            Side::Down => "client",
            Side::Up => "upstream",
            Side::Local => "local",
        };
        match self.0.context {
            Some(context) => write!(f, "{side}: {}: {context}", self.name()),
            None => write!(f, "{side}: {}", self.name()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)?;
        let mut cause = StdError::source(self);
        while let Some(source) = cause {
            write!(f, ": {source}")?;
            cause = source.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<std::io::Error> for Error {
    /// For application code; the framework itself always says on whose side (see [`Error::io`]).
    fn from(source: std::io::Error) -> Self {
        Self::io(Side::Local, source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_side_decides_the_status() {
        assert_eq!(Error::down(ErrorKind::Malformed).status(), 400);
        assert_eq!(Error::up(ErrorKind::Malformed).status(), 502);
        assert_eq!(Error::down(ErrorKind::Timeout).status(), 408);
        assert_eq!(Error::up(ErrorKind::Timeout).status(), 504);
        assert_eq!(Error::up(ErrorKind::HeadTooLarge).status(), 502);
        assert_eq!(Error::down(ErrorKind::HeadTooLarge).status(), 431);
    }

    #[test]
    fn display_prints_one_level_and_debug_the_chain() {
        let io = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let error = Error::io(Side::Up, io).context("reading a response");
        assert_eq!(error.to_string(), "upstream: closed: reading a response");
        assert!(format!("{error:?}").contains("reset"));
    }
}
