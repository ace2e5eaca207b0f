//! A connection to a server: the `h2` crate's with what it is watched by.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use ::h2::PingPong;
use ::h2::client::{Builder, Connection, SendRequest};
use bytes::Buf;
use oxy_core::{Error, Result, Side, StreamIo};

use super::fault::{fault, judged};
use super::guard::Guard;
use super::io::{Io, Watch};
use crate::options::HttpOptions;

/// Reads and writes for all streams of a connection, for as long as it is polled.
pub(crate) struct Dialled<B: Buf> {
    connection: Connection<Io, B>,
    watch: Arc<Watch>,
}

impl<B: Buf + Send + 'static> Dialled<B> {
    /// The connection, and a handle to send requests with. Nothing is written before it is polled.
    pub(crate) async fn greet(
        stream: StreamIo,
        options: &HttpOptions,
        builder: &Builder,
    ) -> Result<(SendRequest<B>, Self)> {
        let (io, watch) = Io::new(stream, Guard::of_server(options, Instant::now()));
        let greeted = builder.handshake(io).await;
        let (send, connection) = greeted.map_err(|e| fault(e, Side::Up))?;
        Ok((send, Self { connection, watch }))
    }

    pub(crate) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    /// For asking the server to show that it is there.
    pub(crate) fn pings(&mut self) -> Option<PingPong> {
        self.connection.ping_pong()
    }

    /// Ready at the connection's end, whichever it is; not to be polled after it.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if let Poll::Ready(ended) = Pin::new(&mut self.connection).poll(cx) {
            return Poll::Ready(ended.map_err(|e| fault(e, Side::Up)));
        }
        if let Some(verdict) = self.watch.verdict() {
            return Poll::Ready(Err(judged(verdict, Side::Up)));
        }
        if let Poll::Ready(Err(e)) = self.watch.poll_flush(cx) {
            let error = Error::io(Side::Up, e).context("an HTTP/2 connection");
            return Poll::Ready(Err(error));
        }
        Poll::Pending
    }
}
