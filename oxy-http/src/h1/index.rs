//! Where the parts of a head are: positions in its bytes, nothing copied.
//!
//! An index is filled by [`crate::h1::parse`] and used again for the next head, so that reading a head allocates
//! nothing once the list of fields has grown to its size.

use super::known::{Known, Seen};

/// A range of bytes in a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The bytes from `start` to before `end`.
    pub(crate) const fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    /// The bytes of `head` that this names; none if `head` is not the head that was indexed.
    pub fn of(self, head: &[u8]) -> &[u8] {
        head.get(self.range()).unwrap_or_default()
    }

    /// The positions.
    pub const fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// How many bytes.
    pub const fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// Where one field line is, and what the proxy knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    name_start: u32,
    value_start: u32,
    value_len: u32,
    name_len: u16,
    /// Which name it is.
    pub known: Known,
    /// Whether a Connection field names this one, so that it goes no further (RFC 9110 section 7.6.1). Never set for
    /// a field that [`Known::is_protected`].
    pub named: bool,
}

impl Field {
    /// Longest name that is read: more than this cannot be a [`http::HeaderName`].
    pub(crate) const MAX_NAME: usize = u16::MAX as usize;

    pub(crate) const fn new(name: Span, value: Span, known: Known) -> Self {
        Self {
            name_start: name.start,
            value_start: value.start,
            value_len: value.end - value.start,
            name_len: name.len() as u16,
            known,
            named: false,
        }
    }

    /// Where the name is.
    pub const fn name(&self) -> Span {
        Span {
            start: self.name_start,
            end: self.name_start + self.name_len as u32,
        }
    }

    /// Where the value is, without the whitespace around it.
    pub const fn value(&self) -> Span {
        Span {
            start: self.value_start,
            end: self.value_start + self.value_len,
        }
    }
}

/// How a body is delimited (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// By its length.
    Length(u64),
    /// By chunks.
    Chunked,
    /// By the end of the connection: responses only.
    UntilClose,
}

impl Framing {
    /// Whether no byte of body follows.
    pub const fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

/// The form of a request target (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`.
    #[default]
    Origin,
    /// `http://host/path?query`.
    Absolute,
    /// `host:port`, with CONNECT only.
    Authority,
    /// `*`, with OPTIONS only.
    Asterisk,
}

/// Where the parts of a request's head are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestIndex {
    /// The method.
    pub method: Span,
    /// The target, untouched.
    pub target: Span,
    /// Which form the target has.
    pub form: TargetForm,
    /// The authority inside the target; empty in origin-form and asterisk-form.
    pub target_authority: Span,
    /// The path with its query inside the target; in absolute-form it may be empty or begin with `?`.
    pub path: Span,
    /// Whether an absolute-form target says `https`.
    pub target_https: bool,
    /// The minor version, 0 or 1.
    pub minor: u8,
    /// The field lines, in order.
    pub fields: Vec<Field>,
    /// Which known fields there are.
    pub seen: Seen,
    /// The value of Host; may be empty.
    pub host: Option<Span>,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether the client would have the connection stay open (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// Whether the client waits for 100 (Continue) before it sends its body (RFC 9110 section 10.1.1).
    pub expect_continue: bool,
    /// Whether the client asks for another protocol (RFC 9110 section 7.8). Never together with a body: a server may
    /// ignore an Upgrade, and a body before a tunnel is a way to hide a request.
    pub upgrade: bool,
    /// Whether the client takes trailers (`TE: trailers`, RFC 9110 section 10.1.4).
    pub te_trailers: bool,
    /// Where the field lines begin.
    pub fields_start: usize,
    /// How long the head is, with empty lines before it and the blank line after it.
    pub head_len: usize,
}

impl RequestIndex {
    /// The authority that the request is for: that of the target, else that of Host (RFC 9110 section 7.1).
    pub fn authority<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        match self.form {
            TargetForm::Absolute | TargetForm::Authority => self.target_authority.of(head),
            TargetForm::Origin | TargetForm::Asterisk => self.host.unwrap_or_default().of(head),
        }
    }

    /// The first value of `known`.
    pub fn value<'a>(&self, head: &'a [u8], known: Known) -> Option<&'a [u8]> {
        value(&self.fields, self.seen, head, known)
    }

    /// The value of the first field called `name`, whatever its case.
    pub fn find<'a>(&self, head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
        find(&self.fields, head, name)
    }

    pub(crate) fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self {
            fields,
            ..Self::default()
        };
    }
}

/// Where the parts of a response's head are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseIndex {
    /// The status code, 100 to 599.
    pub status: u16,
    /// The minor version, 0 or 1.
    pub minor: u8,
    /// The reason phrase; may be empty and may hold bytes that are not ASCII.
    pub reason: Span,
    /// The field lines, in order.
    pub fields: Vec<Field>,
    /// Which known fields there are.
    pub seen: Seen,
    /// How the body is delimited.
    pub framing: Framing,
    /// What Content-Length says, also where no body follows (HEAD, 304); none where it has no meaning (1xx, 204, and
    /// 2xx to CONNECT).
    pub content_length: Option<u64>,
    /// Whether the origin's connection can serve another request after this one (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// Whether Connection says `upgrade` and there is an Upgrade field: what a 101 must have.
    pub upgrade: bool,
    /// Where the field lines begin.
    pub fields_start: usize,
    /// How long the head is, with its blank line.
    pub head_len: usize,
}

impl ResponseIndex {
    /// The first value of `known`.
    pub fn value<'a>(&self, head: &'a [u8], known: Known) -> Option<&'a [u8]> {
        value(&self.fields, self.seen, head, known)
    }

    /// The value of the first field called `name`, whatever its case.
    pub fn find<'a>(&self, head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
        find(&self.fields, head, name)
    }

    pub(crate) fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self {
            fields,
            ..Self::default()
        };
    }
}

fn value<'a>(fields: &[Field], seen: Seen, head: &'a [u8], known: Known) -> Option<&'a [u8]> {
    if !seen.has(known) {
        return None;
    }
    fields
        .iter()
        .find(|field| field.known == known)
        .map(|field| field.value().of(head))
}

fn find<'a>(fields: &[Field], head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    fields
        .iter()
        .find(|field| field.name().of(head).eq_ignore_ascii_case(name))
        .map(|field| field.value().of(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_small() {
        assert_eq!(size_of::<Field>(), 16);
    }

    #[test]
    fn a_span_of_another_buffer_is_empty() {
        assert_eq!(Span::new(2, 9).of(b"abc"), b"");
    }
}
