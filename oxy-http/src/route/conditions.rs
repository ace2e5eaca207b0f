//! What else must hold of a request, apart from its host and path.

use http::header::HOST;
use http::{HeaderName, Method};
use regex::bytes::Regex;

use super::pattern;
use super::spec::{HeaderMatch, MatchSpec, QueryMatch};
use super::text;
use super::view::View;

/// What else must hold of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    /// One of these, or any if there are none.
    pub(super) methods: Vec<Method>,
    headers: Vec<Header>,
    query: Vec<Parameter>,
    /// What tells sets of conditions apart: whatever has the same text holds for the same requests.
    key: String,
}

#[derive(Clone, Debug)]
struct Header {
    name: HeaderName,
    test: Test,
    not: bool,
}

#[derive(Clone, Debug)]
struct Parameter {
    name: Box<[u8]>,
    test: Test,
    not: bool,
}

#[derive(Clone, Debug)]
enum Test {
    Present,
    Exact(Texts),
    Prefix(Texts),
    Suffix(Texts),
    Contains(Texts),
    Regex(Regex),
}

type Texts = Box<[String]>;

impl Conditions {
    pub(super) fn read(spec: &MatchSpec) -> Result<Self, String> {
        let mut methods = Vec::new();
        for text in &spec.methods {
            let method = Method::from_bytes(text.as_bytes())
                .map_err(|_| format!("{text:?} is not a method"))?;
            // Methods are case-sensitive (RFC 9110 section 9.1), and nobody means one in small letters.
            if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
                let upper = text.to_ascii_uppercase();
                return Err(format!(
                    "methods have capital letters: write {upper} for {text}"
                ));
            }
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        let headers = spec
            .headers
            .iter()
            .map(Header::read)
            .collect::<Result<_, _>>()?;
        let query = spec
            .query
            .iter()
            .map(Parameter::read)
            .collect::<Result<_, _>>()?;
        let mut names: Vec<_> = methods.iter().map(Method::as_str).collect();
        names.sort_unstable();
        Ok(Self {
            key: format!("{names:?} {:?} {:?}", spec.headers, spec.query),
            methods,
            headers,
            query,
        })
    }

    /// Whether they hold for every request.
    pub(super) fn is_empty(&self) -> bool {
        self.methods.is_empty() && self.headers.is_empty() && self.query.is_empty()
    }

    /// What tells sets of conditions apart.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn method_holds(&self, view: &dyn View) -> bool {
        self.methods.is_empty()
            || self
                .methods
                .iter()
                .any(|method| method.as_str().as_bytes() == view.method())
    }

    /// Whether all of them hold but for the method.
    pub(super) fn rest_holds(&self, view: &dyn View) -> bool {
        self.headers.iter().all(|header| header.holds(view))
            && (self.query.is_empty() || {
                let query = text::query(view.path()).unwrap_or_default();
                self.query.iter().all(|parameter| parameter.holds(query))
            })
    }
}

impl Header {
    fn read(spec: &HeaderMatch) -> Result<Self, String> {
        let name = HeaderName::from_bytes(spec.name.as_bytes())
            .map_err(|_| format!("{:?} is not the name of a field", spec.name))?;
        if name == HOST {
            return Err("the host is matched by the virtual host's hosts, not by a field".into());
        }
        let lists = [&spec.exact, &spec.prefix, &spec.suffix, &spec.contains];
        let tests: [fn(Texts) -> Test; 4] =
            [Test::Exact, Test::Prefix, Test::Suffix, Test::Contains];
        let mut found = lists
            .into_iter()
            .zip(tests)
            .filter(|(list, _)| !list.is_empty())
            .map(|(list, test)| test(list.clone().into()))
            .collect::<Vec<_>>();
        let (test, not) = single(&mut found, spec.regex.as_deref(), spec.present)
            .map_err(|why| format!("the condition on the field {name} {why}"))?;
        Ok(Self {
            name,
            test,
            not: not != spec.not,
        })
    }

    fn holds(&self, view: &dyn View) -> bool {
        let mut found = false;
        view.values(&self.name, &mut |value| {
            found = self.test.holds(value);
            !found
        });
        found != self.not
    }
}

