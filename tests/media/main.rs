//! Media in virtual time: the six media rules with a negative test each, audio by tone and level.

mod attacks;
mod codecs;
mod digits;
mod dtls;
mod lab;
mod levels;
mod moving;
mod odd_packets;
mod presses;
mod quality;
mod reload;
mod restarts;
mod sdes;
mod silence;
mod stopped;
mod survival;

use lab::*;
use std::time::Duration;
use webtrunk::codec::{Codec, Decoder, Encoder, MAX_FRAME, NARROW};
use webtrunk::media::Port;
use webtrunk::media::dtls::Handshake;
use webtrunk::media::player::PlaySource;
use webtrunk::media::session::SessionEvent;
use webtrunk::media::stun::binding_request;
use webtrunk::rtp::event::TelephoneEvent;
use webtrunk::rtp::packet::write_header;
use webtrunk::sdp::Direction;
use webtrunk::sdp::offer_answer::Remote;

#[test]
fn a_browser_that_waits_for_our_client_hello_gets_it_once_ice_has_an_address() {
    let (ours, theirs) = identities();
    let mut call = Call::new(Codec::Pcmu, Codec::Pcmu, false);
    let mut active = settings(Codec::Pcmu, dtls_remote());
    if let Remote::Dtls { active, .. } = &mut active.negotiated.remote {
        *active = true;
    }
    call.session.configure(call.now, BROWSER, active, &mut call.log);
    assert!(call.log.sent.is_empty(), "no DTLS before ICE");
    call.check(call.browser, true);
    let mut server = Handshake::new(theirs.clone(), vec![fingerprint(ours)]);
    let mut keys = None;
    for _ in 0..20 {
        let mut back = Vec::new();
        for (_, to, datagram) in std::mem::take(&mut call.log.sent) {
            assert_eq!(to, call.browser);
            if (20..64).contains(&datagram[0]) {
                keys = server
                    .receive(call.now, &datagram, &mut |d| back.push(d.to_vec()))
                    .expect("sound")
                    .or(keys);
            }
        }
        for mut datagram in back {
            call.session.receive(
                call.now,
                Port::Browser,
                BROWSER,
                call.browser,
                &mut datagram,
                &mut call.log,
            );
        }
    }
    assert!(
        keys.is_some()
            && call
                .log
                .events
                .iter()
                .any(|e| matches!(e, SessionEvent::Secured { end: BROWSER, .. }))
    );
}

#[test]
fn rule_1_before_an_authentic_check_only_stun_is_looked_at() {
    let mut call = Call::new(Codec::Opus, Codec::Pcmu, false);
    let mut hello = Vec::new();
    call.client.start(call.now, &mut |d| hello.push(d.to_vec()));
    for from in [call.browser, addr(66, 5_000)] {
        for mut datagram in hello.clone() {
            call.session.receive(
                call.now,
                Port::Browser,
                BROWSER,
                from,
                &mut datagram,
                &mut call.log,
            );
        }
        let mut rtp = vec![0x80, 111, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3];
        call.session.receive(call.now, Port::Browser, BROWSER, from, &mut rtp, &mut call.log);
    }
    let mut forged = binding_request([3; 12], "ours:theirs", "guess", true);
    call.session.receive(
        call.now,
        Port::Browser,
        BROWSER,
        addr(66, 5_000),
        &mut forged,
        &mut call.log,
    );
    assert!(call.log.sent.is_empty() && call.log.events.is_empty(), "no reply, no event");
}

#[test]
fn rule_1_dtls_and_srtp_come_from_any_validated_pair_not_only_the_nominated_one() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    let other = addr(20, 6_000);
    call.check(other, false);
    let mut datagram = call.sealed(0, 160, &[0xff; 160]);
    call.session.receive(call.now, Port::Browser, BROWSER, other, &mut datagram, &mut call.log);
    assert_eq!(call.trunk_gets().len(), 1);
    let mut datagram = call.sealed(0, 320, &[0xff; 160]);
    call.session.receive(
        call.now,
        Port::Browser,
        BROWSER,
        addr(20, 6_001),
        &mut datagram,
        &mut call.log,
    );
    assert!(call.trunk_gets().is_empty(), "an unvalidated port of the same host");
}

