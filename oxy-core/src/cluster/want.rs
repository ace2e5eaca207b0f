//! What a request asks of the choice: [`Want`].

use super::endpoint::EndpointId;

/// What a request asks of the choice of its endpoint. The default asks nothing.
///
/// ```
/// use oxy_core::cluster::{Want, hash_key};
///
/// let want = Want::default().key(hash_key(b"user 1")).retry(&[]);
/// # assert!(want.is_retry);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Want<'a> {
    /// The hash of what the endpoint is to be chosen by (a header, a cookie, an address, see
    /// [`hash_key`](super::hash_key)), for `maglev`, `ring_hash` and balancing of a program's own. It also decides about the
    /// priority.
    pub key: Option<u64>,
    /// The endpoint that the client had before, from its cookie. It is used whatever the balancing says, as long as it is
    /// there and well.
    pub sticky: Option<EndpointId>,
    /// Endpoints that have been tried. Others are used as long as there are any.
    pub avoid: &'a [EndpointId],
    /// Whether it is a retry, which needs a place in the retry budget.
    pub is_retry: bool,
}

impl<'a> Want<'a> {
    /// By this key.
    #[must_use]
    pub fn key(mut self, key: u64) -> Self {
        self.key = Some(key);
        self
    }

    /// The endpoint that the client had before, if it can be.
    #[must_use]
    pub fn sticky(mut self, id: EndpointId) -> Self {
        self.sticky = Some(id);
        self
    }

    /// Another try that needs no place in the retry budget, after those endpoints have been tried: for what none of them has
    /// looked at, so that no work is done twice.
    #[must_use]
    pub fn anew(mut self, tried: &'a [EndpointId]) -> Self {
        self.avoid = tried;
        self
    }

    /// A retry, after those endpoints have been tried.
    #[must_use]
    pub fn retry(mut self, tried: &'a [EndpointId]) -> Self {
        self.is_retry = true;
        self.avoid = tried;
        self
    }

    pub(super) fn avoids(&self, id: EndpointId) -> bool {
        self.avoid.contains(&id)
    }
}
