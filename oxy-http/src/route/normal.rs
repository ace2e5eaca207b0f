//! The form of a path in which routes match it.

use std::borrow::Cow;

use crate::semantics::normalise;

/// The path has no normal form, or one that origins do not agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ambiguous;

/// `path` (without its query) as RFC 3986 section 6.2.2 normalises it, with runs of slashes made one. Nothing is copied
/// of a path that is in that form already.
///
/// What is matched must be what the origin sees, or a route that guards a path could be walked around. So a path is
/// refused where there is no saying what an origin makes of it: a percent sign that begins no escape, NUL, a dot segment
/// behind what some take for a slash (`%2F`, `\`, `%5C`) or before a `;`, and `..` after an empty segment, which is taken
/// back by some and merged by others. With `strict`, so is whatever some take for a slash.
pub(super) fn path(path: &[u8], strict: bool) -> Result<Cow<'_, [u8]>, Ambiguous> {
    if path.is_empty() {
        return Ok(Cow::Borrowed(b"/"));
    }
    if path[0] != b'/' || is_normal(path) {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = normalise::decoded(path).ok_or(Ambiguous)?;
    let mut out = Vec::with_capacity(decoded.len());
    let mut segments = decoded[1..].split(|&byte| byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            b"." => {}
            b".." => match memchr::memrchr(b'/', &out) {
                Some(parent) if parent + 1 == out.len() => return Err(Ambiguous),
                Some(parent) => out.truncate(parent),
                // No path climbs above its root.
                None => {}
            },
            segment => {
                check(segment, strict)?;
                out.push(b'/');
                out.extend_from_slice(segment);
                continue;
            }
        }
        if segments.peek().is_none() {
            out.push(b'/');
        }
    }
    out.dedup_by(|one, other| *one == b'/' && *other == b'/');
    Ok(Cow::Owned(out))
}

/// Whether nothing is in the path that could have to be changed. Without an early end, so that the compiler looks at
/// many bytes at once.
#[expect(
    clippy::needless_bitwise_bool,
    reason = "a lazy operator is a branch for each byte"
)]
fn is_normal(path: &[u8]) -> bool {
    let after = path.get(1..).unwrap_or_default();
    !path.iter().zip(after).fold(false, |found, (&one, &next)| {
        found
            | (next == b'%')
            | (next == b'\\')
            | ((one == b'/') & ((next == b'/') | (next == b'.')))
    })
}

fn check(segment: &[u8], strict: bool) -> Result<(), Ambiguous> {
    let (mut start, mut at) = (0, 0);
    while at < segment.len() {
        let width = match &segment[at..] {
            [b'\\', ..] => 1,
            [b'%', b'2', b'F', ..] | [b'%', b'5', b'C', ..] => 3,
            [b'%', b'0', b'0', ..] => return Err(Ambiguous),
            _ => {
                at += 1;
                continue;
            }
        };
        if strict || is_dots(&segment[start..at]) {
            return Err(Ambiguous);
        }
        at += width;
        start = at;
    }
    if is_dots(&segment[start..]) {
        return Err(Ambiguous);
    }
    Ok(())
}

fn is_dots(piece: &[u8]) -> bool {
    let name = piece.split(|&byte| byte == b';').next();
    matches!(name, Some(b"." | b".."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(text: &str, strict: bool) -> Option<String> {
        let path = path(text.as_bytes(), strict).ok()?;
        Some(String::from_utf8(path.into_owned()).unwrap())
    }

    #[test]
    fn paths() {
        for (from, to) in [
            ("", "/"),
            ("/", "/"),
            ("*", "*"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("/admin/../x", "/x"),
            ("/%61dmin", "/admin"),
            ("/x/%2e%2e/admin", "/admin"),
            ("/x/.%2E/admin", "/admin"),
            ("//admin", "/admin"),
            ("/a//b///c//", "/a/b/c/"),
            ("/a//./b", "/a/b"),
            ("/./admin", "/admin"),
            ("/..", "/"),
            ("/../../etc", "/etc"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/a/b/../c", "/a/c"),
            ("/a//b/../c", "/a/c"),
            ("/...", "/..."),
            ("/.a/..b", "/.a/..b"),
            ("/a;b/c", "/a;b/c"),
            ("/%c3%a9", "/%C3%A9"),
            ("/a%2fb", "/a%2Fb"),
            ("/%252e%252e/a", "/%252e%252e/a"),
            ("/a%20..%2Fb", "/a%20..%2Fb"),
            ("/a\\b", "/a\\b"),
        ] {
            assert_eq!(normal(from, false).as_deref(), Some(to), "{from}");
        }
    }

    #[test]
    fn what_origins_do_not_agree_on_is_refused() {
        for text in [
            "/%",
            "/%4",
            "/%zz/../admin",
            "/a%00",
            "/a%00/b",
            "/x%2F%00",
            "/public/..%2fadmin",
            "/public%2F..%2Fadmin",
            "/public/..%5Cadmin",
            "/public\\..\\admin",
            "/public/..\\admin",
            "/a%2f.",
            "/x/..;/admin",
            "/x/..;a=b/admin",
            "/.;/admin",
            "/..;%20/admin",
            "/%2e%2e;/admin",
            "/x//../admin",
            "//../admin",
        ] {
            assert_eq!(normal(text, false), None, "{text}");
        }
        for text in ["/a%2Fb", "/a%5cb", "/a\\b", "/\\", "/%2f"] {
            assert!(normal(text, false).is_some(), "{text}");
            assert_eq!(normal(text, true), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn it_is_the_normal_form_with_slashes_merged(text in "/[ab./%2eE5cC;\\\\]{0,16}") {
            let mut reference = Vec::new();
            normalise::path(text.as_bytes(), &mut reference);
            reference.dedup_by(|one, other| *one == b'/' && *other == b'/');
            if let Some(normal) = normal(&text, false) {
                prop_assert_eq!(normal.as_bytes(), &reference[..]);
                let again = path(normal.as_bytes(), false).unwrap();
                prop_assert_eq!(&*again, normal.as_bytes());
                prop_assert!(!normal.contains("//"));
                prop_assert!(!normal.split('/').any(|part| part == "." || part == ".."));
            }
        }

        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..40), strict: bool) {
            let _ = path(&bytes, strict);
            let _ = path(&[b"/", &bytes[..]].concat(), strict);
        }
    }
}
