//! A peer that is rustls as it comes, for what our own sides never do.

use std::io::{self, Read, Write};
use std::sync::Arc;

use oxy_core::StreamIo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Authority;

pub struct Raw {
    pub conn: Connection,
    pub io: StreamIo,
}

impl Raw {
    /// The configuration of a client that trusts `authority`.
    pub fn client_config(authority: &Authority) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    pub fn server_config(cert: &str, key: &str) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap()
    }

    pub fn client(config: &Arc<ClientConfig>, io: StreamIo) -> Self {
        let name = "localhost".try_into().unwrap();
        let conn = ClientConnection::new(config.clone(), name).unwrap();
        Self {
            conn: conn.into(),
            io,
        }
    }

    pub fn server(config: ServerConfig, io: StreamIo) -> Self {
        let conn = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        Self {
            conn: conn.into(),
            io,
        }
    }

    pub async fn send(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        while self.conn.wants_write() {
            self.conn.write_tls(&mut bytes)?;
        }
        self.io.write_all(&bytes).await
    }

    /// Takes what comes; an error is what the peer did wrong.
    pub async fn take(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 4096];
        let n = self.io.read(&mut bytes).await?;
        let mut rest = &bytes[..n];
        while !rest.is_empty() {
            self.conn.read_tls(&mut rest)?;
            self.conn.process_new_packets().map_err(io::Error::other)?;
        }
        Ok(n)
    }

    pub async fn shake(&mut self) -> io::Result<()> {
        self.send().await?;
        while self.conn.is_handshaking() {
            if self.take().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.send().await?;
        }
        Ok(())
    }

    pub async fn say(&mut self, plain: &[u8]) {
        self.conn.writer().write_all(plain).unwrap();
        self.send().await.unwrap();
    }

    pub async fn hear(&mut self, len: usize) -> Vec<u8> {
        let mut got = vec![0; len];
        let mut at = 0;
        while at < len {
            match self.conn.reader().read(&mut got[at..]) {
                Ok(0) => break,
                Ok(n) => at += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if self.take().await.unwrap() == 0 {
                        break;
                    }
                }
                Err(e) => panic!("{e}"),
            }
        }
        got.truncate(at);
        got
    }
}
