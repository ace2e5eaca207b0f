//! What serves, by the plan that is in force, and how another plan takes its place.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use oxy_core::cluster::Cluster;
use oxy_core::offramp::{AnyOfframp, Dialer, Direct};
use oxy_core::onramp::StreamBind;
use oxy_core::resolve::Resolver;
use oxy_core::{Changes, Live, Proxy, Result, Running, Target};
use oxy_http::{Http, HttpPlan, HttpProxy};
use oxy_tls::{ProxyTls, TlsServer};
use oxy_tunnel::proxy_protocol::ProxyProtocolBind;

use super::app::App;
use super::authority::Authority;
use super::switch::{Switch, Table};
use super::tender::Tender;
use super::vacant;
use super::ways::Group;
use crate::access_log::AccessLog;
use crate::metrics::{Books, Observed};
use crate::origin;
use crate::settings::{HttpKind, Kind, Listener, Pass, Plan, RelayKind};

/// What serves.
pub(super) struct Stage {
    /// Threads that take flows in.
    threads: usize,
    log: Option<AccessLog>,
    /// Where what is to be counted is shown, if anybody looks.
    observed: Option<Arc<Observed>>,
    origin: Option<(Running, Target)>,
    groups: HashMap<String, Group>,
    posts: HashMap<String, Post>,
    tender: Tender,
}

/// A listener that serves.
#[derive(Clone)]
struct Post {
    plan: Listener,
    live: Option<Live<HttpPlan>>,
    switch: Option<Switch>,
    books: Option<Arc<Books>>,
    authority: Option<Arc<Authority>>,
}

/// A plan that can take the place of what is in force: nothing in it can fail any more but its sockets.
struct Draft {
    groups: HashMap<String, Group>,
    posts: HashMap<String, Post>,
    changes: Changes,
    /// What is published once the sockets are there.
    http: Vec<(Live<HttpPlan>, HttpPlan)>,
    tables: Vec<(Switch, Table)>,
    /// Servers, and those whose options they adopt.
    tls: Vec<(TlsServer, TlsServer)>,
    summary: Summary,
}

impl Stage {
    /// Nothing yet.
    pub(super) fn new(
        threads: usize,
        log: Option<AccessLog>,
        observed: Option<Arc<Observed>>,
    ) -> Self {
        Self {
            threads,
            log,
            observed,
            origin: None,
            groups: HashMap::new(),
            posts: HashMap::new(),
            tender: Tender::default(),
        }
    }

    /// Puts `plan` in force, or leaves everything as it is. Says what has changed.
    pub(super) fn apply(&mut self, plan: Plan, running: &Running) -> Result<String> {
        if plan.needs_builtin() && self.origin.is_none() {
            // What is behind a listener must outlive it, so that what has begun can end.
            self.origin = Some(origin::start()?);
        }
        let order: Vec<String> = plan.listeners.iter().map(|it| it.name.clone()).collect();
        let draft = self.draft(plan)?;
        let known: Vec<_> = running.addresses().into_iter().map(|(_, at)| at).collect();
        for post in draft.posts.values() {
            for address in post.plan.listen.iter().filter(|at| !known.contains(at)) {
                vacant::check(address)?;
            }
        }
        if !draft.changes.is_empty() {
            running.apply(draft.changes)?;
        }
        let mut summary = draft.summary;
        for (name, group) in &draft.groups {
            let old = self.groups.get(name);
            if old.is_some_and(|old| old.plan.spec != group.plan.spec)
                && let Err(error) = group.cluster.update(group.plan.spec.clone())
            {
                // Not reached: a cluster has been made of it before.
                tracing::error!(cluster = name, "{error:?}");
            }
        }
        for (live, plan) in draft.http {
            live.publish(plan);
        }
        for (server, newer) in draft.tls {
            server.adopt(&newer);
        }
        for (switch, table) in draft.tables {
            switch.publish(table);
        }
        self.groups = draft.groups;
        self.posts = draft.posts;
        for name in &order {
            if let Some(tls) = self
                .posts
                .get_mut(name)
                .and_then(|post| post.plan.tls.as_mut())
            {
                match tls.refresh() {
                    Ok(true) => summary.certificates.push(name.clone()),
                    Ok(false) => {}
                    // They could be read a moment ago.
                    Err(error) => {
                        tracing::error!(listener = name, "the old certificates stay: {error:?}");
                    }
                }
            }
        }
        let charges = self.groups.values().map(|group| {
            let Group {
                plan,
                cluster,
                tending,
                ..
            } = group.clone();
            (cluster, tending, plan.way)
        });
        self.tender.look_after(charges.collect());
        self.show(&order);
        Ok(summary.text())
    }

