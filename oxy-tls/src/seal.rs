//! Records that are encrypted where they are sent from.
//!
//! rustls asks its cipher for a record in a vector of its own, and copies that into the place that it was given: two copies of
//! each byte and an allocation for each record. The ciphers here write application data straight from the plaintext into a
//! buffer that waits for it ([`sealing_into`]); all else they do as those of rustls do. What a record contains, when it is
//! made, and by which key is rustls's to say either way.

use std::cell::RefCell;
use std::fmt;

use aws_lc_rs::aead::{self, Aad, TlsProtocolId, TlsRecordSealingKey};
use oxy_core::buffer::Buffer;
use rustls::crypto::CryptoProvider;
use rustls::crypto::cipher::{
    AeadKey, Iv, MessageDecrypter, MessageEncrypter, Nonce, OutboundChunks, OutboundOpaqueMessage,
    OutboundPlainMessage, PrefixedPayload, Tls13AeadAlgorithm, UnsupportedOperationError,
    make_tls13_aad,
};
use rustls::{
    CipherSuite, ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion,
    SupportedCipherSuite, Tls13CipherSuite,
};

/// The header of a record (RFC 8446 section 5.1).
pub(crate) const HEADER: usize = 5;

/// The authentication tag of both ciphers (RFC 5116 sections 5.1 and 5.2).
const TAG: usize = 16;

/// What stands behind the plaintext of a record that is not padded: its type, and the tag (RFC 8446 section 5.2).
const BEHIND: usize = 1 + TAG;

thread_local! {
    /// Where records of application data go, if somebody waits for them.
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

struct Place {
    out: Buffer,
    sealed: usize,
}

/// Runs `encrypt`, which has rustls encrypt application data once, and adds the records to `out` if the session's cipher is one
/// of ours. Says what `encrypt` gives, and how many records went to `out`. Of each of them rustls has only an empty one to
/// pass on: [`HEADER`] bytes that mean nothing.
pub(crate) fn sealing_into<T>(out: &mut Buffer, encrypt: impl FnOnce() -> T) -> (T, usize) {
    let place = Place {
        out: std::mem::replace(out, Buffer::vacant()),
        sealed: 0,
    };
    PLACE.set(Some(place));
    let done = encrypt();
    let sealed = PLACE.take().map_or(0, |place| {
        *out = place.out;
        place.sealed
    });
    (done, sealed)
}

/// Puts our ciphers in the place of those in `provider` that do the same.
pub(crate) fn install(provider: &mut CryptoProvider) {
    for suite in &mut provider.cipher_suites {
        if let SupportedCipherSuite::Tls13(theirs) = *suite
            && let Some(ours) = ours(theirs)
        {
            // There are two, for as long as the process lives: rustls wants them static.
            *suite = SupportedCipherSuite::Tls13(Box::leak(Box::new(ours)));
        }
    }
}

fn ours(theirs: &'static Tls13CipherSuite) -> Option<Tls13CipherSuite> {
    let algorithm = match theirs.common.suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => &aead::AES_128_GCM,
        CipherSuite::TLS13_AES_256_GCM_SHA384 => &aead::AES_256_GCM,
        _ => return None,
    };
    let gcm = Gcm {
        algorithm,
        theirs: theirs.aead_alg,
    };
    Some(Tls13CipherSuite {
        common: rustls::crypto::CipherSuiteCommon {
            suite: theirs.common.suite,
            hash_provider: theirs.common.hash_provider,
            confidentiality_limit: theirs.common.confidentiality_limit,
        },
        hkdf_provider: theirs.hkdf_provider,
        aead_alg: Box::leak(Box::new(gcm)),
        quic: theirs.quic,
    })
}

/// AES in Galois/Counter Mode for TLS 1.3.
struct Gcm {
    algorithm: &'static aead::Algorithm,
    theirs: &'static dyn Tls13AeadAlgorithm,
}

impl Tls13AeadAlgorithm for Gcm {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        match TlsRecordSealingKey::new(self.algorithm, TlsProtocolId::TLS13, key.as_ref()) {
            Ok(key) => Box::new(Sealer { key, iv }),
            Err(_) => self.theirs.encrypter(key, iv),
        }
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.theirs.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.theirs.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.theirs.extract_keys(key, iv)
    }

    fn fips(&self) -> bool {
        self.theirs.fips()
    }
}

/// Encrypts records, one after the other.
struct Sealer {
    key: TlsRecordSealingKey,
    iv: Iv,
}

impl MessageEncrypter for Sealer {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        seq: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let payload = if let OutboundChunks::Single(plain) = message.payload
            && message.typ == ContentType::ApplicationData
            && let Some(sealed) = PLACE.with_borrow_mut(|place| {
                let place = place.as_mut()?;
                place.sealed += 1;
                Some(self.seal_into(plain, seq, &mut place.out))
            }) {
            sealed?;
            PrefixedPayload::with_capacity(0)
        } else {
            self.seal(&message, seq)?
        };
        Ok(OutboundOpaqueMessage::new(
            ContentType::ApplicationData,
            ProtocolVersion::TLSv1_2,
            payload,
        ))
    }

    /// How much room rustls has to find: none for what goes elsewhere. It asks for application data alone.
    fn encrypted_payload_len(&self, len: usize) -> usize {
        if PLACE.with_borrow(Option::is_some) {
            0
        } else {
            len + BEHIND
        }
    }
}

