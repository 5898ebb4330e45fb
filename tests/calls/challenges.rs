//! Digest challenges of trunks and registrars, as many and in whatever order they come.

use crate::lab::*;
use crate::trunk_health::REALM;
use webtrunk::sip::Message;
use webtrunk::sip::parse::HeaderName;

pub(crate) fn digest(kind: &str, realm: &str, nonce: &str) -> String {
    format!(
        "{kind}-Authenticate: Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm=SHA-256, qop=\"auth\"\r\n"
    )
}

/// The realms a request answers, by header, and their nonces.
fn answered(message: &Message) -> Vec<(HeaderName, String)> {
    message
        .headers()
        .filter(|(n, ..)| matches!(n, HeaderName::Authorization | HeaderName::ProxyAuthorization))
        .map(|(n, _, v)| {
            (
                n,
                v.split("nonce=\"")
                    .nth(1)
                    .unwrap_or_default()
                    .split('"')
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            )
        })
        .collect()
}

#[test]
fn a_proxy_and_then_the_server_are_both_answered_in_any_order_and_at_once() {
    let (www, proxy) = (HeaderName::Authorization, HeaderName::ProxyAuthorization);
    let www_first = [(401, digest("WWW", "carrier", "w")), (407, digest("Proxy", "edge", "p"))];
    let proxy_first = [www_first[1].clone(), www_first[0].clone()];
    let both = [(401, [www_first[0].1.clone(), www_first[1].1.clone()].concat())];
    for rounds in [&www_first[..], &proxy_first, &both] {
        // Two answers make a long INVITE: without transport=udp it would go by TCP.
        let udp = ("sip:127.0.0.10\"", "sip:127.0.0.10;transport=udp\"");
        let mut lab = Lab::changed(&[(REALM, ""), udp], "");
        lab.invite(ALICE, "+12065550123", OFFER);
        let mut invite = lab.take(T1, "INVITE");
        let first = invite.cseq().expect("a CSeq").number;
        for (status, challenge) in rounds {
            lab.reply_with(T1, &invite, *status, "", "x", challenge);
            lab.take(T1, "ACK");
            invite = lab.take(T1, "INVITE");
        }
        let mut credentials = answered(&invite);
        credentials.sort_by_key(|(_, nonce)| nonce.clone());
        assert_eq!(credentials, [(proxy, "p".to_owned()), (www, "w".to_owned())]);
        assert_eq!(invite.cseq().expect("a CSeq").number, first + rounds.len() as u32);
        // Refused for good: the server does not take what it got. One that was content before the
        // proxy asked may have a new nonce once.
        let mut refused = 0;
        lab.inbox.push_back((T1.hop(), invite));
        while lab.got(T1, "INVITE") {
            let invite = lab.take(T1, "INVITE");
            lab.reply_with(T1, &invite, 401, "", "x", &digest("WWW", "carrier", "w2"));
            refused += 1;
        }
        assert!(refused <= 2, "{refused}");
        lab.take(ALICE, "502");
        lab.expect_idle();
    }
}

#[test]
fn a_nonce_that_is_always_stale_ends_too() {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "+12065550123", OFFER);
    let mut count = 0;
    while lab.got(T1, "INVITE") {
        let invite = lab.take(T1, "INVITE");
        count += 1;
        let stale =
            digest("WWW", "carrier", &format!("n{count}")).replace("qop", "stale=true, qop");
        lab.reply_with(T1, &invite, 401, "", "x", &stale);
    }
    assert!((2..=4).contains(&count), "{count}");
    lab.take(ALICE, "502");
    lab.expect_idle();
}

/// What a trunk got of this method, the newest last: so many of them.
fn newest<const N: usize>(lab: &Lab, method: &str) -> [Message; N] {
    let got = lab.heard.iter().filter(|(hop, m)| *hop == T1.hop() && m.method_token() == method);
    let got: Vec<Message> = got.map(|(_, m)| m.clone()).filter(Message::is_request).collect();
    let newest = got.split_at_checked(got.len() - N).expect("so many came").1;
    newest.to_vec().try_into().unwrap_or_else(|_| unreachable!("so many were taken"))
}

