//! A request as routing sees it.

use std::fmt;
use std::net::IpAddr;

use http::header::{HOST, HeaderMap, HeaderName};
use http::{Method, Uri};

use crate::h1::index::RequestIndex;

/// A request as routing sees it, whatever form it has.
pub trait View: Sync {
    /// The method.
    fn method(&self) -> &[u8];
    /// The authority that the request is for, with its port if it has one; empty if there is none.
    fn authority(&self) -> &[u8];
    /// The path with its query, as it was received.
    fn path(&self) -> &[u8];
    /// Calls `each` with the value of every line of the field `name`, in order, until it returns false.
    fn values<'a>(&'a self, name: &HeaderName, each: &mut dyn FnMut(&'a [u8]) -> bool);
    /// The client's address, if it has one.
    fn client_ip(&self) -> Option<IpAddr>;
    /// Whether the client speaks TLS.
    fn is_https(&self) -> bool;
}

/// The first value of the field `name`.
pub(super) fn first<'a>(view: &'a dyn View, name: &HeaderName) -> Option<&'a [u8]> {
    let mut first = None;
    view.values(name, &mut |value| {
        first = Some(value);
        false
    });
    first
}

/// A raw head with its index.
#[derive(Clone, Copy)]
pub struct RawView<'a> {
    /// Where the parts are.
    pub index: &'a RequestIndex,
    /// What was indexed.
    pub head: &'a [u8],
    /// The client's address.
    pub client: Option<IpAddr>,
    /// Whether the client speaks TLS.
    pub https: bool,
}

impl fmt::Debug for RawView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawView")
            .field("client", &self.client)
            .field("https", &self.https)
            .finish_non_exhaustive()
    }
}

impl View for RawView<'_> {
    fn method(&self) -> &[u8] {
        self.index.method.of(self.head)
    }

    fn authority(&self) -> &[u8] {
        self.index.authority(self.head)
    }

    fn path(&self) -> &[u8] {
        self.index.path.of(self.head)
    }

    fn values<'a>(&'a self, name: &HeaderName, each: &mut dyn FnMut(&'a [u8]) -> bool) {
        let name = name.as_str().as_bytes();
        for field in &self.index.fields {
            // The length tells most names apart without a look at their bytes.
            if field.name().len() == name.len()
                && field.name().of(self.head).eq_ignore_ascii_case(name)
                && !each(field.value().of(self.head))
            {
                return;
            }
        }
    }

    fn client_ip(&self) -> Option<IpAddr> {
        self.client
    }

    fn is_https(&self) -> bool {
        self.https
    }
}

/// A request in the types of the `http` crate.
#[derive(Clone, Copy)]
pub struct BuiltView<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    client: Option<IpAddr>,
    https: bool,
}

impl<'a> BuiltView<'a> {
    /// `request`, from the address `client`, if that is known, over TLS if `https`.
    pub fn new<B>(request: &'a http::Request<B>, client: Option<IpAddr>, https: bool) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            client,
            https,
        }
    }
}

impl fmt::Debug for BuiltView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuiltView")
            .field("client", &self.client)
            .field("https", &self.https)
            .finish_non_exhaustive()
    }
}

impl View for BuiltView<'_> {
    fn method(&self) -> &[u8] {
        self.method.as_str().as_bytes()
    }

    fn authority(&self) -> &[u8] {
        match self.uri.authority() {
            Some(authority) => authority.as_str().as_bytes(),
            None => self.headers.get(HOST).map_or(&[], |host| host.as_bytes()),
        }
    }

    fn path(&self) -> &[u8] {
        self.uri
            .path_and_query()
            .map_or(&[], |path| path.as_str().as_bytes())
    }

    fn values<'a>(&'a self, name: &HeaderName, each: &mut dyn FnMut(&'a [u8]) -> bool) {
        for value in self.headers.get_all(name) {
            if !each(value.as_bytes()) {
                return;
            }
        }
    }

    fn client_ip(&self) -> Option<IpAddr> {
        self.client
    }

    fn is_https(&self) -> bool {
        self.https
    }
}
