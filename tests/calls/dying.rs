//! A trunk that dies in mid-call: its media stops, and it is asked whether it knows the call.

use crate::lab::*;
use std::time::Duration;
use webtrunk::gateway::Input;
use webtrunk::media::SessionEvent;
use webtrunk::sip::Method;
use webtrunk::worker::Notice;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// What media tells of the trunk's end, or of the browser's.
fn tell(lab: &mut Lab, trunk: bool, stopped: bool) {
    let (session, end) = lab.ends[usize::from(trunk)];
    let event = if stopped { SessionEvent::Stopped { end } } else { SessionEvent::Resumed { end } };
    lab.handle(Input::Media { session, notice: Notice::Media(event) });
}

#[test]
fn a_trunk_that_answers_nothing_is_gone_eight_seconds_after_it_was_asked() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    tell(&mut lab, true, true);
    lab.plays(
        "0.0s t1 ← OPTIONS      // it is asked at once
         0.5s t1 ← OPTIONS
         1.5s t1 ← OPTIONS
         3.5s t1 ← OPTIONS
         7.5s t1 ← OPTIONS
         8.0s alice ← BYE
         8.0s t1 ← BYE
         8.5s t1 ← BYE
         9.0s alice → 200 BYE
         9.0s t1 → 200 BYE
         11.5s t1 ← OPTIONS
         15.5s t1 ← OPTIONS
         19.5s t1 ← OPTIONS
         23.5s t1 ← OPTIONS
         27.5s t1 ← OPTIONS
         31.5s t1 ← OPTIONS",
    );
    lab.expect_idle();
}

#[test]
fn a_trunk_that_forgot_the_dialog_is_gone_at_once_and_any_other_answer_is_life() {
    for status in [481, 408] {
        let mut lab = Lab::with_phones();
        lab.talk("+12065550123");
        tell(&mut lab, true, true);
        lab.plays(&format!(
            "0.0s t1 ← OPTIONS
             0.0s t1 → {status} OPTIONS
             0.0s alice ← BYE
             0.0s t1 ← BYE
             0.0s alice → 200 BYE
             0.0s t1 → 200 BYE"
        ));
        lab.expect_idle();
    }
    for status in [200, 404, 405, 480, 500, 501] {
        let mut lab = Lab::with_phones();
        lab.talk("+12065550123");
        for at in ["0.0", "30.0", "60.0"] {
            lab.plays(&format!("{at}s"));
            tell(&mut lab, true, true);
            lab.plays(&format!(
                "{at}s t1 ← OPTIONS
                 {at}s t1 → {status} OPTIONS"
            ));
        }
        lab.plays("90.0s alice hangs up on t1");
        lab.expect_idle();
    }
}

#[test]
fn a_trunk_that_sends_again_lives_whatever_becomes_of_the_question() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    tell(&mut lab, true, true);
    lab.plays(
        "0.0s t1 ← OPTIONS
         0.5s t1 ← OPTIONS
         1.5s t1 ← OPTIONS
         3.5s t1 ← OPTIONS
         4.0s",
    );
    tell(&mut lab, true, false);
    lab.plays(
        "7.5s t1 ← OPTIONS
         11.5s t1 ← OPTIONS
         15.5s t1 ← OPTIONS
         19.5s t1 ← OPTIONS
         23.5s t1 ← OPTIONS
         27.5s t1 ← OPTIONS
         31.5s t1 ← OPTIONS
         64.0s alice hangs up on t1",
    );
    lab.expect_idle();
}

#[test]
fn a_browser_whose_media_stops_is_asked_nothing() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    tell(&mut lab, false, true);
    lab.plays("0.0s alice hangs up on t1");
    lab.expect_idle();
}

#[test]
fn the_calls_of_a_trunk_that_is_marked_down_are_asked_and_flowing_media_is_the_better_proof() {
    for silent in [true, false] {
        let mut lab =
            Lab::changed(&[("realm = \"carrier\"", "realm = \"carrier\"\nprobe = \"5s\"")], "");
        lab.log_in(ALICE, "secret-a", "uuid-a");
        let (ok, invite) = lab.talk("+12065550123");
        let dialog = invite.call_id().to_owned();
        let asked = |lab: &Lab| {
            lab.inbox.iter().any(|(hop, m)| {
                *hop == T1.hop()
                    && m.is_request()
                    && m.method() == Method::Options
                    && m.call_id() == dialog
            })
        };
        lab.advance(secs(30));
        assert!(!asked(&lab), "its OPTIONS are not yet missed three times");
        lab.advance(secs(100));
        assert!(asked(&lab), "{}", lab.picture());
        assert_eq!(lab.gateway.gauges().calls, 1, "as far as anybody knows its media flows");
        if silent {
            tell(&mut lab, true, true);
            lab.advance(secs(9));
            assert!(lab.got(ALICE, "BYE"));
        } else {
            let bye = lab.in_dialog(ALICE, &ok, "BYE", 90, "", "");
            lab.says(ALICE, &bye);
        }
        assert!(lab.got(T1, "BYE"));
    }
}

fn media_says(lab: &mut Lab, event: SessionEvent) {
    let (session, _) = lab.ends[0];
    lab.handle(Input::Media { session, notice: Notice::Media(event) });
}

