//! Where fields come from and where they go.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::h1::index::{Field, RequestIndex, ResponseIndex};
use crate::h1::known::{Known, Seen};
use crate::h1::token;

/// One field of a head.
#[derive(Clone, Copy, Debug)]
pub struct FieldRef<'a> {
    /// Which name it is.
    pub known: Known,
    /// The name, in the case in which it came.
    pub name: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// Whether a Connection field names it.
    pub named: bool,
    whence: Whence<'a>,
}

/// What a field is taken from.
#[derive(Clone, Copy, Debug)]
enum Whence<'a> {
    /// A raw head, in which its value begins here.
    Head(usize),
    Map(&'a HeaderName, &'a HeaderValue),
}

/// The fields of a head.
pub trait Fields {
    /// Whether there is a field with this name.
    fn has(&self, known: Known) -> bool;
    /// The fields, in order.
    fn iter(&self) -> impl Iterator<Item = FieldRef<'_>>;
    /// Passes on to `sink` the fields that no Connection field names and whose names `passes` lets through.
    fn pass_on<S: Sink>(&self, sink: &mut S, passes: impl Fn(Known) -> bool) {
        for field in self.iter() {
            if !field.named && passes(field.known) {
                sink.pass(&field);
            }
        }
    }
    /// About how many bytes they have on the wire.
    fn size(&self) -> usize;
}

/// The fields of a raw head with its index.
#[derive(Clone, Copy, Debug)]
pub struct Indexed<'a> {
    head: &'a [u8],
    fields: &'a [Field],
    seen: Seen,
    end: usize,
}

impl<'a> Indexed<'a> {
    /// Those of a request; `head` is what was indexed.
    pub fn request(index: &'a RequestIndex, head: &'a [u8]) -> Self {
        Self {
            head,
            fields: &index.fields,
            seen: index.seen,
            end: index.head_len.saturating_sub(2),
        }
    }

    /// Those of a response; `head` is what was indexed.
    pub fn response(index: &'a ResponseIndex, head: &'a [u8]) -> Self {
        Self {
            head,
            fields: &index.fields,
            seen: index.seen,
            end: index.head_len.saturating_sub(2),
        }
    }

    /// Passes on those of its fields that are in `range`.
    fn pass_run(&self, range: Range<usize>, sink: &mut impl Sink) {
        if range.is_empty() {
            return;
        }
        let after = self.fields.get(range.end);
        sink.pass_run(&Self {
            fields: &self.fields[range],
            end: after.map_or(self.end, |field| field.name().range().start),
            ..*self
        });
    }

    /// The lines, from the first to the last.
    fn lines(&self) -> &'a [u8] {
        let start = self.fields.first().map(|field| field.name().range().start);
        let lines = start.and_then(|start| self.head.get(start..self.end));
        lines.unwrap_or_default()
    }
}

impl Fields for Indexed<'_> {
    #[inline]
    fn has(&self, known: Known) -> bool {
        self.seen.has(known)
    }

    #[inline]
    fn iter(&self) -> impl Iterator<Item = FieldRef<'_>> {
        self.fields.iter().map(|field| FieldRef {
            known: field.known,
            name: field.name().of(self.head),
            value: field.value().of(self.head),
            named: field.named,
            whence: Whence::Head(field.value().range().start),
        })
    }

    fn pass_on<S: Sink>(&self, sink: &mut S, passes: impl Fn(Known) -> bool) {
        let mut from = 0;
        for (at, field) in self.fields.iter().enumerate() {
            if field.named || !passes(field.known) {
                self.pass_run(from..at, sink);
                from = at + 1;
            }
        }
        self.pass_run(from..self.fields.len(), sink);
    }

    fn size(&self) -> usize {
        self.end
    }
}

/// The fields of a header map.
#[derive(Clone, Copy, Debug)]
pub struct Mapped<'a> {
    map: &'a HeaderMap,
    nominates: bool,
}

impl<'a> Mapped<'a> {
    /// Those of `map`.
    pub fn new(map: &'a HeaderMap) -> Self {
        Self {
            map,
            nominates: map.contains_key(http::header::CONNECTION),
        }
    }

    fn names(&self, name: &HeaderName) -> bool {
        self.nominates
            && self
                .map
                .get_all(http::header::CONNECTION)
                .iter()
                .any(|value| {
                    token::elements(value.as_bytes())
                        .any(|option| option.eq_ignore_ascii_case(name.as_str().as_bytes()))
                })
    }
}

