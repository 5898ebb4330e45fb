//! Hold, resume, refresh, glare, delayed offers: each on its own leg.

use crate::lab::*;
use webtrunk::sdp::Direction;
use webtrunk::sdp::offer_answer::Remote;
use webtrunk::worker::WorkerCommand;

fn body(message: &webtrunk::sip::Message) -> String {
    String::from_utf8_lossy(message.body()).into_owned()
}

fn directions(lab: &Lab) -> Vec<Direction> {
    lab.media
        .iter()
        .filter_map(|c| {
            if let WorkerCommand::Configure { settings, .. } = c {
                Some(settings.negotiated.direction)
            } else {
                None
            }
        })
        .collect()
}

#[test]
fn every_legal_direction_gets_its_legal_answer_and_the_other_leg_hears_nothing() {
    for (offered, answered) in [
        ("sendrecv", "sendrecv"),
        ("sendonly", "recvonly"),
        ("recvonly", "sendonly"),
        ("inactive", "inactive"),
    ] {
        let mut lab = Lab::with_phones();
        let (ok, _) = lab.talk("+12065550123");
        let offer = OFFER.replace("a=sendrecv", &format!("a={offered}")).replacen(
            " 2 IN IP4",
            " 3 IN IP4",
            1,
        );
        let text = lab.in_dialog(ALICE, &ok, "INVITE", 91, "", &offer);
        lab.says(ALICE, &text);
        let held = lab.take(ALICE, "200");
        assert!(body(&held).contains(&format!("a={answered}\r\n")), "{offered}: {}", body(&held));
        lab.ack(ALICE, &held);
        assert!(!lab.got(T1, "INVITE"), "the trunk is not renegotiated");
        assert_eq!(directions(&lab).last().map(|d| d.as_str()), Some(answered));
        let bye = lab.in_dialog(ALICE, &ok, "BYE", 92, "", "");
        lab.says(ALICE, &bye);
        lab.expect_idle();
    }
}

/// What a description asks a browser to send of Opus.
fn asked(message: &webtrunk::sip::Message) -> Option<String> {
    body(message)
        .lines()
        .find_map(|l| l.strip_prefix("a=fmtp:111 minptime=10;useinbandfec=1"))
        .map(str::to_owned)
}

const NARROW: &str = ";maxplaybackrate=8000;maxaveragebitrate=32000";
const WIDE: &str = ";maxplaybackrate=16000;maxaveragebitrate=48000";

#[test]
fn a_browser_is_asked_for_the_bandwidth_of_the_other_side() {
    let mut lab = Lab::changed(
        &[("context = \"incoming\"", "context = \"incoming\"\ncodecs = [\"pcmu\", \"g722\"]")],
        "",
    );
    let wide = TRUNK_SDP.replace("RTP/AVP 0 101", "RTP/AVP 9 101").replace("o=- 1 1", "o=- 1 2");
    let (ok, invite) = lab.talk("+12065550123");
    assert_eq!(asked(&ok).as_deref(), Some(NARROW));
    // The trunk stays on G.722: nobody else gets an offer, and her own next offer is
    // answered by it.
    let text = lab.in_dialog(T1, &invite, "INVITE", 2, "peer", &wide);
    lab.says(T1, &text);
    lab.plays(
        "0.0s t1 → INVITE sdp
         0.0s t1 ← 100 INVITE
         0.0s t1 ← 200 INVITE sdp
         0.0s t1 → ACK",
    );
    let hold = OFFER.replacen(" 2 IN IP4", " 3 IN IP4", 1);
    let text = lab.in_dialog(ALICE, &ok, "INVITE", 91, "", &hold);
    lab.says(ALICE, &text);
    lab.plays(
        "0.0s alice → INVITE sdp
         0.0s alice ← 100 INVITE
         0.0s alice ← 200 INVITE sdp
         0.0s alice → ACK
         0.0s alice hangs up on t1",
    );
    let held = lab.last(ALICE, "200 INVITE");
    assert_eq!(asked(&held).as_deref(), Some(WIDE));
    // A trunk that calls: by what it offers, and this trunk may use.
    for (offered, wanted) in [
        (TRUNK_SDP, NARROW),
        (&wide.replace("AVP 9", "AVP 0 9 8"), WIDE),
        (
            &TRUNK_SDP.replace("AVP 0 101\r\n", "AVP 0 101 96\r\na=rtpmap:96 opus/48000/2\r\n"),
            NARROW,
        ),
        ("", ""),
    ] {
        lab.invite(T1, "+12065550111", offered);
        let invite = lab.take(ALICE, "INVITE");
        assert_eq!(asked(&invite).as_deref(), Some(wanted), "{offered}");
        lab.reply(ALICE, &invite, 486, "");
        lab.clear();
    }
    // Another browser hears all there is.
    lab.plays(
        "0.0s alice calls 201 at bob
         0.0s bob answers alice
         0.0s alice hangs up on bob",
    );
    let invite = lab.last(BOB, "INVITE");
    assert_eq!(asked(&invite).as_deref(), Some(""));
    let ok = lab.last(ALICE, "200 INVITE");
    assert_eq!(asked(&ok).as_deref(), Some(""));
    lab.expect_idle();
}

