//! A header we do not need never decides: one life with every kind of message in it, lived again
//! with each odd line at the end of all that peers send, and nothing of it differs.

use crate::lab::*;
use std::time::Duration;
use webtrunk::sip::parse::HeaderName;

/// Lines that say nothing, or nothing that anybody here needs: empty, malformed, of other uses.
const ODD: &[&str] = &[
    "Accept:",
    "Accept: ;q=x, */",
    "Accept-Contact: *;\"x",
    "Accept-Encoding: ;",
    "Accept-Language:",
    "Alert-Info:",
    "Allow:",
    "Allow: ,;",
    "Allow-Events:",
    "Allow-Events: ;;",
    "Answer-Mode: ?",
    "Authentication-Info:",
    "Authentication-Info: nextnonce",
    "Authorization:",
    "Authorization: Digest",
    "Authorization: Bearer",
    "Authorization: Basic x",
    "Call-Info: <>",
    "Contact:",
    "Content-Disposition:",
    "Content-Disposition: ;;handling=\"required",
    "Content-Disposition: x;handling=perhaps",
    "Content-Encoding:",
    "Content-Encoding: ;q=1",
    "Content-ID: x",
    "Content-Language: ?",
    "Content-Transfer-Encoding: x",
    "Content-Type:",
    "Content-Type: ;",
    "Date:",
    "Date: tomorrow",
    "Diversion:",
    "Diversion: \"x <sip:1@b>;reason",
    "Error-Info: <",
    "Event:",
    "Event: ;id",
    "Expires:",
    "Expires: -1",
    "Expires: Thu, 01 Dec 2026 16:00:00 GMT",
    "Flow-Timer: x",
    "Geolocation: x",
    "History-Info:",
    "History-Info: <sip:1@b>;index",
    "Identity:",
    "In-Reply-To:",
    "Info-Package:",
    "Info-Package: ;x",
    "Join:",
    "Join: a;b",
    "Max-Breadth:",
    "Max-Breadth: wide",
    "MIME-Version:",
    "Min-Expires:",
    "Min-Expires: soon",
    "Min-SE:",
    "Min-SE: ;x",
    "Organization:",
    "P-Asserted-Identity:",
    "P-Asserted-Identity: <>, \"x",
    "P-Early-Media: ?",
    "P-Preferred-Identity:",
    "P-Preferred-Identity: \"x <sip:1@b",
    "Path:",
    "Path: nobody",
    "Path: <sip:x, <>, ;lr",
    "Permission-Missing: x",
    "Priority:",
    "Priority-Share: x",
    "Privacy:",
    "Privacy: ;,;",
    "Privacy: perhaps",
    "Proxy-Authenticate:",
    "Proxy-Authenticate: Digest",
    "Proxy-Authenticate: Basic realm=\"carrier\"",
    "Proxy-Authorization:",
    "Proxy-Authorization: Digest realm=\"x",
    "Proxy-Require:",
    "Proxy-Require: sec-agree",
    "RAck:",
    "RAck: 1 INVITE",
    "RSeq:",
    "RSeq: one",
    "Reason:",
    "Reason: Q.850",
    "Reason: X;cause=1;text=\"x",
    "Record-Route:",
    "Record-Route: nobody",
    "Recv-Info:",
    "Recv-Info: ;;",
    "Refer-Sub:",
    "Refer-Sub: perhaps",
    "Refer-To:",
    "Referred-By:",
    "Referred-By: <<>>",
    "Reject-Contact: ;;",
    "Remote-Party-ID:",
    "Remote-Party-ID: \"x;privacy=\"",
    "Replaces:",
    "Reply-To: <",
    "Request-Disposition: ?",
    "Require:",
    "Require: ,",
    "Resource-Priority: x",
    "Retry-After:",
    "Retry-After: soon",
    "Route: nobody",
    "SIP-ETag:",
    "SIP-If-Match:",
    "Security-Client: ;",
    "Security-Verify: ;",
    "Server:",
    "Service-Route:",
    "Service-Route: nobody",
    "Session-Expires:",
    "Session-Expires: ;refresher=uas",
    "Session-Expires: long;refresher=\"uac",
    "Session-ID: ;remote",
    "Subject:",
    "Subscription-State:",
    "Subscription-State: ;reason",
    "Supported: ,",
    "Suppress-If-Match: *",
    "Target-Dialog:",
    "Target-Dialog: a;local-tag",
    "Timestamp:",
    "Timestamp: then",
    "Trigger-Consent: x",
    "Unsupported:",
    "User-Agent:",
    "User-to-User: ;encoding",
    "Via:",
    "WWW-Authenticate:",
    "WWW-Authenticate: Digest realm",
    "Warning:",
    "Warning: 399",
];

