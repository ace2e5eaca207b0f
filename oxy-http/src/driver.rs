//! The one HTTP driver: every exchange, whatever version it came by, goes through here.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::StatusCode;
use oxy_core::buffer::Buffer;
use oxy_core::{
    BoxFuture, Carrier, Engine, Error, ErrorKind, Facts, Far, Flow, FlowHooks, Layer, Open, Result,
    Side, StreamIo, Terminal, TlsFacts, pinned,
};

use crate::asked::Asked;
use crate::attended::Attended;
use crate::books::Books;
use crate::dispatch::{Decision, Dispatch};
use crate::forward::{self, Called};
use crate::h1::server::{Conn, Next, Server};
use crate::h2;
use crate::h2::exchanges::Exchanges;
use crate::hooks::{At, HttpHooks, Route};
use crate::linger::linger;
use crate::message::{Req, Res};
use crate::reply::{Exchange, Opening, Reply};
use crate::respond;
use crate::until::Until;

/// HTTP as the engine knows it.
pub(crate) struct Driver<H> {
    hooks: Arc<H>,
    dispatch: Dispatch,
}

impl<H> Driver<H> {
    pub(crate) fn new(hooks: Arc<H>, dispatch: Dispatch) -> Self {
        Self { hooks, dispatch }
    }
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
        let options = self.dispatch.desk().options().clone();
        if speaks_http2(&flow.info) {
            let server = h2::server::Server::new(stream, options, drain);
            return pinned(|| multiplexed(self, engine, open, server));
        }
        let server = Server::new(stream, options, drain);
        pinned(|| connection(self, engine, open, server))
    }
}

/// A connection's life: one exchange after another. What is idle is small: the exchange is boxed while it lasts, and so is
/// what comes after the last.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn holds its arguments twice, once as they came and once as its variables"
)]
fn connection<A: FlowHooks, H: HttpHooks<A::Conn>>(
    driver: Arc<Driver<H>>,
    engine: Engine<A>,
    open: Arc<Open<A>>,
    mut server: Server,
) -> impl Future<Output = Result<()>> + Send {
    async move {
        loop {
            let end = match poll_fn(|cx| server.poll_next(cx)).await {
                Next::Exchange(exchange) => after(
                    pinned(|| driver.exchange(&engine, &open, exchange)).await,
                    &engine,
                    &open,
                    &mut server,
                ),
                Next::End => Some(farewell(&server)),
                Next::Bad(error) => Some(refuse(server.conn().clone(), error)),
                Next::Preface => Some(driver.clone().prior_knowledge(&engine, &open, &mut server)),
            };
            if let Some(end) = end {
                return end.await;
            }
        }
    }
}

/// A connection's life over HTTP/2: exchanges side by side, each on a task of its own.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn holds its arguments twice, once as they came and once as its variables"
)]
fn multiplexed<A: FlowHooks, H: HttpHooks<A::Conn>>(
    driver: Arc<Driver<H>>,
    engine: Engine<A>,
    open: Arc<Open<A>>,
    mut server: h2::server::Server,
) -> impl Future<Output = Result<()>> + Send {
    async move {
        // Dropped with the connection, it ends them all.
        let mut exchanges = Exchanges::default();
        let end = loop {
            match poll_fn(|cx| poll_next(&mut server, &exchanges, cx)).await {
                h2::server::Next::Exchange(exchange) => {
                    let (driver, engine, open) = (driver.clone(), engine.clone(), open.clone());
                    exchanges.spawn(async move {
                        let near = open.clone();
                        // Whatever went wrong is in the books.
                        if let Ok(Some(tunnel)) = driver.exchange(&engine, &open, exchange).await {
                            let flow = tunnel.flow(&near, None);
                            let _ = engine.enter(flow, Some(near)).await;
                        }
                    });
                }
                h2::server::Next::End => break Ok(()),
                h2::server::Next::Bad(error) => break Err(error),
            }
        };
        parting(server, exchanges).await;
        end
    }
}

fn poll_next(
    server: &mut h2::server::Server,
    exchanges: &Exchanges,
    cx: &mut Context<'_>,
) -> Poll<h2::server::Next> {
    let busy = exchanges.poll_over(cx).is_pending();
    server.poll_next(cx, busy)
}

/// Closes a connection once its exchanges have noticed that it is over.
fn parting(server: h2::server::Server, exchanges: Exchanges) -> BoxFuture<'static, ()> {
    let (link, alarm, options) = server.into_parts();
    Box::pin(async move {
        linger(&link, &alarm, options.timeouts.linger).await;
        poll_fn(|cx| exchanges.poll_over(cx)).await;
    })
}

/// Whether the two ends have agreed upon HTTP/2 (ALPN, RFC 7301).
fn speaks_http2(info: &oxy_core::FlowInfo) -> bool {
    info.layer == Layer::Tls
        && info
            .tls()
            .is_some_and(|tls| tls.alpn.as_deref() == Some(b"h2"))
}

