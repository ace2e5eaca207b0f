//! A server, a client that trusts it, and what lies between them.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_debug_implementations,
    reason = "every test binary has this module and uses its own part of it"
)]

pub mod authority;
mod raw;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

pub use authority::Authority;
pub use raw::Raw;

use oxy_core::{Carrier, Flow, FlowInfo, Host, Layer, Origin, Result, StreamIo, TlsFacts};
use oxy_tls::{CertFiles, ClientOptions, ServerOptions, TlsClient, TlsServer};
use tokio::io::AsyncWriteExt;

pub struct World {
    pub authority: Authority,
    pub dir: Dir,
    pub server: TlsServer,
    pub client: TlsClient,
}

/// A directory that goes with the test.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "oxy-tls-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The files of a certificate by `authority` for `names`.
    pub fn cert(&self, file: &str, authority: &Authority, names: &[&str]) -> CertFiles {
        let (cert, key) = authority.server(names);
        CertFiles::new(
            self.put(&format!("{file}.pem"), cert),
            self.put(&format!("{file}.key"), key),
        )
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A session with what both sides have learned.
pub struct Session {
    pub near: StreamIo,
    pub near_facts: TlsFacts,
    pub far: StreamIo,
    pub far_facts: TlsFacts,
    pub info: Arc<FlowInfo>,
}

impl World {
    pub fn new() -> Self {
        Self::with(|_, _, _| {}, |_, _, _| {})
    }

    /// A world whose sides are told more than what they need: that the server is `localhost` and whom the client trusts.
    pub fn with(
        server: impl FnOnce(&mut ServerOptions, &Dir, &Authority),
        client: impl FnOnce(&mut ClientOptions, &Dir, &Authority),
    ) -> Self {
        let (authority, dir) = (Authority::new("the authority"), Dir::new());
        let ca = dir.put("ca.pem", authority.pem());
        let mut server_options = ServerOptions::default();
        server_options.certificates = vec![dir.cert("localhost", &authority, &["localhost"])];
        server(&mut server_options, &dir, &authority);
        let mut client_options = ClientOptions::default();
        client_options.ca = vec![ca];
        client(&mut client_options, &dir, &authority);
        Self {
            server: TlsServer::new(server_options).unwrap(),
            client: TlsClient::new(client_options).unwrap(),
            authority,
            dir,
        }
    }

    pub async fn connect(&self) -> Session {
        self.session("localhost", StreamIo::pair(64 * 1024))
            .await
            .unwrap()
    }

    /// Both sides' handshakes. An error is the server's, or the client's where the server has none.
    pub async fn session(&self, host: &str, pair: (StreamIo, StreamIo)) -> Result<Session> {
        let (near, far) = self.both(host, pair).await;
        let (far, far_facts, info) = far?;
        let (near, near_facts) = near?;
        Ok(Session {
            near,
            near_facts,
            far,
            far_facts,
            info,
        })
    }

    pub async fn both(
        &self,
        host: &str,
        (near, far): (StreamIo, StreamIo),
    ) -> (
        Result<(StreamIo, TlsFacts)>,
        Result<(StreamIo, TlsFacts, Arc<FlowInfo>)>,
    ) {
        let host: Host = host.parse().unwrap();
        let connect = async {
            let (mut stream, facts) = self.client.connect(near, &host).await?;
            // A handshake's last bytes go out with what follows.
            stream.flush().await?;
            Ok((stream, facts))
        };
        let done = tokio::sync::Notify::new();
        let connect = async {
            let connected = connect.await;
            done.notify_one();
            connected
        };
        let accept = async {
            let flow = flow(StreamIo::pair(1).0);
            let (mut stream, facts) = self.server.accept(far, &flow.info).await?;
            tokio::select! {
                flushed = stream.flush() => flushed?,
                // What is left are tickets, for which no pipe may have room.
                () = done.notified() => {}
            }
            Ok((stream, facts, flow.info))
        };
        tokio::join!(connect, accept)
    }
}

/// A server's side of a handshake.
pub async fn accept(
    server: &TlsServer,
    stream: StreamIo,
) -> Result<(StreamIo, TlsFacts, Arc<FlowInfo>)> {
    let flow = flow(StreamIo::pair(1).0);
    let (mut stream, facts) = server.accept(stream, &flow.info).await?;
    stream.flush().await?;
    Ok((stream, facts, flow.info))
}

pub fn flow(stream: StreamIo) -> Flow {
    let origin = Origin {
        listener: "test".into(),
        peer: None,
        local: None,
    };
    Flow::new(Layer::Tcp, Carrier::Stream(stream), origin)
}

pub async fn sockets() -> (StreamIo, StreamIo) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
    let (client, server) = tokio::join!(client, listener.accept());
    (client.unwrap().into(), server.unwrap().0.into())
}

/// A run of bytes that differ.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}