/// What a header's compact form is, where it has one and is read (RFC 3261 §7.3.3).
const COMPACT: &[&str] =
    &["c:", "e:", "k: ,", "m:", "o:", "r:", "b:", "x:", "x: ;", "u:", "s:", "a: ;", "d: ?", "j: ;"];

const SETTINGS: &str = "realm = \"carrier\"\nregister = true\nprobe = \"1h\"\nmessages = true\n\
                        refer = \"execute\"\ntrusted = true\nsession_timer = \"1800s\"";

/// Everything that peers say once, each kind of request and of response among it.
fn life(odd: &str) -> String {
    let mut lab = Lab::changed(&[("realm = \"carrier\"", SETTINGS)], "");
    lab.odd = if odd.is_empty() { String::new() } else { format!("{odd}\r\n") };
    let register = lab.take(T1, "REGISTER");
    lab.reply_with(T1, &register, 401, "", "x", CHALLENGE);
    let register = lab.take(T1, "REGISTER");
    lab.reply_with(T1, &register, 423, "", "x", "Min-Expires: 4000\r\n");
    let register = lab.take(T1, "REGISTER");
    lab.reply_with(T1, &register, 200, "", "x", "Expires: 4000\r\n");
    let probe = lab.take(T1, "OPTIONS");
    lab.reply(T1, &probe, 200, "");
    outside_calls(&mut lab);
    outgoing(&mut lab);
    incoming(&mut lab);
    refused(&mut lab);
    lab.gateway_hangs_up();
    assert!(!lab.notes.iter().any(|n| format!("{n:?}").contains("Panicked")), "{odd}");
    lab.picture().to_owned()
}

const CHALLENGE: &str =
    "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"n\", algorithm=MD5, qop=\"auth\"\r\n";

fn outside_calls(lab: &mut Lab) {
    let options = lab.request(T1, "OPTIONS", "sip:127.0.0.1", "", "");
    lab.says(T1, &options);
    lab.take(T1, "200 OPTIONS");
    lab.log_in(BOB, "secret-b", "uuid-b");
    let watch = "Event: message-summary\r\nExpires: 600\r\n";
    let watch = lab.request(ALICE, "SUBSCRIBE", "sip:alice@wt.test", watch, "");
    lab.says(ALICE, &watch);
    lab.take(ALICE, "200 SUBSCRIBE");
    let summary = "Event: Message-Summary\r\nSubscription-State: active\r\n";
    let summary = lab
        .request(T1, "NOTIFY", "sip:+12065550111@127.0.0.1", summary, "Messages-Waiting: yes\r\n")
        .replace("application/sdp", "application/simple-message-summary");
    lab.says(T1, &summary);
    lab.take(T1, "200 NOTIFY");
    for _ in 0..2 {
        let notify = lab.take(ALICE, "NOTIFY");
        lab.reply(ALICE, &notify, 200, "");
    }
    for (from, to, uri) in
        [(ALICE, T1, "sip:+12065550123@wt.test"), (T1, ALICE, "sip:+12065550111@127.0.0.1")]
    {
        let text = lab.request(from, "MESSAGE", uri, "", "hello");
        lab.says(from, &text.replace("application/sdp", "text/plain"));
        let passed = lab.take(to, "MESSAGE");
        assert_eq!(passed.body_of("text/plain"), Some(&b"hello"[..]));
        lab.reply(to, &passed, 200, "");
        lab.take(from, "200 MESSAGE");
    }
}

