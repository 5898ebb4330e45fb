//! What the figures of both legs show of an answered call: who was not heard, and why.
//!
//! A call is never fine if somebody heard nothing, however short it was. Less is known of a very
//! short call: packets had no time to arrive, so how far they came is reported and nobody is blamed
//! for more.

use super::{Blame, Diagnosis, of_end};
use crate::address::is_public;
use crate::cdr::{Cdr, Party};
use crate::errors::Code;
use crate::media::{Statistics, dtls};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Calls shorter than this say little about media: packets had no time.
const TOO_SHORT: Duration = Duration::from_secs(3);
/// Packets before silence is called a muted microphone, or a missing echo a fault of ours.
const ENOUGH: u64 = 100;
/// Fewest packets for a share of them to mean anything, and the share that people notice.
const ENOUGH_TO_COUNT: u64 = 250;
const HEARD_MISSING: f64 = 0.03;
/// Packets of a peer that are worth something to the other, however short the call.
const A_FEW: u64 = 10;

/// One end of a call that was answered.
struct HeardLeg<'a> {
    figures: &'a Statistics,
    side: Blame,
    who: &'a str,
    /// Where its SIP comes from.
    remote: Option<IpAddr>,
}

/// A call that ended as calls do, of which so many packets were lost that people heard it. The
/// network is where to look; no party did anything wrong, so this is no fault with a code.
pub(super) fn lossy(cdr: &Cdr, talked: Duration) -> Option<Diagnosis> {
    let caller = cdr.from.as_caller();
    let callee = cdr.answered_by.as_ref().map(Party::as_callee).unwrap_or_default();
    let of = |figures: &Option<Statistics>, who: &str| -> Vec<(f64, String)> {
        let Some(s) = figures else { return Vec::new() };
        let all = s.received + s.lost;
        let came = (all >= ENOUGH_TO_COUNT)
            .then(|| (s.lost as f64 / all as f64, format!("of the packets from {who} were lost")));
        let share_lost = s.reported_loss.filter(|_| u64::from(s.sent) >= ENOUGH_TO_COUNT);
        let went =
            share_lost.map(|share| (share.into(), format!("of the packets to {who} were lost")));
        came.into_iter().chain(went).collect()
    };
    let (share, what) = [of(&cdr.caller_media, &caller), of(&cdr.callee_media, &callee)]
        .into_iter()
        .flatten()
        .filter(|(share, _)| *share >= HEARD_MISSING)
        .max_by(|a, b| a.0.total_cmp(&b.0))?;
    let sentence = format!(
        "{caller} talked for {:.1} s with {callee}, and it sounded bad: {:.0} % {what}",
        talked.as_secs_f32(),
        100.0 * share
    );
    Some(Diagnosis::new(Code::FINE, Blame::Network, sentence))
}