/// What ends a connection after an exchange, if that was the last.
fn after<A: FlowHooks>(
    exchanged: Result<Option<Box<Tunnel>>>,
    engine: &Engine<A>,
    open: &Arc<Open<A>>,
    server: &mut Server,
) -> Option<BoxFuture<'static, Result<()>>> {
    match exchanged {
        Ok(None) if server.settle() => None,
        Ok(None) => Some(farewell(server)),
        Ok(Some(tunnel)) => {
            let flow = tunnel.flow(open, server.take_ahead());
            Some(engine.enter(flow, Some(open.clone())))
        }
        Err(error) => Some(Box::pin(std::future::ready(Err(error)))),
    }
}

/// Closes a connection, after what is still on its way has been read where that matters.
fn farewell(server: &Server) -> BoxFuture<'static, Result<()>> {
    let conn = server.conn().clone();
    let is_quiet = server.is_quiet();
    if is_quiet && conn.link.socket().is_some() {
        // Its close says all there is to say.
        return Box::pin(std::future::ready(Ok(())));
    }
    Box::pin(async move {
        if is_quiet {
            conn.part().await;
        } else {
            conn.linger().await;
        }
        Ok(())
    })
}

fn refuse(conn: Arc<Conn>, error: Error) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        conn.goodbye(&error).await;
        Err(error)
    })
}

/// A tunnel that an exchange has become. Boxed, like [`Outcome::Tunnel`].
struct Tunnel {
    layer: Layer,
    near: oxy_core::StreamIo,
    far: Far,
}

impl Tunnel {
    /// `ahead` is what the client sent before it knew that there is a tunnel.
    fn flow<A: FlowHooks>(mut self, open: &Open<A>, ahead: Option<Buffer>) -> Flow {
        if let Some(ahead) = ahead {
            self.near.unread(ahead.filled());
        }
        Flow::child(&open.info, self.layer, Carrier::Stream(self.near)).joined(self.far)
    }
}

/// What an exchange has to say to the client.
enum Outcome {
    Response(Res),
    /// Boxed, as few exchanges come to this and all would carry the room for it.
    Tunnel(Box<(Layer, Opening, Far)>),
}

impl<H> Driver<H> {
    /// What becomes of a connection whose client speaks HTTP/2 without asking (RFC 9113 section 3.3).
    fn prior_knowledge<A: FlowHooks>(
        self: Arc<Self>,
        engine: &Engine<A>,
        open: &Arc<Open<A>>,
        server: &mut Server,
    ) -> BoxFuture<'static, Result<()>>
    where
        H: HttpHooks<A::Conn>,
    {
        let mut stream = StreamIo::from_link(server.conn().link.clone());
        if let Some(ahead) = server.take_ahead() {
            stream.unread(ahead.filled());
        }
        let drain = engine.worker().drain().clone();
        let server = h2::server::Server::new(stream, self.dispatch.desk().options().clone(), drain);
        Box::pin(multiplexed(self, engine.clone(), open.clone(), server))
    }

    /// One exchange: the hooks, the way up, the way back, the books. Gives the tunnel that it became, if it did.
    async fn exchange<A: FlowHooks>(
        &self,
        engine: &Engine<A>,
        open: &Arc<Open<A>>,
        exchange: Exchange,
    ) -> Result<Option<Box<Tunnel>>>
    where
        H: HttpHooks<A::Conn>,
    {
        let Exchange { req, mut reply } = exchange;
        let at = At {
            conn: &open.conn,
            info: &open.info,
        };
        let asked = Asked::of(&req);
        let client = reply.client();
        let mut books = Books::open(&*self.hooks, at, asked, &client);
        let mut outcome = self.decide(engine, &mut books, req, &mut reply).await;
        let deadline = books.deadline;
        if let Ok(Outcome::Response(res)) = &mut outcome
            && let Err(error) =
                Attended::by(&client, self.hooks.on_response(at, &mut books.cx, res)).await
        {
            outcome = Err(error);
        }
        let result = match outcome {
            Ok(Outcome::Response(res)) => {
                let sending = send(reply, res, &mut books);
                Until::new(deadline, sending).await.map(|()| None)
            }
            Ok(Outcome::Tunnel(tunnel)) => {
                let (layer, opening, far) = *tunnel;
                books.answered(if layer == Layer::Connect { 200 } else { 101 });
                let opened = Box::pin(async move {
                    let near = reply.tunnel(opening).await?;
                    Ok(Some(Box::new(Tunnel { layer, near, far })))
                });
                opened.await
            }
            Err(error) => {
                books.failed(&error);
                log(&open.info, &error);
                if error.side() == Side::Down && error.kind() == ErrorKind::Closed {
                    // Nobody is left to tell.
                    Err(error)
                } else {
                    let mut res = books.asked.answer(&error);
                    let hook = self.hooks.on_response(at, &mut books.cx, &mut res);
                    if let Err(error) = Attended::by(&client, hook).await {
                        res = books.asked.answer(&error);
                    }
                    send(reply, res, &mut books).await.map(|()| None)
                }
            }
        };
        if let Err(error) = &result {
            books.failed(error);
        }
        books.close();
        result
    }

