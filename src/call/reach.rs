//! Which address of ours a peer is given, and which one we send to it from.
//!
//! The rule is one for Via, Contact, From and SDP: a peer is given an address at which it reaches
//! us. What the settings say for it comes first, then the address it has already reached, then the
//! one the kernel sends from towards it, if the peer can use that.

use crate::address::{is_private, is_public};
use crate::call::CallContext;
use crate::config::Config;
use crate::media::LegId;
use crate::sip::transaction::Hop;
use crate::worker::WorkerCommand;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// What the system knows of its addresses and routes.
pub trait Routing: Send + Sync {
    /// The address datagrams for `remote` leave by.
    fn towards(&self, remote: IpAddr) -> Option<IpAddr>;
    /// Whether `ip` is an address of this machine, and trunks' sockets may send from it.
    fn is_own(&self, ip: IpAddr) -> bool;
    /// Whether `ip` is an address of this machine.
    fn has(&self, ip: IpAddr) -> bool;
    /// Addresses of this machine that browsers may be offered besides the public ones.
    fn candidates(&self) -> Vec<IpAddr>;
}

/// The system's routing, if there is a system; in virtual worlds nothing is known.
#[derive(Clone, Default)]
pub struct Reach(pub Option<Arc<dyn Routing>>);

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reach")
    }
}

impl Reach {
    /// Whether `ip` is known to be an address of this machine.
    pub(crate) fn has(&self, ip: IpAddr) -> bool {
        self.0.as_ref().is_some_and(|r| r.has(ip))
    }

    /// The addresses offered to browsers, the configured or discovered ones first. Whoever names
    /// loopback alone means this machine alone.
    pub(crate) fn for_browsers(&self, config: &Config) -> Vec<IpAddr> {
        let mut all = config.browser_ips().to_vec();
        if all.iter().all(IpAddr::is_loopback) && !all.is_empty() {
            return all;
        }
        for ip in self.0.iter().flat_map(|r| r.candidates()) {
            if !all.contains(&ip) {
                all.push(ip);
            }
        }
        all.truncate(MAX_ADDRESSES);
        all
    }
}

/// Addresses a browser is offered at most: it checks each of them.
const MAX_ADDRESSES: usize = 8;

/// What decides which address a peer at `remote` is given.
#[derive(Clone, Copy, Debug)]
struct Known<'a> {
    /// Of the trunk, else of the trunk side as a whole.
    set: Option<IpAddr>,
    /// The address of ours that the peer reached.
    reached: Option<IpAddr>,
    /// The address the kernel sends from.
    chosen: Option<IpAddr>,
    /// Our public addresses, and whether somebody wrote them down.
    public: &'a [IpAddr],
    written: bool,
}

fn shown_address(remote: IpAddr, known: Known<'_>) -> IpAddr {
    if let Some(set) = known.set {
        return set;
    }
    let alike = |ip: &&IpAddr| ip.is_ipv4() == remote.is_ipv4() && !ip.is_loopback();
    let public = known.public.iter().find(alike).copied();
    let translated = |ip: IpAddr| is_private(ip) && is_public(remote);
    if let Some(reached) = known.reached {
        return public.filter(|_| translated(reached)).unwrap_or(reached);
    }
    if remote.is_loopback() {
        let v4 = remote.is_ipv4();
        return if v4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    }
    let Some(chosen) = known.chosen.filter(|ip| ip.is_ipv4() == remote.is_ipv4()) else {
        let any = public.or_else(|| known.public.first().copied());
        return any.unwrap_or(Ipv4Addr::LOCALHOST.into());
    };
    let written = known.written && (is_public(remote) || !public.is_some_and(is_public));
    public.filter(|_| written || translated(chosen)).unwrap_or(chosen)
}

