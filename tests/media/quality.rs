//! Estimates of how a call sounds: per end and direction, and reported to peers that ask for them
//! (RFC 3611).

use crate::lab::*;
use rtc_rtcp::extended_report::{ExtendedReport, VoIPMetricsReportBlock};
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::reception_report::ReceptionReport;
use std::time::Duration;
use webtrunk::codec::Codec;
use webtrunk::media::{Digits, Port};
use webtrunk::sdp::Direction;

const FRAME: Duration = Duration::from_millis(20);

fn speak(line: &mut Line, packets: u32, lost: impl Fn(u32) -> bool) {
    for n in 0..packets {
        line.send(0, 0, false, n * 160, &[0x55; 160], lost(n));
        line.pass(FRAME);
    }
}

fn metrics(line: &mut Line, side: usize) -> Vec<VoIPMetricsReportBlock> {
    let reports = line.log.sent.extract_if(.., |(port, ..)| *port == Port::Rtcp(SIDES[side]));
    let mut found = Vec::new();
    for (_, _, datagram) in reports {
        for packet in rtc_rtcp::packet::unmarshal(&mut &datagram[..]).expect("sound RTCP") {
            if let Some(extended) = packet.as_any().downcast_ref::<ExtendedReport>() {
                found.extend(
                    extended
                        .reports
                        .iter()
                        .filter_map(|r| r.as_any().downcast_ref::<VoIPMetricsReportBlock>())
                        .cloned(),
                );
            }
        }
    }
    found
}

#[test]
fn a_peer_that_wants_voip_metrics_gets_them_and_no_other_does() {
    let mut line = Line::changed([(Codec::Pcmu, Digits::Events); 2], |side, settings| {
        settings.negotiated.voip_metrics = side == 0
    });
    // A tenth is lost, two in a row at a time.
    speak(&mut line, 1_000, |n| n % 20 == 5 || n % 20 == 6);
    let metrics_sent = metrics(&mut line, 0);
    let last = metrics_sent.last().expect("metrics");
    assert_eq!(last.ssrc, 500);
    assert!((24..=27).contains(&last.loss_rate), "{last:?}");
    assert_eq!(
        (last.burst_density, last.burst_duration, last.gap_density, last.gmin),
        (255, 40, 0, 16),
        "{last:?}"
    );
    assert!((345..=360).contains(&last.gap_duration), "{last:?}");
    assert!((20..=35).contains(&last.mos_lq) && (40..=70).contains(&last.rfactor), "{last:?}");
    assert!(metrics(&mut line, 1).is_empty());
}

#[test]
fn losses_near_each_other_are_one_burst_and_those_alone_are_of_the_gap() {
    let mut line = Line::changed([(Codec::Pcmu, Digits::Events); 2], |side, settings| {
        settings.negotiated.voip_metrics = side == 0
    });
    // Lost, came, lost, came, lost; and once, far from that, another. In packets of 20 ms.
    speak(&mut line, 2_000, |n| matches!(n % 100, 10 | 12 | 14 | 60));
    let last = metrics(&mut line, 0).pop().expect("metrics");
    assert_eq!((last.burst_density, last.burst_duration), (153, 100), "{last:?}");
    // One in 95, between bursts that are 1.9 s apart.
    assert!(
        (2..=3).contains(&last.gap_density) && (1_750..=1_900).contains(&last.gap_duration),
        "{last:?}"
    );
}

/// An end's RTCP: what it received of us was a quarter lost, with jitter of 400 timestamp units.
fn report_of(ssrc: u32) -> Vec<u8> {
    let report = ReceiverReport {
        ssrc,
        reports: vec![ReceptionReport {
            ssrc: 2,
            fraction_lost: 64,
            total_lost: 125,
            jitter: 400,
            ..ReceptionReport::default()
        }],
        ..ReceiverReport::default()
    };
    rtc_rtcp::packet::marshal(&[Box::new(report) as Box<dyn rtc_rtcp::packet::Packet>])
        .expect("RTCP")
        .to_vec()
}

#[test]
fn what_a_peer_reports_of_our_packets_is_in_the_series() {
    let mut line = Line::new([(Codec::Pcmu, Digits::Events); 2]);
    let both = |line: &mut Line, packets: std::ops::Range<u32>| {
        for n in packets {
            line.send(0, 0, false, n * 160, &[0x55; 160], false);
            line.send(1, 0, false, n * 160, &[0x55; 160], false);
            line.pass(FRAME);
        }
    };
    both(&mut line, 0..200);
    let from = addr(41, 6_001);
    let mut report = report_of(501);
    line.session.receive(
        line.now,
        Port::Rtcp(SIDES[1]),
        SIDES[1],
        from,
        &mut report,
        &mut line.log,
    );
    both(&mut line, 200..400);
    let figures = line.session.ends()[1].statistics();
    assert_eq!(figures.reported_jitter, Some(Duration::from_millis(50)));
    let (first, last) = (figures.series[1], *figures.series.last().expect("samples"));
    assert_eq!(first.reported_jitter, None, "{first:?}");
    assert_eq!((last.reported_jitter, last.reported_loss), (Some(50), 25), "{last:?}");
    assert_eq!(last.jitter, 0, "what came is of its own");
    let other = line.session.ends()[0].statistics();
    assert!(other.reported_jitter.is_none(), "the other end has reported nothing");
    assert!(other.series.iter().all(|s| s.reported_jitter.is_none()));
}

