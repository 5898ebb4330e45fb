//! The DTLS handshake of one end, over `rtc-dtls`, with what that crate lacks (RFC 5764, RFC 6347).
//!
//! - A fragmented ClientHello is put together here, and given to the crate as one record.
//! - Its `use_srtp` list chooses a GCM-only or CM-only configuration: GCM whenever it is offered.
//! - Our last flight is kept and sent again on our own timer; the crate loses its own.
//! - The peer's certificate is compared with the fingerprints of its description, in both roles.

use self::hello::{Fragment, Hello};
use crate::errors::Code;
use crate::rtp::srtp::{Profile, Protect, Unprotect};
use crate::sdp::description::Fingerprint;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use bytes::BytesMut;
use rtc_dtls::cipher_suite::CipherSuiteId;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// A handshake may take this long altogether.
pub(crate) const BUDGET: Duration = Duration::from_secs(15);
/// First retransmission; doubles up to one second.
const FIRST_RETRY: Duration = Duration::from_millis(50);
/// A finished handshake is kept this long to answer a repeated last flight.
const LINGER: Duration = Duration::from_secs(5);
/// Longest ClientHello put together from fragments, bytes.
const MAX_HELLO: usize = 8 * 1024;

/// The profiles we speak, best first: their numbers on the wire (RFC 5764 §4.1.2, RFC 7714 §14.2),
/// the crate's names, ours.
const PROFILES: [(u16, SrtpProtectionProfile, Profile); 4] = [
    (7, SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm, Profile::AeadAes128Gcm),
    (8, SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm, Profile::AeadAes256Gcm),
    (1, SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80, Profile::Aes128CmHmacSha1_80),
    (2, SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_32, Profile::Aes128CmHmacSha1_32),
];

fn provider() -> Result<Arc<dyn rtc_crypto::RTCCryptoProvider>, rtc_shared::error::Error> {
    rtc_crypto::default_provider().map_err(|e| rtc_shared::error::Error::Other(e.to_string()))
}

/// A fresh ECDSA P-256 certificate with its key, as PEM.
///
/// # Errors
/// The crypto library refuses.
pub fn new_certificate() -> Result<String, rtc_shared::error::Error> {
    let names = vec!["webtrunk".to_owned()];
    Certificate::generate_self_signed(names, provider()?.crypto())?.serialize_pem()
}

/// AEAD with forward secrecy only: no CBC (RFC 9325 §4.2). RSA is for the certificates of peers.
const SUITES: [CipherSuiteId; 4] = [
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
    CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_128_Gcm_Sha256,
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
    CipherSuiteId::Tls_Ecdhe_Rsa_With_ChaCha20_Poly1305_Sha256,
];

/// The node's certificate and configurations, shared by all handshakes.
pub struct DtlsIdentity {
    /// One for each of [`PROFILES`]: the crate's own choice would be the client's.
    servers: Vec<Arc<HandshakeConfig>>,
    client: Arc<HandshakeConfig>,
    /// `AB:CD:…`, sha-256.
    pub fingerprint: String,
    /// The certificate and its key, for a successor of the process.
    pem: Zeroizing<String>,
}

impl DtlsIdentity {
    /// A fresh ECDSA P-256 certificate.
    ///
    /// # Errors
    /// The crypto library refuses.
    pub fn generate() -> Result<DtlsIdentity, rtc_shared::error::Error> {
        DtlsIdentity::from_pem(&new_certificate()?)
    }

    /// Of a certificate that [`new_certificate`] made.
    ///
    /// # Errors
    /// It is none.
    pub fn from_pem(pem: &str) -> Result<DtlsIdentity, rtc_shared::error::Error> {
        DtlsIdentity::offering(pem, PROFILES.iter().map(|(_, name, _)| *name).collect())
    }

