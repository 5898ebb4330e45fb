//! Registration with carriers, and of a PBX with us.

use crate::lab::*;
use crate::trunk_health::{REALM, says};
use std::time::Duration;
use webtrunk::sip::{HeaderName, Message};

const REGISTERING: &str = "realm = \"carrier\"\nregister = true";

fn challenge(nonce: &str, more: &str) -> String {
    format!(
        "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"{nonce}\", algorithm=SHA-256, qop=\"auth\"{more}\r\n"
    )
}

#[test]
fn we_register_with_a_carrier_answer_its_digest_refresh_in_time_and_use_its_service_route() {
    let mut lab = Lab::changed(&[(REALM, REGISTERING)], "");
    let first = lab.last(T1, "REGISTER");
    assert_eq!(first.request_uri(), "sip:127.0.0.10");
    assert!(Lab::header(&first, HeaderName::To).contains("sip:acme@127.0.0.10"));
    lab.reply_with(T1, &first, 401, "", "x", &challenge("n1", ""));
    let second = lab.last(T1, "REGISTER");
    let credentials = Lab::header(&second, HeaderName::Authorization).to_owned();
    assert!(
        credentials.contains("nc=00000001") && credentials.contains("algorithm=SHA-256"),
        "{credentials}"
    );
    assert_eq!((second.call_id(), second.cseq().unwrap().number), (first.call_id(), 2));
    lab.reply_with(
        T1,
        &second,
        200,
        "",
        "x",
        "Expires: 100\r\nService-Route: <sip:edge.carrier;lr>\r\n",
    );
    assert_eq!(says(&lab, "TrunkRegistered"), 1);
    lab.plays(
        "79.0s
         91.0s",
    );
    let third = lab.last(T1, "REGISTER");
    lab.inbox.clear();
    assert!(
        Lab::header(&third, HeaderName::Authorization).contains("nc=00000002"),
        "the nonce is used on"
    );
    // The nonce is too old: stale is no refusal.
    lab.reply_with(T1, &third, 401, "", "x", &challenge("n2", ", stale=true"));
    let fourth = lab.last(T1, "REGISTER");
    let credentials = Lab::header(&fourth, HeaderName::Authorization);
    assert!(
        credentials.contains("nonce=\"n2\"") && credentials.contains("nc=00000001"),
        "{credentials}"
    );
    lab.reply_with(
        T1,
        &fourth,
        200,
        "",
        "x",
        "Expires: 100\r\nService-Route: <sip:edge.carrier;lr>\r\n",
    );
    lab.plays(
        "91.0s alice calls +12065550123 at t1
         91.0s t1 refuses alice with 486",
    );
    let invite = lab.last(T1, "INVITE");
    assert_eq!(Lab::header(&invite, HeaderName::Route), "<sip:edge.carrier;lr>");
}

#[test]
fn a_carrier_that_refuses_us_is_not_hammered_and_a_silent_one_is_tried_ever_slower() {
    let mut lab = Lab::changed(&[(REALM, REGISTERING)], "");
    let first = lab.take(T1, "REGISTER");
    lab.reply_with(T1, &first, 401, "", "x", &challenge("n1", ""));
    let second = lab.take(T1, "REGISTER");
    lab.reply_with(T1, &second, 401, "", "x", &challenge("n2", ""));
    assert!(!lab.got(T1, "REGISTER"));
    assert_eq!(says(&lab, "refuses our credentials"), 1);
    lab.advance(Duration::from_secs(590));
    assert!(!lab.got(T1, "REGISTER"), "an account is not locked by us");
    lab.advance(Duration::from_secs(20));
    lab.take(T1, "REGISTER");
    let mut tries = Vec::new();
    let began = lab.now;
    for _ in 0..400 {
        lab.advance(Duration::from_secs(30));
        if lab.inbox.iter().any(|(_, m)| m.method_token() == "REGISTER") {
            tries.push((lab.now - began).as_secs());
            lab.inbox.clear();
        }
    }
    let gaps: Vec<u64> = tries.windows(2).map(|w| w[1] - w[0]).filter(|g| *g > 60).collect();
    assert!(gaps.iter().max() > Some(&900) && gaps.iter().all(|g| *g < 1_900), "{gaps:?}");
}

#[test]
fn a_423_a_retry_after_and_several_registrars_are_each_followed() {
    let mut lab = Lab::changed(
        &[(
            REALM,
            "realm = \"carrier\"\nregister = [\"sip:127.0.0.10\", \"sip:127.0.0.11\"]\nregister_expires = \"60s\"",
        )],
        "",
    );
    let one = lab.take(T1, "REGISTER");
    let two = lab.take(T2, "REGISTER");
    assert_ne!(one.call_id(), two.call_id());
    lab.reply_with(T1, &one, 423, "", "x", "Min-Expires: 900\r\n");
    assert_eq!(Lab::header(&lab.take(T1, "REGISTER"), HeaderName::Expires), "900");
    lab.reply_with(T2, &two, 503, "", "x", "Retry-After: 45\r\n");
    lab.advance(Duration::from_secs(44));
    assert!(!lab.got(T2, "REGISTER"));
    lab.advance(Duration::from_secs(2));
    lab.take(T2, "REGISTER");
}

