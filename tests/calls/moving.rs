//! A browser whose media is not heard any more is asked for an ICE restart by whatever flow of its
//! account is there, and the trunk hears nothing of it.

use crate::lab::*;
use crate::recovery::{close, open};
use std::time::Duration;
use webtrunk::gateway::Input;
use webtrunk::media::LegId;
use webtrunk::media::session::SessionEvent;
use webtrunk::sdp::offer_answer::{Ice, Remote};
use webtrunk::sip::Message;
use webtrunk::sip::parse::Framing;
use webtrunk::sip::transaction::Flow;
use webtrunk::worker::{Notice, WorkerCommand};

const BACK: Peer = Peer::Browser("alice", 7);
const SECOND: Duration = Duration::from_secs(1);

fn media_reports(lab: &mut Lab, event: SessionEvent) {
    let (session, _) = lab.ends[0];
    lab.handle(Input::Media { session, notice: Notice::Media(event) });
}

/// The caller's end.
fn end(lab: &Lab) -> LegId {
    lab.ends[0].1
}

/// A call of alice's with media both ways.
fn talking() -> Lab {
    talking_in(Lab::with_phones())
}

fn talking_in(mut lab: Lab) -> Lab {
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 answers alice",
    );
    let connected = SessionEvent::Connected { end: end(&lab), address: ALICE.remote() };
    media_reports(&mut lab, connected);
    lab
}

fn faded(lab: &mut Lab) {
    let event = SessionEvent::Faded { end: end(lab), since: SECOND };
    media_reports(lab, event);
}

fn regained(lab: &mut Lab) {
    let event = SessionEvent::Regained { end: end(lab) };
    media_reports(lab, event);
}

fn value(message: &Message, key: &str) -> String {
    let sdp = message.body_of("application/sdp").expect("a description");
    let sdp = String::from_utf8_lossy(sdp).into_owned();
    let found = sdp.lines().find_map(|l| l.strip_prefix(key));
    found.unwrap_or_else(|| panic!("no {key} in\n{sdp}")).to_owned()
}

/// An answer of a browser that has restarted ICE: `n` makes its credentials.
fn restarted(n: u32) -> String {
    let line = |key: &str| {
        ANSWER.lines().find(|l| l.starts_with(key)).expect("the line").trim_end().to_owned()
    };
    ANSWER
        .replace(&line("a=ice-ufrag:"), &format!("a=ice-ufrag:NEW{n}"))
        .replace(&line("a=ice-pwd:"), &format!("a=ice-pwd:a-new-password-of-the-browser-{n}"))
}

/// Our credentials and the browser's, as last given to media; `None` if not since.
fn agreed(lab: &mut Lab) -> Option<(Ice, Ice)> {
    let end = end(lab);
    let found = lab.media.iter().rev().find_map(|command| match command {
        WorkerCommand::Configure { end: at, settings, .. } if *at == end => {
            Some(settings.negotiated.remote.clone())
        }
        _ => None,
    });
    lab.media.clear();
    match found {
        Some(Remote::Dtls { ice, local_ice, .. }) => Some((local_ice, ice)),
        _ => None,
    }
}

fn offered(lab: &Lab) -> Vec<Ice> {
    let of = |c: &WorkerCommand| match c {
        WorkerCommand::OfferIce { ice, .. } => Some(ice.clone()),
        _ => None,
    };
    lab.media.iter().filter_map(of).collect()
}

fn answers(lab: &mut Lab, peer: Peer, request: &Message, body: &str) {
    lab.reply(peer, request, 200, body);
    lab.take(peer, "ACK");
}

/// The trunk hung up; it had heard nothing before.
fn ends(lab: &mut Lab, browser: Peer) {
    let (at, name) = (lab.seconds(), lab.name_of(browser.hop()));
    lab.plays(&format!("{at}s t1 hangs up on {name}"));
    lab.expect_idle();
}

/// alice is back, by another WebSocket, and knows her call.
fn is_back(lab: &mut Lab) {
    lab.log_in(BACK, "secret-a", "uuid-a");
    let at = lab.seconds();
    lab.plays(&format!(
        "{at}s alice-7 ← OPTIONS
         {at}s alice-7 → 200 OPTIONS"
    ));
}

