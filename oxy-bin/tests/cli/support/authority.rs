//! Certificates for tests.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber,
};

use super::Dir;

/// An authority that signs what tests need, into files.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The file of its own certificate.
    pub(crate) ca: String,
}

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(dir: &Dir) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            ca: dir.file("ca.pem", &pem),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for `names`, in files that are called after `file`: of a server, and of a client.
    pub(crate) fn pair(&self, dir: &Dir, file: &str, names: &[&str]) -> Pair {
        self.numbered_pair(dir, file, names, None)
    }

    /// [`Authority::pair`] with a serial number, by which it can be revoked.
    pub(crate) fn numbered_pair(
        &self,
        dir: &Dir,
        file: &str,
        names: &[&str],
        serial: Option<u64>,
    ) -> Pair {
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.serial_number = serial.map(SerialNumber::from);
        params.distinguished_name.push(DnType::CommonName, file);
        params.not_after = (SystemTime::now() + Duration::from_secs(86_400)).into();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            cert: dir.file(&format!("{file}.pem"), &cert.pem()),
            key: dir.file(&format!("{file}.key"), &key.serialize_pem()),
        }
    }

    /// The file of a list that says that the certificate with this serial number is revoked.
    pub(crate) fn revoke(&self, dir: &Dir, serial: u64) -> String {
        let (now, day) = (SystemTime::now(), Duration::from_secs(86_400));
        let params = CertificateRevocationListParams {
            this_update: (now - day).into(),
            next_update: (now + day).into(),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: serial.into(),
                revocation_time: (now - day).into(),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).unwrap();
        dir.file("revocations.pem", &list.pem().unwrap())
    }
}