/// A request that is sent again with an answer is the same otherwise.
fn expect_same(first: &Message, again: &Message, later: u32) {
    let method = first.method_token();
    assert!(answered(first).is_empty(), "{method}");
    assert_eq!(again.cseq().map(|c| c.number), first.cseq().map(|c| c.number + later), "{method}");
    assert_eq!(again.body(), first.body(), "{method}");
    for name in [HeaderName::RAck, HeaderName::ReferTo, HeaderName::Event] {
        assert_eq!(again.header(name), first.header(name), "{method}");
    }
}

const LONG_SESSION: &str = "Session-Expires: 180;refresher=uac\r\n";

/// A digit of alice's as INFO, which the trunk is to get.
fn press(lab: &mut Lab) {
    let ok = lab.last(ALICE, "200 INVITE");
    let digit = lab.in_dialog_with(ALICE, &ok, "INFO", 100, "", "Signal=5\r\n");
    lab.says(ALICE, &digit.replace("application/sdp", "application/dtmf-relay"));
}

#[test]
fn every_request_to_a_trunk_that_challenged_the_invite_answers_its_challenge() {
    let settings = "realm = \"carrier\"\ndtmf = \"info\"\nmessages = true";
    let mut lab = Lab::changed(&[(REALM, settings)], "");
    let answer = format!("Allow: UPDATE, INFO\r\nSupported: timer\r\n{LONG_SESSION}");
    lab.adds(T1, "401 INVITE", &digest("WWW", "carrier", "n0"));
    lab.adds(T1, "183 INVITE", "Require: 100rel\r\nRSeq: 7\r\n");
    lab.adds(T1, "407 PRACK", &digest("Proxy", "carrier", "n1"));
    lab.adds(T1, "200 INVITE", &answer);
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 → 401 INVITE
         0.0s t1 ← ACK
         0.0s t1 ← INVITE sdp
         0.0s t1 → 183 INVITE sdp
         0.0s t1 ← PRACK
         0.0s alice ← 183 INVITE sdp
         0.0s t1 → 407 PRACK
         0.0s t1 ← PRACK
         0.0s t1 → 200 PRACK
         0.0s t1 answers alice",
    );
    // RFC 3261 §13.2.2.4: the ACK has the credentials of its INVITE.
    let proof = (HeaderName::Authorization, "n0".to_owned());
    assert_eq!(answered(&lab.last(T1, "ACK")), [proof]);
    press(&mut lab);
    lab.adds(T1, "407 INFO", &digest("Proxy", "carrier", "n2"));
    lab.adds(T1, "407 UPDATE", &digest("Proxy", "carrier", "n3"));
    lab.adds(T1, "200 UPDATE", LONG_SESSION);
    lab.adds(T1, "407 BYE", &digest("Proxy", "carrier", "n4"));
    lab.plays(
        "0.0s alice → INFO
         0.0s alice ← 200 INFO
         0.0s t1 ← INFO
         0.0s t1 → 407 INFO
         0.0s t1 ← INFO
         0.0s t1 → 200 INFO
         90.0s t1 ← UPDATE
         90.0s t1 → 407 UPDATE
         90.0s t1 ← UPDATE
         90.0s t1 → 200 UPDATE
         90.0s alice → BYE
         90.0s alice ← 200 BYE
         90.0s t1 ← BYE
         90.0s t1 → 407 BYE
         90.0s t1 ← BYE",
    );
    for (method, nonce) in [("PRACK", "n1"), ("INFO", "n2"), ("UPDATE", "n3"), ("BYE", "n4")] {
        let [first, again] = newest(&lab, method);
        assert_eq!(answered(&again), [(HeaderName::ProxyAuthorization, nonce.to_owned())]);
        expect_same(&first, &again, 1);
    }
    let number = |method: &str| lab.last(T1, method).cseq().map(|c| c.number);
    assert!(number("BYE") > number("UPDATE"));
    // A second question to the BYE finds no answer.
    lab.adds(T1, "407 BYE", &digest("Proxy", "carrier", "n5"));
    lab.plays("90.0s t1 → 407 BYE");
    lab.expect_idle();
}

