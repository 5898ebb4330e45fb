//! STUN binding requests, read in place and answered, and one of ours with its response (RFC 8489,
//! RFC 8445 §7).
//!
//! Authentication is checked first: what fails it gets no reply and leaves no state.

use crate::sdp::offer_answer::Ice;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use flate2::Crc;
use std::net::{IpAddr, SocketAddr};

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const PRIORITY: u16 = 0x0024;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802a;
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// A binding request's and a success response's first bytes.
const REQUEST: [u8; 2] = [0x00, 0x01];
const SUCCESS: [u8; 2] = [0x01, 0x01];

/// What is read of a well-formed message of one kind that has a MESSAGE-INTEGRITY.
struct StunFields<'a> {
    username: Option<&'a str>,
    use_candidate: bool,
    controlled: bool,
    integrity_at: usize,
    /// Whether FINGERPRINT is there, and right.
    fingerprint: Option<bool>,
}

fn read(bytes: &[u8], wanted: [u8; 2]) -> Option<StunFields<'_>> {
    let head: &[u8; 20] = bytes.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    if head[..2] != wanted
        || head[4..8] != COOKIE
        || !length.is_multiple_of(4)
        || bytes.len() != 20 + length
    {
        return None;
    }
    let (mut username, mut use_candidate, mut controlled) = (None, false, false);
    let (mut integrity_at, mut fingerprint) = (None, None);
    let mut at = 20;
    while at < bytes.len() {
        let kind = u16::from_be_bytes(*bytes.get(at..at + 2)?.first_chunk()?);
        let len = usize::from(u16::from_be_bytes(*bytes.get(at + 2..at + 4)?.first_chunk()?));
        let value = bytes.get(at + 4..at + 4 + len)?;
        let signed = integrity_at.is_none();
        match kind {
            FINGERPRINT => {
                let own = fingerprint_of(&bytes[..at]);
                fingerprint = Some(value == own && at + 8 == bytes.len());
            }
            // RFC 8489 §14.5: only FINGERPRINT may follow; the rest is unsigned and ignored.
            _ if !signed => {}
            USERNAME => username = std::str::from_utf8(value).ok().filter(|u| u.len() <= 513),
            USE_CANDIDATE => use_candidate = true,
            ICE_CONTROLLED => controlled = true,
            MESSAGE_INTEGRITY if len == 20 => integrity_at = Some(at),
            _ => {}
        }
        at += 4 + len.next_multiple_of(4);
    }
    let integrity_at = integrity_at?;
    Some(StunFields { username, use_candidate, controlled, integrity_at, fingerprint })
}

/// Whether the MESSAGE-INTEGRITY at `at` was made with `password`.
fn is_authentic(bytes: &[u8], at: usize, password: &str) -> bool {
    let tag = bytes.get(at + 4..at + 24).unwrap_or_default();
    verify_slices_are_equal(&integrity(&bytes[..at], password), tag).is_ok()
}

/// A well-formed binding request whose integrity is not yet checked.
#[derive(Clone, Copy, Debug)]
pub struct BindingRequest<'a> {
    bytes: &'a [u8],
    /// `local-ufrag:remote-ufrag`, ours first.
    pub username: &'a str,
    /// The browser nominates this pair.
    pub use_candidate: bool,
    /// The peer claims the controlled role, which is ours as a lite agent.
    pub controlled: bool,
    integrity_at: usize,
}

impl<'a> BindingRequest<'a> {
    /// Reads a request; anything odd (lengths, missing USERNAME, MESSAGE-INTEGRITY or FINGERPRINT,
    /// attributes after the integrity) is nothing.
    pub fn parse(bytes: &'a [u8]) -> Option<BindingRequest<'a>> {
        let StunFields { username, use_candidate, controlled, integrity_at, fingerprint } =
            read(bytes, REQUEST)?;
        let username = username?;
        let request = BindingRequest { bytes, username, use_candidate, controlled, integrity_at };
        (fingerprint == Some(true)).then_some(request)
    }

    /// Our ufrag in the username.
    pub(crate) fn local_ufrag(&self) -> &'a str {
        self.username.split(':').next().unwrap_or_default()
    }

