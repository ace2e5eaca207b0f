//! Puts the tables into a page, so that no figure there is written by hand.

use std::fs;
use std::path::PathBuf;

/// The place for tables that goes by no other name.
pub(crate) const PLACE: &str = "peers";

/// What stands before the tables, and what after them.
fn marks(place: &str) -> [String; 2] {
    ["begin", "end"].map(|end| format!("<!-- {place}: {end} -->"))
}

/// The page of this workspace.
pub(crate) const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance.md");

/// A page with a place for the tables.
#[derive(Debug)]
pub(crate) struct Page {
    path: PathBuf,
    place: String,
}

impl Page {
    /// Fails if the page has no place for the tables, which is better known before they are made.
    pub(crate) fn find(path: PathBuf, place: &str) -> Result<Self, String> {
        let place = place.to_owned();
        let page = Self { path, place };
        page.with("").map(|_| page)
    }

    /// Replaces what stands in that place.
    pub(crate) fn write(&self, tables: &str) -> Result<(), String> {
        fs::write(&self.path, self.with(tables)?).map_err(|error| self.failed(&error))
    }

    fn with(&self, tables: &str) -> Result<String, String> {
        let page = fs::read_to_string(&self.path).map_err(|error| self.failed(&error))?;
        replace(&page, &self.place, tables).ok_or_else(|| {
            let [begin, end] = marks(&self.place);
            self.failed(&format!("it lacks {begin} and, after it, {end}"))
        })
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> String {
        format!("{}: {error}", self.path.display())
    }
}

/// `page` with `tables` between the two marks of `place`.
fn replace(page: &str, place: &str, tables: &str) -> Option<String> {
    let [begin, end] = marks(place);
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    let tables = tables.trim();
    Some(format!("{before}{begin}\n\n{tables}\n\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::{PAGE, PLACE, Page, replace};

    const TEXT: &str = "a\n<!-- peers: begin -->\nold\n<!-- peers: end -->\nb\n";

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let once = replace(TEXT, PLACE, "new\n").unwrap();
        assert_eq!(
            once,
            "a\n<!-- peers: begin -->\n\nnew\n\n<!-- peers: end -->\nb\n"
        );
        assert_eq!(replace(&once, PLACE, "new").unwrap(), once);
    }

    #[test]
    fn the_page_has_its_markers() {
        for place in [PLACE, "conn", "idle", "scale"] {
            assert!(Page::find(PAGE.into(), place).is_ok(), "{place}");
        }
    }

    #[test]
    fn both_markers_are_needed_in_order() {
        assert_eq!(replace("a\n<!-- peers: begin -->\n", PLACE, "new"), None);
        assert_eq!(
            replace("<!-- peers: end --><!-- peers: begin -->", PLACE, "new"),
            None
        );
    }
}