#[test]
fn both_directions_of_an_end_have_an_estimate_of_their_own() {
    let mut line = Line::new([(Codec::Pcmu, Digits::Events); 2]);
    speak(&mut line, 500, |_| false);
    let heard = line.session.ends()[0].statistics().mos;
    assert!(
        heard.0.is_some_and(|m| m > 4.35) && heard.1.is_none(),
        "{heard:?}: nothing was said of what we send"
    );
    // The far end of the other leg says that it lost a quarter of what we sent.
    let mut bytes = report_of(501);
    line.session.receive(
        line.now,
        Port::Rtcp(SIDES[1]),
        SIDES[1],
        addr(41, 6_001),
        &mut bytes,
        &mut line.log,
    );
    let spoken = line.session.ends()[1].statistics().mos;
    assert!(spoken.0.is_none() && spoken.1.is_some_and(|m| m < 2.5), "{spoken:?}");
}

fn numbers(got: &[Got]) -> Vec<u16> {
    got.iter().map(|(packet, _)| packet.sequence).collect()
}

fn without_gap(numbers: &[u16]) -> bool {
    numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1))
}

impl Line {
    fn direct(&mut self, side: usize, direction: Direction) {
        let mut settings = self.settings(side);
        settings.negotiated.direction = direction;
        self.session.configure(self.now, SIDES[side], settings, &mut self.log);
    }

    /// A second of sound from a side, from packet `from` on.
    fn second(&mut self, side: usize, from: u32) {
        let payload = if self.settings[side].negotiated.codec == Codec::Opus {
            vec![0xfc, 0xff, 0xfe]
        } else {
            vec![0x55; 160]
        };
        let negotiated = &self.settings[side].negotiated;
        let (payload_type, step) = (negotiated.send, negotiated.codec.clock() / 50);
        for n in from..from + 50 {
            self.send(side, payload_type, false, n * step, &payload, false);
            self.pass(FRAME);
        }
    }
}

#[test]
fn a_hold_by_either_side_counts_no_packet_as_lost_afterwards() {
    for codecs in [[Codec::Pcmu; 2], [Codec::Pcmu, Codec::Pcma], [Codec::Opus, Codec::Opus]] {
        // Nothing goes to side 1 while it is held; or nothing is taken of side 0.
        for (side, direction) in
            [(1, Direction::RecvOnly), (1, Direction::Inactive), (0, Direction::SendOnly)]
        {
            let mut line = Line::new(codecs.map(|codec| (codec, Digits::Events)));
            line.second(0, 0);
            line.direct(side, direction);
            for second in 1..10 {
                line.second(0, second * 50);
            }
            line.session.digit(SIDES[1], 5, Duration::from_millis(160));
            line.direct(side, Direction::SendRecv);
            line.second(0, 500);
            line.session.digit(SIDES[1], 5, Duration::from_millis(160));
            line.second(0, 550);
            line.second(0, 600);
            let got = line.got(1);
            assert!((180..=260).contains(&got.len()), "{codecs:?} {direction:?}: {}", got.len());
            assert!(without_gap(&numbers(&got)), "{codecs:?} {direction:?}: {:?}", numbers(&got));
            assert_eq!(line.session.ends()[0].statistics().lost, 0);
        }
    }
}

/// RFC 3711 §3.3.1: whoever missed 2^15 numbers guesses the rollover wrong, and hears nothing more.
#[test]
fn a_browser_held_for_a_quarter_of_an_hour_is_heard_and_hears_again() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    let direct = |call: &mut Call, direction| {
        let mut held = settings(Codec::Pcmu, dtls_remote());
        held.negotiated.direction = direction;
        call.session.configure(call.now, BROWSER, held, &mut call.log);
    };
    let (last, port) = TRUNK_ADDRESS;
    call.trunk_sends(addr(last, port), 0, &[1; 160]);
    assert_eq!(call.browser_gets().len(), 1);
    direct(&mut call, Direction::RecvOnly);
    for n in 1..45_000u32 {
        call.now += FRAME;
        call.trunk_sends(addr(last, port), n as u16, &[2; 160]);
    }
    assert!(call.browser_gets().is_empty());
    direct(&mut call, Direction::SendRecv);
    for n in 45_000..45_010u32 {
        call.now += FRAME;
        call.trunk_sends(addr(last, port), n as u16, &[3; 160]);
    }
    let got = call.browser_gets();
    assert_eq!(got.len(), 10);
    assert!(without_gap(&numbers(&got)));
}

