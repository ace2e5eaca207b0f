//! Origins on loopback. Their threads end with the test's process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};

use super::http::read_head;

/// Answers every request with `text`, one for each connection.
pub(crate) fn answering(text: &'static str) -> SocketAddr {
    serve(move |mut stream| {
        read_head(&mut stream);
        respond(&mut stream, text);
    })
}

/// The same at a path.
pub(crate) fn answering_at(path: &Path, text: &'static str) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            read_head(&mut stream);
            respond(&mut stream, text);
        }
    });
}

/// Answers every request with its head, one for each connection.
pub(crate) fn echoing_heads() -> SocketAddr {
    serve(|mut stream| {
        let head = read_head(&mut stream);
        respond(&mut stream, &head);
    })
}

/// Answers a request when it is told to: it says when one has come, and waits for a word.
pub(crate) fn waiting() -> (SocketAddr, Receiver<()>, Sender<&'static str>) {
    let (came, coming) = mpsc::channel();
    let (go, going) = mpsc::channel();
    let address = listen(move |mut stream| {
        read_head(&mut stream);
        came.send(()).unwrap();
        if let Ok(text) = going.recv() {
            respond(&mut stream, text);
        }
    });
    (address, coming, go)
}

/// Sends back what comes.
pub(crate) fn echoing() -> SocketAddr {
    serve(|mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..n]).unwrap();
        }
    })
}

/// Sends datagrams back.
pub(crate) fn echoing_datagrams() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((n, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..n], from).unwrap();
        }
    });
    address
}

fn respond(stream: &mut impl Write, text: &str) {
    let length = text.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream
        .write_all(format!("{head}{text}").as_bytes())
        .unwrap();
}

/// A thread for each connection.
fn serve(handle: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    listen(move |stream| {
        let handle = handle.clone();
        std::thread::spawn(move || handle(stream));
    })
}

fn listen(handle: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            handle(stream.unwrap());
        }
    });
    address
}
