//! Telling: one noteworthy event is one log line, said in one place. No SIP message, no DTMF digit, no secret.

use crate::call::{CallId, Cdr, HangupBy};
use crate::errors::Code;
use crate::media::Statistics;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, error, info, warn};

/// Why a registration ended.
pub const CLOSED: &str = "its connection closed";
pub const EXPIRED: &str = "its registration ran out";
pub const ASKED: &str = "it asked for it";

/// Something worth a line.
#[derive(Debug)]
pub enum Note {
    Registered { user: String, flows: usize, user_agent: String },
    Unregistered { user: String, why: &'static str },
    /// Nobody could say whether a login is right.
    LoginUnchecked { what: &'static str, why: String },
    LoginRefused { user: String, remote: SocketAddr, code: Code, why: String },
    CallStarted { call: CallId, from: String, number: String, route: String },
    CallRefused { call: CallId, from: String, to: String, status: u16, code: Code, why: String },
    CallRinging { call: CallId },
    /// An end's figures, every few seconds; `leg` is "a" or "b".
    Quality { call: CallId, leg: &'static str, figures: Box<Statistics> },
    CallAnswered { call: CallId, by: String, after: Duration, codecs: (&'static str, &'static str) },
    CallEnded(Arc<Cdr>),
    BranchFailed { call: CallId, target: String, status: u16, code: Code, why: String },
    Redirected { call: CallId, by: String, to: String },
    Transferring { call: CallId, by: String, to: String },
    TransferFailed { call: CallId, status: u16, why: String },
    TrunkUp { trunk: String, after: Option<Duration> },
    TrunkDown { trunk: String, why: String },
    TrunkSwitched { trunk: String, enabled: bool },
    TrunkRegistered { trunk: String, registrar: String, expires: u32 },
    TrunkNotRegistered { trunk: String, why: String, again_in: Duration },
    TrunkArrived { trunk: String, remote: SocketAddr, expires: u32 },
    TrunkGone { trunk: String },
    Wedged { trunk: String, hop: String },
    TrunkFull { call: CallId, trunk: String, limit: usize },
    EarlyMediaUnusable { call: CallId, why: String },
    WebhookFailed { call: CallId, why: String },
    OneWay { call: CallId, who: String },
    Kicked { call: CallId },
    MediaPanicked { call: CallId },
    CallPanicked { call: CallId },
    Draining { calls: usize },
    DrainEnded,
    Reloaded { changes: String },
    Dropped { why: &'static str, remote: Option<SocketAddr> },
}

/// How loud a line is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// A log line before it is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    pub level: Level,
    pub code: Code,
    pub call: Option<CallId>,
    pub text: String,
}

impl Line {
    fn of(level: Level, text: String) -> Line {
        Line { level, code: Code::FINE, call: None, text }
    }

    fn info(text: String) -> Line {
        Line::of(Level::Info, text)
    }

    fn warn(code: Code, text: String) -> Line {
        Line { code, ..Line::of(Level::Warn, text) }
    }

    fn code(self, code: Code) -> Line {
        Line { code, ..self }
    }

    fn call(self, call: &CallId) -> Line {
        Line { call: Some(*call), ..self }
    }

    /// Writes it to the log.
    pub fn log(&self) {
        let call = self.call.map(|c| format!("call {c} ")).unwrap_or_default();
        let (text, code) = (&self.text, self.code.is_fault().then(|| self.code.to_string()));
        match self.level {
            Level::Debug => debug!("{call}{text}"),
            Level::Info => info!(code, "{call}{text}"),
            Level::Warn => warn!(code, "{call}{text}"),
            Level::Error => error!(code, "{call}{text}"),
        }
    }
}

impl Note {
    /// The line that says it.
    pub fn line(&self) -> Line {
        match self {
            Note::Registered { user, flows, user_agent } => Line::info(format!("{user} registered, {flows} flow(s), {}", printable(user_agent))),
            Note::Unregistered { user, why } => Line::info(format!("{user} unregistered: {why}")),
            Note::LoginRefused { user, remote, code, why } => Line::warn(*code, format!("login refused for {} from {remote}: {}", printable(user), printable(why))),
            Note::LoginUnchecked { what, why } => Line::warn(Code::LOGIN_UNCHECKED, format!("logins cannot be checked: {what}: {}", printable(why))),
            Note::CallStarted { call, from, number, route } => {
                Line::info(format!("{} → {}  route {route:?}", printable(from), printable(number))).call(call)
            }
            Note::CallRefused { call, from, to, status, code, why } => {
                let code = if code.is_fault() { *code } else { Code::REFUSED };
                Line::warn(code, format!("{} → {} refused {status}: {}", printable(from), printable(to), printable(why))).call(call)
            }
            Note::CallAnswered { call, by, after, codecs } => {
                Line::info(format!("answered by {by} after {:.1} s  {} ↔ {}", after.as_secs_f32(), codecs.0, codecs.1)).call(call)
            }
            Note::CallRinging { call } => Line::of(Level::Debug, "rings".to_owned()).call(call),
            Note::Quality { call, leg, figures } => {
                Line::of(Level::Debug, format!("leg {leg}: {} packets in, {} lost, {} out", figures.received, figures.lost, figures.sent)).call(call)
            }
            Note::CallEnded(cdr) => ended(cdr).call(&cdr.call),
            Note::BranchFailed { call, target, status, code, why } => {
                let code = if code.is_fault() { *code } else { Code::TARGET_FAILED };
                Line::info(format!("{target} failed with {status}: {}", printable(why))).code(code).call(call)
            }
            Note::Redirected { call, by, to } => Line::info(format!("{by} redirected it to {}", printable(to))).call(call),
            Note::Transferring { call, by, to } => Line::info(format!("{by} transfers it to {}", printable(to))).call(call),
            Note::TransferFailed { call, status, why } => {
                Line::info(format!("transfer failed with {status}, the call goes on: {}", printable(why))).code(Code::TRANSFER_FAILED).call(call)
            }
            Note::TrunkUp { trunk, after: None } => Line::info(format!("trunk {trunk} up")),
            Note::TrunkUp { trunk, after: Some(after) } => Line::info(format!("trunk {trunk} up again after {} s", after.as_secs())),
            Note::TrunkDown { trunk, why } => Line::warn(Code::TRUNK_DOWN, format!("trunk {trunk} down, its calls go to the next: {}", printable(why))),
            Note::TrunkSwitched { trunk, enabled } => Line::info(format!("trunk {trunk} {} by an operator", if *enabled { "enabled" } else { "disabled" })),
            Note::TrunkRegistered { trunk, registrar, expires } => Line::info(format!("trunk {trunk} registered with {registrar} for {expires} s")),
            Note::TrunkNotRegistered { trunk, why, again_in } => {
                Line::warn(Code::NOT_REGISTERED_WITH, format!("trunk {trunk} is not registered, next try in {} s: {}", again_in.as_secs(), printable(why)))
            }
            Note::TrunkArrived { trunk, remote, expires } => Line::info(format!("trunk {trunk} registered here from {remote} for {expires} s")),
            Note::TrunkGone { trunk } => Line::info(format!("trunk {trunk} unregistered")),
            Note::Wedged { trunk, hop } => Line::warn(Code::WEDGED, format!("trunk {trunk}: the connection {hop} stands but answers nothing, a new one is opened")),
            Note::TrunkFull { call, trunk, limit } => Line::warn(Code::TRUNK_FULL, format!("skips trunk {trunk}: it has its {limit} calls")).call(call),
            Note::EarlyMediaUnusable { call, why } => Line::info(format!("early media cannot be used: {}", printable(why))).call(call),
            Note::WebhookFailed { call, why } => Line::warn(Code::WEBHOOK, format!("the webhook did not route it, the next step does: {}", printable(why))).call(call),
            Note::OneWay { call, who } => Line::warn(Code::TRUNK_SILENT, format!("one-way audio: nothing from {} for 5 s, though the other side sends", printable(who))).call(call),
            Note::Kicked { call } => Line::info("ended by an operator".to_owned()).code(Code::KICKED).call(call),
            Note::MediaPanicked { call } => Line::of(Level::Error, "lost its media to a bug; other calls go on".to_owned()).code(Code::MEDIA_BUG).call(call),
            Note::CallPanicked { call } => Line::of(Level::Error, "was ended by a bug; other calls go on".to_owned()).code(Code::CALL_BUG).call(call),
            Note::Draining { calls } => Line::info(format!("draining: no new calls, {calls} in progress")),
            Note::DrainEnded => Line::info("draining is over: new calls are taken again".to_owned()),
            Note::Reloaded { changes } => Line::info(format!("configuration reloaded: {changes}")),
            Note::Dropped { why, remote } => Line::of(Level::Debug, match remote {
                Some(remote) => format!("dropped from {remote}: {why}"),
                None => format!("dropped: {why}"),
            }),
        }
    }
}

fn ended(cdr: &Cdr) -> Line {
    let by = cdr.by.map_or("?", HangupBy::as_str);
    let talked = cdr.answered.zip(cdr.end).map(|(a, e)| e.saturating_duration_since(a));
    let text = match talked {
        Some(talked) => format!("ended by {by}  {:.1} s  {}{}", talked.as_secs_f32(), quality(cdr), printable(&cdr.why)),
        None => format!("not answered ({}): {}", cdr.status, printable(&cdr.why)),
    };
    let Some(verdict) = cdr.verdict.as_ref().filter(|v| v.code.is_fault()) else { return Line::info(text) };
    if talked.is_none() || verdict.sentence == cdr.why {
        return Line::info(text).code(verdict.code);
    }
    Line::info(format!("{text}  {}", printable(&verdict.sentence))).code(verdict.code)
}

/// The worst of both legs and directions: what the people on the call had to live with.
fn quality(cdr: &Cdr) -> String {
    let legs = [&cdr.a, &cdr.b];
    let known = legs.iter().copied().flatten();
    let worst = known.clone().flat_map(|s| [s.mos.0, s.mos.1]).flatten().min_by(f32::total_cmp);
    let loss = known.map(|s| s.lost as f32 / (s.lost + s.received).max(1) as f32).max_by(f32::total_cmp);
    let words = |mos: f32| format!("MOS {mos:.1} (estimated)  loss {:.1} %  ", 100.0 * loss.unwrap_or_default());
    worst.map(words).unwrap_or_default()
}

/// A remote text, cut and with control characters shown.
fn printable(text: &str) -> String {
    text.chars().take(120).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