impl CallContext<'_> {
    /// The public address that is set for the trunk at `remote`.
    fn set_for(&self, remote: IpAddr) -> Option<IpAddr> {
        let named = self.services.trunks.public_ip_at(remote);
        let listed = || self.config.trunks.with_own_ip_at(remote)?.public_ip;
        named.or_else(listed).or(self.config.sip.public_ip)
    }

    /// Our address as the peer at `remote`, reached by `hop`, reaches it.
    pub(crate) fn local_ip(&self, hop: Hop, remote: IpAddr) -> IpAddr {
        let remote = remote.to_canonical();
        let known = Known {
            set: self.set_for(remote),
            reached: hop.local(),
            chosen: self.services.identity.reach.0.as_ref().and_then(|r| r.towards(remote)),
            public: &self.config.public_ips,
            written: !self.config.public_auto,
        };
        shown_address(remote, known)
    }

    /// Where the peer at `remote` sends its media: as signalling, unless media has an address of
    /// its own.
    pub(crate) fn media_ip(&self, hop: Hop, remote: IpAddr) -> IpAddr {
        let shown_address = self.local_ip(hop, remote);
        let chosen = self.services.identity.reach.0.as_ref().and_then(|r| r.towards(remote));
        let own = [chosen, hop.local()].contains(&Some(shown_address));
        self.config.media.bind.filter(|bind| own && *bind != shown_address).unwrap_or(shown_address)
    }

    /// `hop` with the address of ours that is set for this trunk, if it is one of this machine that
    /// the kernel would not choose.
    pub(crate) fn hop_of_trunk(&mut self, trunk: &str, hop: Hop) -> Hop {
        let set = self.config.trunks.get(trunk).and_then(|t| t.public_ip);
        if let (Some(ip), Some(remote)) = (set, self.remote_ip(hop)) {
            self.services.trunks.remember_public_ip(remote, ip);
        }
        let (Hop::Udp(to), Some(ip), Some(reach)) =
            (hop, set.or(self.config.sip.public_ip), &self.services.identity.reach.0)
        else {
            return hop;
        };
        let differs = || reach.is_own(ip) && reach.towards(to.ip()) != Some(ip);
        if ip.is_ipv4() == to.is_ipv4() && differs() { Hop::UdpFrom(to, ip) } else { hop }
    }

    /// Lets media of a trunk behind NAT come from where its signalling does, if that is set.
    pub(crate) fn media_behind_nat(&mut self, place: (usize, u64, LegId), trunk: &str, hop: Hop) {
        let (worker, session, end) = place;
        let set = self.config.trunks.get(trunk).is_some_and(|t| t.nat_signalling);
        if let Some(signalling) = self.remote_ip(hop).filter(|_| set) {
            self.media(worker, WorkerCommand::Natted { session, end, signalling });
        }
    }

    /// Has a trunk's media leave by the address its signalling does, which was `before` until now.
    pub(crate) fn media_source(
        &mut self,
        place: (usize, u64, LegId),
        before: Option<IpAddr>,
        hop: Hop,
    ) {
        let ((worker, session, end), local) = (place, hop.local());
        if local != before {
            self.media(worker, WorkerCommand::Source { session, end, local });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_peer_is_told_where_it_reaches_us() {
        // Remote; set, reached, chosen; public and whether it is written; the result.
        type RoutingRow = (&'static str, [&'static str; 3], &'static str, bool, &'static str);
        let rows: [RoutingRow; 15] = [
            // Nothing set: the address the kernel sends from.
            ("10.0.0.20", ["", "", "10.0.0.2"], "203.0.113.7", false, "10.0.0.2"),
            ("198.51.100.9", ["", "", "203.0.113.7"], "203.0.113.7", false, "203.0.113.7"),
            // Behind NAT: the discovered one for peers outside only.
            ("198.51.100.9", ["", "", "10.0.0.2"], "203.0.113.7", false, "203.0.113.7"),
            ("192.168.9.9", ["", "", "10.0.0.2"], "203.0.113.7", false, "10.0.0.2"),
            // Written down: internet browsers beside a trunk in the LAN.
            ("10.0.0.20", ["", "", "10.0.0.2"], "203.0.113.7", true, "10.0.0.2"),
            ("198.51.100.9", ["", "", "203.0.113.6"], "203.0.113.7", true, "203.0.113.7"),
            // A container: its host's private address is written down for trunks in the LAN.
            ("192.168.1.20", ["", "", "172.17.0.2"], "192.168.1.5", true, "192.168.1.5"),
            // Loopback written down helps nobody elsewhere.
            ("10.0.0.20", ["", "", "10.0.0.2"], "127.0.0.1", true, "10.0.0.2"),
            // Reached at another address.
            ("10.0.0.20", ["", "10.0.0.3", "10.0.0.2"], "203.0.113.7", true, "10.0.0.3"),
            (
                "198.51.100.9",
                ["", "203.0.113.8", "203.0.113.7"],
                "203.0.113.7",
                true,
                "203.0.113.8",
            ),
            ("198.51.100.9", ["", "10.0.0.3", "10.0.0.2"], "203.0.113.7", true, "203.0.113.7"),
            // Set for the trunk: that, whatever else.
            (
                "10.0.0.20",
                ["203.0.113.9", "10.0.0.3", "10.0.0.2"],
                "203.0.113.7",
                true,
                "203.0.113.9",
            ),
            // This machine.
            ("127.0.0.10", ["", "", "127.0.0.1"], "203.0.113.7", true, "127.0.0.1"),
            // Nothing known of routes.
            ("198.51.100.9", ["", "", ""], "203.0.113.7", true, "203.0.113.7"),
            ("2001:db8::9", ["", "", "2001:db8::2"], "203.0.113.7", true, "2001:db8::2"),
        ];
        for (remote, [set, reached, chosen], public, written, expected) in rows {
            let [set, reached, chosen] = [set, reached, chosen].map(|t| t.parse().ok());
            let public = [ip(public)];
            let known = Known { set, reached, chosen, public: &public, written };
            assert_eq!(shown_address(ip(remote), known), ip(expected), "{remote}: {known:?}");
        }
    }

    /// A machine with many addresses.
    struct Many;

    impl Routing for Many {
        fn towards(&self, _: IpAddr) -> Option<IpAddr> {
            None
        }
        fn is_own(&self, _: IpAddr) -> bool {
            false
        }
        fn has(&self, _: IpAddr) -> bool {
            false
        }
        fn candidates(&self) -> Vec<IpAddr> {
            (1..30).map(|n| IpAddr::from([10, 0, 0, n])).collect()
        }
    }

    #[test]
    fn a_browser_is_offered_eight_addresses_the_written_one_first() {
        let text = "[server]\ndomain = \"x\"\npublic_ip = \"203.0.113.7\"\n";
        let (config, _) = crate::config::check::parse_embedded(text, &[]).expect("sound");
        let offered = Reach(Some(Arc::new(Many))).for_browsers(&config);
        assert_eq!((offered.len(), offered[0]), (MAX_ADDRESSES, ip("203.0.113.7")));
    }
}
