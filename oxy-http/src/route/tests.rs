//! Tables as a whole.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderMap;
use proptest::prelude::*;

use super::probe::Probe;
use super::*;
use crate::h1::index::RequestIndex;
use crate::h1::parse;
use crate::limits::HeadLimits;

/// A table for all hosts, whose routes lead to clusters that are called like what they match.
fn table(specs: &[(&str, MatchSpec)]) -> RouteTable {
    let mut host = VirtualHostSpec::new(["*"]);
    for (name, spec) in specs {
        host = host.route(RouteSpec::new(spec.clone()).name(*name).to("c"));
    }
    RouteTable::new(&[host]).unwrap()
}

fn one(route: RouteSpec) -> RouteTable {
    RouteTable::new(&[VirtualHostSpec::new(["*"]).route(route)]).unwrap()
}

fn found(table: &RouteTable, probe: &Probe) -> Result<String, Miss> {
    table
        .route(probe)
        .map(|matched| matched.route.name().to_owned())
}

fn error(host: VirtualHostSpec) -> String {
    RouteTable::new(&[host]).unwrap_err().to_string()
}

fn route_error(route: RouteSpec) -> String {
    error(VirtualHostSpec::new(["h"]).route(route))
}

#[test]
fn routes_to_one_cluster_have_its_name_in_one_place() {
    let host = |name: &str| {
        VirtualHostSpec::new([name])
            .route(RouteSpec::new("/a").to("shared"))
            .route(RouteSpec::new("/b").to("shared"))
    };
    let table = RouteTable::new(&[host("a.example"), host("b.example")]).unwrap();
    let names: Vec<_> = table.routes().flat_map(|route| route.clusters()).collect();
    assert_eq!(names, ["shared"; 4]);
    assert!(names.iter().all(|name| name.as_ptr() == names[0].as_ptr()));
}

#[test]
fn the_most_specific_path_wins_whatever_the_order() {
    let specs = [
        ("any", MatchSpec::any()),
        ("regex", MatchSpec::regex("/.*\\.php")),
        ("later regex", MatchSpec::regex("/x\\.php")),
        ("prefix /a", MatchSpec::prefix("/a")),
        ("prefix /a/b", MatchSpec::prefix("/a/b/")),
        ("prefix /a/b/c/d", MatchSpec::prefix("/a/b/c/d")),
        ("rest", MatchSpec::template("/files/{*rest}")),
        ("/{x}/c", MatchSpec::template("/{x}/c")),
        ("/a/{x}", MatchSpec::template("/a/{x}")),
        ("/users/{id}", MatchSpec::template("/users/{id}")),
        ("/users/{id}/", MatchSpec::template("/users/{id}/")),
        ("/users/me", MatchSpec::path("/users/me")),
        ("/a/b", MatchSpec::path("/a/b")),
    ];
    let mut backwards = specs.clone();
    backwards.reverse();
    for (at, table) in [table(&specs), table(&backwards)].iter().enumerate() {
        for (path, expected) in [
            ("/", "any"),
            ("", "any"),
            ("*", "any"),
            ("/a", "prefix /a"),
            ("/a/", "prefix /a"),
            ("/apiary", "any"),
            ("/ab", "any"),
            ("/a/b", "/a/b"),
            ("/a/b/", "prefix /a/b"),
            ("/a/b/c", "prefix /a/b"),
            ("/a/b/c/dd", "prefix /a/b"),
            ("/a/b/c/d", "prefix /a/b/c/d"),
            ("/a/b/c/d/e?x=/y", "prefix /a/b/c/d"),
            ("/a/c", "/a/{x}"),
            ("/a/c/", "prefix /a"),
            ("/z/c", "/{x}/c"),
            ("/z/c/", "any"),
            ("/users/me", "/users/me"),
            ("/users/me/", "/users/{id}/"),
            ("/users/42", "/users/{id}"),
            ("/users/", "any"),
            ("/users/42/x", "any"),
            ("/files", "any"),
            ("/files/", "any"),
            ("/files/x", "rest"),
            ("/files/x/y/", "rest"),
            ("/a/x.php/y", "prefix /a"),
            ("/q/z.php", "regex"),
            ("/x.php", if at == 0 { "regex" } else { "later regex" }),
            ("/x.php/", "any"),
            ("/A/b", "any"),
        ] {
            assert_eq!(
                found(table, &Probe::get("h", path)).as_deref(),
                Ok(expected),
                "{path}"
            );
        }
    }
}

#[test]
fn of_one_path_the_first_that_holds_wins_and_others_are_fallen_back_to() {
    let table = table(&[
        ("prefix", MatchSpec::prefix("/a")),
        (
            "canary",
            MatchSpec::path("/a/b").header(HeaderMatch::exact("canary", "1")),
        ),
        ("put", MatchSpec::path("/a/b").method("PUT")),
        ("get", MatchSpec::path("/a/b").method("GET")),
    ]);
    for (probe, expected) in [
        (
            Probe::new("PUT", "h", "/a/b").field("canary", "1"),
            "canary",
        ),
        (Probe::new("PUT", "h", "/a/b"), "put"),
        (Probe::new("GET", "h", "/a/b"), "get"),
        (Probe::new("POST", "h", "/a/b"), "prefix"),
    ] {
        assert_eq!(found(&table, &probe).as_deref(), Ok(expected));
    }
}

