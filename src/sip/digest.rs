//! Digest authentication both ways (RFC 7616, RFC 8760): our challenges, and answers to a trunk's.
//!
//! Nonces are stateless: an HMAC over issue time, node and a random part. Only the nonce counts
//! already used are remembered, in a bounded table. `now` is seconds of a monotonic clock.

use super::header::DigestParams;
use super::parse::HeaderName;
use super::{Message, build::quoted};
use aws_lc_rs::{digest, hmac};
use md5::{Digest as _, Md5};
use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use subtle::ConstantTimeEq;

/// Hash algorithm of a challenge.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Algorithm {
    Md5,
    Sha256,
}

impl Algorithm {
    fn from_token(text: Option<&str>) -> Option<Algorithm> {
        match text {
            None => Some(Algorithm::Md5),
            Some(t) if t.eq_ignore_ascii_case("MD5") => Some(Algorithm::Md5),
            Some(t) if t.eq_ignore_ascii_case("SHA-256") => Some(Algorithm::Sha256),
            Some(_) => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
        }
    }

    /// Lower-case hex of the hash over the parts joined by `:`.
    fn hash(self, parts: &[&str]) -> String {
        let text = parts.join(":");
        match self {
            Algorithm::Md5 => hex(&Md5::digest(text.as_bytes())),
            Algorithm::Sha256 => hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

fn response(algorithm: Algorithm, ha1: &str, method: &str, d: &DigestParams<'_>) -> Option<String> {
    let ha2 = algorithm.hash(&[method, d.get("uri")?]);
    let nonce = d.get("nonce")?;
    Some(match d.get("qop") {
        Some(qop) => algorithm.hash(&[ha1, nonce, d.get("nc")?, d.get("cnonce")?, qop, &ha2]),
        None => algorithm.hash(&[ha1, nonce, &ha2]),
    })
}

/// A user's secret as stored: clear text, from which either HA1 is made.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password.
    pub fn new(password: impl Into<String>) -> Secret {
        Secret(password.into())
    }
    /// The password itself, for the one place that answers challenges.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why credentials were not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// No usable credentials for our realm.
    Missing,
    /// The nonce is too old, from another node, or its count was used: ask again, `stale=true`.
    Stale,
    /// Wrong user or password.
    Wrong,
}

/// Lifetime of a nonce, seconds.
const NONCE_TTL: u64 = 300;
/// Nonces whose counts are remembered; the oldest go first and then count as stale.
const MAX_NONCES: usize = 262_144;

/// The challenging side.
pub struct Authenticator {
    realm: String,
    node: u32,
    key: hmac::Key,
    algorithms: Vec<Algorithm>,
    counts: HashMap<String, u32>,
    order: VecDeque<(u64, String)>,
    /// Nonces issued before this were evicted from `counts` and can no longer be trusted.
    floor: u64,
}

impl Authenticator {
    /// `key` signs nonces; `algorithms` are offered in this order, one challenge each (RFC 8760 §2.4).
    pub fn new(realm: &str, node: u32, key: &[u8; 32], algorithms: &[Algorithm]) -> Authenticator {
        Authenticator {
            realm: realm.to_owned(),
            node,
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            algorithms: algorithms.to_vec(),
            counts: HashMap::new(),
            order: VecDeque::new(),
            floor: 0,
        }
    }

    fn sign(&self, now: u64, random: u64) -> String {
        let head = format!("{now:010x}{:08x}{random:016x}", self.node);
        let tag = hmac::sign(&self.key, format!("{head}:{}", self.realm).as_bytes());
        format!("{head}{}", hex(&tag.as_ref()[..16]))
    }

    fn issued(&self, nonce: &str) -> Option<u64> {
        let (head, tag) = nonce.split_at_checked(34)?;
        let node = u32::from_str_radix(head.get(10..18)?, 16).ok()?;
        let expected = hmac::sign(&self.key, format!("{head}:{}", self.realm).as_bytes());
        let same: bool = hex(&expected.as_ref()[..16]).as_bytes().ct_eq(tag.as_bytes()).into();
        (same && node == self.node).then(|| u64::from_str_radix(&head[..10], 16).ok()).flatten()
    }

    /// The WWW-Authenticate values of one 401, strongest first.
    pub fn challenges(&self, now: u64, random: u64, stale: bool) -> Vec<String> {
        let nonce = self.sign(now, random);
        let stale = if stale { ", stale=true" } else { "" };
        let one = |a: &Algorithm| {
            let (realm, name) = (quoted(&self.realm), a.as_str());
            format!("Digest realm={realm}, nonce=\"{nonce}\", algorithm={name}, qop=\"auth\"{stale}")
        };
        self.algorithms.iter().map(one).collect()
    }

    /// Checks a request's Authorization for our realm; `secret_of` finds a user's password.
    /// An unknown user costs the same work as a known one.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn verify<'m>(
        &mut self, now: u64, request: &'m Message, secret_of: impl Fn(&str) -> Option<Secret>,
    ) -> Result<&'m str, Refused> {
        let ours = |d: &DigestParams<'_>| d.get("realm") == Some(self.realm.as_str());
        let credentials = request.all(HeaderName::Authorization).filter_map(DigestParams::parse).find(ours);
        let d = credentials.ok_or(Refused::Missing)?;
        let algorithm = Algorithm::from_token(d.get("algorithm")).filter(|a| self.algorithms.contains(a));
        let algorithm = algorithm.ok_or(Refused::Missing)?;
        let (nonce, user) = (d.get("nonce").ok_or(Refused::Missing)?, d.get("username").ok_or(Refused::Missing)?);
        if d.get("qop") != Some("auth") {
            return Err(Refused::Missing);
        }
        let count = d.get("nc").filter(|n| n.len() == 8).and_then(|n| u32::from_str_radix(n, 16).ok());
        let count = count.ok_or(Refused::Missing)?;
        let issued = self.issued(nonce).ok_or(Refused::Stale)?;
        if now.saturating_sub(issued) > NONCE_TTL || issued < self.floor {
            return Err(Refused::Stale);
        }
        let secret = secret_of(user);
        let password = secret.as_ref().map_or("", Secret::reveal);
        let ha1 = algorithm.hash(&[user, &self.realm, password]);
        let expected = response(algorithm, &ha1, request.method_token(), &d).ok_or(Refused::Missing)?;
        let given = d.get("response").unwrap_or_default().to_ascii_lowercase();
        let same: bool = expected.as_bytes().ct_eq(given.as_bytes()).into();
        if !same || secret.is_none() {
            return Err(Refused::Wrong);
        }
        if !self.count_is_new(nonce, issued, count, now) {
            return Err(Refused::Stale);
        }
        Ok(user)
    }

