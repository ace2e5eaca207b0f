//! The clusters of a plan: those that are named, and those that a list of targets stands for.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use oxy_core::Target;
use oxy_core::cluster::{Cluster, ClusterSpec, EndpointSpec};
use oxy_core::resolve::ResolveOptions;
use oxy_http::health::HealthKind;
use oxy_http::{Protocol, StickyCookie, Upstream};
use oxy_tls::{ClientOptions, TlsClient};
use oxy_tunnel::proxy_protocol::{SendProxyProtocolOptions, Version};

use super::address::Scheme;
use super::error::{closest, story};
use super::plan::{text, wrong};
use super::{ClusterSettings, HttpVersion, Located, OriginSettings, SettingsError, To};
use crate::https::with_alpn;

/// A cluster to be, and how it is spoken to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClusterPlan {
    /// What it is called.
    pub name: String,
    /// Its endpoints, without the built-in origin.
    pub spec: ClusterSpec,
    /// The weight of the built-in origin; 0 if it is none of the endpoints.
    pub builtin: u32,
    /// Which version of HTTP is spoken.
    pub protocol: Protocol,
    /// TLS towards it.
    pub tls: Option<TlsClient>,
    /// What keeps a client with an endpoint.
    pub sticky_cookie: Option<StickyCookie>,
    /// How clients are named to it.
    pub send_proxy_protocol: Option<SendProxyProtocolOptions>,
    /// How endpoints are asked if they are well, where they are.
    pub probe: HealthKind,
    /// How names are resolved in the background.
    pub resolve: ResolveOptions,
    /// All that connections depend on, as text: the contents of files, too.
    pub(crate) way: String,
    /// All of it, as text.
    pub(crate) whole: String,
}

/// The clusters of a plan in the making.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    pub(super) plans: Vec<ClusterPlan>,
}

impl Clusters {
    pub(super) fn of(settings: Vec<Located<ClusterSettings>>) -> Result<Self, SettingsError> {
        let mut this = Self::default();
        for settings in settings {
            let (settings, place) = settings.split();
            let name = settings.name.clone();
            if name.is_empty() {
                return Err(SettingsError::at(&place, "a cluster has a `name`"));
            }
            if this.find(&name).is_some() {
                let message = format!("two clusters are called `{name}`");
                return Err(SettingsError::at(&place, message).near(name));
            }
            let plan = ClusterPlan::of(&settings, 0).map_err(|error| {
                if error.line == 0 {
                    SettingsError {
                        line: place.line,
                        column: place.column,
                        ..error
                    }
                } else {
                    error
                }
            })?;
            this.plans.push(plan);
        }
        Ok(this)
    }

    pub(super) fn find(&self, name: &str) -> Option<&ClusterPlan> {
        self.plans.iter().find(|plan| plan.name == name)
    }

    /// What is said of a cluster that is not there.
    pub(super) fn unknown(&self, name: &str) -> String {
        let known: Vec<&str> = self.plans.iter().map(|plan| &*plan.name).collect();
        match closest(name, &known) {
            Some(near) => format!("there is no cluster `{name}`; did you mean `{near}`?"),
            None if known.is_empty() => {
                format!("there is no cluster `{name}`: `clusters` is empty")
            }
            None => format!(
                "there is no cluster `{name}`; there are: {}",
                known.join(", ")
            ),
        }
    }

    /// The cluster of streams that `to` or `cluster` says, for `user`.
    pub(super) fn one_of(
        &mut self,
        user: &str,
        to: &[To],
        cluster: Option<Located<String>>,
        is_http: bool,
    ) -> Result<String, SettingsError> {
        for to in to {
            let is_udp = matches!(to, To::Target(Target::Udp { .. }));
            if is_udp {
                return Err(wrong(format!("`{to}`: streams do not go to UDP")).near(to.to_string()));
            }
            if !is_http && to.scheme() != Scheme::Http {
                return Err(wrong(format!(
                    "`{to}`: this is for `http`; bytes are passed on as they are here"
                )));
            }
        }
        self.one_of_any(user, to, cluster)
    }

    /// Whether the cluster `name`, which the settings of a `tcp` or `udp` listener name at `place`, asks for something that
    /// flows of bytes do not get there. What is passed on by the name that a client asks for is TLS already, and is none of it.
    pub(super) fn suits_bytes(
        &self,
        name: &str,
        place: &Located<String>,
        kind: &str,
    ) -> Result<(), SettingsError> {
        let Some(cluster) = self.find(name) else {
            return Ok(());
        };
        let message = if cluster.tls.is_some() {
            format!(
                "the cluster `{name}` has `http.tls`, which is for listeners with `http`: `{kind}` passes bytes on as they \
                 are, so that they would go there unencrypted; where that is wanted, use a cluster without `http.tls`"
            )
        } else if kind == "udp" && cluster.send_proxy_protocol.is_some() {
            format!("the cluster `{name}` has `send_proxy_protocol`, which is not for `udp`")
        } else {
            return Ok(());
        };
        Err(SettingsError::at(place, message).near(name))
    }