const ARRIVING: &str = "[trunk.office]\naccepts_registration = true\nusername = \"office\"\npassword = \"office-secret\"\ncontext = \"incoming\"\n[trunk.t2]\n";

/// The PBX at 127.0.0.77 registers.
fn arrive(lab: &mut Lab, expires: u32, password: &str) -> Message {
    let pbx = Peer::Trunk("office", 77);
    let n = lab.token();
    let text = format!(
        "REGISTER sip:wt.test SIP/2.0\r\nVia: SIP/2.0/UDP 10.9.9.9:5060;branch=z9hG4bK-{n};rport\r\nMax-Forwards: 70\r\nFrom: <sip:office@wt.test>;tag=f{n}\r\n\
         To: <sip:office@wt.test>\r\nCall-ID: reg{n}\r\nCSeq: {n} REGISTER\r\nContact: <sip:office@10.9.9.9:5060>\r\nExpires: {expires}\r\nContent-Length: 0\r\n\r\n"
    );
    lab.says(pbx, &text);
    let challenge = lab.take(pbx, "401");
    let answer = lab.answer_challenge(&challenge, &text, "office", password);
    lab.says(pbx, &answer);
    lab.inbox.pop_back().expect("an answer").1
}

#[test]
fn a_pbx_registers_from_anywhere_with_digest_and_is_called_where_it_came_from() {
    let pbx = Peer::Trunk("office", 77);
    let route =
        "[[route]]\nname = \"Office\"\nmatch = \"8XXX\"\ndo = [{ dial = [\"trunk:office\"] }]\n";
    let mut lab = Lab::changed(&[("[trunk.t2]\n", ARRIVING)], route);
    lab.plays(
        "0.0s alice → INVITE 8001 sdp
         0.0s alice ← 100 INVITE
         0.0s alice ← 500 INVITE",
    );
    assert!(Lab::header(&lab.take(ALICE, "500"), HeaderName::Reason).contains("not registered"));
    let stranger = lab.request(pbx, "INVITE", "sip:+12065550111@127.0.0.1", "", TRUNK_SDP);
    lab.says(pbx, &stranger);
    assert!(
        !lab.inbox.iter().any(|(h, _)| *h == pbx.hop()),
        "a stranger may register, nothing else"
    );
    assert_eq!(arrive(&mut lab, 300, "wrong").status(), 403);
    let ok = arrive(&mut lab, 300, "office-secret");
    assert_eq!(ok.status(), 200);
    assert!(ok.contact().unwrap().params.get("expires").is_some());
    lab.plays(
        "0.0s 127.0.0.77 → INVITE +12065550111 sdp
         0.0s alice calls 8001 at 127.0.0.77
         0.0s 127.0.0.77 refuses alice with 486",
    );
    let invite = lab.last(pbx, "INVITE");
    assert_eq!(
        invite.request_uri(),
        "sip:8001@10.9.9.9:5060",
        "asked for at its Contact, sent to where it came from"
    );
    let again = lab.request(
        pbx,
        "INVITE",
        "sip:+12065550111@127.0.0.1",
        "",
        TRUNK_SDP.replace("127.0.0.10", "127.0.0.77").as_str(),
    );
    lab.says(pbx, &again);
    lab.plays(
        "0.0s 127.0.0.77 calls +12065550111 at alice
         0.0s 127.0.0.77 → CANCEL
         0.0s 127.0.0.77 ← 200 CANCEL
         0.0s 127.0.0.77 ← 487 INVITE
         0.5s 127.0.0.77 ← 487 INVITE
         1.5s 127.0.0.77 ← 487 INVITE
         3.5s 127.0.0.77 ← 487 INVITE
         7.5s 127.0.0.77 ← 487 INVITE
         11.5s 127.0.0.77 ← 487 INVITE
         15.5s 127.0.0.77 ← 487 INVITE
         19.5s 127.0.0.77 ← 487 INVITE
         23.5s 127.0.0.77 ← 487 INVITE
         27.5s 127.0.0.77 ← 487 INVITE
         31.5s 127.0.0.77 ← 487 INVITE
         301.0s",
    );
    lab.inbox.clear();
    lab.says(pbx, &stranger.replace("z9hG4bK-", "z9hG4bK-late"));
    assert!(lab.inbox.is_empty(), "its registration ran out");
    arrive(&mut lab, 300, "office-secret");
    assert!(arrive(&mut lab, 0, "office-secret").contact().is_none());
    assert_eq!(says(&lab, "TrunkGone"), 1);
    lab.plays("301.0s 127.0.0.77 → INVITE +12065550111 sdp");
}

