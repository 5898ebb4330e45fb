//! What is derived of the cluster's key: signatures of records in the store and of tokens in
//! messages. Who has the store and not the key can neither name a node nor send a call anywhere.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes of a signature that are kept.
const MAC: usize = 16;
/// The same, as text.
const MAC_TEXT: usize = 22;

/// Bytes of chance in a concealed text.
const NONCE: usize = 12;

/// 32 bytes for one purpose.
pub(crate) fn derive(secret: &str, purpose: &str) -> [u8; 32] {
    let key = hmac::Key::new(HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("webtrunk cluster {purpose}").as_bytes());
    let mut out = [0; 32];
    out.copy_from_slice(&tag.as_ref()[..32]);
    out
}

/// The keys that sign.
pub(crate) struct ClusterKeys {
    records: hmac::Key,
    /// `None` where the library refuses it, which it does not.
    names: Option<LessSafeKey>,
}

impl ClusterKeys {
    /// Those of a cluster.
    pub(crate) fn new(secret: &str) -> ClusterKeys {
        ClusterKeys {
            records: hmac::Key::new(HMAC_SHA256, &derive(secret, "records")),
            names: UnboundKey::new(&AES_256_GCM_SIV, &derive(secret, "temporary names"))
                .ok()
                .map(LessSafeKey::new),
        }
    }

    /// Signs `bytes` as what `name` says they are.
    pub(crate) fn mac(&self, name: &str, bytes: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.records);
        context.update(&(name.len() as u64).to_be_bytes());
        context.update(name.as_bytes());
        context.update(bytes);
        URL_SAFE_NO_PAD.encode(&context.sign().as_ref()[..MAC])
    }

    fn is_signed(&self, name: &str, bytes: &[u8], mac: &str) -> bool {
        let own = self.mac(name, bytes);
        verify_slices_are_equal(own.as_bytes(), mac.as_bytes()).is_ok()
    }

    /// `bytes` as text that says nothing of them to others; no two by one `chance` are alike
    /// unless their bytes are.
    pub(crate) fn conceal(&self, bytes: &[u8], chance: [u8; NONCE]) -> Option<String> {
        let mut sealed = bytes.to_vec();
        let nonce = Nonce::assume_unique_for_key(chance);
        self.names.as_ref()?.seal_in_place_append_tag(nonce, Aad::empty(), &mut sealed).ok()?;
        Some(URL_SAFE_NO_PAD.encode([&chance[..], &sealed].concat()))
    }

    /// What such a text conceals, if it was made by this key.
    pub(crate) fn reveal(&self, text: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let opened = self.names.as_ref()?.open_in_place(nonce, Aad::empty(), &mut sealed).ok()?;
        Some(opened.to_vec())
    }

    /// Adds the signature to a text.
    pub(crate) fn seal(&self, name: &str, text: &str) -> String {
        format!("{}{text}", self.mac(name, text.as_bytes()))
    }

    /// The text, if it was sealed by this name.
    pub(crate) fn open<'a>(&self, name: &str, sealed: &'a str) -> Option<&'a str> {
        let (mac, text) = sealed.split_at_checked(MAC_TEXT)?;
        self.is_signed(name, text.as_bytes(), mac).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_concealed_is_revealed_to_its_cluster_alone() {
        let keys = ClusterKeys::new("a key of the cluster, long enough");
        let text = keys.conceal(b"bob", [1; NONCE]).expect("a text");
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{text}");
        assert_eq!(keys.reveal(&text).as_deref(), Some(&b"bob"[..]));
        assert_ne!(keys.conceal(b"bob", [2; NONCE]).expect("a text"), text);
        assert_eq!(ClusterKeys::new("another").reveal(&text), None);
        for at in 0..text.len() {
            assert_eq!(keys.reveal(&text[..at]), None, "{at} bytes");
        }
    }

    #[test]
    fn what_is_sealed_is_opened_by_its_name_and_key_alone() {
        let keys = ClusterKeys::new("a key of the cluster, long enough");
        let sealed = keys.seal("user bob", "text");
        assert_eq!(keys.open("user bob", &sealed), Some("text"));
        assert_eq!(keys.open("user ada", &sealed), None);
        assert_eq!(ClusterKeys::new("another").open("user bob", &sealed), None);
        for at in 0..sealed.len() {
            let mut torn = sealed.clone().into_bytes();
            torn[at] ^= 1;
            let torn = String::from_utf8(torn).expect("ASCII");
            assert_eq!(keys.open("user bob", &torn), None, "byte {at}");
            assert_eq!(keys.open("user bob", &sealed[..at]), None, "{at} bytes");
        }
    }
}
