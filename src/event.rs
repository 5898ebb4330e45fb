//! Telling: one noteworthy event is one log line, said in one place. No SIP message, no DTMF digit,
//! no secret.

use crate::cdr::{Cdr, HangupBy};
use crate::errors::Code;
use crate::ids::CallId;
use crate::log_limit::Class;
pub(crate) use crate::log_limit::Level;
use crate::media::Statistics;
use crate::printable::brief;
use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, error, info, warn};

/// Why a registration ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnregisterReason {
    /// Its connection closed.
    Closed,
    /// It was not refreshed.
    Expired,
    /// It said so.
    Asked,
}

impl UnregisterReason {
    /// For a reader.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            UnregisterReason::Closed => "its connection closed",
            UnregisterReason::Expired => "its registration ran out",
            UnregisterReason::Asked => "it asked for it",
        }
    }
}

/// The number and the name of a caller; either may be empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CallerIdentity {
    pub number: String,
    pub name: String,
}

impl CallerIdentity {
    /// Those of a record.
    pub(crate) fn recorded(cdr: &Cdr) -> CallerIdentity {
        CallerIdentity { number: cdr.from_number.clone(), name: cdr.from_name.clone() }
    }

    /// `alice (+12065550100 "Alice")`: who calls, and what is known of them beyond that.
    fn of<'a>(&'a self, from: &'a str) -> Named<'a> {
        Named { from, number: &self.number, name: &self.name }
    }
}

struct Named<'a> {
    from: &'a str,
    number: &'a str,
    name: &'a str,
}

impl Display for Named<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", brief(self.from))?;
        let number = Some(self.number).filter(|n| !n.is_empty() && *n != self.from);
        match (number, self.name) {
            (None, "") => Ok(()),
            (None, name) => write!(f, " (\"{}\")", brief(name)),
            (Some(number), "") => write!(f, " ({})", brief(number)),
            (Some(number), name) => write!(f, " ({} \"{}\")", brief(number), brief(name)),
        }
    }
}

/// Something worth a line.
#[derive(Debug)]
pub enum Event {
    Registered {
        user: String,
        flows: usize,
        user_agent: String,
    },
    Unregistered {
        user: String,
        why: UnregisterReason,
    },
    /// Nobody could say whether a login is right.
    LoginUnchecked {
        what: &'static str,
        why: String,
    },
    LoginRefused {
        user: String,
        remote: SocketAddr,
        code: Code,
        why: String,
    },
    /// The brake on toll fraud holds a user; once an hour.
    FraudBraked {
        user: String,
        why: String,
    },
    CallStarted {
        call: CallId,
        from: String,
        caller: CallerIdentity,
        number: String,
        route: String,
    },
    CallRefused {
        call: CallId,
        from: String,
        caller: CallerIdentity,
        to: String,
        status: u16,
        code: Code,
        why: String,
    },
    CallRinging {
        call: CallId,
    },
    /// An end's figures, every few seconds; `leg` is "a" or "b".
    Quality {
        call: CallId,
        leg: &'static str,
        figures: Box<Statistics>,
    },
    CallAnswered {
        call: CallId,
        by: String,
        after: Duration,
        codecs: (&'static str, &'static str),
    },
    CallEnded(Arc<Cdr>),
    BranchFailed {
        call: CallId,
        target: String,
        status: u16,
        code: Code,
        why: String,
    },
    Redirected {
        call: CallId,
        by: String,
        to: String,
    },
    Transferring {
        call: CallId,
        by: String,
        to: String,
    },
    TransferFailed {
        call: CallId,
        status: u16,
        why: String,
    },
    TrunkUp {
        trunk: String,
        after: Option<Duration>,
    },
    TrunkDown {
        trunk: String,
        why: String,
    },
    TrunkSwitched {
        trunk: String,
        enabled: bool,
    },
    TrunkRegistered {
        trunk: String,
        registrar: String,
        expires: u32,
    },
    TrunkNotRegistered {
        trunk: String,
        why: String,
        again_in: Duration,
    },
    TrunkArrived {
        trunk: String,
        remote: SocketAddr,
        expires: u32,
    },
    TrunkGone {
        trunk: String,
    },
    Wedged {
        trunk: String,
        hop: String,
    },
    TrunkFull {
        call: CallId,
        trunk: String,
        limit: usize,
    },
    /// A `ring` step found no phone to ring.
    NobodyThere {
        call: CallId,
        why: String,
    },
    /// A message of a peer that was not used.
    Unreadable {
        call: CallId,
        why: String,
    },
    EarlyMediaUnusable {
        call: CallId,
        why: String,
    },
    /// A step of the route is not for what came of the one before.
    StepSkipped {
        call: CallId,
        step: String,
        outcomes: String,
    },
    WebhookFailed {
        call: CallId,
        why: String,
    },
    OneWay {
        call: CallId,
        who: String,
    },
    Kicked {
        call: CallId,
    },
    MediaPanicked {
        call: CallId,
    },
    CallPanicked {
        call: CallId,
    },
    Draining {
        calls: usize,
    },
    DrainEnded,
    Reloaded {
        changes: String,
    },
    /// The public addresses are others than before; new calls use them.
    AddressesChanged {
        before: Vec<IpAddr>,
        now: Vec<IpAddr>,
        why: &'static str,
    },
    Dropped {
        why: &'static str,
        remote: Option<SocketAddr>,
    },
}

