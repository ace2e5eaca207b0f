//! Headers that come in: an on-ramp that takes them off.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use oxy_core::offramp::Cidr;
use oxy_core::onramp::{AnyOnramp, Bind, Bound, ListenAddr, Onramp, Seed, Site};
use oxy_core::{Error, ErrorKind, Flow, Result, Side, StreamIo, clock};

use super::{Addresses, Header, Parsed, parse};

/// Whose headers a listener reads, and what becomes of those who send none.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct ProxyProtocolOptions {
    /// Networks whose headers are believed; connections by a Unix socket always are, as the permissions of its file say
    /// who makes them. Default: loopback and private addresses (127/8, 10/8, 172.16/12, 192.168/16, 100.64/10, `::1`,
    /// `fc00::/7`), where load balancers are: whoever sends a header can pose as any client.
    pub trusted: Vec<Cidr>,
    /// What becomes of connections from elsewhere. Default: `refuse`, as who is not a balancer has no business at a port
    /// for balancers.
    pub untrusted: Untrusted,
    /// Whether a connection from a trusted network must begin with a header. If not, one that begins otherwise, or says
    /// nothing for `timeout`, is taken as the sender's own; clients of a balancer that sends no header can then pose as
    /// others. Default: true, as the specification forbids to guess.
    pub required: bool,
    /// How long the header may take. Default: 5 s: a sender has it ready when it connects, and this outlasts two lost
    /// packets.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Span"))]
    pub timeout: Duration,
    /// How long the header may be, in bytes. Default: 4 KiB: addresses take 232 bytes at most, and what else is said of a
    /// client, certificates included, fits in a few pages; the format allows 64 KiB.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Size"))]
    pub max_length: usize,
}

/// What becomes of connections from networks that are not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(rename_all = "lowercase")
)]
pub enum Untrusted {
    /// They are closed.
    Refuse,
    /// They are taken as they are: no header is looked for, and one that is there is a part of what they say.
    Pass,
}

impl Default for ProxyProtocolOptions {
    fn default() -> Self {
        Self {
            trusted: nearby(),
            untrusted: Untrusted::Refuse,
            required: true,
            timeout: Duration::from_secs(5),
            max_length: 4096,
        }
    }
}

/// Loopback (RFC 1122, RFC 4291) and private networks (RFC 1918, RFC 6598, RFC 4193).
fn nearby() -> Vec<Cidr> {
    let blocks: [(IpAddr, u8); 7] = [
        ([127, 0, 0, 0].into(), 8),
        ([10, 0, 0, 0].into(), 8),
        ([172, 16, 0, 0].into(), 12),
        ([192, 168, 0, 0].into(), 16),
        ([100, 64, 0, 0].into(), 10),
        (std::net::Ipv6Addr::LOCALHOST.into(), 128),
        ([0xfc00, 0, 0, 0, 0, 0, 0, 0].into(), 7),
    ];
    let blocks = blocks.into_iter();
    blocks
        .filter_map(|(ip, len)| Cidr::new(ip, len).ok())
        .collect()
}

/// What a header said, and who sent it: attached to the flow's extensions
/// ([`FlowInfo::extensions`](oxy_core::FlowInfo::extensions)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The proxy that passed the connection on; none on a Unix socket.
    pub by: Option<SocketAddr>,
    /// What it said.
    pub header: Header,
}

/// An on-ramp whose connections begin with a header.
///
/// The header is read on the flow's own task, before the application sees the flow: who is slow with it holds up nobody. A
/// header that is missing or malformed ends the connection, and the application does not learn of it. Limits per source
/// address count the addresses of those who connect, the balancers.
#[derive(Debug)]
pub struct ProxyProtocolBind<B> {
    inner: B,
    options: Arc<ProxyProtocolOptions>,
}

impl<B: Bind> ProxyProtocolBind<B> {
    /// Takes headers off the connections of `inner`, a stream listener.
    pub fn new(inner: B, options: ProxyProtocolOptions) -> Self {
        Self {
            inner,
            options: Arc::new(options),
        }
    }
}

