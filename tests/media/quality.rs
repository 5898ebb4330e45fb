//! Estimates of how a call sounds: per end and direction, and told to peers that want them (RFC
//! 3611).

use crate::lab::*;
use rtc_rtcp::extended_report::{ExtendedReport, VoIPMetricsReportBlock};
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::reception_report::ReceptionReport;
use std::time::Duration;
use webtrunk::codec::Codec;
use webtrunk::media::{Digits, Port};

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
    let told = metrics(&mut line, 0);
    let last = told.last().expect("metrics");
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
    let report = ReceiverReport {
        ssrc: 501,
        reports: vec![ReceptionReport {
            ssrc: 2,
            fraction_lost: 64,
            total_lost: 125,
            ..ReceptionReport::default()
        }],
        ..ReceiverReport::default()
    };
    let mut bytes =
        rtc_rtcp::packet::marshal(&[Box::new(report) as Box<dyn rtc_rtcp::packet::Packet>])
            .expect("RTCP")
            .to_vec();
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