fn listed(ips: &[IpAddr]) -> String {
    ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The text of its line.
impl Display for Event {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Event::Registered { user, flows, user_agent } => {
                write!(f, "{user} registered, {flows} flow(s), {}", brief(user_agent))
            }
            Event::Unregistered { user, why } => write!(f, "{user} unregistered: {}", why.as_str()),
            Event::LoginRefused { user, remote, why, .. } => {
                write!(f, "login refused for {} from {remote}: {}", brief(user), brief(why))
            }
            Event::LoginUnchecked { what, why } => {
                write!(f, "logins cannot be checked: {what}: {}", brief(why))
            }
            Event::FraudBraked { user, why } => {
                write!(f, "{} may have lost its password: {}", brief(user), brief(why))
            }
            Event::CallStarted { from, caller, number, route, .. } => {
                let from = caller.of(from);
                write!(f, "{from} → {}  route {route:?}", brief(number))
            }
            Event::CallRefused { from, caller, to, status, why, .. } => {
                let from = caller.of(from);
                write!(f, "{from} → {} refused {status}: {}", brief(to), brief(why))
            }
            Event::CallAnswered { by, after, codecs, .. } => write!(
                f,
                "answered by {by} after {:.1} s  {} ↔ {}",
                after.as_secs_f32(),
                codecs.0,
                codecs.1
            ),
            Event::CallRinging { .. } => write!(f, "rings"),
            Event::Quality { leg, figures, .. } => write!(
                f,
                "leg {leg}: {} packets in, {} lost, {} out",
                figures.received, figures.lost, figures.sent
            ),
            Event::CallEnded(cdr) => ended(cdr, f),
            Event::BranchFailed { target, status, why, .. } => {
                write!(f, "{target} failed with {status}: {}", brief(why))
            }
            Event::Redirected { by, to, .. } => {
                write!(f, "{by} redirected it to {}", brief(to))
            }
            Event::Transferring { by, to, .. } => {
                write!(f, "{by} transfers it to {}", brief(to))
            }
            Event::TransferFailed { status, why, .. } => {
                write!(f, "transfer failed with {status}, the call goes on: {}", brief(why))
            }
            _ => self.trunk_line(f),
        }
    }
}

