//! SDP: any offer is answered soundly or refused.
#![no_main]
use libfuzzer_sys::fuzz_target;
use webtrunk::codec::Codec;
use webtrunk::sdp::crypto::{LocalKeys, Policy};
use webtrunk::sdp::offer_answer::{Local, Negotiation, LegKind};
use webtrunk::sdp::{Description, Direction};

fuzz_target!(|bytes: &[u8]| {
    let local = Local {
        side: if bytes.len() % 2 == 0 { LegKind::Browser } else { LegKind::Trunk },
        address: ([192, 0, 2, 1], 4000).into(),
        more_addresses: vec![],
        tcp: false,
        ice: Some(Default::default()),
        fingerprint: "AB".into(),
        session_id: 1,
        ssrc: 1,
        cname: "c".into(),
        comfort_noise: bytes.len() % 3 == 0,
        srtp: if bytes.len() % 5 == 0 { Policy::Optional } else { Policy::Off },
        srtp_keys: LocalKeys::generate(|| 7),
    };
    let mut leg = Negotiation::new(local);
    if leg.receive_offer(bytes).is_ok()
        && let Ok((answer, _)) = leg.answer(&Codec::ALL, Direction::SendRecv)
    {
        Description::parse(answer.as_bytes()).expect("our answer can be read");
    }
});
