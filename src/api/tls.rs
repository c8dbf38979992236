//! Reads the root certificates that a server's certificate is checked against, and
//! describes failed TLS handshakes.
//!
//! This module opens no connection.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use reqwest::Certificate;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

use crate::model::read_at_most;

use super::{ApiError, FailureStage, Options};

/// Maximum size of a certificate file. The bundle of a whole platform has about 250 KB.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// The root certificates that a server's certificate is checked against.
pub(super) enum TrustedRoots {
    /// Only the roots in this configuration.
    OnlyConfigured(Box<ClientConfig>),
    /// The platform's roots and these additional roots.
    PlatformAnd(Vec<Certificate>),
}

impl TrustedRoots {
    /// Reads the certificate files that the options name. For an `http` API URL, returns an
    /// empty set, because loading the platform's roots takes longer than the request.
    pub(super) fn new(options: &Options) -> Result<Self, ApiError> {
        let mut certificates = Vec::new();
        if options.api_url.is_https() {
            for path in options.ssl_cert_file.iter().chain(&options.ca_cert) {
                certificates.extend(read_certificates(path)?);
            }
            if options.ssl_cert_file.is_none() {
                // The platform's verifier uses the default provider of the process. Setting it
                // fails only if it has been set before.
                let _ = ring::default_provider().install_default();
                let parsed = certificates
                    .into_iter()
                    .map(|der| Certificate::from_der(&der));
                return parsed
                    .collect::<Result<_, _>>()
                    .map(Self::PlatformAnd)
                    .map_err(|_| {
                        ApiError::InvalidArgument("a CA certificate cannot be used".to_owned())
                    });
            }
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates);
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| ApiError::SetupFailed(format!("TLS: {error}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self::OnlyConfigured(Box::new(config)))
    }
}

/// Reads the certificates in a PEM file. Ignores those that cannot be used as roots, and
/// fails if there are no others.
fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ApiError> {
    let invalid_file = |problem: &str| {
        ApiError::InvalidArgument(format!(
            "cannot use the CA certificates in {}: {problem}",
            path.display()
        ))
    };
    let bytes = File::open(path)
        .and_then(|mut file| read_at_most(&mut file, MAX_FILE_BYTES))
        .map_err(|error| invalid_file(&error.to_string()))?;
    let usable: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .filter_map(Result::ok)
        .filter(|der| RootCertStore::empty().add(der.clone()).is_ok())
        .collect();
    if usable.is_empty() {
        return Err(invalid_file("no certificate in PEM form"));
    }
    Ok(usable)
}

/// Describes the root certificates in use, for `doctor` and for errors.
pub(super) fn describe_roots(options: &Options) -> String {
    if !options.api_url.is_https() {
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

/// Returns the error for a failed handshake with `host`. Its message includes the roots
/// in use.
pub(super) fn handshake_error(error: &rustls::Error, host: &str, options: &Options) -> ApiError {
    use CertificateError as C;
    use rustls::Error as E;
    let cause = match error {
        E::InvalidCertificate(error) => {
            let problem = match error {
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
            format!("the certificate of {host} {problem}")
        }
        E::AlertReceived(AlertDescription::ProtocolVersion) | E::PeerIncompatible(_) => {
            format!("{host} offers no secure TLS version or cipher (TLS 1.2 or 1.3 is required)")
        }
        E::AlertReceived(alert) => format!("{host} refused the handshake ({alert:?})"),
        E::InvalidMessage(_) => format!("{host} does not speak TLS on this port"),
        other => format!("handshake with {host} failed ({other})"),
    };
    let roots = describe_roots(options);
    let is_unknown_issuer = matches!(error, E::InvalidCertificate(C::UnknownIssuer));
    let message = format!("TLS: {cause}; roots in use: {roots}");
    ApiError::unavailable(
        message,
        FailureStage::TlsHandshakeFailed { is_unknown_issuer },
    )
}