/// A call from its first digit on, each of whose requests the trunk's proxy and server ask about.
const TWICE_ASKED: &str = "0.0s alice → INFO
    0.0s alice ← 200 INFO
    0.0s t1 ← INFO
    0.0s t1 → 407 INFO
    0.0s t1 ← INFO
    0.0s t1 → 401 INFO
    0.0s t1 ← INFO
    0.0s t1 → 200 INFO
    90.0s t1 ← UPDATE
    90.0s t1 → 407 UPDATE
    90.0s t1 ← UPDATE
    90.0s t1 → 401 UPDATE
    90.0s t1 ← UPDATE
    90.0s t1 → 200 UPDATE
    90.0s alice → REFER +12065550177
    90.0s alice ← 202 REFER
    90.0s t1 ← REFER +12065550177
    90.0s alice ← NOTIFY 100
    90.0s alice → 200 NOTIFY
    90.0s t1 → 407 REFER
    90.0s t1 ← REFER +12065550177
    90.0s t1 → 401 REFER
    90.0s t1 ← REFER +12065550177
    90.0s t1 → 603 REFER
    90.0s alice ← NOTIFY 603
    90.0s alice → 200 NOTIFY
    90.0s alice → BYE
    90.0s alice ← 200 BYE
    90.0s t1 ← BYE
    90.0s t1 → 407 BYE
    90.0s t1 ← BYE
    90.0s t1 → 401 BYE
    90.0s t1 ← BYE
    90.0s t1 → 200 BYE";

/// A proxy's challenge and then the server's: both are answered on every request of ours.
#[test]
fn two_challenges_in_turn_are_answered_on_every_request_to_a_trunk() {
    let settings =
        "realm = \"carrier\"\ndtmf = \"info\"\nmessages = true\nrefer = \"pass\"\nprobe = \"1h\"";
    let mut lab = Lab::changed(&[(REALM, settings)], "");
    let methods = ["OPTIONS", "MESSAGE", "PRACK", "INFO", "UPDATE", "REFER", "BYE"];
    for method in methods {
        let of = |by: &str| format!("{method}-{by}");
        lab.adds(T1, &format!("407 {method}"), &digest("Proxy", "carrier", &of("proxy")));
        lab.adds(T1, &format!("401 {method}"), &digest("WWW", "carrier", &of("server")));
    }
    // With both answers an INVITE of a browser's call is too long for a datagram.
    lab.adds(T1, "407 INVITE", &digest("Proxy", "carrier", "i"));
    lab.adds(T1, "183 INVITE", "Require: 100rel\r\nRSeq: 7\r\n");
    let answer = format!("Allow: UPDATE, INFO, REFER\r\nSupported: timer\r\n{LONG_SESSION}");
    lab.adds(T1, "200 INVITE", &answer);
    lab.adds(T1, "200 UPDATE", LONG_SESSION);
    lab.plays(
        "0.0s t1 → 407 OPTIONS
         0.0s t1 ← OPTIONS
         0.0s t1 → 401 OPTIONS
         0.0s t1 ← OPTIONS
         0.0s t1 → 200 OPTIONS",
    );
    let text = lab.request(ALICE, "MESSAGE", "sip:+12065550123@wt.test", "", "hello");
    lab.says(ALICE, &text.replace("application/sdp", "text/plain"));
    lab.plays(
        "0.0s alice → MESSAGE
         0.0s t1 ← MESSAGE
         0.0s t1 → 407 MESSAGE
         0.0s t1 ← MESSAGE
         0.0s t1 → 401 MESSAGE
         0.0s t1 ← MESSAGE
         0.0s t1 → 202 MESSAGE
         0.0s alice ← 200 MESSAGE
         0.0s alice calls +12065550123 at t1
         0.0s t1 → 407 INVITE
         0.0s t1 ← ACK
         0.0s t1 ← INVITE sdp
         0.0s t1 → 183 INVITE sdp
         0.0s t1 ← PRACK
         0.0s alice ← 183 INVITE sdp
         0.0s t1 → 407 PRACK
         0.0s t1 ← PRACK
         0.0s t1 → 401 PRACK
         0.0s t1 ← PRACK
         0.0s t1 → 200 PRACK
         0.0s t1 answers alice",
    );
    press(&mut lab);
    lab.plays(TWICE_ASKED);
    for method in methods {
        let [first, second, third] = newest(&lab, method);
        let proxy = (HeaderName::ProxyAuthorization, format!("{method}-proxy"));
        let server = (HeaderName::Authorization, format!("{method}-server"));
        assert_eq!(answered(&second), std::slice::from_ref(&proxy), "{method}");
        let mut both = answered(&third);
        both.sort_by(|a, b| a.1.cmp(&b.1));
        assert_eq!(both, [proxy, server], "{method}");
        expect_same(&first, &third, 2);
    }
    lab.expect_idle();
}