    /// The certificate and its key.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// As client it offers `profiles`, best first.
    fn offering(
        pem: &str,
        profiles: Vec<SrtpProtectionProfile>,
    ) -> Result<DtlsIdentity, rtc_shared::error::Error> {
        let provider = provider()?;
        let certificate = Certificate::from_pem(pem, provider.crypto())?;
        let hash = digest::digest(&digest::SHA256, certificate.certificate[0].as_ref());
        let fingerprint =
            hash.as_ref().iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":");
        let build = |client: bool, profiles: Vec<SrtpProtectionProfile>| {
            ConfigBuilder::default()
                .with_crypto_provider(provider.clone())
                .with_certificates(vec![certificate.clone()])
                .with_cipher_suites(SUITES.to_vec())
                .with_srtp_protection_profiles(profiles)
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                .with_extended_master_secret(ExtendedMasterSecretType::Request)
                // The certificate is judged by its fingerprint, below.
                .with_insecure_skip_verify(true)
                .build(client, None)
                .map(Arc::new)
        };
        let servers: Result<Vec<_>, _> =
            PROFILES.iter().map(|(_, name, _)| build(false, vec![*name])).collect();
        Ok(DtlsIdentity {
            servers: servers?,
            client: build(true, profiles)?,
            fingerprint,
            pem: Zeroizing::new(pem.to_owned()),
        })
    }
}

/// A handshake that ended without keys.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum Failed {
    /// Its certificate is not the one named in its SDP.
    #[error("the DTLS certificate does not match the fingerprint in the SDP")]
    Fingerprint,
    /// It showed none.
    #[error("the peer sent no DTLS certificate")]
    NoCertificate,
    /// It did not end in time.
    #[error("the DTLS handshake did not finish within 15 s")]
    TimedOut,
    /// No SRTP profile is known to both.
    #[error("no SRTP profile in common")]
    NoProfile,
    /// By the text of the library.
    #[error("DTLS: {0}")]
    Protocol(String),
    /// The peer closed it.
    #[error("the peer closed DTLS")]
    Closed,
}

impl Failed {
    /// Returns what the registry of errors calls it.
    pub fn code(&self) -> Code {
        match self {
            Failed::Fingerprint => Code::FINGERPRINT,
            Failed::NoCertificate
            | Failed::TimedOut
            | Failed::NoProfile
            | Failed::Protocol(_)
            | Failed::Closed => Code::DTLS,
        }
    }
}

/// The keys of a finished handshake.
pub struct DtlsKeys {
    /// What both agreed to.
    pub profile: Profile,
    /// For what we send.
    pub protect: Protect,
    /// For what the peer sends.
    pub unprotect: Unprotect,
}

enum DtlsState {
    /// Server: collecting the ClientHello.
    Listening(Hello),
    Running(Box<Endpoint>),
    /// Finished or failed.
    Over,
}

/// The handshake machine of one end.
pub struct Handshake {
    identity: Arc<DtlsIdentity>,
    state: DtlsState,
    fingerprints: Vec<Fingerprint>,
    second_hello: Hello,
    flight: Vec<BytesMut>,
    retry_at: Option<Instant>,
    interval: Duration,
    deadline: Option<Instant>,
    is_client: bool,
    done: bool,
    /// When the last flight of a finished handshake was last sent again.
    repeated: Option<Instant>,
    /// The fingerprint of the certificate that the peer showed last.
    shown: Option<Fingerprint>,
}

/// The crate keys associations by address; ours is found by ICE, so it sees one constant.
fn peer() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 9))
}

impl Handshake {
    /// Waits for a ClientHello (`active: false`) or will send one (`active: true`, see
    /// [`start`](Self::start)).
    pub fn new(identity: Arc<DtlsIdentity>, fingerprints: Vec<Fingerprint>) -> Handshake {
        Handshake {
            identity,
            state: DtlsState::Listening(Hello::default()),
            fingerprints,
            second_hello: Hello::default(),
            flight: Vec::new(),
            retry_at: None,
            interval: FIRST_RETRY,
            deadline: None,
            is_client: false,
            done: false,
            repeated: None,
            shown: None,
        }
    }

    /// One that has given its keys to a process before this one: what it sent is sent, and the
    /// peer's further datagrams, which nobody can read any more, change nothing.
    pub(super) fn finished(
        identity: Arc<DtlsIdentity>,
        fingerprints: Vec<Fingerprint>,
    ) -> Handshake {
        Handshake { state: DtlsState::Over, done: true, ..Handshake::new(identity, fingerprints) }
    }

    /// The fingerprint of the certificate that the peer showed last.
    pub(super) fn peer_fingerprint(&self) -> Option<Fingerprint> {
        self.shown
    }

    /// The peer showed that one to a process before this one.
    pub(super) fn has_shown(mut self, shown: Option<Fingerprint>) -> Handshake {
        self.shown = shown;
        self
    }

