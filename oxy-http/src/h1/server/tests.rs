use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use http::{HeaderValue, Response, header};
use oxy_core::buffer::Buffer;
use oxy_core::{Drain, ErrorKind, Side, StreamIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Next, Server};
use crate::body::Body;
use crate::h1::index::ResponseIndex;
use crate::h1::parse::{self, MethodKind};
use crate::message::Res;
use crate::options::HttpOptions;
use crate::scratch::Spared;

/// Every kind of request that can follow another one.
const SERIES: &str = "GET /1?a HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n\
    POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
    \r\nPUT /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;e=f\r\nxyz\r\n4\r\nuvwx\r\n0\r\nX-Sum: 7\r\n\r\n\
    HEAD /4 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n\
    DELETE http://b/5 HTTP/1.1\r\nHost: a\r\n\r\n\
    POST /6 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nGET \
    POST /7 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
    GET /8 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// What is done with the body of each request.
#[derive(Clone, Copy, Debug)]
enum Use {
    /// Read to its end before the answer.
    Read,
    /// Sent back as it comes.
    Return,
    /// Not touched: what is left of it has to be found and thrown away.
    Ignore,
}

/// Serves until the end, and gives what each request was.
async fn serve(mut server: Server, using: Use) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let exchange = match poll_fn(|cx| server.poll_next(cx)).await {
            Next::Exchange(exchange) => exchange,
            Next::End | Next::Preface => break,
            Next::Bad(error) => {
                seen.push(format!("{:?}", error.kind()));
                break;
            }
        };
        let mut req = exchange.req;
        let mut line = format!("{} {} {:?}", req.method(), req.uri(), req.version());
        let mut body = Body::from("fixed");
        match using {
            Use::Read => match req.body_only().buffer(1000).await {
                Ok(all) => line = format!("{line} {all:?}"),
                Err(error) => line = format!("{line} {:?}", error.kind()),
            },
            Use::Return => body = req.body_only().take(),
            Use::Ignore => {}
        }
        seen.push(line);
        drop(req);
        let mut response = Response::new(body);
        // The same at any time of the day.
        let date = HeaderValue::from_static("then");
        response.headers_mut().insert(header::DATE, date);
        let mut sending = exchange.reply.send(Res::from(response));
        if let Err(error) = poll_fn(|cx| sending.poll(cx)).await {
            seen.push(format!("{:?}", error.kind()));
            break;
        }
        drop(sending);
        if !server.settle() {
            break;
        }
    }
    seen
}

/// What is seen of requests that come in these pieces, and what is said to them.
async fn talk(pieces: &[&[u8]], using: Use) -> (Vec<String>, String) {
    let (near, mut client) = StreamIo::pair(64 * 1024);
    let server = Server::new(near, Arc::new(HttpOptions::default()), Drain::new());
    let mut serving = pin!(serve(server, using));
    let mut seen = None;
    for piece in pieces {
        client.write_all(piece).await.unwrap();
        // It takes all that it can of one piece before the next one comes.
        seen = poll_fn(|cx| match serving.as_mut().poll(cx) {
            Poll::Ready(seen) => Poll::Ready(Some(seen)),
            Poll::Pending => Poll::Ready(None),
        })
        .await;
        if seen.is_some() {
            // It has heard enough.
            break;
        }
    }
    client.shutdown().await.unwrap();
    let seen = match seen {
        Some(seen) => seen,
        None => serving.await,
    };
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    (seen, said)
}

#[tokio::test]
async fn requests_are_the_same_wherever_they_are_cut() {
    for using in [Use::Read, Use::Return, Use::Ignore] {
        let series = SERIES.as_bytes();
        let (seen, said) = talk(&[series], using).await;
        assert_eq!(seen.len(), 8, "{seen:?}");
        assert_eq!(said.matches("HTTP/1.1 200 OK\r\n").count(), 8, "{said}");
        for at in 1..series.len() {
            let (head, tail) = series.split_at(at);
            let cut = talk(&[head, tail], using).await;
            assert_eq!(cut.0, seen, "{using:?}, cut at {at}");
            assert_eq!(whole(&cut.1), whole(&said), "{using:?}, cut at {at}");
        }
        let bytes: Vec<_> = series.chunks(1).collect();
        let (seen_by_bytes, said_by_bytes) = talk(&bytes, using).await;
        assert_eq!(seen_by_bytes, seen, "{using:?}, byte by byte");
        assert_eq!(whole(&said_by_bytes), whole(&said), "{using:?}");
    }
}

/// Without the lines that begin chunks: what comes in one read leaves as one chunk. No payload here looks like a size.
fn whole(said: &str) -> String {
    let is_size = |line: &&str| !line.is_empty() && line.bytes().all(|b| b.is_ascii_hexdigit());
    let lines: Vec<_> = said.split("\r\n").filter(|line| !is_size(line)).collect();
    lines.concat()
}

#[tokio::test]
async fn the_series_says_what_it_should() {
    let (seen, _) = talk(&[SERIES.as_bytes()], Use::Read).await;
    let expected = [
        "GET /1?a HTTP/1.1 b\"\"",
        "POST /2 HTTP/1.1 b\"hello\"",
        "PUT /3 HTTP/1.1 b\"xyzuvwx\"",
        "HEAD /4 HTTP/1.1 b\"\"",
        "DELETE http://b/5 HTTP/1.1 b\"\"",
        "POST /6 HTTP/1.0 b\"GET \"",
        "POST /7 HTTP/1.1 b\"\"",
        "GET /8 HTTP/1.1 b\"\"",
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn faults_are_the_same_wherever_they_are_cut() {
    for last in [
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX",
        "GET / HTTP/3.0\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
    ] {
        let series = format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{last}");
        let series = series.as_bytes();
        for using in [Use::Read, Use::Return, Use::Ignore] {
            let (seen, _) = talk(&[series], using).await;
            for at in 1..series.len() {
                let (head, tail) = series.split_at(at);
                let (cut, _) = talk(&[head, tail], using).await;
                assert_eq!(cut, seen, "{last:?}, {using:?}, cut at {at}");
            }
        }
    }
}

/// A client that reads nothing does not hold an interim response, and what waits behind it, for ever.
#[tokio::test(start_paused = true)]
async fn an_interim_response_that_nobody_reads_is_given_up() {
    // Room for the request, and for no response.
    let (near, mut far) = StreamIo::pair(40);
    far.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut server = Server::new(near, Arc::new(HttpOptions::default()), Drain::new());
    let Next::Exchange(mut exchange) = poll_fn(|cx| server.poll_next(cx)).await else {
        unreachable!("it is a request");
    };
    let mut buffer = Buffer::new();
    buffer.put(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload; as=style\r\n\r\n");
    let mut index = Spared::<Box<ResponseIndex>>::take();
    let limits = HttpOptions::default().head;
    parse::response(buffer.filled(), &limits, MethodKind::Other, &mut index).unwrap();
    let error = exchange
        .reply
        .inform(Res::raw(buffer, index, Body::empty()))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.side()),
        (ErrorKind::Timeout, Side::Down)
    );
}
