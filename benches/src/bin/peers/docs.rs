//! Puts the tables into a page, so that no figure there is written by hand.

use std::fs;
use std::path::PathBuf;

/// What stands before the tables.
const BEGIN: &str = "<!-- peers: begin -->";

/// What stands after them.
const END: &str = "<!-- peers: end -->";

/// The page of this workspace.
pub(crate) const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance.md");

/// A page with a place for the tables.
#[derive(Debug)]
pub(crate) struct Page(PathBuf);

impl Page {
    /// Fails if the page has no place for the tables, which is better known before they are made.
    pub(crate) fn find(path: PathBuf) -> Result<Self, String> {
        let page = Self(path);
        page.with("").map(|_| page)
    }

    /// Replaces what stands in that place.
    pub(crate) fn write(&self, tables: &str) -> Result<(), String> {
        fs::write(&self.0, self.with(tables)?).map_err(|error| self.failed(&error))
    }

    fn with(&self, tables: &str) -> Result<String, String> {
        let page = fs::read_to_string(&self.0).map_err(|error| self.failed(&error))?;
        replace(&page, tables)
            .ok_or_else(|| self.failed(&format!("it lacks {BEGIN} and, after it, {END}")))
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> String {
        format!("{}: {error}", self.0.display())
    }
}

/// `page` with `tables` between the two markers.
fn replace(page: &str, tables: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    let tables = tables.trim();
    Some(format!("{before}{BEGIN}\n\n{tables}\n\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::{PAGE, Page, replace};

    const TEXT: &str = "a\n<!-- peers: begin -->\nold\n<!-- peers: end -->\nb\n";

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let once = replace(TEXT, "new\n").unwrap();
        assert_eq!(
            once,
            "a\n<!-- peers: begin -->\n\nnew\n\n<!-- peers: end -->\nb\n"
        );
        assert_eq!(replace(&once, "new").unwrap(), once);
    }

    #[test]
    fn the_page_has_its_markers() {
        assert!(Page::find(PAGE.into()).is_ok());
    }

    #[test]
    fn both_markers_are_needed_in_order() {
        assert_eq!(replace("a\n<!-- peers: begin -->\n", "new"), None);
        assert_eq!(
            replace("<!-- peers: end --><!-- peers: begin -->", "new"),
            None
        );
    }
}