    /// From the request to the head of what answers it.
    async fn decide<A: FlowHooks>(
        &self,
        engine: &Engine<A>,
        books: &mut Books<'_, A::Conn, H>,
        mut req: Req,
        reply: &mut Reply,
    ) -> Result<Outcome>
    where
        H: HttpHooks<A::Conn>,
    {
        let (at, client) = (books.at, books.client);
        if !books.asked.is_safe() && at.info.tls().is_some_and(TlsFacts::may_be_replay) {
            // RFC 8470 section 5.2: it is worth a round trip to know that the client has said this, and once.
            let too_early = respond::plain(StatusCode::TOO_EARLY);
            return Ok(Outcome::Response(Res::from(too_early)));
        }
        let hook = self.hooks.on_request(at, &mut books.cx, &mut req);
        let desk = self.dispatch.desk();
        let mut going = match Attended::by(client, hook).await? {
            Route::Table => match desk.decide(&books.asked, &mut req, at.info)? {
                Decision::Go(going) => going,
                Decision::Answer(response) => return Ok(Outcome::Response(Res::from(*response))),
            },
            Route::To(target) => desk.to(&target),
            Route::Answer(response) => return Ok(Outcome::Response(Res::from(*response))),
            Route::Refuse(error) => return Err(error),
        };
        books.course.pick = going.pick.take();
        books.course.upstream = Some(going.endpoint.clone());
        let target = &going.endpoint.target;
        let hook = self.hooks.on_upstream(at, &mut books.cx, target, &mut req);
        Attended::by(client, hook).await?;
        if books.asked.is_connect() {
            let open = engine.offramp().open(target, at.info);
            let far = Attended::by(client, open).await?;
            let tunnel = (Layer::Connect, Opening::Connect, far);
            return Ok(Outcome::Tunnel(Box::new(tunnel)));
        }
        books.deadline = going.deadline(books.asked.patience());
        let call = forward::call(req, &going, at.info, (client, reply), &mut books.course);
        let called = Until::new(books.deadline, call).await?;
        Ok(match called {
            Called::Response(mut res) => {
                going.finish(&mut res, books.course.pick.as_ref(), at.info);
                Outcome::Response(res)
            }
            Called::Switched(head, protocol, stream) => {
                let far = Far {
                    carrier: Carrier::Stream(stream),
                    target: target.clone(),
                    peer: None,
                    facts: Facts::default(),
                };
                let opening = Opening::Switched(head, protocol);
                Outcome::Tunnel(Box::new((Layer::Upgrade, opening, far)))
            }
        })
    }
}

async fn send<C: Sync + 'static, H: HttpHooks<C>>(
    reply: Reply,
    mut res: Res,
    books: &mut Books<'_, C, H>,
) -> Result<()> {
    // An application's mistake: after an interim response the client would wait for another one.
    if res.head().is_none() && res.status().is_informational() {
        *res.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    books.answered(
        res.head()
            .map_or_else(|| res.status().as_u16(), |(index, _)| index.status),
    );
    let mut sending = reply.send(res);
    let result = poll_fn(|cx| sending.poll(cx)).await;
    books.sent = sending.payload();
    result
}

fn log(info: &oxy_core::FlowInfo, error: &Error) {
    if error.is_loud() {
        tracing::warn!(flow = %info.id, listener = %info.listener, "{error:?}");
    } else {
        tracing::debug!(flow = %info.id, listener = %info.listener, "{error:?}");
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use oxy_core::{ByteIo, Drain, StreamIo};
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf};

    use super::*;
    use crate::options::HttpOptions;

    /// A stream that has something of its own to say at its end, as TLS has.
    struct Ending {
        stream: DuplexStream,
        is_over: Arc<AtomicBool>,
    }

    impl ByteIo for Ending {}

    impl AsyncRead for Ending {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Ending {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.stream).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.is_over.store(true, Relaxed);
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }

    /// RFC 8446 section 6.1: what ends with its connection is cut unless the end is said.
    #[tokio::test]
    async fn an_end_is_said_where_a_close_does_not_say_it() {
        let (stream, mut client) = tokio::io::duplex(64);
        let is_over = Arc::new(AtomicBool::new(false));
        let ending = Ending {
            stream,
            is_over: is_over.clone(),
        };
        let options = Arc::new(HttpOptions::default());
        let server = Server::new(StreamIo::new(ending), options, Drain::new());
        assert!(server.is_quiet());
        // The client is there, and need not go first.
        farewell(&server).await.unwrap();
        assert!(is_over.load(Relaxed));
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }
}
