//! Command lines that stand for a settings file with one listener.

use oxy_core::offramp::{DialOptions, EgressPolicy};
use oxy_core::relay::RelayOptions;
use oxy_core::resolve::ResolveOptions;

use super::args::{Common, Forward, Routed};
use crate::settings::{
    AccessLogSettings, AdminSettings, HttpSettings, ListenerSettings, LogPath, Plan, RelaySettings,
    Settings, SettingsError,
};

pub(super) fn reverse(Routed { listen, to, common }: Routed) -> Result<Plan, SettingsError> {
    let http = HttpSettings {
        to,
        ..HttpSettings::default()
    };
    plan(
        ListenerSettings {
            listen,
            http: Some(http),
            ..blank()
        },
        common,
    )
}

pub(super) fn forward(args: Forward) -> Result<Plan, SettingsError> {
    let Forward {
        listen,
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
    plan(
        ListenerSettings {
            listen,
            http: Some(http),
            egress: Some(egress),
            ..blank()
        },
        common,
    )
}

pub(super) fn tcp(Routed { listen, to, common }: Routed) -> Result<Plan, SettingsError> {
    plan(
        ListenerSettings {
            listen,
            tcp: Some(RelaySettings { to }),
            ..blank()
        },
        common,
    )
}

pub(super) fn udp(Routed { listen, to, common }: Routed) -> Result<Plan, SettingsError> {
    plan(
        ListenerSettings {
            listen,
            udp: Some(RelaySettings { to }),
            ..blank()
        },
        common,
    )
}

fn plan(listener: ListenerSettings, common: Common) -> Result<Plan, SettingsError> {
    let settings = Settings {
        workers: common.workers,
        admin: common.admin.map(|listen| AdminSettings { listen }),
        access_log: AccessLogSettings {
            format: common.access_log,
            path: LogPath::Stdout,
        },
        listeners: vec![listener.into()],
        ..Settings::default()
    };
    Plan::of(settings).map_err(|error| SettingsError {
        file: "command line".into(),
        ..error
    })
}

fn blank() -> ListenerSettings {
    ListenerSettings {
        name: None,
        listen: Vec::new(),
        http: None,
        tcp: None,
        udp: None,
        stream: None,
        datagram: None,
        relay: RelayOptions::default(),
        egress: None,
        dial: DialOptions::default(),
        resolve: ResolveOptions::default(),
    }
}
