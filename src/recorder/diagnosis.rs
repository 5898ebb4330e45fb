//! One sentence per call: what happened, whose side it was on, and what to do about it.
//!
//! Judged from the record alone, once, when the call is over. If what ended the call is a fault, it
//! is the cause; a call that was answered and ended normally is examined for what its people heard.
//! Of several faults the one nearest to the root is reported: a browser that ICE never reached also
//! sent no audio.

mod media;

use crate::cdr::{Blame, Cdr, Diagnosis, HangupBy, Party};
use crate::errors::Code;
use std::time::Duration;

/// Judges a call that is over.
pub(crate) fn diagnose(cdr: &Cdr) -> Diagnosis {
    let found = cause(cdr);
    // These are what a message that was dropped leads to.
    let symptom = matches!(
        found.code,
        Code::FINE
            | Code::CANCELLED
            | Code::NO_ANSWER
            | Code::NOT_AVAILABLE
            | Code::UNREACHABLE
            | Code::NO_ACK
            | Code::NO_PRACK
            | Code::SESSION_TIMER
    );
    match &cdr.unreadable {
        Some(why) if symptom => {
            let then =
                if cdr.why.is_empty() { String::new() } else { format!("; then {}", cdr.why) };
            Diagnosis::new(Code::UNREADABLE, Blame::Callee, format!("{why}{then}"))
        }
        _ => found,
    }
}

fn cause(cdr: &Cdr) -> Diagnosis {
    if let Some(verdict) = nobody_there(cdr) {
        return verdict;
    }
    let talked = cdr.talked();
    let media = talked.and_then(|talked| media::diagnose(cdr, talked));
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
        (_, Some(talked)) if !cdr.code.is_fault() => not_transferred(cdr)
            .or_else(|| media::lossy(cdr, talked))
            .unwrap_or_else(|| fine(cdr, talked)),
        _ => of_end(cdr),
    }
}

/// A `ring` step found nobody, and nobody else was reached or even rung: the steps after it tell
/// the caller so, and are not the cause.
fn nobody_there(cdr: &Cdr) -> Option<Diagnosis> {
    let (code, nobody) = cdr.nobody_there.as_ref()?;
    let ended_otherwise = matches!(
        cdr.code,
        Code::MEDIA_BUG
            | Code::SESSION_BUG
            | Code::CALL_BUG
            | Code::KICKED
            | Code::DRAINING
            | Code::RESTARTED
            | Code::NODE_LOST
    );
    if cdr.answered_by.is_some() || cdr.ringing.is_some() || ended_otherwise {
        return None;
    }
    let then = match cdr.talked() {
        _ if cdr.why.is_empty() => String::new(),
        Some(talked) => format!("; the dialplan answered for {:.1} s", talked.as_secs_f32()),
        None if cdr.why.starts_with(nobody.as_str()) => cdr.why[nobody.len()..].to_owned(),
        None => format!("; then {}", cdr.why),
    };
    let blame = if *code == Code::STORE_AWAY { Blame::Gateway } else { Blame::Callee };
    Some(Diagnosis::new(*code, blame, format!("{nobody}{then}")))
}

/// Somebody wanted to hand the call over, and could not.
fn not_transferred(cdr: &Cdr) -> Option<Diagnosis> {
    let why = cdr.transfer_failed.as_ref()?;
    Some(Diagnosis::new(Code::TRANSFER_FAILED, Blame::Callee, why.clone()))
}

fn fine(cdr: &Cdr, talked: Duration) -> Diagnosis {
    let with = cdr.answered_by.as_ref().map_or("the gateway itself".to_owned(), Party::as_callee);
    let by = match cdr.by {
        Some(HangupBy::Caller) => "the caller hung up",
        Some(HangupBy::Callee) => "the callee hung up",
        _ => "the gateway ended it",
    };
    let lost = cdr.interruptions.iter().filter(|i| i.node.is_some());
    let lost: String = lost.map(|i| format!("; {}", i.sentence())).collect();
    Diagnosis::new(
        Code::FINE,
        Blame::Nobody,
        format!(
            "{} talked for {:.1} s with {with}; {by}{lost}",
            cdr.from.as_caller(),
            talked.as_secs_f32()
        ),
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
        | Code::PORTS
        | Code::FRAUD
        | Code::DRAINING
        | Code::TRUNK_FULL
        | Code::TRUNK_DISABLED
        | Code::KICKED
        | Code::TOO_LONG
        | Code::CREDENTIALS
        | Code::REGION
        | Code::RESTARTED
        | Code::NODE_LOST
        | Code::NOT_PERMITTED
        | Code::DEAR
        | Code::LOOP => Blame::Gateway,
        Code::UNREACHABLE | Code::DNS | Code::TRUNK_DOWN => Blame::Network,
        Code::FLOW_LOST
        | Code::PAGE_LEFT
        | Code::SESSION_TIMER
        | Code::BROWSER_GONE
        | Code::TRUNK_GONE
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
        480 | 408 if cdr.ringing.is_some() => Code::NO_ANSWER,
        480 | 408 => Code::NOT_AVAILABLE,
        603 => Code::DECLINED,
        487 => Code::CANCELLED,
        488 => Code::NO_CODEC,
        _ => Code::REFUSED,
    }
}
