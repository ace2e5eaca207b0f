//! What most programs on Oxy use.

pub use oxy_core::offramp::EgressPolicy;
pub use oxy_core::{
    Ended, Error, ErrorKind, Flow, FlowHooks, FlowInfo, Layer, Proxy, Result, Server, Side,
    Summary, Target, Verdict,
};
pub use oxy_http::{
    At, Body, ExchangeSummary, Http, HttpHooks, HttpOptions, HttpProxy, Req, Res, Route,
};
