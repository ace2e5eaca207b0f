//! The field lines of a head, and what they say together.

use oxy_core::ErrorKind;

use super::index::{Field, Span};
use super::known::{Known, Seen};
use super::reject::Reject;
use super::{scan, target, token};

/// Most options of Connection that name fields. Each is compared with all fields, so that this bounds a square.
const MAX_NOMINATIONS: usize = 32;

/// What the field lines say together.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) is_response: bool,
    pub(crate) seen: Seen,
    pub(crate) host: Option<Span>,
    pub(crate) length: Option<u64>,
    pub(crate) transfer: Transfer,
    pub(crate) close: bool,
    pub(crate) persist: bool,
    pub(crate) upgrade: bool,
    pub(crate) te_trailers: bool,
    pub(crate) expect_continue: bool,
    pub(crate) nominations: usize,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Transfer {
    #[default]
    Absent,
    Chunked,
    /// Refused at the end: a Content-Length beside it makes it worse than merely unsupported.
    Refused(Reject),
}

impl Facts {
    /// RFC 9112 section 9.3.
    pub(crate) fn keep_alive(&self, minor: u8) -> bool {
        !self.close && (minor == 1 || self.persist)
    }

    #[inline]
    fn add(&mut self, known: Known, value: &[u8], span: Span) -> Result<(), Reject> {
        let again = self.seen.has(known);
        self.seen.add(known);
        match known {
            Known::Host if !self.is_response => {
                // RFC 9112 section 3.2.
                if again {
                    return Err(Reject::malformed("more than one Host"));
                }
                if target::authority(value).is_none() {
                    return Err(Reject::malformed("bad Host"));
                }
                self.host = Some(span);
            }
            Known::ContentLength => {
                if again {
                    return Err(Reject::malformed("more than one Content-Length"));
                }
                self.length =
                    Some(token::digits(value).ok_or(Reject::malformed("bad Content-Length"))?);
            }
            Known::TransferEncoding => {
                self.transfer = if again {
                    Transfer::Refused(Reject::malformed("more than one Transfer-Encoding"))
                } else {
                    transfer_encoding(value)
                };
            }
            Known::Connection => {
                for option in token::elements(value) {
                    self.connection_option(option)?;
                }
            }
            Known::Te => {
                self.te_trailers |=
                    token::elements(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
            }
            Known::Expect => {
                self.expect_continue = !again && value.eq_ignore_ascii_case(b"100-continue");
            }
            _ => {}
        }
        Ok(())
    }

    fn connection_option(&mut self, option: &[u8]) -> Result<(), Reject> {
        match ConnectionOption::of(option) {
            ConnectionOption::Close => self.close = true,
            ConnectionOption::KeepAlive => self.persist = true,
            ConnectionOption::Upgrade => self.upgrade = true,
            ConnectionOption::Te => {}
            ConnectionOption::Field => {
                self.nominations += 1;
                if self.nominations > MAX_NOMINATIONS {
                    return Err(Reject::new(
                        ErrorKind::HeadTooLarge,
                        "too many Connection options",
                    ));
                }
            }
        }
        Ok(())
    }
}

/// A connection option (RFC 9110 section 7.6.1).
enum ConnectionOption {
    Close,
    KeepAlive,
    Upgrade,
    Te,
    /// The name of a field that goes no further.
    Field,
}

impl ConnectionOption {
    fn of(option: &[u8]) -> Self {
        match option.len() {
            2 if token::is_word(option, b"te") => Self::Te,
            5 if token::is_word(option, b"close") => Self::Close,
            7 if token::is_word(option, b"upgrade") => Self::Upgrade,
            10 if token::is_word(option, b"keep-alive") => Self::KeepAlive,
            _ => Self::Field,
        }
    }
}

/// RFC 9112 section 6.1: `chunked` alone is implemented here. Other codings before it are well-formed and answered
/// with 501; all else leaves the length of the body unknown.
fn transfer_encoding(value: &[u8]) -> Transfer {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Transfer::Chunked;
    }
    let mut codings = value.split(|&byte| byte == b',').map(token::trim).rev();
    let last_is_chunked = codings
        .next()
        .is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
    if last_is_chunked
        && codings.all(|coding| token::is_token(coding) && !coding.eq_ignore_ascii_case(b"chunked"))
    {
        return Transfer::Refused(Reject::new(
            ErrorKind::Unsupported,
            "unknown transfer coding",
        ));
    }
    Transfer::Refused(Reject::malformed("bad Transfer-Encoding"))
}

/// Indexes the field lines of `head` from `start` on (RFC 9112 section 5), and says where the blank line after them ends: none
/// if not all of that is there.
pub(crate) fn fields(
    head: &[u8],
    start: usize,
    most: usize,
    into: &mut Vec<Field>,
    facts: &mut Facts,
) -> Result<Option<usize>, Reject> {
    let mut line = &head[start..];
    loop {
        let at = head.len() - line.len();
        let (name, rest) = line.split_at(scan::token_bytes(line));
        let [b':', text @ ..] = rest else {
            return Ok(blank(line, name.len())?.map(|end| at + end));
        };
        if name.is_empty() {
            return Err(Reject::malformed("bad field name"));
        }
        if into.len() == most {
            return Err(Reject::new(ErrorKind::HeadTooLarge, "too many fields"));
        }
        if name.len() > Field::MAX_NAME {
            return Err(Reject::new(ErrorKind::HeadTooLarge, "field name too long"));
        }
        let text = match text {
            // As it nearly always is.
            [b' ', text @ ..] if text.first() > Some(&b' ') => text,
            _ => token::trim_start(text),
        };
        let start = head.len() - text.len();
        let (mut value, rest) = text.split_at(scan::field_bytes(text));
        line = match rest {
            [b'\r', b'\n', next @ ..] => next,
            [] | [b'\r'] => return Ok(None),
            [b'\n', ..] => return Err(Reject::malformed("bare LF in the head")),
            _ => return Err(Reject::malformed("bad field value")),
        };
        while let [before @ .., b' ' | b'\t'] = value {
            value = before;
        }
        let known = Known::of(name);
        let span = Span::new(start, start + value.len());
        if known != Known::Other {
            facts.add(known, value, span)?;
        }
        into.push(Field::new(Span::new(at, at + name.len()), span, known));
    }
}

/// Where the blank line ends that `line` is instead of a field: none if more has to come.
fn blank(line: &[u8], name_len: usize) -> Result<Option<usize>, Reject> {
    match line {
        [b'\r', b'\n', ..] => Ok(Some(2)),
        [b'\r'] => Ok(None),
        _ if name_len == line.len() => Ok(None),
        // What begins with whitespace would go on with the line before it (section 5.2); nobody has to take that.
        _ => Err(Reject::malformed("bad field name")),
    }
}

/// Marks the fields that Connection names.
pub(crate) fn nominate(buf: &[u8], fields: &mut [Field], facts: &Facts) -> Result<(), Reject> {
    if facts.nominations == 0 {
        return Ok(());
    }
    for at in 0..fields.len() {
        if fields[at].known != Known::Connection {
            continue;
        }
        for option in token::elements(fields[at].value().of(buf)) {
            if !matches!(ConnectionOption::of(option), ConnectionOption::Field) {
                continue;
            }
            if !token::is_token(option) {
                return Err(Reject::malformed("bad Connection option"));
            }
            for field in fields.iter_mut() {
                field.named |= !field.known.is_protected()
                    && field.name().of(buf).eq_ignore_ascii_case(option);
            }
        }
    }
    Ok(())
}