#[test]
fn rules_2_and_3_junk_forgeries_and_replays_end_nothing_and_move_nothing() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    let good = call.sealed(0, 160, &[0x55; 160]);
    call.session.receive(
        call.now,
        Port::Browser,
        BROWSER,
        call.browser,
        &mut good.clone(),
        &mut call.log,
    );
    assert_eq!(call.trunk_gets().len(), 1);
    call.log = Log::default();
    let mut chance = Chance::new(5);
    for n in 0..10_000u32 {
        let mut junk = match n % 4 {
            0 => good.clone(),
            1 => {
                let mut j = good.clone();
                j[20] ^= 1;
                j
            }
            2 => (0..13).map(|_| chance.below(256) as u8).collect(),
            _ => {
                let mut j = good.clone();
                j[8..12].copy_from_slice(&n.to_be_bytes());
                j
            }
        };
        junk[0] = 0x80 | (junk[0] & 0x3f);
        let from = if n % 2 == 0 { call.browser } else { addr(66, 7_000) };
        call.session.receive(call.now, Port::Browser, BROWSER, from, &mut junk, &mut call.log);
    }
    assert!(call.log.sent.is_empty() && call.log.events.is_empty(), "{:?}", call.log.events);
    call.browser_sends(0, 320, &[0x66; 160]);
    assert_eq!(call.trunk_gets().len(), 1, "the call continues");
}

#[test]
fn rule_5_a_trunks_media_address_comes_from_signalling_and_nowhere_else() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    for n in 0..100 {
        call.trunk_sends(addr(66, 4_000), n, &[1; 160]);
        call.trunk_sends(addr(10, 4_444), n, &[1; 160]);
    }
    let mut rtcp = vec![0x80, 201, 0, 1, 0, 0, 0, 88];
    call.session.receive(
        call.now,
        Port::Rtcp(TRUNK),
        TRUNK,
        addr(66, 4_001),
        &mut rtcp,
        &mut call.log,
    );
    assert!(call.log.sent.is_empty(), "nothing of it reaches the browser");
    call.browser_sends(0, 160, &[0x55; 160]);
    let sent = call.trunk_gets();
    assert_eq!(sent.iter().map(|s| s.0).collect::<Vec<_>>(), [addr(10, 4_000)]);
}

#[test]
fn rule_5_nat_learns_a_port_within_the_announced_address_once_and_then_locks() {
    let mut call = Call::new(Codec::Pcmu, Codec::Pcmu, true);
    call.check(call.browser, true);
    call.secure();
    call.log = Log::default();
    for n in 0..50 {
        call.trunk_sends(addr(66, 4_000), n, &[1; 160]);
    }
    let mut rtcp = vec![0x80, 201, 0, 1, 0, 0, 0, 88];
    for _ in 0..10 {
        call.session.receive(
            call.now,
            Port::Rtcp(TRUNK),
            TRUNK,
            addr(10, 9_999),
            &mut rtcp,
            &mut call.log,
        );
    }
    call.browser_sends(0, 160, &[0x55; 160]);
    assert_eq!(call.trunk_gets()[0].0, addr(10, 4_000), "another address and RTCP teach nothing");
    for n in 0..5 {
        call.trunk_sends(addr(10, 4_444), 100 + n, &[2; 160]);
    }
    call.browser_sends(0, 320, &[0x55; 160]);
    assert_eq!(call.trunk_gets()[0].0, addr(10, 4_444), "learned within five packets");
    for n in 0..50 {
        call.trunk_sends(addr(10, 5_555), 200 + n, &[3; 160]);
    }
    call.browser_sends(0, 480, &[0x55; 160]);
    assert_eq!(call.trunk_gets()[0].0, addr(10, 4_444), "locked: only signalling unlocks");
}

#[test]
fn a_browser_roams_when_media_comes_from_the_address_it_nominated() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    let (old, moved) = (call.browser, addr(21, 6_000));
    let target = |call: &mut Call, sequence| {
        call.log = Log::default();
        call.trunk_sends(addr(10, 4_000), sequence, &[0x55; 160]);
        call.log.sent[0].1
    };
    call.check(moved, true);
    assert_eq!(target(&mut call, 1), old, "a check has no return address that is proved");
    call.browser = moved;
    call.browser_sends(0, 160, &[0x55; 160]);
    assert_eq!(target(&mut call, 2), moved);
}

