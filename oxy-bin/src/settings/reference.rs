//! The reference of all settings, made from their types: a file in YAML with every key, its default, and its
//! documentation as comments.

use std::fmt::{self, Write};

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::Settings;

const HEAD: &str = "\
# Every setting of oxy, with its default and what it does.
#
# A file needs none of them but `listeners`; a listener has exactly one of `http`, `tcp` and `udp`.
# Durations are written as 500ms, 10s, 1m30s or 1h; sizes as 64KiB, 10MiB or 1GB. ${NAME} and ${NAME:-DEFAULT}
# stand for what the environment has, $$ for a dollar sign.
# What has no default is shown with an example.
";

/// Comments are wrapped here, indentation included.
const WIDTH: usize = 110;

/// The reference.
pub fn text() -> String {
    let schema = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<Settings>();
    let root = schema.to_value();
    let mut printer = Printer {
        text: HEAD.into(),
        types: root.get("$defs").cloned().unwrap_or_default(),
    };
    printer.object(&root, None, 0);
    printer.text
}

struct Printer {
    text: String,
    types: Value,
}

impl Printer {
    /// Prints the keys of `schema`, whose default as a whole is `whole`.
    fn object(&mut self, schema: &Value, whole: Option<&Value>, indent: usize) {
        let Some(properties) = properties(schema) else {
            return;
        };
        for (key, property) in properties {
            let default = whole
                .and_then(|whole| whole.get(key))
                .or_else(|| property.get("default"));
            let shown = default
                .filter(|value| !is_empty(value))
                .or_else(|| property.get("examples").and_then(|list| list.get(0)))
                .or(default.filter(|value| !value.is_null()));
            let schema = self.resolved(property);
            self.text.push('\n');
            let about = property
                .get("description")
                .or_else(|| schema.get("description"));
            self.comment(about.and_then(Value::as_str).unwrap_or_default(), indent);
            self.variants(&schema, indent);

            let margin = " ".repeat(indent);
            let item = schema.get("items").map(|items| self.resolved(items));
            if properties_of(Some(&schema)) {
                self.line(format_args!("{margin}{key}:"));
                self.object(&schema, shown, indent + 2);
            } else if let Some(item) = item.filter(|item| properties_of(Some(item))) {
                self.line(format_args!("{margin}{key}:"));
                let start = self.text.len();
                self.object(&item, None, indent + 4);
                self.dash(start, indent + 2);
            } else {
                // What must be there has no default, and null is not what it could be.
                let blank = match schema.get("type").and_then(Value::as_str) {
                    Some("string") if default.is_none() => Value::String(String::new()),
                    _ => Value::Null,
                };
                let value = scalar(shown.or(default).unwrap_or(&blank));
                self.line(format_args!("{margin}{key}: {value}"));
            }
        }
    }

    fn line(&mut self, text: fmt::Arguments<'_>) {
        // Writing to memory does not fail.
        let _ = self.text.write_fmt(format_args!("{text}\n"));
    }

    /// Makes what was printed from `start` on the first element of a list.
    fn dash(&mut self, start: usize, indent: usize) {
        let element = self.text.split_off(start);
        let first_key = element
            .lines()
            .position(|line| !line.is_empty() && !line.trim_start().starts_with('#'));
        for (number, line) in element.lines().enumerate() {
            if Some(number) == first_key {
                let (margin, rest) = line.split_at(indent);
                self.line(format_args!("{margin}- {}", rest.trim_start()));
            } else {
                self.text.push_str(line);
                self.text.push('\n');
            }
        }
    }

    /// Follows a reference, through what makes it optional.
    fn resolved(&self, schema: &Value) -> Value {
        let alternatives = schema.get("anyOf").and_then(Value::as_array);
        let schema = alternatives
            .and_then(|list| list.iter().find(|one| !is_null(one)))
            .unwrap_or(schema);
        let name = schema.get("$ref").and_then(Value::as_str);
        name.and_then(|name| self.types.get(name.strip_prefix("#/$defs/")?))
            .unwrap_or(schema)
            .clone()
    }

    /// Prints the values that there are to choose from.
    fn variants(&mut self, schema: &Value, indent: usize) {
        let variants = schema.get("oneOf").and_then(Value::as_array);
        for variant in variants.into_iter().flatten() {
            if let (Some(name), Some(about)) = (
                variant.get("const").and_then(Value::as_str),
                variant.get("description").and_then(Value::as_str),
            ) {
                self.comment(&format!("- {name}: {about}"), indent);
            }
        }
    }

    fn comment(&mut self, text: &str, indent: usize) {
        let margin = format!("{}#", " ".repeat(indent));
        for paragraph in text.split("\n\n").filter(|text| !text.is_empty()) {
            let mut width = 0;
            for word in plain(paragraph).split_whitespace() {
                if width == 0 || width + 1 + word.len() > WIDTH {
                    if width > 0 {
                        self.text.push('\n');
                    }
                    self.text.push_str(&margin);
                    width = margin.len();
                }
                self.text.push(' ');
                self.text.push_str(word);
                width += 1 + word.len();
            }
            self.text.push('\n');
        }
    }
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}

fn properties_of(schema: Option<&Value>) -> bool {
    schema.and_then(properties).is_some()
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}

/// Whether a default says nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// The value as YAML has it: JSON, but for words that need no quotes.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(word) if is_word(word) => word.clone(),
        value => value.to_string(),
    }
}

fn is_word(text: &str) -> bool {
    let keywords = ["true", "false", "null"];
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text.parse::<f64>().is_err()
        && !keywords.contains(&text)
}

/// A doc comment without its links: what is in brackets is a path to a Rust item, of which the last part is the setting.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("[`") {
        out.push_str(before);
        let Some((path, behind)) = after.split_once("`]") else {
            rest = after;
            break;
        };
        out.push('`');
        out.push_str(path.rsplit("::").next().unwrap_or(path));
        out.push('`');
        rest = match behind
            .strip_prefix('(')
            .and_then(|link| link.split_once(')'))
        {
            Some((_, behind)) => behind,
            None => behind,
        };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_a_file_that_can_be_read() {
        let text = text();
        let options = serde_saphyr::options! { strict_booleans: true };
        let read = serde_saphyr::from_str_with_options::<Settings>(&text, options)
            .unwrap_or_else(|e| panic!("{e}\n{text}"));
        let http = read.listeners[0].http.clone().unwrap();
        let default = oxy_http::HttpOptions::default();
        assert_eq!(http.options.timeouts, default.timeouts);
        assert_eq!(http.options.body, default.body);
    }

    #[test]
    fn it_says_what_every_key_does() {
        let text = text();
        let mut documented = false;
        for line in text.lines().map(str::trim_start) {
            let is_comment = line.starts_with('#');
            assert!(
                is_comment || documented || line.is_empty(),
                "{line} has no comment"
            );
            documented = is_comment;
            assert!(!line.contains("[`"), "{line}");
        }
        for known in [
            "drain_timeout: 1m",
            "first_byte: 1m",
            "allow_private: false",
            "format: off",
        ] {
            assert!(text.lines().any(|line| line.trim() == known), "{known}");
        }
    }

    #[test]
    fn links_are_for_rust_programmers() {
        assert_eq!(
            plain("As [`Self::a`](Self::a), or [`B::c`]."),
            "As `a`, or `c`."
        );
        assert_eq!(plain("`x` [1]"), "`x` [1]");
    }
}