    /// Where the certificate of the authority of the listener `name` is, if it was made for this process.
    pub(super) fn authority(&self, name: &str) -> Option<PathBuf> {
        let authority = self.posts.get(name)?.authority.as_ref()?;
        Some(authority.path().to_owned())
    }

    /// Has the admin listener show what is in force.
    fn show(&self, order: &[String]) {
        let Some(observed) = &self.observed else {
            return;
        };
        let posts = || order.iter().filter_map(|name| self.posts.get(name));
        let mut groups: Vec<_> = self.groups.values().collect();
        groups.sort_by(|a, b| a.plan.name.cmp(&b.plan.name));
        observed.show(
            posts().filter_map(|post| post.books.clone()).collect(),
            posts()
                .filter_map(|post| Some((post.plan.name.clone(), post.plan.tls.clone()?)))
                .collect(),
            groups
                .into_iter()
                .map(|group| (group.cluster.clone(), group.plan.tls.clone()))
                .collect(),
        );
    }

    fn draft(&self, plan: Plan) -> Result<Draft> {
        let builtin = self.origin.as_ref().map(|(_, target)| target);
        let mut summary = Summary::default();
        let mut groups = HashMap::new();
        for plan in plan.clusters {
            let old = self.groups.get(&plan.name);
            match old {
                None => summary.clusters.push(format!("+{}", plan.name)),
                Some(old) if old.plan.whole != plan.whole || old.plan.way != plan.way => {
                    summary.clusters.push(format!("~{}", plan.name));
                }
                Some(_) => {}
            }
            let group = Group::new(plan, builtin, old)?;
            groups.insert(group.plan.name.clone(), group);
        }
        for name in self
            .groups
            .keys()
            .filter(|name| !groups.contains_key(*name))
        {
            summary.clusters.push(format!("-{name}"));
        }
        let mut draft = Draft {
            groups,
            posts: HashMap::new(),
            changes: Changes::new(),
            http: Vec::new(),
            tables: Vec::new(),
            tls: Vec::new(),
            summary,
        };
        for plan in plan.listeners {
            self.place(plan, &mut draft)?;
        }
        for name in self.posts.keys() {
            if !draft.posts.contains_key(name) {
                draft.summary.listeners.push(format!("-{name}"));
                draft.changes = draft.changes.remove(name);
            }
        }
        Ok(draft)
    }