#[test]
fn a_trunk_holds_with_the_old_zero_address_and_resumes() {
    let mut lab = Lab::with_phones();
    let (_, invite) = lab.talk("+12065550123");
    for (cseq, sdp, direction) in [
        (2, TRUNK_SDP.replace("c=IN IP4 127.0.0.10", "c=IN IP4 0.0.0.0"), "recvonly"),
        (3, TRUNK_SDP.to_owned(), "sendrecv"),
    ] {
        let sdp = sdp.replace("o=- 1 1", &format!("o=- 1 {cseq}"));
        let text = lab.in_dialog(T1, &invite, "INVITE", cseq, "peer", &sdp);
        lab.says(T1, &text);
        let ok = lab.take(T1, "200 INVITE");
        assert!(body(&ok).contains(&format!("a={direction}\r\n")), "{}", body(&ok));
        lab.ack(T1, &ok);
    }
    lab.plays(
        "0.0s t1 → INVITE sdp
         0.0s t1 ← 100 INVITE
         0.0s t1 ← 200 INVITE sdp recvonly
         0.0s t1 → ACK
         0.0s t1 → INVITE sdp
         0.0s t1 ← 100 INVITE
         0.0s t1 ← 200 INVITE sdp
         0.0s t1 → ACK
         0.0s t1 hangs up on alice",
    );
    lab.expect_idle();
}

#[test]
fn a_session_refresh_is_answered_without_touching_media() {
    let mut lab = Lab::with_phones();
    let (ok, _) = lab.talk("+12065550123");
    let configured = directions(&lab).len();
    let text = lab.in_dialog(ALICE, &ok, "INVITE", 91, "", OFFER);
    lab.says(ALICE, &text);
    lab.plays(
        "0.0s alice → INVITE sdp
         0.0s alice ← 100 INVITE
         0.0s alice ← 200 INVITE sdp
         0.0s alice → ACK",
    );
    let refreshed = lab.last(ALICE, "200 INVITE");
    assert_eq!(refreshed.body(), ok.body(), "the same answer");
    assert_eq!(directions(&lab).len(), configured);
    lab.plays("0.0s alice hangs up on t1");
    lab.expect_idle();
}

#[test]
fn a_reinvite_we_cannot_use_is_488_and_the_call_stays_as_it_was() {
    let mut lab = Lab::with_phones();
    let (_, invite) = lab.talk("+12065550123");
    let g729 = TRUNK_SDP
        .replace("RTP/AVP 0 101", "RTP/AVP 18")
        .replace("a=rtpmap:0 PCMU/8000\r\n", "")
        .replace("o=- 1 1", "o=- 1 2");
    let text = lab.in_dialog(T1, &invite, "INVITE", 2, "peer", &g729);
    lab.says(T1, &text);
    lab.plays(
        "0.0s t1 → INVITE sdp
         0.0s t1 ← 100 INVITE
         0.0s t1 ← 488 INVITE",
    );
    let refused = lab.last(T1, "488 INVITE");
    let warning = refused.header(webtrunk::sip::HeaderName::Warning).expect("a reason");
    assert!(warning.starts_with("305 ") && warning.contains("G729"), "{warning}");
    assert_eq!(lab.gateway.gauges().calls, 1);
    lab.plays("0.0s t1 hangs up on alice");
    lab.expect_idle();
}