    /// A description names the peer's fingerprints, and whether it asks for another association
    /// than the one there is (`other`). That begins anew if it does, or if its certificates are not
    /// those of this one (RFC 8842 §5.5); keys that were handed out serve until then. As client we
    /// begin only if the certificate that was shown does not serve.
    pub(crate) fn describe(&mut self, fingerprints: &[Fingerprint], active: bool, other: bool) {
        let begun = !matches!(self.state, DtlsState::Listening(_));
        let among = |f: &Fingerprint| fingerprints.contains(f);
        let same = fingerprints.len() == self.fingerprints.len()
            && self.fingerprints.iter().all(among)
            || active && self.shown.as_ref().is_some_and(among);
        if begun && (other || !same) {
            let shown = self.shown.take();
            *self = Handshake { shown, ..Handshake::new(self.identity.clone(), Vec::new()) };
        }
        self.fingerprints = fingerprints.to_vec();
    }

    /// Whether the keys of an association before this one may continue to serve: the certificate
    /// that was shown then is still the peer's.
    pub(crate) fn is_dispensable(&self) -> bool {
        self.shown.is_some_and(|shown| self.fingerprints.contains(&shown))
    }

    /// Starts as client.
    pub fn start(&mut self, now: Instant, send: &mut impl FnMut(&[u8])) {
        if !matches!(self.state, DtlsState::Listening(_)) {
            return;
        }
        let mut endpoint = Endpoint::new(peer(), TransportProtocol::UDP, None);
        let started = endpoint.connect(now, peer(), self.identity.client.clone(), None);
        debug_assert!(started.is_ok());
        self.deadline = Some(now + BUDGET);
        self.is_client = true;
        self.state = DtlsState::Running(Box::new(endpoint));
        self.transmit(now, send);
    }

    /// Takes a datagram from a validated address.
    ///
    /// # Errors
    /// The handshake is over without keys.
    pub fn receive(
        &mut self,
        now: Instant,
        datagram: &[u8],
        send: &mut impl FnMut(&[u8]),
    ) -> Result<Option<DtlsKeys>, Failed> {
        if let DtlsState::Listening(hello) = &mut self.state {
            // A peer that has no fingerprint yet cannot be checked; its hello is repeated anyway.
            if self.fingerprints.is_empty() {
                return Ok(None);
            }
            let Some(whole) = hello.push(datagram) else { return Ok(None) };
            let offered = whole.profiles();
            let best = PROFILES
                .iter()
                .position(|(number, ..)| offered.contains(number))
                .ok_or(Failed::NoProfile)?;
            let config = self.identity.servers[best].clone();
            let record = whole.record();
            self.deadline.get_or_insert(now + BUDGET);
            self.state = DtlsState::Running(Box::new(Endpoint::new(
                peer(),
                TransportProtocol::UDP,
                Some(config),
            )));
            return self.feed(now, &record, send);
        }
        if matches!(datagram, [21, _, _, 0, 0, ..]) {
            // An alert in clear proves nothing: anyone who can write the peer's address could end
            // the handshake with it. A peer that really gave up is found by the budget.
            return Ok(None);
        }
        if self.done {
            // The peer repeats its last flight: ours was lost. The crate would drop a repeat with
            // the same record numbers as a replay, and then never answer (RFC 6347 §4.2.4). Only
            // the server's flight is the last one, and one answer is for the whole of the peer's
            // flight: else two ends that are done would answer each other's datagrams for ever.
            let due = self.repeated.is_none_or(|at| now >= at + FIRST_RETRY);
            let repeats = matches!(datagram.first(), Some(20 | 22)) && !self.is_freed();
            if repeats && due && !self.is_client {
                self.repeated = Some(now);
                self.flight.iter().for_each(|d| send(d));
            }
            return Ok(None);
        }
        let mut joined = None;
        if Fragment::parse(datagram).is_some_and(|f| f.is_partial()) {
            // The second ClientHello (with the cookie) comes in pieces too.
            let mut hello = std::mem::take(&mut self.second_hello);
            joined = Some(hello.push(datagram));
            self.second_hello = hello;
        }
        match joined {
            Some(None) => Ok(None),
            Some(Some(whole)) => {
                self.second_hello = Hello::default();
                self.feed(now, &whole.record(), send)
            }
            None => self.feed(now, datagram, send),
        }
    }

