//! As much of a call as it takes to end it: for a process of another version, which cannot read the
//! rest of its checkpoint.
//!
//! This form never changes. What it lacks goes into a form of another number, and this one is still
//! read; `the_form_never_changes` has its bytes.

use super::CallId;
use super::branch::BranchTarget;
use super::branch_snapshot::BranchSnapshot;
use super::call_snapshot::CallSnapshot;
use super::invite_server::InviteSnapshot;
use super::leg_snapshot::LegSnapshot;
use crate::cdr::{CdrSnapshot, Party};
use crate::media::LegId;
use crate::sip::dialog::{DialogId, DialogSnapshot, HopSnapshot};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A call, to be ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tombstone {
    call: u64,
    /// How long ago.
    started: Duration,
    ringing: Option<Duration>,
    answered: Option<Duration>,
    inbound: bool,
    from: Somebody,
    dialled: String,
    number: String,
    context: String,
    route: Option<String>,
    /// The caller's INVITE, and whether it had a final response.
    invite: String,
    finished: bool,
    caller: Line,
    /// First the one that answered, if one did.
    others: Vec<Other>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Somebody {
    User { name: String, instance: Option<String> },
    Trunk(String),
    Number(String),
    Internal(u64),
}

/// A leg.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Line {
    who: Somebody,
    end: u16,
    way: TombstoneWay,
    signalling: Option<IpAddr>,
    local_tag: String,
    dialog: Option<Confirmed>,
}

/// A branch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Other {
    id: u16,
    answered: bool,
    early: bool,
    line: Line,
    call_id: String,
    cseq: u32,
    /// Until it is answered.
    invite: Vec<u8>,
}

/// Where its requests go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum TombstoneWay {
    Lost,
    Udp(SocketAddr),
    UdpFrom(SocketAddr, IpAddr),
    Tcp(SocketAddr),
    Tls(SocketAddr),
    Node(SocketAddr),
}

/// A dialog.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Confirmed {
    call_id: String,
    local_tag: String,
    remote_tag: String,
    local: String,
    remote: String,
    target: String,
    route_set: Vec<String>,
    local_cseq: u32,
    remote_cseq: Option<u32>,
    way: TombstoneWay,
}

impl From<&Party> for Somebody {
    fn from(party: &Party) -> Somebody {
        match party.clone() {
            Party::User { name, instance } => Somebody::User { name, instance },
            Party::Trunk(name) => Somebody::Trunk(name),
            Party::Number(number) => Somebody::Number(number),
            Party::Internal(call) => Somebody::Internal(call.0),
        }
    }
}

impl From<Somebody> for Party {
    fn from(who: Somebody) -> Party {
        match who {
            Somebody::User { name, instance } => Party::User { name, instance },
            Somebody::Trunk(name) => Party::Trunk(name),
            Somebody::Number(number) => Party::Number(number),
            Somebody::Internal(call) => Party::Internal(CallId(call)),
        }
    }
}

impl From<HopSnapshot> for TombstoneWay {
    fn from(hop: HopSnapshot) -> TombstoneWay {
        match hop {
            HopSnapshot::Lost => TombstoneWay::Lost,
            HopSnapshot::Udp(to) => TombstoneWay::Udp(to),
            HopSnapshot::UdpFrom(to, from) => TombstoneWay::UdpFrom(to, from),
            HopSnapshot::Tcp(to) => TombstoneWay::Tcp(to),
            HopSnapshot::Tls(to) => TombstoneWay::Tls(to),
            HopSnapshot::Node(to) => TombstoneWay::Node(to),
        }
    }
}

impl From<TombstoneWay> for HopSnapshot {
    fn from(way: TombstoneWay) -> HopSnapshot {
        match way {
            TombstoneWay::Lost => HopSnapshot::Lost,
            TombstoneWay::Udp(to) => HopSnapshot::Udp(to),
            TombstoneWay::UdpFrom(to, from) => HopSnapshot::UdpFrom(to, from),
            TombstoneWay::Tcp(to) => HopSnapshot::Tcp(to),
            TombstoneWay::Tls(to) => HopSnapshot::Tls(to),
            TombstoneWay::Node(to) => HopSnapshot::Node(to),
        }
    }
}

