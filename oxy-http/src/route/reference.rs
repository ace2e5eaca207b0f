//! The rules of precedence once more, without any cleverness: every route is looked at, and the best one is taken. What
//! the table finds must be what this finds.

use proptest::prelude::*;

use super::probe::Probe;
use super::spec::{HeaderMatch, MatchSpec, RouteSpec, VirtualHostSpec};
use super::table::{Miss, RouteTable};

/// What was found, by name.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Route(String),
    Status(u16),
    Allow(String),
}

fn by_table(table: &RouteTable, probe: &Probe) -> Found {
    match table.route(probe) {
        Ok(matched) => Found::Route(matched.route.name().into()),
        Err(Miss::Method { allow }) => Found::Allow(allow.to_str().unwrap().into()),
        Err(miss) => Found::Status(miss.status()),
    }
}

fn by_looking(hosts: &[VirtualHostSpec], probe: &Probe) -> Found {
    let authority = String::from_utf8(probe.authority.clone())
        .unwrap()
        .to_lowercase();
    let name = authority.split(':').next().unwrap();
    // A longer pattern is the more specific one, and an exact one is before all that have a star.
    let fits = |pattern: &str| match pattern.strip_prefix('*') {
        None => name == pattern,
        Some(below) => name.len() > below.len() && name.ends_with(below),
    };
    let best = hosts
        .iter()
        .flat_map(|host| host.hosts.iter().map(move |pattern| (pattern, host)))
        .filter(|(pattern, _)| fits(pattern) || *pattern == "*")
        .min_by_key(|(pattern, _)| (pattern.starts_with('*'), usize::MAX - pattern.len()));
    let Some((_, host)) = best else {
        return Found::Status(404);
    };
    let target = String::from_utf8(probe.path.clone()).unwrap();
    let path = target.split('?').next().unwrap();
    let path = if path.is_empty() { "/" } else { path };
    let holds = |spec: &MatchSpec| {
        spec.headers.iter().all(|header| {
            let is = |(name, value): &(String, String)| {
                *name == header.name && header.exact[0] == *value
            };
            probe.fields.iter().any(is) != header.not
        })
    };
    let candidates = || {
        host.routes.iter().enumerate().filter_map(|(index, route)| {
            let rank = rank(&host.routes, index, path)?;
            holds(&route.r#match).then_some((-route.priority, rank, index, route))
        })
    };
    let takes = |spec: &MatchSpec| spec.methods.is_empty() || spec.methods.contains(&probe.method);
    let best = candidates()
        .filter(|(.., route)| takes(&route.r#match))
        .min_by_key(|(priority, rank, index, _)| (*priority, rank.clone(), *index));
    if let Some((.., route)) = best {
        return Found::Route(route.name.clone().unwrap());
    }
    let mut methods: Vec<_> = candidates()
        .flat_map(|(.., route)| route.r#match.methods.clone())
        .collect();
    methods.sort();
    methods.dedup();
    if methods.is_empty() {
        Found::Status(404)
    } else {
        Found::Allow(methods.join(", "))
    }
}

const LITERAL: usize = 0;
const NAME: usize = 1;
const END: usize = 2;
const REST: usize = 3;
const REGEX: usize = 4;
const LAST: usize = 5;

/// How specific a route's path is for a path that it matches; less is more. None if it does not match.
fn rank(routes: &[RouteSpec], index: usize, path: &str) -> Option<Vec<usize>> {
    let spec = &routes[index].r#match;
    let parts: Vec<_> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    if let Some(exact) = &spec.path {
        let mut rank = vec![LITERAL; parts.len()];
        rank.push(END);
        return (exact == path).then_some(rank);
    }
    if let Some(prefix) = &spec.prefix {
        let prefix = prefix.trim_end_matches('/');
        if prefix.is_empty() {
            return path.starts_with('/').then(|| vec![LAST]);
        }
        let fits = path == prefix || path.starts_with(&format!("{prefix}/"));
        let mut rank = vec![LITERAL; prefix.split('/').count() - 1];
        rank.push(REST);
        return fits.then_some(rank);
    }
    if let Some(template) = &spec.template {
        if !path.starts_with('/') {
            return None;
        }
        let mut rank = Vec::new();
        let mut parts = parts.into_iter();
        for segment in template[1..].split('/') {
            if segment.starts_with("{*") {
                let rest = parts.collect::<Vec<_>>().join("/");
                rank.push(if rank.is_empty() { LAST } else { REST });
                return (!rest.is_empty()).then_some(rank);
            }
            let part = parts.next()?;
            let is_name = segment.starts_with('{');
            if if is_name {
                part.is_empty()
            } else {
                part != segment
            } {
                return None;
            }
            rank.push(if is_name { NAME } else { LITERAL });
        }
        rank.push(END);
        return parts.next().is_none().then_some(rank);
    }
    if let Some(regex) = &spec.regex {
        let same = |route: &RouteSpec| {
            route.r#match.regex.as_ref() == Some(regex) && route.priority == routes[index].priority
        };
        let first = routes.iter().position(same).unwrap();
        let regex = regex::bytes::Regex::new(&format!("^(?:{regex})$")).unwrap();
        return regex.is_match(path.as_bytes()).then(|| vec![REGEX, first]);
    }
    Some(vec![LAST])
}

fn segment() -> impl Strategy<Value = &'static str> {
    prop_oneof![3 => Just("a"), 2 => Just("b"), 1 => Just("{x}"), 1 => Just("ab")]
}

fn pattern() -> impl Strategy<Value = MatchSpec> {
    let segments = || proptest::collection::vec(segment(), 0..4);
    let joined = |segments: Vec<&str>| format!("/{}", segments.join("/"));
    prop_oneof![
        3 => segments().prop_map(move |list| MatchSpec::path(joined(list).replace("{x}", "c"))),
        3 => segments().prop_map(move |list| MatchSpec::prefix(joined(list).replace("{x}", "c"))),
        4 => (segments(), any::<bool>(), any::<bool>()).prop_map(move |(mut list, rest, slash)| {
            let mut seen = 0;
            let mut text = String::new();
            list.truncate(3);
            for part in list {
                seen += 1;
                text.push('/');
                text.push_str(&part.replace('x', &format!("x{seen}")));
            }
            if rest {
                text.push_str("/{*rest}");
            } else if slash || text.is_empty() {
                text.push('/');
            }
            MatchSpec::template(text)
        }),
        1 => prop_oneof![Just("/a.*"), Just("/[ab]/b"), Just(".*"), Just("/(a|b)(/.*)?")].prop_map(MatchSpec::regex),
        1 => Just(MatchSpec::any()),
    ]
}

fn route() -> impl Strategy<Value = RouteSpec> {
    let methods = prop_oneof![3 => Just(None), 1 => Just(Some("GET")), 1 => Just(Some("PUT"))];
    let header = prop_oneof![3 => Just(None), 1 => Just(Some(false)), 1 => Just(Some(true))];
    let priority = prop_oneof![6 => Just(0), 1 => Just(1), 1 => Just(-1)];
    (pattern(), methods, header, priority).prop_map(|(mut spec, method, header, priority)| {
        if let Some(method) = method {
            spec = spec.method(method);
        }
        if let Some(not) = header {
            let header = HeaderMatch::exact("x", "1");
            spec = spec.header(if not { header.negate() } else { header });
        }
        RouteSpec::new(spec).priority(priority).to("c")
    })
}

const HOSTS: [&str; 6] = [
    "*",
    "a.test",
    "*.test",
    "*.a.test",
    "b.a.test",
    "*.b.a.test",
];

fn table() -> impl Strategy<Value = Vec<VirtualHostSpec>> {
    let routes = proptest::collection::vec(route(), 0..12);
    let host = (proptest::sample::subsequence(&HOSTS[..], 1..3), routes);
    proptest::collection::vec(host, 1..4).prop_map(|hosts| {
        let mut taken = Vec::new();
        let mut specs = Vec::new();
        for (names, routes) in hosts {
            let names: Vec<_> = names
                .into_iter()
                .filter(|name| !taken.contains(name))
                .collect();
            if names.is_empty() {
                continue;
            }
            taken.extend_from_slice(&names);
            // What the table refuses, because it could never match, is left out.
            let mut spec = VirtualHostSpec::new(names);
            for (at, route) in routes.into_iter().enumerate() {
                let longer = spec
                    .clone()
                    .route(route.name(format!("{}-{at}", specs.len())));
                if RouteTable::new(std::slice::from_ref(&longer)).is_ok() {
                    spec = longer;
                }
            }
            specs.push(spec);
        }
        specs
    })
}

fn request() -> impl Strategy<Value = Probe> {
    let method = prop_oneof![Just("GET"), Just("PUT"), Just("POST")];
    let host = proptest::sample::select(vec![
        "a.test",
        "A.Test:80",
        "b.a.test",
        "c.a.test",
        "x.b.a.test",
        "x.y.b.a.test",
        "test",
        "z.test",
        "other",
        "",
    ]);
    let part = prop_oneof![4 => Just("a"), 3 => Just("b"), 1 => Just("c"), 1 => Just("ab"), 1 => Just("abc")];
    let path = (
        proptest::collection::vec(part, 0..5),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(parts, slash, query)| {
            let mut path: String = parts.iter().flat_map(|part| ["/", part]).collect();
            if slash {
                path.push('/');
            }
            if query {
                path.push_str("?a=/b");
            }
            path
        });
    let path = prop_oneof![12 => path, 1 => Just("*".to_owned())];
    (method, host, path, any::<bool>()).prop_map(|(method, host, path, field)| {
        let probe = Probe::new(method, host, &path);
        if field { probe.field("x", "1") } else { probe }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_table_finds_what_looking_finds(
        hosts in table(),
        requests in proptest::collection::vec(request(), 1..16),
    ) {
        let table = RouteTable::new(&hosts).unwrap();
        for probe in requests {
            prop_assert_eq!(by_table(&table, &probe), by_looking(&hosts, &probe), "{:?}", probe);
        }
    }
}
