//! What is sealed and opened, and what is refused.

#![cfg(test)]

use super::session_keys::{ctr_key, derive};
use super::*;
use crate::rtp::packet::write_header;

fn packet(sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut head = [0u8; 12];
    write_header(&mut head, false, 111, sequence, u32::from(sequence) * 960, 0x1234_5678);
    [&head[..], payload].concat()
}

fn protect(context: &mut Protect, plain: &[u8]) -> Vec<u8> {
    let mut buf = [0u8; 300];
    buf[..plain.len()].copy_from_slice(plain);
    let len = context.rtp(&mut buf, plain.len()).expect("room for the tag");
    buf[..len].to_vec()
}

fn oracle(profile: Profile, key: &[u8], salt: &[u8]) -> rtc_srtp::context::Context {
    use rtc_srtp::protection_profile::ProtectionProfile as Theirs;
    let theirs = match profile {
        Profile::AeadAes128Gcm => Theirs::AeadAes128Gcm,
        Profile::AeadAes256Gcm => Theirs::AeadAes256Gcm,
        Profile::Aes128CmHmacSha1_80 => Theirs::Aes128CmHmacSha1_80,
        Profile::Aes128CmHmacSha1_32 => Theirs::Aes128CmHmacSha1_32,
        other => panic!("the oracle does not know {other:?}"),
    };
    let provider = rtc_crypto::default_provider().expect("aws-lc-rs is built in");
    rtc_srtp::context::Context::new(key, salt, theirs, None, None, provider.crypto())
        .expect("sound keys")
}

const PROFILES: [Profile; 4] = [
    Profile::AeadAes128Gcm,
    Profile::AeadAes256Gcm,
    Profile::Aes128CmHmacSha1_80,
    Profile::Aes128CmHmacSha1_32,
];

