//! Changes of fields.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::captures::Names;
use super::spec::EditsSpec;
use super::text::{Facts, Text};

/// What is changed about the fields of a message, in this order.
#[derive(Clone, Debug, Default)]
pub(super) struct Edits(Arc<[Edit]>);

#[derive(Clone, Debug)]
struct Edit {
    name: HeaderName,
    how: How,
    value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Remove,
    Set,
    SetIfAbsent,
    Add,
}

#[derive(Clone, Debug)]
enum Value {
    Fixed(HeaderValue),
    /// It has variables, and is this one of the [`HeaderEdits::values`].
    Text(Text, usize),
}

/// What a field cannot be edited for: it frames the message, belongs to one connection, or has a place of its own.
const OURS: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Reads the name of a field that may be edited.
pub(super) fn name(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| format!("{text:?} is not the name of a field"))?;
    if OURS.contains(&name) || name == "proxy-connection" {
        return Err(format!("the field {name} cannot be changed by a route"));
    }
    Ok(name)
}

impl Edits {
    pub(super) fn read(spec: &EditsSpec, names: &Names) -> Result<Self, String> {
        let mut edits = Vec::new();
        for removed in &spec.remove {
            edits.push(Edit {
                name: name(removed)?,
                how: How::Remove,
                value: Value::Fixed(HeaderValue::from_static("")),
            });
        }
        let mut variable = 0;
        for (how, fields) in [
            (How::Set, &spec.set),
            (How::SetIfAbsent, &spec.set_if_absent),
            (How::Add, &spec.add),
        ] {
            for (field, text) in fields {
                let name = name(field)?;
                let read = Text::read(text, names)?;
                let value = if let Some(literal) = read.literal() {
                    let fixed = HeaderValue::from_str(literal);
                    Value::Fixed(
                        fixed.map_err(|_| format!("{text:?} cannot be the value of {name}"))?,
                    )
                } else {
                    variable += 1;
                    Value::Text(read, variable - 1)
                };
                edits.push(Edit { name, how, value });
            }
        }
        Ok(Self(edits.into()))
    }

    /// The changes, with what their variables stand for; none if there are none.
    pub(super) fn resolve(&self, facts: &Facts<'_>) -> Option<HeaderEdits> {
        if self.0.is_empty() {
            return None;
        }
        let mut values = Vec::new();
        for edit in self.0.iter() {
            if let Value::Text(text, _) = &edit.value {
                let mut out = Vec::new();
                text.write(facts, &mut out);
                values.push(HeaderValue::from_maybe_shared(Bytes::from(out)).ok());
            }
        }
        Some(HeaderEdits {
            edits: self.clone(),
            values,
        })
    }
}

/// Changes of fields that need the request no more.
#[derive(Clone, Debug)]
pub struct HeaderEdits {
    edits: Edits,
    /// What the texts with variables come to; none if it cannot be the value of a field.
    values: Vec<Option<HeaderValue>>,
}

impl HeaderEdits {
    /// Makes the changes. A value that is set but cannot be the value of a field leaves no field of that name, so that
    /// no origin believes the client's own.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for Edit { name, how, value } in self.edits.0.iter() {
            let value = match value {
                Value::Fixed(value) => Some(value),
                Value::Text(_, index) => self.values.get(*index).and_then(Option::as_ref),
            };
            match (how, value) {
                (How::Remove, _) | (How::Set, None) => {
                    headers.remove(name);
                }
                (How::Set, Some(value)) => {
                    headers.insert(name, value.clone());
                }
                (How::SetIfAbsent, Some(value)) => {
                    headers.entry(name).or_insert_with(|| value.clone());
                }
                (How::Add, Some(value)) => {
                    headers.append(name, value.clone());
                }
                (How::SetIfAbsent | How::Add, None) => {}
            }
        }
    }
}
