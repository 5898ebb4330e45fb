//! The keys of one direction, derived from its master key (RFC 3711 §4.3).

use super::Profile;
use super::master::MasterKey;
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use zeroize::Zeroizing;

#[allow(clippy::large_enum_variant)]
pub(super) enum SrtpKeys {
    Gcm {
        rtp: LessSafeKey,
        rtcp: LessSafeKey,
        rtp_salt: [u8; 12],
        rtcp_salt: [u8; 12],
    },
    Cm {
        rtp: EncryptingKey,
        rtcp: EncryptingKey,
        rtp_auth: hmac::Key,
        rtcp_auth: hmac::Key,
        rtp_salt: [u8; 14],
        rtcp_salt: [u8; 14],
        /// Bytes of an RTP packet's tag; RTCP's is always 10 (RFC 4568 §6.2.2).
        tag: usize,
    },
}

pub(super) fn aes_cm(key: &EncryptingKey, iv: [u8; 16], data: &mut [u8]) {
    // CTR over whole buffers cannot fail; the context is used once per packet index.
    let done = key.less_safe_encrypt(data, EncryptionContext::Iv128(FixedLength::from(iv)));
    debug_assert!(done.is_ok());
}

pub(super) fn ctr_key(key: &[u8]) -> EncryptingKey {
    let cipher = match key.len() {
        32 => &AES_256,
        24 => &AES_192,
        _ => &AES_128,
    };
    UnboundCipherKey::new(cipher, key)
        .and_then(EncryptingKey::ctr)
        .expect("a key of 16, 24 or 32 bytes")
}

/// RFC 3711 §4.3.1 with key derivation rate 0.
pub(super) fn derive(master: &EncryptingKey, salt: &[u8], label: u8, out: &mut [u8]) {
    let mut iv = [0u8; 16];
    iv[..salt.len()].copy_from_slice(salt);
    iv[7] ^= label;
    out.fill(0);
    aes_cm(master, iv, out);
}

impl SrtpKeys {
    pub(super) fn new(of: &MasterKey) -> SrtpKeys {
        let profile = of.profile();
        let master = ctr_key(of.key());
        let derived = |label, len: usize| {
            let mut out = Zeroizing::new([0u8; 32]);
            derive(&master, of.salt(), label, &mut out[..len]);
            out
        };
        match profile {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => {
                let (cipher, len) = if profile == Profile::AeadAes256Gcm {
                    (&AES_256_GCM, 32)
                } else {
                    (&AES_128_GCM, 16)
                };
                let key = |label| {
                    LessSafeKey::new(
                        UnboundKey::new(cipher, &derived(label, len)[..len])
                            .expect("a key of its length"),
                    )
                };
                let salt = |label| *derived(label, 12).first_chunk().expect("12 of 32");
                SrtpKeys::Gcm { rtp: key(0), rtcp: key(3), rtp_salt: salt(2), rtcp_salt: salt(5) }
            }
            _ => {
                let len = profile.key_len();
                let auth = |label| {
                    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &derived(label, 20)[..20])
                };
                let salt = |label| *derived(label, 14).first_chunk().expect("14 of 32");
                SrtpKeys::Cm {
                    rtp: ctr_key(&derived(0, len)[..len]),
                    rtcp: ctr_key(&derived(3, len)[..len]),
                    rtp_auth: auth(1),
                    rtcp_auth: auth(4),
                    rtp_salt: salt(2),
                    rtcp_salt: salt(5),
                    tag: match profile {
                        Profile::Aes128CmHmacSha1_32
                        | Profile::Aes192CmHmacSha1_32
                        | Profile::Aes256CmHmacSha1_32 => 4,
                        _ => 10,
                    },
                }
            }
        }
    }
}

pub(super) fn gcm_rtp_nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> Nonce {
    let mut iv = *salt;
    xor(&mut iv[2..6], &ssrc.to_be_bytes());
    xor(&mut iv[6..12], &index.to_be_bytes()[2..]);
    Nonce::assume_unique_for_key(iv)
}

pub(super) fn cm_iv(salt: &[u8; 14], ssrc: u32, index: u64) -> [u8; 16] {
    let mut iv = [0u8; 16];
    iv[..14].copy_from_slice(salt);
    xor(&mut iv[4..8], &ssrc.to_be_bytes());
    xor(&mut iv[8..14], &index.to_be_bytes()[2..]);
    iv
}

pub(super) fn xor(into: &mut [u8], with: &[u8]) {
    into.iter_mut().zip(with).for_each(|(a, b)| *a ^= b);
}
