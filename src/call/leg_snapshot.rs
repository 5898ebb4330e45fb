//! The signalling of a leg as a value that outlives the process.
//!
//! Not here: its negotiation, which its media brings along.

use super::CallContext;
use super::leg::Leg;
use crate::cdr::Party;
use crate::config::User;
use crate::media::LegId;
use crate::sdp::offer_answer::Negotiation;
use crate::sip::capabilities::Capabilities;
use crate::sip::dialog::{Dialog, DialogSnapshot, HopSnapshot};
use crate::sip::session_timer::SessionTimer;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A leg in its dialog, with nothing open: neither a request of ours, nor a 2xx without its ACK.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct LegSnapshot {
    party: Party,
    end: LegId,
    hop: HopSnapshot,
    signalling: Option<IpAddr>,
    local_tag: String,
    dialog: Option<DialogSnapshot>,
    peer: Capabilities,
    passes: Vec<String>,
    session: Option<SessionTimer>,
    /// How long the session lasts unless it is refreshed.
    session_left: Option<Duration>,
    owns_call_id: bool,
    proved_realms: Vec<String>,
}

impl Leg {
    /// The leg as a value at `now`.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the keeping of live calls on disk"))]
    pub(crate) fn snapshot(&self, now: Instant) -> LegSnapshot {
        LegSnapshot {
            party: self.party.clone(),
            end: self.end,
            hop: HopSnapshot::of(self.hop),
            signalling: self.signalling,
            local_tag: self.local_tag.clone(),
            dialog: self.dialog.as_ref().map(Dialog::snapshot),
            peer: self.peer.clone(),
            passes: self.passes.clone(),
            session: self.session,
            session_left: self.session_ends.map(|ends| ends.saturating_duration_since(now)),
            owns_call_id: self.owns_call_id,
            proved_realms: self.proved_realms.clone(),
        }
    }

    /// The leg of a value, with the account its user has now and what media brought along. One that
    /// went by a connection waits for its peer; timers are the caller's to arm.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the keeping of live calls on disk"))]
    pub(crate) fn restore(
        cx: &mut CallContext<'_>,
        snapshot: LegSnapshot,
        account: Option<Arc<User>>,
        negotiation: Negotiation,
    ) -> Leg {
        let trunk = match &snapshot.party {
            Party::Trunk(name) => cx.config.trunks.get(name).map(|t| t.number),
            Party::User { .. } | Party::Number(_) | Party::Internal(_) => None,
        };
        let hop = snapshot.hop.restore(trunk);
        let unknown = IpAddr::from([0, 0, 0, 0]);
        let ip = snapshot.signalling.unwrap_or(unknown);
        let mut leg = Leg::new(cx, snapshot.party, snapshot.end, hop, ip);
        leg.account = account;
        leg.negotiation = negotiation;
        leg.signalling = snapshot.signalling;
        leg.local_tag = snapshot.local_tag;
        leg.dialog = snapshot.dialog.map(|dialog| Dialog::restore(dialog, trunk));
        leg.flow_lost = hop == crate::sip::transaction::Hop::Suspended;
        leg.peer = snapshot.peer;
        leg.passes = snapshot.passes;
        leg.session = snapshot.session;
        leg.session_ends = snapshot.session_left.map(|left| cx.now + left);
        leg.owns_call_id = snapshot.owns_call_id;
        leg.proved_realms = snapshot.proved_realms;
        leg
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, hop, request};
    use super::*;
    use crate::sip::session_timer::Refresher;
    use crate::sip::transaction::{Flow, Hop};

    fn restored(bench: &mut Bench, snapshot: &LegSnapshot, negotiation: &Negotiation) -> Leg {
        let text = serde_json::to_string(snapshot).expect("a value");
        let value = serde_json::from_str(&text).expect("the value");
        Leg::restore(&mut bench.cx(), value, None, negotiation.clone())
    }

    #[test]
    fn a_leg_outlives_the_process_with_its_dialog_and_its_session() {
        let mut bench = Bench::new();
        let mut leg = bench.leg();
        leg.dialog = Dialog::uas(&request("INVITE", 7, ""), &leg.local_tag, hop(), 5);
        leg.session = Some(SessionTimer { interval: 1_800, refresher: Refresher::Us });
        leg.session_ends = Some(bench.now + Duration::from_secs(900));
        leg.proved_realms = vec!["realm".into()];
        let snapshot = leg.snapshot(bench.now);
        bench.wait(Duration::from_secs(10_000));
        let again = restored(&mut bench, &snapshot, &leg.negotiation);
        assert_eq!(again.snapshot(bench.now), snapshot);
        assert_eq!((again.hop, again.flow_lost), (hop(), false));
        assert_eq!(again.session_ends, Some(bench.now + Duration::from_secs(900)));
    }

    #[test]
    fn a_leg_that_went_by_a_connection_waits_for_its_peer() {
        let mut bench = Bench::new();
        let mut leg = bench.leg();
        leg.hop = Hop::Flow(Flow(9));
        let snapshot = leg.snapshot(bench.now);
        let again = restored(&mut bench, &snapshot, &leg.negotiation);
        assert_eq!((again.hop, again.flow_lost), (Hop::Suspended, true));
    }
}