#[test]
fn a_browser_that_is_silent_for_five_seconds_is_asked_for_an_ice_restart() {
    let mut lab = talking();
    let ok = lab.last(ALICE, "200 INVITE");
    let before = value(&ok, "a=ice-ufrag:");
    lab.media.clear();
    faded(&mut lab);
    lab.plays(
        "3.9s    // a bad network mends itself
         4.0s alice ← INVITE sdp
         4.1s",
    );
    let asked = lab.last(ALICE, "INVITE");
    let [ice] = &offered(&lab)[..] else { panic!("media gets the new credentials once") };
    assert_eq!(
        (&ice.ufrag, &ice.pwd),
        (&value(&asked, "a=ice-ufrag:"), &value(&asked, "a=ice-pwd:"))
    );
    assert_ne!(ice.ufrag, before);
    for same in ["a=fingerprint:", "a=ssrc:", "a=mid:"] {
        assert_eq!(value(&asked, same), value(&ok, same), "{same}: no new handshake");
    }
    assert_eq!(value(&asked, "a=setup:"), "actpass");
    answers(&mut lab, ALICE, &asked, &restarted(1));
    let (local, theirs) = agreed(&mut lab).expect("media gets both");
    assert_eq!((local.ufrag, theirs.ufrag), (ice.ufrag.clone(), "NEW1".to_owned()));
    regained(&mut lab);
    lab.advance(60 * SECOND);
    lab.plays(
        "4.1s alice → 200 INVITE sdp recvonly
         4.1s alice ← ACK    // once is enough",
    );
    ends(&mut lab, ALICE);
}

/// A browser that was cut off answers when it is back, and takes no other INVITE before its answer
/// is acknowledged.
#[test]
fn an_answer_to_a_restart_that_comes_a_minute_late_is_acknowledged_all_the_same() {
    let mut lab = talking();
    faded(&mut lab);
    lab.plays("4.0s alice ← INVITE sdp");
    let asked = lab.last(ALICE, "INVITE");
    regained(&mut lab);
    lab.plays("64.0s");
    lab.media.clear();
    for _ in 0..3 {
        lab.reply(ALICE, &asked, 200, &restarted(1));
        lab.plays(
            "64.0s alice → 200 INVITE sdp recvonly
             64.0s alice ← ACK",
        );
        let ack = lab.last(ALICE, "ACK");
        assert_eq!(ack.cseq().map(|c| c.number), asked.cseq().map(|c| c.number));
    }
    assert!(agreed(&mut lab).is_none(), "what it answered was withdrawn");
    // One of another dialog, and one to an INVITE that was never sent, are nobody's.
    let text = String::from_utf8(asked.to_bytes().to_vec()).expect("text");
    let number = asked.cseq().expect("a CSeq").number;
    let tag = asked.to().and_then(|to| to.tag()).expect("within a dialog").to_owned();
    for (own, other) in [
        (format!("tag={tag}"), "tag=another".to_owned()),
        (format!("CSeq: {number} "), format!("CSeq: {} ", number + 50)),
    ] {
        let changed = text.replace(&own, &other).into_bytes();
        let changed = Message::parse(changed, Framing::WebSocket).expect("sound");
        lab.reply(ALICE, &changed, 200, &restarted(1));
        lab.plays("64.0s alice → 200 INVITE sdp recvonly");
    }
    close(&mut lab, ALICE);
    faded(&mut lab);
    lab.log_in(BACK, "secret-a", "uuid-a");
    lab.plays(
        "64.0s alice-7 ← INVITE sdp
         64.0s alice-7 ← OPTIONS
         64.0s alice-7 → 200 OPTIONS",
    );
    let again = lab.last(BACK, "INVITE");
    answers(&mut lab, BACK, &again, &restarted(2));
    assert!(agreed(&mut lab).is_some(), "it takes another");
    regained(&mut lab);
    lab.plays(
        "64.0s alice-7 → 200 INVITE sdp recvonly
         64.0s alice-7 ← ACK",
    );
    ends(&mut lab, BACK);
}

