//! A client over TLS: HTTP/2 or HTTP/1.1, as the server agrees to.

use std::fmt::Write;
use std::future::poll_fn;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Version};
use oxy::core::{StreamIo, TlsFacts};
use oxy::tls::{ClientOptions, TlsClient};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::PATIENCE;
use super::authority::{Authority, Pair};
use super::http::{Response, read};

/// What a client is, and what it asks with.
pub(crate) struct Client {
    options: ClientOptions,
    fields: Vec<(&'static str, String)>,
}

/// A response, and the connection that it came by.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    /// Status and fields, those of the trailer section last, lower-cased.
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) version: Version,
    pub(crate) facts: TlsFacts,
}

impl Client {
    /// A client that trusts `authority`, and speaks both versions.
    pub(crate) fn trusting(authority: &Authority) -> Self {
        Self::trusting_file(&authority.ca)
    }

    pub(crate) fn trusting_file(ca: &str) -> Self {
        let mut options = ClientOptions::default();
        options.ca = vec![ca.into()];
        options.alpn = vec!["h2".into(), "http/1.1".into()];
        options.sessions = 0;
        Self {
            options,
            fields: Vec::new(),
        }
    }

    /// It speaks only this.
    pub(crate) fn speaking(mut self, alpn: &str) -> Self {
        self.options.alpn = vec![alpn.into()];
        self
    }

    /// It shows this certificate.
    pub(crate) fn with(mut self, pair: &Pair) -> Self {
        self.options.cert = Some((&pair.cert).into());
        self.options.key = Some((&pair.key).into());
        self
    }

    /// It sends this field.
    pub(crate) fn field(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Gets `path` of `host`, on a connection of its own. An error is one of the handshake or the connection, in words.
    pub(crate) fn get(&self, at: SocketAddr, host: &str, path: &str) -> Result<Got, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let asking = self.ask(at, host, path);
            let asked = tokio::time::timeout(PATIENCE, asking).await;
            asked.unwrap_or_else(|_| Err("no answer".into()))
        })
    }

    async fn ask(&self, at: SocketAddr, host: &str, path: &str) -> Result<Got, String> {
        let client = TlsClient::new(self.options.clone()).unwrap();
        let socket = tokio::net::TcpStream::connect(at)
            .await
            .map_err(|e| e.to_string())?;
        let (stream, facts) = client
            .connect(socket.into(), &host.parse().unwrap())
            .await
            .map_err(|e| format!("{e:?}"))?;
        if facts.alpn.as_deref() == Some(b"h2") {
            self.http2(stream, facts, host, path)
                .await
                .map_err(|e| e.to_string())
        } else {
            self.http1(stream, facts, host, path)
                .await
                .map_err(|e| e.to_string())
        }
    }

    async fn http1(
        &self,
        mut stream: StreamIo,
        facts: TlsFacts,
        host: &str,
        path: &str,
    ) -> std::io::Result<Got> {
        let mut fields = String::new();
        for (name, value) in &self.fields {
            let _ = write!(fields, "{name}: {value}\r\n");
        }
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        if bytes.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let Response { status, head, body } = read(&bytes[..]);
        Ok(Got {
            status,
            head,
            body,
            version: Version::HTTP_11,
            facts,
        })
    }

    async fn http2(
        &self,
        stream: StreamIo,
        facts: TlsFacts,
        host: &str,
        path: &str,
    ) -> Result<Got, h2::Error> {
        let (sender, connection) = h2::client::handshake(stream).await?;
        let driving = tokio::spawn(connection);
        let mut sender = sender.ready().await?;
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let mut request = Request::get(format!("https://{host}{path}")).version(Version::HTTP_2);
        for (name, value) in &self.fields {
            request = request.header(*name, value);
        }
        let (response, _) = sender.send_request(request.body(()).unwrap(), true)?;
        let response = response.await?;
        let status = response.status().as_u16();
        let mut head = format!("http/2 {status}\r\n");
        let mut add = |fields: &http::HeaderMap| {
            for (name, value) in fields {
                let _ = write!(head, "{name}: {}\r\n", value.to_str().unwrap());
            }
        };
        add(response.headers());
        let mut body = response.into_body();
        let mut text = Vec::new();
        while let Some(data) = body.data().await {
            let data: Bytes = data?;
            let _ = body.flow_control().release_capacity(data.len());
            text.extend_from_slice(&data);
        }
        if let Some(trailers) = poll_fn(|cx| body.poll_trailers(cx)).await? {
            add(&trailers);
        }
        driving.abort();
        Ok(Got {
            status,
            head: head.to_ascii_lowercase(),
            body: String::from_utf8(text).unwrap(),
            version: Version::HTTP_2,
            facts,
        })
    }
}