    fn count_is_new(&mut self, nonce: &str, issued: u64, count: u32, now: u64) -> bool {
        while let Some((at, _)) = self.order.front() {
            let full = self.counts.len() >= MAX_NONCES;
            if !full && now.saturating_sub(*at) <= NONCE_TTL {
                break;
            }
            if let Some((at, old)) = self.order.pop_front() {
                self.counts.remove(&old);
                if full {
                    self.floor = self.floor.max(at + 1);
                }
            }
        }
        match self.counts.get_mut(nonce) {
            Some(last) if count <= *last => false,
            Some(last) => {
                *last = count;
                true
            }
            None => {
                self.counts.insert(nonce.to_owned(), count);
                self.order.push_back((issued, nonce.to_owned()));
                true
            }
        }
    }
}

/// Our answer to a trunk's challenge.
///
/// Returns the header to add, or nothing where the challenge is not for `realm` (when given), or
/// speaks no algorithm or qop of ours.
pub fn answer(
    challenge: &Message, realm: Option<&str>, user: &str, password: &str, uri: &str, method: Method, cnonce: &str,
) -> Option<(HeaderName, String)> {
    let (from, to) = match challenge.status() {
        401 => (HeaderName::WwwAuthenticate, HeaderName::Authorization),
        407 => (HeaderName::ProxyAuthenticate, HeaderName::ProxyAuthorization),
        _ => return None,
    };
    let usable = |d: &DigestParams<'_>| {
        let asked = d.get("realm").unwrap_or_default();
        let qop_fits = d.get("qop").is_none_or(|q| q.split(',').any(|q| q.trim().eq_ignore_ascii_case("auth")));
        realm.is_none_or(|r| r == asked) && qop_fits && Algorithm::from_token(d.get("algorithm")).is_some()
    };
    // RFC 8760 §2.4: the first challenge we understand is the one the server prefers.
    let d = challenge.all(from).filter_map(DigestParams::parse).find(usable)?;
    let algorithm = Algorithm::from_token(d.get("algorithm"))?;
    let (realm, nonce) = (d.get("realm")?, d.get("nonce")?);
    let ha1 = algorithm.hash(&[user, realm, password]);
    let ha2 = algorithm.hash(&[method.as_str(), uri]);
    let qop = d.get("qop").is_some();
    let response = if qop {
        algorithm.hash(&[&ha1, nonce, "00000001", cnonce, "auth", &ha2])
    } else {
        algorithm.hash(&[&ha1, nonce, &ha2])
    };
    // Realm, nonce and opaque are echoed as received: their escapes must not be doubled.
    let mut value = format!(
        "Digest username={}, realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{response}\", algorithm={}",
        quoted(user),
        algorithm.as_str()
    );
    if qop {
        let _ = write!(value, ", qop=auth, nc=00000001, cnonce=\"{cnonce}\"");
    }
    if let Some(opaque) = d.get("opaque") {
        let _ = write!(value, ", opaque=\"{opaque}\"");
    }
    Some((to, value))
}

use super::status::Method;
