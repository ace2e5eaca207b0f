//! What settings come to once everything has been checked.

use std::collections::HashSet;
use std::time::Duration;

use http::HeaderName;
use oxy_core::offramp::{DialOptions, EgressPolicy};
use oxy_core::onramp::{ListenAddr, StreamOptions, UdpOptions};
use oxy_core::relay::RelayOptions;
use oxy_core::resolve::ResolveOptions;
use oxy_core::{HostName, Target};
use oxy_http::HttpOptions;
use oxy_http::route::{RouteTable, VirtualHostSpec};
use oxy_tunnel::proxy_protocol::ProxyProtocolOptions;
use serde::Serialize;

pub use super::gather::ClusterPlan;
use super::gather::Clusters;
pub use super::secure::Tls;
use super::{
    AccessLogSettings, HostSettings, HttpSettings, ListenerSettings, Located, PassSettings,
    Settings, SettingsError, TcpSettings, To, UdpSettings, error,
};

/// What is to be run: nothing in it is left to check.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// Worker threads; none is one for each core.
    pub workers: Option<usize>,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// Where the admin listener is.
    pub admin: Option<ListenAddr>,
    /// What is logged.
    pub access_log: AccessLogSettings,
    /// The clusters; no two have the same name.
    pub clusters: Vec<ClusterPlan>,
    /// The listeners; no two have the same name.
    pub listeners: Vec<Listener>,
}

/// A listener, and what becomes of its flows.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listener {
    /// What it is called.
    pub name: String,
    /// Where it listens; not empty.
    pub listen: Vec<ListenAddr>,
    /// What becomes of its flows.
    pub kind: Kind,
    /// TLS towards clients.
    pub tls: Option<Tls>,
    /// Whose headers of the PROXY protocol are taken off.
    pub proxy_protocol: Option<ProxyProtocolOptions>,
    /// How connections are taken in.
    pub stream: StreamOptions,
    /// How sessions of datagrams are taken in.
    pub datagram: UdpOptions,
    /// How streams and datagrams are relayed.
    pub relay: RelayOptions,
    /// Which addresses may be dialled.
    pub egress: EgressPolicy,
    /// How sockets are opened.
    pub dial: DialOptions,
    /// How names are resolved.
    pub resolve: ResolveOptions,
    /// All that cannot be changed while it runs, as text.
    pub(crate) frame: String,
    /// All of it, as text.
    pub(crate) whole: String,
}

/// What becomes of a listener's flows.
#[derive(Clone, Debug)]
pub enum Kind {
    /// They carry HTTP.
    Http(Box<HttpKind>),
    /// They are relayed.
    Relay(RelayKind),
}

/// Where requests go.
#[derive(Clone, Debug)]
pub struct HttpKind {
    /// The clusters that they may go to. Without routes, the first one.
    pub clusters: Vec<String>,
    /// Which go where.
    pub routes: Vec<VirtualHostSpec>,
    /// Whether they go where they ask to go.
    pub forward: bool,
    /// The field that tells origins who a client is.
    pub client_identity: Option<HeaderName>,
    /// TLS that is not served here.
    pub pass: Vec<Pass>,
    /// How HTTP is served and forwarded.
    pub options: HttpOptions,
}

/// Where flows go.
#[derive(Clone, Debug)]
pub struct RelayKind {
    /// The cluster of those that nothing else is said of.
    pub cluster: Option<String>,
    /// TLS that goes by the name that is asked for.
    pub pass: Vec<Pass>,
    /// How long the name may take.
    pub sni_timeout: Duration,
}

/// Where TLS for some names is passed on to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The names, lower-cased.
    pub names: Vec<String>,
    /// The cluster.
    pub cluster: String,
}

/// The admin listener's name, which no other may have.
pub(crate) const ADMIN: &str = "admin";

/// What is wrong, where that has no place of its own.
type Wrong = SettingsError;