impl Sealer {
    fn nonce(&self, seq: u64) -> aead::Nonce {
        aead::Nonce::assume_unique_for_key(Nonce::new(&self.iv, seq).0)
    }

    /// Adds the record with `plain` in it to `out`.
    fn seal_into(&mut self, plain: &[u8], seq: u64, out: &mut Buffer) -> Result<(), Error> {
        let protected = plain.len() + BEHIND;
        let nonce = self.nonce(seq);
        out.reserve(HEADER + protected);
        let aad = make_tls13_aad(protected);
        let (header, rest) = out.spare().split_at_mut(HEADER);
        // What is authenticated is the header (RFC 8446 section 5.2).
        header.copy_from_slice(&aad);
        let (text, rest) = rest.split_at_mut(plain.len());
        self.key
            .seal_out_of_place_scatter(
                nonce,
                Aad::from(aad),
                plain,
                text,
                &[ContentType::ApplicationData.into()],
                &mut rest[..BEHIND],
            )
            .map_err(|_| Error::EncryptError)?;
        out.advance(HEADER + protected);
        Ok(())
    }

    fn seal(
        &mut self,
        message: &OutboundPlainMessage<'_>,
        seq: u64,
    ) -> Result<PrefixedPayload, Error> {
        let protected = message.payload.len() + BEHIND;
        let mut payload = PrefixedPayload::with_capacity(protected);
        payload.extend_from_chunks(&message.payload);
        payload.extend_from_slice(&[message.typ.into()]);
        let aad = Aad::from(make_tls13_aad(protected));
        self.key
            .seal_in_place_append_tag(self.nonce(seq), aad, &mut payload)
            .map_err(|_| Error::EncryptError)?;
        Ok(payload)
    }
}

impl fmt::Debug for Gcm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gcm({:?})", self.algorithm)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use rustls::crypto::aws_lc_rs::cipher_suite;

    fn message(typ: ContentType, plain: &[u8]) -> OutboundPlainMessage<'_> {
        OutboundPlainMessage {
            typ,
            version: ProtocolVersion::TLSv1_3,
            payload: OutboundChunks::Single(plain),
        }
    }

    /// The cipher of rustls and ours, with the same key.
    fn both() -> [Box<dyn MessageEncrypter>; 2] {
        let SupportedCipherSuite::Tls13(theirs) = cipher_suite::TLS13_AES_256_GCM_SHA384 else {
            unreachable!("it is for TLS 1.3");
        };
        let ours = ours(theirs).unwrap();
        [theirs.aead_alg, ours.aead_alg]
            .map(|it| it.encrypter(AeadKey::from([7; 32]), Iv::copy(&[9; 12])))
    }

    #[test]
    fn records_are_those_of_rustls_wherever_they_go() {
        let [mut theirs, mut ours] = both();
        let mut out = Buffer::new();
        out.put(b"before");
        for (seq, len) in [0, 1, 15, 16, 17, 1000, 16 * 1024 - 1, 16 * 1024]
            .into_iter()
            .enumerate()
        {
            let plain: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let data = || message(ContentType::ApplicationData, &plain);
            let seq = 2 * seq as u64;
            let wanted = theirs.encrypt(data(), seq).unwrap().encode();
            let before = out.len();
            let (done, sealed) = sealing_into(&mut out, || ours.encrypt(data(), seq));
            assert_eq!((done.unwrap().encode().len(), sealed), (HEADER, 1));
            assert_eq!(&out.filled()[before..], wanted);

            let wanted = theirs.encrypt(data(), seq + 1).unwrap().encode();
            let here = ours.encrypt(data(), seq + 1).unwrap().encode();
            assert_eq!(here, wanted);
            assert_eq!(ours.encrypted_payload_len(len), wanted.len() - HEADER);
        }
        assert!(out.filled().starts_with(b"before"));
    }

    #[test]
    fn only_application_data_goes_elsewhere() {
        let [mut theirs, mut ours] = both();
        let mut out = Buffer::vacant();
        let update = || message(ContentType::Handshake, &[24, 0, 0, 1, 0]);
        let (done, sealed) = sealing_into(&mut out, || ours.encrypt(update(), 0));
        let wanted = theirs.encrypt(update(), 0).unwrap().encode();
        assert_eq!((done.unwrap().encode(), sealed), (wanted, 0));
        assert!(out.is_empty());
    }

    #[test]
    fn other_ciphers_stay_as_they_are() {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        let before = provider.cipher_suites.clone();
        install(&mut provider);
        assert_eq!(provider.cipher_suites, before, "by their names");
        let chacha = provider
            .cipher_suites
            .iter()
            .find(|it| it.suite() == CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        let SupportedCipherSuite::Tls13(chacha) = chacha.unwrap() else {
            unreachable!("it is for TLS 1.3");
        };
        assert!(ours(chacha).is_none());
    }
}
