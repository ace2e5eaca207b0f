//! Headers that go out: an off-ramp that puts one in front of each connection.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use oxy_core::offramp::{AnyOfframp, Offramp};
use oxy_core::{
    Carrier, Error, ErrorKind, Far, FlowInfo, HostName, Result, Retry, Side, StreamIo, Target,
    clock,
};

use super::{Addresses, Header, HeaderError, Passed, Tlvs, Version, kind};

/// What stands in front of connections to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct SendProxyProtocolOptions {
    /// `v1`, text, or `v2`, binary. Default: `v2`, which is cheaper to read and can say more.
    pub version: Version,
    /// Whether a checksum protects the header (`v2` only). Default: false, as TCP has one.
    pub checksum: bool,
    /// Whether the host name is told that a TLS client asked for (`v2` only), where somebody has looked at its first
    /// message. Default: false, as the target sees it itself where TLS is passed through.
    pub authority: bool,
    /// Whether the flow's number is told (`v2` only), so that the logs of both can be put together. Default: false, as it
    /// shows how busy the proxy is.
    pub unique_id: bool,
}

impl Default for SendProxyProtocolOptions {
    fn default() -> Self {
        Self {
            version: Version::V2,
            checksum: false,
            authority: false,
            unique_id: false,
        }
    }
}

/// How long writing the header may take. It fits in the send buffer of any new connection: only a tunnel that is stuck
/// takes longer than no time.
const WRITE: Duration = Duration::from_secs(5);

type MoreTlvs = dyn Fn(&FlowInfo, &mut Tlvs) -> Result<(), HeaderError> + Send + Sync;

/// An off-ramp that tells the target whom each connection is for.
///
/// The header holds for the connection, not for what is sent by it later: connections must not be pooled
/// ([`Offramp::is_per_client`]).
pub struct SendProxyProtocol {
    inner: AnyOfframp,
    options: SendProxyProtocolOptions,
    more: Option<Arc<MoreTlvs>>,
}

impl SendProxyProtocol {
    /// Puts a header in front of what `inner` opens. An error (`Malformed`) if version 1 is to say what only version 2 can.
    pub fn new(inner: AnyOfframp, options: SendProxyProtocolOptions) -> Result<Self> {
        let more = options.checksum || options.authority || options.unique_id;
        if options.version == Version::V1 && more {
            return Err(Error::from(HeaderError::NoTlvs).on(Side::Local));
        }
        Ok(Self {
            inner,
            options,
            more: None,
        })
    }

    /// Has `more` add what else is to be said of a flow: what TLS settled on, for one. In version 1 an error results when it
    /// adds something.
    #[must_use]
    pub fn tlvs(
        mut self,
        more: impl Fn(&FlowInfo, &mut Tlvs) -> Result<(), HeaderError> + Send + Sync + 'static,
    ) -> Self {
        self.more = Some(Arc::new(more));
        self
    }

    fn header(&self, of: &FlowInfo) -> Result<Vec<u8>, HeaderError> {
        let version = self.options.version;
        let mut header = match (of.peer, of.local) {
            (Some(peer), Some(local)) => Header::new(version, Addresses::stream(peer, local)),
            _ => Header::local(version),
        };
        header.checksum = self.options.checksum;
        if self.options.authority
            && let Some(name) = authority(of)
        {
            header.tlvs.push(kind::AUTHORITY, name.as_bytes())?;
        }
        if self.options.unique_id {
            let id = of.id.to_string();
            header.tlvs.push(kind::UNIQUE_ID, id.as_bytes())?;
        }
        if let Some(more) = &self.more {
            more(of, &mut header.tlvs)?;
        }
        // Nothing is read of a header that is for nobody.
        header.local &= header.tlvs.is_empty();
        header.write()
    }
}

/// The host name that the client asked for: as its own TLS says, or as the proxy before us has it.
fn authority(of: &FlowInfo) -> Option<String> {
    of.stack().find_map(|info| {
        let hello = info.facts.client_hello.get();
        let asked = hello.and_then(|hello| hello.server_name.clone());
        asked.or_else(|| {
            let passed = info.extensions().get::<Passed>()?;
            passed.header.tlvs.authority().map(ToOwned::to_owned)
        })
    })
}

impl Offramp for SendProxyProtocol {
    async fn open(&self, target: &Target, of: &FlowInfo) -> Result<Far> {
        self.open_as(target, None, of).await
    }

    async fn open_as(
        &self,
        target: &Target,
        name: Option<&HostName>,
        of: &FlowInfo,
    ) -> Result<Far> {
        let header = self
            .header(of)
            .map_err(|error| Error::from(error).on(Side::Local).retry(Retry::Safe))?;
        let far = self.inner.open_as(target, name, of).await?;
        let Carrier::Stream(stream) = &far.carrier else {
            return Err(Error::local(ErrorKind::Unsupported)
                .context("the PROXY protocol needs a stream")
                .retry(Retry::Safe));
        };
        let writing = write(stream, &header);
        clock::within(WRITE, Side::Up, "sending a PROXY protocol header", writing)
            .await
            // Nothing of the flow's own was sent.
            .map_err(|error| error.retry(Retry::Safe))?;
        Ok(far)
    }

    fn is_per_client(&self) -> bool {
        true
    }
}

async fn write(stream: &StreamIo, header: &[u8]) -> Result<()> {
    let (link, mut done) = (stream.link(), 0);
    poll_fn(|cx| link.poll_write_all(cx, header, &mut done))
        .await
        .map_err(|e| Error::io(Side::Up, e).context("sending a PROXY protocol header"))
}

impl std::fmt::Debug for SendProxyProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SendProxyProtocol({:?})", self.options.version)
    }
}
