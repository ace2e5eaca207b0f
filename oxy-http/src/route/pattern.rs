//! Which paths a route is for.

use regex::bytes::Regex;

use super::captures::{MAX, Names};
use super::normal;
use super::spec::MatchSpec;
use super::text;

/// Which paths a route is for.
#[derive(Clone, Debug)]
pub(super) enum Pattern {
    /// Every one, `*` too.
    Any,
    /// This one.
    Path(Box<[u8]>),
    /// This one, which does not end with a slash, and what is below it. Empty for all that have a slash.
    Prefix(Box<[u8]>),
    /// Segments, and whether there may be more behind them.
    Template { segments: Vec<Segment>, rest: bool },
    /// What the regular expression matches.
    Regex(Regex),
}

/// A segment of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(Box<[u8]>),
    Name,
}

impl Pattern {
    /// Reads what `spec` says about the path, and what that captures.
    pub(super) fn read(spec: &MatchSpec) -> Result<(Self, Names), String> {
        match (&spec.path, &spec.prefix, &spec.template, &spec.regex) {
            (None, None, None, None) => Ok((Self::Any, Names::default())),
            (Some(path), None, None, None) => {
                literal("path", path)?;
                Ok((Self::Path(path.as_bytes().into()), Names::default()))
            }
            (None, Some(prefix), None, None) => {
                literal("prefix", prefix)?;
                let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
                Ok((Self::Prefix(prefix.as_bytes().into()), Names::default()))
            }
            (None, None, Some(template), None) => Self::template(template),
            (None, None, None, Some(text)) => {
                let regex = regex(text)?;
                let names = Names::of_regex(&regex);
                check_names(&names)?;
                Ok((Self::Regex(regex), names))
            }
            _ => Err("has more than one of path, prefix, template and regex".into()),
        }
    }

    fn template(text: &str) -> Result<(Self, Names), String> {
        let bad = |why: &str| Err(format!("the template {text:?} {why}"));
        let Some(inner) = text.strip_prefix('/') else {
            return bad("does not begin with a slash");
        };
        let mut segments = Vec::new();
        let mut names = Vec::new();
        let mut shape = String::new();
        let mut rest = false;
        for segment in inner.split('/') {
            if rest {
                return bad("goes on after what captures the rest");
            }
            shape.push('/');
            let Some(name) = segment.strip_prefix('{') else {
                if segment.contains(['{', '}']) {
                    return bad(
                        "has a name for a part of a segment; a regular expression can do that",
                    );
                }
                shape.push_str(segment);
                segments.push(Segment::Literal(segment.as_bytes().into()));
                continue;
            };
            let Some(name) = name.strip_suffix('}') else {
                return bad("has a name for a part of a segment; a regular expression can do that");
            };
            // What stands for it where the text is checked for being normal.
            shape.push('x');
            let name = if let Some(name) = name.strip_prefix('*') {
                rest = true;
                name
            } else {
                segments.push(Segment::Name);
                name
            };
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty()
                || !name.chars().all(is_word)
                || name.starts_with(|c: char| c.is_ascii_digit())
            {
                return bad("has a name that is not made of letters, digits and _");
            }
            if names.contains(&name) {
                return bad("has a name twice");
            }
            names.push(name);
        }
        literal("template", &shape).map_err(|_| {
            format!("the template {text:?} is not in normal form, so that no path can match it")
        })?;
        if names.is_empty() {
            return Ok((Self::Path(text.as_bytes().into()), Names::default()));
        }
        let names = Names::of_template(&names);
        check_names(&names)?;
        Ok((Self::Template { segments, rest }, names))
    }

    /// Whether all paths match that match `other`, which has the same place in the table.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.narrowness() <= other.narrowness()
    }

    fn narrowness(&self) -> u8 {
        match self {
            Self::Any => 0,
            Self::Prefix(_) => 1,
            _ => 2,
        }
    }
}

/// Whether a literal path can be matched at all.
fn literal(what: &str, text: &str) -> Result<(), String> {
    // OPTIONS has it (RFC 9112 section 3.2.4).
    if text == "*" && what == "path" {
        return Ok(());
    }
    if !text.starts_with('/') {
        return Err(format!("the {what} {text:?} does not begin with a slash"));
    }
    if let Some(bad) = text
        .chars()
        .find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#'))
    {
        return Err(format!(
            "the {what} {text:?} has {bad:?}, which no path has"
        ));
    }
    match normal::path(text.as_bytes(), false) {
        Ok(normal) if *normal == *text.as_bytes() => Ok(()),
        Ok(normal) => Err(format!(
            "the {what} {text:?} is not in normal form, so that no path can match it; write {:?}",
            String::from_utf8_lossy(&normal)
        )),
        Err(_) => Err(format!("the {what} {text:?} is one that is refused")),
    }
}

