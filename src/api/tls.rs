//! Chooses the root certificates of a connection and describes failed
//! handshakes.
//!
//! It reads certificate files and opens no connection.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use reqwest::Certificate;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

use crate::model::read_at_most;

use super::{ApiError, Delivery, Options};

/// Maximum size of a certificate file. A platform's whole bundle has 250 KB.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// What to check a server's certificate against.
pub(super) enum Trust {
    /// A configuration with the given roots only.
    Only(Box<ClientConfig>),
    /// The platform's roots and the given ones.
    Platform(Vec<Certificate>),
}

impl Trust {
    /// Reads the roots that the options name. An http origin needs none, and
    /// parsing the platform's takes longer than the request.
    pub(super) fn new(options: &Options) -> Result<Self, ApiError> {
        let mut given = Vec::new();
        if options.origin.is_https() {
            for path in options.ssl_cert_file.iter().chain(&options.ca_cert) {
                given.extend(read(path)?);
            }
            if options.ssl_cert_file.is_none() {
                // The platform's verifier is built with the process's provider.
                let _ = ring::default_provider().install_default();
                let given = given.into_iter().map(|der| Certificate::from_der(&der));
                return given
                    .collect::<Result<_, _>>()
                    .map(Self::Platform)
                    .map_err(|_| {
                        ApiError::InvalidArgument("a CA certificate cannot be used".to_owned())
                    });
            }
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(given);
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| ApiError::Unusable(format!("TLS: {error}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self::Only(Box::new(config)))
    }
}

/// Reads the certificates of a PEM file that can be roots.
fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, ApiError> {
    let fail = |why: &str| {
        ApiError::InvalidArgument(format!(
            "cannot use the CA certificates in {}: {why}",
            path.display()
        ))
    };
    let bytes = File::open(path)
        .and_then(|mut file| read_at_most(&mut file, MAX_FILE))
        .map_err(|error| fail(&error.to_string()))?;
    let usable: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .filter_map(Result::ok)
        .filter(|der| RootCertStore::empty().add(der.clone()).is_ok())
        .collect();
    if usable.is_empty() {
        return Err(fail("no certificate in PEM form"));
    }
    Ok(usable)
}

/// Describes the roots, for `doctor` and for errors.
pub(super) fn roots_in_use(options: &Options) -> String {
    if !options.origin.is_https() {
        return "none, the API is reached over http".to_owned();
    }
    let base = match &options.ssl_cert_file {
        Some(path) => format!("{} (SSL_CERT_FILE)", path.display()),
        None => "the platform's".to_owned(),
    };
    match &options.ca_cert {
        Some(path) => format!("{base} and {} (--ca-cert)", path.display()),
        None => base,
    }
}

/// Describes a failed handshake with `host`, and the roots that were used.
pub(super) fn classify(error: &rustls::Error, host: &str, options: &Options) -> ApiError {
    use CertificateError as C;
    use rustls::Error as E;
    let why = match error {
        E::InvalidCertificate(error) => {
            let why = match error {
                C::Expired | C::ExpiredContext { .. } => {
                    "has expired (or the clock of this machine is wrong)".to_owned()
                }
                C::NotValidYet | C::NotValidYetContext { .. } => {
                    "is not valid yet (or the clock of this machine is wrong)".to_owned()
                }
                C::NotValidForName | C::NotValidForNameContext { .. } => {
                    "is for another name".to_owned()
                }
                C::Revoked => "has been revoked".to_owned(),
                C::UnknownIssuer => "is not trusted (unknown issuer)".to_owned(),
                other => format!("is not trusted ({other})"),
            };
            format!("the certificate of {host} {why}")
        }
        E::AlertReceived(AlertDescription::ProtocolVersion) | E::PeerIncompatible(_) => {
            format!("{host} offers no protocol version or cipher of TLS 1.2 and 1.3 that is safe")
        }
        E::AlertReceived(alert) => format!("{host} refused the handshake ({alert:?})"),
        E::InvalidMessage(_) => format!("{host} does not speak TLS on this port"),
        other => format!("handshake with {host} failed ({other})"),
    };
    let roots = roots_in_use(options);
    let is_unknown_issuer = matches!(error, E::InvalidCertificate(C::UnknownIssuer));
    let reason = format!("TLS: {why}; roots in use: {roots}");
    ApiError::unavailable(reason, Delivery::NoTls { is_unknown_issuer })
}
