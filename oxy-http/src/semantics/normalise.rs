//! Writing a path in its normal form, where a policy asks for that.

/// Appends `path` (with its query, which is left alone) to `out` as RFC 3986 section 6.2.2 normalises it: escapes of
/// unreserved characters are decoded, the others get upper-case digits, and dot segments are removed. Runs of slashes
/// stay: to some origins they mean something. A path with a percent sign that begins no escape has no normal form, and
/// is left alone: what decoding makes of its neighbours might be an escape itself.
pub(crate) fn path(path: &[u8], out: &mut Vec<u8>) {
    let end = memchr::memchr(b'?', path).unwrap_or(path.len());
    let (path, query) = path.split_at(end);
    match decoded(path) {
        Some(decoded) if decoded.first() == Some(&b'/') => without_dots(&decoded, out),
        _ => out.extend_from_slice(path),
    }
    out.extend_from_slice(query);
}

pub(crate) fn decoded(path: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            out.push(byte);
            rest = tail;
            continue;
        }
        let [high, low, after @ ..] = tail else {
            return None;
        };
        let code = digit(*high)? << 4 | digit(*low)?;
        if is_unreserved(code) {
            out.push(code);
        } else {
            out.extend_from_slice(&[b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]);
        }
        rest = after;
    }
    Some(out)
}

/// RFC 3986 section 5.2.4. No path climbs above its root.
fn without_dots(path: &[u8], out: &mut Vec<u8>) {
    let root = out.len();
    let mut segments = path[1..].split(|&byte| byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"." => {}
            b".." => {
                let kept = &out[root..];
                let parent = memchr::memrchr(b'/', kept).unwrap_or(0);
                out.truncate(root + parent);
            }
            segment => {
                out.push(b'/');
                out.extend_from_slice(segment);
                continue;
            }
        }
        if is_last {
            out.push(b'/');
        }
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(text: &str) -> String {
        let mut out = b"GET ".to_vec();
        path(text.as_bytes(), &mut out);
        String::from_utf8(out.split_off(4)).unwrap()
    }

    #[test]
    fn paths() {
        for (from, to) in [
            ("/", "/"),
            ("/a/./b/../c", "/a/c"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/../../etc", "/etc"),
            ("/..", "/"),
            ("/%2e%2E/a", "/a"),
            ("/%7euser/%c3%a9%2f", "/~user/%C3%A9%2F"),
            ("/a//b/", "/a//b/"),
            ("/a//../b", "/a/b"),
            ("/...", "/..."),
            ("/a%zz/../%4", "/a%zz/../%4"),
            ("/%%32e./", "/%%32e./"),
            ("/a?x=/../%2e", "/a?x=/../%2e"),
            ("?q", "?q"),
            ("*", "*"),
            ("", ""),
        ] {
            assert_eq!(normal(from), to, "{from}");
        }
    }

    proptest! {
        #[test]
        fn what_is_normal_stays(text in "/[a./%2eE?]{0,24}") {
            let once = normal(&text);
            prop_assert!(once.starts_with('/'));
            let path = once.split('?').next().unwrap();
            if decoded(path.as_bytes()).is_some() {
                prop_assert!(!path.split('/').any(|segment| segment == ".." || segment == "."));
            }
            prop_assert_eq!(normal(&once), once);
        }
    }
}
