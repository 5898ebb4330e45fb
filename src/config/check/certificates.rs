//! Certificates and keys: that they can be read, belong together, are valid now and name the
//! domain.

use super::Check;
use super::around::{is_domain, listener_address};
use crate::config::schema::{self, Spanned};
use crate::config::{AcmeSettings, WebTls};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{SystemTime, UNIX_EPOCH};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The directory of Let's Encrypt.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// The host at which browsers reach the page.
pub(super) fn site(public_url: Option<&Spanned<String>>, domain: &str) -> String {
    let url = public_url.and_then(|url| url.as_ref().parse::<hyper::Uri>().ok());
    url.as_ref().and_then(hyper::Uri::host).unwrap_or(domain).to_owned()
}

fn is_address(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok()
}

impl Check {
    /// `site`: the host at which browsers reach the page.
    pub(in crate::config) fn tls(
        &mut self,
        tls: Option<Spanned<schema::Tls>>,
        site: &str,
    ) -> WebTls {
        let Some(tls) = tls else { return WebTls::Off };
        match tls.as_ref() {
            schema::Tls::Word(word) if word == "acme" => {
                self.acme(&tls, &schema::Acme::default(), site)
            }
            schema::Tls::Acme { acme } => self.acme(&tls, acme, site),
            schema::Tls::Word(word) if word == "off" => WebTls::Off,
            schema::Tls::Word(word) if word == "local" => {
                WebTls::Local(self.folder.join("local-ca"))
            }
            schema::Tls::Word(word) => {
                let word = word.clone();
                let help = "use \"off\", \"local\" (an authority of its own), \"acme\" \
                    or { cert = \"…\", key = \"…\" }";
                self.error(&tls, "config::tls", format!("web.tls = {word:?} is not known"), help);
                WebTls::Off
            }
            schema::Tls::Files { cert, key } => {
                let (cert, key) = (self.folder.join(cert), self.folder.join(key));
                for path in [&cert, &key] {
                    if let Err(e) = std::fs::read(path) {
                        self.error(
                            &tls,
                            "config::tls",
                            format!("{} cannot be read: {e}", path.display()),
                            "name a PEM file that this user may read",
                        );
                    }
                }
                WebTls::Files { cert, key }
            }
        }
    }

    fn acme(&mut self, at: &Spanned<schema::Tls>, acme: &schema::Acme, site: &str) -> WebTls {
        let names: Vec<String> = match acme.names.as_slice() {
            [] => vec![site.to_owned()],
            names => names.to_vec(),
        };
        let public = |name: &str| is_domain(name) && name.contains('.') && !is_address(name);
        if let Some(name) = names.iter().find(|name| !public(name)) {
            let message = format!("no authority gives a certificate for {name:?}");
            let help =
                "set acme = { names = [\"calls.example.com\"] }: names in DNS that lead here";
            self.error(at, "config::tls", message, help);
        }
        let directory = acme.directory.as_deref().unwrap_or(LETS_ENCRYPT);
        if !directory.starts_with("https://") || directory.parse::<hyper::Uri>().is_err() {
            let message = format!("acme.directory = {directory:?} is not an https URL");
            self.error(at, "config::tls", message, "write the one the authority publishes");
        }
        if let Some(email) = acme.email.as_ref().filter(|e| !e.contains('@')) {
            let message = format!("acme.email = {:?} is not an e-mail address", email);
            self.error(at, "config::tls", message, "write \"you@example.com\", or leave it out");
        }
        let ca = acme.ca.as_ref().map(|ca| {
            let path = self.folder.join(ca);
            if let Err(e) = std::fs::read(&path) {
                let message = format!("{} cannot be read: {e}", path.display());
                self.error(at, "config::tls", message, "name a PEM file that this user may read");
            }
            self.authority(at, ca);
            path
        });
        let http = acme.http.as_ref().and_then(|text| {
            let parsed = listener_address(text);
            if parsed.is_none() {
                let message = format!("acme.http = {text:?} is not an address");
                self.error(at, "config::address", message, "write \":80\"");
            }
            parsed
        });
        WebTls::Acme(AcmeSettings {
            directory: directory.to_owned(),
            email: acme.email.clone(),
            names,
            ca,
            http,
        })
    }

    /// All pairs and authorities the file names.
    pub(super) fn all_certificates(&mut self, f: &schema::File) {
        let domain = f.server.domain.as_ref().map(|d| d.as_ref().clone());
        if let Some(at) = &f.web.tls
            && let schema::Tls::Files { cert, key } = at.as_ref()
        {
            // Browsers go where the page is.
            let site = domain.as_ref().map(|domain| site(f.web.public_url.as_ref(), domain));
            self.pair(at, cert, key, site.as_deref());
        }
        if let Some(at) = &f.sip.certificate {
            self.pair(at, &at.as_ref().cert, &at.as_ref().key, domain.as_deref());
        }
        if let Some(at) = &f.sip.client_ca {
            self.authority(at, at.as_ref());
        }
        for trunk in f.trunk.values() {
            let Some(at) = &trunk.get_ref().tls else { continue };
            if let Some(ca) = &at.as_ref().ca {
                self.authority(at, ca);
            }
            if let (Some(cert), Some(key)) = (&at.as_ref().cert, &at.as_ref().key) {
                self.pair(at, cert, key, None);
            }
        }
    }