/// What the two ends' figures say of a call that was answered.
pub(super) fn diagnose(cdr: &Cdr, talked: Duration) -> Option<Diagnosis> {
    let caller = cdr.from.as_caller();
    let callee = cdr.answered_by.as_ref().map(Party::as_callee).unwrap_or_default();
    let sides = [
        (&cdr.caller_media, Blame::Caller, caller.as_str(), cdr.remotes[0]),
        (&cdr.callee_media, Blame::Callee, callee.as_str(), cdr.remotes[1]),
    ];
    let ends: Vec<HeardLeg<'_>> = sides
        .into_iter()
        .filter_map(|(figures, side, who, remote)| {
            Some(HeardLeg { figures: figures.as_ref()?, side, who, remote })
        })
        .collect();
    // The nearer to the root first, over both legs: an ICE failure silences the other leg too.
    let of = |look: &dyn Fn(&HeardLeg<'_>) -> Option<Diagnosis>| ends.iter().find_map(look);
    let why = cdr.media_problem.as_ref();
    let ended_by_media = matches!(cdr.code, Code::BROWSER_GONE | Code::MEDIA_STOPPED);
    of(&|end| path(end, &cdr.offered, talked))
        .or_else(|| of(&|end| keys(end, why, talked)))
        .or_else(|| of(&|end| content(end, talked)))
        .or_else(|| of(&|end| silence(end, talked)))
        .or_else(|| of(&|end| in_a_moment(end, talked)))
        .or_else(|| not_passed_on(&ends))
        .or_else(|| ended_by_media.then(|| of_end(cdr)))
        .or_else(|| of(&|end| stopped(end, cdr.end)))
        .or_else(|| digits(cdr))
}

/// ICE never succeeded.
fn path(end: &HeardLeg<'_>, offered: &[IpAddr], talked: Duration) -> Option<Diagnosis> {
    let HeardLeg { figures: s, who, remote, .. } = *end;
    if !s.browser || s.checks > 0 || talked < TOO_SHORT {
        return None;
    }
    let ours = offered.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
    if let Some(remote) = remote.filter(|r| is_public(*r))
        && offered.iter().all(|ip| !is_public(*ip))
    {
        let sentence = format!(
            "{who} could not reach us for media: we offered {ours}, which is private, and the \
                browser is outside, at {}",
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
fn keys(end: &HeardLeg<'_>, why: Option<&dtls::Failed>, talked: Duration) -> Option<Diagnosis> {
    let HeardLeg { figures: s, side, who, .. } = *end;
    if s.browser && s.srtp.is_none() && s.checks > 0 {
        if let Some(why @ dtls::Failed::Fingerprint) = why {
            return Some(Diagnosis::new(
                Code::FINGERPRINT,
                side,
                format!("{who}'s DTLS certificate is not the one its SDP announced: {why}"),
            ));
        }
        if talked >= TOO_SHORT || why.is_some() {
            let reason = why.map_or("no answer came".to_owned(), ToString::to_string);
            return Some(Diagnosis::new(
                Code::DTLS,
                side,
                format!("ICE with {who} was fine, but DTLS did not finish: {reason}"),
            ));
        }
    }
    (s.received == 0 && s.dropped.bad_tag >= A_FEW).then(|| {
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
fn content(end: &HeardLeg<'_>, talked: Duration) -> Option<Diagnosis> {
    let HeardLeg { figures: s, side, who, .. } = *end;
    if s.received == 0 && s.dropped.unknown_payload >= A_FEW {
        let number = s.unexpected_payload_type.map_or("?".to_owned(), |n| n.to_string());
        let sentence = format!(
            "{who} sent {} packets of payload type {number}, which was not agreed on: nobody \
                could hear them",
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
            "{who}'s microphone is muted: {} packets came and all were silence; ICE and DTLS were \
                fine",
            s.received
        );
        return Some(Diagnosis::new(Code::MUTED, side, sentence));
    }
    None
}

/// Nothing came from an end that should have sent.
fn silence(end: &HeardLeg<'_>, talked: Duration) -> Option<Diagnosis> {
    let HeardLeg { figures: s, side, who, remote } = *end;
    if s.received > 0 || !s.may_speak {
        return None;
    }
    let seconds = talked.as_secs();
    if let Some(announced) = s.announced.filter(|_| s.dropped.unknown_source >= A_FEW) {
        let from = s.unexpected_source.map_or(String::new(), |a| format!(" ({a})"));
        let sentence = format!(
            "{who} announced {announced} but sends from elsewhere{from}: {} packets were not taken",
            s.dropped.unknown_source
        );
        return Some(Diagnosis::new(Code::OTHER_SOURCE, side, sentence));
    }
    if talked < TOO_SHORT {
        return None;
    }
    if s.browser {
        let sentence = format!(
            "{who}'s browser never sent RTP: ICE and DTLS were fine, nothing came for {seconds} s"
        );
        return Some(Diagnosis::new(Code::BROWSER_SILENT, side, sentence));
    }
    let announced = s.announced?;
    if !is_public(announced.ip()) && remote.is_some_and(is_public) {
        let sentence = format!(
            "{who} answered with a private address, {}, and sent nothing for {seconds} s",
            announced.ip()
        );
        return Some(Diagnosis::new(Code::PRIVATE_MEDIA, side, sentence));
    }
    let sent = s.sent;
    let sentence = if s.reports > 0 {
        format!(
            "one-way audio: {who} sent no sound for {seconds} s, though its RTCP came: it listened"
        )
    } else {
        format!(
            "one-way audio: {sent} packets went to {who} at {announced}, none came back for \
             {seconds} s"
        )
    };
    Some(Diagnosis::new(Code::TRUNK_SILENT, side, sentence))
}

/// Nothing came, of a call too short to say why.
fn in_a_moment(end: &HeardLeg<'_>, talked: Duration) -> Option<Diagnosis> {
    let HeardLeg { figures: s, side, who, .. } = *end;
    if s.received > 0 || !s.may_speak || talked >= TOO_SHORT {
        return None;
    }
    let how_far = match s.announced {
        _ if s.browser && s.checks == 0 => "no ICE check of its browser had come".to_owned(),
        _ if s.browser && s.srtp.is_none() => "ICE was done, DTLS was not".to_owned(),
        _ if s.browser => "ICE and DTLS were done, no RTP of its browser had come".to_owned(),
        Some(announced) => format!("no RTP had come from {announced}"),
        None => "it had announced no address for its RTP".to_owned(),
    };
    let sentence = format!(
        "nobody heard {who} in the {:.1} s the call lasted: {how_far}",
        talked.as_secs_f32()
    );
    Some(Diagnosis::new(Code::NOT_HEARD, side, sentence))
}

/// One party spoke, could be sent to, and the other was sent nothing.
fn not_passed_on(ends: &[HeardLeg<'_>]) -> Option<Diagnosis> {
    let [a, b] = ends else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(from, to)| {
        let unheard = to.figures.sent == 0 && to.figures.may_hear;
        (unheard && from.figures.received >= ENOUGH).then(|| {
            let sentence = format!(
                "{} heard nothing: {} packets came from {}, and none was passed on",
                to.who, from.figures.received, from.who
            );
            Diagnosis::new(Code::NOT_PASSED_ON, Blame::Gateway, sentence)
        })
    })
}

/// A party that was heard stopped sending, and was not on hold.
fn stopped(end: &HeardLeg<'_>, over: Option<Instant>) -> Option<Diagnosis> {
    let HeardLeg { figures: s, side, who, .. } = *end;
    let silent = s.fell_silent(over)?;
    let sentence = format!(
        "{who} stopped sending: {} packets came, and none in the last {} s of the call",
        s.received,
        silent.as_secs()
    );
    Some(Diagnosis::new(Code::ONE_STOPPED, side, sentence))
}

/// Digits went by INFO to a peer that takes none.
fn digits(cdr: &Cdr) -> Option<Diagnosis> {
    let (refused, side, who) = match cdr.digits_refused {
        [0, 0] => return None,
        [0, n] => {
            let callee = cdr.answered_by.as_ref().map(Party::as_callee);
            (n, Blame::Callee, callee.unwrap_or_else(|| "the callee".to_owned()))
        }
        [n, _] => (n, Blame::Caller, cdr.from.as_caller()),
    };
    Some(Diagnosis::new(
        Code::DIGITS,
        side,
        format!("{who} refused {refused} digits: it takes none by INFO"),
    ))
}
