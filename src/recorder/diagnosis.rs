//! One sentence per call: what happened, whose side it was on, and what to do about it.
//!
//! Judged from the record alone, once, when the call is over. What ended the call names the cause
//! where it is one; a call that was answered and ended as calls do is looked at for what its people
//! heard. Of several faults the one nearest to the root is told: a browser that ICE never reached
//! also sent no audio.

use crate::address::is_public;
use crate::call::{Cdr, HangupBy};
use crate::errors::Code;
use crate::media::Statistics;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// Whose side the cause is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Blame {
    #[default]
    Nobody,
    Caller,
    Callee,
    /// This gateway: its configuration, its limits.
    Gateway,
    /// Between us and a peer.
    Network,
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Blame::Nobody => "nobody",
            Blame::Caller => "caller",
            Blame::Callee => "callee",
            Blame::Gateway => "gateway",
            Blame::Network => "network",
        })
    }
}

/// What is said of a call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Diagnosis {
    pub code: Code,
    pub side: Blame,
    pub sentence: String,
}

impl Diagnosis {
    fn new(code: Code, side: Blame, sentence: impl Into<String>) -> Diagnosis {
        Diagnosis { code, side, sentence: sentence.into() }
    }
}

/// Calls shorter than this say nothing about media: packets had no time.
const TOO_SHORT: Duration = Duration::from_secs(3);
/// Packets before silence is called a muted microphone.
const ENOUGH: u64 = 100;

/// Judges a call that is over.
pub fn diagnose(cdr: &Cdr) -> Diagnosis {
    let talked = cdr.talked();
    let media = talked.and_then(|talked| of_media(cdr, talked));
    // These say that media was missing; what was missing says more.
    let symptom = matches!(
        cdr.code,
        Code::MEDIA_STOPPED
            | Code::BROWSER_GONE
            | Code::DTLS
            | Code::FINGERPRINT
            | Code::FINE
            | Code::KICKED
    );
    match (media, talked) {
        (Some(verdict), _) if symptom => verdict,
        (_, Some(talked)) if !cdr.code.is_fault() => fine(cdr, talked),
        _ => of_end(cdr),
    }
}

fn fine(cdr: &Cdr, talked: Duration) -> Diagnosis {
    let with = cdr.answered_by.as_deref().unwrap_or("the gateway itself");
    let by = match cdr.by {
        Some(HangupBy::Caller) => "the caller hung up",
        Some(HangupBy::Callee) => "the callee hung up",
        _ => "the gateway ended it",
    };
    Diagnosis::new(
        Code::FINE,
        Blame::Nobody,
        format!("{} talked for {:.1} s with {with}; {by}", cdr.from, talked.as_secs_f32()),
    )
}

/// What ended the call, or kept it from being answered.
fn of_end(cdr: &Cdr) -> Diagnosis {
    let code = if cdr.code.is_fault() { cdr.code } else { default_code(cdr) };
    let side = match code {
        Code::CANCELLED | Code::NO_ACK | Code::NO_PRACK | Code::NO_CODEC
            if cdr.answered_by.is_none() && cdr.tried.is_empty() =>
        {
            Blame::Caller
        }
        Code::CANCELLED | Code::NO_ACK | Code::NO_PRACK | Code::MALFORMED | Code::LOGIN_REFUSED => {
            Blame::Caller
        }
        Code::NO_ROUTE
        | Code::NOT_ALLOWED
        | Code::LIMIT
        | Code::DRAINING
        | Code::TRUNK_FULL
        | Code::TRUNK_DISABLED
        | Code::KICKED
        | Code::TOO_LONG
        | Code::CREDENTIALS
        | Code::REGION
        | Code::LOOP => Blame::Gateway,
        Code::UNREACHABLE | Code::DNS | Code::TRUNK_DOWN => Blame::Network,
        Code::FLOW_LOST
        | Code::SESSION_TIMER
        | Code::BROWSER_GONE
        | Code::MEDIA_STOPPED
        | Code::FINGERPRINT
        | Code::DTLS => match cdr.by {
            Some(HangupBy::Caller) => Blame::Caller,
            Some(HangupBy::Callee) => Blame::Callee,
            _ => Blame::Network,
        },
        Code::MEDIA_BUG | Code::CALL_BUG | Code::SESSION_BUG | Code::WORKER_BEHIND => {
            Blame::Gateway
        }
        _ => Blame::Callee,
    };
    let sentence = match code {
        Code::CANCELLED => format!("{}{}", cdr.why, ringing(cdr)),
        Code::BUSY => format!("the callee is busy: {}", cdr.why),
        _ if cdr.why.is_empty() => code.entry().map(|e| e.title.clone()).unwrap_or_default(),
        _ => cdr.why.clone(),
    };
    Diagnosis::new(code, side, sentence)
}

