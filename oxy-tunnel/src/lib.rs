//! Flows inside flows for the [Oxy proxy framework](oxy_core): what wraps a client's bytes on their way from one proxy to
//! the next.
//!
//! * [`proxy_protocol`]: a header in front of a connection that says for whom it is.

pub mod proxy_protocol;