#[test]
fn a_master_key_identifier_is_taken_out_where_there_is_to_be_one() {
    for profile in PROFILES {
        let (key, salt) = (vec![7u8; profile.key_len()], vec![9u8; profile.salt_len()]);
        let mut ours = Protect::new(profile, &key, &salt);
        let mut open = Unprotect::new(profile, &key, &salt).with_mki(&[0, 0, 5]);
        let gcm = matches!(profile, Profile::AeadAes128Gcm | Profile::AeadAes256Gcm);
        let (rtp_tag, rtcp_tag) = match profile {
            _ if gcm => (0, 0),
            Profile::Aes128CmHmacSha1_32 => (4, 10),
            _ => (10, 10),
        };
        let with = |sealed: &[u8], tag: usize, mki: &[u8]| {
            let (body, tag) = sealed.split_at(sealed.len() - tag);
            [body, mki, tag].concat()
        };
        let plain = packet(1, b"speech");
        let sealed = protect(&mut ours, &plain);
        assert!(open.rtp(&mut sealed.clone()).is_err(), "it is missing");
        assert!(open.rtp(&mut with(&sealed, rtp_tag, &[0, 0, 6])).is_err(), "another key's");
        let mut named = with(&sealed, rtp_tag, &[0, 0, 5]);
        let len = open.rtp(&mut named).expect("named");
        assert_eq!(&named[..len], &plain[..]);
        let report = [&[0x80u8, 201, 0, 1][..], &0x1234_5678u32.to_be_bytes()].concat();
        let mut named = with(&ours.rtcp(&report).expect("a report"), rtcp_tag, &[0, 0, 5]);
        assert_eq!(open.rtcp(&mut named), Ok(8));
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |n| u8::from_str_radix(&hex[n..n + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(digit).collect()
}

#[test]
fn longer_keys_are_derived_as_in_the_vectors_of_rfc_6188() {
    // Master key and salt; the session's key, salt and authentication key (§7.2, §7.4).
    let vectors = [
        [
            "f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6",
            "3b04803de51ee7c96423ab5b78d2",
            "5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4",
            "fa31791685ca444a9e07c6c64e93",
            "fd9c32d39ed5fbb5a9dc96b30818454d1313dc05",
        ],
        [
            "73edc66c4fa15776fb57f9505c17136550ffda71f3e8e5f1",
            "c8522f3acd4ce86d5add78edbb11",
            "31874736a8f1143870c26e4857d8a5b2c4a354407faadabb",
            "2372b82d639b6d8503a47adc0a6c",
            "355b10973cd95b9eacf4061c7e1a7151e7cfbfcb",
        ],
    ];
    for [key, salt, cipher, session_salt, auth] in vectors.map(|v| v.map(bytes)) {
        let master = ctr_key(&key);
        for (label, expected) in [(0, cipher), (2, session_salt), (1, auth)] {
            let mut out = vec![0; expected.len()];
            derive(&master, &salt, label, &mut out);
            assert_eq!(out, expected, "label {label}");
        }
    }
}

#[test]
fn both_directions_agree_with_rtc_srtp_across_a_rollover() {
    for profile in PROFILES {
        let (key, salt) = (vec![7u8; profile.key_len()], vec![9u8; profile.salt_len()]);
        let mut ours = Protect::new(profile, &key, &salt);
        let mut open = Unprotect::new(profile, &key, &salt);
        let mut theirs = oracle(profile, &key, &salt);
        let mut theirs_back = oracle(profile, &key, &salt);
        for n in 0..400u16 {
            let plain = packet(65_400u16.wrapping_add(n), &[n as u8; 160]);
            let sealed = protect(&mut ours, &plain);
            assert_eq!(&theirs.decrypt_rtp(&sealed).expect("they accept ours")[..], &plain[..]);
            let mut back = theirs_back.encrypt_rtp(&plain).expect("they protect").to_vec();
            let len = open.rtp(&mut back).expect("we accept theirs");
            assert_eq!(&back[..len], &plain[..]);
        }
        let report = [&[0x80u8, 201, 0, 1][..], &0x1234_5678u32.to_be_bytes()].concat();
        let sealed = ours.rtcp(&report).expect("a report");
        assert_eq!(&theirs.decrypt_rtcp(&sealed).expect("they accept ours")[..], &report[..]);
        let mut back = theirs_back.encrypt_rtcp(&report).expect("they protect").to_vec();
        let len = open.rtcp(&mut back).expect("we accept theirs");
        assert_eq!(&back[..len], &report[..]);
        assert_eq!(
            open.rtcp(&mut theirs_back.encrypt_rtcp(&report).expect("again").to_vec()),
            Ok(8)
        );
    }
}

#[test]
fn replays_junk_and_forgeries_change_nothing() {
    for profile in PROFILES {
        let (key, salt) = (vec![1u8; profile.key_len()], vec![2u8; profile.salt_len()]);
        let (mut send, mut recv) =
            (Protect::new(profile, &key, &salt), Unprotect::new(profile, &key, &salt));
        let sealed: Vec<Vec<u8>> = (0..1000u32)
            .map(|n| protect(&mut send, &packet(65_000u16.wrapping_add(n as u16), b"speech")))
            .collect();
        for one in &sealed {
            recv.rtp(&mut one.clone()).expect("first time");
        }
        for one in sealed.iter().rev().chain(&sealed) {
            assert_eq!(recv.rtp(&mut one.clone()), Err(SrtpError::Replayed));
        }
        for n in 0..5_000u32 {
            let mut forged = packet(n as u16, &[0x55; 40]);
            forged[8..12].copy_from_slice(&n.wrapping_mul(7919).to_be_bytes());
            assert_eq!(recv.rtp(&mut forged), Err(SrtpError::BadTag));
        }
        assert_eq!(recv.sources(), 1);
        for len in 0..40 {
            let _ = recv.rtp(&mut vec![0x80; len]);
            let _ = recv.rtcp(&mut vec![0x80; len]);
        }
        let mut flipped = protect(&mut send, &packet(500, b"late")).clone();
        flipped[13] ^= 1;
        assert_eq!(recv.rtp(&mut flipped), Err(SrtpError::BadTag));
    }
}

#[test]
fn a_restored_context_decrypts_across_a_rollover_and_repeats_no_index() {
    for profile in PROFILES {
        let (key, salt) = (vec![7u8; profile.key_len()], vec![9u8; profile.salt_len()]);
        let (mut theirs, now) = (oracle(profile, &key, &salt), Instant::now());
        let mut ours = Protect::new(profile, &key, &salt);
        let mut sequence = 64_000u16;
        for life in 0..5u64 {
            for _ in 0..100 {
                let plain = packet(sequence, &[life as u8; 160]);
                let sealed = protect(&mut ours, &plain);
                assert_eq!(theirs.decrypt_rtp(&sealed).expect("theirs")[..], plain[..]);
                sequence = sequence.wrapping_add(1);
            }
            let report = [&[0x80u8, 201, 0, 1][..], &0x1234_5678u32.to_be_bytes()].concat();
            let sealed = ours.rtcp(&report).expect("a report");
            assert_eq!(theirs.decrypt_rtcp(&sealed).expect("theirs")[..], report[..]);
            let reserved = ours.reserve(now, 2 * life, sequence);
            ours = Protect::resume(ours.master().clone(), reserved, 2 * life, now);
            sequence = reserved.rtp as u16;
            let mut buf = [0u8; 200];
            buf[..172].copy_from_slice(&packet(sequence, &[0; 160]));
            assert_eq!(ours.rtp(&mut buf, 172), None, "no record of its own");
            assert_eq!(ours.rtcp(&report), None);
            ours.reserve(now, 2 * life + 1, sequence);
            ours.confirm(2 * life + 1);
            let mut buf = [0u8; 200];
            buf[..172].copy_from_slice(&packet(sequence.wrapping_sub(1), &[0; 160]));
            assert_eq!(ours.rtp(&mut buf, 172), None, "of the process before");
        }
    }
}

#[test]
fn a_rollover_that_was_missed_is_found_by_the_tag() {
    for profile in PROFILES {
        let (key, salt) = (vec![7u8; profile.key_len()], vec![9u8; profile.salt_len()]);
        // Known before: by the nearest index. Not known: it may have rolled over since.
        for known in [true, false] {
            let mut theirs = Protect::new(profile, &key, &salt);
            let mut ours = Unprotect::new(profile, &key, &salt);
            let mut sealed = (0..1_100u16)
                .map(|n| protect(&mut theirs, &packet(65_000u16.wrapping_add(n), b"speech")))
                .collect::<Vec<_>>();
            let rest = sealed.split_off(if known { 300 } else { 0 });
            sealed.iter_mut().for_each(|p| assert!(ours.rtp(p).is_ok()));
            let received = ours.received();
            let mut next = Unprotect::resume(ours.master().clone(), &received);
            let late = rest.into_iter().rev().take(200).rev();
            for (n, packet) in late.enumerate() {
                assert!(next.rtp(&mut packet.clone()).is_ok(), "{profile:?} {known} {n}");
                assert_eq!(next.rtp(&mut packet.clone()), Err(SrtpError::Replayed));
            }
            let mut forged = packet(2_000, &[0x55; 40]);
            assert_eq!(next.rtp(&mut forged), Err(SrtpError::BadTag));
        }
    }
}