#[test]
fn a_higher_priority_comes_first() {
    let host = VirtualHostSpec::new(["*"])
        .route(RouteSpec::new("/a/b").name("exact").to("c"))
        .route(
            RouteSpec::new(MatchSpec::any().header(HeaderMatch::present("debug")))
                .name("debug")
                .priority(10)
                .to("c"),
        )
        .route(RouteSpec::new("/*").name("low").priority(-1).to("c"))
        .route(
            RouteSpec::new(MatchSpec::regex("/.*"))
                .name("regex")
                .to("c"),
        );
    let table = RouteTable::new(&[host]).unwrap();
    let probe = Probe::get("h", "/a/b");
    assert_eq!(found(&table, &probe).as_deref(), Ok("exact"));
    assert_eq!(
        found(&table, &Probe::get("h", "/a")).as_deref(),
        Ok("regex")
    );
    assert_eq!(found(&table, &Probe::get("h", "*")), Err(Miss::Route));
    assert_eq!(
        found(&table, &probe.field("debug", "")).as_deref(),
        Ok("debug")
    );
}

#[test]
fn no_other_host_is_asked() {
    let hosts = [
        VirtualHostSpec::new(["a.example"]).route(RouteSpec::new("/x").to("a")),
        VirtualHostSpec::new(Vec::<String>::new()).route(RouteSpec::new("/*").to("all")),
    ];
    let table = RouteTable::new(&hosts).unwrap();
    assert_eq!(
        found(&table, &Probe::get("a.example:81", "/x")).as_deref(),
        Ok("a.example#1")
    );
    assert_eq!(
        found(&table, &Probe::get("a.example", "/y")),
        Err(Miss::Route)
    );
    assert_eq!(
        found(&table, &Probe::get("b.example", "/y")).as_deref(),
        Ok("*#1")
    );
    let table = RouteTable::new(&hosts[..1]).unwrap();
    assert_eq!(
        found(&table, &Probe::get("b.example", "/x")),
        Err(Miss::Host)
    );
    assert_eq!(
        found(&RouteTable::default(), &Probe::get("a", "/")),
        Err(Miss::Host)
    );
}