    /// The peer's ufrag in the username.
    pub(crate) fn remote_ufrag(&self) -> &'a str {
        self.username.split_once(':').map_or("", |(_, r)| r)
    }

    /// Whether MESSAGE-INTEGRITY was made with `password`.
    pub fn is_authentic(&self, password: &str) -> bool {
        is_authentic(self.bytes, self.integrity_at, password)
    }

    fn transaction(&self) -> [u8; 12] {
        *self.bytes[8..].first_chunk().expect("the head is 20 bytes")
    }

    /// The success response that tells the peer its address.
    pub fn success(&self, from: SocketAddr, password: &str) -> Vec<u8> {
        let mut value = vec![0, if from.is_ipv4() { 1 } else { 2 }];
        value.extend((from.port() ^ 0x2112).to_be_bytes());
        let mask: Vec<u8> = COOKIE.into_iter().chain(self.transaction()).collect();
        let octets = match from.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        value.extend(octets.iter().zip(&mask).map(|(a, b)| a ^ b));
        self.response(0x0101, XOR_MAPPED_ADDRESS, &value, password)
    }

    /// 487 Role Conflict: a lite agent is always controlled (RFC 8445 §7.3.1.1).
    pub(crate) fn role_conflict(&self, password: &str) -> Vec<u8> {
        let value = [&[0u8, 0, 4, 87][..], b"Role Conflict"].concat();
        self.response(0x0111, ERROR_CODE, &value, password)
    }

    fn response(&self, kind: u16, attribute: u16, value: &[u8], password: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(80);
        out.extend(kind.to_be_bytes());
        out.extend([0, 0]);
        out.extend(COOKIE);
        out.extend(self.transaction());
        put(&mut out, attribute, value);
        sealed(out, password)
    }
}

/// The answer to a binding request of ours, whose integrity is not yet checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BindingResponse<'a> {
    bytes: &'a [u8],
    integrity_at: usize,
}

impl<'a> BindingResponse<'a> {
    /// Reads a success response; one without a MESSAGE-INTEGRITY is nothing.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<BindingResponse<'a>> {
        let StunFields { integrity_at, fingerprint, .. } = read(bytes, SUCCESS)?;
        (fingerprint != Some(false)).then_some(BindingResponse { bytes, integrity_at })
    }

    /// Whether it answers the request of that transaction, and was made with the peer's `password`.
    pub(crate) fn answers(&self, transaction: [u8; 12], password: &str) -> bool {
        self.bytes[8..20] == transaction && is_authentic(self.bytes, self.integrity_at, password)
    }
}

/// The message with its integrity and its fingerprint.
fn sealed(mut out: Vec<u8>, password: &str) -> Vec<u8> {
    let tag = integrity(&out, password);
    put(&mut out, MESSAGE_INTEGRITY, &tag);
    let length = (out.len() - 20 + 8) as u16;
    out[2..4].copy_from_slice(&length.to_be_bytes());
    let fingerprint = fingerprint_of(&out);
    put(&mut out, FINGERPRINT, &fingerprint);
    out
}

/// RFC 8489 §14.7: the CRC-32 of what is before it, and not that of any other protocol.
fn fingerprint_of(bytes: &[u8]) -> [u8; 4] {
    let mut crc = Crc::new();
    crc.update(bytes);
    (crc.sum() ^ FINGERPRINT_XOR).to_be_bytes()
}

fn put(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend(kind.to_be_bytes());
    out.extend((value.len() as u16).to_be_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// HMAC-SHA1 over `head` as if the message ended right after the integrity attribute (RFC 8489
/// §14.5).
fn integrity(head: &[u8], password: &str) -> [u8; 20] {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(&head[..2]);
    context.update(&((head.len() - 20 + 24) as u16).to_be_bytes());
    context.update(&head[4..]);
    *context.sign().as_ref().first_chunk().expect("SHA-1 gives 20 bytes")
}

fn request(transaction: [u8; 12], username: &str, role: u16) -> Vec<u8> {
    let mut out = vec![0, 1, 0, 0];
    out.extend(COOKIE);
    out.extend(transaction);
    put(&mut out, USERNAME, username.as_bytes());
    put(&mut out, role, &[0; 8]);
    put(&mut out, PRIORITY, &[0x6e, 0, 1, 0xff]);
    out
}

/// Writes a binding request, as a controlling agent would (tests and our own test client).
pub fn binding_request(
    transaction: [u8; 12],
    username: &str,
    password: &str,
    use_candidate: bool,
) -> Vec<u8> {
    let mut out = request(transaction, username, ICE_CONTROLLING);
    if use_candidate {
        put(&mut out, USE_CANDIDATE, &[]);
    }
    sealed(out, password)
}

/// Writes a binding request of a controlled agent to the peer of these credentials.
pub(crate) fn probe(transaction: [u8; 12], local_ufrag: &str, remote: &Ice) -> Vec<u8> {
    let username = format!("{}:{local_ufrag}", remote.ufrag);
    sealed(request(transaction, &username, ICE_CONTROLLED), &remote.pwd)
}