impl<B: Bind> Bind for ProxyProtocolBind<B> {
    fn bind(&self, site: &mut Site<'_>) -> Result<Bound> {
        let bound = self.inner.bind(site)?;
        if matches!(bound.address, ListenAddr::Udp(_)) {
            return Err(Error::local(ErrorKind::Unsupported)
                .context("the PROXY protocol needs a stream listener"));
        }
        let wrap = |seed: Seed| -> Seed {
            let options = self.options.clone();
            Box::new(move |worker| {
                let inner = seed(worker)?;
                Ok(AnyOnramp::new(ProxyProtocolOnramp { inner, options }))
            })
        };
        Ok(Bound {
            seeds: bound.seeds.into_iter().map(wrap).collect(),
            ..bound
        })
    }
}

struct ProxyProtocolOnramp {
    inner: AnyOnramp,
    options: Arc<ProxyProtocolOptions>,
}

impl Onramp for ProxyProtocolOnramp {
    fn begin(&mut self) {
        self.inner.begin();
    }

    async fn accept(&mut self) -> Result<Flow> {
        let flow = self.inner.accept().await?;
        let options = self.options.clone();
        Ok(flow.after(move |flow| take_off(flow, options)))
    }
}

/// Takes the header off `flow` and gives it as that of the client.
async fn take_off(mut flow: Flow, options: Arc<ProxyProtocolOptions>) -> Result<Flow> {
    let by = flow.info.peer;
    if !by.is_none_or(|by| options.trusts(by.ip())) {
        return match options.untrusted {
            Untrusted::Pass => Ok(flow),
            Untrusted::Refuse => Err(Error::down(ErrorKind::Denied)
                .context("not from a network whose PROXY protocol is trusted")),
        };
    }
    let Some(stream) = flow.stream() else {
        return Err(
            Error::local(ErrorKind::Unsupported).context("the PROXY protocol needs a stream")
        );
    };
    let Some(header) = read(stream, &options).await? else {
        return Ok(flow);
    };
    let flow = match (&header.addresses, header.local) {
        (
            Addresses::Ip {
                source,
                destination,
                ..
            },
            false,
        ) => {
            let (source, destination) = (*source, *destination);
            flow.on_behalf_of(Some(source), Some(destination))
        }
        // Neither end has an IP address.
        (Addresses::Unix { .. }, false) => flow.on_behalf_of(None, None),
        // The connection's own addresses are all that is known.
        (Addresses::Unknown, _) | (_, true) => flow,
    };
    flow.info.extensions().insert(Passed { by, header });
    Ok(flow)
}

/// Reads the header, and leaves all that follows it to be read. None where there is none and need not be.
async fn read(stream: &mut StreamIo, options: &ProxyProtocolOptions) -> Result<Option<Header>> {
    let mut seen = 0;
    let reading = clock::within(
        options.timeout,
        Side::Down,
        "waiting for a PROXY protocol header",
        look(stream, options, &mut seen),
    );
    let (header, len) = match reading.await {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::Timeout && seen == 0 && !options.required => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let first = stream.take_prefix();
    stream.unread(&first[len..]);
    Ok(Some(header))
}

/// Looks until it is clear what stands first. `seen` is how many bytes there were at the last look.
async fn look(
    stream: &mut StreamIo,
    options: &ProxyProtocolOptions,
    seen: &mut usize,
) -> Result<Option<(Header, usize)>> {
    loop {
        let first = stream.peek(*seen + 1).await?;
        if first.len() == *seen {
            return if *seen == 0 && !options.required {
                Ok(None)
            } else {
                Err(Error::down(ErrorKind::Closed).context("before the PROXY protocol header"))
            };
        }
        *seen = first.len();
        match parse(first, options.max_length)? {
            Parsed::Header { header, len } => return Ok(Some((header, len))),
            Parsed::More => {}
            Parsed::Not if options.required => {
                return Err(Error::down(ErrorKind::Malformed).context("no PROXY protocol header"));
            }
            Parsed::Not => return Ok(None),
        }
    }
}

impl ProxyProtocolOptions {
    fn trusts(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        self.trusted.iter().any(|block| block.contains(source))
    }
}

#[cfg(test)]
mod tests;