#[test]
fn a_wrong_method_is_told_the_right_ones() {
    let table = table(&[
        (
            "exact",
            MatchSpec::path("/a/b").method("PUT").method("DELETE"),
        ),
        ("prefix", MatchSpec::prefix("/a").method("GET")),
        (
            "hidden",
            MatchSpec::prefix("/a")
                .method("PATCH")
                .header(HeaderMatch::present("x")),
        ),
        (
            "other",
            MatchSpec::prefix("/b").header(HeaderMatch::present("x")),
        ),
    ]);
    let allow = |path: &str| match found(&table, &Probe::new("POST", "h", path)) {
        Err(Miss::Method { allow }) => allow.to_str().unwrap().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(allow("/a/b"), "DELETE, GET, PUT");
    assert_eq!(allow("/a/c"), "GET");
    let with_field = Probe::new("POST", "h", "/a/c").field("x", "");
    let Err(miss) = found(&table, &with_field) else {
        panic!("no route takes POST");
    };
    assert_eq!(
        miss,
        Miss::Method {
            allow: "GET, PATCH".parse().unwrap()
        }
    );
    assert_eq!(miss.status(), 405);
    // What would not be taken with any method is not there.
    assert_eq!(
        found(&table, &Probe::new("POST", "h", "/b")),
        Err(Miss::Route)
    );
    assert_eq!(
        found(&table, &Probe::new("POST", "h", "/c")),
        Err(Miss::Route)
    );
    assert_eq!(Miss::Route.status(), 404);
    assert_eq!(Miss::Host.status(), 404);
}

#[test]
fn a_guard_cannot_be_walked_around() {
    let table = table(&[
        ("guard", MatchSpec::prefix("/admin")),
        ("open", MatchSpec::any()),
    ]);
    for path in [
        "/admin",
        "/admin/x",
        "/%61dmin",
        "/%61%64%6d%69%6e/x",
        "//admin",
        "///admin//x",
        "/./admin",
        "/%2e/admin",
        "/x/../admin",
        "/x/%2e%2E/admin",
        "/x/.%2e/admin/y",
        "/../admin",
        "/admin/x/..",
        "/admin/.",
        "/%2e%2e/%61dmin",
        "/admin/./../admin",
        "/admin?x",
        "/admin/%2F",
    ] {
        assert_eq!(
            found(&table, &Probe::get("h", path)).as_deref(),
            Ok("guard"),
            "{path}"
        );
    }
    for path in [
        "/admin/../x",
        "/admin/%2e%2e/",
        "/administrator",
        "/x?/admin",
        "/?/../admin",
        "/Admin",
    ] {
        assert_eq!(
            found(&table, &Probe::get("h", path)).as_deref(),
            Ok("open"),
            "{path}"
        );
    }
    for path in [
        "/x/..;/admin",
        "/x/..%2fadmin",
        "/x\\..\\admin",
        "/x//../admin",
        "/%/../admin",
        "/admin%00",
    ] {
        assert_eq!(
            found(&table, &Probe::get("h", path)),
            Err(Miss::Path),
            "{path}"
        );
    }
    assert_eq!(Miss::Path.status(), 400);
}

#[test]
fn escaped_slashes_are_refused_where_that_is_asked_for() {
    let mut host =
        VirtualHostSpec::new(["*"]).route(RouteSpec::new("/projects/{id}/issues").to("c"));
    let probe = Probe::get("h", "/projects/group%2Fname/issues");
    let table = RouteTable::new(std::slice::from_ref(&host)).unwrap();
    let matched = table.route(&probe).unwrap();
    assert_eq!(matched.capture("id"), Some(&b"group%2Fname"[..]));
    host.refuse_escaped_slashes = true;
    let table = RouteTable::new(&[host]).unwrap();
    assert_eq!(found(&table, &probe), Err(Miss::Path));
}

#[test]
fn captures() {
    for (spec, path, expected) in [
        (
            MatchSpec::template("/u/{id}"),
            "/u/42?x",
            vec![("id", Some("42"))],
        ),
        (
            MatchSpec::template("/u/{id}/f/{*rest}"),
            "/u/4%32/f/a/b/",
            vec![
                ("id", Some("42")),
                ("rest", Some("a/b/")),
                ("1", None),
                ("x", None),
            ],
        ),
        (
            MatchSpec::template("/{*all}"),
            "/a//b",
            vec![("all", Some("a/b"))],
        ),
        (
            MatchSpec::regex("/v([0-9]+)/(?<what>[a-z]+)(/x)?"),
            "/v2/things",
            vec![
                ("1", Some("2")),
                ("2", Some("things")),
                ("what", Some("things")),
                ("3", Some("")),
                ("0", None),
                ("4", None),
            ],
        ),
    ] {
        let table = one(RouteSpec::new(spec).to("c"));
        let probe = Probe::get("h", path);
        let matched = table.route(&probe).unwrap();
        for (name, value) in expected {
            assert_eq!(
                matched.capture(name),
                value.map(str::as_bytes),
                "{path} {name}"
            );
        }
    }
}

#[test]
fn captures_of_a_way_that_led_nowhere_are_forgotten() {
    let table = self::table(&[
        ("deep", MatchSpec::template("/{a}/{b}/x")),
        ("put", MatchSpec::template("/{a}/{b}").method("PUT")),
        ("regex", MatchSpec::regex("/(.)/(.).*").method("PUT")),
        ("last", MatchSpec::template("/{*all}")),
    ]);
    let probe = Probe::get("h", "/1/2");
    let matched = table.route(&probe).unwrap();
    assert_eq!(matched.route.name(), "last");
    assert_eq!(matched.capture("all"), Some(&b"1/2"[..]));

    let table = self::table(&[
        ("put", MatchSpec::template("/{a}/{b}").method("PUT")),
        ("last", MatchSpec::template("/{*all}")),
    ]);
    let matched = table.route(&probe).unwrap();
    assert_eq!(matched.capture("all"), Some(&b"1/2"[..]));
}

#[test]
fn weights_are_exact() {
    let table = one(RouteSpec::new("/").split([("a", 9), ("none", 0), ("b", 1), ("c", 6)]));
    let probe = Probe::get("h", "/");
    let matched = table.route(&probe).unwrap();
    let mut counts = BTreeMap::new();
    const DRAWS: u64 = 16_000;
    for draw in 0..DRAWS {
        let random = draw * (u64::MAX / DRAWS) + u64::MAX / DRAWS / 2;
        *counts
            .entry(matched.cluster(random).unwrap().to_string())
            .or_insert(0) += 1;
    }
    let expected =
        [("a", 9_000), ("b", 1_000), ("c", 6_000)].map(|(name, count)| (name.to_owned(), count));
    assert_eq!(counts, BTreeMap::from(expected));
    assert_eq!(matched.cluster(0).map(|name| &**name), Some("a"));
    assert_eq!(matched.cluster(u64::MAX).map(|name| &**name), Some("c"));
    assert_eq!(
        table.clusters().collect::<Vec<_>>(),
        ["a", "b", "c", "none"]
    );
    let heavy = one(RouteSpec::new("/").split([("a", u32::MAX), ("b", u32::MAX)]));
    let matched = heavy.route(&probe).unwrap();
    assert_eq!(matched.cluster(u64::MAX / 2).map(|name| &**name), Some("a"));
    assert_eq!(
        matched.cluster(u64::MAX / 2 + 1).map(|name| &**name),
        Some("b")
    );
}

#[test]
fn a_field_names_the_cluster() {
    let by = ByHeader {
        header: "X-Cluster".into(),
        among: vec!["a".into(), "b".into()],
        otherwise: "c".into(),
    };
    let table = one(RouteSpec::new("/").to(by));
    for (value, expected) in [
        (Some("a"), "a"),
        (Some("b"), "b"),
        (Some("secret"), "c"),
        (None, "c"),
    ] {
        let mut probe = Probe::get("h", "/");
        if let Some(value) = value {
            probe = probe.field("x-cluster", value);
        }
        let matched = table.route(&probe).unwrap();
        assert_eq!(matched.cluster(7).map(|name| &**name), Some(expected));
    }
    assert_eq!(table.clusters().collect::<Vec<_>>(), ["a", "b", "c"]);
}

fn location(spec: impl Into<MatchSpec>, redirect: RedirectSpec, probe: &Probe) -> String {
    let table = one(RouteSpec::new(spec).redirect(redirect));
    let location = table.route(probe).unwrap().location().unwrap();
    location.to_str().unwrap().to_owned()
}

#[test]
fn redirects() {
    let get = |path: &str| Probe::get("Shop.example:8080", path);
    let any = MatchSpec::any;
    let port = |port: u16| RedirectSpec {
        port: Some(port),
        ..RedirectSpec::default()
    };
    let prefix = |prefix: &str| RedirectSpec {
        prefix: Some(prefix.into()),
        ..RedirectSpec::default()
    };
    for (spec, redirect, probe, expected) in [
        (
            any(),
            RedirectSpec::to_https(),
            get("/a?b=c"),
            "https://shop.example/a?b=c",
        ),
        (
            any(),
            RedirectSpec::to_https(),
            get(""),
            "https://shop.example/",
        ),
        (
            any(),
            RedirectSpec {
                port: Some(8443),
                ..RedirectSpec::to_https()
            },
            get("/a"),
            "https://shop.example:8443/a",
        ),
        (
            any(),
            RedirectSpec {
                port: Some(443),
                ..RedirectSpec::to_https()
            },
            get("/"),
            "https://shop.example/",
        ),
        (
            any(),
            RedirectSpec::to_host("www.{host}"),
            get("/a"),
            "http://www.shop.example/a",
        ),
        (
            any(),
            RedirectSpec::to_host("b.example"),
            get("/a").https(),
            "https://b.example/a",
        ),
        (any(), port(81), get("/a"), "http://shop.example:81/a"),
        (any(), port(80), get("/a"), "http://shop.example/a"),
        (any(), RedirectSpec::to_path("/new"), get("/a?b"), "/new?b"),
        (
            any(),
            RedirectSpec {
                strip_query: true,
                ..RedirectSpec::to_path("/new")
            },
            get("/a?b"),
            "/new",
        ),
        (
            any(),
            RedirectSpec {
                scheme: Some("http".into()),
                ..RedirectSpec::default()
            },
            get("/a"),
            "http://shop.example:8080/a",
        ),
        (any(), RedirectSpec::to_path("{path}"), get("/%61"), "/a"),
        ("/old/*".into(), prefix("/new"), get("/old/x?y"), "/new/x?y"),
        ("/old/*".into(), prefix("/new/"), get("/old"), "/new"),
        ("/old/*".into(), prefix("/"), get("/old"), "/"),
        ("/old/*".into(), prefix("/"), get("/old/x/"), "/x/"),
        ("/*".into(), prefix("/v2"), get("/x"), "/v2/x"),
        (
            "/u/{id}".into(),
            RedirectSpec::to_path("/p/{id}/{{x}}"),
            get("/u/4%20"),
            "/p/4%20/{x}",
        ),
        (
            MatchSpec::regex("/(.*)\\.html"),
            RedirectSpec::to_path("/{1}"),
            get("/a/b.html"),
            "/a/b",
        ),
    ] {
        assert_eq!(
            location(spec, redirect.clone(), &probe),
            expected,
            "{redirect:?}"
        );
    }
}

#[test]
fn a_redirect_does_not_lead_to_another_site() {
    let slashes = RedirectSpec {
        strip_query: true,
        ..RedirectSpec::default()
    };
    let probe = Probe::get("h", "//evil.example/x?y");
    assert_eq!(
        location(MatchSpec::any(), slashes, &probe),
        "/evil.example/x"
    );
    let html = || MatchSpec::regex("/old(.*)");
    for (path, expected) in [
        ("/old/evil.example", "/evil.example"),
        ("/old//evil.example", "/evil.example"),
        ("/old/\\evil.example", "/evil.example"),
        ("/old\\evil.example", "/evil.example"),
        ("/old%5Cevil.example", "/%5Cevil.example"),
        ("/old%0d%0aset-cookie:a", "/%0D%0Aset-cookie:a"),
        ("/old", "/"),
    ] {
        let probe = Probe::get("h", path);
        assert_eq!(
            location(html(), RedirectSpec::to_path("/{1}"), &probe),
            expected,
            "{path}"
        );
    }
    // A host that is none is not written.
    let probe = Probe::get("a b", "/x");
    assert_eq!(
        location(MatchSpec::any(), RedirectSpec::to_https(), &probe),
        "/x"
    );
    let probe = Probe::get("a\r\nb", "/x");
    assert_eq!(
        location(
            MatchSpec::any(),
            RedirectSpec::to_host("www.{host}"),
            &probe
        ),
        "/x"
    );
}

fn rewritten(route: RouteSpec, path: &str) -> Option<String> {
    let table = one(route.to("c"));
    table
        .route(&Probe::get("h.example:81", path))
        .unwrap()
        .path_and_query()
}

#[test]
fn rewrites() {
    let prefix = |with: &str| RouteSpec::new("/api/*").replace_prefix(with);
    let regex = |pattern: &str, with: &str| {
        let mut route = RouteSpec::new(MatchSpec::any());
        route.rewrite.regex = Some(RegexRewrite {
            pattern: pattern.into(),
            with: with.into(),
        });
        route
    };
    for (route, path, expected) in vec![
        (RouteSpec::new("/*"), "/a/../b", None),
        (prefix("/"), "/api", Some("/")),
        (prefix("/"), "/api?x", Some("/?x")),
        (prefix("/"), "/api/", Some("/")),
        (prefix("/"), "/api/a//b?c?d", Some("/a/b?c?d")),
        (prefix("/v2/"), "/api/a%2fb", Some("/v2/a%2Fb")),
        (prefix("/v2"), "/x/../api/a", Some("/v2/a")),
        (prefix("/v2"), "/%61pi/a", Some("/v2/a")),
        (
            RouteSpec::new("/u/{id}").replace_path("/p/{id}.json"),
            "/u/42?q",
            Some("/p/42.json?q"),
        ),
        (
            RouteSpec::new("/f/{*rest}").replace_path("/{rest}"),
            "/f/a/b/",
            Some("/a/b/"),
        ),
        (
            RouteSpec::new("/*").replace_path("/{host}{path}"),
            "/a",
            Some("/h.example/a"),
        ),
        (
            RouteSpec::new("/*").replace_path("/q/{query}"),
            "/a?b=c d",
            Some("/q/b=c%20d?b=c%20d"),
        ),
        (
            regex("^/v([0-9])/", "/api/{1}/"),
            "/v2/x?y",
            Some("/api/2/x?y"),
        ),
        (regex("^/v([0-9])/", "/api/{1}/"), "/x", Some("/x")),
        (regex("a", "b"), "/a/ca/%61", Some("/b/cb/b")),
        (regex("", "-"), "/a", Some("/-/-a-")),
        (regex("x", ""), "/a/x./b", Some("/a/b")),
        (regex("x", ""), "/a/..x/b", Some("/b")),
        (regex("x", ""), "/a/..x;/b", Some("/")),
        (regex("/a", ""), "/a", Some("/")),
    ] {
        assert_eq!(rewritten(route, path).as_deref(), expected, "{path}");
    }
}

#[test]
fn hosts_are_rewritten() {
    let host = |route: RouteSpec, probe: &Probe| one(route.to("c")).route(probe).unwrap().host();
    let probe = Probe::get("Shop.example:81", "/a.b");
    assert_eq!(host(RouteSpec::new("/*"), &probe), NewHost::Keep);
    let literal = RouteSpec::new("/*").replace_host("b.example:8080");
    assert_eq!(host(literal, &probe), NewHost::Is("b.example:8080".into()));
    let captured = || RouteSpec::new("/{x}").replace_host("{x}.{host}");
    assert_eq!(
        host(captured(), &probe),
        NewHost::Is("a.b.shop.example".into())
    );
    assert_eq!(host(captured(), &Probe::get("a", "/a%20")), NewHost::Keep);
    let mut upstream = RouteSpec::new("/*");
    upstream.rewrite.upstream_host = true;
    assert_eq!(host(upstream, &probe), NewHost::Upstream);
}

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, value.parse().unwrap());
    }
    map
}