fn ringing(cdr: &Cdr) -> String {
    let Some(end) = cdr.end else { return String::new() };
    match cdr.ringing {
        Some(since) => format!(
            ", after it had rung for {:.0} s",
            end.saturating_duration_since(since).as_secs_f32()
        ),
        None => format!(
            ", {:.0} s after dialling, before anything rang",
            end.saturating_duration_since(cdr.start).as_secs_f32()
        ),
    }
}

/// The code of an end nobody named: by its status.
fn default_code(cdr: &Cdr) -> Code {
    match cdr.status {
        486 | 600 => Code::BUSY,
        480 | 408 => Code::NO_ANSWER,
        603 => Code::DECLINED,
        487 => Code::CANCELLED,
        488 => Code::NO_CODEC,
        _ => Code::REFUSED,
    }
}

/// A look at one end: its figures, its side, who is there, and where its SIP comes from.
type Look<'a> = dyn Fn(&Statistics, Blame, &str, Option<IpAddr>) -> Option<Diagnosis> + 'a;

/// What the two ends' figures say of a call that was answered.
fn of_media(cdr: &Cdr, talked: Duration) -> Option<Diagnosis> {
    let a = cdr.a.as_ref().map(|s| (s, Blame::Caller, cdr.from.clone(), cdr.remotes[0]));
    let b = cdr
        .b
        .as_ref()
        .map(|s| (s, Blame::Callee, cdr.answered_by.clone().unwrap_or_default(), cdr.remotes[1]));
    let ends: Vec<_> = [a, b].into_iter().flatten().collect();
    // The nearer to the root first, over both legs: an ICE failure silences the other leg too.
    let of = |look: &Look<'_>| {
        ends.iter().find_map(|(s, side, who, remote)| look(s, *side, who, *remote))
    };
    let (code, why) = (cdr.code, cdr.media_problem.as_deref().unwrap_or_default());
    of(&|s, _, who, remote| path(s, who, remote, &cdr.offered, talked))
        .or_else(|| of(&|s, side, who, _| keys(s, side, who, why, talked)))
        .or_else(|| of(&|s, side, who, _| content(s, side, who, talked)))
        .or_else(|| of(&|s, side, who, remote| silence(s, side, who, remote, talked)))
        .or_else(|| digits(cdr))
        .or_else(|| {
            (code == Code::BROWSER_GONE || code == Code::MEDIA_STOPPED).then(|| of_end(cdr))
        })
}

/// ICE never succeeded.
fn path(
    s: &Statistics,
    who: &str,
    remote: Option<IpAddr>,
    offered: &[IpAddr],
    talked: Duration,
) -> Option<Diagnosis> {
    if !s.browser || s.checks > 0 || talked < TOO_SHORT {
        return None;
    }
    let ours = offered.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
    if let Some(remote) = remote.filter(|r| is_public(*r))
        && offered.iter().all(|ip| !is_public(*ip))
    {
        let sentence = format!(
            "{who} could not reach us for media: we offered {ours}, which is private, and the browser is outside, at {}",
            remote.to_canonical()
        );
        return Some(Diagnosis::new(Code::PRIVATE_PUBLIC_IP, Blame::Gateway, sentence));
    }
    let sentence = format!(
        "no UDP of {who}'s browser reached us: not one ICE check came to {ours} in {:.0} s",
        talked.as_secs_f32()
    );
    Some(Diagnosis::new(Code::UDP_BLOCKED, Blame::Network, sentence))
}