    /// A file that cannot be read is reported by whoever loads it; one that can is checked here.
    fn pem(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.folder.join(name)).ok()
    }

    pub(super) fn authority<T>(&mut self, at: &Spanned<T>, name: &str) {
        let Some(pem) = self.pem(name) else { return };
        let authorities = chain_of(&pem);
        let over: Vec<String> = authorities.iter().filter_map(expired).collect();
        if authorities.is_empty() {
            let message = format!("{name} holds no certificate");
            self.error(at, "config::tls", message, "name a PEM file with BEGIN CERTIFICATE in it");
        } else if let (Some(since), true) = (over.first(), over.len() == authorities.len()) {
            let message = format!("the authority in {name} has expired: {since}");
            self.error(at, "config::tls", message, "get its new certificate: it proves nobody");
        }
    }

    fn pair<T>(&mut self, at: &Spanned<T>, cert: &str, key: &str, domain: Option<&str>) {
        let (Some(cert_pem), Some(key_pem)) = (self.pem(cert), self.pem(key)) else { return };
        let chain = chain_of(&cert_pem);
        let found = PrivateKeyDer::from_pem_slice(&key_pem);
        if chain.is_empty() && found.is_err() {
            let swapped = !chain_of(&key_pem).is_empty();
            let (message, help) = if swapped {
                (
                    format!("{cert} holds no certificate and {key} no key: the two are swapped"),
                    "exchange cert and key",
                )
            } else {
                (
                    format!("{cert} holds no certificate, {key} no key"),
                    "name PEM files: the chain with its leaf first, and the key of the leaf",
                )
            };
            return self.error(at, "config::tls", message, help);
        }
        if chain.is_empty() {
            let message = format!("{cert} holds no certificate");
            return self.error(at, "config::tls", message, "name the PEM file of the chain");
        }
        let Ok(found) = found else {
            let message = format!("{key} holds no private key that can be read");
            return self.error(
                at,
                "config::tls",
                message,
                "name the PEM file of the key, \
                unencrypted",
            );
        };
        if let Err(e) = fits(chain.clone(), found) {
            let message = format!("the key {key} is not the one of the certificate {cert}: {e}");
            let help = "name the key that the certificate was made with";
            return self.error(at, "config::tls", message, help);
        }
        self.leaf(at, cert, &chain[0], domain);
        if let Some(since) = chain[1..].iter().find_map(expired) {
            let message =
                format!("a certificate between {cert} and its authority has expired: {since}");
            let help = "renew the whole chain: many clients refuse it with this one";
            self.warn(at.span(), "config::tls", message, help);
        }
    }

    /// Valid now, and named for the domain.
    fn leaf<T>(
        &mut self,
        at: &Spanned<T>,
        file: &str,
        leaf: &CertificateDer<'_>,
        domain: Option<&str>,
    ) {
        let Ok((_, leaf)) = X509Certificate::from_der(leaf) else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        let validity = leaf.validity();
        if validity.not_after.timestamp() < now {
            let message = format!("the certificate {file} has expired: {}", validity.not_after);
            self.error(at, "config::tls", message, "renew it; no browser and no trunk takes it");
        } else if validity.not_before.timestamp() > now {
            let message = format!("{file} is not valid before {}", validity.not_before);
            self.error(at, "config::tls", message, "wait, or compare this machine's clock");
        }
        let names = names_of(&leaf);
        let Some(domain) = domain.filter(|d| !names.iter().any(|n| is_named(n, d))) else { return };
        let named = match names.as_slice() {
            [] => "nobody: it has no subject alternative name".to_owned(),
            names => names.join(", "),
        };
        let message = format!("the certificate {file} does not name {domain}, but {named}");
        let help = "get one for server.domain, unless browsers reach this gateway by another name";
        let span = at.span();
        self.problems.push(
            crate::config::ConfigProblem::at(&self.source, span, "config::tls", message)
                .help(help)
                .warning(),
        );
    }
}

/// Until when a certificate was valid, if it is not any more.
fn expired(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, read) = X509Certificate::from_der(certificate).ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    let end = read.validity().not_after;
    (end.timestamp() < now).then(|| end.to_string())
}

fn chain_of(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect()
}

/// Whether the two belong together.
fn fits(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<(), rustls::Error> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider)?.keys_match()
}

fn names_of(leaf: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = leaf.subject_alternative_name() else { return Vec::new() };
    let names = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::URI(uri) => uri.strip_prefix("sip:").map(str::to_owned),
        GeneralName::IPAddress([a, b, c, d]) => Some(format!("{a}.{b}.{c}.{d}")),
        GeneralName::IPAddress(ip) => {
            <[u8; 16]>::try_from(*ip).ok().map(|ip| format!("[{}]", Ipv6Addr::from(ip)))
        }
        _ => None,
    });
    names.collect()
}

/// Returns the names of the leaf of this PEM file; empty if it cannot be read.
pub fn names_in(file: &std::path::Path) -> Vec<String> {
    let pem = std::fs::read(file).unwrap_or_default();
    let chain = chain_of(&pem);
    let leaf = chain.first().and_then(|leaf| X509Certificate::from_der(leaf).ok());
    leaf.map_or_else(Vec::new, |(_, leaf)| names_of(&leaf))
}

/// Whether a certificate's name is that of a host (RFC 6125 §6.4.3): a star stands for the leftmost
/// label.
pub fn is_named(name: &str, domain: &str) -> bool {
    let rest = name.strip_prefix("*.").zip(domain.split_once('.'));
    name.eq_ignore_ascii_case(domain)
        || rest.is_some_and(|(name, (_, parent))| name.eq_ignore_ascii_case(parent))
}
