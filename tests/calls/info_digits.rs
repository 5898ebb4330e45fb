//! Digits by INFO, from either side.

use crate::lab::*;
use crate::trunk_health::REALM;
use std::time::Duration;
use webtrunk::event::Event;
use webtrunk::gateway::Input;
use webtrunk::media::Digits;
use webtrunk::media::session::SessionEvent;
use webtrunk::sip::HeaderName;
use webtrunk::worker::{Notice, WorkerCommand};

#[test]
fn digits_by_info_from_a_browser_become_tones_where_the_trunk_has_no_other_way() {
    let mut lab = Lab::changed(&[(REALM, "realm = \"carrier\"\ndtmf = \"inband\"")], "");
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 answers alice",
    );
    let ok = lab.last(ALICE, "200 INVITE");
    let tones = lab.media.iter().any(|command| match command {
        WorkerCommand::Configure { settings, .. } => settings.digits == Digits::Tones,
        _ => false,
    });
    assert!(tones, "media sends tones, and listens for them");
    let text = lab
        .in_dialog_with(ALICE, &ok, "INFO", 100, "", "Signal=5\r\nDuration=100\r\n")
        .replace("application/sdp", "application/dtmf-relay");
    lab.says(ALICE, &text);
    lab.plays(
        "0.0s alice → INFO
         0.0s alice ← 200 INFO",
    );
    assert!(lab.media.iter().any(|c| matches!(c, WorkerCommand::Digit { event: 5, .. })));
    assert!(!lab.inbox.iter().any(|(h, m)| *h == T1.hop() && m.method_token() == "INFO"));
    lab.plays("0.0s alice hangs up on t1");
    lab.expect_idle();
}

/// INFOs within a dialog, as headers, kind and body, and how each is answered.
const INFOS: [(&str, &str, &str, &str); 9] = [
    ("", "application/dtmf-relay", "Signal=5\r\nDuration=100\r\n", "200"),
    ("", "application/dtmf", "7", "200"),
    ("", "application/x-odd", "?", "415"),
    ("", "application/dtmf-relay", "Nothing=1\r\n", "400"),
    ("Info-Package: weather\r\n", "text/plain", "sunny", "200"),
    ("Info-Package: bogus\r\n", "text/plain", "x", "469"),
    (
        "Info-Package: trickle-ice\r\n",
        "application/trickle-ice-sdpfrag",
        "a=mid:0\r\na=candidate:1 1 udp 1 192.0.2.9 5000 typ host\r\n",
        "200",
    ),
    ("Info-Package: trickle-ice\r\n", "text/plain", "x", "415"),
    ("", "", "", "200"),
];

#[test]
fn digits_go_by_info_where_the_trunk_wants_them_so_and_other_infos_by_agreement_only() {
    let mut lab = Lab::changed(&[(REALM, "realm = \"carrier\"\ndtmf = \"info\"")], "");
    let text = lab.request(
        ALICE,
        "INVITE",
        "sip:+12065550123@wt.test",
        "Recv-Info: tides, trickle-ice\r\nRequire: trickle-ice\r\n",
        OFFER,
    );
    lab.says(ALICE, &text);
    let invite = lab.take(T1, "INVITE");
    assert_eq!(
        invite.header(HeaderName::RecvInfo),
        Some("tides"),
        "the INFO packages the browser takes are announced; trickle ICE is ours"
    );
    lab.reply_with(T1, &invite, 200, TRUNK_SDP, "peer", "Recv-Info: weather\r\n");
    let ok = lab.take(ALICE, "200");
    assert_eq!(ok.header(HeaderName::RecvInfo), Some("weather, trickle-ice"));
    assert!(ok.lists(HeaderName::Supported, "trickle-ice"));
    lab.ack(ALICE, &ok);
    let signalled = |c: &WorkerCommand| {
        matches!(c, WorkerCommand::Configure { settings, .. }
            if settings.digits == webtrunk::media::Digits::Signalled)
    };
    let announced = lab.media.iter().any(signalled);
    assert!(announced, "media reports digits instead of sending them");
    let session = lab
        .media
        .iter()
        .find_map(
            |c| if let WorkerCommand::Open { session, .. } = c { Some(*session) } else { None },
        )
        .unwrap();
    let event = SessionEvent::Digit {
        end: webtrunk::media::LegId(1),
        event: 11,
        length: Duration::from_millis(120),
    };
    lab.handle(Input::Media { session, notice: Notice::Media(event) });
    let info = lab.take(T1, "INFO");
    assert_eq!(String::from_utf8_lossy(info.body()), "Signal=#\r\nDuration=120\r\n");
    lab.reply(T1, &info, 200, "");
    for (n, (extra, kind, body, status)) in INFOS.into_iter().enumerate() {
        let text = lab
            .in_dialog_with(ALICE, &ok, "INFO", 100 + n as u32, extra, body)
            .replace("application/sdp", kind)
            .replace(";tag=peer", "");
        lab.says(ALICE, &text);
        let answer = lab.take(ALICE, &format!("{status} INFO"));
        if status == "469" {
            assert_eq!(answer.header(HeaderName::RecvInfo), Some("weather"));
        }
    }
    let infos: Vec<String> = lab
        .inbox
        .iter()
        .filter(|(h, m)| *h == T1.hop() && m.method_token() == "INFO")
        .map(|(_, m)| String::from_utf8_lossy(m.body()).into_owned())
        .collect();
    assert_eq!(infos, ["Signal=5\r\nDuration=100\r\n", "Signal=7\r\nDuration=160\r\n", "sunny"]);
    let bye = lab.in_dialog(ALICE, &ok, "BYE", 200, "", "");
    lab.says(ALICE, &bye);
    lab.expect_idle();
    assert!(!lab.notes.iter().any(|n| matches!(n, Event::CallPanicked { .. })));
}