#[test]
fn a_reinvite_before_the_first_answer_is_491_and_one_that_overtakes_the_ack_is_answered() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls 201 at bob
         0.0s bob rings alice",
    );
    let ringing = lab.last(ALICE, "180 INVITE");
    let early = lab.in_dialog(ALICE, &ringing, "INVITE", 90, "", OFFER);
    lab.says(ALICE, &early);
    lab.plays(
        "0.0s alice → INVITE sdp
         0.0s alice ← 100 INVITE
         0.0s alice ← 491 INVITE
         0.0s bob → 200 INVITE sdp recvonly
         0.0s bob ← ACK
         0.0s alice ← 200 INVITE sdp",
    );
    let ok = lab.last(ALICE, "200 INVITE");
    let text = lab.in_dialog(ALICE, &ok, "INVITE", 91, "", OFFER);
    lab.says(ALICE, &text);
    lab.plays(
        "0.0s alice → INVITE sdp
         0.0s alice ← 100 INVITE
         0.0s alice ← 200 INVITE sdp",
    );
    let again = lab.last(ALICE, "200 INVITE");
    // The ACKs come in the wrong order.
    lab.ack(ALICE, &again);
    lab.ack(ALICE, &ok);
    lab.clear();
    lab.advance(std::time::Duration::from_secs(40));
    assert!(!lab.got(ALICE, "200"), "neither is repeated");
    lab.plays("40.0s alice hangs up on bob");
    lab.expect_idle();
}

/// Alice has answered a trunk that offers nothing: its 200 has our offer, and waits for its ACK.
fn called_without_an_offer() -> (Lab, webtrunk::sip::Message) {
    let mut lab = Lab::with_phones();
    lab.invite(T1, "+12065550111", "");
    lab.plays(
        "0.0s t1 → INVITE +12065550111
         0.0s t1 ← 100 INVITE
         0.0s alice ← INVITE sdp
         0.0s alice → 200 INVITE sdp recvonly
         0.0s alice ← ACK
         0.0s t1 ← 200 INVITE sdp",
    );
    let ok = lab.last(T1, "200 INVITE");
    (lab, ok)
}

#[test]
fn a_reinvite_that_overtakes_an_answer_is_500_until_that_has_come() {
    let (mut lab, ok) = called_without_an_offer();
    let cseq = ok.cseq().unwrap().number;
    let hold = TRUNK_SDP.replace("o=- 1 1", "o=- 1 2");
    let early = lab.in_dialog(T1, &ok, "INVITE", cseq + 1, "", &hold);
    lab.says(T1, &early);
    lab.plays(
        "0.0s t1 → INVITE sdp
         0.0s t1 ← 100 INVITE
         0.0s t1 ← 500 INVITE
         0.0s t1 → ACK",
    );
    let refused = lab.last(T1, "500 INVITE");
    assert!(refused.header(webtrunk::sip::HeaderName::RetryAfter).is_some());
    let ack = lab.in_dialog(T1, &ok, "ACK", cseq, "", TRUNK_SDP);
    lab.says(T1, &ack);
    let again = lab.in_dialog(T1, &ok, "INVITE", cseq + 2, "", &hold);
    lab.says(T1, &again);
    lab.plays(
        "0.0s t1 → ACK sdp
         0.0s t1 → INVITE sdp
         0.0s t1 ← 100 INVITE
         0.0s t1 ← 200 INVITE sdp
         0.0s t1 → ACK
         0.0s t1 hangs up on alice",
    );
    lab.expect_idle();
}

#[test]
fn a_trunk_without_an_offer_gets_ours_in_the_200_and_answers_in_the_ack() {
    let (mut lab, ok) = called_without_an_offer();
    assert!(body(&ok).contains("m=audio") && body(&ok).contains("RTP/AVP"), "{}", body(&ok));
    let cseq = ok.cseq().unwrap().number;
    let ack = lab.in_dialog(T1, &ok, "ACK", cseq, "", TRUNK_SDP);
    lab.says(T1, &ack);
    assert!(
        matches!(lab.media.last(), Some(WorkerCommand::Bridge { .. })),
        "{:?}",
        lab.media.last()
    );
    lab.plays(
        "0.0s t1 → ACK sdp
         0.0s t1 hangs up on alice",
    );
    lab.expect_idle();
}

