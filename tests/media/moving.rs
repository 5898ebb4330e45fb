//! A browser that moves to another network: it is missed, restarts ICE with credentials of which
//! the old ones continue, and is heard under the same keys from its validated address.

use crate::lab::*;
use std::net::SocketAddr;
use std::time::Duration;
use webtrunk::codec::Codec;
use webtrunk::media::endpoint::Port;
use webtrunk::media::session::SessionEvent;
use webtrunk::media::stun::{BindingRequest, binding_request};
use webtrunk::sdp::offer_answer::{Ice, Remote};

const FRAME: Duration = Duration::from_millis(20);

/// Checks with these credentials of ours and the browser's. Returns whether it was answered.
fn checks(call: &mut Call, from: SocketAddr, ours: &Ice, theirs: &str) -> bool {
    let name = format!("{}:{theirs}", ours.ufrag);
    let mut request = binding_request([3; 12], &name, &ours.pwd, true);
    let before = call.log.sent.len();
    call.session.receive(call.now, Port::Browser, BROWSER, from, &mut request, &mut call.log);
    call.log.sent[before..].iter().any(|(_, to, _)| *to == from)
}

/// Speaks for so many frames.
fn talks(call: &mut Call, first: u32, frames: u32) {
    for n in first..first + frames {
        call.browser_sends(111, n * 960, &[0xf8, 0xff, 0xfe]);
        call.pass(FRAME);
    }
}

/// Where packets of the trunk's go, as the browser's media.
fn goes_to(call: &mut Call, sequence: u16) -> Option<SocketAddr> {
    call.log.sent.clear();
    for n in 0..5 {
        call.trunk_sends(addr(TRUNK_ADDRESS.0, TRUNK_ADDRESS.1), sequence + n, &[0x7f; 160]);
        call.pass(FRAME);
    }
    let media = call.log.sent.iter().find(|(port, _, d)| *port == Port::Browser && d[0] >= 128);
    media.map(|(_, to, _)| *to)
}

fn reports(call: &Call) -> Vec<&SessionEvent> {
    let of = |e: &&SessionEvent| {
        matches!(
            e,
            SessionEvent::Faded { .. }
                | SessionEvent::Regained { .. }
                | SessionEvent::ConsentLost { .. }
        )
    };
    call.log.events.iter().filter(of).collect()
}

fn restarted() -> Remote {
    let Remote::Dtls { fingerprints, active, tls_id, .. } = dtls_remote() else { panic!("DTLS") };
    Remote::Dtls { ice: ice("moved"), local_ice: ice("fresh"), fingerprints, active, tls_id }
}

#[test]
fn a_browser_that_moves_restarts_ice_and_continues_under_its_keys() {
    let mut call = Call::connected(Codec::Opus, Codec::Pcmu);
    let home = call.browser;
    talks(&mut call, 0, 50);
    assert!(goes_to(&mut call, 1) == Some(home) && reports(&call).is_empty());
    call.pass(Duration::from_secs(2));
    assert!(matches!(reports(&call)[..], [SessionEvent::Faded { end: BROWSER, .. }]));
    call.session.offer_ice(BROWSER, ice("fresh"));
    let away = addr(30, 6_000);
    // Its answer is still on its way: its name for itself is not known yet, its password is right.
    assert!(!checks(&mut call, addr(66, 6), &Ice { pwd: "guessed".into(), ..ice("fresh") }, "x"));
    assert!(checks(&mut call, away, &ice("fresh"), "moved"), "early checks are answered");
    assert!(checks(&mut call, home, &ice("ours"), "theirs"), "and so are those of before");
    assert_eq!(goes_to(&mut call, 6), Some(home), "a check proves its sender, not its address");
    call.session.configure(call.now, BROWSER, settings(Codec::Opus, restarted()), &mut call.log);
    assert!(!checks(&mut call, addr(66, 6), &ice("fresh"), "theirs"), "that is another's name");
    assert!(checks(&mut call, away, &ice("fresh"), "moved"));
    call.browser = away;
    talks(&mut call, 200, 5);
    assert_eq!(goes_to(&mut call, 11), Some(away));
    assert!(matches!(reports(&call)[..], [.., SessionEvent::Regained { end: BROWSER }]));
    let again = |e: &SessionEvent| {
        matches!(e, SessionEvent::Secured { .. } | SessionEvent::DtlsFailed { .. })
    };
    assert!(!call.log.events.iter().any(again), "no new handshake");
    // The pair of before serves until the next restart.
    assert!(checks(&mut call, home, &ice("ours"), "theirs"));
    call.session.configure(call.now, BROWSER, settings(Codec::Opus, restarted()), &mut call.log);
    assert!(checks(&mut call, away, &ice("fresh"), "moved"), "a refresh changes nothing");
}

#[test]
fn a_restart_that_is_not_answered_changes_nothing() {
    let mut call = Call::connected(Codec::Opus, Codec::Pcmu);
    let home = call.browser;
    call.session.offer_ice(BROWSER, ice("fresh"));
    call.session.offer_ice(BROWSER, ice("fresher"));
    assert!(!checks(&mut call, home, &ice("fresh"), "theirs"), "the newest offer counts");
    talks(&mut call, 0, 3);
    assert!(checks(&mut call, home, &ice("ours"), "theirs"));
    assert_eq!(goes_to(&mut call, 1), Some(home));
}

