//! A service that speaks gRPC in clear text: health checks, and one answer for all else.

use std::net::{SocketAddr, TcpListener};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};

/// A service whose every answer is `text`.
pub(crate) fn answering(text: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(socket, text));
            }
        });
    });
    address
}

async fn serve(socket: tokio::net::TcpStream, text: &'static str) {
    let Ok(mut connection) = h2::server::handshake(socket).await else {
        return;
    };
    while let Some(Ok((request, reply))) = connection.accept().await {
        tokio::spawn(answer(request, reply, text));
    }
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut reply: h2::server::SendResponse<Bytes>,
    text: &'static str,
) {
    let is_check = request.uri().path() == "/grpc.health.v1.Health/Check";
    let mut body = request.into_body();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
    }
    let response = Response::builder().header("content-type", "application/grpc");
    let Ok(mut stream) = reply.send_response(response.body(()).unwrap(), false) else {
        return;
    };
    // A message of gRPC: not compressed, its length, and for a check the field `status` with SERVING.
    let message = if is_check {
        Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1])
    } else {
        Bytes::from_static(text.as_bytes())
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let _ = stream.send_data(message, false);
    let _ = stream.send_trailers(trailers);
}
