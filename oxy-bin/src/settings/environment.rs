//! `${NAME}` in a settings file.
//!
//! The parser fills variables in once it knows what a scalar is, so that a variable is always one value, whatever is in
//! it. Of the syntaxes that it has, the one that looks into quotes too takes a variable that is not set for an empty one,
//! and reads `$NAME` without braces. So what it is given is marked first: `${NAME?}`, which must be set, and `$$NAME`,
//! which is a dollar sign.

/// A text that is ready for the parser, and where it differs from the file's.
#[derive(Debug)]
pub(super) struct Marked {
    /// The text.
    pub(super) text: String,
    /// Line and column, both from 1, of each character that was added.
    added: Vec<(u64, u64)>,
}

impl Marked {
    /// Marks the variables in `text`.
    pub(super) fn of(text: &str) -> Self {
        let mut marker = Marker {
            marked: Self {
                text: String::with_capacity(text.len() + 16),
                added: Vec::new(),
            },
            line: 1,
            column: 1,
        };
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            let (before, from) = rest.split_at(dollar);
            marker.copy(before);
            rest = if let Some(behind) = from.strip_prefix("$$") {
                marker.copy("$$");
                behind
            } else if let Some(name) = from.strip_prefix("${") {
                let end = name
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(name.len());
                let (reference, behind) = from.split_at("${".len() + end);
                marker.copy(reference);
                // What has a default, or another condition, says itself what is to be done without it.
                if end > 0 && behind.starts_with('}') {
                    marker.add('?');
                }
                behind
            } else {
                marker.add('$');
                marker.copy("$");
                &from[1..]
            };
        }
        marker.copy(rest);
        marker.marked
    }

    /// The column in the file of what is at `column` of the marked text's `line`.
    pub(super) fn column(&self, line: u64, column: u64) -> u64 {
        let before = self
            .added
            .iter()
            .filter(|(on, at)| *on == line && *at < column);
        column - before.count() as u64
    }

    /// A message about the marked text in terms of the file's.
    pub(super) fn message(message: &str) -> String {
        message.replace("?}", "}")
    }
}

struct Marker {
    marked: Marked,
    line: u64,
    column: u64,
}

impl Marker {
    fn copy(&mut self, text: &str) {
        for c in text.chars() {
            if c == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.marked.text.push_str(text);
    }

    fn add(&mut self, c: char) {
        self.marked.added.push((self.line, self.column));
        self.marked.text.push(c);
        self.column += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_marked_as_required() {
        for (text, marked) in [
            ("a: ${B}", "a: ${B?}"),
            ("a: '${B}-${C}'", "a: '${B?}-${C?}'"),
            ("a: ${B:-c}", "a: ${B:-c}"),
            ("a: ${B:-${C}}", "a: ${B:-${C?}}"),
            ("a: $B", "a: $$B"),
            ("a: $$B", "a: $$B"),
            ("a: $${B}", "a: $${B}"),
            ("a: ${", "a: ${"),
            ("a: ${}", "a: ${}"),
            ("a: $", "a: $$"),
            ("", ""),
        ] {
            assert_eq!(Marked::of(text).text, marked, "{text}");
        }
    }

    #[test]
    fn columns_are_those_of_the_file() {
        let marked = Marked::of("x: 1\ny: ['${\u{e9}}', '${A}', '${B}', z]\n");
        let line = marked.text.lines().nth(1).unwrap();
        let at = line.chars().position(|c| c == 'z').unwrap() as u64 + 1;
        let original = "y: ['${\u{e9}}', '${A}', '${B}', z]";
        let expected = original.chars().position(|c| c == 'z').unwrap() as u64 + 1;
        assert_eq!(marked.column(2, at), expected);
        assert_eq!(marked.column(1, at), at);
    }
}
