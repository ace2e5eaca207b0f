//! The one HTTP driver: every exchange, whatever version it came by, goes through here.

use std::fmt;
use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use http::{StatusCode, Version};
use oxy_core::offramp::AnyOfframp;
use oxy_core::proxy::IntoTarget;
use oxy_core::{
    BoxFuture, Carrier, Engine, Error, ErrorKind, Far, Flow, FlowHooks, Layer, Open, Proxy, Result,
    Target, Terminal, Worker,
};

use crate::forward::{Called, Course, Forwarder};
use crate::h1::index::TargetForm;
use crate::h1::server::{Conn, Exchange, Next, Reply, Server};
use crate::hooks::{At, ExchangeSummary, HttpHooks, Route};
use crate::message::{Req, Res};
use crate::options::HttpOptions;
use crate::respond;
use crate::scratch::Out;

/// HTTP with an application's hooks: what [`HttpProxy::http`] takes.
pub struct Http<H> {
    hooks: Arc<H>,
    options: HttpOptions,
    upstreams: Vec<Result<Target>>,
    forward: bool,
}

impl<H> Http<H> {
    /// HTTP that `hooks` decides about; `()` for no say.
    pub fn new(hooks: H) -> Self {
        Self {
            hooks: Arc::new(hooks),
            options: HttpOptions::default(),
            upstreams: Vec::new(),
            forward: false,
        }
    }

    /// Requests that no hook routes go here: `"127.0.0.1:9000"`, `"http://example.com"`, `"unix:/run/app.sock"`. By turns
    /// where it is called more than once.
    #[must_use]
    pub fn to(mut self, upstream: impl IntoUpstream) -> Self {
        self.upstreams.push(upstream.into_upstream());
        self
    }

    /// Requests that no hook routes go where they ask to go (RFC 9110 section 3.7): a forward proxy. What is allowed is
    /// the off-ramp's to say.
    #[must_use]
    pub fn forward(mut self) -> Self {
        self.forward = true;
        self
    }

    /// How HTTP is served and forwarded.
    #[must_use]
    pub fn options(mut self, options: HttpOptions) -> Self {
        self.options = options;
        self
    }
}

impl<H> fmt::Debug for Http<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("upstreams", &self.upstreams)
            .field("forward", &self.forward)
            .finish_non_exhaustive()
    }
}

/// Something that names an HTTP origin.
pub trait IntoUpstream {
    /// The origin.
    fn into_upstream(self) -> Result<Target>;
}

impl IntoUpstream for Target {
    fn into_upstream(self) -> Result<Target> {
        Ok(self)
    }
}

impl IntoUpstream for std::net::SocketAddr {
    fn into_upstream(self) -> Result<Target> {
        Ok(self.into())
    }
}

impl IntoUpstream for &str {
    fn into_upstream(self) -> Result<Target> {
        let authority = self.strip_prefix("http://").unwrap_or(self);
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if self.starts_with("http://")
            && !authority
                .rsplit(']')
                .next()
                .unwrap_or(authority)
                .contains(':')
        {
            return format!("{authority}:80").as_str().into_target();
        }
        authority.into_target()
    }
}

impl IntoUpstream for String {
    fn into_upstream(self) -> Result<Target> {
        self.as_str().into_upstream()
    }
}

/// Adds HTTP to a [`Proxy`].
pub trait HttpProxy<A: FlowHooks> {
    /// Serves HTTP on flows that nobody routes, with `http` as its application.
    #[must_use]
    fn http<H: HttpHooks<A::Conn>>(self, http: Http<H>) -> Self;
}

impl<A: FlowHooks> HttpProxy<A> for Proxy<A> {
    fn http<H: HttpHooks<A::Conn>>(self, http: Http<H>) -> Self {
        let Http {
            hooks,
            mut options,
            upstreams,
            forward,
        } = http;
        if options.forward.instance.is_none() {
            // What tells this process from others of the same name, so that it knows a loop when it meets its own requests.
            let random = RandomState::new().hash_one(std::process::id());
            options.forward.instance = format!("{random:016x}").parse().ok();
        }
        let options = Arc::new(options);
        self.terminal(Box::new(move |worker: &Worker, offramp: &AnyOfframp| {
            let mut targets = Vec::new();
            for upstream in &upstreams {
                match upstream {
                    Ok(target) => targets.push(target.clone()),
                    Err(error) => {
                        return Err(Error::local(error.kind())
                            .context("an upstream")
                            .because(format!("{error:?}")));
                    }
                }
            }
            Ok(Arc::new(Driver {
                hooks: hooks.clone(),
                table: Table {
                    targets,
                    forward,
                    turn: AtomicUsize::new(worker.index()),
                },
                forwarder: Arc::new(Forwarder::new(options.clone(), offramp.clone())),
            }) as Arc<dyn Terminal<A>>)
        }))
    }
}

