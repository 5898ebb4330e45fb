//! Sealing (AES-256-GCM) what the state directory holds, and what a cluster's store does.
//!
//! Each run of the process derives a key of its own from the key file and a random salt, and counts
//! its nonces: no nonce is used twice under one key, whatever is written, lost or restored.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use rand_core::{OsRng, TryRngCore};

pub(super) const SALT: usize = 32;
/// Salt, counter and tag around what is sealed.
pub(super) const OVERHEAD: usize = SALT + 8 + 16;

/// The key of one run, or of an earlier one.
struct RunKey(LessSafeKey);

impl RunKey {
    fn derive(key: &[u8; 32], salt: &[u8; SALT]) -> Option<RunKey> {
        let prk = Salt::new(HKDF_SHA256, salt).extract(key);
        let okm = prk.expand(&[b"webtrunk state"], &AES_256_GCM).ok()?;
        Some(RunKey(LessSafeKey::new(UnboundKey::from(okm))))
    }

    fn nonce(counter: u64) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[4..].copy_from_slice(&counter.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Seals for one run of the process, and opens what any run under the same key file sealed.
pub(crate) struct Sealer {
    key: [u8; 32],
    salt: [u8; SALT],
    run: RunKey,
    counter: u64,
    /// The run that was opened last: neighbours are of the same.
    other: Option<([u8; SALT], RunKey)>,
}

impl Sealer {
    /// Begins a run of seals under `key`.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(crate) fn new(key: [u8; 32]) -> anyhow::Result<Sealer> {
        let mut salt = [0; SALT];
        OsRng
            .try_fill_bytes(&mut salt)
            .map_err(|e| anyhow::anyhow!("the system gives no random bytes: {e}"))?;
        let run = RunKey::derive(&key, &salt).ok_or_else(|| anyhow::anyhow!("no key"))?;
        Ok(Sealer { key, salt, run, counter: 0, other: None })
    }

    /// Seals `plain`, bound to `name`; `None` if nothing can be sealed any more.
    pub(crate) fn seal(&mut self, name: &str, plain: &[u8]) -> Option<Vec<u8>> {
        self.counter = self.counter.checked_add(1)?;
        let mut sealed = Vec::with_capacity(plain.len() + OVERHEAD);
        sealed.extend_from_slice(&self.salt);
        sealed.extend_from_slice(&self.counter.to_be_bytes());
        let mut body = plain.to_vec();
        let (nonce, aad) = (RunKey::nonce(self.counter), Aad::from(name.as_bytes()));
        self.run.0.seal_in_place_append_tag(nonce, aad, &mut body).ok()?;
        sealed.extend_from_slice(&body);
        Some(sealed)
    }

    /// What was sealed under `name`; `None` if it is not intact, or of another key.
    pub(crate) fn open(&mut self, name: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (salt, rest) = sealed.split_first_chunk::<SALT>()?;
        let (counter, body) = rest.split_first_chunk::<8>()?;
        if self.other.as_ref().is_none_or(|(known, _)| known != salt) {
            self.other = Some((*salt, RunKey::derive(&self.key, salt)?));
        }
        let (_, run) = self.other.as_ref()?;
        let nonce = RunKey::nonce(u64::from_be_bytes(*counter));
        let mut body = body.to_vec();
        let plain = run.0.open_in_place(nonce, Aad::from(name.as_bytes()), &mut body).ok()?.len();
        body.truncate(plain);
        Some(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_opened_by_a_later_run_and_by_nobody_else() {
        let mut first = Sealer::new([7; 32]).expect("a key");
        let (a, b) = (first.seal("a", b"one").expect("sealed"), first.seal("a", b"one"));
        assert_ne!(Some(&a), b.as_ref(), "the nonce moved on");
        let mut later = Sealer::new([7; 32]).expect("a key");
        assert_eq!(later.open("a", &a).as_deref(), Some(&b"one"[..]));
        assert_eq!(later.open("b", &a), None, "bound to its name");
        assert_eq!(Sealer::new([8; 32]).expect("a key").open("a", &a), None);
        for at in 0..a.len() {
            let mut torn = a.clone();
            torn[at] ^= 1;
            assert_eq!(later.open("a", &torn), None, "byte {at}");
            assert_eq!(later.open("a", &a[..at]), None, "{at} bytes");
        }
    }
}
