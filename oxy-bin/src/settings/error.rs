//! What is wrong with a settings file, and where.

use std::error::Error as _;
use std::fmt;

use oxy_core::Error;
use serde_saphyr::{Error as YamlError, MessageFormatter, UserMessageFormatter};

use super::Located;

/// What is wrong with a settings file, and where.
#[derive(Debug)]
pub struct SettingsError {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1; 0 if the error has no place.
    pub line: u64,
    /// The column in characters, from 1.
    pub column: u64,
    /// What is wrong.
    pub message: String,
    /// The line's text.
    pub excerpt: Option<String>,
    /// What to look for from that place on: the values inside one that have no places of their own.
    pub(super) words: Vec<String>,
}

impl SettingsError {
    /// An error without a place, such as a file that cannot be read.
    pub(crate) fn whole(file: &str, message: impl fmt::Display) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
            message: message.to_string(),
            excerpt: None,
            words: Vec::new(),
        }
    }

    /// Points at `word`, where that stands at the error's place or behind it.
    pub(super) fn near(mut self, word: impl Into<String>) -> Self {
        let word = word.into();
        if !word.is_empty() {
            self.words.push(word);
        }
        self
    }

    /// An error at a value.
    pub(super) fn at<T>(place: &Located<T>, message: impl fmt::Display) -> Self {
        Self {
            line: place.line,
            column: place.column,
            ..Self::whole("", message)
        }
    }

    /// Names the file, and quotes the line.
    pub(super) fn quoting(mut self, file: &str, text: &str) -> Self {
        self.file = file.into();
        for word in std::mem::take(&mut self.words) {
            if let Some(place) = find(text, self.line, self.column, &word) {
                (self.line, self.column) = place;
            }
        }
        self.excerpt = line_of(text, self.line).map(str::to_owned);
        self
    }

    /// What the parser says of `text`.
    pub(super) fn of(error: &YamlError, text: &str) -> Self {
        let error = error.without_snippet();
        let (line, mut column) = error
            .location()
            .map_or((0, 0), |place| (place.line(), place.column()));
        let is_of_a_value = matches!(
            error,
            YamlError::SerdeInvalidType { .. } | YamlError::SerdeInvalidValue { .. }
        );
        if let (true, Some(text)) = (is_of_a_value, line_of(text, line)) {
            column += value_after_key(text, column);
        }
        Self {
            line,
            column,
            ..Self::whole("", message(error))
        }
    }
}

fn line_of(text: &str, line: u64) -> Option<&str> {
    text.lines()
        .nth(usize::try_from(line).ok()?.checked_sub(1)?)
}

/// The place of the first `word` at a place of `text` or behind it: a whole one, not a part of another.
fn find(text: &str, line: u64, column: u64, word: &str) -> Option<(u64, u64)> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let first = usize::try_from(line).ok()?.checked_sub(1)?;
    for (number, text) in text.lines().enumerate().skip(first) {
        let before = if number == first {
            column.saturating_sub(1)
        } else {
            0
        };
        let skipped: usize = text
            .chars()
            .take(usize::try_from(before).ok()?)
            .map(char::len_utf8)
            .sum();
        let found = text[skipped..].match_indices(word).find(|(at, word)| {
            let at = at + skipped;
            let (before, behind) = (&text[..at], &text[at + word.len()..]);
            !before.ends_with(is_part) && !behind.starts_with(is_part)
        });
        if let Some((at, _)) = found {
            let column = text[..at + skipped].chars().count() + 1;
            return Some((number as u64 + 1, column as u64));
        }
    }
    None
}

/// An error in words for people: what was being done, and why it did not work.
pub(crate) fn story(error: &Error) -> String {
    let mut text = error.what().unwrap_or_else(|| error.name()).to_owned();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}

/// The texts that `message` quotes: it tells of values that it has been given.
pub(super) fn quoted(message: &str) -> Option<String> {
    let (_, behind) = message.split_once('"')?;
    let mut escaped = false;
    let end = behind.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    serde_json::from_str(&format!("\"{}\"", &behind[..end])).ok()
}

/// How far behind `column` of `line` the value starts whose key is there; 0 where no key is, or its value is on another
/// line. The parser only knows of keys.
fn value_after_key(line: &str, column: u64) -> u64 {
    let start = usize::try_from(column).unwrap_or(1).saturating_sub(1);
    let from: String = line.chars().skip(start).collect();
    let Some((key, behind)) = from.split_once(':') else {
        return 0;
    };
    let value = behind.trim_start();
    let is_key = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_key || value.len() == behind.len() || value.is_empty() || value.starts_with('#') {
        return 0;
    }
    (from.len() - value.len()) as u64
}

