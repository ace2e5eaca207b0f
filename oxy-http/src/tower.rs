//! Services of [tower](https://docs.rs/tower-service) answer requests: an axum router, say.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use oxy_http::Http;
//! use oxy_http::tower::Answer;
//!
//! fn main() -> oxy_core::Result<()> {
//!     let app = Router::new().route("/", get(async || "hello"));
//!     Http::new(Answer(app)).run("127.0.0.1:8000")
//! }
//! ```

use std::error::Error as StdError;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use oxy_core::{Error, FlowInfo, Result};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::body::Body;
use crate::hooks::{At, HttpHooks, Route};
use crate::message::Req;

/// Has a service answer every request, whatever version of HTTP it came by. Bodies are streamed both ways.
///
/// The service is cloned for each request and asked whether it is ready. An error of its own is answered with 500. What is
/// known of the connection is among the request's extensions, as [`Arc<FlowInfo>`](FlowInfo). A protocol cannot be changed
/// by a service: who asks for an upgrade (WebSocket) is answered without.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer<S>(pub S);

/// What an error of a service can be.
type Fault = Box<dyn StdError + Send + Sync>;

impl<S> Answer<S> {
    /// For hooks that leave only some requests to a service: its answer to `req`, which is taken.
    ///
    /// # Errors
    ///
    /// The service's, as one of the program's own. Cancel safe as far as the service is.
    pub async fn answer<B>(&self, info: &Arc<FlowInfo>, req: &mut Req) -> Result<Route>
    where
        S: Service<Request<Body>, Response = Response<B>, Error: Into<Fault>> + Clone,
        B: http_body::Body<Data = Bytes, Error: Into<Fault>> + Send + 'static,
    {
        let mut request = std::mem::replace(&mut **req, Request::new(Body::empty()));
        request.extensions_mut().insert(info.clone());
        let mut service = self.0.clone();
        let ready = poll_fn(|cx| service.poll_ready(cx)).await;
        ready.map_err(Error::app)?;
        let response = service.call(request).await.map_err(Error::app)?;
        Ok(response.map(|body| Body::wrap(Own { body })).into())
    }
}

impl<S, B, C> HttpHooks<C> for Answer<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<Fault>, Future: Send>,
    S: Clone + Send + Sync + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<Fault>> + Send + 'static,
    C: Sync + 'static,
{
    type Cx = ();

    async fn on_request(&self, at: At<'_, C>, (): &mut (), req: &mut Req) -> Result<Route> {
        self.answer(at.info, req).await
    }
}

pin_project! {
    /// A body whose errors are the program's own.
    struct Own<B> {
        #[pin]
        body: B,
    }
}

impl<B> http_body::Body for Own<B>
where
    B: http_body::Body<Data = Bytes, Error: Into<Fault>>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        let frame = self.project().body.poll_frame(cx);
        frame.map(|frame| frame.map(|frame| frame.map_err(Error::app)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