#[test]
fn forged_nominations_send_nothing_to_a_third_host() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    let victim = addr(99, 7_000);
    for n in 0..200u16 {
        call.check(victim, true);
        call.trunk_sends(addr(10, 4_000), n, &[0x55; 160]);
    }
    let to_victim = call.log.sent.iter().filter(|(_, to, _)| *to == victim);
    let bytes: usize = to_victim.map(|(.., datagram)| datagram.len()).sum();
    assert!(bytes <= 200 * 120, "answers to checks, none longer than its question: {bytes}");
    let media = call.log.sent.iter().filter(|(_, to, d)| *to == victim && d[0] >> 6 == 2);
    assert_eq!(media.count(), 0);
}

#[test]
fn opus_from_the_browser_reaches_the_trunk_as_g711_by_tone_and_level_and_back() {
    for law in [Codec::Pcmu, Codec::Pcma] {
        let mut call = Call::connected(Codec::Opus, law);
        let mut encoder = Encoder::new(Codec::Opus, NARROW, 5);
        let mut decoder = Decoder::new(law, NARROW);
        let mut heard = Vec::new();
        for n in 0..100usize {
            let mut payload = [0u8; 400];
            let len = encoder.encode(&sine(NARROW, 440.0, n * 160, 160), &mut payload);
            call.browser_sends(111, n as u32 * 960, &payload[..len]);
            for (_, packet, payload) in call.trunk_gets() {
                assert_eq!((packet.payload_type, payload.len()), (law.default_payload_type(), 160));
                let mut pcm = [0; MAX_FRAME];
                let samples = decoder.decode(&payload, &mut pcm).expect("G.711");
                heard.extend_from_slice(&pcm[..samples]);
            }
        }
        assert_eq!(heard.len(), 100 * 160);
        let (share, level) = tone(NARROW, &heard[8_000..], 440.0);
        assert!(
            share > 0.97 && (-16.5..-13.5).contains(&level),
            "{law}: {share} of the power, {level} dBFS"
        );
        let mut encoder = Encoder::new(law, NARROW, 5);
        let mut decoder = Decoder::new(Codec::Opus, NARROW);
        let mut heard = Vec::new();
        for n in 0..100usize {
            let mut payload = [0u8; 160];
            encoder.encode(&sine(NARROW, 1_004.0, n * 160, 160), &mut payload);
            let mut datagram = vec![0u8; 172];
            write_header(
                datagram.first_chunk_mut().expect("room"),
                false,
                law.default_payload_type(),
                n as u16,
                n as u32 * 160,
                88,
            );
            datagram[12..].copy_from_slice(&payload);
            call.session.receive(
                call.now,
                Port::Rtp(TRUNK),
                TRUNK,
                addr(10, 4_000),
                &mut datagram,
                &mut call.log,
            );
            for (packet, payload) in call.browser_gets() {
                assert_eq!(packet.ssrc, 0x1111);
                let mut pcm = [0; MAX_FRAME];
                let samples = decoder.decode(&payload, &mut pcm).expect("Opus");
                heard.extend_from_slice(&pcm[..samples]);
            }
        }
        let (share, level) = tone(NARROW, &heard[8_000..], 1_004.0);
        assert!(
            share > 0.95 && (-17.0..-13.0).contains(&level),
            "{law}: {share} of the power, {level} dBFS"
        );
    }
}

#[test]
fn a_peer_that_switches_its_codec_and_back_is_decoded_rightly_throughout() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    let mut both = settings(Codec::Pcmu, trunk_remote());
    both.negotiated.receive = vec![(0, Codec::Pcmu), (8, Codec::Pcma)];
    call.session.configure(call.now, TRUNK, both, &mut call.log);
    let mut heard = Vec::new();
    for n in 0..150usize {
        let codec = if (50..100).contains(&n) { Codec::Pcma } else { Codec::Pcmu };
        let mut datagram = vec![0u8; 172];
        write_header(
            datagram.first_chunk_mut().expect("room"),
            false,
            codec.default_payload_type(),
            n as u16,
            n as u32 * 160,
            88,
        );
        Encoder::new(codec, NARROW, 5)
            .encode(&sine(NARROW, 1_000.0, n * 160, 160), &mut datagram[12..]);
        call.session.receive(
            call.now,
            Port::Rtp(TRUNK),
            TRUNK,
            addr(10, 4_000),
            &mut datagram,
            &mut call.log,
        );
        for (packet, payload) in call.browser_gets() {
            assert_eq!(packet.payload_type, 0);
            let mut pcm = [0; MAX_FRAME];
            let samples =
                Decoder::new(Codec::Pcmu, NARROW).decode(&payload, &mut pcm).expect("G.711");
            heard.extend_from_slice(&pcm[..samples]);
        }
    }
    assert_eq!(heard.len(), 150 * 160);
    for third in heard.chunks(50 * 160) {
        assert!(tone(NARROW, third, 1_000.0).0 > 0.98, "{}", tone(NARROW, third, 1_000.0).0);
    }
}