const OFFICE: &str =
    "[[route]]\nname = \"Office\"\nmatch = \"8XXX\"\ndo = [{ dial = [\"trunk:office\"] }]\n";

/// The gateway is killed for as long as this; alice comes back.
fn is_killed_for(lab: &mut Lab, away: u64) {
    lab.restart(Duration::from_secs(away));
    lab.log_in(ALICE, "secret-a", "uuid-a");
}

/// It does not notice that we were gone, and registers again when it always would have.
#[test]
fn a_pbx_that_registered_is_called_after_a_restart_and_again_until_its_time_is_over() {
    let mut lab = Lab::changed(&[("[trunk.t2]\n", ARRIVING)], OFFICE);
    arrive(&mut lab, 300, "office-secret");
    for away in [1, 50] {
        is_killed_for(&mut lab, away);
        let invite = lab.invite(ALICE, "8001", OFFER);
        let office = Peer::Trunk("office", 77);
        let called = lab.take(office, "INVITE");
        assert_eq!(called.request_uri(), "sip:8001@10.9.9.9:5060", "{invite}");
        lab.reply(office, &called, 486, "");
        lab.take(ALICE, "486");
        // And it may call.
        let call = lab.request(
            office,
            "INVITE",
            "sip:+12065550111@127.0.0.1",
            "",
            TRUNK_SDP.replace("127.0.0.10", "127.0.0.77").as_str(),
        );
        lab.says(office, &call);
        let ringing = lab.take(ALICE, "INVITE");
        lab.reply(ALICE, &ringing, 486, "");
        lab.take(office, "486");
        lab.inbox.clear();
    }
    // It asked for 300 s, whatever happened meanwhile.
    is_killed_for(&mut lab, 250);
    lab.invite(ALICE, "8001", OFFER);
    assert!(Lab::header(&lab.take(ALICE, "500"), HeaderName::Reason).contains("not registered"));
}

#[test]
fn a_pbx_that_left_or_is_not_configured_any_more_is_not_called_after_a_restart() {
    for leaves in [true, false] {
        let mut lab = Lab::changed(&[("[trunk.t2]\n", ARRIVING)], OFFICE);
        arrive(&mut lab, 300, "office-secret");
        lab.flush();
        if leaves {
            arrive(&mut lab, 0, "office-secret");
        } else {
            // Nobody is accepted in the next process.
            lab.configure_next(&[]);
        }
        is_killed_for(&mut lab, 1);
        let call = lab.request(
            Peer::Trunk("office", 77),
            "INVITE",
            "sip:+12065550111@127.0.0.1",
            "",
            TRUNK_SDP,
        );
        lab.inbox.clear();
        lab.says(Peer::Trunk("office", 77), &call);
        assert!(lab.inbox.is_empty(), "{leaves}: it is a stranger: {}", lab.picture());
    }
}

/// Its connection died with us: it connects again, and registers.
#[test]
fn a_pbx_that_registered_by_a_connection_is_not_reached_by_datagrams_after_a_restart() {
    use webtrunk::gateway::{FlowKind, Input};
    use webtrunk::sip::parse::Framing;
    use webtrunk::sip::transaction::{Flow, Hop};
    let mut lab = Lab::changed(&[("[trunk.t2]\n", ARRIVING)], OFFICE);
    let (remote, hop) = (Peer::Trunk("office", 77).remote(), Hop::Flow(Flow(9)));
    lab.handle(Input::FlowOpened { flow: Flow(9), kind: FlowKind::Tcp, remote });
    let says = |lab: &mut Lab, text: &str| {
        let message = Message::parse(text.as_bytes().to_vec(), Framing::WebSocket).expect("sound");
        lab.handle(Input::Received { hop, remote, message });
        lab.inbox.pop_back().expect("an answer").1
    };
    let text = "REGISTER sip:wt.test SIP/2.0\r\nVia: SIP/2.0/TCP 10.9.9.9;branch=z9hG4bK-1\r\n\
        Max-Forwards: 70\r\nFrom: <sip:office@wt.test>;tag=f\r\nTo: <sip:office@wt.test>\r\n\
        Call-ID: reg\r\nCSeq: 1 REGISTER\r\nContact: <sip:office@10.9.9.9;transport=tcp>\r\n\
        Expires: 300\r\nContent-Length: 0\r\n\r\n";
    let challenge = says(&mut lab, text);
    let answer = lab.answer_challenge(&challenge, text, "office", "office-secret");
    assert_eq!(says(&mut lab, &answer).status(), 200);
    is_killed_for(&mut lab, 1);
    lab.invite(ALICE, "8001", OFFER);
    assert!(Lab::header(&lab.take(ALICE, "500"), HeaderName::Reason).contains("not registered"));
}