/// The text of its line, by topic: each hands on what is not its own.
impl Event {
    fn trunk_line(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Event::TrunkUp { trunk, after: None } => write!(f, "trunk {trunk} up"),
            Event::TrunkUp { trunk, after: Some(after) } => {
                write!(f, "trunk {trunk} up again after {} s", after.as_secs())
            }
            Event::TrunkDown { trunk, why } => {
                write!(f, "trunk {trunk} down, its calls go to the next: {}", brief(why))
            }
            Event::TrunkSwitched { trunk, enabled } => write!(
                f,
                "trunk {trunk} {} by an operator",
                if *enabled { "enabled" } else { "disabled" }
            ),
            Event::TrunkRegistered { trunk, registrar, expires } => {
                write!(f, "trunk {trunk} registered with {registrar} for {expires} s")
            }
            Event::TrunkNotRegistered { trunk, why, again_in } => write!(
                f,
                "trunk {trunk} is not registered, next try in {} s: {}",
                again_in.as_secs(),
                brief(why)
            ),
            Event::TrunkArrived { trunk, remote, expires } => {
                write!(f, "trunk {trunk} registered here from {remote} for {expires} s")
            }
            Event::TrunkGone { trunk } => write!(f, "trunk {trunk} unregistered"),
            Event::Wedged { trunk, hop } => write!(
                f,
                "trunk {trunk}: the connection {hop} stands but answers nothing, a new one is opened"
            ),
            _ => self.trouble_line(f),
        }
    }

    /// What went wrong with a call, or was skipped.
    fn trouble_line(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Event::TrunkFull { trunk, limit, .. } => {
                write!(f, "skips trunk {trunk}: it has its {limit} calls")
            }
            Event::NobodyThere { why, .. } => write!(f, "ring: {}", brief(why)),
            Event::Unreadable { why, .. } => write!(f, "dropped: {}", brief(why)),
            Event::EarlyMediaUnusable { why, .. } => {
                write!(f, "early media cannot be used: {}", brief(why))
            }
            Event::StepSkipped { step, outcomes, .. } if outcomes.is_empty() => {
                write!(f, "skips the step \"{step}\": nothing was rung or dialled before it")
            }
            Event::StepSkipped { step, outcomes, .. } => {
                write!(
                    f,
                    "skips the step \"{step}\", which is not for what came before: {outcomes}"
                )
            }
            Event::WebhookFailed { why, .. } => {
                write!(f, "the webhook did not route it, the next step does: {}", brief(why))
            }
            Event::OneWay { who, .. } => write!(
                f,
                "one-way audio: nothing has come from {}, though the other side sends",
                brief(who)
            ),
            Event::Kicked { .. } => write!(f, "ended by an operator"),
            Event::MediaPanicked { .. } => write!(f, "lost its media to a bug; other calls go on"),
            Event::CallPanicked { .. } => write!(f, "was ended by a bug; other calls go on"),
            _ => self.node_line(f),
        }
    }

    /// The gateway itself. Last, so it names every event: none is without a line.
    fn node_line(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Event::Draining { calls } => write!(f, "draining: no new calls, {calls} in progress"),
            Event::DrainEnded => write!(f, "draining is over: new calls are taken again"),
            Event::Reloaded { changes } => write!(f, "configuration reloaded: {changes}"),
            Event::AddressesChanged { before, now, why } => write!(
                f,
                "the public address is {} by {why}, it was {}; new calls use it",
                listed(now),
                listed(before)
            ),
            Event::Dropped { why, remote: Some(remote) } => {
                write!(f, "dropped from {remote}: {why}")
            }
            Event::Dropped { why, remote: None } => write!(f, "dropped: {why}"),
            // Those have theirs above.
            Event::Registered { .. }
            | Event::Unregistered { .. }
            | Event::LoginRefused { .. }
            | Event::LoginUnchecked { .. }
            | Event::FraudBraked { .. }
            | Event::CallStarted { .. }
            | Event::CallRefused { .. }
            | Event::CallRinging { .. }
            | Event::CallAnswered { .. }
            | Event::CallEnded(_)
            | Event::BranchFailed { .. }
            | Event::Redirected { .. }
            | Event::Transferring { .. }
            | Event::TransferFailed { .. }
            | Event::Quality { .. }
            | Event::TrunkUp { .. }
            | Event::TrunkDown { .. }
            | Event::TrunkSwitched { .. }
            | Event::TrunkRegistered { .. }
            | Event::TrunkNotRegistered { .. }
            | Event::TrunkArrived { .. }
            | Event::TrunkGone { .. }
            | Event::Wedged { .. }
            | Event::TrunkFull { .. }
            | Event::NobodyThere { .. }
            | Event::Unreadable { .. }
            | Event::EarlyMediaUnusable { .. }
            | Event::StepSkipped { .. }
            | Event::WebhookFailed { .. }
            | Event::OneWay { .. }
            | Event::Kicked { .. }
            | Event::MediaPanicked { .. }
            | Event::CallPanicked { .. } => Ok(()),
        }
    }
}