    fn feed(
        &mut self,
        now: Instant,
        datagram: &[u8],
        send: &mut impl FnMut(&[u8]),
    ) -> Result<Option<DtlsKeys>, Failed> {
        let DtlsState::Running(endpoint) = &mut self.state else { return Ok(None) };
        let result = endpoint.read(now, peer(), None, BytesMut::from(datagram));
        self.transmit(now, send);
        let events = match result {
            Ok(events) => events,
            // A record that cannot be read is dropped (RFC 6347 §4.1.2.7); the retry timer mends
            // the rest.
            Err(_) => return Ok(None),
        };
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => return self.finish(now),
                EndpointEvent::PeerClosed => return self.fail(Failed::Closed),
                _ => {}
            }
        }
        Ok(None)
    }

    fn fail(&mut self, why: Failed) -> Result<Option<DtlsKeys>, Failed> {
        self.state = DtlsState::Over;
        self.retry_at = None;
        self.deadline = None;
        Err(why)
    }

    fn finish(&mut self, now: Instant) -> Result<Option<DtlsKeys>, Failed> {
        let DtlsState::Running(endpoint) = &self.state else { return Ok(None) };
        let Some(state) = endpoint.get_connection_state(peer()) else {
            return self.fail(Failed::Closed);
        };
        let Some(certificate) = state.peer_certificates.first() else {
            return self.fail(Failed::NoCertificate);
        };
        let hash = digest::digest(&digest::SHA256, certificate);
        let fits = |wanted: &Fingerprint| verify_slices_are_equal(wanted, hash.as_ref()).is_ok();
        if !self.fingerprints.iter().any(fits) {
            return self.fail(Failed::Fingerprint);
        }
        let shown = Fingerprint::try_from(hash.as_ref()).ok();
        let chosen = state.srtp_protection_profile();
        let Some((_, _, profile)) = PROFILES.into_iter().find(|(_, name, _)| *name == chosen)
        else {
            return self.fail(Failed::NoProfile);
        };
        let (key, salt) = (profile.key_len(), profile.salt_len());
        let material = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], 2 * (key + salt));
        let material = match material {
            Ok(secret) => secret.into_bytes(),
            Err(e) => return self.fail(Failed::Protocol(e.to_string())),
        };
        let (keys, salts) = material.split_at(2 * key);
        let side = |n: usize| (&keys[key * n..key * (n + 1)], &salts[salt * n..salt * (n + 1)]);
        let (ours, theirs) =
            if state.is_client() { (side(0), side(1)) } else { (side(1), side(0)) };
        self.done = true;
        self.shown = shown;
        self.retry_at = None;
        self.deadline = Some(now + LINGER);
        Ok(Some(DtlsKeys {
            profile,
            protect: Protect::new(profile, ours.0, ours.1),
            unprotect: Unprotect::new(profile, theirs.0, theirs.1),
        }))
    }

    fn transmit(&mut self, now: Instant, send: &mut impl FnMut(&[u8])) {
        let DtlsState::Running(endpoint) = &mut self.state else { return };
        let mut fresh = Vec::new();
        while let Some(out) = endpoint.poll_transmit() {
            send(&out.message);
            fresh.push(out.message);
        }
        if !fresh.is_empty() {
            self.flight = fresh;
            self.interval = FIRST_RETRY;
            self.retry_at = (!self.done).then(|| now + self.interval);
        }
    }

    /// Retransmits or gives up, as `now` asks.
    ///
    /// # Errors
    /// The budget is spent without keys.
    pub fn fire(&mut self, now: Instant, send: &mut impl FnMut(&[u8])) -> Result<(), Failed> {
        if self.deadline.is_some_and(|at| now >= at) {
            self.deadline = None;
            self.retry_at = None;
            self.state = DtlsState::Over;
            self.flight = Vec::new();
            return if self.done { Ok(()) } else { Err(Failed::TimedOut) };
        }
        if self.retry_at.is_some_and(|at| now >= at) {
            self.flight.iter().for_each(|datagram| send(datagram));
            self.interval = (self.interval * 2).min(Duration::from_secs(1));
            self.retry_at = Some(now + self.interval);
        }
        Ok(())
    }

    /// Nobody could be heard for `stall`: the handshake has that much longer.
    pub fn overslept(&mut self, stall: Duration) {
        self.deadline = self.deadline.map(|at| at + stall);
    }

    /// When [`fire`](Self::fire) is next due.
    pub fn next_timeout(&self) -> Option<Instant> {
        [self.retry_at, self.deadline].into_iter().flatten().min()
    }

    /// Whether keys were handed out.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whether the handshake's memory is already given back.
    pub fn is_freed(&self) -> bool {
        matches!(self.state, DtlsState::Over)
    }
}

mod hello;
#[cfg(test)]
mod tests;
