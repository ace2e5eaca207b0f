//! The client's side of TLS: rustls on buffers that all connections share.

use std::fmt;
use std::sync::Arc;

use clap::ValueEnum;
use rustls::client::UnbufferedClientConnection;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{DigitallySignedStruct, SignatureScheme};

use super::wire::Broken;

/// Whom the client asks for, and whose certificate the proxies have.
pub(crate) const SERVER_NAME: &str = "localhost";

/// The most that is sealed at a time; what the socket does not take of it is kept.
const SEAL: usize = 256 << 10;

/// Room for that: 22 bytes for each record of 16 KiB, and a head before the body.
pub(super) const SEALED: usize = SEAL + (16 << 10);

/// A key exchange. A client offers one only, so that every proxy does the same work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// Elliptic curve.
    X25519,
    /// The same and ML-KEM.
    X25519Mlkem768,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X25519 => "X25519",
            Self::X25519Mlkem768 => "X25519MLKEM768",
        })
    }
}

/// What a client offers: TLS 1.3, one suite, `group`, one protocol, no resumption.
pub(crate) fn config(group: Group, protocol: &[u8]) -> Result<Arc<ClientConfig>, rustls::Error> {
    let group = match group {
        Group::X25519 => aws_lc_rs::kx_group::X25519,
        Group::X25519Mlkem768 => aws_lc_rs::kx_group::X25519MLKEM768,
    };
    let provider = CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![group],
        ..aws_lc_rs::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

/// Trusts everybody and checks no signature: that is the client's work, not the proxy's.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// One connection's TLS.
pub(super) struct Session {
    connection: UnbufferedClientConnection,
    /// What has been sealed and the socket had no room for.
    pub(super) unsent: Vec<u8>,
    /// The start of a record that has not arrived whole.
    pub(super) partial: Vec<u8>,
    /// Whether requests may be sealed.
    pub(super) open: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A session whose first flight is ready to be sent.
    pub(super) fn new(config: &Arc<ClientConfig>) -> Result<Self, rustls::Error> {
        let name = ServerName::try_from(SERVER_NAME)
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let mut session = Self {
            connection: UnbufferedClientConnection::new(Arc::clone(config), name)?,
            unsent: Vec::new(),
            partial: Vec::new(),
            open: false,
        };
        session
            .opened(&mut [], &mut |_| {})
            .map_err(|Broken| rustls::Error::HandshakeNotComplete)?;
        Ok(session)
    }

    /// Opens what `sealed` starts with, hands the plain text out, and returns how much it
    /// has used. The rest begins a record and has to come again with more behind it.
    pub(super) fn opened(
        &mut self,
        sealed: &mut [u8],
        deliver: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, Broken> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(&mut sealed[used..]);
            used += discard;
            match state.map_err(|_| Broken)? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(|_| Broken)?;
                        used += record.discard;
                        deliver(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    let start = self.unsent.len();
                    if let Err(EncodeError::InsufficientSize(need)) = data.encode(&mut []) {
                        self.unsent.resize(start + need.required_size, 0);
                        data.encode(&mut self.unsent[start..]).map_err(|_| Broken)?;
                    }
                }
                // Whoever calls this sends what is unsent.
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::WriteTraffic(_) => {
                    self.open = true;
                    return Ok(used);
                }
                ConnectionState::BlockedHandshake => return Ok(used),
                _ => return Err(Broken), // closed
            }
        }
    }

    /// Seals as much of `parts` as is sent at a time into `out`; returns how much that
    /// is, and its length there.
    pub(super) fn seal(
        &mut self,
        parts: [&[u8]; 2],
        out: &mut [u8],
    ) -> Result<(usize, usize), Broken> {
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut []);
        let ConnectionState::WriteTraffic(mut traffic) = state.map_err(|_| Broken)? else {
            return Err(Broken);
        };
        let (mut taken, mut length) = (0, 0);
        for part in parts {
            let part = &part[..part.len().min(SEAL - taken)];
            if !part.is_empty() {
                length += traffic
                    .encrypt(part, &mut out[length..])
                    .map_err(|_| Broken)?;
                taken += part.len();
            }
        }
        Ok((taken, length))
    }

    /// Seals the notice that nothing more will come, if there is anybody to tell.
    pub(super) fn farewell(&mut self, out: &mut [u8]) -> usize {
        if !self.open || !self.unsent.is_empty() {
            return 0;
        }
        match self.connection.process_tls_records(&mut []).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                traffic.queue_close_notify(out).unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// The protocol that was agreed on.
    pub(super) fn protocol(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::sync::Arc;

    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection};

    use super::{Group, SEALED, SERVER_NAME, Session, config};

    fn server() -> ServerConnection {
        let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        ServerConnection::new(Arc::new(config)).unwrap()
    }

    /// What the server has to say, handed to the client in pieces of `size`.
    fn exchange(client: &mut Session, server: &mut ServerConnection, size: usize) -> Vec<u8> {
        let mut plain = Vec::new();
        while !client.unsent.is_empty() || server.wants_write() {
            server.read_tls(&mut &client.unsent[..]).unwrap();
            client.unsent.clear();
            server.process_new_packets().unwrap();
            let mut sealed = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut sealed).unwrap();
            }
            for piece in sealed.chunks(size) {
                let mut arrived = std::mem::take(&mut client.partial);
                arrived.extend_from_slice(piece);
                let used = client
                    .opened(&mut arrived, &mut |bytes| plain.extend_from_slice(bytes))
                    .unwrap();
                client.partial = arrived[used..].to_vec();
            }
        }
        plain
    }

    #[test]
    fn agrees_on_what_is_pinned_and_carries_bytes_in_any_pieces() {
        for (group, size) in [
            (Group::X25519, 1),
            (Group::X25519, 7),
            (Group::X25519Mlkem768, 1 << 20),
        ] {
            let mut server = server();
            let mut client = Session::new(&config(group, b"h2").unwrap()).unwrap();
            exchange(&mut client, &mut server, size);
            assert!(client.open);
            assert_eq!(client.protocol(), Some(&b"h2"[..]));
            assert_eq!(
                server.negotiated_key_exchange_group().unwrap().name(),
                match group {
                    Group::X25519 => rustls::NamedGroup::X25519,
                    Group::X25519Mlkem768 => rustls::NamedGroup::X25519MLKEM768,
                }
            );
            assert_eq!(
                server.negotiated_cipher_suite().unwrap().suite(),
                rustls::CipherSuite::TLS13_AES_128_GCM_SHA256
            );

            // More than is sealed at a time, from both parts.
            let body = vec![7; 300 << 10];
            let mut out = vec![0; SEALED];
            let (taken, length) = client.seal([b"head", &body], &mut out).unwrap();
            assert_eq!(taken, 256 << 10);
            let mut sealed = &out[..length];
            let mut got = Vec::new();
            while !sealed.is_empty() {
                server.read_tls(&mut sealed).unwrap();
                server.process_new_packets().unwrap();
                let mut chunk = vec![0; 64 << 10];
                while let Ok(read) = server.reader().read(&mut chunk) {
                    got.extend_from_slice(&chunk[..read]);
                }
            }
            assert_eq!(got.len(), taken);
            assert!(got.starts_with(b"head\x07"));

            server.writer().write_all(b"answer").unwrap();
            assert_eq!(exchange(&mut client, &mut server, size), b"answer");
            assert!(client.farewell(&mut out) > 0);
        }
    }
}