#[test]
fn a_browser_that_is_heard_again_in_time_is_asked_for_nothing() {
    let mut lab = talking();
    for _ in 0..20 {
        faded(&mut lab);
        lab.advance(3 * SECOND);
        regained(&mut lab);
        lab.advance(SECOND);
    }
    lab.plays("100.0s");
    ends(&mut lab, ALICE);
}

#[test]
fn a_browser_that_has_moved_is_asked_as_soon_as_it_is_back() {
    for faded_first in [true, false] {
        let mut lab = talking();
        close(&mut lab, ALICE);
        lab.plays("1.0s");
        if faded_first {
            faded(&mut lab);
            lab.plays("2.0s");
        }
        lab.log_in(BACK, "secret-a", "uuid-a");
        if faded_first {
            lab.plays(
                "2.0s alice-7 ← INVITE sdp
                 2.0s alice-7 ← OPTIONS",
            );
        } else {
            // Her media may be as it was.
            lab.plays("1.0s alice-7 ← OPTIONS");
            faded(&mut lab);
            lab.plays("1.5s alice-7 ← INVITE sdp");
        }
        let at = lab.seconds();
        lab.plays(&format!("{at}s alice-7 → 200 OPTIONS"));
        let asked = lab.last(BACK, "INVITE");
        answers(&mut lab, BACK, &asked, &restarted(1));
        regained(&mut lab);
        lab.plays(&format!(
            "{at}s alice-7 → 200 INVITE sdp recvonly
             {at}s alice-7 ← ACK
             62.0s"
        ));
        ends(&mut lab, BACK);
    }
}

#[test]
fn a_dead_flow_is_replaced_at_once_by_the_one_its_browser_reconnected_over() {
    let mut lab = talking();
    faded(&mut lab);
    lab.advance(SECOND);
    // The old one is half open: nobody resets it.
    lab.log_in(BACK, "secret-a", "uuid-a");
    lab.plays(
        "1.0s alice-7 ← INVITE sdp
         1.0s alice-7 ← OPTIONS",
    );
    let asked = lab.last(BACK, "INVITE");
    answers(&mut lab, BACK, &asked, &restarted(1));
    lab.plays(
        "1.0s alice-7 → 200 INVITE sdp recvonly
         1.0s alice-7 ← ACK
         1.0s alice-7 → 200 OPTIONS",
    );
    regained(&mut lab);
    ends(&mut lab, BACK);
}

#[test]
fn a_restart_in_flight_when_the_flow_died_is_sent_again_over_the_next() {
    let mut lab = talking();
    faded(&mut lab);
    lab.advance(5 * SECOND);
    lab.plays("4.0s alice ← INVITE sdp");
    let asked = lab.last(ALICE, "INVITE");
    close(&mut lab, ALICE);
    lab.advance(3 * SECOND);
    lab.log_in(BACK, "secret-a", "uuid-a");
    lab.plays(
        "8.0s alice-7 ← INVITE sdp
         8.0s alice-7 ← OPTIONS",
    );
    let again = lab.last(BACK, "INVITE");
    assert_eq!(again.to_bytes(), asked.to_bytes(), "never two offers at once");
    answers(&mut lab, BACK, &again, &restarted(1));
    lab.reply(BACK, &again, 200, &restarted(1));
    lab.plays(
        "8.0s alice-7 → 200 INVITE sdp recvonly
         8.0s alice-7 ← ACK
         8.0s alice-7 → 200 INVITE sdp recvonly
         8.0s alice-7 ← ACK
         8.0s alice-7 → 200 OPTIONS",
    );
    regained(&mut lab);
    ends(&mut lab, BACK);
}

