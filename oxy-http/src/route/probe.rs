//! A request for tests.

use std::net::IpAddr;

use http::HeaderName;

use super::view::View;

/// A request for tests.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) method: String,
    pub(super) authority: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) fields: Vec<(String, String)>,
    pub(super) https: bool,
}

impl Probe {
    pub(super) fn new(method: &str, authority: &str, path: &str) -> Self {
        Self {
            method: method.into(),
            authority: authority.into(),
            path: path.into(),
            fields: Vec::new(),
            https: false,
        }
    }

    pub(super) fn get(authority: &str, path: &str) -> Self {
        Self::new("GET", authority, path)
    }

    pub(super) fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    pub(super) fn https(mut self) -> Self {
        self.https = true;
        self
    }
}

impl View for Probe {
    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }

    fn authority(&self) -> &[u8] {
        &self.authority
    }

    fn path(&self) -> &[u8] {
        &self.path
    }

    fn values<'a>(&'a self, name: &HeaderName, each: &mut dyn FnMut(&'a [u8]) -> bool) {
        for (known, value) in &self.fields {
            if known == name.as_str() && !each(value.as_bytes()) {
                return;
            }
        }
    }

    fn client_ip(&self) -> Option<IpAddr> {
        Some([192, 0, 2, 7].into())
    }

    fn is_https(&self) -> bool {
        self.https
    }
}