/// Nothing is sent without consent (RFC 7675 §5.1), and no number is spent on it; a check from
/// where media goes renews it.
#[test]
fn without_consent_nothing_is_sent_until_it_is_renewed() {
    let mut call = Call::connected(Codec::Opus, Codec::Pcmu);
    let home = call.browser;
    talks(&mut call, 0, 10);
    assert_eq!(goes_to(&mut call, 1), Some(home));
    for n in 6..(32 * 50) {
        call.trunk_sends(addr(TRUNK_ADDRESS.0, TRUNK_ADDRESS.1), n, &[0x7f; 160]);
        call.pass(FRAME);
    }
    assert!(
        matches!(
            reports(&call)[..],
            [SessionEvent::Faded { .. }, SessionEvent::ConsentLost { .. }]
        ),
        "{:?}",
        reports(&call)
    );
    assert_eq!(goes_to(&mut call, 1_600), None);
    call.pass(Duration::from_secs(60));
    assert_eq!(reports(&call).len(), 2, "that is reported once");
    // Somebody who knows the password checks from elsewhere: that is no consent to send there.
    assert!(checks(&mut call, addr(31, 7_000), &ice("ours"), "theirs"));
    assert_eq!(goes_to(&mut call, 1_605), None);
    // Nor does media that comes without checks.
    talks(&mut call, 300, 3);
    assert_eq!(reports(&call).len(), 2, "without consent nobody is there");
    assert!(checks(&mut call, home, &ice("ours"), "theirs"));
    assert!(matches!(reports(&call)[..], [.., SessionEvent::Regained { end: BROWSER }]));
    assert_eq!(goes_to(&mut call, 1_610), Some(home));
    call.pass(Duration::from_secs(31));
    assert!(
        matches!(reports(&call)[..], [.., SessionEvent::ConsentLost { .. }]),
        "and runs out again"
    );
}

/// A browser that sends nothing, on hold or without a microphone, is missed by its checks.
#[test]
fn a_browser_that_only_checks_is_missed_after_longer() {
    let mut call = Call::connected(Codec::Opus, Codec::Pcmu);
    let home = call.browser;
    talks(&mut call, 0, 10);
    // Consent is checked every 4 to 6 s (RFC 7675 §5.1).
    for _ in 0..10 {
        call.pass(Duration::from_secs(6));
        checks(&mut call, home, &ice("ours"), "theirs");
    }
    let faded = |call: &Call| reports(call).len();
    assert!(faded(&call) <= 2, "once as the media stopped: {:?}", reports(&call));
    let before = faded(&call);
    call.pass(Duration::from_millis(6_900));
    assert_eq!(faded(&call), before);
    call.pass(Duration::from_millis(200));
    assert_eq!(faded(&call), before + 1);
}

/// The last check that the gateway sent there, if it sent one.
fn asked(call: &Call, at: SocketAddr) -> Option<Vec<u8>> {
    let checks = call.log.sent.iter().filter(|(_, to, d)| *to == at && d[..2] == [0, 1]);
    checks.map(|(.., datagram)| datagram.clone()).next_back()
}

fn answers(call: &mut Call, from: SocketAddr, check: &[u8], password: &str) {
    let request = BindingRequest::parse(check).expect("a check");
    let mut response = request.success(addr(1, 1), password);
    call.session.receive(call.now, Port::Browser, BROWSER, from, &mut response, &mut call.log);
}

#[test]
fn media_from_a_new_nat_mapping_is_checked_by_stun_and_followed_at_once() {
    let mut call = Call::connected(Codec::Opus, Codec::Pcmu);
    let (home, away) = (call.browser, addr(20, 9_000));
    talks(&mut call, 0, 50);
    assert_eq!(goes_to(&mut call, 1), Some(home));
    // The browser does not notice: it keeps sending, and our media goes to its old address.
    call.browser = away;
    talks(&mut call, 60, 1);
    let check = asked(&call, away).expect("it is asked");
    let request = BindingRequest::parse(&check).expect("well-formed");
    assert_eq!(request.username, "theirs:ours", "RFC 8445 7.2.2");
    assert!(request.controlled && !request.use_candidate, "we are the controlled agent");
    assert!(request.is_authentic(&ice("theirs").pwd));
    assert_eq!(goes_to(&mut call, 10), Some(home), "nobody has answered");
    answers(&mut call, away, &check, &ice("theirs").pwd);
    assert_eq!(goes_to(&mut call, 20), Some(away));
    let heard = call.trunk_gets().len();
    talks(&mut call, 70, 5);
    assert!(call.trunk_gets().len() > heard, "and it is heard from there");
    assert!(reports(&call).is_empty(), "nobody was missed");
    // And again, each time anew.
    for (n, at) in [(1, addr(20, 9_001)), (2, addr(20, 9_002))] {
        call.browser = at;
        call.pass(Duration::from_millis(100));
        talks(&mut call, 100 + 20 * n, 1);
        let check = asked(&call, at).expect("it is asked");
        answers(&mut call, at, &check, &ice("theirs").pwd);
        assert_eq!(goes_to(&mut call, 100 + 20 * n as u16), Some(at));
    }
}