    /// Has `plan` served in `draft`: by what serves it now, where that can.
    fn place(&self, mut plan: Listener, draft: &mut Draft) -> Result<()> {
        let name = plan.name.clone();
        let old = self.posts.get(&name);
        if let Some(old) = old
            && old.plan.frame == plan.frame
        {
            if old.plan.whole != plan.whole {
                draft.summary.routes.push(name.clone());
            }
            if let (Some(live), Kind::Http(http)) = (&old.live, &plan.kind)
                && (old.plan.whole != plan.whole || self.ways_changed(&http.clusters, draft))
            {
                draft
                    .http
                    .push((live.clone(), http_plan(http, &draft.groups)?));
            }
            if let Some(switch) = &old.switch {
                let pass = passes(&plan.kind);
                let clusters: Vec<_> = pass.iter().map(|pass| pass.cluster.clone()).collect();
                if passes(&old.plan.kind) != pass || self.ways_changed(&clusters, draft) {
                    draft
                        .tables
                        .push((switch.clone(), self.table(pass, &draft.groups)));
                }
            }
            if let (Some(now), Some(newer)) = (&old.plan.tls, plan.tls.take()) {
                // Its sessions and its tickets go on.
                if now.differs(&newer) {
                    draft.summary.certificates.push(name.clone());
                    draft.tls.push((now.server.clone(), newer.server.clone()));
                    plan.tls = Some(now.with(newer));
                } else {
                    plan.tls = Some(now.clone());
                }
            }
            draft.posts.insert(
                name,
                Post {
                    plan,
                    ..old.clone()
                },
            );
            return Ok(());
        }
        let is_http = matches!(plan.kind, Kind::Http(_));
        let books = self.observed.as_ref().map(|_| {
            let before = old.and_then(|old| old.books.clone());
            let before = before.filter(|books| books.is_http() == is_http);
            before.unwrap_or_else(|| Arc::new(Books::new(&name, is_http, self.threads)))
        });
        let live = match &plan.kind {
            Kind::Http(http) => Some(Live::new(http_plan(http, &draft.groups)?)),
            Kind::Relay(_) => None,
        };
        let app = App {
            books: books.clone(),
            log: self.log.clone(),
            is_http,
            switch: self.switch(&plan, &draft.groups)?,
            client_identity: match &plan.kind {
                Kind::Http(http) => http.client_identity.clone(),
                Kind::Relay(_) => None,
            },
        };
        let before = old.and_then(|old| old.authority.as_deref());
        let post = Post {
            authority: Authority::of(&plan, before)?.map(Arc::new),
            live,
            switch: app.switch.clone(),
            books,
            plan,
        };
        let changes = std::mem::take(&mut draft.changes);
        let is_new = old.is_none();
        draft.changes = if app.is_idle() {
            arrive(
                changes,
                proxy(&post, (), |live| Http::new(()).live(live), &draft.groups),
                is_new,
            )
        } else {
            let make = |live| Http::new(app.clone()).live(live);
            arrive(
                changes,
                proxy(&post, app.clone(), make, &draft.groups),
                is_new,
            )
        };
        let sign = if is_new { '+' } else { '~' };
        draft.summary.listeners.push(format!("{sign}{name}"));
        draft.posts.insert(name, post);
        Ok(())
    }

    /// Whether any of `clusters` is reached otherwise than before.
    fn ways_changed(&self, clusters: &[String], draft: &Draft) -> bool {
        clusters.iter().any(|name| {
            let (old, new) = (self.groups.get(name), draft.groups.get(name));
            match (old, new) {
                (Some(old), Some(new)) => !Arc::ptr_eq(&old.upstream, &new.upstream),
                _ => true,
            }
        })
    }

    fn switch(&self, plan: &Listener, groups: &HashMap<String, Group>) -> Result<Option<Switch>> {
        let pass = passes(&plan.kind);
        if pass.is_empty() {
            return Ok(None);
        }
        let offramp = |_| {
            let resolver = Resolver::new(plan.resolve.clone())?;
            let dialer = Dialer::new(resolver, plan.egress.clone(), plan.dial.clone());
            Ok(AnyOfframp::new(Direct::new(dialer)))
        };
        let offramps = (0..self.threads).map(offramp).collect::<Result<Vec<_>>>()?;
        let (timeout, closed) = match (&plan.kind, &plan.tls) {
            (Kind::Relay(relay), _) => (relay.sni_timeout, relay.cluster.is_none()),
            (Kind::Http(_), Some(tls)) => (tls.server.options().handshake_timeout, false),
            (Kind::Http(_), None) => return Ok(None),
        };
        let table = self.table(pass, groups);
        Ok(Some(Switch::new(table, offramps, timeout, closed)))
    }

