//! The signalling of a leg as a value that outlives the process.
//!
//! Not here: what its exchanges settled, which its media brings along.

use super::CallContext;
use super::leg::Leg;
use crate::cdr::Party;
use crate::config::{Config, Trunk, User};
use crate::dialplan::Permits;
use crate::dialplan::pattern::Pattern;
use crate::flow::{FlowKind, FlowState};
use crate::ids::IdMap;
use crate::media::LegId;
use crate::sdp::offer_answer::{LegKind, Negotiation, NegotiationSnapshot, Settled};
use crate::sip::capabilities::Capabilities;
use crate::sip::dialog::{Dialog, DialogId, DialogSnapshot, HopSnapshot};
use crate::sip::digest::Secret;
use crate::sip::session_timer::SessionTimer;
use crate::sip::transaction::{Flow, Hop};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// More requests than a leg makes between two checkpoints.
const UNKNOWN: u32 = 100;

/// What media knows of the negotiation of an end.
pub type SettledOf<'a> = &'a dyn Fn(LegId) -> Option<Settled>;

/// The moment a call is written down at, and what its legs go by then.
#[derive(Clone, Copy)]
pub(crate) struct SnapshotTaken<'a> {
    /// When.
    pub(crate) now: Instant,
    /// The settings.
    pub(crate) config: &'a Config,
    /// The connections.
    pub(crate) flows: &'a IdMap<Flow, FlowState>,
}

/// Where a trunk is connected to whose own connection is gone.
pub(crate) fn way_back(trunk: &Trunk, ip: IpAddr, kind: FlowKind) -> Hop {
    let secure = kind == FlowKind::Tls;
    let port = trunk.uri.as_ref().and_then(|uri| uri.port);
    let to = SocketAddr::new(ip, port.unwrap_or(if secure { 5061 } else { 5060 }));
    if secure { Hop::Tls(to, trunk.number) } else { Hop::Tcp(to) }
}

/// A leg in its dialog, with nothing open: neither a request of ours, nor a 2xx without its ACK.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct LegSnapshot {
    /// Who it is.
    pub(super) party: Party,
    /// Of a user who is not written in the configuration.
    pub(super) account: Option<Box<AccountSnapshot>>,
    /// Its media endpoint.
    pub(super) end: LegId,
    /// Where its requests are sent.
    pub(super) hop: HopSnapshot,
    /// As [`Leg::signalling`].
    pub(super) signalling: Option<IpAddr>,
    /// Our tag.
    pub(super) local_tag: String,
    /// Its dialog.
    pub(super) dialog: Option<DialogSnapshot>,
    /// As [`Leg::former`].
    pub(super) former: Vec<DialogId>,
    /// What was negotiated.
    pub(super) negotiation: NegotiationSnapshot,
    /// What its peer can do.
    pub(super) peer: Capabilities,
    /// As [`Leg::passes`].
    pub(super) passes: Vec<String>,
    /// The session timer that was agreed.
    pub(super) session: Option<SessionTimer>,
    /// How long the session lasts unless it is refreshed.
    pub(super) session_left: Option<Duration>,
    /// As [`Leg::owns_call_id`].
    pub(super) owns_call_id: bool,
    /// As [`Leg::proved_realms`].
    pub(super) proved_realms: Vec<String>,
}

impl LegSnapshot {
    /// A leg of which nothing else is known.
    pub(super) fn bare(party: Party, end: LegId) -> LegSnapshot {
        let side = match party {
            Party::User { .. } => LegKind::Browser,
            Party::Trunk(_) | Party::Number(_) | Party::Internal(_) => LegKind::Trunk,
        };
        LegSnapshot {
            party,
            account: None,
            end,
            hop: HopSnapshot::Lost,
            signalling: None,
            local_tag: String::new(),
            dialog: None,
            former: Vec::new(),
            negotiation: NegotiationSnapshot::bare(side),
            peer: Capabilities::default(),
            passes: Vec::new(),
            session: None,
            session_left: None,
            owns_call_id: false,
            proved_realms: Vec::new(),
        }
    }
}

/// What a token or a web application said of a user.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct AccountSnapshot {
    did: Option<String>,
    numbers: Vec<String>,
    display_name: Option<String>,
    context: String,
    refer: bool,
    fraud_brake: bool,
    claims: Vec<String>,
    /// The only numbers it may call, as they were written.
    callees: Vec<String>,
    /// Calls at once, and new calls a second.
    limits: (Option<usize>, Option<u32>),
    tags: BTreeMap<String, String>,
}

