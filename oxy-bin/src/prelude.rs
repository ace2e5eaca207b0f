//! What most programs on Oxy use.

pub use oxy_core::cluster::{Cluster, ClusterSpec, EndpointSpec};
pub use oxy_core::offramp::EgressPolicy;
pub use oxy_core::{
    Ended, Error, ErrorKind, Flow, FlowHooks, FlowInfo, Layer, Live, Proxy, Result, Server, Side,
    Summary, Target, Verdict,
};
pub use oxy_http::{
    At, Body, ExchangeSummary, Http, HttpHooks, HttpOptions, HttpPlan, HttpProxy, Protocol, Req,
    Res, Route, StickyCookie, Upstream,
};
pub use oxy_tls::{
    CertFiles, CertStore, ClientOptions, ProxyTls, ServerOptions, TlsClient, TlsOfframp, TlsServer,
};
