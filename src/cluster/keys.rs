//! What is derived of the cluster's key: signatures of records in the store and of tokens in
//! messages. Who has the store and not the key can neither name a node nor send a call anywhere.

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes of a signature that are kept.
const MAC: usize = 16;
/// The same, as text.
const MAC_TEXT: usize = 22;

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
}

impl ClusterKeys {
    /// Those of a cluster.
    pub(crate) fn new(secret: &str) -> ClusterKeys {
        ClusterKeys { records: hmac::Key::new(HMAC_SHA256, &derive(secret, "records")) }
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
        subtle::ConstantTimeEq::ct_eq(own.as_bytes(), mac.as_bytes()).into()
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