/// A call of alice to the trunk: challenged, early and reliable, refreshed, held, transferred.
fn outgoing(lab: &mut Lab) {
    lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.reply_with(T1, &invite, 401, "", "x", CHALLENGE);
    let invite = lab.take(T1, "INVITE");
    lab.reply_with(T1, &invite, 422, "", "y", "Min-SE: 3600\r\n");
    let invite = lab.take(T1, "INVITE");
    assert_eq!(invite.header(HeaderName::SessionExpires), Some("3600"));
    lab.reply(T1, &invite, 100, "");
    lab.reply_with(T1, &invite, 183, TRUNK_SDP, "far", "Require: 100rel\r\nRSeq: 7\r\n");
    let prack = lab.take(T1, "PRACK");
    lab.reply_as(T1, &prack, 200, "", "far");
    lab.take(ALICE, "183");
    let able = "Allow: INVITE, ACK, BYE, UPDATE, INFO, MESSAGE\r\nSupported: timer\r\n\
                Session-Expires: 180;refresher=uac\r\n";
    lab.reply_with(T1, &invite, 200, TRUNK_SDP, "far", able);
    lab.take(T1, "ACK");
    let ok = lab.take(ALICE, "200 INVITE");
    lab.ack(ALICE, &ok);
    lab.advance(Duration::from_secs(91));
    let update = lab.take(T1, "UPDATE");
    lab.reply_with(T1, &update, 200, "", "far", "Session-Expires: 180;refresher=uac\r\n");
    let hold = OFFER.replace("a=sendrecv", "a=sendonly");
    let held = lab.in_dialog(ALICE, &ok, "INVITE", 90, "", &hold);
    lab.says(ALICE, &held);
    let held = lab.take(ALICE, "200 INVITE");
    assert!(String::from_utf8_lossy(held.body()).contains("a=recvonly"));
    lab.ack(ALICE, &held);
    for (n, (method, extra, kind, body)) in (91..).zip([
        ("UPDATE", "", "application/sdp", OFFER),
        ("UPDATE", "Supported: timer\r\nSession-Expires: 600;refresher=uac\r\n", "", ""),
        ("INFO", "", "application/dtmf-relay", "Signal=5\r\n"),
        ("INFO", "", "", ""),
        ("MESSAGE", "", "text/plain", "hello"),
        ("OPTIONS", "", "", ""),
    ]) {
        let text = lab.in_dialog_with(ALICE, &ok, method, n, extra, body);
        lab.says(ALICE, &text.replace("application/sdp", kind));
        let answer =
            lab.take(ALICE, &format!("20{} {method}", if kind == "text/plain" { 2 } else { 0 }));
        assert_eq!(answer.header(HeaderName::SessionExpires).is_some(), extra.contains("600"));
    }
    let passed = lab.take(T1, "MESSAGE");
    lab.reply_as(T1, &passed, 200, "", "far");
    let refer = "Refer-To: <sip:+12065550177@wt.test>\r\n";
    let refer = lab.in_dialog_with(ALICE, &ok, "REFER", 100, refer, "");
    lab.says(ALICE, &refer);
    lab.take(ALICE, "202 REFER");
    let notify = lab.take(ALICE, "NOTIFY");
    lab.reply(ALICE, &notify, 200, "");
    let second = lab.take(T1, "INVITE");
    lab.reply_as(T1, &second, 486, "", "busy");
    let notify = lab.take(ALICE, "NOTIFY");
    lab.reply(ALICE, &notify, 200, "");
    let bye = lab.in_dialog(T1, &invite, "BYE", 7, "far", "");
    lab.says(T1, &bye);
    lab.take(T1, "200 BYE");
    let bye = lab.take(ALICE, "BYE");
    lab.reply(ALICE, &bye, 200, "");
}

/// Two calls of the trunk to alice: one is cancelled, one is answered and changes its session.
fn incoming(lab: &mut Lab) {
    for answered in [false, true] {
        let extra = "Supported: 100rel, timer\r\nSession-Expires: 1800\r\n";
        let uri = "sip:+12065550111@127.0.0.1";
        let text = lab.request(T1, "INVITE", uri, extra, TRUNK_SDP);
        lab.says(T1, &text);
        let ringing = lab.take(ALICE, "INVITE");
        assert_eq!(ringing.from().and_then(|f| f.uri.user), Some("+4930123456"));
        lab.reply(ALICE, &ringing, 183, ANSWER);
        let r183 = lab.take(T1, "183");
        let rack = format!(
            "RAck: {} {}\r\n",
            Lab::header(&r183, HeaderName::RSeq),
            Lab::header(&r183, HeaderName::CSeq)
        );
        let prack = lab.in_dialog_with(T1, &r183, "PRACK", 900, &rack, "");
        lab.says(T1, &prack);
        lab.take(T1, "200 PRACK");
        if !answered {
            lab.cancel(T1, &text);
            lab.take(T1, "200 CANCEL");
            lab.take(T1, "487");
            let cancel = lab.take(ALICE, "CANCEL");
            lab.reply(ALICE, &cancel, 200, "");
            lab.reply(ALICE, &ringing, 487, "");
            continue;
        }
        lab.reply(ALICE, &ringing, 200, ANSWER);
        let ok = lab.take(T1, "200 INVITE");
        lab.ack(T1, &ok);
        let again = lab.in_dialog(T1, &ok, "INVITE", 910, "", "");
        lab.says(T1, &again);
        let offered = lab.take(T1, "200 INVITE");
        let ack = lab.in_dialog(T1, &offered, "ACK", 910, "", TRUNK_SDP);
        lab.says(T1, &ack);
        let bye = lab.in_dialog(ALICE, &ringing, "BYE", 920, "peer", "");
        lab.says(ALICE, &bye);
        let bye = lab.take(T1, "BYE");
        lab.reply(T1, &bye, 200, "");
    }
}