#[test]
fn fields_are_edited_in_order() {
    let mut route = RouteSpec::new("/u/{id}").name("users").to("c");
    route.request_headers = EditsSpec::default()
        .remove("x-gone")
        .remove("x-again")
        .set("x-user", "{id}@{client_ip}")
        .set("X-Fixed", "v")
        .set_if_absent("x-kept", "new")
        .set_if_absent("x-again", "{route}")
        .add("x-more", "2")
        .add("x-user", "also");
    route.response_headers = EditsSpec::default().set("x-served-by", "oxy");
    let table = one(route);
    let probe = Probe::get("h", "/u/42");
    let matched = table.route(&probe).unwrap();
    let mut headers = map(&[
        ("x-gone", "1"),
        ("x-gone", "2"),
        ("x-again", "old"),
        ("x-user", "root"),
        ("x-user", "admin"),
        ("x-kept", "old"),
        ("x-more", "1"),
    ]);
    matched.request_edits().unwrap().apply(&mut headers);
    let expected = map(&[
        ("x-user", "42@192.0.2.7"),
        ("x-user", "also"),
        ("x-fixed", "v"),
        ("x-kept", "old"),
        ("x-again", "users"),
        ("x-more", "1"),
        ("x-more", "2"),
    ]);
    assert_eq!(headers, expected);
    let mut headers = HeaderMap::new();
    matched.response_edits().unwrap().apply(&mut headers);
    assert_eq!(headers, map(&[("x-served-by", "oxy")]));
    let plain = one(RouteSpec::new("/*").to("c"));
    assert!(plain.route(&probe).unwrap().request_edits().is_none());
}