#[test]
fn a_browser_that_does_not_restart_keeps_what_it_has() {
    let mut lab = talking();
    let ok = lab.last(ALICE, "200 INVITE");
    let (theirs, ours) = (value_of(OFFER, "a=ice-ufrag:"), value(&ok, "a=ice-ufrag:"));
    let same = restarted(1).replace("a=ice-ufrag:NEW1", &format!("a=ice-ufrag:{theirs}")).replace(
        "a=ice-pwd:a-new-password-of-the-browser-1",
        &format!("a=ice-pwd:{}", value_of(OFFER, "a=ice-pwd:")),
    );
    lab.media.clear();
    faded(&mut lab);
    lab.advance(5 * SECOND);
    lab.plays("4.0s alice ← INVITE sdp");
    let asked = lab.last(ALICE, "INVITE");
    answers(&mut lab, ALICE, &asked, &same);
    assert!(agreed(&mut lab).is_none_or(|(local, _)| local.ufrag == ours));
    regained(&mut lab);
    // The next description of ours has the credentials in use.
    let offer = OFFER.replacen(" 2 IN IP4", " 9 IN IP4", 1);
    let text = lab.in_dialog(ALICE, &ok, "INVITE", 91, "", &offer);
    lab.says(ALICE, &text);
    lab.plays(
        "5.0s alice → 200 INVITE sdp recvonly
         5.0s alice ← ACK
         5.0s alice → INVITE sdp
         5.0s alice ← 100 INVITE
         5.0s alice ← 200 INVITE sdp
         5.0s alice → ACK",
    );
    let again = lab.last(ALICE, "200 INVITE");
    assert_eq!(value(&again, "a=ice-ufrag:"), ours);
    ends(&mut lab, ALICE);
}

fn value_of(sdp: &str, key: &str) -> String {
    sdp.lines().find_map(|l| l.trim_end().strip_prefix(key)).expect("the line").to_owned()
}

#[test]
fn a_restart_waits_for_a_pending_offer_and_for_glare() {
    let mut lab = talking();
    let ok = lab.last(ALICE, "200 INVITE");
    // Her own re-INVITE is not acknowledged yet.
    let offer = OFFER.replacen(" 2 IN IP4", " 9 IN IP4", 1);
    let text = lab.in_dialog(ALICE, &ok, "INVITE", 91, "", &offer);
    lab.says(ALICE, &text);
    lab.plays(
        "0.0s alice → INVITE sdp
         0.0s alice ← 100 INVITE
         0.0s alice ← 200 INVITE sdp",
    );
    faded(&mut lab);
    lab.advance(6 * SECOND);
    lab.plays(
        "0.5s alice ← 200 INVITE sdp
         1.5s alice ← 200 INVITE sdp
         3.5s alice ← 200 INVITE sdp
         6.0s alice → ACK",
    );
    lab.inbox.clear();
    lab.advance(SECOND);
    lab.plays("6.5s alice ← INVITE sdp");
    // Both ask at once.
    let text = lab.in_dialog(ALICE, &ok, "INVITE", 92, "", &offer);
    lab.says(ALICE, &text);
    lab.plays(
        "7.0s alice → INVITE sdp
         7.0s alice ← 100 INVITE
         7.0s alice ← 491 INVITE
         7.0s alice → 491 INVITE
         7.0s alice ← ACK",
    );
    lab.advance(5 * SECOND);
    lab.plays("8.5s alice ← INVITE sdp");
    let asked = lab.last(ALICE, "INVITE");
    answers(&mut lab, ALICE, &asked, &restarted(1));
    regained(&mut lab);
    lab.plays(
        "12.0s alice → 200 INVITE sdp recvonly
         12.0s alice ← ACK",
    );
    ends(&mut lab, ALICE);
}

#[test]
fn a_browser_is_asked_three_times_per_loss_and_given_up_with_its_consent() {
    let mut lab = talking();
    faded(&mut lab);
    let mut seen = Vec::new();
    for (n, at) in (1..).zip(["4.0", "8.0", "12.0"]) {
        lab.plays(&format!("{at}s alice ← INVITE sdp"));
        let restart = lab.last(ALICE, "INVITE");
        seen.push(value(&restart, "a=ice-ufrag:"));
        answers(&mut lab, ALICE, &restart, &restarted(n));
        lab.plays(&format!(
            "{at}s alice → 200 INVITE sdp recvonly
             {at}s alice ← ACK"
        ));
    }
    seen.dedup();
    assert_eq!(seen.len(), 3, "new credentials each time");
    lab.plays("29.0s");
    let lost = SessionEvent::ConsentLost { end: end(&lab) };
    media_reports(&mut lab, lost);
    lab.plays(
        "29.0s alice ← BYE
         29.0s t1 ← BYE
         29.0s alice → 200 BYE
         29.0s t1 → 200 BYE",
    );
    lab.expect_idle();
}

