//! Digest authentication both ways (RFC 7616, RFC 8760): our challenges, and answers to a trunk's.
//!
//! Nonces are stateless: an HMAC over issue time, node and a random part. Only the nonce counts
//! already used are remembered, in a bounded table. `now` is seconds of a monotonic clock.

mod answering;

pub use self::answering::{Answering, answer};
use super::header::DigestParams;
use super::parse::HeaderName;
use super::status::Method;
use super::uri::{Scheme, Uri};
use super::{Message, build::quoted};
use crate::hex::hex;
use crate::ids::IdMap;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use md5::{Digest as _, Md5};
use std::collections::VecDeque;
use std::net::IpAddr;

/// Hash algorithm of a challenge.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) enum Algorithm {
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
        let pieces =
            parts.iter().enumerate().flat_map(|(n, part)| [if n == 0 { "" } else { ":" }, part]);
        match self {
            Algorithm::Md5 => {
                hex(&pieces.fold(Md5::new(), |hash, piece| hash.chain_update(piece)).finalize())
            }
            Algorithm::Sha256 => {
                let mut hash = digest::Context::new(&digest::SHA256);
                pieces.for_each(|piece| hash.update(piece.as_bytes()));
                hex(hash.finish().as_ref())
            }
        }
    }
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
#[derive(Clone, PartialEq, Eq)]
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
pub(crate) enum DigestError {
    /// No usable credentials for our realm.
    Missing,
    /// The nonce is too old, from another node, or its count was used: ask again, `stale=true`.
    Stale,
    /// Wrong user or password.
    Wrong,
    /// Right, but for another request: its `uri` is not the Request-URI (RFC 7616 §3.4.6).
    OtherUri,
}

/// Lifetime of a nonce, seconds.
const NONCE_TTL: u64 = 300;
/// Nonces whose counts are remembered; the oldest go first and then count as stale.
const MAX_NONCES: usize = 262_144;

/// Bytes of a nonce, and of what in it is signed: when it was issued, and a number. It is short:
/// an answer to a stranger's datagram has no room.
const NONCE: usize = NONCE_HEAD + 7;
const NONCE_HEAD: usize = 8;

/// What makes a challenge another one than any before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fresh {
    /// A number nobody can tell beforehand.
    pub(crate) random: u64,
    /// The answer that came was to a challenge of before.
    pub(crate) stale: bool,
    /// Only answers from this address count: what has come by a datagram may have a forged source,
    /// and whoever forges one sees no challenge that is sent there.
    pub(crate) only_for: Option<IpAddr>,
}

/// The challenging side.
pub(crate) struct Authenticator {
    realm: String,
    node: u32,
    key: hmac::Key,
    algorithms: Vec<Algorithm>,
    /// The highest count seen of a nonce, by the nonce's random part: only our own nonces get here.
    counts: IdMap<u64, u32>,
    order: VecDeque<(u64, u64)>,
    /// Nonces issued before this were evicted from `counts` and can no longer be trusted.
    floor: u64,
}

impl Authenticator {
    /// `key` signs nonces; `algorithms` are offered in this order, one challenge each (RFC 8760
    /// §2.4).
    pub(crate) fn new(
        realm: &str,
        node: u32,
        key: &[u8; 32],
        algorithms: &[Algorithm],
    ) -> Authenticator {
        Authenticator {
            realm: realm.to_owned(),
            node,
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            algorithms: algorithms.to_vec(),
            counts: IdMap::default(),
            order: VecDeque::new(),
            floor: 0,
        }
    }

    fn sign(&self, now: u64, fresh: Fresh) -> String {
        let mut nonce = [0; NONCE];
        let (head, tag) = nonce.split_at_mut(NONCE_HEAD);
        head[..4].copy_from_slice(&(now as u32).to_be_bytes());
        head[4..].copy_from_slice(&(fresh.random as u32).to_be_bytes());
        tag.copy_from_slice(&self.tag(head, fresh.only_for));
        URL_SAFE_NO_PAD.encode(nonce)
    }