/// ICE succeeded, keys did not.
fn keys(s: &Statistics, side: Blame, who: &str, why: &str, talked: Duration) -> Option<Diagnosis> {
    if s.browser && s.srtp.is_none() && s.checks > 0 {
        if why.contains("fingerprint") {
            return Some(Diagnosis::new(
                Code::FINGERPRINT,
                side,
                format!("{who}'s DTLS certificate is not the one its SDP announced: {why}"),
            ));
        }
        if talked >= TOO_SHORT || !why.is_empty() {
            let reason = if why.is_empty() { "no answer came" } else { why };
            return Some(Diagnosis::new(
                Code::DTLS,
                side,
                format!("ICE with {who} was fine, but DTLS did not finish: {reason}"),
            ));
        }
    }
    (s.received == 0 && s.dropped.bad_tag > ENOUGH / 2).then(|| {
        Diagnosis::new(
            Code::SRTP,
            side,
            format!(
                "{} packets of {who} could not be opened: its SRTP key is not the one agreed on",
                s.dropped.bad_tag
            ),
        )
    })
}

/// Packets came, but none that mean anything.
fn content(s: &Statistics, side: Blame, who: &str, talked: Duration) -> Option<Diagnosis> {
    if s.received == 0 && s.dropped.unknown_payload > ENOUGH / 2 {
        let number = s.unexpected_payload_type.map_or("?".to_owned(), |n| n.to_string());
        let sentence = format!(
            "{who} sent {} packets of payload type {number}, which was not agreed on: nobody could hear them",
            s.dropped.unknown_payload
        );
        return Some(Diagnosis::new(Code::PAYLOAD_TYPE, side, sentence));
    }
    if s.browser
        && s.received >= ENOUGH
        && s.non_silent_packets == 0
        && talked >= TOO_SHORT
        && s.may_speak
    {
        let sentence = format!(
            "{who}'s microphone is muted: {} packets came and all were silence; ICE and DTLS were fine",
            s.received
        );
        return Some(Diagnosis::new(Code::MUTED, side, sentence));
    }
    None
}

/// Nothing came from an end that should have sent.
fn silence(
    s: &Statistics,
    side: Blame,
    who: &str,
    remote: Option<IpAddr>,
    talked: Duration,
) -> Option<Diagnosis> {
    if s.received > 0 || !s.may_speak || talked < TOO_SHORT {
        return None;
    }
    let seconds = talked.as_secs();
    if s.browser {
        let sentence = format!(
            "{who}'s browser never sent RTP: ICE and DTLS were fine, nothing came for {seconds} s"
        );
        return Some(Diagnosis::new(Code::BROWSER_SILENT, side, sentence));
    }
    let announced = s.announced?;
    if s.dropped.unknown_source > ENOUGH / 2 {
        let from = s.unexpected_source.map_or(String::new(), |a| format!(" ({a})"));
        let sentence = format!(
            "{who} announced {announced} but sends from elsewhere{from}: {} packets were not taken",
            s.dropped.unknown_source
        );
        return Some(Diagnosis::new(Code::OTHER_SOURCE, side, sentence));
    }
    if !is_public(announced.ip()) && remote.is_some_and(is_public) {
        let sentence = format!(
            "{who} answered with a private address, {}, and sent nothing for {seconds} s",
            announced.ip()
        );
        return Some(Diagnosis::new(Code::PRIVATE_MEDIA, side, sentence));
    }
    let sentence = format!(
        "one-way audio: {} packets went to {who} at {announced}, none came back for {seconds} s",
        s.sent
    );
    Some(Diagnosis::new(Code::TRUNK_SILENT, side, sentence))
}

/// Digits went by INFO to a peer that takes none.
fn digits(cdr: &Cdr) -> Option<Diagnosis> {
    let (refused, side, who) = match cdr.digits_refused {
        [0, 0] => return None,
        [0, n] => (n, Blame::Callee, cdr.answered_by.as_deref().unwrap_or("the callee")),
        [n, _] => (n, Blame::Caller, cdr.from.as_str()),
    };
    Some(Diagnosis::new(
        Code::DIGITS,
        side,
        format!("{who} refused {refused} digits: it takes none by INFO"),
    ))
}