/// Refusals and a redirection that the trunk says to alice.
fn refused(lab: &mut Lab) {
    for (status, extra) in [
        (302, ""),
        (404, ""),
        (480, ""),
        (486, "Reason: Q.850;cause=17\r\n"),
        (500, "Reason: Q.850;cause=1\r\n"),
        (503, "Retry-After: 2\r\n"),
    ] {
        lab.invite(ALICE, "+12065550123", OFFER);
        let invite = lab.take(T1, "INVITE");
        lab.reply_with(T1, &invite, status, "", "z", extra);
        lab.advance(Duration::from_secs(2));
    }
}

#[test]
fn an_odd_line_in_every_message_changes_nothing() {
    let usual = life("");
    for odd in ODD.iter().chain(COMPACT) {
        let lived = std::panic::catch_unwind(|| life(odd));
        let lived = lived.unwrap_or_else(|_| panic!("with {odd:?}"));
        assert_eq!(lived, usual, "with {odd:?}");
    }
}

/// A `%` that escapes nothing is a `%`, wherever a URI stands.
#[test]
fn a_broken_escape_is_read_as_it_is_written() {
    for broken in ["5%", "5%2", "5%zz", "%+1", "5%%41", "%F0%28"] {
        let mut lab = Lab::changed(&[("realm = \"carrier\"", SETTINGS)], "");
        lab.clear();
        // The caller, its address, and everything else that is reported.
        let extra = format!(
            "P-Asserted-Identity: <sip:{broken}@b>\r\nDiversion: <sip:{broken}@b>;reason={broken}\r\n\
             Referred-By: <sip:{broken}@b>\r\nCall-Info: <sip:{broken}@b>\r\n"
        );
        let text = lab.request(T1, "INVITE", "sip:+12065550111@127.0.0.1", &extra, TRUNK_SDP);
        let text = text
            .replace("+4930123456", broken)
            .replace("Contact: <sip:", &format!("Contact: \"100%\" <sip:{broken};x={broken}"));
        lab.says(T1, &text);
        assert!(lab.got(ALICE, "INVITE"), "{broken}\n{}", lab.picture());
        let ringing = lab.take(ALICE, "INVITE");
        let shown = ringing.to_bytes();
        assert!(!shown.contains(&1), "{broken} is no control character");
        lab.reply(ALICE, &ringing, 200, ANSWER);
        let ok = lab.take(T1, "200 INVITE");
        lab.ack(T1, &ok);
        // The peer's own URI is given back as it was written.
        let bye = lab.in_dialog(ALICE, &ringing, "BYE", 920, "peer", "");
        lab.says(ALICE, &bye);
        let bye = lab.take(T1, "BYE");
        assert!(bye.request_uri().starts_with(&format!("sip:{broken};x={broken}")));
        lab.reply(T1, &bye, 200, "");
        // A number with one is a number that no route has, and a target likewise.
        lab.invite(ALICE, &format!("+1206{broken}"), OFFER);
        lab.take(ALICE, "404");
        let (ok, invite) = lab.talk("+12065550123");
        let refer = format!("Refer-To: <sip:{broken}@wt.test?Replaces={broken}&X={broken}>\r\n");
        let refer = lab.in_dialog_with(ALICE, &ok, "REFER", 100, &refer, "");
        lab.says(ALICE, &refer);
        assert!(!lab.got(ALICE, "400"), "{broken}\n{}", lab.picture());
        let bye = lab.in_dialog(T1, &invite, "BYE", 7, "peer", "");
        lab.says(T1, &bye);
        lab.take(T1, "200 BYE");
        lab.quiet = true;
        lab.advance(Duration::from_secs(60));
        assert!(!lab.notes.iter().any(|n| format!("{n:?}").contains("Panicked")), "{broken}");
    }
}