#[test]
fn reordered_packets_are_put_in_order_and_lost_ones_are_concealed() {
    let mut call = Call::connected(Codec::Opus, Codec::Pcmu);
    let mut encoder = Encoder::new(Codec::Opus, NARROW, 5);
    let packets: Vec<Vec<u8>> = (0..100usize)
        .map(|n| {
            let mut payload = [0u8; 400];
            let len = encoder.encode(&sine(NARROW, 440.0, n * 160, 160), &mut payload);
            call.sealed(111, n as u32 * 960, &payload[..len])
        })
        .collect();
    let mut order: Vec<usize> = (0..100).filter(|n| n % 20 != 10).collect();
    order.swap(30, 31);
    order.swap(50, 52);
    let mut samples = 0;
    let mut last: Option<u32> = None;
    for n in order {
        call.session.receive(
            call.now,
            Port::Browser,
            BROWSER,
            call.browser,
            &mut packets[n].clone(),
            &mut call.log,
        );
        for (_, packet, payload) in call.trunk_gets() {
            if let Some(last) = last {
                assert_eq!(packet.timestamp.wrapping_sub(last), 160, "a continuous stream");
            }
            last = Some(packet.timestamp);
            samples += payload.len();
        }
    }
    assert!(samples >= 98 * 160, "{samples} of {}", 100 * 160);
}

#[test]
fn telephone_events_keep_digit_and_length_across_clocks() {
    let mut call = Call::connected(Codec::Opus, Codec::Pcmu);
    let mut seen = Vec::new();
    for (n, duration) in [960u16, 1_920, 2_880, 4_800, 4_800, 4_800].into_iter().enumerate() {
        let event = TelephoneEvent { event: 7, end: n >= 3, volume: 10, duration };
        call.browser_sends(110, 48_000, &event.to_bytes());
        seen.extend(call.trunk_gets());
        call.pass(Duration::from_millis(20));
        seen.extend(call.trunk_gets());
    }
    call.pass(Duration::from_millis(200));
    seen.extend(call.trunk_gets());
    let events: Vec<TelephoneEvent> =
        seen.iter().map(|(_, _, p)| TelephoneEvent::parse(p).expect("an event")).collect();
    assert_eq!(
        events.iter().map(|e| e.duration).collect::<Vec<_>>(),
        [160, 320, 480, 640, 800, 800, 800]
    );
    assert!(
        seen.iter().all(|(_, p, _)| p.payload_type == 101 && p.timestamp == seen[0].1.timestamp),
        "one timestamp an event"
    );
    assert_eq!(events.iter().filter(|e| e.end).count(), 3);
}

#[test]
fn a_digit_of_ours_is_one_event_with_three_ends() {
    let mut call = Call::connected(Codec::Opus, Codec::Pcmu);
    call.session.digit(TRUNK, 5, Duration::from_millis(100));
    let mut events = Vec::new();
    while let Some(due) =
        call.session.next_timeout().filter(|d| *d < call.now + Duration::from_secs(1))
    {
        call.now = due.max(call.now);
        call.session.fire(call.now, &mut call.log);
        events.extend(call.trunk_gets().into_iter().map(|(_, p, payload)| {
            (p.marker, p.timestamp, TelephoneEvent::parse(&payload).expect("event"))
        }));
    }
    assert_eq!(events.iter().filter(|e| e.2.end).count(), 3);
    assert_eq!(events.iter().filter(|e| e.0).count(), 1, "one marker");
    assert_eq!(events.last().map(|e| e.2.duration), Some(800));
    assert!(events.iter().all(|e| e.1 == events[0].1));
}