impl AccountSnapshot {
    fn of(user: &User) -> AccountSnapshot {
        AccountSnapshot {
            did: user.did.clone(),
            numbers: user.numbers.clone(),
            display_name: user.display_name.clone(),
            context: user.context.clone(),
            refer: user.refer,
            callees: user.permits.callees.iter().map(ToString::to_string).collect(),
            limits: (user.max_calls, user.calls_per_second),
            fraud_brake: user.fraud_brake,
            claims: user.permits.claims.clone(),
            tags: user.tags.clone(),
        }
    }

    /// The account, which cannot log in on its own.
    fn restore(self, name: String) -> User {
        let read: Result<Vec<_>, _> = self.callees.iter().map(|c| Pattern::parse(c)).collect();
        // No pattern would be all numbers.
        let refer = self.refer && read.is_ok();
        let callees = read.unwrap_or_default();
        User {
            name,
            password: Secret::new(String::new()),
            did: self.did,
            numbers: self.numbers,
            display_name: self.display_name,
            context: self.context,
            max_calls: self.limits.0,
            calls_per_second: self.limits.1,
            refer,
            fraud_brake: self.fraud_brake,
            permits: Permits { claims: self.claims, callees },
            tags: self.tags,
            network: None,
        }
    }
}

impl Leg {
    /// Where its requests go once its connection is gone. A browser comes back by itself; a trunk
    /// that connected to us need not.
    fn lasting_hop(&self, taken: SnapshotTaken<'_>) -> Hop {
        let (Hop::Flow(flow), Party::Trunk(name)) = (self.hop, &self.party) else {
            return self.hop;
        };
        let known = taken.config.trunks.get(name).zip(taken.flows.get(&flow));
        known.map_or(self.hop, |(trunk, flow)| way_back(trunk, flow.remote.ip(), flow.kind))
    }

    /// The leg as a value.
    pub(crate) fn snapshot(&self, taken: SnapshotTaken<'_>) -> LegSnapshot {
        let SnapshotTaken { now, config, .. } = taken;
        let hop = HopSnapshot::of(self.lasting_hop(taken));
        let dialog = self.dialog.as_ref().map(|dialog| match dialog.snapshot() {
            lost if lost.hop == HopSnapshot::Lost => DialogSnapshot { hop, ..lost },
            other => other,
        });
        let own = |user: &&Arc<User>| !config.users.contains_key(&user.name);
        let account = self.account.as_ref().filter(own);
        LegSnapshot {
            party: self.party.clone(),
            account: account.map(|user| Box::new(AccountSnapshot::of(user))),
            end: self.end,
            hop,
            signalling: self.signalling,
            local_tag: self.local_tag.clone(),
            dialog,
            former: self.former.clone(),
            negotiation: self.negotiation.snapshot(),
            peer: self.peer.clone(),
            passes: self.passes.clone(),
            session: self.session,
            session_left: self.session_ends.map(|ends| ends.saturating_duration_since(now)),
            owns_call_id: self.owns_call_id,
            proved_realms: self.proved_realms.clone(),
        }
    }