#[test]
fn a_value_that_cannot_be_set_leaves_no_field() {
    let mut route = RouteSpec::new("/*").to("c");
    route.request_headers = EditsSpec::default()
        .set("x-query", "{query}")
        .add("x-more", "{query}");
    let table = one(route);
    let probe = Probe {
        path: b"/?a\r\nb".to_vec(),
        ..Probe::get("h", "/")
    };
    let mut headers = map(&[("x-query", "forged")]);
    table
        .route(&probe)
        .unwrap()
        .request_edits()
        .unwrap()
        .apply(&mut headers);
    assert_eq!(headers, HeaderMap::new());
}

fn sticky(hash: &[HashSpec], probe: &Probe) -> Sticky {
    let mut route = RouteSpec::new("/*").to("c");
    route.hash = hash.to_vec();
    one(route).route(probe).unwrap().sticky(0xfeed)
}

#[test]
fn what_keeps_a_client_with_an_origin() {
    let key = |hash: &[HashSpec], probe: &Probe| sticky(hash, probe).key;
    let probe = Probe::get("h", "/?user=a%62&x")
        .field("x-user", "ab")
        .field("cookie", "z=1; session=ab")
        .field("cookie", "other=2");
    // XXH64 of "ab" with seed 0: it must never change, or clients would move when a proxy is updated.
    let ab = Some(0x65f7_08ca_92d0_4a61);
    assert_eq!(key(&[], &probe), None);
    assert_eq!(key(&[HashSpec::header("X-User")], &probe), ab);
    assert_eq!(key(&[HashSpec::query("user")], &probe), ab);
    assert_eq!(key(&[HashSpec::cookie("session", None)], &probe), ab);
    assert_ne!(key(&[HashSpec::cookie("other", None)], &probe), None);
    assert_eq!(key(&[HashSpec::cookie("none", None)], &probe), None);
    assert_eq!(key(&[HashSpec::header("none")], &probe), None);
    assert_eq!(key(&[HashSpec::query("none")], &probe), None);
    let address = key(&[HashSpec::source_ip()], &probe);
    assert!(address.is_some() && address != ab);

    let both = key(&[HashSpec::header("x-user"), HashSpec::source_ip()], &probe);
    let turned = key(&[HashSpec::source_ip(), HashSpec::header("x-user")], &probe);
    assert!(both != ab && both != address && both != turned);
    let twice = [HashSpec::header("x-user"), HashSpec::header("x-user")];
    assert_ne!(key(&twice, &probe), Some(0));
    assert_eq!(
        key(
            &[HashSpec::header("x-user").terminal(), HashSpec::source_ip()],
            &probe
        ),
        ab
    );
    assert_eq!(
        key(
            &[HashSpec::header("none").terminal(), HashSpec::source_ip()],
            &probe
        ),
        address
    );
    let lines = probe.clone().field("x-user", "cd");
    assert_ne!(key(&[HashSpec::header("x-user")], &lines), ab);
}