    /// What proves that `head` was written here, on this node, for an address if it is for one.
    fn tag(&self, head: &[u8], only_for: Option<IpAddr>) -> [u8; NONCE - NONCE_HEAD] {
        let mut tag = hmac::Context::with_key(&self.key);
        let address = only_for.map(|ip| ip.to_canonical().to_string()).unwrap_or_default();
        [head, &self.node.to_be_bytes(), address.as_bytes(), b" ", self.realm.as_bytes()]
            .iter()
            .for_each(|piece| tag.update(piece));
        *tag.sign().as_ref().first_chunk().expect("SHA-256 is longer")
    }

    /// Returns when a nonce was issued, and its random part, or `None` if it is not ours, or was
    /// given to another address.
    fn issued(&self, nonce: &str, only_for: Option<IpAddr>) -> Option<(u64, u64)> {
        let nonce: [u8; NONCE] = URL_SAFE_NO_PAD.decode(nonce).ok()?.try_into().ok()?;
        let (head, tag) = nonce.split_at(NONCE_HEAD);
        let (now, random) = head.split_first_chunk()?;
        verify_slices_are_equal(&self.tag(head, only_for), tag).ok()?;
        let number = |bytes: [u8; 4]| u64::from(u32::from_be_bytes(bytes));
        Some((number(*now), number(random.try_into().ok()?)))
    }

    /// The WWW-Authenticate values of one 401, each with its algorithm, strongest first.
    pub(crate) fn challenges(&self, now: u64, fresh: Fresh) -> Vec<(Algorithm, String)> {
        let (realm, nonce) = (quoted(&self.realm), self.sign(now, fresh));
        let stale = if fresh.stale { ", stale=true" } else { "" };
        let one = |a: &Algorithm| {
            let value = [
                "Digest realm=",
                &realm,
                ", nonce=\"",
                &nonce,
                "\", algorithm=",
                a.as_str(),
                ", qop=\"auth\"",
                stale,
            ]
            .concat();
            (*a, value)
        };
        self.algorithms.iter().map(one).collect()
    }

    /// The shortest WWW-Authenticate value that a client can answer: one algorithm, which is MD5 if
    /// it is offered at all.
    pub(crate) fn short_challenge(&self, now: u64, fresh: Fresh) -> String {
        let (realm, nonce) = (quoted(&self.realm), self.sign(now, fresh));
        let stale = if fresh.stale { ",stale=true" } else { "" };
        // MD5 is what a challenge without an algorithm means (RFC 8760 §2.3).
        let algorithm = match self.algorithms.contains(&Algorithm::Md5) {
            true => String::new(),
            false => self
                .algorithms
                .first()
                .map(|a| format!(",algorithm={}", a.as_str()))
                .unwrap_or_default(),
        };
        format!("Digest realm={realm},nonce=\"{nonce}\"{algorithm},qop=\"auth\"{stale}")
    }

