//! Telling: one noteworthy event is one log line, said in one place. No SIP message, no DTMF digit, no secret.

use crate::call::{CallId, Cdr, HangupBy};
use std::net::SocketAddr;
use std::time::Duration;
use tracing::{debug, info, warn};

/// Something worth a line.
#[derive(Debug)]
pub enum Note {
    Registered { user: String, flows: usize, user_agent: String },
    Unregistered { user: String, why: &'static str },
    LoginRefused { user: String, remote: SocketAddr },
    CallStarted { call: CallId, from: String, number: String, route: String },
    CallRefused { from: String, to: String, status: u16, why: String },
    CallAnswered { call: CallId, by: String, after: Duration, codecs: (&'static str, &'static str) },
    CallEnded(Box<Cdr>),
    BranchFailed { call: CallId, target: String, status: u16, why: String },
    Redirected { call: CallId, by: String, to: String },
    Transferring { call: CallId, by: String, to: String },
    TransferFailed { call: CallId, status: u16, why: String },
    TrunkUp { trunk: String, after: Option<Duration> },
    TrunkDown { trunk: String, why: String },
    TrunkRegistered { trunk: String, registrar: String, expires: u32 },
    TrunkNotRegistered { trunk: String, why: String, again_in: Duration },
    TrunkArrived { trunk: String, remote: SocketAddr, expires: u32 },
    TrunkGone { trunk: String },
    Wedged { trunk: String, hop: String },
    TrunkFull { call: CallId, trunk: String, limit: usize },
    EarlyMediaUnusable { call: CallId, why: String },
    MediaPanicked { call: CallId },
    CallPanicked { call: CallId },
    Draining { calls: usize },
    Dropped { why: &'static str, remote: Option<SocketAddr> },
}

impl Note {
    /// Writes the line.
    pub fn log(&self) {
        match self {
            Note::Registered { user, flows, user_agent } => info!("{user} registered, {flows} flow(s), {}", printable(user_agent)),
            Note::Unregistered { user, why } => info!("{user} unregistered: {why}"),
            Note::LoginRefused { user, remote } => {
                warn!(code = "WT-1001", "login refused for {} from {remote}: wrong user or password", printable(user));
            }
            Note::CallStarted { call, from, number, route } => {
                info!("call {call} {} → {}  route {route:?}", printable(from), printable(number));
            }
            Note::CallRefused { from, to, status, why } => {
                warn!(code = "WT-1100", "call {} → {} refused {status}: {}", printable(from), printable(to), printable(why));
            }
            Note::CallAnswered { call, by, after, codecs } => {
                info!("call {call} answered by {by} after {:.1} s  {} ↔ {}", after.as_secs_f32(), codecs.0, codecs.1);
            }
            Note::CallEnded(cdr) => ended(cdr),
            Note::BranchFailed { call, target, status, why } => {
                info!(code = "WT-2100", "call {call} {target} failed with {status}: {}", printable(why));
            }
            Note::Redirected { call, by, to } => info!("call {call} {by} redirected it to {}", printable(to)),
            Note::Transferring { call, by, to } => info!("call {call} {by} transfers it to {}", printable(to)),
            Note::TransferFailed { call, status, why } => info!(code = "WT-2200", "call {call} transfer failed with {status}, the call goes on: {}", printable(why)),
            Note::TrunkUp { trunk, after: None } => info!("trunk {trunk} up"),
            Note::TrunkUp { trunk, after: Some(after) } => info!("trunk {trunk} up again after {} s", after.as_secs()),
            Note::TrunkDown { trunk, why } => warn!(code = "WT-2101", "trunk {trunk} down, its calls go to the next: {}", printable(why)),
            Note::TrunkRegistered { trunk, registrar, expires } => info!("trunk {trunk} registered with {registrar} for {expires} s"),
            Note::TrunkNotRegistered { trunk, why, again_in } => {
                warn!(code = "WT-2102", "trunk {trunk} is not registered, next try in {} s: {}", again_in.as_secs(), printable(why));
            }
            Note::TrunkArrived { trunk, remote, expires } => info!("trunk {trunk} registered here from {remote} for {expires} s"),
            Note::TrunkGone { trunk } => info!("trunk {trunk} unregistered"),
            Note::Wedged { trunk, hop } => warn!(code = "WT-2103", "trunk {trunk}: the connection {hop} stands but answers nothing, a new one is opened"),
            Note::TrunkFull { call, trunk, limit } => warn!(code = "WT-2110", "call {call} skips trunk {trunk}: it has its {limit} calls"),
            Note::EarlyMediaUnusable { call, why } => info!("call {call} early media cannot be used: {}", printable(why)),
            Note::MediaPanicked { call } => tracing::error!(code = "WT-9001", "call {call} lost its media to a bug; other calls go on"),
            Note::CallPanicked { call } => tracing::error!(code = "WT-9004", "call {call} was ended by a bug; other calls go on"),
            Note::Draining { calls } => info!("draining: no new calls, {calls} in progress"),
            Note::Dropped { why, remote } => match remote {
                Some(remote) => debug!("dropped from {remote}: {why}"),
                None => debug!("dropped: {why}"),
            },
        }
    }
}

fn ended(cdr: &Cdr) {
    let by = cdr.by.map_or("?", HangupBy::as_str);
    let talked = cdr.answered.zip(cdr.end).map(|(a, e)| e.saturating_duration_since(a));
    match talked {
        Some(talked) => info!("call {} ended by {by}  {:.1} s  {}{}", cdr.call, talked.as_secs_f32(), quality(cdr), printable(&cdr.why)),
        None => info!("call {} not answered ({}): {}", cdr.call, cdr.status, printable(&cdr.why)),
    }
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