/// `call 7f3a91c2 ` before the text of a line about one; at its end with who called whom, which the
/// ladder need not repeat.
struct OfCall<'a>(&'a Event);

impl Display for OfCall<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(call) = self.0.call() else { return Ok(()) };
        write!(f, "call {call} ")?;
        let Event::CallEnded(cdr) = self.0 else { return Ok(()) };
        let from = Named { from: &cdr.from, number: &cdr.from_number, name: &cdr.from_name };
        let to = if cdr.number.is_empty() { &cdr.dialled } else { &cdr.number };
        write!(f, "{from} → {}  ", brief(to))
    }
}

impl Event {
    /// How loud its line is.
    pub(crate) fn level(&self) -> Level {
        match self {
            Event::CallRinging { .. } | Event::Quality { .. } | Event::Dropped { .. } => {
                Level::Debug
            }
            Event::LoginRefused { .. }
            | Event::LoginUnchecked { .. }
            | Event::FraudBraked { .. }
            | Event::CallRefused { .. }
            | Event::TrunkDown { .. }
            | Event::TrunkNotRegistered { .. } => Level::Warn,
            Event::Wedged { .. }
            | Event::TrunkFull { .. }
            | Event::WebhookFailed { .. }
            | Event::Unreadable { .. }
            | Event::OneWay { .. } => Level::Warn,
            Event::MediaPanicked { .. } | Event::CallPanicked { .. } => Level::Error,
            _ => Level::Info,
        }
    }

    /// Its code in the registry of errors; `FINE` where nothing is wrong.
    pub fn code(&self) -> Code {
        let known = |code: &Code, else_: Code| if code.is_fault() { *code } else { else_ };
        match self {
            Event::LoginRefused { code, .. } => *code,
            Event::LoginUnchecked { .. } => Code::LOGIN_UNCHECKED,
            Event::FraudBraked { .. } => Code::FRAUD,
            Event::CallRefused { code, .. } => known(code, Code::REFUSED),
            Event::BranchFailed { code, .. } => known(code, Code::TARGET_FAILED),
            Event::CallEnded(cdr) => cdr.fault().map_or(Code::FINE, |verdict| verdict.code),
            Event::TransferFailed { .. } => Code::TRANSFER_FAILED,
            Event::TrunkDown { .. } => Code::TRUNK_DOWN,
            Event::TrunkNotRegistered { .. } => Code::NOT_REGISTERED_WITH,
            Event::Wedged { .. } => Code::WEDGED,
            Event::TrunkFull { .. } => Code::TRUNK_FULL,
            Event::WebhookFailed { .. } => Code::WEBHOOK,
            Event::NobodyThere { .. } => Code::NOT_REGISTERED,
            Event::Unreadable { .. } => Code::UNREADABLE,
            Event::OneWay { .. } => Code::TRUNK_SILENT,
            Event::Kicked { .. } => Code::KICKED,
            Event::MediaPanicked { .. } => Code::MEDIA_BUG,
            Event::CallPanicked { .. } => Code::CALL_BUG,
            _ => Code::FINE,
        }
    }