impl Plan {
    /// Checks what the settings' types cannot say: certificates are read, and routes compiled.
    pub fn of(settings: Settings) -> Result<Self, SettingsError> {
        if settings.listeners.is_empty() {
            let start = Located {
                value: (),
                line: 1,
                column: 1,
            };
            return Err(SettingsError::at(
                &start,
                "there is nothing to listen on: `listeners` is empty",
            ));
        }
        let mut clusters = Clusters::of(settings.clusters)?;
        let mut names = HashSet::from([ADMIN.to_owned()]);
        let admin = match settings.admin {
            Some(admin) if admin.listen.secure == Some(true) => {
                let message = "the admin listener speaks no TLS";
                return Err(SettingsError::whole("", message));
            }
            admin => admin.map(|admin| admin.listen.address),
        };
        let mut taken: HashSet<_> = admin.clone().into_iter().filter(is_fixed).collect();
        let mut listeners = Vec::new();
        for (index, settings) in settings.listeners.into_iter().enumerate() {
            let (settings, place) = settings.split();
            let wrong = |message: String| SettingsError::at(&place, message);
            let name = name(&settings, index, &names).ok_or_else(|| {
                wrong("a listener has exactly one of `http`, `tcp` and `udp`".into())
            })?;
            if !names.insert(name.clone()) {
                return Err(wrong(if name == ADMIN {
                    "the name `admin` is the admin listener's".to_owned()
                } else {
                    format!("two listeners are called `{name}`")
                }));
            }
            // What has no place yet is wrong with the listener.
            let listener = Listener::of(name, settings, &mut clusters).map_err(|error| {
                if error.line == 0 {
                    Wrong {
                        line: place.line,
                        column: place.column,
                        ..error
                    }
                } else {
                    error
                }
            })?;
            for address in listener.listen.iter().filter(|address| is_fixed(address)) {
                if !taken.insert(address.clone()) {
                    return Err(wrong(format!("`{address}` is listened on twice")));
                }
            }
            listeners.push(listener);
        }
        Ok(Self {
            workers: settings.workers.map(Into::into),
            drain_timeout: settings.drain_timeout,
            admin,
            access_log: settings.access_log,
            clusters: clusters.plans,
            listeners,
        })
    }

    /// Whether anything goes to the built-in origin.
    pub(crate) fn needs_builtin(&self) -> bool {
        self.clusters.iter().any(|cluster| cluster.builtin > 0)
    }
}

/// What a listener is called; none if it is of no kind, or of several.
fn name(settings: &ListenerSettings, index: usize, taken: &HashSet<String>) -> Option<String> {
    let kind = match (&settings.http, &settings.tcp, &settings.udp) {
        (Some(http), None, None) if http.forward => "forward",
        (Some(_), None, None) => "reverse",
        (None, Some(_), None) => "tcp",
        (None, None, Some(_)) => "udp",
        _ => return None,
    };
    let name = settings.name.clone().filter(|name| !name.is_empty());
    Some(name.unwrap_or_else(|| {
        if taken.contains(kind) {
            format!("{kind}-{}", index + 1)
        } else {
            kind.into()
        }
    }))
}

impl Listener {
    fn of(
        name: String,
        settings: ListenerSettings,
        clusters: &mut Clusters,
    ) -> Result<Self, SettingsError> {
        let whole = text(&settings);
        let ListenerSettings {
            name: _,
            listen,
            http,
            tcp,
            udp,
            tls,
            mint,
            proxy_protocol,
            stream,
            datagram,
            relay,
            egress,
            dial,
            resolve,
        } = settings;
        let datagrams = udp.is_some();
        let has_tls = tls.is_some() || !mint.is_empty();
        for (is_wrong, message) in [
            (
                datagrams && stream.is_some(),
                "`stream` is not for `udp`; that has `datagram`",
            ),
            (
                !datagrams && datagram.is_some(),
                "`datagram` is for `udp` only",
            ),
            (datagrams && has_tls, "`tls` is not for `udp`"),
            (
                datagrams && proxy_protocol.is_some(),
                "`proxy_protocol` is not for `udp`",
            ),
            (listen.is_empty(), "`listen` names no address"),
        ] {
            if is_wrong {
                return Err(wrong(message));
            }
        }
        let mut addresses = Vec::new();
        for listen in listen {
            match (listen.secure, has_tls) {
                (Some(true), false) => {
                    let message = format!("`{listen}` needs `tls` with `certificates`");
                    return Err(wrong(message).near("https:"));
                }
                (Some(false), true) => {
                    let message = "with `tls`, an address is https:// or has no scheme";
                    return Err(wrong(message));
                }
                _ => addresses.push(listening(listen.address, datagrams).map_err(wrong)?),
            }
        }
        let mut frame = vec![
            text(
                &addresses
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>(),
            ),
            // Whatever else is said of TLS can be taken over by the server that is there.
            text(&(tls.is_some(), &mint, &proxy_protocol)),
            text(&(&stream, &datagram, &relay)),
            text(&(&dial, &resolve)),
        ];
        let tls = Tls::of(tls, &mint)?;
        let kind = match (http, tcp, udp) {
            (Some(http), ..) => {
                frame.push(text(&(&http.options.pool, &http.client_identity)));
                Kind::Http(Box::new(HttpKind::of(&name, http, has_tls, clusters)?))
            }
            (_, Some(tcp), _) => Kind::Relay(RelayKind::of(&name, tcp, has_tls, clusters)?),
            (_, _, udp) => Kind::Relay(RelayKind::datagrams(
                &name,
                udp.unwrap_or_default(),
                clusters,
            )?),
        };
        let egress = egress.unwrap_or_else(|| match &kind {
            Kind::Http(http) if http.forward => EgressPolicy::default(),
            _ => EgressPolicy::open(),
        });
        frame.push(text(&egress));
        frame.push(match &kind {
            Kind::Http(http) => text(&("http", http.pass.is_empty())),
            Kind::Relay(relay) => {
                let way = relay.cluster.as_ref().and_then(|name| clusters.find(name));
                let way = way.map(|cluster| text(&cluster.send_proxy_protocol));
                text(&(
                    "relay",
                    &relay.cluster,
                    way,
                    relay.pass.is_empty(),
                    relay.sni_timeout,
                ))
            }
        });
        Ok(Self {
            name,
            listen: addresses,
            kind,
            tls,
            proxy_protocol,
            stream: stream.unwrap_or_default(),
            datagram: datagram.unwrap_or_default(),
            relay,
            egress,
            dial,
            resolve,
            frame: frame.join("\n"),
            whole,
        })
    }
}

