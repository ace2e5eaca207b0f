//! What is asked, checked once and for all.

use http::header::{HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::uri::{Authority, PathAndQuery};
use http::{Method, header};
use oxy_core::{Error, ErrorKind, Result};

use super::{CheckMethod, GrpcCheck, HealthKind, HttpCheck, Statuses};
use crate::grpc::health;

/// A [`HealthKind`] that makes sense.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    Tcp,
    Http(Ask, Good),
    Grpc(Ask, String),
}

/// A request but for where it goes.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(super) method: Method,
    pub(super) path: PathAndQuery,
    pub(super) host: Option<Authority>,
    pub(super) headers: HeaderMap,
}

/// What a good answer is like.
#[derive(Clone, Debug)]
pub(crate) struct Good {
    pub(super) statuses: Vec<Statuses>,
    pub(super) contains: Option<String>,
}

/// Who asks, for the logs of origins.
const AGENT: HeaderValue = HeaderValue::from_static("oxy-health");

/// Fields that say how the message is carried, or where it goes: the probe's own to say.
const OURS: [HeaderName; 9] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
];

impl Question {
    pub(crate) fn new(kind: HealthKind) -> Result<Self> {
        match kind {
            HealthKind::Tcp => Ok(Self::Tcp),
            HealthKind::Http(check) => {
                let (ask, good) = http(check)?;
                Ok(Self::Http(ask, good))
            }
            HealthKind::Grpc(check) => {
                let (ask, service) = grpc(check)?;
                Ok(Self::Grpc(ask, service))
            }
        }
    }
}

pub(super) fn http(check: HttpCheck) -> Result<(Ask, Good)> {
    let HttpCheck {
        method,
        path,
        host,
        statuses,
        contains,
        headers,
    } = check;
    if !path.starts_with('/') {
        return Err(wrong("a health check's path, which begins with a slash").because(path));
    }
    if statuses.is_empty() || !statuses.iter().all(|it| it.is_possible()) {
        return Err(wrong(
            "a health check's statuses, which are some of 200 to 599",
        ));
    }
    let contains = contains.filter(|text| !text.is_empty());
    let method = match method {
        CheckMethod::Get => Method::GET,
        CheckMethod::Head if contains.is_some() => {
            return Err(wrong(
                "a health check by HEAD, whose answer has no body that could contain anything",
            ));
        }
        CheckMethod::Head => Method::HEAD,
    };
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| wrong("the name of a health check's field").because(name))?;
        // What is in it may be a secret.
        let value = HeaderValue::from_str(&value)
            .map_err(|_| wrong("the value of a health check's field").because(name.to_string()))?;
        if OURS.contains(&name) {
            return Err(
                wrong("a field that is not a health check's to say").because(name.to_string())
            );
        }
        map.insert(name, value);
    }
    map.entry(USER_AGENT).or_insert(AGENT);
    let path =
        PathAndQuery::try_from(path).map_err(|e| wrong("a health check's path").because(e))?;
    let host = host.map(authority).transpose()?;
    let ask = Ask {
        method,
        path,
        host,
        headers: map,
    };
    Ok((ask, Good { statuses, contains }))
}

pub(super) fn grpc(check: GrpcCheck) -> Result<(Ask, String)> {
    let mut headers = HeaderMap::new();
    let type_is = HeaderValue::from_static("application/grpc");
    headers.insert(header::CONTENT_TYPE, type_is);
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, AGENT);
    let ask = Ask {
        method: Method::POST,
        path: PathAndQuery::from_static(health::CHECK),
        host: check.host.map(authority).transpose()?,
        headers,
    };
    Ok((ask, check.service))
}

fn authority(host: String) -> Result<Authority> {
    let read = Authority::try_from(host.as_str()).ok();
    read.filter(|it| !it.as_str().contains('@') && !it.host().is_empty())
        .ok_or_else(|| wrong("a health check's host").because(host))
}

fn wrong(what: &'static str) -> Error {
    Error::local(ErrorKind::Malformed).context(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_asked_is_refused() {
        type Change = fn(&mut HttpCheck);
        let cases: [(Change, bool); 16] = [
            (|_| {}, true),
            (|it| it.path = "/a?b=c".into(), true),
            (|it| it.path = String::new(), false),
            (|it| it.path = "*".into(), false),
            (|it| it.path = "/a b".into(), false),
            (|it| it.path = "/\r\nX: y".into(), false),
            (|it| it.host = Some("a.test:81".into()), true),
            (|it| it.host = Some("me@a.test".into()), false),
            (|it| it.host = Some("a\r\nb".into()), false),
            (|it| it.host = Some(":80".into()), false),
            (|it| it.statuses.clear(), false),
            (|it| it.statuses = vec![(100..=200).into()], false),
            (
                |it| drop(it.headers.insert("a b".into(), String::new())),
                false,
            ),
            (
                |it| drop(it.headers.insert("a".into(), "b\r\nc: d".into())),
                false,
            ),
            (
                |it| drop(it.headers.insert("Content-Length".into(), "5".into())),
                false,
            ),
            (
                |it| drop(it.headers.insert("Host".into(), "a".into())),
                false,
            ),
        ];
        for (case, (change, good)) in cases.into_iter().enumerate() {
            let mut check = HttpCheck::default();
            change(&mut check);
            let asked = Question::new(check.into());
            assert_eq!(asked.is_ok(), good, "case {case}");
            if let Err(error) = asked {
                assert_eq!(error.kind(), ErrorKind::Malformed);
            }
        }
        let mut head = HttpCheck::new("/");
        head.method = CheckMethod::Head;
        head.contains = Some(String::new());
        http(head.clone()).unwrap();
        head.contains = Some("ok".into());
        http(head).unwrap_err();
        let mut check = GrpcCheck::new("a.B");
        grpc(check.clone()).unwrap();
        check.host = Some("a b".into());
        grpc(check).unwrap_err();
    }

    #[test]
    fn who_asks_may_be_told_otherwise() {
        let mut check = HttpCheck::default();
        check.headers.insert("User-Agent".into(), "me".into());
        assert_eq!(http(check).unwrap().0.headers[USER_AGENT], "me");
        let (ask, _) = http(HttpCheck::default()).unwrap();
        assert_eq!(ask.headers[USER_AGENT], "oxy-health");
    }
}
