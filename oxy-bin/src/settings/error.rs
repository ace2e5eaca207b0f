//! What is wrong with a settings file, and where.

use std::fmt;

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
}

impl SettingsError {
    /// An error without a place, such as a file that cannot be read.
    pub(super) fn whole(file: &str, message: impl fmt::Display) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
            message: message.to_string(),
            excerpt: None,
        }
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
        self.excerpt = usize::try_from(self.line)
            .ok()
            .and_then(|line| text.lines().nth(line.checked_sub(1)?))
            .map(str::to_owned);
        self
    }

    pub(super) fn of(error: &YamlError) -> Self {
        let error = error.without_snippet();
        let (line, column) = error
            .location()
            .map_or((0, 0), |place| (place.line(), place.column()));
        Self {
            line,
            column,
            ..Self::whole("", message(error))
        }
    }
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
        YamlError::UnresolvedProperty { name, .. } => format!(
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
fn closest<'a>(word: &str, among: &[&'a str]) -> Option<&'a str> {
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
    fn what_was_meant_is_found() {
        let known = ["listen", "name", "stream", "egress", "http"];
        assert_eq!(closest("lisen", &known), Some("listen"));
        assert_eq!(closest("egres", &known), Some("egress"));
        assert_eq!(closest("zebra", &known), None);
    }
}