#[test]
fn a_cookie_is_given_to_those_without() {
    let hour = [HashSpec::cookie("oxy", Some(Duration::from_secs(3600)))];
    let first = sticky(&hour, &Probe::get("h", "/"));
    let set = first.set_cookie.as_ref().unwrap().to_str().unwrap();
    assert_eq!(
        set,
        "oxy=000000000000feed; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"
    );
    // It comes back, and means the same.
    let back = Probe::get("h", "/").field("cookie", "a=b;oxy=000000000000feed ");
    let again = sticky(&hour, &back);
    assert_eq!(again.key, first.key);
    assert_eq!(again.set_cookie, None);
    let session = [HashSpec::cookie("oxy", Some(Duration::ZERO))];
    let set = sticky(&session, &Probe::get("h", "/").https())
        .set_cookie
        .unwrap();
    assert_eq!(
        set,
        "oxy=000000000000feed; Path=/; HttpOnly; SameSite=Lax; Secure"
    );
}

#[test]
fn fixed_answers() {
    let table = one(RouteSpec::new("/*").respond(403, "no\n"));
    let probe = Probe::get("h", "/");
    let Action::Respond(respond) = table.route(&probe).unwrap().route.action() else {
        panic!("an answer");
    };
    assert_eq!(respond.status(), 403);
    assert_eq!(&respond.body()[..], b"no\n");
    assert_eq!(
        *respond.headers(),
        map(&[("content-type", "text/plain; charset=utf-8")])
    );
    assert!(table.route(&probe).unwrap().location().is_none());
    assert!(table.route(&probe).unwrap().cluster(0).is_none());
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let host = VirtualHostSpec::new(["a.example", "b.example"])
        .route(RouteSpec::new("/ok").to("c"))
        .route(RouteSpec::new("/x").name("broken"));
    let wrong = RouteTable::new(&[host]).unwrap_err();
    assert_eq!(wrong.host(), "a.example");
    assert_eq!(wrong.route(), Some("broken"));
    assert_eq!(
        wrong.to_string(),
        "host a.example, route broken: does not say what becomes of it: to, redirect or respond"
    );
    let unnamed = route_error(RouteSpec::new("/x"));
    assert!(unnamed.starts_with("host h, route #1: "), "{unnamed}");
    let hosts = [
        VirtualHostSpec::new(["a"]),
        VirtualHostSpec::new(["b", "A"]),
    ];
    let wrong = RouteTable::new(&hosts).unwrap_err();
    assert_eq!(wrong.to_string(), "host b: \"A\" is there twice");
}

#[test]
fn routes_that_never_match() {
    let never = |first: MatchSpec, second: MatchSpec| {
        let host = VirtualHostSpec::new(["h"])
            .route(RouteSpec::new(first).to("c"))
            .route(RouteSpec::new(second).to("c"));
        match RouteTable::new(&[host]) {
            Ok(_) => false,
            Err(error) => {
                assert!(
                    error
                        .to_string()
                        .starts_with("host h, route #2: it never matches: h#1 has"),
                    "{error}"
                );
                true
            }
        }
    };
    let get = |spec: MatchSpec| spec.method("GET");
    for (first, second, expected) in [
        (MatchSpec::path("/a"), MatchSpec::path("/a"), true),
        (MatchSpec::path("/a"), get(MatchSpec::path("/a")), true),
        (get(MatchSpec::path("/a")), MatchSpec::path("/a"), false),
        (get(MatchSpec::path("/a")), get(MatchSpec::path("/a")), true),
        (
            get(MatchSpec::path("/a")).method("PUT"),
            get(MatchSpec::path("/a").method("PUT")),
            true,
        ),
        (MatchSpec::path("/a"), MatchSpec::path("/a/"), false),
        (MatchSpec::prefix("/a"), MatchSpec::prefix("/a/"), true),
        (
            MatchSpec::prefix("/a"),
            MatchSpec::template("/a/{*x}"),
            true,
        ),
        (
            MatchSpec::template("/a/{*x}"),
            MatchSpec::prefix("/a"),
            false,
        ),
        (
            MatchSpec::template("/{a}/b"),
            MatchSpec::template("/{c}/b"),
            true,
        ),
        (MatchSpec::regex("/a"), MatchSpec::regex("/a"), true),
        (MatchSpec::any(), MatchSpec::prefix("/"), true),
        (MatchSpec::prefix("/"), MatchSpec::any(), false),
        (MatchSpec::prefix("/"), MatchSpec::template("/{*x}"), true),
        (MatchSpec::template("/{*x}"), MatchSpec::prefix("/"), false),
    ] {
        assert_eq!(
            never(first.clone(), second.clone()),
            expected,
            "{first:?} {second:?}"
        );
    }
}