impl Fields for Mapped<'_> {
    fn has(&self, known: Known) -> bool {
        known
            .header_name()
            .is_some_and(|name| self.map.contains_key(name))
    }

    fn iter(&self) -> impl Iterator<Item = FieldRef<'_>> {
        self.map.iter().map(|(name, value)| {
            let known = Known::of(name.as_str().as_bytes());
            FieldRef {
                known,
                name: name.as_str().as_bytes(),
                value: value.as_bytes(),
                named: !known.is_protected() && self.names(name),
                whence: Whence::Map(name, value),
            }
        })
    }

    fn size(&self) -> usize {
        self.map
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum()
    }
}

/// Where fields go.
pub trait Sink {
    /// Passes a field on as it is.
    fn pass(&mut self, field: &FieldRef<'_>);
    /// Passes fields on that follow each other.
    fn pass_run(&mut self, run: &Indexed<'_>) {
        for field in run.iter() {
            self.pass(&field);
        }
    }
    /// Begins a field of our own.
    fn open(&mut self, name: Known);
    /// Adds to the value of the field that was begun.
    fn push(&mut self, part: &[u8]);
    /// Ends the field that was begun.
    fn close(&mut self);

    /// Writes a field of our own.
    fn put(&mut self, name: Known, value: &[u8]) {
        self.open(name);
        self.push(value);
        self.close();
    }
}

/// Writes field lines (RFC 9112 section 5).
#[derive(Debug)]
pub struct Lines<'a>(pub &'a mut Vec<u8>);

impl Sink for Lines<'_> {
    #[inline]
    fn pass(&mut self, field: &FieldRef<'_>) {
        for part in [field.name, b": ", field.value, b"\r\n"] {
            self.0.extend_from_slice(part);
        }
    }

    #[inline]
    fn pass_run(&mut self, run: &Indexed<'_>) {
        self.0.extend_from_slice(run.lines());
    }

    #[inline]
    fn open(&mut self, name: Known) {
        self.0.extend_from_slice(name.opening().as_bytes());
    }

    #[inline]
    fn push(&mut self, part: &[u8]) {
        self.0.extend_from_slice(part);
    }

    #[inline]
    fn close(&mut self) {
        self.0.extend_from_slice(b"\r\n");
    }
}

/// Fills a header map. The values that are not typed share one piece of memory.
#[derive(Debug)]
pub struct MapSink<'a> {
    map: &'a mut HeaderMap,
    /// The head that the fields are from: their values are parts of it.
    head: Bytes,
    open: Option<HeaderName>,
    /// Where values of our own are written, behind the head.
    own: BytesMut,
}

/// Room for what a proxy adds to a head: Via, a length, Date, who the client is and how it came. Where a long authority
/// makes it more, that takes another piece.
const OWN: usize = 128;

impl<'a> MapSink<'a> {
    /// Appends to `map`.
    pub fn new(map: &'a mut HeaderMap) -> Self {
        Self::of_head(map, b"")
    }

    /// Appends to `map` fields of the raw `head`, which is copied once and not field by field.
    pub fn of_head(map: &'a mut HeaderMap, head: &[u8]) -> Self {
        let mut own = BytesMut::with_capacity(head.len() + OWN);
        own.extend_from_slice(head);
        Self {
            map,
            head: own.split().freeze(),
            open: None,
            own,
        }
    }

    /// The value of a field that is not typed.
    fn value(&mut self, field: &FieldRef<'_>) -> Option<HeaderValue> {
        if let Whence::Head(at) = field.whence
            && let Some(value) = self.head.get(at..at + field.value.len())
        {
            return HeaderValue::from_maybe_shared(self.head.slice_ref(value)).ok();
        }
        self.own.extend_from_slice(field.value);
        HeaderValue::from_maybe_shared(self.own.split().freeze()).ok()
    }
}

impl Sink for MapSink<'_> {
    fn pass(&mut self, field: &FieldRef<'_>) {
        if let Whence::Map(name, value) = field.whence {
            self.map.append(name.clone(), value.clone());
            return;
        }
        // What the parser has let through, `http` takes.
        if let (Ok(name), Some(value)) = (HeaderName::from_bytes(field.name), self.value(field)) {
            self.map.append(name, value);
        }
    }

    fn open(&mut self, name: Known) {
        self.open = name.header_name();
        self.own.clear();
    }

    fn push(&mut self, part: &[u8]) {
        self.own.extend_from_slice(part);
    }

    fn close(&mut self) {
        let value = HeaderValue::from_maybe_shared(self.own.split().freeze());
        if let (Some(name), Ok(value)) = (self.open.take(), value) {
            self.map.append(name, value);
        }
    }
}
