//! The verification of an https endpoint's certificate.
//!
//! Owns the client's TLS settings: the machine's trusted roots together with those of `--cacert` (reqwest gets the
//! same), a certificate of `--cacert` that the server shows as its own, and the message for a refused certificate. Does
//! no I/O except for reading the certificates. Used by `http` and `error`.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::error_chain;
use crate::load::error::LoadError;
use crate::load::server_message;
use crate::plan::HttpPlan;

/// # Errors
/// A `--cacert` that can't be used, or no trusted root on this machine.
pub(super) fn config(plan: &HttpPlan) -> Result<ClientConfig, LoadError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = if plan.insecure {
        Arc::new(Unchecked { provider: Arc::clone(&provider) })
    } else {
        Arc::new(Checked::new(certificates(plan)?, Arc::clone(&provider)).map_err(
            |why| match &plan.cacert {
                Some(path) => LoadError::Cacert { path: path.clone(), why },
                None => LoadError::Client { why },
            },
        )?)
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| LoadError::Client { why: error_chain::line(&e) })?;
    Ok(config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// The certificates of `--cacert`.
///
/// # Errors
/// A file that can't be read, or that holds none.
pub(super) fn certificates(plan: &HttpPlan) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let Some(path) = &plan.cacert else { return Ok(Vec::new()) };
    let error = |why: String| LoadError::Cacert { path: path.clone(), why };
    let pem = std::fs::read(path).map_err(|e| error(error_chain::line(&e)))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|e| error(error_chain::line(&e)))?;
    if certificates.is_empty() {
        return Err(error("it holds no certificate".to_owned()));
    }
    Ok(certificates)
}

/// Accepts a certificate that a trusted root vouches for, or that the user has given.
#[derive(Debug)]
struct Checked {
    roots: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
}

impl Checked {
    fn new(given: Vec<CertificateDer<'static>>, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in &given {
            roots.add(certificate.clone()).map_err(|e| error_chain::line(&e))?;
        }
        let machines = rustls_native_certs::load_native_certs();
        for error in &machines.errors {
            tracing::debug!(%error, "certificates of this machine can't be read");
        }
        roots.add_parsable_certificates(machines.certs);
        if roots.is_empty() {
            return Err(
                "this machine has no trusted certificates: pass the server's with --cacert F".to_owned()
            );
        }
        let roots = WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .map_err(|e| error_chain::line(&e))?;
        Ok(Self { roots, given })
    }
}

impl ServerCertVerifier for Checked {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.roots.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        match verified {
            Err(Error::InvalidCertificate(why))
                if only_its_place(&why) && self.given.contains(end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.roots.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.roots.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.roots.supported_verify_schemes()
    }
}

/// The only fault of the certificate is that no other vouches for it, or that it is an authority's. webpki reports both
/// after it has checked the validity period (`check_issuer_independent_properties`); a test pins this.
fn only_its_place(why: &CertificateError) -> bool {
    match why {
        CertificateError::UnknownIssuer => true,
        CertificateError::Other(OtherError(why)) => {
            matches!(why.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}

/// The verifier of `--insecure`.
#[derive(Debug)]
struct Unchecked {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Why the server's certificate was refused, in one line. `None`: it was not refused.
pub(in crate::load) fn refused(error: &Error) -> Option<String> {
    use CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext,
        UnknownIssuer,
    };
    let Error::InvalidCertificate(why) = error else { return None };
    let date = |t: &UnixTime| {
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(t.as_secs())).to_string()
    };
    Some(match why {
        Expired => "the server's certificate has expired".to_owned(),
        ExpiredContext { not_after, .. } => {
            format!("the server's certificate has expired: it was valid until {}", date(not_after))
        }
        NotValidYet => "the server's certificate is not valid yet".to_owned(),
        NotValidYetContext { not_before, .. } => {
            format!("the server's certificate is not valid before {}", date(not_before))
        }
        NotValidForName => "the server's certificate is for another name".to_owned(),
        NotValidForNameContext { expected, presented } => {
            let presented = server_message::one_line(&presented.join(", "));
            format!("the server's certificate is not for {} but for {presented}", expected.to_str())
        }
        UnknownIssuer => "the server's certificate is signed by nobody whom this machine trusts".to_owned(),
        CertificateError::Other(OtherError(why)) if is_a_ca(why.as_ref()) => {
            "the server's certificate is its own authority (self-signed), which this machine does not trust"
                .to_owned()
        }
        other => {
            format!("the server's certificate is refused: {}", server_message::one_line(&other.to_string()))
        }
    })
}

fn is_a_ca(why: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    matches!(why.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

#[cfg(test)]
mod tests;