    /// The credentials of a request that are judged: the first for our realm. Others may stand
    /// before them, and say nothing here.
    fn credentials<'m>(&self, request: &'m Message) -> Option<DigestParams<'m>> {
        let mut all = request.all(HeaderName::Authorization).filter_map(DigestParams::parse);
        all.find(|d| d.get("realm") == Some(self.realm.as_str()))
    }

    /// The name in the credentials that are judged.
    pub(crate) fn named<'m>(&self, request: &'m Message) -> Option<&'m str> {
        self.credentials(request)?.get("username")
    }

    /// Checks a request's Authorization for our realm; `secret_of` finds a user's password. A nonce
    /// that is `only_for` an address counts from there alone. An unknown user costs the same work
    /// as a known one.
    ///
    /// # Errors
    /// See [`Refused`].
    pub(crate) fn verify<'m>(
        &mut self,
        now: u64,
        request: &'m Message,
        only_for: Option<IpAddr>,
        secret_of: impl Fn(&str) -> Option<Secret>,
    ) -> Result<&'m str, DigestError> {
        let d = self.credentials(request).ok_or(DigestError::Missing)?;
        let algorithm =
            Algorithm::from_token(d.get("algorithm")).filter(|a| self.algorithms.contains(a));
        let algorithm = algorithm.ok_or(DigestError::Missing)?;
        let (nonce, user) = (
            d.get("nonce").ok_or(DigestError::Missing)?,
            d.get("username").ok_or(DigestError::Missing)?,
        );
        if d.get("qop") != Some("auth") {
            return Err(DigestError::Missing);
        }
        let count =
            d.get("nc").filter(|n| n.len() == 8).and_then(|n| u32::from_str_radix(n, 16).ok());
        let count = count.ok_or(DigestError::Missing)?;
        let (issued, random) = self.issued(nonce, only_for).ok_or(DigestError::Stale)?;
        if now.saturating_sub(issued) > NONCE_TTL || issued < self.floor {
            return Err(DigestError::Stale);
        }
        let secret = secret_of(user);
        let password = secret.as_ref().map_or("", Secret::reveal);
        let ha1 = algorithm.hash(&[user, &self.realm, password]);
        let expected =
            response(algorithm, &ha1, request.method_token(), &d).ok_or(DigestError::Missing)?;
        let given = d.get("response").unwrap_or_default().to_ascii_lowercase();
        let same = verify_slices_are_equal(expected.as_bytes(), given.as_bytes()).is_ok();
        if !same || secret.is_none() {
            return Err(DigestError::Wrong);
        }
        if !d.get("uri").is_some_and(|uri| is_for(uri, request)) {
            return Err(DigestError::OtherUri);
        }
        if !self.count_is_new(random, issued, count, now) {
            return Err(DigestError::Stale);
        }
        Ok(user)
    }

    fn count_is_new(&mut self, nonce: u64, issued: u64, count: u32, now: u64) -> bool {
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
        match self.counts.get_mut(&nonce) {
            Some(last) if count <= *last => false,
            Some(last) => {
                *last = count;
                true
            }
            None => {
                self.counts.insert(nonce, count);
                self.order.push_back((issued, nonce));
                true
            }
        }
    }
}

/// Returns whether a digest's `uri` is that of the request it came with; its parameters and the
/// case of its host may differ.
///
/// Quirk: telephones and test tools name the registrar by its address in a REGISTER. One that is
/// replayed is refused by its nonce count, so nothing hangs on it.
fn is_for(uri: &str, request: &Message) -> bool {
    let asked = request.request_uri();
    let is_alike = |given: Uri<'_>| {
        let by_address = request.method() == Method::Register
            && given.scheme == Scheme::Sip
            && given.ip().is_some();
        by_address || Uri::parse(asked).is_ok_and(|asked| given.same_address(&asked))
    };
    uri == asked || Uri::parse(uri).is_ok_and(is_alike)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_nonces_are_counted_and_what_made_room_counts_for_no_more() {
        let mut authenticator = Authenticator::new("x", 1, &[7; 32], &[]);
        let now = 5_000;
        for n in 0..MAX_NONCES as u64 {
            let issued = if n == 0 { now - 1 } else { now };
            assert!(authenticator.count_is_new(n, issued, 1, now), "{n}");
        }
        assert_eq!(authenticator.counts.len(), MAX_NONCES);
        assert!(!authenticator.count_is_new(1, now, 1, now), "it was counted");
        assert!(authenticator.count_is_new(u64::MAX, now, 1, now));
        assert_eq!(authenticator.counts.len(), MAX_NONCES);
        // Whoever replays the answer whose count made room is asked again.
        assert!(authenticator.floor >= now, "{}", authenticator.floor);
    }

    #[test]
    fn a_nonce_that_was_given_to_an_address_is_none_from_another() {
        let authenticator = Authenticator::new("x", 1, &[7; 32], &[]);
        let here: IpAddr = "192.0.2.1".parse().expect("an address");
        let mapped = "::ffff:192.0.2.1".parse().ok();
        let there = "192.0.2.10".parse().ok();
        for only_for in [None, Some(here)] {
            let nonce = authenticator.sign(5_000, Fresh { random: 7, stale: false, only_for });
            let from = |ip| authenticator.issued(&nonce, ip).is_some();
            let expected = only_for.is_some();
            assert_eq!([from(Some(here)), from(mapped)], [expected; 2]);
            assert_eq!([from(None), from(there)], [!expected, false]);
        }
    }
}
