//! From a target to the INVITE's first try: media end, address, the hops one after the other.

use super::branch::{Branch, BranchState, BranchTarget};
use super::context::DnsWaiter;
use super::leg::Leg;
use super::{Call, CallContext, CallTimer, codec_policy};
use crate::cdr::Party;
use crate::errors::Code;
use crate::media::LegId;
use crate::registrar::Way;
use crate::resolver::{Destination, Located};
use crate::sip::digest::Answering;
use crate::sip::status::Refusal;
use crate::sip::transaction::{Hop, T1X64};
use crate::sip::uri::UriTransport;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Least time a hop gets before the next is tried.
const HOP_TIME: Duration = Duration::from_secs(2);

impl Call {
    fn add_branch(
        &mut self,
        cx: &mut CallContext<'_>,
        target: BranchTarget,
        party: Party,
        hop: Hop,
        ip: IpAddr,
    ) -> u16 {
        let id = self.branches.next_id();
        let mut leg = Leg::new(cx, party, LegId(id), hop, ip);
        leg.owns_call_id = true;
        let (kind, local) = (leg.open_kind(cx), leg.negotiation.local.clone());
        let call_id = cx.token();
        cx.services.own_call_ids.insert(call_id.clone(), self.id);
        let cseq = (cx.random_u64() as u32 >> 8).max(1);
        let realm = match &target {
            BranchTarget::Trunk { name, .. } => {
                cx.config.trunks.get(name).and_then(|t| t.realm.clone())
            }
            _ => None,
        };
        let mut branch = Branch::new(id, target, leg, cx.now);
        (branch.call_id, branch.cseq) = (call_id, cseq);
        branch.answering = Answering::for_realm(realm.as_deref());
        branch.breadth = self.route.max_breadth();
        self.branches.push(branch);
        self.media.open(cx, LegId(id), kind, &local);
        id
    }

    /// Tries a trunk.
    pub(super) fn dial_trunk(&mut self, cx: &mut CallContext<'_>, name: &str, number: String) {
        let Some(trunk) = cx.config.trunks.get(name) else { return };
        let ip = trunk
            .uri
            .as_ref()
            .and_then(|u| u.host.parse().ok())
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let hop = Hop::Udp(SocketAddr::new(ip, 5060));
        let target = BranchTarget::Trunk { name: name.to_owned(), number };
        self.add_branch(cx, target, Party::Trunk(name.to_owned()), hop, ip);
    }

