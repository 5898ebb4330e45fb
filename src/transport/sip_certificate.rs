//! A trunk's certificate: its chain, and its name as SIP has it (RFC 5922 §7).
//!
//! rustls checks the chain and compares DNS names. A SIP certificate may name its domain in a URI
//! instead (`sip:carrier.example`), which rustls does not read; only that is added here, and only
//! once the chain has passed.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The verifier.
#[derive(Debug)]
pub(crate) struct SipVerifier(Arc<WebPkiServerVerifier>);

impl SipVerifier {
    /// Trusts `roots`.
    ///
    /// # Errors
    /// No authority is among them.
    pub(crate) fn new(roots: RootCertStore) -> anyhow::Result<SipVerifier> {
        Ok(SipVerifier(WebPkiServerVerifier::builder(Arc::new(roots)).build()?))
    }
}

/// Whether the certificate names `domain` as a SIP domain: a URI of scheme sip, without a user (RFC
/// 5922 §7.1).
fn names_sip_domain(certificate: &CertificateDer<'_>, domain: &str) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return false };
    names.value.general_names.iter().any(|name| match name {
        // What follows the host is ignored, as a port is; a user makes it no domain. SIPS URIs name
        // no domain.
        GeneralName::URI(uri) => {
            uri.get(..4).filter(|s| s.eq_ignore_ascii_case("sip:")).is_some_and(|_| {
                let host = uri[4..].split([';', '?', ':']).next().unwrap_or_default();
                !uri.contains('@') && host.eq_ignore_ascii_case(domain)
            })
        }
        _ => false,
    })
}

impl ServerCertVerifier for SipVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // rustls compares names last: this error says that all else is well.
        match self.0.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if names_sip_domain(end_entity, &name.to_str()) => {
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
    use std::time::Duration;

    fn authority() -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("signed").der().clone();
        (certificate, Issuer::new(params, key))
    }

    fn leaf(
        issuer: &Issuer<'static, KeyPair>,
        uris: &[&str],
        dns: &[&str],
    ) -> CertificateDer<'static> {
        let mut params =
            CertificateParams::new(dns.iter().map(|d| (*d).to_owned()).collect::<Vec<_>>())
                .expect("names");
        params
            .subject_alt_names
            .extend(uris.iter().map(|u| SanType::URI((*u).try_into().expect("ASCII"))));
        params
            .signed_by(&KeyPair::generate().expect("a key"), issuer)
            .expect("signed")
            .der()
            .clone()
    }

    #[test]
    fn a_sip_uri_names_its_domain_and_nothing_but_the_name_is_forgiven() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (ours, issuer) = authority();
        let (_, stranger) = authority();
        let mut roots = RootCertStore::empty();
        roots.add(ours).expect("an authority");
        let verifier = SipVerifier::new(roots).expect("one root");
        let name = ServerName::try_from("carrier.example").expect("a name");
        let soon = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        let passes = |certificate: &CertificateDer<'_>, at| {
            verifier.verify_server_cert(certificate, &[], &name, &[], at).is_ok()
        };
        for uris in [
            &["sip:carrier.example"][..],
            &["sip:other.example", "SIP:Carrier.Example"],
            &["sip:carrier.example;transport=tls"],
        ] {
            assert!(passes(&leaf(&issuer, uris, &[]), soon), "{uris:?}");
            assert!(
                passes(&leaf(&issuer, uris, &["edge7.carrier.example"]), soon),
                "{uris:?} beside a DNS name"
            );
            assert!(!passes(&leaf(&stranger, uris, &[]), soon), "{uris:?} of an unknown authority");
        }
        assert!(passes(&leaf(&issuer, &[], &["carrier.example"]), soon));
        for uris in [
            &["sip:other.example"][..],
            &["sips:carrier.example"],
            &["sip:me@carrier.example"],
            &["https://carrier.example"],
            &["sip:carrier.example.evil"],
            &[],
        ] {
            assert!(!passes(&leaf(&issuer, uris, &["edge7.carrier.example"]), soon), "{uris:?}");
        }
        let old = UnixTime::since_unix_epoch(Duration::from_secs(1));
        assert!(!passes(&leaf(&issuer, &["sip:carrier.example"], &[]), old), "not yet valid");
    }
}