#[test]
fn digits_sent_another_way_leave_no_gap_in_relayed_or_echoed_audio() {
    let event =
        |n: u16| [5, if n > 7 { 0x8a } else { 10 }, ((n * 160) >> 8) as u8, (n * 160) as u8];
    for echoed in [None, Some(Duration::ZERO), Some(Duration::from_millis(200))] {
        let mut line = Line::new([(Codec::Pcmu, Digits::Events), (Codec::Pcmu, Digits::Signalled)]);
        if let Some(delay) = echoed {
            line.session.echo(SIDES[0], delay);
        }
        line.second(0, 0);
        for n in 1..=10 {
            line.send(0, 101, n == 1, 50 * 160, &event(n), false);
            line.pass(FRAME);
        }
        line.second(0, 60);
        line.pass(Duration::from_secs(1));
        let got = line.got(if echoed.is_some() { 0 } else { 1 });
        // An echo has the press of its own too.
        assert!((90..=111).contains(&got.len()), "{echoed:?}: {}", got.len());
        assert!(without_gap(&numbers(&got)), "{echoed:?}: {:?}", numbers(&got));
        // And they say nothing of the time packets take.
        let figures = line.session.ends()[0].statistics();
        assert_eq!((figures.lost, figures.jitter), (0, Some(Duration::ZERO)), "{echoed:?}");
        assert!(figures.mos.0.is_some_and(|m| m > 4.35), "{:?}", figures.mos);
    }
}

#[test]
fn what_a_peer_numbers_while_it_is_held_is_not_lost_and_its_clock_may_stand_still() {
    let mut line = Line::new([(Codec::Pcmu, Digits::Events); 2]);
    line.second(0, 0);
    line.direct(0, Direction::SendOnly);
    // One that was on its way, then nothing; numbers continue in between.
    line.send(0, 0, false, 50 * 160, &[0x55; 160], false);
    (0..400).for_each(|n| line.send(0, 0, false, n, &[], true));
    line.pass(Duration::from_secs(8));
    line.direct(0, Direction::SendRecv);
    line.second(0, 51);
    let held = line.session.ends()[0].statistics();
    assert_eq!((held.lost, held.received), (0, 101));
    assert_eq!(held.jitter, Some(Duration::ZERO), "its timestamps stopped for 8 s");
    assert!(held.mos.0.is_some_and(|m| m > 4.35), "{:?}", held.mos);
    // What is missing while it may send is lost, as ever.
    (0..10).for_each(|n| line.send(0, 0, false, n, &[], true));
    line.second(0, 111);
    assert_eq!(line.session.ends()[0].statistics().lost, 10);
}

#[test]
fn a_source_that_starts_again_keeps_the_losses_it_had() {
    let mut line = Line::new([(Codec::Pcmu, Digits::Events); 2]);
    speak(&mut line, 500, |n| n % 5 == 2);
    line.sequence[0] = line.sequence[0].wrapping_add(30_000);
    speak(&mut line, 20, |_| false);
    let figures = line.session.ends()[0].statistics();
    assert_eq!(figures.lost, 100);
    assert!(figures.mos.0.is_some_and(|m| m < 3.0), "{:?}", figures.mos);
}

#[test]
fn a_very_short_call_has_no_score_and_surplus_packets_are_no_loss() {
    let mut line = Line::new([(Codec::Pcmu, Digits::Events); 2]);
    let figures = |line: &Line, side: usize| line.session.ends()[side].statistics();
    assert_eq!(figures(&line, 0).jitter, None);
    assert_eq!(figures(&line, 0).packets_lost(), None);
    speak(&mut line, 40, |_| false);
    assert_eq!(figures(&line, 0).mos, (None, None));
    assert_eq!(figures(&line, 0).packets_lost(), Some(0));
    // 24 bits with a sign: the network doubled two packets (RFC 3550 §6.4.1).
    speak(&mut line, 60, |_| false);
    let report = ReceiverReport {
        ssrc: 501,
        reports: vec![ReceptionReport { ssrc: 2, total_lost: 0xff_fffe, ..Default::default() }],
        ..ReceiverReport::default()
    };
    let mut bytes =
        rtc_rtcp::packet::marshal(&[Box::new(report) as Box<dyn rtc_rtcp::packet::Packet>])
            .expect("RTCP")
            .to_vec();
    let (port, from) = (Port::Rtcp(SIDES[1]), addr(41, 6_001));
    line.session.receive(line.now, port, SIDES[1], from, &mut bytes, &mut line.log);
    let spoken = figures(&line, 1).mos.1;
    assert!(spoken.is_some_and(|m| m > 4.35), "{spoken:?}");
}
