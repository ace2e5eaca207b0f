//! What settings come to once everything has been checked.

use std::collections::HashSet;

use oxy_core::Target;
use oxy_core::offramp::{DialOptions, EgressPolicy};
use oxy_core::onramp::{ListenAddr, StreamOptions, UdpOptions};
use oxy_core::relay::RelayOptions;
use oxy_core::resolve::ResolveOptions;
use oxy_http::HttpOptions;

use super::{
    AccessLogSettings, HttpSettings, ListenerSettings, Located, RelaySettings, Settings,
    SettingsError, To,
};

/// What is to be run: nothing in it is left to check.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// Worker threads; none is one for each core.
    pub workers: Option<usize>,
    /// How long a drain may take.
    pub drain_timeout: std::time::Duration,
    /// Where the admin listener is.
    pub admin: Option<ListenAddr>,
    /// What is logged.
    pub access_log: AccessLogSettings,
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
}

/// What becomes of a listener's flows.
#[derive(Clone, Debug)]
pub enum Kind {
    /// HTTP, to these origins by turns; not empty.
    Reverse(Vec<To>, Box<HttpOptions>),
    /// HTTP, to where requests ask to go.
    Forward(Box<HttpOptions>),
    /// They are relayed, to these targets by turns; not empty.
    Relay(Vec<To>),
}

/// The admin listener's name, which no other may have.
pub(crate) const ADMIN: &str = "admin";

impl Plan {
    /// Checks what the settings' types cannot say.
    pub fn of(settings: Settings) -> Result<Self, SettingsError> {
        if settings.listeners.is_empty() {
            return Err(SettingsError::at(
                &Located {
                    value: (),
                    line: 1,
                    column: 1,
                },
                "there is nothing to listen on: `listeners` is empty",
            ));
        }
        let mut names = HashSet::from([ADMIN.to_owned()]);
        let admin = settings.admin.map(|admin| admin.listen.0);
        let mut taken: HashSet<_> = admin.clone().into_iter().filter(is_fixed).collect();
        let mut listeners = Vec::new();
        for (index, settings) in settings.listeners.into_iter().enumerate() {
            let place = Located {
                value: (),
                line: settings.line,
                column: settings.column,
            };
            let wrong = |message: String| SettingsError::at(&place, message);
            let mut listener = Listener::of(settings.value).map_err(wrong)?;
            if listener.name.is_empty() {
                listener.name = listener.kind.name().into();
                if names.contains(&listener.name) {
                    listener.name = format!("{}-{}", listener.kind.name(), index + 1);
                }
            }
            if !names.insert(listener.name.clone()) {
                let message = if listener.name == ADMIN {
                    "the name `admin` is the admin listener's".to_owned()
                } else {
                    format!("two listeners are called `{}`", listener.name)
                };
                return Err(SettingsError::at(&place, message));
            }
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
            listeners,
        })
    }

    /// Whether anything goes to the built-in origin.
    pub(crate) fn needs_builtin(&self) -> bool {
        self.listeners.iter().any(|listener| match &listener.kind {
            Kind::Reverse(to, _) | Kind::Relay(to) => to.contains(&To::Builtin),
            Kind::Forward(_) => false,
        })
    }
}

impl Kind {
    /// A name for a listener that has none.
    fn name(&self) -> &'static str {
        match self {
            Self::Reverse(..) => "reverse",
            Self::Forward(_) => "forward",
            Self::Relay(to) => match to.first() {
                Some(To::Target(Target::Udp { .. })) => "udp",
                _ => "tcp",
            },
        }
    }
}

impl Listener {
    fn of(settings: ListenerSettings) -> Result<Self, String> {
        let ListenerSettings {
            name,
            listen,
            http,
            tcp,
            udp,
            stream,
            datagram,
            relay,
            egress,
            dial,
            resolve,
        } = settings;
        let datagrams = udp.is_some();
        match (datagrams, &stream, &datagram) {
            (true, Some(_), _) => {
                return Err("`stream` is not for `udp`; that has `datagram`".into());
            }
            (false, _, Some(_)) => return Err("`datagram` is for `udp` only".into()),
            _ => {}
        }
        let kind = match (http, tcp, udp) {
            (Some(http), None, None) => http_kind(http)?,
            (None, Some(RelaySettings { to }), None) => Kind::Relay(streams(to)?),
            (None, None, Some(RelaySettings { to })) => Kind::Relay(
                some(to)?
                    .into_iter()
                    .map(over_udp)
                    .collect::<Result<_, _>>()?,
            ),
            _ => return Err("a listener has exactly one of `http`, `tcp` and `udp`".into()),
        };
        if listen.is_empty() {
            return Err("`listen` names no address".into());
        }
        let listen = listen
            .into_iter()
            .map(|listen| listening(listen.0, datagrams));
        let egress = egress.unwrap_or_else(|| match kind {
            Kind::Forward(_) => EgressPolicy::default(),
            Kind::Reverse(..) | Kind::Relay(_) => EgressPolicy::open(),
        });
        Ok(Self {
            name: name.unwrap_or_default(),
            listen: listen.collect::<Result<_, _>>()?,
            kind,
            stream: stream.unwrap_or_default(),
            datagram: datagram.unwrap_or_default(),
            relay,
            egress,
            dial,
            resolve,
        })
    }
}

/// Whether two of it are the same place: port 0 is a different port each time.
fn is_fixed(address: &ListenAddr) -> bool {
    address.socket_addr().is_none_or(|at| at.port() != 0)
}

fn http_kind(
    HttpSettings {
        to,
        forward,
        options,
    }: HttpSettings,
) -> Result<Kind, String> {
    match (forward, to.is_empty()) {
        (true, false) => Err("`http` has either `to` or `forward`".into()),
        (true, true) => Ok(Kind::Forward(Box::new(options))),
        (false, _) => Ok(Kind::Reverse(
            streams(to).map_err(|e| format!("{e}, and `http.forward` is not set"))?,
            Box::new(options),
        )),
    }
}

fn some(to: Vec<To>) -> Result<Vec<To>, String> {
    if to.is_empty() {
        return Err("`to` names no target".into());
    }
    Ok(to)
}

fn streams(to: Vec<To>) -> Result<Vec<To>, String> {
    match to
        .iter()
        .find(|to| matches!(to, To::Target(Target::Udp { .. })))
    {
        Some(to) => Err(format!("`{to}`: streams do not go to UDP")),
        None => some(to),
    }
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
