//! Security descriptions: SRTP keys in the signalling (RFC 4568, RFC 7714 §14.3).

use crate::rtp::srtp::{MasterKey, Profile};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use serde::{Deserialize, Serialize};
use std::fmt;

pub use crate::rtp::srtp::LONGEST;
/// Keys are written with padding or without it (RFC 4568 §6.1 has it both ways).
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
/// Longest master key identifier, bytes.
const LONGEST_MKI: usize = 128;
/// Most lines read of one media description.
pub(crate) const MOST: usize = 8;

/// What of a trunk's media is encrypted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default, Serialize, Deserialize)]
pub enum Policy {
    /// Plain RTP.
    #[default]
    Off,
    /// Where the peer knows it: keys are offered within RTP/AVP.
    Optional,
    /// A call without it fails.
    Required,
}

/// A master key and salt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CryptoKeys {
    /// Before derivation.
    pub master: MasterKey,
    /// The identifier in each packet that is protected with them, if any (RFC 4568 §6.1).
    pub mki: Vec<u8>,
}

impl CryptoKeys {
    /// Takes what `profile` needs of `bytes`.
    pub fn new(profile: Profile, bytes: &[u8; LONGEST]) -> CryptoKeys {
        CryptoKeys { master: MasterKey::from_bytes(profile, bytes), mki: Vec::new() }
    }
    /// What they protect with.
    pub fn profile(&self) -> Profile {
        self.master.profile()
    }
    /// The master key.
    pub fn key(&self) -> &[u8] {
        self.master.key()
    }
    /// The master salt.
    pub fn salt(&self) -> &[u8] {
        self.master.salt()
    }
}

/// Both directions' keys.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sdes {
    /// What we send is protected with.
    pub ours: CryptoKeys,
    /// What the peer encrypts with.
    pub theirs: CryptoKeys,
}

/// One a=crypto line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Crypto {
    /// Names it in the answer: up to nine digits.
    pub tag: u32,
    /// The suite's name: an answer repeats the one that was offered.
    pub suite: &'static str,
    /// Of who wrote the line.
    pub keys: CryptoKeys,
}

/// What we offer, best first; the others are taken if a peer has no better.
pub(crate) const OFFERED: [Profile; 3] =
    [Profile::AeadAes128Gcm, Profile::AeadAes256Gcm, Profile::Aes128CmHmacSha1_80];
/// Names of the drafts of RFC 6188, which many devices continued writing.
const DRAFT_SUITES: [(&str, Profile); 4] = [
    ("AES_CM_192_HMAC_SHA1_80", Profile::Aes192CmHmacSha1_80),
    ("AES_CM_192_HMAC_SHA1_32", Profile::Aes192CmHmacSha1_32),
    ("AES_CM_256_HMAC_SHA1_80", Profile::Aes256CmHmacSha1_80),
    ("AES_CM_256_HMAC_SHA1_32", Profile::Aes256CmHmacSha1_32),
];

impl Crypto {
    /// Reads a line's value. Returns `None` for what we do not speak: other suites, a master key
    /// identifier, several keys, session parameters that change the packets (RFC 4568 §6.3).
    pub(crate) fn read(value: &str) -> Option<Crypto> {
        let mut words = value.split_ascii_whitespace();
        let (tag, suite, params) = (words.next()?, words.next()?, words.next()?);
        let (suite, profile) = Profile::ALL
            .into_iter()
            .map(|profile| (profile.name(), profile))
            .chain(DRAFT_SUITES)
            .find(|(name, _)| name.eq_ignore_ascii_case(suite))?;
        if words.any(changes_packets) || params.contains(';') {
            return None;
        }
        let (method, key) = params.split_once(':')?;
        let mut parts = key.split('|');
        let decoded = LENIENT.decode(parts.next()?).ok()?;
        // What follows is a lifetime, which the peer keeps to itself, or the key's identifier.
        let named = parts.find_map(|p| p.split_once(':'));
        let mki = named.map_or(Some(Vec::new()), |(value, length)| mki(value, length))?;
        if !method.eq_ignore_ascii_case("inline")
            || decoded.len() != profile.key_len() + profile.salt_len()
        {
            return None;
        }
        let (key, salt) = decoded.split_at(profile.key_len());
        let master = MasterKey::new(profile, key, salt);
        Some(Crypto { tag: tag.parse().ok()?, suite, keys: CryptoKeys { master, mki } })
    }
}

/// A master key identifier of so many bytes, as packets have it.
fn mki(value: &str, length: &str) -> Option<Vec<u8>> {
    let length: usize = length.trim().parse().ok().filter(|l| (1..=LONGEST_MKI).contains(l))?;
    let value = value.trim().parse::<u64>().ok()?.to_be_bytes();
    let spare = value.len().saturating_sub(length);
    if value[..spare].iter().any(|b| *b != 0) {
        return None;
    }
    let mut mki = vec![0; length.saturating_sub(value.len())];
    mki.extend_from_slice(&value[spare..]);
    Some(mki)
}

/// Whether a session parameter asks for other packets than ours; one we do not know does, unless it
/// says by its first letter that it may be omitted (RFC 4568 §6.3).
fn changes_packets(parameter: &str) -> bool {
    !(parameter.starts_with("WSH=")
        || parameter.eq_ignore_ascii_case("FEC_ORDER=FEC_SRTP")
        || parameter.eq_ignore_ascii_case("KDR=0")
        || parameter.starts_with('-'))
}

impl fmt::Display for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tag, suite) = (self.tag, self.suite);
        write!(f, "{tag} {suite} inline:{}", STANDARD.encode(self.keys.master.bytes()))
    }
}