impl From<&DialogSnapshot> for Confirmed {
    fn from(dialog: &DialogSnapshot) -> Confirmed {
        let dialog = dialog.clone();
        Confirmed {
            call_id: dialog.id.call_id,
            local_tag: dialog.id.local_tag,
            remote_tag: dialog.id.remote_tag,
            local: dialog.local,
            remote: dialog.remote,
            target: dialog.remote_target,
            route_set: dialog.route_set,
            local_cseq: dialog.local_cseq,
            remote_cseq: dialog.remote_cseq,
            way: dialog.hop.into(),
        }
    }
}

impl From<Confirmed> for DialogSnapshot {
    fn from(dialog: Confirmed) -> DialogSnapshot {
        let (local_tag, remote_tag) = (dialog.local_tag, dialog.remote_tag);
        DialogSnapshot {
            id: DialogId { call_id: dialog.call_id, local_tag, remote_tag },
            local: dialog.local,
            remote: dialog.remote,
            remote_target: dialog.target,
            route_set: dialog.route_set,
            local_cseq: dialog.local_cseq,
            remote_cseq: dialog.remote_cseq,
            hop: dialog.way.into(),
        }
    }
}

impl From<&LegSnapshot> for Line {
    fn from(leg: &LegSnapshot) -> Line {
        Line {
            who: (&leg.party).into(),
            end: leg.end.0,
            way: leg.hop.into(),
            signalling: leg.signalling,
            local_tag: leg.local_tag.clone(),
            dialog: leg.dialog.as_ref().map(Confirmed::from),
        }
    }
}

impl From<Line> for LegSnapshot {
    fn from(line: Line) -> LegSnapshot {
        LegSnapshot {
            hop: line.way.into(),
            signalling: line.signalling,
            local_tag: line.local_tag,
            dialog: line.dialog.map(DialogSnapshot::from),
            ..LegSnapshot::bare(line.who.into(), LegId(line.end))
        }
    }
}

impl From<&BranchSnapshot> for Other {
    fn from(branch: &BranchSnapshot) -> Other {
        Other {
            id: branch.id,
            answered: branch.answered,
            early: branch.early,
            line: (&branch.leg).into(),
            call_id: branch.call_id.clone(),
            cseq: branch.cseq,
            invite: branch.invite.clone(),
        }
    }
}

impl From<Other> for BranchSnapshot {
    fn from(other: Other) -> BranchSnapshot {
        let leg = LegSnapshot::from(other.line);
        let target = match leg.party.clone() {
            Party::User { name, .. } | Party::Number(name) => {
                BranchTarget::User { name, contact: String::new(), path: Vec::new() }
            }
            Party::Trunk(name) => BranchTarget::Trunk { name, number: String::new() },
            Party::Internal(_) => BranchTarget::Joined,
        };
        BranchSnapshot {
            id: other.id,
            target,
            answered: other.answered,
            given_up: false,
            early: other.early,
            leg,
            call_id: other.call_id,
            cseq: other.cseq,
            invite: other.invite,
            started: Duration::ZERO,
            rang: None,
        }
    }
}

impl From<&CallSnapshot> for Tombstone {
    fn from(call: &CallSnapshot) -> Tombstone {
        let cdr = &call.cdr;
        // The transferor is notified of its end, too; the other half of joined calls ends by
        // itself.
        let others = call.branches.iter().chain(&call.transferor);
        let others = others.filter(|branch| branch.target != BranchTarget::Joined);
        Tombstone {
            call: call.id.0,
            started: cdr.started,
            ringing: cdr.ringing,
            answered: cdr.answered,
            inbound: cdr.inbound,
            from: (&cdr.from).into(),
            dialled: cdr.dialled.clone(),
            number: cdr.number.clone(),
            context: cdr.context.clone(),
            route: cdr.route.clone(),
            invite: call.uas.invite.clone(),
            finished: call.uas.finished,
            caller: (&call.caller).into(),
            others: others.map(Other::from).collect(),
        }
    }
}

