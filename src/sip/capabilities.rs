//! What a peer says it can do: Allow, Supported, Recv-Info (RFC 3261 §20.5, §20.37; RFC 6086
//! §5.2.2).

use super::message::Message;
use super::parse::HeaderName;
use serde::{Deserialize, Serialize};

/// One peer's abilities, as far as it has announced them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Capabilities {
    /// It allows UPDATE (RFC 3311).
    pub update: bool,
    /// It allows REFER (RFC 3515).
    pub refer: bool,
    /// It allows MESSAGE (RFC 3428).
    pub message: bool,
    /// It supports session timers (RFC 4028).
    pub timer: bool,
    /// It supports reliable provisional responses (RFC 3262).
    pub reliable: bool,
    /// It supports Replaces (RFC 3891).
    pub replaces: bool,
    /// Info packages it wants (RFC 6086).
    pub info_packages: Vec<String>,
}

impl Capabilities {
    /// Takes what `message` says; a header that is missing says nothing.
    pub(crate) fn learn(&mut self, message: &Message) {
        let has = |name| message.header(name).is_some();
        if has(HeaderName::Allow) {
            let allows = |method| message.lists(HeaderName::Allow, method);
            (self.update, self.refer, self.message) =
                (allows("UPDATE"), allows("REFER"), allows("MESSAGE"));
        }
        if has(HeaderName::Supported) {
            let supports = |tag| message.lists(HeaderName::Supported, tag);
            (self.timer, self.reliable, self.replaces) =
                (supports("timer"), supports("100rel"), supports("replaces"));
        }
        // What is required is understood too.
        self.reliable |= message.is_request() && message.lists(HeaderName::Require, "100rel");
        self.timer |= message.lists(HeaderName::Require, "timer");
        if has(HeaderName::RecvInfo) {
            self.info_packages = message
                .values(HeaderName::RecvInfo)
                .take(16)
                .map(|p| p.split(';').next().unwrap_or_default().trim().to_owned())
                .collect();
        }
    }
}