/// Where requests go that no hook routes.
struct Table {
    targets: Vec<Target>,
    forward: bool,
    turn: AtomicUsize,
}

impl Table {
    fn target(&self, asked: &Asked) -> Result<Target> {
        if !self.targets.is_empty() {
            let turn = self.turn.load(Relaxed);
            self.turn.store(turn.wrapping_add(1), Relaxed);
            if let Some(target) = self.targets.get(turn % self.targets.len()) {
                return Ok(target.clone());
            }
        }
        if !self.forward {
            return Err(Error::local(ErrorKind::NoRoute).context("no upstream is configured"));
        }
        // RFC 9112 section 3.2.2: what is meant for a proxy has the absolute form.
        match asked.form {
            TargetForm::Absolute if asked.https => {
                Err(Error::down(ErrorKind::Unsupported).context("https needs CONNECT"))
            }
            TargetForm::Absolute | TargetForm::Authority => asked.authority(),
            _ => Err(Error::down(ErrorKind::Malformed)
                .context("a forward proxy needs an absolute target")),
        }
    }
}

/// What a request asked for, kept for routing and for the books once the request itself has gone its way.
struct Asked {
    /// Method, target and authority, one after the other.
    text: Out,
    method: usize,
    target: usize,
    form: TargetForm,
    https: bool,
    version: Version,
    is_connect: bool,
}

impl Asked {
    fn of(req: &Req) -> Self {
        let mut text = Out::take();
        let mut asked = (TargetForm::Origin, false, Version::HTTP_11, 0, 0);
        if let Some((index, head)) = req.head() {
            text.extend_from_slice(index.method.of(head));
            let method = text.len();
            text.extend_from_slice(index.target.of(head));
            let target = text.len();
            text.extend_from_slice(index.authority(head));
            let version = if index.minor == 0 {
                Version::HTTP_10
            } else {
                Version::HTTP_11
            };
            asked = (index.form, index.target_https, version, method, target);
        }
        let (form, https, version, method, target) = asked;
        let is_connect = &text[..method] == b"CONNECT";
        Self {
            text,
            method,
            target,
            form,
            https,
            version,
            is_connect,
        }
    }

    fn str(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    fn method(&self) -> &str {
        Self::str(&self.text[..self.method])
    }

    fn target(&self) -> &str {
        Self::str(&self.text[self.method..self.target])
    }

    fn host(&self) -> &str {
        Self::str(&self.text[self.target..])
    }

    fn authority(&self) -> Result<Target> {
        let host = self.host();
        let has_port = host.rsplit(']').next().unwrap_or(host).contains(':');
        let target = if has_port {
            Target::authority(
                host.strip_suffix(':')
                    .map(|host| format!("{host}:80"))
                    .as_deref()
                    .unwrap_or(host),
            )
        } else {
            Target::authority(&format!("{host}:80"))
        };
        target.map_err(|e| {
            Error::down(ErrorKind::Malformed)
                .context("an authority")
                .because(e)
        })
    }
}

/// HTTP as the engine knows it.
struct Driver<H> {
    hooks: Arc<H>,
    table: Table,
    forwarder: Arc<Forwarder>,
}

impl<A: FlowHooks, H: HttpHooks<A::Conn>> Terminal<A> for Driver<H> {
    fn layer(&self) -> Layer {
        Layer::Http
    }

    fn serve(
        self: Arc<Self>,
        engine: Engine<A>,
        open: Arc<Open<A>>,
        flow: Flow,
    ) -> BoxFuture<'static, Result<()>> {
        let Carrier::Stream(stream) = flow.carrier else {
            return Box::pin(async {
                Err(Error::local(ErrorKind::Unsupported).context("HTTP/1 needs a stream"))
            });
        };
        let drain = engine.worker().drain().clone();
        let server = Server::new(stream, self.forwarder.options.clone(), drain);
        Box::pin(connection(self, engine, open, server))
    }
}