impl Parameter {
    fn read(spec: &QueryMatch) -> Result<Self, String> {
        let mut found = Vec::new();
        if !spec.exact.is_empty() {
            found.push(Test::Exact(spec.exact.clone().into()));
        }
        let (test, not) = single(&mut found, spec.regex.as_deref(), spec.present)
            .map_err(|why| format!("the condition on the parameter {:?} {why}", spec.name))?;
        Ok(Self {
            name: spec.name.as_bytes().into(),
            test,
            not: not != spec.not,
        })
    }

    fn holds(&self, query: &[u8]) -> bool {
        let found = parameters(query).any(|(name, value)| {
            decoded(name).eq(self.name.iter().copied())
                && match &self.test {
                    Test::Present => true,
                    Test::Exact(texts) => texts.iter().any(|text| decoded(value).eq(text.bytes())),
                    test => test.holds(&decoded(value).collect::<Vec<_>>()),
                }
        });
        found != self.not
    }
}

/// The one test that there must be, and whether its opposite is meant.
fn single(
    found: &mut Vec<Test>,
    regex: Option<&str>,
    present: Option<bool>,
) -> Result<(Test, bool), String> {
    if let Some(text) = regex {
        let regex = pattern::regex(text).map_err(|error| format!("is wrong: {error}"))?;
        found.push(Test::Regex(regex));
    }
    if present.is_some() {
        found.push(Test::Present);
    }
    match (found.pop(), found.is_empty()) {
        (Some(test), true) => Ok((test, present == Some(false))),
        (None, _) => Err("does not say what it has to be".into()),
        _ => Err("says more than one thing; write one for each".into()),
    }
}

