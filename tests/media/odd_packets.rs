//! RTP as it is sent: padded, with extensions and contributors, wrapping, among packets that are
//! not RTP.

use crate::lab::*;
use std::time::Duration;
use webtrunk::codec::Codec;
use webtrunk::media::{Digits, Port};

const PACKETS: usize = 60;

/// How a packet is written: the number of it, and its plain bytes.
type Written = fn(usize, Vec<u8>) -> Vec<u8>;

/// `datagram` with these bytes between the fixed header and the payload, and these bits set.
fn inserted(mut datagram: Vec<u8>, bits: u8, bytes: &[u8]) -> Vec<u8> {
    datagram[0] |= bits;
    datagram.splice(12..12, bytes.iter().copied());
    datagram
}

fn padded(mut datagram: Vec<u8>, padding: u8) -> Vec<u8> {
    datagram[0] |= 0x20;
    datagram.extend(std::iter::repeat_n(0, usize::from(padding) - 1));
    datagram.push(padding);
    datagram
}

const ODD: [(&str, (u16, u32), Written); 11] = [
    ("padding of four", (1, 1), |_, d| padded(d, 4)),
    ("padding of 200", (1, 1), |_, d| padded(d, 200)),
    ("an extension of one byte each", (1, 1), |_, d| {
        inserted(d, 0x10, &[0xbe, 0xde, 0, 1, 0x10, 0xff, 0, 0])
    }),
    ("an extension of nobody's profile", (1, 1), |_, d| inserted(d, 0x10, &[1, 2, 0, 0])),
    ("two contributors", (1, 1), |_, d| inserted(d, 2, &[0, 0, 0, 1, 0, 0, 0, 2])),
    ("contributors, extension and padding", (1, 1), |_, d| {
        padded(inserted(d, 0x11, &[0, 0, 0, 1, 0xbe, 0xde, 0, 0]), 8)
    }),
    ("a marker on each packet", (1, 1), |_, mut d| {
        d[1] |= 0x80;
        d
    }),
    ("a sequence that wraps", (65_510, 1), |_, d| d),
    ("a timestamp that wraps", (1, u32::MAX - 160 * 30), |_, d| d),
    ("our own SSRC", (1, 1), |_, mut d| {
        d[8..12].copy_from_slice(&u32::from(SIDES[1].0).to_be_bytes());
        d
    }),
    ("another payload type now and then", (1, 1), |n, mut d| {
        d[1] = if n % 30 == 29 { 13 } else { 0 };
        d
    }),
];

fn receive(line: &mut Line, port: Port, from: u16, mut datagram: Vec<u8>) {
    let from = addr(40, from);
    line.session.receive(line.now, port, SIDES[0], from, &mut datagram, &mut line.log);
}

#[test]
fn rtp_padding_and_extensions_do_not_reach_the_other_side() {
    for to in [Codec::Pcmu, Codec::Pcma] {
        for (what, (sequence, timestamp), written) in ODD {
            let mut line = Line::new([(Codec::Pcmu, Digits::Events), (to, Digits::Events)]);
            for n in 0..PACKETS {
                let numbers =
                    (sequence.wrapping_add(n as u16), timestamp.wrapping_add(160 * n as u32), 7);
                let datagram = written(n, rtp(0, false, numbers, &[0x55; 160], 0));
                receive(&mut line, Port::Rtp(SIDES[0]), 6_000, datagram);
                line.pass(Duration::from_millis(20));
            }
            let got = line.got(1);
            assert!(got.len() >= PACKETS - 4, "{what}, to {to}: {} packets", got.len());
            for (packet, payload) in &got {
                let plain = (packet.header_len, packet.padding, payload.len());
                assert_eq!(plain, (12, 0, 160), "{what}, to {to}");
            }
            for pair in got.windows(2) {
                // What is left out leaves its number out too, as a loss would.
                let step = pair[1].0.sequence.wrapping_sub(pair[0].0.sequence);
                assert!((1..=2).contains(&step), "{what}: a step of {step}");
                assert_eq!(pair[1].0.ssrc, pair[0].0.ssrc, "{what}");
            }
            let figures = line.session.ends()[0].figures();
            assert!(figures.lost <= 1, "{what}: {} lost", figures.lost);
        }
    }
}

/// Packets at a media port that are not media, or are truncated, are dropped one by one.
#[test]
fn junk_does_no_harm_to_the_rtp_beside_it() {
    let junk: [&[u8]; 9] = [
        &[],
        &[0x80],
        &[0x80, 0, 0, 1],
        // RTCP at the port of RTP, which was not agreed on; and one at its own that is cut short.
        &[0x80, 200, 0, 6, 0, 0, 0, 7],
        &[0x81, 201, 0, 1, 0, 0, 0, 7],
        // Version 1, an extension and padding beyond the end.
        &[0x40, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 1],
        &[0x90, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0xbe, 0xde, 0xff, 0xff],
        &[0xa0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0x55, 0xff],
        &[0xa0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0x55, 0],
    ];
    let mut line = Line::new([(Codec::Pcmu, Digits::Events), (Codec::Pcmu, Digits::Events)]);
    for n in 0..PACKETS {
        let numbers = (n as u16, 160 * n as u32, 7);
        receive(&mut line, Port::Rtp(SIDES[0]), 6_000, rtp(0, false, numbers, &[0x55; 160], 0));
        let bytes = junk[n % junk.len()].to_vec();
        receive(&mut line, Port::Rtp(SIDES[0]), 6_000, bytes.clone());
        receive(&mut line, Port::Rtcp(SIDES[0]), 6_001, bytes);
        line.pass(Duration::from_millis(20));
    }
    let got = line.got(1);
    assert_eq!(got.iter().filter(|(_, payload)| payload[..] == [0x55; 160]).count(), PACKETS);
    assert_eq!(got.len(), PACKETS);
}
