//! RTP headers, events, and SRTP from a stranger.
#![no_main]
use libfuzzer_sys::fuzz_target;
use webtrunk::rtp::Packet;
use webtrunk::rtp::event::TelephoneEvent;
use webtrunk::rtp::srtp::{Profile, Unprotect};

fuzz_target!(|bytes: &[u8]| {
    if let Some(packet) = Packet::parse(bytes, true) {
        let _ = TelephoneEvent::parse(packet.payload(bytes)).map(|e| e.rescaled(48_000, 8_000));
    }
    for profile in [Profile::AeadAes128Gcm, Profile::Aes128CmHmacSha1_80] {
        let mut context = Unprotect::new(profile, &[1; 16], &[2; 14][..profile.salt_len()]);
        assert!(context.rtp(&mut bytes.to_vec()).is_err(), "nobody guesses a tag");
        let _ = context.rtcp(&mut bytes.to_vec());
    }
});