#[test]
fn how_long_an_answer_is_waited_for_and_silence_borne_are_settings() {
    let mut lab = Lab::changed(
        &[("[limits]", "[media]\nanswer_within = \"3s\"\ntimeout = \"1m\"\n[limits]")],
        "",
    );
    lab.talk("+12065550123");
    media_says(&mut lab, SessionEvent::NoMedia { since: secs(59) });
    tell(&mut lab, true, true);
    lab.plays(
        "0.0s t1 ← OPTIONS
         0.5s t1 ← OPTIONS
         1.5s t1 ← OPTIONS
         3.0s alice ← BYE
         3.0s t1 ← BYE
         3.0s alice → 200 BYE
         3.0s t1 → 200 BYE",
    );
    lab.expect_idle();

    let off = "[media]\ntimeout = \"off\"\n[limits]";
    let mut lab = Lab::changed(&[("[limits]", off)], "");
    lab.talk("+12065550123");
    media_says(&mut lab, SessionEvent::NoMedia { since: secs(7_200) });
    lab.plays("0.0s alice hangs up on t1");
}

#[test]
fn a_call_on_hold_ends_after_the_time_for_it_and_no_sooner() {
    for (limit, since, ends) in [
        (None, 80_000, false),
        (Some("10m"), 599, false),
        (Some("10m"), 600, true),
        (Some("off"), 80_000, false),
    ] {
        let setting = limit.map(|l| format!("[media]\nhold_timeout = \"{l}\"\n[limits]"));
        let mut lab = Lab::changed(&[("[limits]", setting.as_deref().unwrap_or("[limits]"))], "");
        lab.talk("+12065550123");
        lab.plays(
            "0.0s alice → INVITE sdp sendonly
             0.0s alice ← 100 INVITE
             0.0s alice ← 200 INVITE sdp recvonly
             0.0s alice → ACK",
        );
        media_says(&mut lab, SessionEvent::NoMedia { since: secs(since) });
        if ends {
            lab.plays(
                "0.0s alice ← BYE
                 0.0s t1 ← BYE
                 0.0s alice → 200 BYE
                 0.0s t1 → 200 BYE",
            );
            let why = &lab.ended()[0].why;
            assert!(why.contains("on hold, and no sign of either side for 600 s"), "{why}");
        } else {
            lab.plays("0.0s alice hangs up on t1");
        }
    }
}

#[test]
fn media_gets_the_configured_timeouts() {
    let set = |text: &str, trunk: &str| {
        let media = format!("[media]\n{text}\n[limits]");
        let trunk = format!("realm = \"carrier\"\n{trunk}");
        let changes = [("[limits]", media.as_str()), ("realm = \"carrier\"", trunk.as_str())];
        let mut lab = Lab::changed(&changes, "");
        lab.talk("+12065550123");
        let of = |c: &webtrunk::worker::WorkerCommand| match c {
            webtrunk::worker::WorkerCommand::Configure { end, settings, .. } => {
                Some((*end, settings.watch))
            }
            _ => None,
        };
        let ends = [lab.ends[0].1, lab.ends[1].1];
        ends.map(|end| {
            let mut all = lab.media.iter().filter_map(of);
            all.find(|(of, _)| *of == end).expect("it was settled").1
        })
    };
    let [browser, trunk] = set("timeout = \"off\"\nhold_timeout = \"10m\"\nask_every = \"9s\"", "");
    assert_eq!(browser, trunk);
    assert_eq!((trunk.silent, trunk.again), (Some(secs(600)), secs(9)), "holds are watched too");
    assert_eq!(trunk.stopped, Some(secs(5)));
    let [browser, trunk] = set("stopped_after = \"7s\"", "stopped_after = \"off\"");
    assert_eq!((browser.stopped, trunk.stopped), (Some(secs(7)), None));
    let [_, trunk] = set("stopped_after = \"7s\"\ntimeout = \"off\"", "");
    assert_eq!((trunk.stopped, trunk.silent), (Some(secs(7)), None));
}

/// Silence while ringing, on hold, or just after the answer is no fault.
#[test]
fn one_way_audio_is_warned_of_once_and_only_where_somebody_should_be_heard() {
    let warned = |lab: &Lab| {
        lab.notes.iter().filter(|n| matches!(n, webtrunk::event::Event::OneWay { .. })).count()
    };
    let unheard = |lab: &mut Lab| {
        let (session, end) = lab.ends[1];
        let notice = Notice::Media(SessionEvent::Silent { end });
        lab.handle(Input::Media { session, notice });
    };
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 → 183 INVITE sdp
         0.0s alice ← 183 INVITE sdp
         8.0s",
    );
    unheard(&mut lab);
    assert_eq!(warned(&lab), 0, "it rings");
    lab.plays(
        "8.0s t1 → 200 INVITE sdp
         8.0s t1 ← ACK
         8.0s alice ← 200 INVITE sdp
         8.5s alice ← 200 INVITE sdp
         9.5s alice ← 200 INVITE sdp
         11.0s",
    );
    unheard(&mut lab);
    assert_eq!(warned(&lab), 0, "it was answered 3 s ago");
    lab.plays(
        "11.5s alice ← 200 INVITE sdp
         15.5s alice ← 200 INVITE sdp
         16.0s",
    );
    unheard(&mut lab);
    assert_eq!(warned(&lab), 1);
    assert!(lab.got(T1, "OPTIONS"), "and it is asked");
    unheard(&mut lab);
    assert_eq!(warned(&lab), 1, "once a call");
    lab.plays("16.0s t1 ← OPTIONS");
}