#[test]
fn a_page_that_does_not_know_the_call_any_more_may_still_come_for_it() {
    let mut lab = talking();
    close(&mut lab, ALICE);
    lab.advance(SECOND);
    faded(&mut lab);
    lab.log_in(BACK, "secret-a", "uuid-a");
    lab.plays(
        "1.0s alice-7 ← INVITE sdp
         1.0s alice-7 ← OPTIONS
         1.0s alice-7 → 481 INVITE
         1.0s alice-7 ← ACK
         1.0s alice-7 → 200 OPTIONS",
    );
    lab.advance(20 * SECOND);
    assert_eq!(lab.gateway.gauges().calls, 1);
    ends(&mut lab, BACK);
}

#[test]
fn a_browser_that_comes_back_in_the_last_moment_has_time_to_restart() {
    let mut lab = talking();
    close(&mut lab, ALICE);
    lab.advance(SECOND);
    faded(&mut lab);
    lab.advance(28 * SECOND);
    lab.log_in(BACK, "secret-a", "uuid-a");
    lab.plays(
        "29.0s alice-7 ← INVITE sdp
         29.0s alice-7 ← OPTIONS
         29.0s alice-7 → 200 OPTIONS",
    );
    let asked = lab.last(BACK, "INVITE");
    let lost = SessionEvent::ConsentLost { end: end(&lab) };
    media_reports(&mut lab, lost);
    lab.advance(2 * SECOND);
    answers(&mut lab, BACK, &asked, &restarted(1));
    lab.advance(2 * SECOND);
    regained(&mut lab);
    lab.advance(60 * SECOND);
    lab.plays(
        "31.0s alice-7 → 200 INVITE sdp recvonly
         31.0s alice-7 ← ACK
         31.5s alice-7 ← INVITE sdp",
    );
    ends(&mut lab, BACK);
}

/// The WebSocket is gone, and media is not: it is waited for as long as `sip.flow_grace_media`
/// says, and once media is gone too for `sip.flow_grace` from then on.
#[test]
fn the_grace_is_longer_while_media_is_alive() {
    let grace = "[sip]\nflow_grace = \"20s\"\nflow_grace_media = \"2m\"\n";
    // Seconds after which media goes, those until its consent does, too; when the call ends. It may
    // speak and be out of reach.
    for (gone, consent, over) in [
        (None, 0, 120),
        (Some(0), 30, 20),
        (Some(50), 30, 70),
        (Some(50), 0, 70),
        (Some(110), 30, 120),
    ] {
        let mut lab = talking_in(Lab::changed(&[("[sip]\n", grace)], ""));
        close(&mut lab, ALICE);
        for second in 0..over {
            assert!(!lab.got(T1, "BYE"), "media gone after {gone:?} s: ended after {second} s");
            if gone == Some(second) && consent > 0 {
                let event = SessionEvent::Faded { end: end(&lab), since: Duration::ZERO };
                media_reports(&mut lab, event);
            }
            if gone.is_some_and(|gone| second == gone + consent) {
                let lost = SessionEvent::ConsentLost { end: end(&lab) };
                media_reports(&mut lab, lost);
            }
            lab.advance(SECOND);
        }
        lab.advance(Duration::from_millis(100));
        assert!(lab.got(T1, "BYE"), "media gone after {gone:?} s: not over after {over} s");
        let bye = lab.take(T1, "BYE");
        lab.reply(T1, &bye, 200, "");
        lab.expect_idle();
    }
}

#[test]
fn media_that_comes_back_makes_the_grace_long_again() {
    let mut lab = talking();
    close(&mut lab, ALICE);
    faded(&mut lab);
    lab.plays("20.0s");
    regained(&mut lab);
    lab.plays("220.0s");
    assert_eq!(lab.gateway.gauges().calls, 1);
    is_back(&mut lab);
    ends(&mut lab, BACK);
}

