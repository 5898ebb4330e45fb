//! A call of a lost node whose address is not here: its media is reached elsewhere now.
//!
//! A trunk is asked by a re-INVITE to send here; one that refuses what comes from another address
//! ends the call. A browser is asked for an ICE restart as soon as it is here, or at a node the
//! store names. Certificate and keys stay, so nobody shakes hands again.

use super::leg::{RefreshKind, local};
use super::{Call, CallContext, CallTimer, HangupBy, Leg, Output};
use crate::call::context::{Question, Seeker};
use crate::cdr::Party;
use crate::cluster::store::LocatedUsers;
use crate::cluster::{Cluster, LOCATE};
use crate::errors::Code;
use crate::media::LegId;
use crate::sdp::offer_answer::Remote;
use crate::sip::status::Refusal;
use std::net::SocketAddr;
use std::time::Duration;

/// Where an end's media is received now.
pub type PortsOf<'a> = &'a dyn Fn(LegId) -> Option<u16>;

/// Between two questions where a browser of a lost node is.
const AGAIN: Duration = Duration::from_millis(500);

impl Leg {
    /// Its descriptions say from now on that media is received here.
    fn relocate(&mut self, cx: &mut CallContext<'_>, port: u16) {
        let (side, ip) = (self.negotiation.local.side, self.negotiation.local.address.ip());
        let remote = self.signalling.unwrap_or(ip);
        let here = local(cx, side, self.hop, remote);
        let own = &mut self.negotiation.local;
        own.address = SocketAddr::new(here.address.ip(), port);
        own.more_addresses = here.more_addresses;
        own.more_addresses.iter_mut().for_each(|at| at.set_port(port));
    }
}

impl Call {
    /// All its media is received at these ports, by addresses of this node.
    pub(crate) fn relocate(&mut self, cx: &mut CallContext<'_>, ports: PortsOf<'_>) {
        let ends: Vec<LegId> = self.legs().map(|leg| leg.end).collect();
        let silent = self.inherited.silent_since;
        for end in ends {
            let Some(port) = ports(end) else { continue };
            let Some(leg) = self.leg_mut(end) else { continue };
            if leg.is_internal() {
                // Its other half is notified.
                leg.negotiation.local.address.set_port(port);
                continue;
            }
            leg.relocate(cx, port);
            leg.path.missed(silent.unwrap_or(cx.now));
        }
    }

    /// Tells everybody who is there where its media is received now.
    pub(crate) fn tell_relocated(&mut self, cx: &mut CallContext<'_>) {
        let browser = |leg: &Leg| {
            let agreed = leg.negotiation.negotiated().map(|n| &n.remote);
            matches!(agreed, Some(Remote::Dtls { .. }))
        };
        let there = |leg: &&Leg| !leg.flow_lost && !leg.is_internal() && leg.dialog.is_some();
        let ends: Vec<(LegId, bool)> =
            self.legs().filter(there).map(|leg| (leg.end, browser(leg))).collect();
        for (end, browser) in ends {
            match browser {
                true => self.path_due(cx, end),
                false => self.refresh(cx, end, RefreshKind::Relocate),
            }
        }
    }

    /// A trunk will not send here, or does not know the call any more.
    pub(super) fn relocation_refused(&mut self, cx: &mut CallContext<'_>, end: LegId, why: &str) {
        let whom = self.leg_of(end).map(|leg| leg.party.as_callee()).unwrap_or_default();
        let lost = self.inherited.taken_from.as_ref().map_or("the node", |n| n.lost.as_str());
        let why =
            format!("node {lost} was lost, and {whom} takes nothing from another address: {why}");
        let why = Refusal::new(503, why).code(Code::NODE_LOST);
        self.leg_failed(cx, end, (HangupBy::Us, why));
    }

    /// Asks the store where the browsers of a lost node came back, until they are here or given up.
    pub(crate) fn ask_where(&mut self, cx: &mut CallContext<'_>) {
        let users = self.lost_users();
        if self.inherited.taken_from.is_none() || users.is_empty() {
            return;
        }
        let (seeker, ask, limit) = (Seeker::LostBrowsers(self.id), 0, LOCATE);
        cx.out.push(Output::Ask(Question::Locate { seeker, ask, users, limit }));
        cx.arm(self.id, CallTimer::Where, AGAIN);
    }

    /// Browsers were found at other nodes: their legs continue by these.
    pub(crate) fn found_elsewhere(&mut self, cx: &mut CallContext<'_>, found: &LocatedUsers) {
        let Ok(found) = found else { return };
        let lost: Vec<(LegId, String, Option<String>)> = self
            .legs()
            .filter(|leg| leg.flow_lost)
            .filter_map(|leg| match &leg.party {
                Party::User { name, instance } => Some((leg.end, name.clone(), instance.clone())),
                _ => None,
            })
            .collect();
        for (end, user, instance) in lost {
            let Some((_, at)) = found.iter().find(|(name, _)| *name == user) else { continue };
            let same = |own: &Option<String>| instance.is_none() || *own == instance;
            let elsewhere = |c: &Cluster| c.ways(cx.moment(), &user, at);
            let ways = cx.services.cluster.as_ref().map(elsewhere).unwrap_or_default();
            let Some(way) = ways.into_iter().find(|way| same(&way.instance)) else { continue };
            let Some(route) = way.path.first() else { continue };
            self.take_up_there(cx, end, way.hop, route);
            self.probe(cx, end);
        }
    }
}
