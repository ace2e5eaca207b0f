//! Other paths and hosts.

use regex::bytes::Regex;

use super::captures::{Names, Spans};
use super::normal;
use super::pattern::{self, Pattern};
use super::spec::RewriteSpec;
use super::text::{self, Facts, Text};
use super::view::View;

/// The host that an origin is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewHost {
    /// As the listener forwards it.
    Keep,
    /// The origin's own name.
    Upstream,
    /// This one.
    Is(String),
}

/// What is changed about the path and the host.
#[derive(Clone, Debug)]
pub(super) struct Rewrite {
    pub(super) path: NewPath,
    host: Option<Text>,
    upstream_host: bool,
}

/// Where a path comes from.
#[derive(Clone, Debug)]
pub(super) enum NewPath {
    /// It stays.
    Keep,
    /// So many bytes at its start become this, which does not end with a slash.
    Prefix(usize, Box<str>),
    Text(Text),
    Regex(Box<(Regex, Text)>),
}

impl Rewrite {
    pub(super) fn read(
        spec: &RewriteSpec,
        pattern: &Pattern,
        names: &Names,
    ) -> Result<Self, String> {
        let path = match (&spec.prefix, &spec.path, &spec.regex) {
            (None, None, None) => NewPath::Keep,
            (Some(prefix), None, None) => NewPath::prefix(prefix, pattern)?,
            (None, Some(path), None) => NewPath::text(path, names)?,
            (None, None, Some(rewrite)) => {
                let regex = pattern::free_regex(&rewrite.pattern)?;
                let names = Names::of_regex(&regex);
                let with = Text::read(&rewrite.with, &names)?;
                NewPath::Regex(Box::new((regex, with)))
            }
            _ => return Err("the rewrite has more than one of prefix, path and regex".into()),
        };
        if spec.host.is_some() && spec.upstream_host {
            return Err("the rewrite has both a host and upstream_host".into());
        }
        let host = spec.host.as_deref();
        Ok(Self {
            path,
            host: host.map(|text| self::host(text, names)).transpose()?,
            upstream_host: spec.upstream_host,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self.path, NewPath::Keep) && self.host.is_none() && !self.upstream_host
    }

    pub(super) fn path_and_query(&self, facts: &Facts<'_>) -> Option<String> {
        if matches!(self.path, NewPath::Keep) {
            return None;
        }
        let mut out = Vec::with_capacity(facts.view.path().len() + 32);
        self.path.write(facts, &mut out);
        write_query(facts.view, &mut out);
        String::from_utf8(out).ok()
    }

    pub(super) fn host(&self, facts: &Facts<'_>) -> NewHost {
        if self.upstream_host {
            return NewHost::Upstream;
        }
        let host = self.host.as_ref().and_then(|host| expand_host(host, facts));
        host.map_or(NewHost::Keep, NewHost::Is)
    }
}

/// Reads the text of a host.
pub(super) fn host(text: &str, names: &Names) -> Result<Text, String> {
    let read = Text::read(text, names)?;
    if let Some(literal) = read.literal()
        && !is_host(literal.as_bytes())
    {
        return Err(format!("{text:?} is not a host"));
    }
    Ok(read)
}

/// The host that `text` comes to; none if it is not one.
pub(super) fn expand_host(text: &Text, facts: &Facts<'_>) -> Option<String> {
    let mut out = Vec::new();
    text.write(facts, &mut out);
    String::from_utf8(out)
        .ok()
        .filter(|host| is_host(host.as_bytes()))
}

/// Whether it is a host, with or without a port, and none of its labels is empty, as they are where a variable stands
/// for nothing.
fn is_host(text: &[u8]) -> bool {
    let has_gap = text.starts_with(b".")
        || text.ends_with(b".")
        || memchr::memmem::find(text, b"..").is_some();
    !has_gap && crate::h1::target::authority(text).is_some_and(|authority| !authority.empty)
}

impl NewPath {
    pub(super) fn text(text: &str, names: &Names) -> Result<Self, String> {
        let read = Text::read(text, names)?;
        if !read.start().starts_with('/') && text != "{path}" {
            return Err(format!("the new path {text:?} does not begin with a slash"));
        }
        if text.contains(['?', '#']) {
            return Err(format!(
                "the new path {text:?} has a query; the query stays as it is"
            ));
        }
        Ok(Self::Text(read))
    }

    pub(super) fn prefix(with: &str, pattern: &Pattern) -> Result<Self, String> {
        let Pattern::Prefix(prefix) = pattern else {
            return Err("a prefix can only be replaced where a prefix is matched".into());
        };
        if !with.starts_with('/') || with.contains(['?', '#']) {
            return Err(format!("the new prefix {with:?} is not a path"));
        }
        let with = with.strip_suffix('/').unwrap_or(with);
        Ok(Self::Prefix(prefix.len(), with.into()))
    }

    /// Appends the path, which begins with exactly one slash and has no dot segments, whatever was captured: what
    /// begins with two would be a host (RFC 3986 section 4.2). What comes to no path becomes `/`.
    pub(super) fn write(&self, facts: &Facts<'_>, out: &mut Vec<u8>) {
        let mut raw = Vec::new();
        match self {
            Self::Keep => raw.extend_from_slice(facts.path),
            Self::Prefix(length, with) => {
                raw.extend_from_slice(with.as_bytes());
                raw.extend_from_slice(facts.path.get(*length..).unwrap_or_default());
            }
            Self::Text(text) => text.write(facts, &mut raw),
            Self::Regex(rewrite) => replace(&rewrite.0, &rewrite.1, facts, &mut raw),
        }
        let mut path = vec![b'/'];
        let start = raw.iter().position(|byte| !matches!(byte, b'/' | b'\\'));
        write_escaped(&raw[start.unwrap_or(raw.len())..], is_path_byte, &mut path);
        match normal::path(&path, false) {
            Ok(path) => out.extend_from_slice(&path),
            Err(_) => out.push(b'/'),
        }
    }
}

fn replace(regex: &Regex, with: &Text, facts: &Facts<'_>, out: &mut Vec<u8>) {
    let mut copied = 0;
    for found in regex.captures_iter(facts.path) {
        let mut spans = Spans::default();
        for group in found.iter().skip(1) {
            let (start, end) = group.map_or((0, 0), |group| (group.start(), group.end()));
            spans.push(start, end);
        }
        let Some(whole) = found.get(0) else { continue };
        out.extend_from_slice(&facts.path[copied..whole.start()]);
        let facts = Facts {
            spans,
            captured: facts.path,
            ..*facts
        };
        with.write(&facts, out);
        copied = whole.end();
    }
    out.extend_from_slice(&facts.path[copied..]);
}

/// Appends the query with its question mark, if there is one.
pub(super) fn write_query(view: &dyn View, out: &mut Vec<u8>) {
    if let Some(query) = text::query(view.path()) {
        out.push(b'?');
        write_escaped(query, is_query_byte, out);
    }
}

fn write_escaped(text: &[u8], may_stay: fn(u8) -> bool, out: &mut Vec<u8>) {
    for &byte in text {
        if may_stay(byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}

/// What may stand in a path as it is. A backslash may not: browsers take it for a slash.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'\\' | b'<' | b'>' | b'"' | b'`')
}

fn is_query_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'#' | b'<' | b'>' | b'"')
}
