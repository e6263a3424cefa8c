//! TLS to the database: who is at the other end is checked as far as `sslmode` says.

use std::fs;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What is checked of the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verify {
    /// Nothing: the connection is secret, whoever is at its other end.
    Nothing,
    /// That an authority made it which is trusted.
    Authority,
    /// That, and that it is for the host in the URL.
    Host,
}

/// How TLS is spoken.
#[derive(Clone)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    verify: Verify,
}

impl Tls {
    /// `root` is a file of certificates in PEM, or `system`; none: the system's.
    pub(super) fn new(verify: Verify, root: Option<&str>) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let checked = match verify {
            Verify::Nothing => None,
            Verify::Authority | Verify::Host => {
                let roots = Arc::new(roots(root)?);
                let checks = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
                Some(checks.map_err(|error| format!("sslrootcert: {error}"))?)
            }
        };
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let config = config.map_err(|error| error.to_string())?.dangerous();
        let verifier: Arc<dyn ServerCertVerifier> = match checked {
            Some(checks) if verify == Verify::Host => checks,
            checks => Arc::new(AnyHost { checks, provider }),
        };
        let config = Arc::new(config.with_custom_certificate_verifier(verifier).with_no_client_auth());
        Ok(Self { config, verify })
    }

    /// Whether nobody else can be at the other end.
    pub(super) fn checks_host(&self) -> bool {
        self.verify == Verify::Host
    }

    pub(super) fn connector(&self) -> MakeRustlsConnect {
        MakeRustlsConnect::new(ClientConfig::clone(&self.config))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

fn roots(file: Option<&str>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match file.filter(|file| *file != "system") {
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err("this system has no certificates to trust; name them with sslrootcert=FILE".to_owned());
            }
        }
        Some(file) => {
            let pem = fs::read(file).map_err(|error| format!("sslrootcert={file} cannot be read: {error}"))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let added = certificate.map_err(|error| error.to_string());
                let added = added.and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
                added.map_err(|error| format!("sslrootcert={file} is not all certificates: {error}"))?;
            }
            if roots.is_empty() {
                return Err(format!("sslrootcert={file} has no certificate in it"));
            }
        }
    }
    Ok(roots)
}

/// Checks a certificate for whichever host, or not at all.
#[derive(Debug)]
struct AnyHost {
    checks: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(checks) = &self.checks else { return Ok(ServerCertVerified::assertion()) };
        match checks.verify_server_cert(certificate, intermediates, name, ocsp_response, now) {
            // The name is looked at last: all else was good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