/// A refresh by INVITE is challenged too; its ACK repeats what the INVITE proved.
#[test]
fn the_ack_of_a_challenged_refresh_has_the_credentials_of_its_invite() {
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    let invite = lab.last(T1, "INVITE");
    lab.reply_with(T1, &invite, 407, "", "x", &digest("Proxy", "carrier", "n0"));
    lab.plays(
        "0.0s t1 → 407 INVITE
         0.0s t1 ← ACK
         0.0s t1 ← INVITE sdp",
    );
    let invite = lab.last(T1, "INVITE");
    let timer = "Supported: timer\r\nSession-Expires: 180;refresher=uac\r\n";
    lab.reply_with(T1, &invite, 200, TRUNK_SDP, "far", timer);
    lab.plays(
        "0.0s t1 answers alice
         90.0s t1 ← INVITE sdp",
    );
    let refresh = lab.last(T1, "INVITE");
    lab.reply_with(T1, &refresh, 407, "", "far", &digest("Proxy", "carrier", "n1"));
    lab.plays(
        "90.0s t1 → 407 INVITE
         90.0s t1 ← ACK
         90.0s t1 ← INVITE sdp",
    );
    let refresh = lab.last(T1, "INVITE");
    assert_eq!(answered(&refresh), [(HeaderName::ProxyAuthorization, "n1".to_owned())]);
    lab.reply_with(T1, &refresh, 200, TRUNK_SDP, "far", timer);
    let (ack, proof) = (lab.ack_of(&refresh), HeaderName::ProxyAuthorization);
    assert!(ack.header(proof).is_some() && ack.header(proof) == refresh.header(proof));
    lab.gateway_hangs_up();
    lab.plays(
        "90.0s t1 → 200 INVITE sdp
         90.0s t1 ← ACK
         90.0s alice ← BYE
         90.0s t1 ← BYE",
    );
    lab.expect_idle();
}

/// What a REGISTER of ours meets: the carrier's proxy, then its registrar, in either order.
#[test]
fn a_registration_answers_a_proxy_and_then_the_registrar() {
    let (www, proxy) = ((401, "WWW", "w"), (407, "Proxy", "p"));
    for rounds in [[www, proxy], [proxy, www]] {
        let mut lab = Lab::changed(&[(REALM, "realm = \"carrier\"\nregister = true")], "");
        let mut register = lab.take(T1, "REGISTER");
        for (status, kind, nonce) in rounds {
            lab.reply_with(T1, &register, status, "", "x", &digest(kind, "carrier", nonce));
            register = lab.take(T1, "REGISTER");
        }
        let mut both = answered(&register);
        both.sort_by(|a, b| a.1.cmp(&b.1));
        let wanted = [
            (HeaderName::ProxyAuthorization, "p".to_owned()),
            (HeaderName::Authorization, "w".to_owned()),
        ];
        assert_eq!(both, wanted);
        lab.reply_with(T1, &register, 200, "", "x", "Expires: 600\r\n");
        assert!(!lab.got(T1, "REGISTER"), "it is content");
    }
}

