//! The temporary certificate authority of an https server, and the certificate that it signs.
//! Both exist in memory only; the certificate of the authority is available as PEM.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use time::{Duration, OffsetDateTime};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::settings::TlsKind;

pub struct Tls {
    pub acceptor: TlsAcceptor,
    pub ca_pem: String,
}

impl Tls {
    pub fn new(kind: TlsKind) -> Self {
        let now = OffsetDateTime::now_utc();
        let mut ca = CertificateParams::default();
        ca.distinguished_name
            .push(DnType::CommonName, "Sandbox throw-away CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        ca.not_before = date_time_ymd(2020, 1, 1);
        ca.not_after = now + Duration::days(30);
        let ca_key = KeyPair::generate().unwrap();
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(ca, ca_key);

        let names: &[&str] = match kind {
            TlsKind::Good | TlsKind::Expired => {
                &["localhost", "127.0.0.1", "::1", "api.sandbox.test"]
            }
            TlsKind::WrongName => &["elsewhere.example"],
        };
        let names = names
            .iter()
            .map(|name| name.to_string())
            .collect::<Vec<_>>();
        let mut leaf = CertificateParams::new(names).unwrap();
        leaf.not_before = date_time_ymd(2020, 1, 1);
        leaf.not_after = match kind {
            TlsKind::Expired => date_time_ymd(2021, 1, 1),
            TlsKind::Good | TlsKind::WrongName => now + Duration::days(30),
        };
        if kind != TlsKind::Expired {
            // Some verifiers refuse a server certificate that lives for years.
            leaf.not_before = now - Duration::days(1);
        }
        leaf.use_authority_key_identifier_extension = true;
        leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let leaf_key = KeyPair::generate().unwrap();
        let chain = vec![leaf.signed_by(&leaf_key, &issuer).unwrap().der().clone()];
        let key = PrivateKeyDer::try_from(leaf_key.serialize_der()).unwrap();

        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Tls {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            ca_pem,
        }
    }
}