#[test]
fn what_routes_cannot_say() {
    let with = |change: fn(&mut RouteSpec)| {
        let mut route = RouteSpec::new("/a/*").to("c");
        change(&mut route);
        route
    };
    let redirect = |redirect: RedirectSpec| RouteSpec::new("/a").redirect(redirect);
    let by = |header: &str, among: &[&str]| ByHeader {
        header: header.into(),
        among: among.iter().map(|name| (*name).to_owned()).collect(),
        otherwise: "c".into(),
    };
    for (route, part) in vec![
        (RouteSpec::new("/a").to(""), "name is empty"),
        (
            RouteSpec::new("/a").split([("a", 0), ("b", 0)]),
            "come to nothing",
        ),
        (
            RouteSpec::new("/a").split(Vec::<(String, u32)>::new()),
            "come to nothing",
        ),
        (RouteSpec::new("/a").split([("a", 1), ("a", 1)]), "twice"),
        (
            RouteSpec::new("/a").to("c").respond(200, ""),
            "more than one of to",
        ),
        (
            RouteSpec::new("/a").to(by("x y", &["a"])),
            "name of a field",
        ),
        (RouteSpec::new("/a").to(by("x", &[])), "choose among"),
        (RouteSpec::new("/a").to("c").name(""), "the name is empty"),
        (RouteSpec::new("/a").respond(100, ""), "not a final status"),
        (RouteSpec::new("/a").respond(600, ""), "not a final status"),
        (RouteSpec::new("/a").respond(204, "x"), "no body"),
        (redirect(RedirectSpec::to_path("/b").status(304)), "304"),
        (redirect(RedirectSpec::to_path("b")), "begin with a slash"),
        (
            redirect(RedirectSpec::to_path("{host}")),
            "begin with a slash",
        ),
        (redirect(RedirectSpec::to_path("/b?c")), "query"),
        (redirect(RedirectSpec::to_path("/{id}")), "{id}"),
        (redirect(RedirectSpec::to_host("a b")), "not a host"),
        (redirect(RedirectSpec::default()), "came from"),
        (
            redirect(RedirectSpec {
                scheme: Some("ftp".into()),
                ..RedirectSpec::default()
            }),
            "ftp",
        ),
        (
            redirect(RedirectSpec {
                port: Some(0),
                ..RedirectSpec::default()
            }),
            "port 0",
        ),
        (
            redirect(RedirectSpec {
                prefix: Some("/b".into()),
                ..RedirectSpec::default()
            }),
            "prefix",
        ),
        (
            redirect(RedirectSpec {
                prefix: Some("/b".into()),
                ..RedirectSpec::to_path("/c")
            }),
            "both a path",
        ),
        (
            RouteSpec::new("/a").to("c").replace_prefix("/b"),
            "prefix is matched",
        ),
        (
            RouteSpec::new("/a/*").to("c").replace_prefix("b"),
            "not a path",
        ),
        (
            RouteSpec::new("/a/*")
                .to("c")
                .replace_prefix("/b")
                .replace_path("/c"),
            "more than one of prefix",
        ),
        (
            RouteSpec::new("/a/*").respond(200, "").replace_prefix("/b"),
            "go to a cluster",
        ),
        (
            with(|route| route.rewrite.host = Some(String::new())),
            "not a host",
        ),
        (
            with(|route| {
                route.rewrite.host = Some("a".into());
                route.rewrite.upstream_host = true;
            }),
            "both a host",
        ),
        (
            with(|route| {
                route.rewrite.regex = Some(RegexRewrite {
                    pattern: "(a)".into(),
                    with: "{2}".into(),
                });
            }),
            "{2}",
        ),
        (
            with(|route| route.request_headers = EditsSpec::default().set("Host", "a")),
            "request_headers: the field host",
        ),
        (
            with(|route| route.request_headers = EditsSpec::default().remove("Content-Length")),
            "content-length",
        ),
        (
            with(|route| route.response_headers = EditsSpec::default().set("a b", "c")),
            "name of a field",
        ),
        (
            with(|route| route.response_headers = EditsSpec::default().add("a", "b\nc")),
            "value of a",
        ),
        (
            with(|route| route.response_headers = EditsSpec::default().add("a", "{")),
            "brace",
        ),
        (
            with(|route| route.hash.push(HashSpec::default())),
            "exactly one",
        ),
        (
            with(|route| route.hash.push(HashSpec::cookie("a b", None))),
            "name of a cookie",
        ),
        (
            with(|route| {
                route.hash.push(HashSpec {
                    ttl: Some(Duration::ZERO),
                    ..HashSpec::source_ip()
                });
            }),
            "ttl",
        ),
        (
            with(|route| {
                route.retry = Some(RouteRetries {
                    statuses: vec![99],
                    ..RouteRetries::default()
                });
            }),
            "99",
        ),
    ] {
        let error = route_error(route.clone());
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn raw_heads_and_built_ones_are_the_same() {
    let table = {
        let host = VirtualHostSpec::new(["a.example"])
            .route(
                RouteSpec::new(MatchSpec::template("/u/{id}").header(HeaderMatch::exact("x", "2")))
                    .name("x")
                    .to("c"),
            )
            .route(RouteSpec::new("/*").name("rest").to("c"));
        RouteTable::new(&[host]).unwrap()
    };
    for (head, expected) in [
        (
            "GET /u/1?a HTTP/1.1\r\nHost: A.example:80\r\nX: 1\r\nx: 2\r\n\r\n",
            Ok("x"),
        ),
        (
            "GET /u/1 HTTP/1.1\r\nHost: a.example\r\nXx: 2\r\n\r\n",
            Ok("rest"),
        ),
        (
            "GET http://a.example HTTP/1.1\r\nHost: b.example\r\n\r\n",
            Ok("rest"),
        ),
        (
            "GET http://a.example?q HTTP/1.1\r\nHost: a.example\r\n\r\n",
            Ok("rest"),
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n",
            Err(Miss::Route),
        ),
        (
            "GET /u/1 HTTP/1.1\r\nHost: b.example\r\n\r\n",
            Err(Miss::Host),
        ),
        (
            "GET /u/%zz HTTP/1.1\r\nHost: a.example\r\n\r\n",
            Err(Miss::Path),
        ),
    ] {
        let mut index = RequestIndex::default();
        parse::request(head.as_bytes(), &HeadLimits::default(), &mut index).unwrap();
        let parts = index
            .parts(&bytes::Bytes::copy_from_slice(head.as_bytes()))
            .unwrap();
        let client = Some([192, 0, 2, 1].into());
        let raw = RawView {
            index: &index,
            head: head.as_bytes(),
            client,
            https: true,
        };
        let request = http::Request::from_parts(parts, ());
        let built = BuiltView::new(&request, client, true);
        for view in [&raw as &dyn View, &built] {
            let found = table.route(view).map(|matched| matched.route.name());
            assert_eq!(found, expected.clone(), "{head}");
            assert_eq!(view.client_ip(), client);
            assert!(view.is_https());
        }
    }
}

#[cfg(feature = "settings")]
#[test]
fn specs_are_written_and_read_again() {
    let text = r#"
hosts: a.example
routes:
  - match: /api/*
    to: api
  - match:
      template: /u/{id}
      methods: GET
      headers:
        - { name: x, exact: "1" }
    to:
      - { cluster: a, weight: 9 }
      - cluster: b
    timeouts: { first_byte: 2s }
    max_request_body: 1MiB
    retry: { max: 2, on: [5xx, connect_failure], grpc: [unavailable] }
    hash:
      - { cookie: oxy, ttl: 1h }
      - source_ip: true
  - match: { query: [{ name: q, present: true }] }
    to: { header: x, among: [a], otherwise: b }
  - match: /old
    redirect: { path: /new, status: 301 }
  - match: "*"
    respond: { status: 404, body: nothing here, headers: { x-a: b } }
"#;
    let spec: VirtualHostSpec = serde_saphyr::from_str(text).unwrap();
    let expected = VirtualHostSpec::new(["a.example"])
        .route(RouteSpec::new(MatchSpec::prefix("/api")).to("api"));
    assert_eq!(spec.routes[0], expected.routes[0]);
    assert_eq!(spec.hosts, expected.hosts);
    assert_eq!(spec.routes[1].max_request_body, Some(1 << 20));
    assert_eq!(spec.routes[1].hash[0].ttl, Some(Duration::from_secs(3600)));
    let table = RouteTable::new(std::slice::from_ref(&spec)).unwrap();
    assert_eq!(table.clusters().collect::<Vec<_>>(), ["a", "api", "b"]);
    let policy = table.routes().nth(1).unwrap().policy();
    assert_eq!(policy.timeouts.first_byte, Some(Duration::from_secs(2)));
    assert!(policy.retry.as_ref().unwrap().on_status(500));
    let written = serde_json::to_string(&spec).unwrap();
    let again: VirtualHostSpec = serde_saphyr::from_str(&written).unwrap();
    assert_eq!(again, spec);
    for wrong in [
        r#"{ "routes": [{ "match": { "pth": "/a" } }] }"#,
        r#"{ "routes": [{ "match": 7 }] }"#,
        r#"{ "routes": [{ "to": 7 }] }"#,
        r#"{ "routes": [{ "to": { "header": "x" } }] }"#,
        r#"{ "hosts": [7] }"#,
    ] {
        assert!(
            serde_json::from_str::<VirtualHostSpec>(wrong).is_err(),
            "{wrong}"
        );
    }
}

#[cfg(feature = "settings")]
#[test]
fn specs_describe_themselves() {
    let schema = schemars::schema_for!(VirtualHostSpec).to_value();
    let of_match = &schema["$defs"]["MatchSpec"];
    assert_eq!(of_match["type"], serde_json::json!(["object", "string"]));
    assert!(of_match["properties"]["template"].is_object());
    assert!(schema["$defs"]["RouteSpec"]["properties"]["match"].is_object());
}

proptest! {
    #[test]
    fn no_request_panics(
        method in "[A-Z]{0,4}",
        authority in proptest::collection::vec(any::<u8>(), 0..24),
        path in proptest::collection::vec(prop_oneof![
            3 => proptest::sample::select(b"/.%2eE5cCab;?&=+\\{}".to_vec()),
            1 => any::<u8>(),
        ], 0..32),
        value in "[ -~]{0,12}",
        random: u64,
    ) {
        let mut rewritten = RouteSpec::new(MatchSpec::regex("/(a.*?)(b.*)?").query(QueryMatch::regex("a", ".")))
            .replace_path("/x/{2}/{1}{query}")
            .replace_host("{1}.{host}")
            .hash(HashSpec::cookie("a", Some(Duration::ZERO)))
            .hash(HashSpec::query("a"))
            .to("c");
        rewritten.request_headers = EditsSpec::default().set("x", "{path}{query}{host}{method}{1}");
        let mut regex = RouteSpec::new("/b/{x}").to("c");
        regex.rewrite.regex = Some(RegexRewrite { pattern: "[./%]+|(e)".into(), with: "{1}{path}".into() });
        let redirect = RedirectSpec { host: Some("{host}".into()), ..RedirectSpec::to_path("/{x}{query}") };
        let host = VirtualHostSpec::new(["*"])
            .route(rewritten)
            .route(regex)
            .route(RouteSpec::new("/{x}").redirect(redirect))
            .route(RouteSpec::new("/a/{*rest}").replace_path("/{rest}").to("c"))
            .route(RouteSpec::new(MatchSpec::prefix("/")).replace_prefix("/p").to("c"));
        let table = RouteTable::new(&[host, VirtualHostSpec::new(["*.a"])]).unwrap();
        let probe = Probe { authority, path, ..Probe::new(&method, "", "") }
            .field("cookie", &value)
            .field("x", &value);
        if let Ok(matched) = table.route(&probe) {
            let _ = matched.sticky(random);
            let _ = matched.cluster(random);
            if let NewHost::Is(host) = matched.host() {
                prop_assert!(host.parse::<http::uri::Authority>().is_ok());
            }
            if let Some(path) = matched.path_and_query() {
                prop_assert!(path.starts_with('/') && !path.starts_with("//"));
                prop_assert!(path.parse::<http::uri::PathAndQuery>().is_ok(), "{}", path);
                let path = path.split('?').next().unwrap();
                prop_assert!(!path.split('/').any(|part| part == ".."), "{}", path);
            }
            if let Some(location) = matched.location() {
                prop_assert!(location.to_str().unwrap().parse::<http::Uri>().is_ok());
            } else {
                prop_assert!(matches!(matched.route.action(), Action::Forward(_)));
            }
            if let Some(edits) = matched.request_edits() {
                edits.apply(&mut HeaderMap::new());
            }
        }
    }
}
