//! Which addresses that somebody else names are sent to: a peer in its descriptions, DNS in its
//! answers, a web application's URL in its host.

use crate::address::{is_private, is_public, is_reserved};
use ipnet::IpNet;
use std::net::IpAddr;

/// Lowest port that media is sent to.
pub(crate) const LOWEST_MEDIA_PORT: u16 = 1_024;

/// What is sent to, besides the internet; the default is the internet alone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EgressPolicy<'a> {
    /// Networks that the operator wrote down for this peer.
    pub(crate) listed: [&'a [IpNet]; 2],
    /// Where the peer's signalling comes from, and is answered.
    pub(crate) signalling: Option<IpAddr>,
    /// Private networks: the peer is in one, or nothing is sent before something came.
    pub(crate) private: bool,
    /// This machine's loopback.
    pub(crate) loopback: bool,
}

impl EgressPolicy<'_> {
    /// Whether the operator wrote a network down that `ip` is in.
    pub(crate) fn lists(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.listed.iter().any(|nets| nets.iter().any(|net| net.contains(&ip)))
    }

    /// Whether `ip` may be sent to; port rules are the caller's.
    pub(crate) fn admits(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        if ip.is_unspecified() || ip.is_multicast() {
            return false;
        }
        self.lists(ip)
            || self.signalling.is_some_and(|known| known.to_canonical() == ip)
            || (self.loopback && ip.is_loopback())
            || (self.private && is_private(ip))
            || (is_public(ip) && !is_reserved(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap_or_else(|_| panic!("{text} is an address"))
    }

    #[test]
    fn no_address_of_the_table_is_sent_to_by_default() {
        let policy = EgressPolicy::default();
        for denied in include_str!("../tests/corpus/addresses.txt").split_whitespace() {
            assert!(!policy.admits(ip(denied)), "{denied}");
        }
        for open in ["8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::808:808", "2001:4860:4860::8888"] {
            assert!(policy.admits(ip(open)), "{open}");
        }
    }

    #[test]
    fn what_is_allowed_is_what_was_said() {
        let (lan, none) = (["192.0.2.0/24".parse().expect("a network")], []);
        let listed = EgressPolicy { listed: [&lan, &none], ..EgressPolicy::default() };
        assert!(listed.admits(ip("192.0.2.7")) && !listed.admits(ip("198.51.100.7")));
        let signalling = Some(ip("127.0.0.10"));
        let known = EgressPolicy { signalling, ..EgressPolicy::default() };
        assert!(known.admits(ip("::ffff:127.0.0.10")) && !known.admits(ip("127.0.0.11")));
        let private = EgressPolicy { private: true, ..EgressPolicy::default() };
        assert!(private.admits(ip("10.1.2.3")) && private.admits(ip("fd00::1")));
        // No private address in disguise, and nothing that is many machines or this one.
        for never in ["64:ff9b::a00:1", "2002:a00:1::", "127.0.0.1", "169.254.1.1", "fe80::1"] {
            assert!(!private.admits(ip(never)), "{never}");
        }
        let everywhere = ["0.0.0.0/0".parse().expect("a network")];
        let all = EgressPolicy { listed: [&everywhere, &none], ..EgressPolicy::default() };
        assert!(!all.admits(ip("224.0.0.1")) && !all.admits(ip("0.0.0.0")));
    }
}
