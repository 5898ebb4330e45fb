//! Flow tokens (RFC 5626 §5.2): the user part of a route to a node, which says down which flow of
//! that node a request goes, and back to which node.

use super::keys::ClusterKeys;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What tokens begin with: nobody's user does.
const MARK: &str = "wtf.";

/// A flow of a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct EdgeToken {
    /// The node that has the flow.
    pub node: String,
    /// The process the flow's number is of.
    pub epoch: u64,
    /// The flow's number.
    pub flow: u64,
    /// The user.
    pub user: String,
    /// Of the phone's instance; 0 if it has none.
    pub instance: u64,
    /// The node whose dialog it is, once there is one: where requests of the phone go.
    pub owner: Option<SocketAddr>,
    /// Its process: another may go on with its calls.
    pub owner_epoch: u64,
}

/// What a token keeps of an instance.
pub(crate) fn short(instance: Option<&str>) -> u64 {
    let Some(instance) = instance else { return 0 };
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, instance.as_bytes());
    let (first, _) = hash.as_ref().split_at(8);
    u64::from_be_bytes(first.try_into().unwrap_or_default()).max(1)
}

/// The user part of a URI that names the flow.
pub(crate) fn seal(keys: &ClusterKeys, token: &EdgeToken) -> String {
    let bytes = postcard::to_allocvec(token).unwrap_or_default();
    let text = URL_SAFE_NO_PAD.encode(bytes);
    format!("{MARK}{}", keys.seal("flow", &text))
}

/// What such a user part names, if it is of this cluster.
pub(crate) fn open(keys: &ClusterKeys, text: &str) -> Option<EdgeToken> {
    let text = keys.open("flow", text.strip_prefix(MARK)?)?;
    postcard::from_bytes(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// Whom a temporary GRUU names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct TemporaryGruu {
    /// The user.
    pub user: String,
    /// The phone's `+sip.instance`.
    pub instance: String,
    /// Of the Call-ID the phone registered by: another one ends it (RFC 5627 §5.4).
    pub registered: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_by_its_cluster_alone() {
        let keys = ClusterKeys::new("a key of the cluster, long enough");
        let token = EdgeToken {
            node: "b".into(),
            epoch: 7,
            flow: 1,
            user: "bob@example".into(),
            instance: short(Some("<urn:uuid:1>")),
            owner: Some(SocketAddr::from(([192, 0, 2, 1], 5071))),
            owner_epoch: 9,
        };
        let text = seal(&keys, &token);
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)), "{text}");
        assert_eq!(open(&keys, &text), Some(token));
        assert_eq!(open(&ClusterKeys::new("another"), &text), None);
        assert_eq!(open(&keys, &text[..text.len() - 1]), None);
        assert_eq!((short(None), short(Some("")) > 0), (0, true));
    }
}