#[test]
fn a_delayed_answer_that_is_unusable_ends_the_call_with_bye_to_both() {
    let mut lab = Lab::with_phones();
    lab.invite(T1, "+12065550111", "");
    lab.plays(
        "0.0s t1 → INVITE +12065550111
         0.0s t1 ← 100 INVITE
         0.0s alice ← INVITE sdp
         0.0s alice answers t1
         0.0s t1 ← BYE
         0.0s alice ← BYE
         0.5s t1 ← BYE
         1.0s",
    );
    lab.expect_idle();
}

#[test]
fn an_ice_restart_gets_new_credentials() {
    let mut lab = Lab::with_phones();
    let (ok, _) = lab.talk("+12065550123");
    let value = |text: &str, key: &str| {
        text.lines().find_map(|l| l.strip_prefix(key).map(str::to_owned)).expect("the line")
    };
    let old = value(&body(&ok), "a=ice-ufrag:");
    let theirs = value(OFFER, "a=ice-ufrag:");
    let offer = OFFER.replace(&theirs, "NEWU").replacen(" 2 IN IP4", " 3 IN IP4", 1);
    let text = lab.in_dialog(ALICE, &ok, "INVITE", 91, "", &offer);
    lab.says(ALICE, &text);
    lab.plays(
        "0.0s alice → INVITE sdp
         0.0s alice ← 100 INVITE
         0.0s alice ← 200 INVITE sdp
         0.0s alice → ACK
         0.0s alice hangs up on t1",
    );
    let again = lab.last(ALICE, "200 INVITE");
    assert_ne!(value(&body(&again), "a=ice-ufrag:"), old);
    lab.expect_idle();
}

/// A certificate that was rolled is a new association for media (RFC 8842 §5.5), and the same call.
#[test]
fn a_reoffer_with_another_certificate_or_tls_id_reaches_media_and_no_other_leg() {
    let agreed = |lab: &Lab| {
        let of = |c: &WorkerCommand| match c {
            WorkerCommand::Configure { settings, .. } => Some(settings.negotiated.remote.clone()),
            _ => None,
        };
        lab.media.iter().rev().find_map(of).expect("it was settled")
    };
    let mut lab = Lab::with_phones();
    let (ok, _) = lab.talk("+12065550123");
    for (n, (from, to)) in [
        ("sha-256 37:E5", "sha-256 38:E5"),
        ("a=setup:actpass", "a=tls-id:abcdefghijklmnopqrstuvwxyz\r\na=setup:actpass"),
        ("a=setup:actpass", "a=setup:passive"),
    ]
    .into_iter()
    .enumerate()
    {
        lab.media.clear();
        let version = format!(" {} IN IP4", n + 3);
        let offer = OFFER.replacen(" 2 IN IP4", &version, 1).replace(from, to);
        let text = lab.in_dialog(ALICE, &ok, "INVITE", 91 + n as u32, "", &offer);
        lab.says(ALICE, &text);
        let again = lab.take(ALICE, "200");
        lab.ack(ALICE, &again);
        let Remote::Dtls { fingerprints, active, tls_id, .. } = agreed(&lab) else {
            panic!("a browser's")
        };
        assert_eq!(fingerprints.len(), 1);
        assert_eq!(fingerprints[0][0], if n == 0 { 0x38 } else { 0x37 });
        assert_eq!((tls_id.is_some(), active), (n == 1, n == 2));
        let setup = if active { "a=setup:active" } else { "a=setup:passive" };
        assert!(body(&again).contains(setup), "{}", body(&again));
        assert!(!lab.got(T1, "INVITE") && !lab.got(T1, "UPDATE"));
    }
    let bye = lab.in_dialog(ALICE, &ok, "BYE", 99, "", "");
    lab.says(ALICE, &bye);
    lab.expect_idle();
}
