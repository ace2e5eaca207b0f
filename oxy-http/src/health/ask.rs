//! One request on a connection of its own, and what is answered: small, whole and bounded.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use ::h2::RecvStream;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use oxy_core::{Error, ErrorKind, Result, Side, StreamIo};

use crate::body::{Body, Step};
use crate::call::{Answer as Head, MAX_INTERIM};
use crate::h1;
use crate::h1::incoming::{Home, Incoming, Rest, Source};
use crate::h1::parse::MethodKind;
use crate::h2::dialled::Dialled;
use crate::h2::fault::fault;
use crate::limits::{ChunkLimits, HeadLimits};
use crate::message::Res;
use crate::options::HttpOptions;
use crate::scratch::Out;

/// Most bytes of a head: who answers a health check sets no cookies.
const HEAD_MAX: usize = 16 * 1024;

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// The final response, with as much of its body as was wanted.
    pub(super) response: Response<Vec<u8>>,
    /// What came after the body, if that was read to its end. Only looked at over HTTP/2.
    pub(super) trailers: Option<HeaderMap>,
}

/// Asks over HTTP/1.1, and reads at most `want` bytes of the answer's body. It takes as long as it takes; dropped, it
/// closes the connection.
pub(super) async fn over_http1(
    stream: StreamIo,
    request: Request<()>,
    want: usize,
) -> Result<Answer> {
    let method = MethodKind::of(request.method().as_str().as_bytes());
    let mut head = Out::take();
    write_head(&mut head, &request);
    let mut wire = h1::client::Wire::new(stream.into_parts().0, method, head);
    let limits = HeadLimits {
        max_head: HEAD_MAX,
        ..HeadLimits::default()
    };
    let mut interim = 0;
    let (buffer, index) = loop {
        let head = poll_fn(|cx| {
            // What failed first is what the matter is.
            if let Some(failed) = wire.poll_send(cx) {
                return Poll::Ready(Err(failed));
            }
            wire.poll_head(cx, &limits)
        });
        match head.await? {
            Head::Http1 { buffer, index } if index.status >= 200 || index.status == 101 => {
                break (buffer, index);
            }
            _ if interim < MAX_INTERIM => interim += 1,
            _ => {
                return Err(Error::up(ErrorKind::Malformed).context("too many interim responses"));
            }
        }
    };
    let source = Source::new(wire.into_parts().0, Rest::from(index.framing));
    let body = Incoming::new(source, Home::Nowhere, ChunkLimits::default());
    let mut res = Res::raw(buffer, index, Body::incoming(body));
    let mut read = Vec::new();
    while read.len() < want {
        match poll_fn(|cx| res.body_only().poll_step(cx)).await? {
            Step::Data(piece) => take(&mut read, piece.bytes(), want),
            Step::Trailers(_) => {}
            Step::End => break,
        }
    }
    let mut response = Response::new(read);
    *response.status_mut() = res.status();
    *response.headers_mut() = std::mem::take(res.headers_mut());
    Ok(Answer {
        response,
        trailers: None,
    })
}

/// What it is made of has no byte that does not belong in a head.
fn write_head(out: &mut Vec<u8>, request: &Request<()>) {
    let uri = request.uri();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().map_or("", |host| host.as_str());
    out.extend(
        [request.method().as_str(), " ", path, " HTTP/1.1\r\n"]
            .concat()
            .bytes(),
    );
    let fields = [
        (&header::HOST, host.as_bytes()),
        (&header::CONNECTION, b"close"),
    ];
    let others = request.headers().iter();
    for (name, value) in fields
        .into_iter()
        .chain(others.map(|(n, v)| (n, v.as_bytes())))
    {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Asks over HTTP/2, with `body`, and reads at most `want` bytes of the answer's body. It takes as long as it takes;
/// dropped, it closes the connection.
pub(super) async fn over_http2(
    stream: StreamIo,
    request: Request<()>,
    body: Bytes,
    want: usize,
) -> Result<Answer> {
    let failed = |e| fault(e, Side::Up);
    let mut options = HttpOptions::default();
    options.head.max_head = HEAD_MAX;
    let mut builder = ::h2::client::Builder::new();
    builder
        .max_header_list_size(HEAD_MAX as u32)
        .enable_push(false);
    let (send, mut connection) = Dialled::<Bytes>::greet(stream, &options, &builder).await?;
    let watch = connection.watch().clone();
    let ask = async move {
        let mut send = send.ready().await.map_err(failed)?;
        let (response, mut upload) = send
            .send_request(request, body.is_empty())
            .map_err(failed)?;
        if !body.is_empty() {
            // It is less than any window that there may be at first.
            upload.send_data(body, true).map_err(failed)?;
        }
        let (parts, recv) = response.await.map_err(failed)?.into_parts();
        let (read, trailers) = rest(recv, want).await.map_err(failed)?;
        Ok(Answer {
            response: Response::from_parts(parts, read),
            trailers,
        })
    };
    let mut ask = pin!(ask);
    let mut is_over = false;
    poll_fn(|cx| {
        if !is_over && let Poll::Ready(ended) = connection.poll(cx) {
            match ended {
                Err(error) if watch.verdict().is_some() => return Poll::Ready(Err(error)),
                // What its end means, the stream is told.
                _ => is_over = true,
            }
        }
        ask.as_mut().poll(cx)
    })
    .await
}

async fn rest(
    mut recv: RecvStream,
    want: usize,
) -> Result<(Vec<u8>, Option<HeaderMap>), ::h2::Error> {
    let mut read = Vec::new();
    while read.len() < want {
        match recv.data().await.transpose()? {
            Some(data) => {
                take(&mut read, &data, want);
                recv.flow_control().release_capacity(data.len())?;
            }
            None => return Ok((read, recv.trailers().await?)),
        }
    }
    Ok((read, None))
}

fn take(read: &mut Vec<u8>, data: &[u8], want: usize) {
    let room = want - read.len();
    read.extend_from_slice(&data[..data.len().min(room)]);
}