/// The error in our words where serde's can be bettered.
fn message(error: &YamlError) -> String {
    match error {
        YamlError::SerdeUnknownField {
            field, expected, ..
        } => unknown("key", field, expected, "keys here"),
        YamlError::SerdeUnknownVariant {
            variant, expected, ..
        } => unknown("value", variant, expected, "values here"),
        YamlError::PropertyRequiredButUnset { name, message, .. }
        | YamlError::PropertyRequiredButEmpty { name, message, .. }
            if !message.is_empty() =>
        {
            format!("{name}: {}", message.escape_debug())
        }
        YamlError::PropertyRequiredButEmpty { name, .. } => {
            format!("the environment's variable {name} is empty")
        }
        YamlError::PropertyRequiredButUnset { name, .. } => format!(
            "the environment has no variable {name}; ${{{name}:-DEFAULT}} would give it a default"
        ),
        YamlError::InvalidPropertyName { name, .. } => {
            format!("{} names no environment variable", name.escape_debug())
        }
        error => UserMessageFormatter.format_message(error).into_owned(),
    }
}

fn unknown(what: &str, word: &str, expected: &[&str], list: &str) -> String {
    let word = word.escape_debug();
    match closest(&word.to_string(), expected) {
        Some(near) => format!("unknown {what} `{word}`; did you mean `{near}`?"),
        None => format!("unknown {what} `{word}`; {list}: {}", expected.join(", ")),
    }
}

/// The one that `word` was most likely meant to be.
pub(super) fn closest<'a>(word: &str, among: &[&'a str]) -> Option<&'a str> {
    // Below this, Jaro and Winkler's measure finds likeness in words that only share letters.
    const ALIKE: f64 = 0.8;
    among
        .iter()
        .map(|known| (strsim::jaro_winkler(word, known), *known))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            message,
            excerpt,
            ..
        } = self;
        if *line == 0 {
            return write!(f, "{file}: {message}");
        }
        write!(f, "{file}:{line}:{column}: {message}")?;
        if let Some(excerpt) = excerpt {
            let number = line.to_string();
            let gutter = " ".repeat(number.len());
            let before = " ".repeat(usize::try_from(*column).unwrap_or(1).saturating_sub(1));
            let shown: String = excerpt
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect();
            write!(
                f,
                "\n {gutter} |\n {number} | {shown}\n {gutter} | {before}^"
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_behind_their_keys() {
        for (line, column, distance) in [
            ("drain_timeout: soon", 1, 15),
            ("    stream: {keepalive:   x}", 14, 13),
            ("  - 'a: b'", 5, 0),
            ("key:", 1, 0),
            ("key: # comment", 1, 0),
            ("key:value", 1, 0),
            ("value", 1, 0),
            ("", 1, 0),
        ] {
            assert_eq!(value_after_key(line, column), distance, "{line}");
        }
    }

    #[test]
    fn words_are_found_at_their_place_or_behind_it() {
        let text = "a: b\n  c: [bb, b]\n\u{e9}: x.pem\n";
        assert_eq!(find(text, 1, 1, "b"), Some((1, 4)));
        assert_eq!(find(text, 1, 5, "b"), Some((2, 11)));
        assert_eq!(find(text, 2, 1, "b"), Some((2, 11)));
        assert_eq!(find(text, 1, 1, "x.pem"), Some((3, 4)));
        assert_eq!(find(text, 1, 1, "pem"), None);
        assert_eq!(find(text, 9, 1, "b"), None);
        assert_eq!(find(text, 0, 0, "b"), None);
    }

    #[test]
    fn what_is_quoted_is_read() {
        assert_eq!(quoted(r#"the "a\\d(\"" is wrong"#), Some("a\\d(\"".into()));
        assert_eq!(quoted("nothing"), None);
        assert_eq!(quoted("an \"open end"), None);
    }

    #[test]
    fn what_was_meant_is_found() {
        let known = ["listen", "name", "stream", "egress", "http"];
        assert_eq!(closest("lisen", &known), Some("listen"));
        assert_eq!(closest("egres", &known), Some("egress"));
        assert_eq!(closest("zebra", &known), None);
    }
}