#[test]
fn a_hold_sends_nothing_and_resumes_without_a_jump_backwards() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    for n in 0..5 {
        call.trunk_sends(addr(10, 4_000), n, &[0x55; 160]);
    }
    let before = call.browser_gets();
    let mut held = settings(Codec::Pcmu, dtls_remote());
    held.negotiated.direction = Direction::RecvOnly;
    call.session.configure(call.now, BROWSER, held, &mut call.log);
    for n in 5..10 {
        call.trunk_sends(addr(10, 4_000), n, &[0x55; 160]);
    }
    assert!(call.browser_gets().is_empty());
    call.session.configure(call.now, BROWSER, settings(Codec::Pcmu, dtls_remote()), &mut call.log);
    // The trunk restarts its stream meanwhile: other SSRC, other numbers.
    call.now += Duration::from_secs(2_000);
    let mut datagram = vec![0u8; 172];
    write_header(datagram.first_chunk_mut().expect("room"), true, 0, 3, 5, 99);
    call.session.receive(
        call.now,
        Port::Rtp(TRUNK),
        TRUNK,
        addr(10, 4_000),
        &mut datagram,
        &mut call.log,
    );
    let after = call.browser_gets();
    assert_eq!(after.len(), 1, "SRTP accepts it");
    let (old, new) = (before.last().expect("five").0, after[0].0);
    assert_eq!(new.ssrc, old.ssrc);
    assert!((new.sequence.wrapping_sub(old.sequence) as i16) > 0);
    assert!((new.timestamp.wrapping_sub(old.timestamp) as i32) >= 2_000 * 8_000);
}

#[test]
fn reports_go_out_on_both_legs_and_the_other_crate_reads_them() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    for n in 0..50 {
        call.trunk_sends(addr(10, 4_000), n + u16::from(n > 20), &[0x55; 160]);
        call.browser_sends(0, u32::from(n) * 160, &[0x66; 160]);
    }
    call.log = Log::default();
    call.now += Duration::from_secs(6);
    call.session.fire(call.now, &mut call.log);
    let trunk = call
        .log
        .sent
        .iter()
        .find(|(p, ..)| *p == Port::Rtcp(TRUNK))
        .expect("a report to the trunk")
        .2
        .clone();
    let packets = rtc_rtcp::packet::unmarshal(&mut &trunk[..]).expect("sound RTCP");
    let report = packets[0]
        .as_any()
        .downcast_ref::<rtc_rtcp::sender_report::SenderReport>()
        .expect("a sender report");
    assert_eq!((report.ssrc, report.packet_count), (0x2222, 50));
    assert_eq!((report.reports[0].ssrc, report.reports[0].total_lost), (88, 1));
    let browser = call
        .log
        .sent
        .iter()
        .find(|(p, ..)| *p == Port::Browser)
        .expect("a report to the browser")
        .2
        .clone();
    let len = call
        .keys
        .as_mut()
        .expect("keys")
        .unprotect
        .rtcp(&mut browser.clone())
        .expect("authentic SRTCP");
    assert!(len > 28);
}

#[test]
fn a_browser_without_consent_for_thirty_seconds_is_reported_once() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    let end = call.now + Duration::from_secs(120);
    while let Some(due) = call.session.next_timeout().filter(|d| *d < end) {
        call.now = due.max(call.now);
        call.session.fire(call.now, &mut call.log);
    }
    let lost =
        call.log.events.iter().filter(|e| matches!(e, SessionEvent::ConsentLost { .. })).count();
    assert_eq!(lost, 1);
    let silent = |e: &SessionEvent| matches!(e, SessionEvent::NoMedia { .. });
    assert!(call.log.events.iter().any(silent));
}

#[test]
fn a_tone_is_played_at_its_frequency_without_end_and_an_echo_comes_back_later() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    call.session.play(call.now, TRUNK, PlaySource::Tone(1_000));
    let mut pcm = Vec::new();
    for _ in 0..100 {
        call.now += Duration::from_millis(20);
        call.session.fire(call.now, &mut call.log);
        for (_, _, payload) in call.trunk_gets() {
            let mut out = [0; MAX_FRAME];
            let n = Decoder::new(Codec::Pcmu, NARROW).decode(&payload, &mut out).expect("G.711");
            pcm.extend_from_slice(&out[..n]);
        }
    }
    let (share, level) = tone(NARROW, &pcm, 1_000.0);
    assert!(share > 0.98 && (-14.0..-12.0).contains(&level), "{share}, {level}");
    call.session.echo(TRUNK, Duration::from_secs(5));
    call.trunk_sends(addr(10, 4_000), 1, &[0x77; 160]);
    assert!(call.trunk_gets().is_empty());
    call.now += Duration::from_secs(5);
    call.session.fire(call.now, &mut call.log);
    assert_eq!(call.trunk_gets().iter().filter(|(_, _, p)| p == &vec![0x77; 160]).count(), 1);
}