fn check_names(names: &Names) -> Result<(), String> {
    if names.len() > MAX {
        return Err(format!(
            "the path captures {} parts; {MAX} is the most (a group that need not be captured is written as (?:...))",
            names.len()
        ));
    }
    match names.iter().find(|name| text::is_variable(name)) {
        Some(name) => Err(format!("{{{name}}} cannot be captured: it is a variable")),
        None => Ok(()),
    }
}

/// How much memory a regular expression may take once compiled, and again for what is built while it runs. A quarter of
/// a MiB is enough for expressions that fill a screen, and a thousand of them still fit.
const REGEX_SIZE: usize = 256 * 1024;

/// A regular expression for the whole of a text. Its run time is linear in the text, whatever it is.
pub(super) fn regex(text: &str) -> Result<Regex, String> {
    // By itself first, so that an unbalanced one does not become balanced by what goes around it.
    free_regex(text)?;
    free_regex(&format!(r"\A(?:{text})\z"))
}

/// A regular expression that is searched for.
pub(super) fn free_regex(text: &str) -> Result<Regex, String> {
    regex::bytes::RegexBuilder::new(text)
        .unicode(false)
        .size_limit(REGEX_SIZE)
        .dfa_size_limit(REGEX_SIZE)
        .build()
        .map_err(|error| format!("the regular expression {text:?} cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(spec: &MatchSpec) -> String {
        match Pattern::read(spec) {
            Ok(pattern) => panic!("{pattern:?}"),
            Err(error) => error,
        }
    }

    #[test]
    fn what_no_path_can_match() {
        for (spec, part) in [
            (MatchSpec::path("a"), "begin with a slash"),
            (MatchSpec::path(""), "begin with a slash"),
            (MatchSpec::path("/a?b"), "'?'"),
            (MatchSpec::path("/a b"), "' '"),
            (MatchSpec::path("/\u{e9}"), "'\u{e9}'"),
            (MatchSpec::path("/a/../b"), "write \"/b\""),
            (MatchSpec::path("/%61"), "write \"/a\""),
            (MatchSpec::path("/a//b"), "write \"/a/b\""),
            (MatchSpec::path("/a%2fb"), "write \"/a%2Fb\""),
            (MatchSpec::path("/a%zz"), "refused"),
            (MatchSpec::prefix("*"), "begin with a slash"),
            (MatchSpec::prefix("/api//"), "write \"/api/\""),
            (MatchSpec::template("{a}"), "begin with a slash"),
            (MatchSpec::template("/{a}x"), "part of a segment"),
            (MatchSpec::template("/x{a}"), "part of a segment"),
            (MatchSpec::template("/a}"), "part of a segment"),
            (MatchSpec::template("/{a"), "part of a segment"),
            (MatchSpec::template("/{}"), "letters"),
            (MatchSpec::template("/{*}"), "letters"),
            (MatchSpec::template("/{1}"), "letters"),
            (MatchSpec::template("/{a-b}"), "letters"),
            (MatchSpec::template("/{a}/{a}"), "twice"),
            (MatchSpec::template("/{*a}/b"), "goes on"),
            (MatchSpec::template("/{*a}/"), "goes on"),
            (MatchSpec::template("/{a}//b"), "normal form"),
            (MatchSpec::template("/{a}/../b"), "normal form"),
            (MatchSpec::template("/{host}"), "variable"),
            (
                MatchSpec::template("/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}"),
                "9 parts",
            ),
            (MatchSpec::regex("("), "cannot be used"),
            (MatchSpec::regex("a)|(b"), "cannot be used"),
            (MatchSpec::regex("(a{100}){100}{100}"), "cannot be used"),
            (MatchSpec::regex("(?<path>a)"), "variable"),
            (MatchSpec::regex("()()()()()()()()()"), "9 parts"),
        ] {
            let error = error(&spec);
            assert!(error.contains(part), "{spec:?}: {error}");
        }
        let both = MatchSpec {
            path: Some("/a".into()),
            ..MatchSpec::prefix("/a")
        };
        assert!(error(&both).contains("more than one"));
    }

    #[test]
    fn the_short_form() {
        for (text, expected) in [
            ("/a", MatchSpec::path("/a")),
            ("/a/*", MatchSpec::prefix("/a")),
            ("/*", MatchSpec::prefix("/")),
            ("*", MatchSpec::any()),
            ("/users/{id}", MatchSpec::template("/users/{id}")),
            ("/files/{*rest}", MatchSpec::template("/files/{*rest}")),
        ] {
            assert_eq!(MatchSpec::from(text), expected, "{text}");
        }
    }

    #[test]
    fn a_template_without_names_is_a_path() {
        let (pattern, names) = Pattern::read(&MatchSpec::template("/a/b")).unwrap();
        assert!(matches!(pattern, Pattern::Path(path) if *path == *b"/a/b"));
        assert_eq!(names.len(), 0);
    }
}