impl HttpKind {
    fn of(
        name: &str,
        settings: HttpSettings,
        has_tls: bool,
        clusters: &mut Clusters,
    ) -> Result<Self, SettingsError> {
        let HttpSettings {
            to,
            cluster,
            routes,
            forward,
            client_identity,
            pass_through,
            options,
        } = settings;
        let ways = [
            !to.is_empty(),
            cluster.is_some(),
            !routes.is_empty(),
            forward,
        ];
        let used = match (ways.iter().filter(|is| **is).count(), forward) {
            (0, _) => {
                return Err(wrong(
                    "`to` names no target, and `http` has neither `cluster`, `routes` nor `forward`",
                ));
            }
            (1, true) => Vec::new(),
            (1, false) if !routes.is_empty() => check_routes(&routes, clusters)?,
            (1, false) => vec![clusters.one_of(name, &to, cluster, true)?],
            _ => {
                return Err(wrong(
                    "`http` has one of `to`, `cluster`, `routes` and `forward`",
                ));
            }
        };
        let client_identity = match client_identity {
            None => None,
            Some(field) => Some(field.parse::<HeaderName>().map_err(|_| {
                SettingsError::at(
                    &field,
                    format!("{:?} is not the name of a field", field.value),
                )
            })?),
        };
        if !has_tls && !pass_through.is_empty() {
            return Err(wrong("`pass_through` is for listeners with `tls`"));
        }
        Ok(Self {
            clusters: used,
            routes: routes.iter().map(|host| host.spec()).collect(),
            forward,
            client_identity,
            pass: passes(name, pass_through, clusters)?,
            options,
        })
    }
}

/// The clusters that `hosts` name, if nothing is wrong with them.
fn check_routes(
    hosts: &[Located<HostSettings>],
    clusters: &Clusters,
) -> Result<Vec<String>, SettingsError> {
    let specs: Vec<_> = hosts.iter().map(|host| host.spec()).collect();
    let table = RouteTable::new(&specs).map_err(|error| {
        let is_it = |host: &&Located<HostSettings>| {
            let first = host.hosts.first().map_or("*", String::as_str);
            first == error.host()
        };
        // Where two have the same first host, that is what is wrong, and the second one is.
        let host = hosts.iter().rfind(is_it);
        let route = host.zip(error.route()).and_then(|(host, name)| {
            let number = name.strip_prefix('#').and_then(|n| n.parse::<usize>().ok());
            match number {
                Some(number) => host.routes.get(number.wrapping_sub(1)),
                None => host
                    .routes
                    .iter()
                    .find(|route| route.name.as_deref() == Some(name)),
            }
        });
        let found = match (route, host) {
            (Some(route), _) => SettingsError::at(route, &error),
            (None, Some(host)) => SettingsError::at(host, &error),
            (None, None) => wrong(error.to_string()),
        };
        found.near(error::quoted(error.problem()).unwrap_or_default())
    })?;
    let mut used: Vec<String> = Vec::new();
    for route in hosts.iter().flat_map(|host| &host.routes) {
        for name in route.to.iter().flat_map(|to| clusters_of(to)) {
            if clusters.find(name).is_none() {
                return Err(SettingsError::at(route, clusters.unknown(name)).near(name));
            }
            if !used.iter().any(|known| known == name) {
                used.push(name.into());
            }
        }
    }
    if let Some(name) = table.clusters().find(|name| clusters.find(name).is_none()) {
        return Err(wrong(clusters.unknown(name)));
    }
    Ok(used)
}