/// After a restart of the gateway the same holds: media that continues is the proof.
#[test]
fn a_leg_from_before_a_restart_waits_by_the_same_rule() {
    for (alive, at) in [(true, "300.4"), (false, "30.4")] {
        let mut lab = talking();
        lab.restart(Duration::from_millis(400));
        if !alive {
            faded(&mut lab);
        }
        lab.plays(&format!(
            "{at}s t1 ← BYE
             {at}s t1 → 200 BYE"
        ));
        lab.expect_idle();
    }
}

/// A restart is asked for on the leg of a browser that was called too, and by a browser that is
/// not registered but proves itself in the dialog.
#[test]
fn the_leg_of_a_browser_that_was_called_moves_the_same_way() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s t1 calls +12065550111 at alice
         0.0s alice answers t1",
    );
    let ringing = lab.last(ALICE, "INVITE");
    let ok = lab.last(T1, "200 INVITE");
    let (session, end) = lab.ends[1];
    let tell = |lab: &mut Lab, event| {
        lab.handle(Input::Media { session, notice: Notice::Media(event) });
    };
    tell(&mut lab, SessionEvent::Connected { end, address: ALICE.remote() });
    close(&mut lab, ALICE);
    lab.advance(SECOND);
    tell(&mut lab, SessionEvent::Faded { end, since: SECOND });
    open(&mut lab, BACK);
    let text = lab.in_dialog_with(BACK, &ringing, "OPTIONS", 700, "", "");
    let answer = crate::recovery::prove(&mut lab, BACK, &text, ("alice", "secret-a"));
    assert_eq!(answer.status(), 200, "{}", lab.picture());
    let asked = lab.take(BACK, "INVITE");
    answers(&mut lab, BACK, &asked, &restarted(1));
    tell(&mut lab, SessionEvent::Regained { end });
    let bye = lab.in_dialog(T1, &ok, "BYE", 900, "", "");
    lab.says(T1, &bye);
    let bye = lab.take(BACK, "BYE");
    lab.reply(BACK, &bye, 200, "");
    lab.expect_idle();
}

/// A connection that is dead without a reset is noticed within 10 s while a call goes by it.
#[test]
fn only_connections_that_carry_calls_are_watched_closely() {
    let (Peer::Browser(_, alice), Peer::Browser(_, back)) = (ALICE, BACK) else { return };
    let mut lab = talking();
    assert_eq!(lab.in_call, [Flow(alice)]);
    close(&mut lab, ALICE);
    lab.in_call.clear();
    is_back(&mut lab);
    assert_eq!(lab.in_call, [Flow(back)]);
    ends(&mut lab, BACK);
    assert!(lab.in_call.is_empty(), "{:?}", lab.in_call);
}

/// Consent that is renewed in the last moment counts, and one that is lost again later is a new
/// loss.
#[test]
fn consent_that_is_renewed_starts_afresh() {
    let mut lab = talking();
    let lost = SessionEvent::ConsentLost { end: end(&lab) };
    close(&mut lab, ALICE);
    lab.plays("1.0s");
    is_back(&mut lab);
    // Its media comes, without checks.
    media_reports(&mut lab, lost.clone());
    lab.plays("6.0s");
    assert_eq!(lab.gateway.gauges().calls, 1);
    regained(&mut lab);
    lab.plays("66.0s");
    faded(&mut lab);
    lab.plays("70.0s alice-7 ← INVITE sdp");
    let asked = lab.last(BACK, "INVITE");
    answers(&mut lab, BACK, &asked, &restarted(1));
    regained(&mut lab);
    lab.plays(
        "70.0s alice-7 → 200 INVITE sdp recvonly
         70.0s alice-7 ← ACK",
    );
    ends(&mut lab, BACK);
    // Without a renewal it is over when the time to renew it is.
    let mut lab = talking();
    close(&mut lab, ALICE);
    lab.plays("1.0s");
    is_back(&mut lab);
    media_reports(&mut lab, lost);
    lab.plays(
        "11.0s alice-7 ← BYE
         11.0s t1 ← BYE
         11.0s alice-7 → 200 BYE
         11.0s t1 → 200 BYE",
    );
    lab.expect_idle();
}
