//! Where an application decides about requests.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Response, StatusCode, Version};
use oxy_core::{Error, ErrorKind, FlowInfo, Result, Side, Target};

use crate::asked::Asked;
use crate::body::Body;
use crate::message::{Req, Res};
use crate::respond;

/// Where in the flow tree an exchange takes place.
#[derive(Debug)]
pub struct At<'a, C = ()> {
    /// The application's state of the connection ([`oxy_core::FlowHooks::Conn`]).
    pub conn: &'a C,
    /// The connection.
    pub info: &'a Arc<FlowInfo>,
}

impl<C> Clone for At<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for At<'_, C> {}

/// What is to become of a request.
#[non_exhaustive]
pub enum Route {
    /// What the configuration says.
    Table,
    /// It goes there.
    To(Target),
    /// The application answers itself.
    Answer(Box<Response<Body>>),
    /// It is refused with the status that [`Error::status`] gives.
    Refuse(Error),
}

impl Route {
    /// The application answers with this status and a line of text that says it again; with 500 if there is no such
    /// final status.
    pub fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status);
        respond::plain(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)).into()
    }
}

impl From<Response<Body>> for Route {
    fn from(response: Response<Body>) -> Self {
        Self::Answer(Box::new(response))
    }
}

impl From<Target> for Route {
    fn from(target: Target) -> Self {
        Self::To(target)
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table => f.write_str("Table"),
            Self::To(target) => write!(f, "To({target})"),
            Self::Answer(response) => write!(f, "Answer({})", response.status()),
            Self::Refuse(error) => write!(f, "Refuse({error:?})"),
        }
    }
}

/// The application's say over requests and responses, whatever version of HTTP they came by. `C` is the state of the
/// connection, where the application also has [`oxy_core::FlowHooks`].
///
/// All methods have defaults that cost nothing: a message that no hook looks at is never built. An error from a hook
/// ends the exchange with its [`Error::status`]. The methods are called in the order in which they stand here, one after
/// another; their futures are dropped when the client goes away, or when a body that they read stalls or drips
/// ([`crate::options::Timeouts::body`], [`crate::options::BodyLimits::min_rate`]). What else they wait for is theirs to bound.
pub trait HttpHooks<C: Sync + 'static = ()>: Send + Sync + 'static {
    /// What the application keeps with an exchange.
    type Cx: Default + Send + 'static;

    /// A request has come in; its body may still be on its way. Change it, look at it
    /// ([`Body::buffer`]), and say where it goes.
    fn on_request(
        &self,
        at: At<'_, C>,
        cx: &mut Self::Cx,
        req: &mut Req,
    ) -> impl Future<Output = Result<Route>> + Send {
        let _ = (at, cx, req);
        async { Ok(Route::Table) }
    }

    /// The request is about to go to `target`. Not called for requests that are answered here.
    fn on_upstream(
        &self,
        at: At<'_, C>,
        cx: &mut Self::Cx,
        target: &Target,
        req: &mut Req,
    ) -> impl Future<Output = Result<()>> + Send {
        let _ = (at, cx, target, req);
        async { Ok(()) }
    }

    /// A response is about to go to the client: the origin's, the application's own, or one that tells of an error.
    fn on_response(
        &self,
        at: At<'_, C>,
        cx: &mut Self::Cx,
        res: &mut Res,
    ) -> impl Future<Output = Result<()>> + Send {
        let _ = (at, cx, res);
        async { Ok(()) }
    }

    /// The exchange is over. Called exactly once for every request that [`HttpHooks::on_request`] saw. Must not block.
    fn on_finish(&self, at: At<'_, C>, cx: Self::Cx, summary: &ExchangeSummary<'_>) {
        let _ = (at, cx, summary);
    }
}

/// No application: everything as configured.
impl<C: Sync + 'static> HttpHooks<C> for () {
    type Cx = ();
}

/// An exchange's last word.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExchangeSummary<'a> {
    pub(crate) asked: &'a Asked,
    pub(crate) started: Instant,
    /// The client's version of HTTP.
    pub version: Version,
    /// The status that was sent; 0 if none was.
    pub status: u16,
    /// Bytes of the request's body that came from the client.
    pub received: u64,
    /// Bytes of the response's body that went to the client.
    pub sent: u64,
    /// Where the request went, unless it was answered here.
    pub upstream: Option<&'a Target>,
    /// Whether it went by a connection that had been used before.
    pub reused: bool,
    /// Tries after the first.
    pub retries: u32,
    /// From the request's head to the response's head.
    pub first_byte: Option<Duration>,
    /// What went wrong, if anything did.
    pub error: Option<(ErrorKind, Side)>,
}

/// What costs something to say is asked for.
impl<'a> ExchangeSummary<'a> {
    /// The method as it came in.
    pub fn method(&self) -> &'a str {
        self.asked.method()
    }

    /// The request target as it came in.
    pub fn target(&self) -> &'a str {
        self.asked.target()
    }

    /// The authority that was asked for: the target's, or else that of Host.
    pub fn host(&self) -> &'a str {
        self.asked.host()
    }

    /// When the request's head had come in.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// From the request's head until now, which is the response's end.
    pub fn took(&self) -> Duration {
        self.started.elapsed()
    }
}