fn clusters_of(to: &oxy_http::route::Destination) -> Vec<&str> {
    use oxy_http::route::Destination::{ByHeader, Cluster, Split};
    match to {
        Cluster(name) => vec![name],
        Split(shares) => shares.iter().map(|share| &*share.cluster).collect(),
        ByHeader(by) => by
            .among
            .iter()
            .chain([&by.otherwise])
            .map(|name| &**name)
            .collect(),
        _ => Vec::new(),
    }
}

impl RelayKind {
    fn of(
        name: &str,
        settings: TcpSettings,
        has_tls: bool,
        clusters: &mut Clusters,
    ) -> Result<Self, SettingsError> {
        let TcpSettings {
            to,
            cluster,
            sni,
            sni_timeout,
        } = settings;
        let is_open = !to.is_empty() || cluster.is_some() || sni.is_empty() || has_tls;
        let cluster = if is_open {
            let place = cluster.clone();
            let used = clusters.one_of(name, &to, cluster, false)?;
            if let Some(place) = place {
                clusters.suits_bytes(&used, &place, "tcp")?;
            }
            Some(used)
        } else {
            None
        };
        Ok(Self {
            cluster,
            pass: passes(name, sni, clusters)?,
            sni_timeout,
        })
    }

    fn datagrams(
        name: &str,
        UdpSettings { to, cluster }: UdpSettings,
        clusters: &mut Clusters,
    ) -> Result<Self, SettingsError> {
        let to: Result<Vec<_>, _> = to.into_iter().map(over_udp).collect();
        let place = cluster.clone();
        let cluster = clusters.one_of_any(name, &to.map_err(wrong)?, cluster)?;
        if let Some(place) = place {
            clusters.suits_bytes(&cluster, &place, "udp")?;
        }
        Ok(Self {
            cluster: Some(cluster),
            pass: Vec::new(),
            sni_timeout: Duration::ZERO,
        })
    }
}

fn passes(
    name: &str,
    settings: Vec<Located<PassSettings>>,
    clusters: &mut Clusters,
) -> Result<Vec<Pass>, SettingsError> {
    let mut passes = Vec::new();
    let mut seen = HashSet::new();
    for (index, settings) in settings.into_iter().enumerate() {
        let (PassSettings { names, to, cluster }, place) = settings.split();
        let wrong = |message: String| SettingsError::at(&place, message);
        if names.is_empty() {
            return Err(wrong("`names` names nothing".into()));
        }
        let mut known = Vec::new();
        for name in names {
            let lower = name.to_ascii_lowercase();
            let host = lower.strip_prefix("*.").unwrap_or(&lower);
            if host.parse::<HostName>().is_err() {
                return Err(
                    wrong(format!("{name:?} is no name that a client could ask for")).near(name),
                );
            }
            if !seen.insert(lower.clone()) {
                return Err(wrong(format!("{name:?} is there twice")).near(name));
            }
            known.push(lower);
        }
        let place = format!("{name}.sni-{}", index + 1);
        passes.push(Pass {
            names: known,
            cluster: clusters
                .one_of(&place, &to, cluster, false)
                .map_err(|error| {
                    if error.line == 0 {
                        wrong(error.message)
                    } else {
                        error
                    }
                })?,
        });
    }
    Ok(passes)
}

/// Whether two of it are the same place: port 0 is a different port each time.
fn is_fixed(address: &ListenAddr) -> bool {
    address.socket_addr().is_none_or(|at| at.port() != 0)
}

fn over_udp(to: To) -> Result<To, String> {
    match to {
        To::Target(Target::Tcp { host, port }) => Ok(To::Target(Target::udp(host, port))),
        To::Target(udp @ Target::Udp { .. }) => Ok(To::Target(udp)),
        other => Err(format!("`{other}`: datagrams do not go there")),
    }
}

fn listening(address: ListenAddr, datagrams: bool) -> Result<ListenAddr, String> {
    match (address, datagrams) {
        (ListenAddr::Tcp(address) | ListenAddr::Udp(address), true) => Ok(ListenAddr::Udp(address)),
        (address @ (ListenAddr::Tcp(_) | ListenAddr::Unix(_)), false) => Ok(address),
        (address, _) => Err(format!("`{address}` is not for this kind of listener")),
    }
}

/// An error that has no place yet.
pub(super) fn wrong(message: impl std::fmt::Display) -> SettingsError {
    SettingsError::whole("", message)
}

/// Settings as text, to tell whether they are the same.
pub(super) fn text(settings: &impl Serialize) -> String {
    // It fails only for maps whose keys are not strings.
    serde_json::to_string(settings).unwrap_or_default()
}
