//! A server, a client that trusts it, and what lies between them.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]

use std::path::PathBuf;
use std::sync::Arc;

use oxy_core::{Carrier, Flow, FlowInfo, Host, Layer, Origin, Result, StreamIo, TlsFacts};
use oxy_tls::{CertStore, ClientOptions, Mint, ServerOptions, TlsClient, TlsServer};

pub struct World {
    pub mint: Mint,
    pub dir: Dir,
    pub server: TlsServer,
    pub client: TlsClient,
}

/// A directory that goes with the test.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
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
        Self::with(|_| {}, |_| {})
    }

    pub fn with(
        server: impl FnOnce(&mut ServerOptions),
        client: impl FnOnce(&mut ClientOptions),
    ) -> Self {
        let (mint, dir) = (Mint::new().unwrap(), Dir::new());
        let mut server_options = ServerOptions::default();
        server(&mut server_options);
        let mut client_options = ClientOptions::default();
        client_options.ca = vec![dir.put("ca.pem", mint.ca_pem())];
        client(&mut client_options);
        let store = CertStore::from_keys(vec![mint.leaf(&["localhost"]).unwrap()]);
        Self {
            server: TlsServer::with_store(server_options, store).unwrap(),
            client: TlsClient::new(client_options).unwrap(),
            mint,
            dir,
        }
    }

    pub async fn connect(&self) -> (StreamIo, StreamIo) {
        let session = self.session("localhost", StreamIo::pair(64 * 1024)).await;
        let session = session.unwrap();
        (session.near, session.far)
    }

    /// Both sides' handshakes, over a pair of streams. An error is the client's, or the server's where the client has none.
    pub async fn session(&self, host: &str, pair: (StreamIo, StreamIo)) -> Result<Session> {
        let (near, far) = self.both(host, pair).await;
        let ((near, near_facts), (far, far_facts, info)) = (near?, far?);
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
        let accept = async {
            let mut flow = flow(far);
            let info = flow.info.clone();
            let stream = std::mem::replace(flow.stream().unwrap(), StreamIo::pair(1).0);
            // What the client has to read (a ticket, an alert) is flushed by the server's next step, as in a proxy.
            let (mut stream, facts) = self.server.accept(stream, &info).await?;
            tokio::io::AsyncWriteExt::flush(&mut stream).await?;
            Ok((stream, facts, info))
        };
        let connect = async {
            let (mut stream, facts) = self.client.connect(near, &host).await?;
            tokio::io::AsyncWriteExt::flush(&mut stream).await?;
            Ok((stream, facts))
        };
        tokio::join!(connect, accept)
    }
}

pub fn flow(stream: StreamIo) -> Flow {
    let origin = Origin {
        listener: "test".into(),
        peer: None,
        local: None,
    };
    Flow::new(Layer::Tcp, Carrier::Stream(stream), origin)
}