    /// Rings one phone of a user; `ways` lead to it, the best first.
    pub(super) fn ring_phone(
        &mut self,
        cx: &mut CallContext<'_>,
        user: &str,
        ways: &[Way],
        breadth: u32,
    ) {
        let Some((way, others)) = ways.split_first() else { return };
        let target = BranchTarget::User {
            name: user.to_owned(),
            contact: way.contact.clone(),
            path: way.path.clone(),
        };
        let party = Party::User { name: user.to_owned(), instance: way.instance.clone() };
        let id = self.add_branch(cx, target, party, way.hop, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        if let Some(branch) = self.branch_mut(id) {
            branch.breadth = breadth;
            branch.alternates = others.to_vec();
        }
    }

    /// The branch's media end is open: find where to send.
    pub(super) fn branch_opened(&mut self, cx: &mut CallContext<'_>, id: u16) {
        let Some(branch) = self.branch_mut(id).filter(|b| b.state == BranchState::Opening) else {
            return;
        };
        branch.state = BranchState::Resolving;
        match &branch.target {
            BranchTarget::User { .. } => {
                branch.hops.push_back(branch.leg.hop);
                self.try_next_hop(cx, id);
            }
            BranchTarget::Trunk { .. } => self.locate(cx, id),
            BranchTarget::Joined => {}
        }
    }

    /// Goes on looking for the trunk's addresses.
    pub(crate) fn locate(&mut self, cx: &mut CallContext<'_>, id: u16) {
        let call = self.id;
        let Some(branch) = self.branch_mut(id).filter(|b| b.state == BranchState::Resolving) else {
            return;
        };
        let BranchTarget::Trunk { name, .. } = &branch.target else { return };
        let Some(trunk) = cx.config.trunks.get(name) else { return };
        let bound = cx
            .services
            .trunks
            .get(name)
            .and_then(|t| t.bound.as_ref())
            .filter(|b| b.expires > cx.now)
            .map(|b| b.hop);
        let found = match (bound, &trunk.uri) {
            (Some(hop), _) => Located::Ready(vec![hop]),
            (None, None) => {
                let why = format!("trunk {name} is not registered here: it has to come by itself");
                let why = Refusal::new(503, why).code(Code::TRUNK_AWAY);
                return self.branch_failed(cx, id, why);
            }
            (None, Some(uri)) => {
                let target = Destination::of(uri, trunk);
                cx.locate(&target, DnsWaiter::Branch(call, id))
            }
        };
        match found {
            Located::Ready(hops) => {
                branch.hops_found = hops.len() as u32;
                branch.hops = hops.into();
                self.try_next_hop(cx, id);
            }
            Located::Failed(why) => {
                let target = self.branch_mut(id).map(|b| b.target.to_string()).unwrap_or_default();
                self.branch_failed(
                    cx,
                    id,
                    Refusal::new(503, format!("{target} cannot be found: {why}")).code(Code::DNS),
                );
            }
            Located::Waiting(_) => {}
        }
    }

    pub(super) fn try_next_hop(&mut self, cx: &mut CallContext<'_>, id: u16) {
        let known = self.caller.negotiation.offered_codecs();
        let caller = self.caller.party.clone();
        let Some(branch) = self.branches.get_mut(id) else { return };
        let Some(hop) = branch.hops.pop_front() else {
            return self.branch_failed(
                cx,
                id,
                Refusal::new(503, "no address of the trunk answered").code(Code::UNREACHABLE),
            );
        };
        let before = branch.leg.hop.local();
        branch.leg.hop = match &branch.target {
            BranchTarget::Trunk { name, .. } => {
                let hop = cx.hop_of_trunk(name, hop);
                cx.alias_of(name, hop)
            }
            _ => hop,
        };
        let hop = branch.leg.hop;
        branch.early_dialogs.clear();
        if !matches!(branch.target, BranchTarget::User { .. })
            && let Some(ip) = cx.remote_ip(hop)
        {
            branch.leg.negotiation.local.address.set_ip(cx.media_ip(hop, ip));
            let place = self.media.place(branch.leg.end);
            cx.media_source(place, before, hop);
            if let BranchTarget::Trunk { name, .. } = &branch.target {
                cx.media_behind_nat(place, name, hop);
            }
        }
        let trunk = branch.leg.party.trunk().and_then(|name| cx.config.trunks.get(name));
        let delayed = trunk.is_some_and(|t| t.delayed_offer);
        if branch.offer.is_empty() && !delayed {
            let codecs = codec_policy::offer(cx.config, &caller, &branch.leg.party, &known);
            branch.leg.negotiation.playback_rate =
                codec_policy::playback_rate(cx.config, &caller, &known);
            branch.offer = branch.leg.negotiation.offer(&codecs);
        }
        self.send_invite(cx, id);
        self.watch_hop(cx, id);
    }

    /// How long this hop may be silent: a share of one transaction's time if there are more (RFC
    /// 3263 §4.3), and what the route says before the next trunk is tried.
    fn watch_hop(&mut self, cx: &mut CallContext<'_>, id: u16) {
        let call = self.id;
        let silent = self.route.silent_after();
        let Some(branch) = self.branch_mut(id) else { return };
        if matches!(branch.leg.hop, Hop::Node(_)) {
            // A node that lives says 100 at once.
            return cx.arm(call, CallTimer::Silent(id), HOP_TIME);
        }
        if !matches!(branch.target, BranchTarget::Trunk { .. }) {
            return;
        }
        let share =
            (!branch.hops.is_empty()).then(|| (T1X64 / branch.hops_found.max(1)).max(HOP_TIME));
        if let Some(after) = silent.into_iter().chain(share).min() {
            cx.arm(call, CallTimer::Silent(id), after);
        }
    }
}

/// A request too long for one datagram goes by TCP, if the trunk's transport is not fixed (RFC 3261
/// §18.1.1): 200 bytes under a path MTU of 1500.
pub(super) const MAX_DATAGRAM: usize = 1_300;

/// The same peer over TCP, for a request of `length` bytes.
pub(super) fn for_length(
    cx: &CallContext<'_>,
    trunk: Option<&str>,
    hop: Hop,
    length: usize,
) -> Hop {
    let fixed = trunk
        .and_then(|t| cx.config.trunks.get(t))
        .and_then(|t| t.uri.as_ref())
        .is_none_or(|u| u.transport == Some(UriTransport::Udp));
    match hop {
        Hop::Udp(to) | Hop::UdpFrom(to, _)
            if length > MAX_DATAGRAM && !fixed && cx.config.tcp.is_some() =>
        {
            Hop::Tcp(to)
        }
        other => other,
    }
}