/// What we say of a transfer the trunk asked for.
#[test]
fn a_notify_to_a_trunk_answers_both_challenges() {
    let settings = "realm = \"carrier\"\nrefer = \"execute\"";
    let mut lab = Lab::changed(&[(REALM, settings)], "");
    lab.plays("0.0s alice calls +12065550123 at t1");
    let invite = lab.last(T1, "INVITE");
    lab.reply_with(T1, &invite, 401, "", "x", &digest("WWW", "carrier", "n0"));
    lab.plays(
        "0.0s t1 → 401 INVITE
         0.0s t1 ← ACK
         0.0s t1 ← INVITE sdp",
    );
    let invite = lab.last(T1, "INVITE");
    lab.reply_as(T1, &invite, 200, TRUNK_SDP, "far");
    lab.plays("0.0s t1 answers alice");
    let refer = "Refer-To: <sip:+12065550112@wt.test>\r\n";
    let refer = lab.in_dialog(T1, &invite, "REFER", 150, "far", "").replacen(
        "Max-Forwards",
        &format!("{refer}Max-Forwards"),
        1,
    );
    lab.says(T1, &refer);
    lab.plays("0.0s t1 transfers to +12065550112 at bob");
    let first = lab.last(T1, "NOTIFY");
    lab.reply_with(T1, &first, 407, "", "far", &digest("Proxy", "carrier", "p"));
    lab.plays(
        "0.0s t1 → 407 NOTIFY
         0.0s t1 ← NOTIFY 100",
    );
    let second = lab.last(T1, "NOTIFY");
    lab.reply_with(T1, &second, 401, "", "far", &digest("WWW", "carrier", "s"));
    let third = lab.inbox.iter().rev().find(|(_, m)| answered(m).len() == 2);
    let third = third.expect("both are answered").1.clone();
    assert_eq!((third.method_token(), third.body()), ("NOTIFY", first.body()));
    lab.gateway_hangs_up();
    lab.plays(
        "0.0s t1 → 401 NOTIFY
         0.0s t1 ← NOTIFY 100
         0.0s t1 ← BYE
         0.0s alice ← BYE",
    );
}

#[test]
fn texts_and_probes_answer_the_trunk_and_no_other_realm() {
    for (realm, known) in [("carrier", true), ("evil", false)] {
        let changes = [(REALM, "realm = \"carrier\"\nmessages = true\nprobe = \"30s\"")];
        let mut lab = Lab::changed(&changes, "");
        let probe = lab.take(T1, "OPTIONS");
        lab.reply_with(T1, &probe, 401, "", "x", &digest("WWW", realm, "o"));
        assert_eq!(lab.got(T1, "OPTIONS"), known);
        let text = lab
            .request(ALICE, "MESSAGE", "sip:+12065550123@wt.test", "", "hello")
            .replace("application/sdp", "text/plain");
        lab.says(ALICE, &text);
        let sent = lab.take(T1, "MESSAGE");
        lab.reply_with(T1, &sent, 407, "", "x", &digest("Proxy", realm, "m"));
        if known {
            let again = lab.take(T1, "MESSAGE");
            assert_eq!(answered(&again), [(HeaderName::ProxyAuthorization, "m".to_owned())]);
            assert_eq!((again.body(), again.call_id()), (sent.body(), sent.call_id()));
            lab.reply(T1, &again, 202, "");
            lab.take(ALICE, "200 MESSAGE");
        } else {
            assert!(!lab.got(T1, "MESSAGE"), "another realm learns nothing");
            lab.take(ALICE, "480 MESSAGE");
        }
        assert!(!lab.said("CallPanicked"));
    }
}
