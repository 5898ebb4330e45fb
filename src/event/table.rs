//! The table of events: each row is everything that is reported of one.

use super::phrases::{answerer, ended, input_of, listed};
use super::rows::events;
use super::{CallerIdentity, Counted, Data, EventKind, Level, LostBy, UnregisterReason};
use crate::cdr::{Cdr, Interruption, NodeChange, Party};
use crate::errors::Code;
use crate::ids::CallId;
use crate::log_limit::LineClass;
use crate::media::Statistics;
use crate::printable::brief;
use serde_json::json;
use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

events! {
    Registered { user: String, flows: usize, user_agent: String } {
        call: None, level: Info, code: Code::FINE,
        class: Some(LineClass::of("registered", Code::FINE, user)),
        api: {
            EventKind::RegistrationAdded => Data::Json(json!({
                "user": user, "flows": flows, "user_agent": user_agent
            }))
        },
        counted: Counted::Nothing,
        text(f): {
            write!(f, "{user} registered, {flows} flow(s)")?;
            if user_agent.is_empty() { Ok(()) } else { write!(f, ", {}", brief(user_agent)) }
        },
    }

    Unregistered { user: String, why: UnregisterReason } {
        call: None, level: Info, code: Code::FINE,
        class: Some(LineClass::of("unregistered", Code::FINE, user)),
        api: {
            EventKind::RegistrationRemoved => Data::Json(
                json!({ "user": user, "why": why.as_str() })
            )
        },
        counted: match why {
            UnregisterReason::Closed => Counted::FlowLost(LostBy::Closed),
            UnregisterReason::Expired => Counted::FlowLost(LostBy::Expired),
            UnregisterReason::Asked => Counted::Nothing,
        },
        text(f): write!(f, "{user} unregistered: {}", why.as_str()),
    }

    /// Nobody could say whether a login is right.
    LoginUnchecked { what: &'static str, why: String } {
        call: None, level: Warn, code: Code::LOGIN_UNCHECKED,
        class: Some(LineClass::new("logins not checked", Code::LOGIN_UNCHECKED)),
        api: {},
        counted: Counted::Nothing,
        text(f): write!(f, "logins cannot be checked: {what}: {}", brief(why)),
    }

    LoginRefused { user: String, remote: SocketAddr, code: Code, why: String } {
        call: None, level: Warn, code: *code,
        class: Some(LineClass::new("logins refused", *code)),
        api: {
            EventKind::LoginRefused => Data::Json(json!({
                "user": user, "remote": remote.to_string(), "code": code.to_string(), "why": why
            }))
        },
        counted: Counted::LoginRefused,
        text(f): write!(
            f, "login refused for {} from {remote}: {}", brief(user), brief(why)
        ),
    }

    /// The brake on toll fraud holds a user; once an hour.
    FraudBraked { user: String, why: String } {
        call: None, level: Warn, code: Code::FRAUD,
        class: Some(LineClass::of("users braked", Code::FRAUD, user)),
        api: {
            EventKind::FraudBraked => Data::Json(json!({
                "user": user, "code": Code::FRAUD.to_string(), "why": why
            }))
        },
        counted: Counted::Nothing,
        text(f): write!(f, "{} may have lost its password: {}", brief(user), brief(why)),
    }

    CallStarted {
        call: CallId,
        from: Party,
        caller: CallerIdentity,
        number: String,
        route: String,
    } {
        call: Some(*call), level: Info, code: Code::FINE,
        class: None,
        api: {
            EventKind::CallStarted => Data::Json(json!({
                "call": call.to_string(), "from": from.to_string(), "from_number": caller.number,
                "from_name": caller.name, "to": number, "route": route
            }))
        },
        counted: Counted::Nothing,
        text(f): write!(
            f, "{} → {}  route {route:?}", caller.of(from), brief(number)
        ),
    }

    /// An INVITE became no call; `status` is that of its response. Unless it is `told`, it is one
    /// of too many, and counted only.
    CallRefused {
        call: CallId,
        from: Party,
        caller: CallerIdentity,
        to: String,
        status: u16,
        code: Code,
        why: String,
        told: bool,
    } {
        call: Some(*call), level: Warn, code: code.or(Code::REFUSED),
        class: Some(LineClass::of("calls refused", code.or(Code::REFUSED), &from.as_caller())),
        api: {
            EventKind::CallRefused => Data::Json(json!({
                "call": call.to_string(), "from": from.to_string(), "from_number": caller.number,
                "from_name": caller.name, "to": to, "sip_code": status,
                "code": code.or(Code::REFUSED).to_string(), "why": why
            }))
        },
        counted: Counted::CallRefused(code.or(Code::REFUSED)),
        text(f): write!(
            f, "{} → {} refused {status}: {}",
            caller.of(from), brief(to), brief(why)
        ),
    }

    CallRinging { call: CallId } {
        call: Some(*call), level: Debug, code: Code::FINE,
        class: None,
        api: { EventKind::CallRinging => Data::Json(json!({ "call": call.to_string() })) },
        counted: Counted::Nothing,
        text(f): write!(f, "rings"),
    }

    /// An end's figures, every few seconds; `leg` is "a" or "b".
    Quality { call: CallId, leg: &'static str, figures: Box<Statistics> } {
        call: Some(*call), level: Debug, code: Code::FINE,
        class: None,
        api: {
            EventKind::CallQuality => Data::Json(json!({
                "call": call.to_string(),
                "leg": leg,
                "codec": figures.codec,
                "mos_estimated": figures.mos.0,
                "packets_in": figures.received,
                "packets_lost": figures.packets_lost(),
                "packets_out": figures.sent,
                "jitter_ms": figures.jitter.map(|j| j.as_millis() as u64),
                "rtt_ms": figures.round_trip.map(|r| r.as_millis() as u64),
                "sounding": figures.non_silent_packets,
            }))
        },
        counted: Counted::Nothing,
        text(f): write!(
            f, "leg {leg}: {} packets in, {} lost, {} out",
            figures.received, figures.lost, figures.sent
        ),
    }

    /// `by` is `None` for a far end of our own; `after` the INVITE.
    CallAnswered {
        call: CallId,
        by: Option<Party>,
        after: Duration,
        codecs: (&'static str, &'static str),
    } {
        call: Some(*call), level: Info, code: Code::FINE,
        class: None,
        api: {
            EventKind::CallAnswered => Data::Json(json!({
                "call": call.to_string(), "by": answerer(by.as_ref()),
                "after_ms": after.as_millis() as u64, "codecs": [codecs.0, codecs.1]
            }))
        },
        counted: Counted::Nothing,
        text(f): write!(
            f, "answered by {} after {:.1} s  {} ↔ {}",
            answerer(by.as_ref()), after.as_secs_f32(), codecs.0, codecs.1
        ),
    }

    CallEnded { cdr: Arc<Cdr> } {
        call: Some(cdr.call), level: Info,
        code: cdr.fault().map_or(Code::FINE, |verdict| verdict.code),
        class: None,
        api: { EventKind::CallEnded => Data::Record(cdr) },
        counted: Counted::CallEnded(cdr),
        text(f): ended(cdr, f),
    }

    /// A try led nowhere; `status` is that of the peer, or ours if it gave none.
    BranchFailed { call: CallId, target: Party, status: u16, code: Code, why: String } {
        call: Some(*call), level: Info, code: code.or(Code::TARGET_FAILED),
        class: None,
        api: { EventKind::CallWarning => Data::Warning },
        counted: Counted::Nothing,
        text(f): write!(
            f, "{} failed with {status}: {}", target.as_callee(), brief(why)
        ),
    }

    Redirected { call: CallId, by: Party, to: String } {
        call: Some(*call), level: Info, code: Code::FINE,
        class: None,
        api: {},
        counted: Counted::Nothing,
        text(f): write!(f, "{} redirected it to {}", by.as_callee(), brief(to)),
    }

    Transferring { call: CallId, by: Party, to: String } {
        call: Some(*call), level: Info, code: Code::FINE,
        class: None,
        api: {},
        counted: Counted::Nothing,
        text(f): write!(f, "{by} transfers it to {}", brief(to)),
    }

    TransferFailed { call: CallId, status: u16, why: String } {
        call: Some(*call), level: Info, code: Code::TRANSFER_FAILED,
        class: None,
        api: { EventKind::CallWarning => Data::Warning },
        counted: Counted::Nothing,
        text(f): write!(
            f, "transfer failed with {status}, the call continues: {}", brief(why)
        ),
    }

    /// `after` it was down; `None` if it is up for the first time.
    TrunkUp { trunk: String, after: Option<Duration> } {
        call: None, level: Info, code: Code::FINE,
        class: None,
        api: { EventKind::TrunkUp => Data::Json(json!({ "trunk": trunk })) },
        counted: Counted::Nothing,
        text(f): match after {
            None => write!(f, "trunk {trunk} up"),
            Some(after) => write!(f, "trunk {trunk} up again after {} s", after.as_secs()),
        },
    }

    TrunkDown { trunk: String, why: String } {
        call: None, level: Warn, code: Code::TRUNK_DOWN,
        class: None,
        api: {
            EventKind::TrunkDown => Data::Json(json!({
                "trunk": trunk, "why": why, "code": Code::TRUNK_DOWN.to_string()
            }))
        },
        counted: Counted::Nothing,
        text(f): write!(f, "trunk {trunk} down, its calls go to the next: {}", brief(why)),
    }

    TrunkSwitched { trunk: String, enabled: bool } {
        call: None, level: Info, code: Code::FINE,
        class: None,
        api: {
            if *enabled { EventKind::TrunkUp } else { EventKind::TrunkDown } => Data::Json(json!({
                "trunk": trunk, "by": "operator"
            }))
        },
        counted: Counted::Nothing,
        text(f): {
            let now = if *enabled { "enabled" } else { "disabled" };
            write!(f, "trunk {trunk} {now} by an operator")
        },
    }

    /// `expires` is in seconds.
    TrunkRegistered { trunk: String, registrar: String, expires: u32 } {
        call: None, level: Info, code: Code::FINE,
        class: None,
        api: {},
        counted: Counted::Nothing,
        text(f): write!(f, "trunk {trunk} registered with {registrar} for {expires} s"),
    }

    TrunkNotRegistered { trunk: String, why: String, again_in: Duration } {
        call: None, level: Warn, code: Code::NOT_REGISTERED_WITH,
        class: None,
        api: {},
        counted: Counted::Nothing,
        text(f): write!(
            f, "trunk {trunk} is not registered, next try in {} s: {}",
            again_in.as_secs(), brief(why)
        ),
    }

    /// A trunk registered here; `expires` is in seconds.
    TrunkArrived { trunk: String, remote: SocketAddr, expires: u32 } {
        call: None, level: Info, code: Code::FINE,
        class: Some(LineClass::of("registered", Code::FINE, trunk)),
        api: {},
        counted: Counted::Nothing,
        text(f): write!(f, "trunk {trunk} registered here from {remote} for {expires} s"),
    }

    /// The registration of a trunk here ended.
    TrunkGone { trunk: String } {
        call: None, level: Info, code: Code::FINE,
        class: Some(LineClass::of("unregistered", Code::FINE, trunk)),
        api: {},
        counted: Counted::Nothing,
        text(f): write!(f, "trunk {trunk} unregistered"),
    }

    /// A connection to a trunk is open and answers nothing.
    Wedged { trunk: String, hop: String } {
        call: None, level: Warn, code: Code::WEDGED,
        class: None,
        api: {},
        counted: Counted::Nothing,
        text(f): write!(
            f,
            "trunk {trunk}: the connection {hop} stands but answers nothing, a new one is opened"
        ),
    }

    /// `limit` is the trunk's `max_calls`.
    TrunkFull { call: CallId, trunk: String, limit: usize } {
        call: Some(*call), level: Warn, code: Code::TRUNK_FULL,
        class: None,
        api: { EventKind::CallWarning => Data::Warning },
        counted: Counted::Nothing,
        text(f): write!(f, "skips trunk {trunk}: it has its {limit} calls"),
    }

    /// Another node of the cluster has a lease.
    NodeUp { node: String } {
        call: None, level: Info, code: Code::FINE,
        class: Some(LineClass::of("node up", Code::FINE, node)),
        api: { EventKind::NodeUp => Data::Json(json!({ "node": node })) },
        counted: Counted::Nothing,
        text(f): write!(f, "node {node} is there"),
    }

    NodeDown { node: String } {
        call: None, level: Warn, code: Code::NODE_AWAY,
        class: Some(LineClass::of("node down", Code::NODE_AWAY, node)),
        api: { EventKind::NodeDown => Data::Json(json!({ "node": node })) },
        counted: Counted::Nothing,
        text(f): write!(f, "node {node} is gone: its lease was not renewed"),
    }

    StoreAway { why: String } {
        call: None, level: Warn, code: Code::STORE_AWAY,
        class: Some(LineClass::new("store away", Code::STORE_AWAY)),
        api: { EventKind::StoreAway => Data::Json(json!({ "why": why })) },
        counted: Counted::Nothing,
        text(f): write!(f, "the store of the cluster is away: {}", brief(why)),
    }

    StoreBack { away: Duration } {
        call: None, level: Info, code: Code::FINE,
        class: Some(LineClass::new("store back", Code::FINE)),
        api: { EventKind::StoreBack => Data::Json(json!({ "away_s": away.as_secs() })) },
        counted: Counted::Nothing,
        text(f): write!(f, "the store of the cluster is back after {} s", away.as_secs()),
    }

    /// Another process has this node's name, so it does not join.
    NodeNameTaken { node: String, by: String } {
        call: None, level: Error, code: Code::NODE_NAME,
        class: Some(LineClass::new("name taken", Code::NODE_NAME)),
        api: {},
        counted: Counted::Nothing,
        text(f): write!(f, "this node does not join: another process, at {by}, is node {node}"),
    }

    ClockSkew { seconds: u64 } {
        call: None, level: Warn, code: Code::CLOCK,
        class: Some(LineClass::new("clock", Code::CLOCK)),
        api: {},
        counted: Counted::Nothing,
        text(f): write!(f, "this machine's clock is {seconds} s from the store's"),
    }

    OtherClusterKey { node: String } {
        call: None, level: Warn, code: Code::CLUSTER_KEY,
        class: Some(LineClass::new("other key", Code::CLUSTER_KEY)),
        api: {},
        counted: Counted::Nothing,
        text(f): write!(f, "node {} has another cluster.key, or is of another cluster", brief(node)),
    }

    /// A token that is good for one login was used at another node too, while the store was away.
    TokenUsedTwice { user: String } {
        call: None, level: Warn, code: Code::TOKEN_TWICE,
        class: Some(LineClass::new("token used twice", Code::TOKEN_TWICE)),
        api: {},
        counted: Counted::Nothing,
        text(f): write!(
            f, "the token of {} was used at another node too, while the store was away", brief(user)
        ),
    }

    /// This node was away for so long that another continued with its calls.
    NodeDeposed { by: String } {
        call: None, level: Warn, code: Code::DEPOSED,
        class: Some(LineClass::new("deposed", Code::DEPOSED)),
        api: {},
        counted: Counted::Nothing,
        text(f): write!(f, "node {by} took this node's calls over while it was away"),
    }

    /// This node continues with the calls of one that is gone.
    NodeTakenOver { node: String, calls: usize, ended: usize } {
        call: None, level: Warn, code: Code::NODE_LOST,
        class: Some(LineClass::of("taken over", Code::NODE_LOST, node)),
        api: {
            EventKind::NodeTakenOver => Data::Json(
                json!({ "node": node, "calls": calls, "ended": ended })
            )
        },
        counted: Counted::Nothing,
        text(f): write!(
            f, "node {node} was lost: {calls} of its calls continue here, {ended} ended"
        ),
    }

    /// A `ring` step found no phone to ring.
    NobodyThere { call: CallId, code: Code, why: String } {
        call: Some(*call), level: Info, code: *code,
        class: None,
        api: {},
        counted: Counted::Nothing,
        text(f): write!(f, "ring: {}", brief(why)),
    }

    /// A message of a peer that was not used.
    Unreadable { call: CallId, why: String } {
        call: Some(*call), level: Warn, code: Code::UNREADABLE,
        class: Some(LineClass::new("messages dropped", Code::UNREADABLE)),
        api: {},
        counted: Counted::Nothing,
        text(f): write!(f, "dropped: {}", brief(why)),
    }

    EarlyMediaUnusable { call: CallId, why: String } {
        call: Some(*call), level: Info, code: Code::FINE,
        class: Some(LineClass::new("early media that cannot be used", Code::FINE)),
        api: {},
        counted: Counted::Nothing,
        text(f): write!(f, "early media cannot be used: {}", brief(why)),
    }

    /// A step of the route is not for what came of the one before.
    StepSkipped { call: CallId, step: String, outcomes: String } {
        call: Some(*call), level: Info, code: Code::FINE,
        class: None,
        api: {},
        counted: Counted::Nothing,
        text(f): if outcomes.is_empty() {
            write!(f, "skips the step \"{step}\": nothing was rung or dialled before it")
        } else {
            write!(f, "skips the step \"{step}\", which is not for what came before: {outcomes}")
        },
    }

    /// A step that was under way when another process had the call.
    StepRepeated { call: CallId, step: String } {
        call: Some(*call), level: Info, code: Code::FINE,
        class: None,
        api: {},
        counted: Counted::Nothing,
        text(f): write!(f, "takes the step \"{step}\" again"),
    }

    WebhookFailed { call: CallId, why: String } {
        call: Some(*call), level: Warn, code: Code::WEBHOOK,
        class: None,
        api: { EventKind::CallWarning => Data::Warning },
        counted: Counted::Nothing,
        text(f): write!(
            f, "the webhook did not route it, the next step does: {}", brief(why)
        ),
    }

    /// Nothing comes from `who`, though the other side sends.
    OneWay { call: CallId, who: Party } {
        call: Some(*call), level: Warn, code: Code::TRUNK_SILENT,
        class: None,
        api: { EventKind::CallWarning => Data::Warning },
        counted: Counted::OneWay { trunk: who.trunk().is_some() },
        text(f): write!(
            f, "one-way audio: nothing has come from {}, though the other side sends",
            brief(&who.to_string())
        ),
    }

    /// An operator ended it.
    Kicked { call: CallId } {
        call: Some(*call), level: Info, code: Code::KICKED,
        class: None,
        api: {},
        counted: Counted::Nothing,
        text(f): write!(f, "ended by an operator"),
    }

    MediaPanicked { call: CallId } {
        call: Some(*call), level: Error, code: Code::MEDIA_BUG,
        class: None,
        api: { EventKind::CallWarning => Data::Warning },
        counted: Counted::Nothing,
        text(f): write!(f, "lost its media to a bug; other calls continue"),
    }

    CallPanicked { call: CallId } {
        call: Some(*call), level: Error, code: Code::CALL_BUG,
        class: None,
        api: { EventKind::CallWarning => Data::Warning },
        counted: Counted::Nothing,
        text(f): write!(f, "was ended by a bug; other calls continue"),
    }

    /// What came, `from` there if from a network, was not done.
    InputPanicked { from: Option<std::net::SocketAddr> } {
        call: None, level: Error, code: Code::INPUT_BUG,
        class: Some(LineClass::new("inputs that met a bug", Code::INPUT_BUG)),
        api: {},
        counted: Counted::Nothing,
        text(f): write!(f, "a bug kept {} from being done", input_of(*from)),
    }

    /// The gateway was started again, and the call continues after a `gap` without media.
    CallInterrupted { call: CallId, gap: Duration, node: Option<NodeChange> } {
        call: Some(*call), level: Info, code: Code::FINE,
        class: None,
        api: {},
        counted: Counted::Nothing,
        text(f): f.write_str(&Interruption::describe(node.as_ref(), *gap)),
    }

    /// A page that was reloaded, or another page of its account, has taken its call up again.
    PageReplaced { call: CallId, who: Party } {
        call: Some(*call), level: Info, code: Code::FINE,
        class: None,
        api: {},
        counted: Counted::Nothing,
        text(f): write!(f, "{} took the call up again from another page", brief(&who.to_string())),
    }

    /// `calls` are in progress.
    Draining { calls: usize } {
        call: None, level: Info, code: Code::FINE,
        class: None,
        api: { EventKind::DrainStarted => Data::Json(json!({ "calls": calls })) },
        counted: Counted::Nothing,
        text(f): write!(f, "draining: no new calls, {calls} in progress"),
    }

    /// An operator ended a drain.
    DrainEnded {} {
        call: None, level: Info, code: Code::FINE,
        class: None,
        api: { EventKind::DrainFinished => Data::Json(json!({ "cancelled": true })) },
        counted: Counted::Nothing,
        text(f): write!(f, "draining is over: new calls are taken again"),
    }

    Reloaded { changes: String } {
        call: None, level: Info, code: Code::FINE,
        class: None,
        api: { EventKind::ConfigReloaded => Data::Json(json!({ "changes": changes })) },
        counted: Counted::Nothing,
        text(f): write!(f, "configuration reloaded: {changes}"),
    }

    /// The public addresses have changed; new calls use those of `now`.
    AddressesChanged { before: Vec<IpAddr>, now: Vec<IpAddr>, why: &'static str } {
        call: None, level: Info, code: Code::FINE,
        class: None,
        api: {
            EventKind::AddressesChanged => Data::Json(json!({
                "before": before, "now": now, "found_by": why
            }))
        },
        counted: Counted::Nothing,
        text(f): write!(
            f, "the public address is {} by {why}, it was {}; new calls use it",
            listed(now), listed(before)
        ),
    }

    /// A message was dropped without an answer.
    Dropped { why: &'static str, remote: Option<SocketAddr> } {
        call: None, level: Debug, code: Code::FINE,
        class: None,
        api: {},
        counted: Counted::Nothing,
        text(f): match remote {
            Some(remote) => write!(f, "dropped from {remote}: {why}"),
            None => write!(f, "dropped: {why}"),
        },
    }
}