/// Chromium speaks by a pair as soon as its check was answered, and nominates it by the next one:
/// after a restart that took 3 s more, in which it heard nothing.
#[test]
fn a_browser_that_speaks_before_it_nominates_hears_at_once() {
    let mut call = Call::connected(Codec::Opus, Codec::Pcmu);
    let (home, away) = (call.browser, addr(20, 9_000));
    talks(&mut call, 0, 50);
    call.check(away, false);
    assert_eq!(asked(&call, away), None, "a check alone asks nothing back");
    call.browser = away;
    talks(&mut call, 60, 1);
    let check = asked(&call, away).expect("it is asked");
    assert_eq!(goes_to(&mut call, 10), Some(home), "nobody has answered");
    answers(&mut call, away, &check, &ice("theirs").pwd);
    assert_eq!(goes_to(&mut call, 20), Some(away));
    talks(&mut call, 70, 20);
    assert_eq!(asked(&call, away), None, "once");
    assert!(reports(&call).is_empty(), "nobody was missed");
}

/// A browser that returns to a network continues with the pair it had there, which is of before the
/// restart that it made elsewhere: a check with the new credentials alone gets no answer.
#[test]
fn a_browser_that_is_back_at_an_earlier_network_is_asked_under_either_names() {
    let mut call = Call::connected(Codec::Opus, Codec::Pcmu);
    let home = call.browser;
    let away = addr(20, 9_000);
    talks(&mut call, 0, 50);
    call.session.offer_ice(BROWSER, ice("fresh"));
    call.session.configure(call.now, BROWSER, settings(Codec::Opus, restarted()), &mut call.log);
    assert!(checks(&mut call, away, &ice("fresh"), "moved"));
    call.browser = away;
    talks(&mut call, 60, 5);
    assert_eq!(goes_to(&mut call, 10), Some(away));
    call.browser = home;
    let mut names = Vec::new();
    for n in 0..3 {
        call.log.sent.clear();
        talks(&mut call, 70 + n, 1);
        let check = asked(&call, home).expect("it is asked again");
        let request = BindingRequest::parse(&check).expect("well-formed");
        names.push(request.username.to_owned());
        if names.len() == 2 {
            assert_eq!(goes_to(&mut call, 20), Some(away), "nobody has answered");
            answers(&mut call, home, &check, &ice("theirs").pwd);
            break;
        }
        call.pass(Duration::from_millis(100));
    }
    assert_eq!(names, ["moved:fresh", "theirs:ours"]);
    assert_eq!(goes_to(&mut call, 30), Some(home));
}

#[test]
fn nothing_else_asks_a_stranger_and_no_other_answer_moves_anything() {
    let mut call = Call::connected(Codec::Opus, Codec::Pcmu);
    let (home, stranger) = (call.browser, addr(66, 6));
    talks(&mut call, 0, 10);
    let receive = |call: &mut Call, from, datagram: &[u8]| {
        let mut datagram = datagram.to_vec();
        call.session.receive(call.now, Port::Browser, BROWSER, from, &mut datagram, &mut call.log);
    };
    // A copy of what was heard already, and what no key made.
    let fresh = call.sealed(111, 20 * 960, &[0xf8, 0xff, 0xfe]);
    receive(&mut call, home, &fresh);
    receive(&mut call, stranger, &fresh);
    let mut forged = call.sealed(111, 21 * 960, &[0xf8, 0xff, 0xfe]);
    *forged.last_mut().expect("a tag") ^= 1;
    receive(&mut call, stranger, &forged);
    assert_eq!(asked(&call, stranger), None);
    // What was never heard is asked back, and moves nothing.
    let first = call.sealed(111, 22 * 960, &[0xf8, 0xff, 0xfe]);
    receive(&mut call, stranger, &first);
    let check = asked(&call, stranger).expect("authentic and new");
    answers(&mut call, stranger, &check, "guessed");
    answers(&mut call, addr(66, 7), &check, &ice("theirs").pwd);
    answers(&mut call, stranger, &binding_request([9; 12], "x:y", "z", false), &ice("theirs").pwd);
    assert_eq!(goes_to(&mut call, 1), Some(home));
    // An address that does not answer gets ten checks in all, and no more bytes than it sent.
    call.log.sent.clear();
    let mut sent = 0;
    for n in 0..200 {
        let datagram = call.sealed(111, (30 + n) * 960, &[0xf8; 100]);
        sent += datagram.len();
        receive(&mut call, stranger, &datagram);
        call.pass(FRAME);
    }
    let checks = call.log.sent.iter().filter(|(_, to, _)| *to == stranger);
    let (count, bytes) = checks.fold((0, 0), |(n, all), (.., d)| (n + 1, all + d.len()));
    assert!(count == 9 && bytes < sent, "{count} checks, {bytes} of {sent} bytes");
}