/// A connection's life: one exchange after another. What is idle is small: the exchange is boxed while it lasts.
async fn connection<A: FlowHooks, H: HttpHooks<A::Conn>>(
    driver: Arc<Driver<H>>,
    engine: Engine<A>,
    open: Arc<Open<A>>,
    mut server: Server,
) -> Result<()> {
    loop {
        match poll_fn(|cx| server.poll_next(cx)).await {
            Next::Exchange(exchange) => {
                if let Some(tunnel) = Box::pin(driver.exchange(&engine, &open, exchange)).await? {
                    return engine
                        .enter(tunnel.flow(&open, &mut server), Some(open))
                        .await;
                }
                if !server.settle() {
                    return farewell(server).await;
                }
            }
            Next::End => return farewell(server).await,
            Next::Bad(error) => return refuse(server.conn().clone(), error).await,
        }
    }
}

/// Closes a connection, after what is still on its way has been read where that matters.
fn farewell(server: Server) -> BoxFuture<'static, Result<()>> {
    if server.is_quiet() {
        return Box::pin(std::future::ready(Ok(())));
    }
    Box::pin(async move {
        server.conn().linger().await;
        Ok(())
    })
}

fn refuse(conn: Arc<Conn>, error: Error) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        conn.goodbye(&error).await;
        Err(error)
    })
}

/// A tunnel that an exchange has become.
struct Tunnel {
    layer: Layer,
    near: oxy_core::StreamIo,
    far: Far,
}

impl Tunnel {
    fn flow<A: FlowHooks>(mut self, open: &Open<A>, server: &mut Server) -> Flow {
        if let Some(ahead) = server.take_ahead() {
            // What the client sent before it knew that there is a tunnel.
            self.near.unread(ahead.filled());
        }
        Flow::child(&open.info, self.layer, Carrier::Stream(self.near)).joined(self.far)
    }
}

/// How an exchange went.
#[derive(Default)]
struct Books {
    status: u16,
    sent: u64,
    upstream: Option<Target>,
    course: Course,
    first_byte: Option<Instant>,
    error: Option<Error>,
}

/// What an exchange has to say to the client.
enum Outcome {
    Response(Res),
    Tunnel(Layer, Out, Far),
}

impl<H> Driver<H> {
    /// One exchange: the hooks, the way up, the way back, the books. Gives the tunnel that it became, if it did.
    async fn exchange<A: FlowHooks>(
        &self,
        engine: &Engine<A>,
        open: &Arc<Open<A>>,
        exchange: Box<Exchange>,
    ) -> Result<Option<Tunnel>>
    where
        H: HttpHooks<A::Conn>,
    {
        let Exchange { req, mut reply } = *exchange;
        let at = At {
            conn: &open.conn,
            info: &open.info,
        };
        let started = Instant::now();
        let asked = Asked::of(&req);
        let mut cx = H::Cx::default();
        let mut books = Books::default();

        let outcome = self
            .decide(engine, at, &mut cx, req, &asked, &mut reply, &mut books)
            .await;
        let outcome = match outcome {
            Ok(Outcome::Response(mut res)) => {
                match self.hooks.on_response(at, &mut cx, &mut res).await {
                    Ok(()) => Ok(Outcome::Response(res)),
                    Err(error) => Err(error),
                }
            }
            other => other,
        };
        let result = match outcome {
            Ok(Outcome::Response(res)) => send(reply, res, &mut books).await.map(|()| None),
            Ok(Outcome::Tunnel(layer, head, far)) => {
                books.status = if matches!(layer, Layer::Connect) {
                    200
                } else {
                    101
                };
                books.first_byte = Some(Instant::now());
                reply
                    .tunnel(head)
                    .await
                    .map(|near| Some(Tunnel { layer, near, far }))
            }
            Err(error) => {
                let mut res = Res::from(respond::of_error(&error));
                let gone =
                    error.side() == oxy_core::Side::Down && error.kind() == ErrorKind::Closed;
                log(&open.info, &error);
                books.error = Some(error);
                if gone {
                    Err(Error::down(ErrorKind::Closed))
                } else {
                    match self.hooks.on_response(at, &mut cx, &mut res).await {
                        Ok(()) => {}
                        Err(error) => res = Res::from(respond::of_error(&error)),
                    }
                    send(reply, res, &mut books).await.map(|()| None)
                }
            }
        };
        if let Err(error) = &result {
            books
                .error
                .get_or_insert_with(|| Error::new(error.kind(), error.side()));
        }
        let summary = ExchangeSummary {
            method: asked.method(),
            target: asked.target(),
            host: asked.host(),
            version: asked.version,
            status: books.status,
            received: 0,
            sent: books.sent,
            upstream: books.upstream.as_ref(),
            reused: books.course.reused,
            retries: books.course.retries,
            took: started.elapsed(),
            first_byte: books.first_byte.map(|at| at - started),
            error: books
                .error
                .as_ref()
                .map(|error| (error.kind(), error.side())),
        };
        self.hooks.on_finish(at, cx, &summary);
        result
    }

