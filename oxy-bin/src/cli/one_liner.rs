//! Command lines that stand for a settings file.

use oxy_core::cluster::EndpointSpec;
use oxy_core::offramp::EgressPolicy;
use oxy_tls::{CertFiles, ClientOptions, ServerOptions};

use super::args::{Certificates, Common, Forward, Reverse, Routed};
use crate::settings::{
    AccessLogSettings, AdminSettings, ClusterSettings, HttpSettings, Listen, ListenerSettings,
    LogPath, OriginSettings, Plan, Settings, SettingsError, TcpSettings, To, UdpSettings,
};

/// The cluster of origins of which more is said than where they are.
const ORIGIN: &str = "origin";

pub(super) fn reverse(args: Reverse) -> Result<Plan, SettingsError> {
    let Reverse {
        listen,
        certificates,
        to,
        ca,
        insecure,
        common,
    } = args;
    let mut http = HttpSettings::default();
    let mut clusters = Vec::new();
    if ca.is_empty() && !insecure {
        http.to = to;
    } else {
        let mut tls = ClientOptions::default();
        tls.ca = ca;
        tls.insecure_skip_verify = insecure;
        clusters.push(secured(to, tls)?.into());
        http.cluster = Some(ORIGIN.to_owned().into());
    }
    let listeners = split(listen, &certificates, |listen, tls| ListenerSettings {
        listen,
        tls,
        http: Some(http.clone()),
        ..ListenerSettings::default()
    })?;
    let settings = Settings {
        clusters,
        listeners: listeners.into_iter().map(Into::into).collect(),
        ..settings(common)
    };
    plan(settings)
}

pub(super) fn forward(args: Forward) -> Result<Plan, SettingsError> {
    let Forward {
        listen,
        certificates,
        allow_private,
        common,
    } = args;
    let http = HttpSettings {
        forward: true,
        ..HttpSettings::default()
    };
    let egress = EgressPolicy {
        allow_private,
        allow_loopback: allow_private,
        ..EgressPolicy::default()
    };
    let listeners = split(listen, &certificates, |listen, tls| ListenerSettings {
        listen,
        tls,
        http: Some(http.clone()),
        egress: Some(egress.clone()),
        ..ListenerSettings::default()
    })?;
    let settings = Settings {
        listeners: listeners.into_iter().map(Into::into).collect(),
        ..settings(common)
    };
    plan(settings)
}

pub(super) fn tcp(Routed { listen, to, common }: Routed) -> Result<Plan, SettingsError> {
    let listener = ListenerSettings {
        listen,
        tcp: Some(TcpSettings {
            to,
            ..TcpSettings::default()
        }),
        ..ListenerSettings::default()
    };
    plan(Settings {
        listeners: vec![listener.into()],
        ..settings(common)
    })
}

pub(super) fn udp(Routed { listen, to, common }: Routed) -> Result<Plan, SettingsError> {
    let listener = ListenerSettings {
        listen,
        udp: Some(UdpSettings { to, cluster: None }),
        ..ListenerSettings::default()
    };
    plan(Settings {
        listeners: vec![listener.into()],
        ..settings(common)
    })
}

/// The cluster of `to`, all of which is spoken to through `tls`.
fn secured(to: Vec<To>, tls: ClientOptions) -> Result<ClusterSettings, SettingsError> {
    let mut endpoints = Vec::new();
    for to in to {
        let To::Https(target) = to else {
            return Err(wrong(format!(
                "`--to {to}`: --ca and --insecure are for https:// origins"
            )));
        };
        endpoints.push(EndpointSpec::new(target));
    }
    Ok(ClusterSettings {
        name: ORIGIN.into(),
        endpoints,
        http: OriginSettings {
            tls: Some(tls.into()),
            ..OriginSettings::default()
        },
        ..ClusterSettings::default()
    })
}

type Secure = Option<crate::settings::Located<ServerOptions>>;

/// One listener for the addresses with TLS, and one for those without.
fn split(
    listen: Vec<Listen>,
    certificates: &Certificates,
    make: impl Fn(Vec<Listen>, Secure) -> ListenerSettings,
) -> Result<Vec<ListenerSettings>, SettingsError> {
    let Certificates { cert, key } = certificates;
    let (secure, clear): (Vec<_>, Vec<_>) = listen
        .into_iter()
        .partition(|listen| listen.secure == Some(true));
    match (secure.first(), cert.is_empty() && key.is_empty()) {
        (Some(listen), true) => {
            return Err(wrong(format!("`--listen {listen}` needs --cert and --key")));
        }
        (None, false) => {
            return Err(wrong(
                "--cert and --key are for https:// in --listen, as in --listen https://:8443",
            ));
        }
        _ if cert.len() != key.len() => {
            let (certs, keys) = (cert.len(), key.len());
            return Err(wrong(format!(
                "each --cert needs its --key: there are {certs} and {keys}"
            )));
        }
        _ => {}
    }
    let mut listeners = Vec::new();
    if !clear.is_empty() {
        listeners.push(make(clear, None));
    }
    if !secure.is_empty() {
        let pairs = cert.iter().zip(key);
        let mut tls = ServerOptions::default();
        tls.certificates = pairs.map(|(cert, key)| CertFiles::new(cert, key)).collect();
        listeners.push(make(secure, Some(tls.into())));
    }
    Ok(listeners)
}

fn settings(common: Common) -> Settings {
    Settings {
        workers: common.workers,
        admin: common.admin.map(|listen| AdminSettings { listen }),
        access_log: AccessLogSettings {
            format: common.access_log,
            path: LogPath::Stdout,
        },
        ..Settings::default()
    }
}

fn plan(settings: Settings) -> Result<Plan, SettingsError> {
    Plan::of(settings).map_err(|error| wrong(error.message))
}

fn wrong(message: impl std::fmt::Display) -> SettingsError {
    SettingsError::whole("command line", message)
}