fn place(profile: Profile) -> Option<usize> {
    Profile::ALL.iter().position(|known| *known == profile)
}

/// Our keys for a leg: random bytes of their own for each suite, so that no key serves two.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Vec<u8>>", into = "Vec<Vec<u8>>")]
pub struct LocalKeys(Vec<[u8; LONGEST]>);

impl From<LocalKeys> for Vec<Vec<u8>> {
    fn from(keys: LocalKeys) -> Self {
        keys.0.iter().map(|key| key.to_vec()).collect()
    }
}

impl From<Vec<Vec<u8>>> for LocalKeys {
    /// What is no key is omitted: then a suite is not offered.
    fn from(bytes: Vec<Vec<u8>>) -> LocalKeys {
        LocalKeys(bytes.iter().map_while(|key| key.as_slice().try_into().ok()).collect())
    }
}

impl fmt::Debug for LocalKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Own({} keys)", self.0.len())
    }
}

impl LocalKeys {
    /// Fills one key for every suite, from `random` 64 bits at a time.
    pub fn generate(mut random: impl FnMut() -> u64) -> LocalKeys {
        let mut key = || {
            let mut bytes = [0; LONGEST];
            bytes
                .chunks_mut(8)
                .for_each(|chunk| chunk.copy_from_slice(&random().to_be_bytes()[..chunk.len()]));
            bytes
        };
        LocalKeys(Profile::ALL.iter().map(|_| key()).collect())
    }

    /// Ours for `profile`.
    pub(crate) fn of(&self, profile: Profile) -> Option<CryptoKeys> {
        self.0.get(place(profile)?).map(|bytes| CryptoKeys::new(profile, bytes))
    }

    /// The lines of our offer.
    pub fn offer(&self) -> Vec<Crypto> {
        let with_tag = |(n, profile): (usize, &Profile)| {
            let (tag, suite) = (n as u32 + 1, profile.name());
            Some(Crypto { tag, suite, keys: self.of(*profile)? })
        };
        OFFERED.iter().enumerate().filter_map(with_tag).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_written_and_what_would_change_packets_is_left_alone() {
        let own = LocalKeys::generate({
            let mut n = 0u64;
            move || {
                n += 0x0123_4567_89ab_cdef;
                n
            }
        });
        for crypto in own.offer() {
            assert_eq!(Crypto::read(&crypto.to_string()), Some(crypto));
        }
        let key = "hrfsZGO5WPqePXl8zfH6ftJaBJX1rsDDNFetZ5v6";
        let read = |rest: &str| {
            Crypto::read(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}{rest}")).is_some()
        };
        let bare = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGw";
        for line in [
            format!("1 AEAD_AES_128_GCM inline:{bare}"),
            format!("1 AEAD_AES_128_GCM inline:{bare}=="),
        ] {
            let crypto = Crypto::read(&line).expect("with padding or without");
            assert_eq!((crypto.keys.key()[15], crypto.keys.salt()[11]), (15, 27));
        }
        for (suite, key) in [("192", 38), ("256", 46)].into_iter().flat_map(|(bits, n)| {
            [format!("AES_{bits}_CM_HMAC_SHA1_80"), format!("AES_CM_{bits}_HMAC_SHA1_80")]
                .map(|suite| (suite, STANDARD.encode(vec![7; n])))
        }) {
            let line = format!("3 {suite} inline:{key}");
            assert_eq!(Crypto::read(&line).map(|c| c.to_string()), Some(line));
        }
        assert!(read(" -x=1") && read(" KDR=0"));
        let named = |rest: &str| {
            let line = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}{rest}");
            Crypto::read(&line).map(|c| c.keys.mki)
        };
        assert_eq!(named("|2^20|1:4"), Some(vec![0, 0, 0, 1]));
        assert_eq!(named("|258:2"), Some(vec![1, 2]));
        assert_eq!(named("|1:10").map(|mki| mki.len()), Some(10));
        assert!(read("") && read("|2^31") && read("|1048576") && read(" WSH=64"));
        assert!(
            !read("|2^20|1:0")
                && !read("|256:1")
                && !read("|1:129")
                && !read("|x:1")
                && !read(" UNENCRYPTED_SRTP")
                && !read(" KDR=2")
                && !read(&format!(";inline:{key}"))
        );
        for bad in [
            "",
            "1",
            "1 F8_128_HMAC_SHA1_80 inline:x",
            "1 AES_CM_128_HMAC_SHA1_80 inline:abcd",
            "x AES_CM_128_HMAC_SHA1_80",
            "1 AEAD_AES_128_GCM inline:hrfsZGO5WPqePXl8zfH6ftJaBJX1rsDDNFetZ5v6",
        ] {
            assert_eq!(Crypto::read(bad), None, "{bad:?}");
        }
        let shown = format!("{own:?} {:?}", own.offer());
        assert_eq!(shown.matches("MasterKey(").count(), 3, "{shown}");
        for bytes in &own.0 {
            let start = format!("{:?}", &bytes[..4]);
            assert!(!shown.contains(start.trim_matches(['[', ']'])), "keys are not shown: {shown}");
        }
    }

    #[test]
    fn a_key_of_another_length_than_its_suites_is_not_used() {
        for (suite, whole) in [("AES_CM_128_HMAC_SHA1_80", 30), ("AES_256_CM_HMAC_SHA1_80", 46)] {
            for (length, used) in
                [(whole - 1, false), (whole, true), (whole + 1, false), (4_000, false)]
            {
                let line = format!("1 {suite} inline:{}", STANDARD.encode(vec![7; length]));
                assert_eq!(Crypto::read(&line).is_some(), used, "{suite} {length}");
            }
        }
    }
}
