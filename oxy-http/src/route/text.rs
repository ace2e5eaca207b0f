//! Texts with variables.

use std::io::Write;

use super::captures::{Names, Spans};
use super::host;
use super::view::View;

/// A text with variables, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Box<str>),
    Variable(Variable),
    Capture(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable {
    ClientIp,
    Host,
    Path,
    Query,
    Method,
    Scheme,
    Route,
}

const VARIABLES: [(&str, Variable); 7] = [
    ("client_ip", Variable::ClientIp),
    ("host", Variable::Host),
    ("path", Variable::Path),
    ("query", Variable::Query),
    ("method", Variable::Method),
    ("scheme", Variable::Scheme),
    ("route", Variable::Route),
];

/// Whether `name` is taken by a variable, so that no capture can have it.
pub(super) fn is_variable(name: &str) -> bool {
    VARIABLES.iter().any(|(known, _)| *known == name)
}

/// What variables stand for in one request.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) view: &'a dyn View,
    /// The path as it was matched.
    pub(super) path: &'a [u8],
    /// What was captured, of `captured`.
    pub(super) spans: Spans,
    pub(super) captured: &'a [u8],
    pub(super) route: &'a str,
}

impl Text {
    /// Reads `text`, whose captures are `names`.
    pub(super) fn read(text: &str, names: &Names) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            let after = &rest[at + 1..];
            if let Some(after) = after.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            let Some((name, after)) = after.split_once('}').filter(|_| brace == "{") else {
                return Err(format!(
                    "{text:?} has a brace that is not closed or not opened; a brace itself is doubled"
                ));
            };
            let variable = VARIABLES.iter().find(|(known, _)| *known == name);
            let piece = match (variable, names.find(name)) {
                (Some((_, variable)), _) => Piece::Variable(*variable),
                (None, Some(index)) => Piece::Capture(index),
                (None, None) => {
                    return Err(format!(
                        "{text:?} names {{{name}}}, which is neither a variable nor captured"
                    ));
                }
            };
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal).into()));
            }
            pieces.push(piece);
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.into()));
        }
        Ok(Self(pieces))
    }

    /// The text, if it has no variables.
    pub(super) fn literal(&self) -> Option<&str> {
        match &self.0[..] {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// What it begins with, up to the first variable.
    pub(super) fn start(&self) -> &str {
        match self.0.first() {
            Some(Piece::Literal(text)) => text,
            _ => "",
        }
    }

    /// Appends the text with what its variables stand for.
    pub(super) fn write(&self, facts: &Facts<'_>, out: &mut Vec<u8>) {
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Variable(variable) => variable.write(facts, out),
                Piece::Capture(index) => out
                    .extend_from_slice(facts.spans.of(*index, facts.captured).unwrap_or_default()),
            }
        }
    }
}

impl Variable {
    fn write(self, facts: &Facts<'_>, out: &mut Vec<u8>) {
        let view = facts.view;
        match self {
            Self::ClientIp => {
                if let Some(address) = view.client_ip() {
                    // Writing to memory does not fail.
                    let _ = write!(out, "{}", address.to_canonical());
                }
            }
            Self::Host => out.extend_from_slice(&sound_host(view)),
            Self::Path => out.extend_from_slice(facts.path),
            Self::Query => out.extend_from_slice(query(view.path()).unwrap_or_default()),
            Self::Method => out.extend_from_slice(view.method()),
            Self::Scheme => out.extend_from_slice(scheme(view).as_bytes()),
            Self::Route => out.extend_from_slice(facts.route.as_bytes()),
        }
    }
}

/// The host without its port, in lower case; empty if it is not one, so that it can be written anywhere.
pub(super) fn sound_host(view: &dyn View) -> std::borrow::Cow<'_, [u8]> {
    let host = host::read(view.authority());
    match crate::h1::target::authority(&host) {
        Some(_) => host,
        None => std::borrow::Cow::Borrowed(&[]),
    }
}

/// The query, without its question mark.
pub(super) fn query(path: &[u8]) -> Option<&[u8]> {
    memchr::memchr(b'?', path).map(|at| &path[at + 1..])
}

pub(super) fn scheme(view: &dyn View) -> &'static str {
    if view.is_https() { "https" } else { "http" }
}

#[cfg(test)]
mod tests {
    use super::super::probe::Probe;
    use super::*;

    fn written(text: &str) -> Result<String, String> {
        let mut spans = Spans::default();
        spans.push(7, 9);
        let probe = Probe::get("Shop.example:8080", "/users/42?a=b");
        let facts = Facts {
            view: &probe,
            path: b"/users/42",
            spans,
            captured: b"/users/42",
            route: "users",
        };
        let mut out = Vec::new();
        Text::read(text, &Names::of_template(&["id"]))?.write(&facts, &mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn variables() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("{id}", "42"),
            ("<{id}>", "<42>"),
            ("{{id}}", "{id}"),
            ("{{{id}}}", "{42}"),
            ("}}{{", "}{"),
            ("{host}|{path}|{query}", "shop.example|/users/42|a=b"),
            (
                "{method} {scheme} {client_ip} {route}",
                "GET http 192.0.2.7 users",
            ),
        ] {
            assert_eq!(written(text).as_deref(), Ok(expected), "{text}");
        }
        for bad in [
            "{", "}", "{id", "id}", "{}", "{name}", "{1}", "{ id}", "{{id}",
        ] {
            assert!(written(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_that_is_none_is_not_written() {
        let probe = Probe::get("a\r\nb", "/");
        assert_eq!(&*sound_host(&probe), b"");
    }
}