    /// The leg of a value of `then`, with the account its user has now and what its media brought
    /// along. One that went by a connection waits for its peer; timers are the caller's to arm.
    pub(crate) fn restore(
        cx: &mut CallContext<'_>,
        snapshot: LegSnapshot,
        then: Instant,
        media: Option<SettledOf<'_>>,
    ) -> Leg {
        let trunk = match &snapshot.party {
            Party::Trunk(name) => cx.config.trunks.get(name).map(|t| t.number),
            Party::User { .. } | Party::Number(_) | Party::Internal(_) => None,
        };
        let account = match &snapshot.party {
            Party::User { name, .. } => cx.config.users.get(name).cloned().or_else(|| {
                snapshot.account.map(|account| Arc::new(account.restore(name.clone())))
            }),
            Party::Trunk(_) | Party::Number(_) | Party::Internal(_) => None,
        };
        let hop = snapshot.hop.restore(trunk);
        let unknown = IpAddr::from([0, 0, 0, 0]);
        let ip = snapshot.signalling.unwrap_or(unknown);
        let settled = media.and_then(|settled| settled(snapshot.end));
        let fingerprint = cx.services.identity.fingerprint.clone();
        let mut leg = Leg::new(cx, snapshot.party, snapshot.end, hop, ip);
        leg.account = account;
        leg.negotiation = Negotiation::restore(snapshot.negotiation, fingerprint, settled);
        leg.signalling = snapshot.signalling;
        leg.local_tag = snapshot.local_tag;
        leg.dialog = snapshot.dialog.map(|dialog| Dialog::restore(dialog, trunk));
        leg.former = snapshot.former;
        if then < cx.now {
            // What was asked in the last moment is not in the value, and no number is used twice.
            leg.dialog.iter_mut().for_each(|dialog| dialog.local_cseq += UNKNOWN);
        }
        let own = cx.services.cluster.as_ref().map(|cluster| Hop::Node(cluster.advertise()));
        if own == Some(hop) {
            // Its edge was here: it is a browser of this node's now.
            leg.hop = Hop::Suspended;
            if let Some(dialog) = &mut leg.dialog {
                (dialog.hop, dialog.route_set) = (Hop::Suspended, Vec::new());
            }
        }
        leg.flow_lost = leg.hop == Hop::Suspended;
        leg.path.connected = media.is_some();
        leg.path.flow_lost_at = leg.flow_lost.then_some(cx.now);
        leg.peer = snapshot.peer;
        leg.passes = snapshot.passes;
        leg.session = snapshot.session;
        leg.session_ends = snapshot.session_left.map(|left| then + left);
        leg.owns_call_id = snapshot.owns_call_id;
        leg.proved_realms = snapshot.proved_realms;
        leg
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{CallBench, hop, request};
    use super::*;
    use crate::sip::session_timer::Refresher;
    use crate::sip::transaction::Flow;

    fn restored(bench: &mut CallBench, snapshot: &LegSnapshot) -> Leg {
        let text = serde_json::to_string(snapshot).expect("a value");
        let value = serde_json::from_str(&text).expect("the value");
        let now = bench.now;
        Leg::restore(&mut bench.cx(), value, now, None)
    }

    #[test]
    fn a_leg_outlives_the_process_with_its_dialog_and_its_session() {
        let mut bench = CallBench::new();
        let mut leg = bench.leg();
        leg.dialog = Dialog::uas(&request("INVITE", 7, ""), &leg.local_tag, hop(), 5);
        leg.session = Some(SessionTimer { interval: 1_800, refresher: Refresher::Us });
        leg.session_ends = Some(bench.now + Duration::from_secs(900));
        leg.proved_realms = vec!["realm".into()];
        let snapshot = leg.snapshot(bench.taken());
        bench.wait(Duration::from_secs(10_000));
        let again = restored(&mut bench, &snapshot);
        assert_eq!(again.snapshot(bench.taken()), snapshot);
        assert_eq!((again.hop, again.flow_lost), (hop(), false));
        assert_eq!(again.session_ends, Some(bench.now + Duration::from_secs(900)));
    }

    #[test]
    fn a_leg_that_went_by_a_connection_waits_for_its_peer() {
        let mut bench = CallBench::new();
        let mut leg = bench.leg();
        leg.hop = Hop::Flow(Flow(9));
        let snapshot = leg.snapshot(bench.taken());
        let again = restored(&mut bench, &snapshot);
        assert_eq!((again.hop, again.flow_lost), (Hop::Suspended, true));
    }

    #[test]
    fn an_account_of_a_token_outlives_the_process_without_its_password() {
        let mut bench = CallBench::new();
        let mut leg = bench.leg();
        let account = AccountSnapshot {
            did: Some("+1".into()),
            numbers: Vec::new(),
            display_name: None,
            context: "visitors".into(),
            refer: true,
            fraud_brake: true,
            claims: vec!["vip".into()],
            callees: vec!["+4930.".into()],
            limits: (Some(2), Some(3)),
            tags: BTreeMap::new(),
        };
        leg.party = Party::User { name: "visitor".into(), instance: None };
        leg.account = Some(Arc::new(account.clone().restore("visitor".into())));
        let snapshot = leg.snapshot(bench.taken());
        let again = restored(&mut bench, &snapshot).account.expect("an account");
        assert_eq!((&*again.name, AccountSnapshot::of(&again)), ("visitor", account));
    }
}