    /// The same of what it may be.
    pub(super) fn one_of_any(
        &mut self,
        user: &str,
        to: &[To],
        cluster: Option<Located<String>>,
    ) -> Result<String, SettingsError> {
        match (to.is_empty(), cluster) {
            (false, Some(_)) => Err(wrong("there is either `to` or `cluster`")),
            (true, None) => Err(wrong("`to` names no target")),
            (true, Some(name)) if self.find(&name).is_some() => Ok(name.value),
            (true, Some(name)) => Err(SettingsError::at(&name, self.unknown(&name))),
            (false, None) => self.implied(user, to),
        }
    }

    /// Adds the cluster that the targets of `user` stand for.
    fn implied(&mut self, user: &str, to: &[To]) -> Result<String, SettingsError> {
        let scheme = to.first().map_or(Scheme::Http, To::scheme);
        if let Some(other) = to.iter().find(|to| to.scheme() != scheme) {
            let message = format!(
                "`{other}`: targets that take turns have one scheme; clusters and routes are for more"
            );
            return Err(wrong(message).near(other.to_string()));
        }
        let name = format!("{user}.to");
        if self.find(&name).is_some() {
            return Err(wrong(format!(
                "the cluster `{name}` is what `to` is called here"
            )));
        }
        let mut endpoints: Vec<EndpointSpec> = Vec::new();
        let mut builtin = 0;
        for to in to {
            let Some(target) = to.target() else {
                builtin += 1;
                continue;
            };
            let address = target.clone().into();
            match endpoints.iter_mut().find(|known| known.address == address) {
                Some(known) => known.weight += 1,
                None => endpoints.push(EndpointSpec::new(address)),
            }
        }
        let mut http = OriginSettings::default();
        match scheme {
            Scheme::Http => {}
            Scheme::H2c => http.protocol = HttpVersion::Http2,
            Scheme::Https => http.tls = Some(ClientOptions::default().into()),
        }
        let settings = ClusterSettings {
            name: name.clone(),
            endpoints,
            http,
            ..ClusterSettings::default()
        };
        self.plans.push(ClusterPlan::of(&settings, builtin)?);
        Ok(name)
    }
}

impl ClusterPlan {
    fn of(settings: &ClusterSettings, builtin: u32) -> Result<Self, SettingsError> {
        let spec = settings.spec();
        Cluster::new(spec.clone()).map_err(|error| wrong(story(&error)))?;
        let http = &settings.http;
        let protocol = http.protocol.into();
        let tls = match &http.tls {
            None => None,
            Some(options) => {
                let client = TlsClient::new(with_alpn(options.value.clone(), protocol));
                Some(client.map_err(|error| {
                    let message = story(&error);
                    let file =
                        files(options).find(|file| message.contains(&*file.to_string_lossy()));
                    let file = file.map(|file| file.display().to_string());
                    SettingsError::at(options, message).near(file.unwrap_or_default())
                })?)
            }
        };
        if http.sticky_cookie.as_ref().is_some_and(|cookie| {
            // RFC 6265 section 4.1.1: a cookie's name is a token, as a field's is.
            cookie.name.parse::<http::HeaderName>().is_err()
        }) {
            return Err(
                wrong("the name of `sticky_cookie` is not the name of a cookie")
                    .near("sticky_cookie"),
            );
        }
        if settings.send_proxy_protocol.as_ref().is_some_and(|send| {
            send.version == Version::V1 && (send.checksum || send.authority || send.unique_id)
        }) {
            let message = "version 1 of the PROXY protocol says nothing but addresses";
            return Err(wrong(message).near("send_proxy_protocol"));
        }
        let probe = settings.health.as_ref().map(|it| it.kind.clone());
        let probe = probe.unwrap_or_default();
        check(&probe)?;
        let mut contents = DefaultHasher::new();
        for file in http.tls.iter().flat_map(|options| files(options)) {
            std::fs::read(file).unwrap_or_default().hash(&mut contents);
        }
        Ok(Self {
            way: text(&(
                &settings.http,
                &settings.send_proxy_protocol,
                &settings.resolve,
                &probe,
                contents.finish(),
            )),
            whole: text(&(settings, builtin)),
            name: settings.name.clone(),
            spec,
            builtin,
            protocol,
            tls,
            sticky_cookie: http.sticky_cookie.clone(),
            send_proxy_protocol: settings.send_proxy_protocol.clone(),
            probe,
            resolve: settings.resolve.clone(),
        })
    }
}

/// Whether endpoints can be asked by `kind`.
fn check(kind: &HealthKind) -> Result<(), SettingsError> {
    // What it would go out by is not looked at.
    let probe = Upstream::new(Cluster::new(ClusterSpec::default()).map_err(|e| wrong(story(&e)))?);
    let made = probe.probe(kind.clone());
    made.map(drop)
        .map_err(|error| wrong(story(&error)).near("health"))
}

/// The files that `options` name.
fn files(options: &ClientOptions) -> impl Iterator<Item = &PathBuf> {
    options.ca.iter().chain(&options.cert).chain(&options.key)
}