impl From<Tombstone> for CallSnapshot {
    /// The call as one that can only be ended.
    fn from(stone: Tombstone) -> CallSnapshot {
        let call = CallId(stone.call);
        let branches: Vec<BranchSnapshot> =
            stone.others.into_iter().map(BranchSnapshot::from).collect();
        let answerer = branches.first().filter(|branch| branch.answered);
        let cdr = CdrSnapshot {
            started: stone.started,
            ringing: stone.ringing,
            answered: stone.answered,
            inbound: stone.inbound,
            dialled: stone.dialled,
            number: stone.number,
            context: stone.context,
            route: stone.route,
            answered_by: answerer.map(|branch| branch.leg.party.clone()),
            caller_call_id: stone
                .caller
                .dialog
                .as_ref()
                .map_or_else(String::new, |dialog| dialog.call_id.clone()),
            callee_call_id: answerer.map(|branch| branch.call_id.clone()),
            caller_end: LegId(stone.caller.end),
            callee_end: answerer.map(|branch| branch.leg.end),
            ..CdrSnapshot::bare(call, stone.from.into())
        };
        let uas = InviteSnapshot {
            invite: stone.invite,
            offerless: false,
            finished: stone.finished,
            unacknowledged: None,
        };
        CallSnapshot::to_be_ended(call, stone.caller.into(), uas, branches, cdr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 5_060))
    }

    fn line(who: Somebody, end: u16, way: TombstoneWay) -> Line {
        let dialog = Confirmed {
            call_id: format!("c{end}"),
            local_tag: "l".into(),
            remote_tag: "r".into(),
            local: "<sip:a@x>;tag=l".into(),
            remote: "<sip:b@y>;tag=r".into(),
            target: "sip:b@10.0.0.2".into(),
            route_set: vec!["<sip:p;lr>".into()],
            local_cseq: 300,
            remote_cseq: Some(2),
            way,
        };
        let signalling = Some(IpAddr::from([10, 0, 0, 2]));
        Line { who, end, way, signalling, local_tag: "l".into(), dialog: Some(dialog) }
    }

    fn stone() -> Tombstone {
        let user = Somebody::User { name: "alice".into(), instance: Some("u".into()) };
        let trunk = Somebody::Trunk("t".into());
        Tombstone {
            call: 7,
            started: Duration::from_secs(9),
            ringing: Some(Duration::from_secs(8)),
            answered: Some(Duration::from_secs(5)),
            inbound: false,
            from: user.clone(),
            dialled: "+1".into(),
            number: "+1".into(),
            context: "phones".into(),
            route: Some("One".into()),
            invite: "INVITE".into(),
            finished: true,
            caller: line(user, 1, TombstoneWay::Lost),
            others: vec![Other {
                id: 1,
                answered: true,
                early: false,
                line: line(trunk, 2, TombstoneWay::UdpFrom(address(2), [10, 0, 0, 1].into())),
                call_id: "c2".into(),
                cseq: 1,
                invite: Vec::new(),
            }],
        }
    }

    /// A process of any later version has to read these.
    #[test]
    fn the_form_never_changes() {
        let bytes = postcard::to_stdvec(&stone()).expect("a value");
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, GOLDEN);
        assert_eq!(postcard::from_bytes(&bytes), Ok(stone()));
        for way in [
            TombstoneWay::Udp(address(1)),
            TombstoneWay::Tcp(address(1)),
            TombstoneWay::Tls(address(1)),
        ] {
            let bytes = postcard::to_stdvec(&way).expect("a value");
            let number = match way {
                TombstoneWay::Udp(_) => 1,
                TombstoneWay::Tcp(_) => 3,
                TombstoneWay::Tls(_) => 4,
                _ => 0,
            };
            assert_eq!(bytes, [&[number, 0, 10, 0, 0, 1, 0xc4, 0x27][..]].concat());
        }
    }

    const GOLDEN: &str = "070900010800010500000005616c696365010175022b31022b310670686f6e657301034f6e6506494e56495445010005616c696365010175010001000a000002016c01026331016c01720f3c7369703a6140783e3b7461673d6c0f3c7369703a6240793e3b7461673d720e7369703a624031302e302e302e32010a3c7369703a703b6c723eac02010200010101000101740202000a000002c427000a00000101000a000002016c01026332016c01720f3c7369703a6140783e3b7461673d6c0f3c7369703a6240793e3b7461673d720e7369703a624031302e302e302e32010a3c7369703a703b6c723eac02010202000a000002c427000a0000010263320100";

    #[test]
    fn a_call_that_is_made_of_it_has_all_of_it() {
        let call = CallSnapshot::from(stone());
        assert!(!call.is_settled());
        assert_eq!(Tombstone::from(&call), stone());
    }
}