    /// The call it is about.
    pub(crate) fn call(&self) -> Option<CallId> {
        match self {
            Event::CallEnded(cdr) => Some(cdr.call),
            Event::CallStarted { call, .. }
            | Event::CallRefused { call, .. }
            | Event::CallRinging { call }
            | Event::Quality { call, .. } => Some(*call),
            Event::CallAnswered { call, .. }
            | Event::BranchFailed { call, .. }
            | Event::Redirected { call, .. }
            | Event::Transferring { call, .. } => Some(*call),
            Event::TransferFailed { call, .. }
            | Event::TrunkFull { call, .. }
            | Event::NobodyThere { call, .. }
            | Event::Unreadable { call, .. }
            | Event::EarlyMediaUnusable { call, .. }
            | Event::StepSkipped { call, .. }
            | Event::WebhookFailed { call, .. } => Some(*call),
            Event::OneWay { call, .. }
            | Event::Kicked { call }
            | Event::MediaPanicked { call }
            | Event::CallPanicked { call } => Some(*call),
            _ => None,
        }
    }

    /// What it is one of, where somebody outside can cause it again and again: such a line is
    /// written once in ten seconds. `None` for what is told each time.
    pub(crate) fn class(&self) -> Option<Class> {
        let code = self.code();
        Some(match self {
            Event::LoginRefused { .. } => Class::new("logins refused", code),
            Event::LoginUnchecked { .. } => Class::new("logins not checked", code),
            Event::FraudBraked { user, .. } => Class::of("users braked", code, user),
            Event::Registered { user, .. } => Class::of("registered", code, user),
            Event::Unregistered { user, .. } => Class::of("unregistered", code, user),
            Event::CallRefused { from, .. } => Class::of("calls refused", code, from),
            Event::TrunkArrived { trunk, .. } => Class::of("registered", code, trunk),
            Event::TrunkGone { trunk } => Class::of("unregistered", code, trunk),
            Event::Unreadable { .. } => Class::new("messages dropped", code),
            _ => return None,
        })
    }

    /// Writes its line to the log; nothing is formatted that is not written.
    pub(crate) fn log(&self) {
        let call = OfCall(self);
        let code = Some(self.code()).filter(|c| c.is_fault());
        // Who caused it cannot be asked, so the line itself says what helps.
        let fix =
            code.filter(|_| matches!(self, Event::LoginRefused { .. } | Event::FraudBraked { .. }));
        let fix = fix.and_then(|c| Some(c.entry()?.fix.as_str()));
        let code = code.map(|c| c.to_string());
        match self.level() {
            Level::Debug => debug!("{call}{self}"),
            Level::Info => info!(code, "{call}{self}"),
            Level::Warn => warn!(code, fix, "{call}{self}"),
            Level::Error => error!(code, "{call}{self}"),
        }
    }
}

/// What a record says in one line.
fn ended(cdr: &Cdr, f: &mut Formatter<'_>) -> fmt::Result {
    let Some(talked) = cdr.talked() else {
        return write!(f, "not answered ({}): {}", cdr.status, brief(&cdr.why));
    };
    let by = cdr.by.map_or("?", HangupBy::as_str);
    write!(f, "ended by {by}  {:.1} s  {}{}", talked.as_secs_f32(), quality(cdr), brief(&cdr.why))?;
    match cdr.fault().filter(|verdict| verdict.sentence != cdr.why) {
        Some(verdict) => write!(f, "  {}", brief(&verdict.sentence)),
        None => Ok(()),
    }
}

/// The worst of both legs and directions: what the people on the call had to live with.
fn quality(cdr: &Cdr) -> String {
    let known = [&cdr.a, &cdr.b].into_iter().flatten();
    let loss = known
        .filter_map(|s| Some(s.packets_lost()? as f32 / (s.lost + s.received) as f32))
        .max_by(f32::total_cmp);
    let mos = cdr.score().map(|mos| format!("MOS {mos:.1} (estimated)  "));
    let loss = loss.map(|loss| format!("loss {:.1} %  ", 100.0 * loss));
    [mos, loss].into_iter().flatten().collect()
}
