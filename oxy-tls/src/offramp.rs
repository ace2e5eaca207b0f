//! A way out through TLS.

use oxy_core::offramp::{AnyOfframp, Offramp};
use oxy_core::{Carrier, Error, ErrorKind, Far, FlowInfo, Host, HostName, Result, Target};

use crate::client::TlsClient;

/// Opens the far side by another off-ramp, and TLS in it.
///
/// The origin must prove that it is the target's host, or the name that the target was found under
/// ([`Offramp::open_as`]), or, before all, the one that [`crate::ClientOptions::server_name`] gives. What TLS has settled is
/// in the far side's facts.
#[derive(Clone, Debug)]
pub struct TlsOfframp {
    inner: AnyOfframp,
    client: TlsClient,
}

impl TlsOfframp {
    /// TLS by `client` over what `inner` opens.
    pub fn new(inner: AnyOfframp, client: TlsClient) -> Self {
        Self { inner, client }
    }
}

impl Offramp for TlsOfframp {
    async fn open(&self, target: &Target, of: &FlowInfo) -> Result<Far> {
        self.open_as(target, None, of).await
    }

    async fn open_as(
        &self,
        target: &Target,
        name: Option<&HostName>,
        of: &FlowInfo,
    ) -> Result<Far> {
        let found = name.map(|name| Host::Name(name.clone()));
        let host = match (&found, target) {
            (Some(host), _) | (None, Target::Tcp { host, .. }) => Some(host),
            _ => None,
        };
        // Before anything is dialled: it costs nothing to know.
        let proof = self.client.name(host)?;
        let mut far = self.inner.open_as(target, name, of).await?;
        let Carrier::Stream(stream) = far.carrier else {
            return Err(Error::local(ErrorKind::Unsupported).context("TLS needs a stream"));
        };
        let (plain, facts) = self.client.connect_to(stream, proof).await?;
        far.carrier = Carrier::Stream(plain);
        let _ = far.facts.tls.set(Box::new(facts));
        Ok(far)
    }
}
