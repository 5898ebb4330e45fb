//! A trunk's media with keys from the signalling.

use crate::lab::*;
use std::time::Duration;
use webtrunk::codec::Codec;
use webtrunk::media::{Digits, Port};
use webtrunk::rtp::srtp::{Profile, Protect, Unprotect};
use webtrunk::sdp::crypto::{CryptoKeys, LONGEST, Sdes};
use webtrunk::sdp::offer_answer::Remote;

const PROFILES: [Profile; 8] = [
    Profile::Aes192CmHmacSha1_80,
    Profile::Aes192CmHmacSha1_32,
    Profile::Aes256CmHmacSha1_80,
    Profile::Aes256CmHmacSha1_32,
    Profile::AeadAes128Gcm,
    Profile::AeadAes256Gcm,
    Profile::Aes128CmHmacSha1_80,
    Profile::Aes128CmHmacSha1_32,
];

/// A line whose first side has keys, ours made of `ours` and theirs of `theirs`.
fn settings(
    line: &Line,
    profile: Profile,
    ours: u8,
    theirs: u8,
) -> webtrunk::media::EndpointSettings {
    let mut settings = line.settings(0);
    if let Remote::Rtp { sdes, .. } = &mut settings.negotiated.remote {
        *sdes = Some(Box::new(Sdes {
            ours: CryptoKeys::new(profile, &[ours; LONGEST]),
            theirs: CryptoKeys::new(profile, &[theirs; LONGEST]),
        }));
    }
    settings
}

fn peer(profile: Profile, ours: u8, theirs: u8) -> (Protect, Unprotect) {
    let (ours, theirs) =
        (CryptoKeys::new(profile, &[ours; LONGEST]), CryptoKeys::new(profile, &[theirs; LONGEST]));
    (
        Protect::new(profile, theirs.key(), theirs.salt()),
        Unprotect::new(profile, ours.key(), ours.salt()),
    )
}

fn sealed(protect: &mut Protect, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut buf = rtp(0, false, (sequence, u32::from(sequence) * 160, 900), payload, 16);
    let len = protect.rtp(&mut buf, 12 + payload.len()).expect("room");
    buf.truncate(len);
    buf
}

fn receive(line: &mut Line, mut datagram: Vec<u8>) {
    line.session.receive(
        line.now,
        Port::Rtp(SIDES[0]),
        SIDES[0],
        addr(40, 6_000),
        &mut datagram,
        &mut line.log,
    );
}

#[test]
fn both_directions_are_protected_in_every_suite_and_plain_packets_are_dropped() {
    for profile in PROFILES {
        let mut line = Line::new([(Codec::Pcmu, Digits::Events); 2]);
        let keyed = settings(&line, profile, 1, 2);
        line.session.configure(line.now, SIDES[0], keyed, &mut line.log);
        let (mut protect, mut unprotect) = peer(profile, 1, 2);
        for n in 0..10 {
            receive(&mut line, sealed(&mut protect, 500 + n, &[0x31; 160]));
        }
        assert_eq!(
            line.got(1).iter().filter(|(_, p)| p[..] == [0x31; 160]).count(),
            10,
            "{profile:?}"
        );
        line.send(0, 0, false, 0, &[0x32; 160], false);
        let mut forged = sealed(&mut protect, 520, &[0x33; 160]);
        forged[40] ^= 1;
        receive(&mut line, forged);
        assert!(line.got(1).is_empty(), "{profile:?}: plain and forged packets go nowhere");
        assert_eq!(line.session.ends()[0].statistics().dropped.bad_tag, 2);
        line.send(1, 0, false, 0, &[0x34; 160], false);
        line.pass(Duration::from_secs(6));
        for (port, _, mut datagram) in std::mem::take(&mut line.log.sent) {
            if port == Port::Rtp(SIDES[0]) {
                let len = unprotect.rtp(&mut datagram).expect("protected");
                assert_eq!(datagram[12..len], [0x34; 160]);
            } else if port == Port::Rtcp(SIDES[0]) {
                unprotect.rtcp(&mut datagram).expect("reports are protected too");
            }
        }
    }
}

#[test]
fn a_new_key_of_the_peers_counts_from_then_on_and_ours_continues() {
    let mut line = Line::new([(Codec::Pcmu, Digits::Events); 2]);
    let (profile, first) = (PROFILES[2], settings(&line, PROFILES[2], 1, 2));
    line.session.configure(line.now, SIDES[0], first, &mut line.log);
    let (mut old, mut unprotect) = peer(profile, 1, 2);
    receive(&mut line, sealed(&mut old, 1, &[0x31; 160]));
    line.send(1, 0, false, 0, &[0x32; 160], false);
    let second = settings(&line, profile, 1, 3);
    line.session.configure(line.now, SIDES[0], second, &mut line.log);
    let (mut new, _) = peer(profile, 1, 3);
    receive(&mut line, sealed(&mut old, 2, &[0x33; 160]));
    receive(&mut line, sealed(&mut new, 3, &[0x34; 160]));
    line.send(1, 0, false, 160, &[0x35; 160], false);
    assert_eq!(
        line.log.sent.iter().filter(|(port, ..)| *port == Port::Rtp(SIDES[1])).count(),
        2,
        "one of each key"
    );
    for (port, _, mut datagram) in std::mem::take(&mut line.log.sent) {
        if port == Port::Rtp(SIDES[0]) {
            unprotect.rtp(&mut datagram).expect("one context all along: no index twice");
        }
    }
}