    fn table(&self, pass: &[Pass], groups: &HashMap<String, Group>) -> Table {
        Table::new(pass, self.threads, |name| {
            let group = groups.get(name)?;
            Some((group.cluster.clone(), group.via()))
        })
    }
}

fn arrive<A: oxy_core::FlowHooks>(changes: Changes, proxy: Proxy<A>, is_new: bool) -> Changes {
    if is_new {
        changes.add(proxy)
    } else {
        changes.replace(proxy)
    }
}

fn passes(kind: &Kind) -> &[Pass] {
    match kind {
        Kind::Http(http) => &http.pass,
        Kind::Relay(relay) => &relay.pass,
    }
}

fn http_plan(http: &HttpKind, groups: &HashMap<String, Group>) -> Result<HttpPlan> {
    let mut plan = HttpPlan::new().options(http.options.clone());
    for group in http.clusters.iter().filter_map(|name| groups.get(name)) {
        plan = plan.upstream(group.upstream.clone())?;
    }
    if !http.routes.is_empty() {
        plan = plan.routes(&http.routes)?;
    }
    Ok(if http.forward { plan.forward() } else { plan })
}

/// The proxy of `post`, with `app` for its hooks and the HTTP that `http` makes.
fn proxy<A, H>(
    post: &Post,
    app: A,
    http: impl FnOnce(Live<HttpPlan>) -> Http<H>,
    groups: &HashMap<String, Group>,
) -> Proxy<A>
where
    A: oxy_core::FlowHooks,
    H: oxy_http::HttpHooks<A::Conn>,
{
    let Listener {
        name,
        listen,
        kind,
        tls,
        proxy_protocol,
        stream,
        datagram,
        relay,
        egress,
        dial,
        resolve,
        ..
    } = &post.plan;
    let mut proxy = Proxy::new(app)
        .name(name)
        .stream_options(stream.clone())
        .udp_options(datagram.clone())
        .relay(relay.clone());
    for address in listen.iter().cloned() {
        proxy = match proxy_protocol {
            Some(options) => {
                let bind = StreamBind::new(address, stream.clone());
                proxy.listen_on(ProxyProtocolBind::new(bind, options.clone()))
            }
            None => proxy.listen(address),
        };
    }
    if let Some(tls) = tls {
        proxy = proxy.tls(tls.server.clone());
    }
    let group = match kind {
        Kind::Relay(RelayKind { cluster, .. }) => cluster.as_ref().and_then(|it| groups.get(it)),
        Kind::Http(_) => None,
    };
    proxy = match group.and_then(Group::via) {
        None => proxy.egress(egress.clone(), dial.clone(), resolve.clone()),
        Some(via) => {
            let (egress, dial, resolve) = (egress.clone(), dial.clone(), resolve.clone());
            proxy.offramp(move |_| {
                let resolver = Resolver::new(resolve.clone())?;
                let dialer = Dialer::new(resolver, egress.clone(), dial.clone());
                Ok(via(AnyOfframp::new(Direct::new(dialer))))
            })
        }
    };
    if let Some(group) = group {
        let cluster: Arc<Cluster> = group.cluster.clone();
        proxy = proxy.cluster(cluster).tending(group.tending.clone());
    }
    match &post.live {
        Some(live) => proxy.http(http(live.clone())),
        None => proxy,
    }
}

/// What a new plan has changed, in words for the log.
#[derive(Debug, Default)]
struct Summary {
    listeners: Vec<String>,
    clusters: Vec<String>,
    routes: Vec<String>,
    certificates: Vec<String>,
}

impl Summary {
    fn text(self) -> String {
        let parts = [
            ("listeners", self.listeners),
            ("clusters", self.clusters),
            ("routes and options of", self.routes),
            ("certificates of", self.certificates),
        ];
        let parts: Vec<_> = parts
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, mut names)| {
                names.sort();
                format!("{what} {}", names.join(" "))
            })
            .collect();
        if parts.is_empty() {
            "nothing has changed".into()
        } else {
            parts.join(", ")
        }
    }
}
