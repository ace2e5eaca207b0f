//! Prometheus's text format, version 0.0.4.

use std::fmt::{Display, Write};

/// A page in the making.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// Begins a family of metrics.
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.add(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// Adds a sample to the family that was begun last.
    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.add(format_args!("{name}"));
        for (index, (label, text)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            self.add(format_args!("{label}=\""));
            for c in text.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        self.add(format_args!(" {value}\n"));
    }

    /// The page.
    pub(super) fn into_text(self) -> String {
        self.0
    }

    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to memory does not fail.
        let _ = self.0.write_fmt(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.family("a_total", "counter", "Some.");
        page.sample("a_total", &[("b", "x\"y\\z\n"), ("c", "d")], 7);
        page.sample("a_total", &[], 0.5);
        assert_eq!(
            page.into_text(),
            "# HELP a_total Some.\n# TYPE a_total counter\n\
             a_total{b=\"x\\\"y\\\\z\\n\",c=\"d\"} 7\na_total 0.5\n"
        );
    }
}