impl Test {
    fn holds(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(texts) => texts.iter().any(|text| text.as_bytes() == value),
            Self::Prefix(texts) => texts.iter().any(|text| value.starts_with(text.as_bytes())),
            Self::Suffix(texts) => texts.iter().any(|text| value.ends_with(text.as_bytes())),
            Self::Contains(texts) => texts
                .iter()
                .any(|text| memchr::memmem::find(value, text.as_bytes()).is_some()),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// The parameters of a query, as forms are encoded.
pub(super) fn parameters(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    query
        .split(|&byte| byte == b'&')
        .filter(|part| !part.is_empty())
        .map(|part| match memchr::memchr(b'=', part) {
            Some(at) => (&part[..at], &part[at + 1..]),
            None => (part, &part[part.len()..]),
        })
}

/// `text` without its escapes; a plus sign is a space. What begins no escape stands for itself.
pub(super) fn decoded(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (byte, after) = match rest {
            [] => return None,
            [b'+', after @ ..] => (b' ', after),
            [b'%', high, low, after @ ..] => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', &rest[1..]),
            },
            [byte, after @ ..] => (*byte, after),
        };
        rest = after;
        Some(byte)
    })
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::super::probe::Probe;
    use super::*;

    fn holds(spec: &MatchSpec, probe: &Probe) -> bool {
        let conditions = Conditions::read(spec).unwrap();
        conditions.method_holds(probe) && conditions.rest_holds(probe)
    }

    #[test]
    fn fields() {
        let probe = Probe::get("a", "/").field("x", "one").field("x", "two");
        for (header, expected) in [
            (HeaderMatch::exact("X", "one"), true),
            (HeaderMatch::exact("x", "two"), true),
            (HeaderMatch::exact("x", "Two"), false),
            (HeaderMatch::exact("x", "tw"), false),
            (HeaderMatch::exact("y", ""), false),
            (HeaderMatch::prefix("x", "tw"), true),
            (HeaderMatch::prefix("x", "wo"), false),
            (HeaderMatch::suffix("x", "wo"), true),
            (HeaderMatch::suffix("x", "tw"), false),
            (HeaderMatch::contains("x", "n"), true),
            (HeaderMatch::contains("x", "z"), false),
            (HeaderMatch::regex("x", "t.o"), true),
            (HeaderMatch::regex("x", "t."), false),
            (HeaderMatch::present("x"), true),
            (HeaderMatch::present("y"), false),
            (HeaderMatch::absent("x"), false),
            (HeaderMatch::absent("y"), true),
        ] {
            assert_eq!(
                holds(&MatchSpec::any().header(header.clone()), &probe),
                expected,
                "{header:?}"
            );
            let not = header.negate();
            assert_eq!(
                holds(&MatchSpec::any().header(not.clone()), &probe),
                !expected,
                "{not:?}"
            );
        }
        let several = HeaderMatch {
            exact: vec!["zero".into(), "two".into()],
            ..HeaderMatch::of_name("x")
        };
        assert!(holds(&MatchSpec::any().header(several), &probe));
    }

    #[test]
    fn parameters_of_a_query() {
        for (path, query, expected) in [
            ("/?a=1&b=2", QueryMatch::exact("b", "2"), true),
            ("/?a=1&b=2", QueryMatch::exact("b", "1"), false),
            ("/?b=1&b=2", QueryMatch::exact("b", "2"), true),
            ("/?b", QueryMatch::exact("b", ""), true),
            ("/?b", QueryMatch::present("b"), true),
            ("/?bb=1", QueryMatch::present("b"), false),
            ("/b=1", QueryMatch::present("b"), false),
            ("/?", QueryMatch::present(""), false),
            ("/?=1", QueryMatch::present(""), true),
            ("/?%62=%31", QueryMatch::exact("b", "1"), true),
            ("/?b=a+b%26", QueryMatch::exact("b", "a b&"), true),
            ("/?b=%zz%2", QueryMatch::exact("b", "%zz%2"), true),
            ("/?b=a=b", QueryMatch::exact("b", "a=b"), true),
            ("/?b=%34%32", QueryMatch::regex("b", "[0-9]+"), true),
            ("/?b=4x", QueryMatch::regex("b", "[0-9]+"), false),
        ] {
            let probe = Probe::get("a", path);
            assert_eq!(
                holds(&MatchSpec::any().query(query.clone()), &probe),
                expected,
                "{path}"
            );
            assert_eq!(
                holds(&MatchSpec::any().query(query.negate()), &probe),
                !expected,
                "{path}"
            );
        }
        let absent = QueryMatch {
            present: Some(false),
            ..QueryMatch::present("b")
        };
        assert!(holds(
            &MatchSpec::any().query(absent),
            &Probe::get("a", "/")
        ));
    }

    #[test]
    fn all_must_hold() {
        let spec = MatchSpec::any()
            .method("POST")
            .method("PUT")
            .header(HeaderMatch::exact("a", "1"))
            .header(HeaderMatch::exact("b", "2"))
            .query(QueryMatch::present("c"));
        let full = Probe::new("PUT", "h", "/?c")
            .field("a", "1")
            .field("b", "2");
        assert!(holds(&spec, &full));
        assert!(!holds(
            &spec,
            &Probe {
                method: "put".into(),
                ..full.clone()
            }
        ));
        assert!(!holds(
            &spec,
            &Probe {
                path: b"/".to_vec(),
                ..full.clone()
            }
        ));
        let fields = vec![("a".into(), "1".into())];
        assert!(!holds(&spec, &Probe { fields, ..full }));
    }

    #[test]
    fn what_is_wrong() {
        let two = HeaderMatch {
            present: Some(true),
            ..HeaderMatch::exact("a", "b")
        };
        for (spec, part) in [
            (MatchSpec::any().method("get"), "write GET"),
            (MatchSpec::any().method("G T"), "not a method"),
            (
                MatchSpec::any().header(HeaderMatch::present("a b")),
                "name of a field",
            ),
            (
                MatchSpec::any().header(HeaderMatch::present("Host")),
                "hosts",
            ),
            (
                MatchSpec::any().header(HeaderMatch::of_name("a")),
                "does not say",
            ),
            (MatchSpec::any().header(two), "more than one"),
            (
                MatchSpec::any().header(HeaderMatch::regex("a", "(")),
                "cannot be used",
            ),
            (
                MatchSpec::any().query(QueryMatch::regex("a", "(")),
                "cannot be used",
            ),
            (
                MatchSpec::any().query(QueryMatch::default()),
                "does not say",
            ),
        ] {
            let error = Conditions::read(&spec).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
