//! Who calls, at trunks: identity, privacy, diversion.

use crate::lab::*;
use crate::trunk_health::REALM;
use webtrunk::sip::HeaderName;

#[test]
fn identity_is_written_by_us_and_privacy_is_kept_outside_the_trust_domain() {
    let numbers = (
        "password = \"secret-a\"",
        "password = \"secret-a\"\nnumbers = [\"+12065550199\"]\ndisplay_name = \"Alice\"",
    );
    for trusted in [true, false] {
        let trust = format!("realm = \"carrier\"\ntrusted = {trusted}");
        let mut lab = Lab::changed(&[numbers, (REALM, &trust)], "");
        for (extra, from, asserted, privacy) in [
            ("", "\"Alice\" <sip:+12065550111@127.0.0.1>", Some("+12065550111"), None),
            (
                "P-Preferred-Identity: <sip:+12065550199@x>\r\n",
                "\"Alice\" <sip:+12065550199@127.0.0.1>",
                Some("+12065550199"),
                None,
            ),
            (
                "P-Preferred-Identity: <sip:+1900@x>\r\n",
                "\"Alice\" <sip:+12065550111@127.0.0.1>",
                Some("+12065550111"),
                None,
            ),
            (
                "Privacy: id\r\n",
                "\"Anonymous\" <sip:anonymous@anonymous.invalid>",
                trusted.then_some("+12065550111"),
                Some("id"),
            ),
        ] {
            let text = lab.request(ALICE, "INVITE", "sip:+12065550123@wt.test", extra, OFFER);
            lab.says(ALICE, &text);
            let invite = lab.take(T1, "INVITE");
            assert!(
                Lab::header(&invite, HeaderName::From).starts_with(from),
                "{extra}: {:?}",
                invite.header(HeaderName::From)
            );
            let pai = invite.header(HeaderName::PAssertedIdentity);
            assert_eq!(
                pai.map(|p| asserted.is_some_and(|a| p.contains(a))),
                asserted.map(|_| true),
                "{extra} {trusted}: {pai:?}"
            );
            assert_eq!(invite.header(HeaderName::Privacy), privacy);
            lab.reply(T1, &invite, 486, "");
            lab.take(ALICE, "486");
        }
        lab.expect_idle();
    }
}

#[test]
fn a_trunks_from_rules_are_followed() {
    let rules = "realm = \"carrier\"\nfrom_user = \"acme\"\nfrom_domain = \"acme.example\"\ndisplay_name = \"Acme\"\nasserted_identity = false";
    let mut lab = Lab::changed(&[(REALM, rules)], "");
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 refuses alice with 486",
    );
    let invite = lab.last(T1, "INVITE");
    assert!(Lab::header(&invite, HeaderName::From).starts_with("\"Acme\" <sip:acme@acme.example>"));
    assert!(invite.header(HeaderName::PAssertedIdentity).is_none());
    lab.expect_idle();
}

#[test]
fn a_trusted_trunks_caller_identity_counts_and_reaches_only_trusted_trunks() {
    let extra = "P-Asserted-Identity: \"Carl\" <sip:+4989111@x>\r\nDiversion: <sip:+4930555@x>;reason=user-busy\r\nHistory-Info: <sip:+4930555@x>;index=1\r\n";
    for trusted in [true, false] {
        let trust = format!("realm = \"carrier\"\ntrusted = {trusted}");
        let mut lab = Lab::changed(&[(REALM, &trust)], "");
        let text = lab.request(T1, "INVITE", "sip:+12065550111@127.0.0.1", extra, TRUNK_SDP);
        lab.says(T1, &text);
        let ringing = lab.take(ALICE, "INVITE");
        assert_eq!(
            ringing.from().unwrap().uri.user,
            Some(if trusted { "+4989111" } else { "+4930123456" })
        );
        assert!(
            ringing.header(HeaderName::Diversion).is_none()
                && ringing.header(HeaderName::PAssertedIdentity).is_none()
        );
        lab.reply(ALICE, &ringing, 486, "");
        let hidden = lab.request(
            T1,
            "INVITE",
            "sip:+12065550111@127.0.0.1",
            &format!("{extra}Privacy: id\r\n"),
            TRUNK_SDP,
        );
        lab.says(T1, &hidden);
        assert!(
            Lab::header(&lab.take(ALICE, "INVITE"), HeaderName::From).contains("anonymous.invalid")
        );
        lab.cancel(T1, &hidden);
        lab.expect_idle();
    }
    for (to_trusted, shown) in [("true", true), ("false", false)] {
        let second = format!("uri = \"sip:127.0.0.11\"\ntrusted = {to_trusted}");
        let route =
            "[[route]]\nname = \"On\"\nmatch = \"+1206\"\ndo = [{ dial = [\"trunk:t2\"] }]\n";
        let mut lab = Lab::changed(
            &[
                ("context = \"incoming\"", "context = \"phones\""),
                (REALM, "realm = \"carrier\"\ntrusted = true"),
                ("uri = \"sip:127.0.0.11\"", &second),
            ],
            route,
        );
        let text = lab.request(T1, "INVITE", "sip:+1206@127.0.0.1", extra, TRUNK_SDP);
        lab.says(T1, &text);
        let invite = lab.take(T2, "INVITE");
        assert_eq!(
            (
                invite.header(HeaderName::Diversion).is_some(),
                invite.header(HeaderName::HistoryInfo).is_some()
            ),
            (shown, shown)
        );
        lab.reply(T2, &invite, 486, "");
        lab.expect_idle();
    }
}