    /// From the request to the head of what answers it.
    #[expect(
        clippy::too_many_arguments,
        reason = "one phase of an exchange, with all of its state"
    )]
    async fn decide<A: FlowHooks>(
        &self,
        engine: &Engine<A>,
        at: At<'_, A::Conn>,
        cx: &mut H::Cx,
        mut req: Req,
        asked: &Asked,
        reply: &mut Reply,
        books: &mut Books,
    ) -> Result<Outcome>
    where
        H: HttpHooks<A::Conn>,
    {
        let target = match self.hooks.on_request(at, cx, &mut req).await? {
            Route::Table => None,
            Route::To(target) => Some(target),
            Route::Answer(response) => return Ok(Outcome::Response(Res::from(*response))),
            Route::Refuse(error) => return Err(error),
        };
        let target = match target {
            Some(target) => target,
            None if asked.is_connect && !self.table.forward => {
                return Err(Error::down(ErrorKind::Denied).context("CONNECT is not served here"));
            }
            None => self.table.target(asked)?,
        };
        self.hooks.on_upstream(at, cx, &target, &mut req).await?;
        books.upstream = Some(target.clone());
        if asked.is_connect {
            let far = engine.offramp().open(&target, at.info).await?;
            return Ok(Outcome::Tunnel(Layer::Connect, established(), far));
        }
        let called = call(&self.forwarder, req, &target, at, reply, &mut books.course).await?;
        Ok(match called {
            Called::Response(res) => Outcome::Response(res),
            Called::AnswerHere => Outcome::Response(Res::from(respond::plain(StatusCode::OK))),
            Called::Switched(answer, protocol, stream) => {
                let head = reply.tunnel_head(&answer, &protocol);
                let far = Far {
                    carrier: Carrier::Stream(stream),
                    target,
                    peer: None,
                };
                Outcome::Tunnel(Layer::Upgrade, head, far)
            }
        })
    }
}

/// Boxed where it is not generic, so that it is compiled once.
fn call<'a, C>(
    forwarder: &'a Forwarder,
    req: Req,
    target: &'a Target,
    at: At<'a, C>,
    reply: &'a mut Reply,
    course: &'a mut Course,
) -> BoxFuture<'a, Result<Called>> {
    forwarder.call_boxed(req, target, at.info, reply, course)
}

async fn send(reply: Reply, res: Res, books: &mut Books) -> Result<()> {
    books.status = res
        .head()
        .map_or_else(|| res.status().as_u16(), |(index, _)| index.status);
    books.first_byte = Some(Instant::now());
    let (sent, result) = reply.send(res).await;
    books.sent = sent.payload;
    result
}

/// RFC 9110 section 9.3.6: a successful answer to CONNECT has neither body nor framing.
fn established() -> Out {
    let mut head = Out::take();
    head.extend_from_slice(b"HTTP/1.1 200 Connection Established\r\n\r\n");
    head
}

fn log(info: &oxy_core::FlowInfo, error: &Error) {
    if error.is_loud() {
        tracing::warn!(flow = %info.id, listener = %info.listener, "{error:?}");
    } else {
        tracing::debug!(flow = %info.id, listener = %info.listener, "{error:?}");
    }
}
