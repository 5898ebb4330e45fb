//! A page that is reloaded: its peer hears that the call continues, then the next page;
//! what was of the one before is worth nothing any more.

use crate::lab::*;
use std::time::Duration;
use webtrunk::codec::{Codec, Encoder, NARROW};
use webtrunk::media::Port;
use webtrunk::media::dtls::Handshake;
use webtrunk::media::endpoint::EndpointKind;
use webtrunk::media::session::SessionEvent;
use webtrunk::media::stun::binding_request;
use webtrunk::sdp::offer_answer::Remote;

const FRAME: Duration = Duration::from_millis(20);

fn speaks(call: &mut Call, (first, packets): (u32, u32), payload_type: u8, payload: &[u8]) {
    let step = if payload_type == 0 { 160 } else { 960 };
    for n in first..first + packets {
        call.browser_sends(payload_type, n * step, payload);
        call.pass(FRAME);
    }
}

/// Every packet follows the one before in number, and is of the same stream and later in time.
fn assert_continuous(got: &[Got]) {
    for pair in got.windows(2) {
        let (a, b) = (pair[0].0, pair[1].0);
        assert_eq!((b.ssrc, b.sequence), (a.ssrc, a.sequence.wrapping_add(1)));
        assert!(b.timestamp.wrapping_sub(a.timestamp) < 1 << 20, "{b:?} after {a:?}");
    }
}

/// Another page takes the end over: with ICE credentials of its own, at another port.
fn reloads(call: &mut Call, codec: Codec, name: &str, port: u16) {
    let (ours, theirs) = identities();
    let kind = EndpointKind::Browser { identity: ours.clone(), ice: ice(name) };
    call.session.renew(call.now, BROWSER, kind);
    let mut remote = dtls_remote();
    if let Remote::Dtls { local_ice, ice: theirs, .. } = &mut remote {
        (*local_ice, *theirs) = (ice(name), ice("page"));
    }
    call.session.configure(call.now, BROWSER, settings(codec, remote), &mut call.log);
    call.browser = addr(20, port);
    (call.keys, call.sequence) = (None, 7_000);
    call.client = Handshake::new(theirs.clone(), vec![fingerprint(ours)]);
    let users = format!("{name}:page");
    let mut request = binding_request([4; 12], &users, &ice(name).pwd, true);
    let from = call.browser;
    call.session.receive(call.now, Port::Browser, BROWSER, from, &mut request, &mut call.log);
    call.secure();
    call.log.events.clear();
}

#[test]
fn the_peer_of_a_reloading_page_hears_faint_noise_until_the_next_page_sends() {
    for codec in [Codec::Pcmu, Codec::Opus] {
        let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
        speaks(&mut call, (0, 50), 0, &[0x30; 160]);
        let mut got: Vec<Got> = call.trunk_gets().into_iter().map(|(_, p, d)| (p, d)).collect();
        assert_eq!(got.len(), 50);
        call.session.set_away(BROWSER, true);
        call.pass(Duration::from_secs(3));
        let noise = call.trunk_gets();
        assert!((135..=142).contains(&noise.len()), "{} frames in three seconds", noise.len());
        got.extend(noise.into_iter().map(|(_, p, d)| (p, d)));
        let mut payload = vec![0x30; 160];
        if codec == Codec::Opus {
            payload.resize(400, 0);
            let mut encoder = Encoder::new(codec, NARROW, 0);
            let length = encoder.encode(&sine(NARROW, 300.0, 0, 160), &mut payload);
            payload.truncate(length);
        }
        reloads(&mut call, codec, "anew", 5_100);
        call.trunk_gets();
        let payload_type = if codec == Codec::Pcmu { 0 } else { 111 };
        speaks(&mut call, (900, 50), payload_type, &payload);
        let spoken = call.trunk_gets();
        assert!(spoken.len() >= 46, "{codec}: {} frames of the next page", spoken.len());
        got.extend(spoken.into_iter().map(|(_, p, d)| (p, d)));
        assert_continuous(&got);
        call.pass(Duration::from_secs(1));
        assert!(call.trunk_gets().is_empty(), "{codec}: it is not away any more");
    }
}

#[test]
fn a_page_with_media_but_no_websocket_is_heard_as_before() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    speaks(&mut call, (0, 50), 0, &[0x30; 160]);
    call.session.set_away(BROWSER, true);
    speaks(&mut call, (50, 50), 0, &[0x31; 160]);
    let got = call.trunk_gets();
    assert_eq!(got.len(), 100);
    call.session.set_away(BROWSER, false);
    call.pass(Duration::from_secs(1));
    assert!(call.trunk_gets().is_empty());
}

#[test]
fn nothing_of_the_page_before_gets_through_or_ends_the_call() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    speaks(&mut call, (0, 50), 0, &[0x30; 160]);
    let (before, port) = (call.sealed(0, 60 * 160, &[0x55; 160]), call.browser);
    reloads(&mut call, Codec::Pcmu, "anew", 5_100);
    call.trunk_gets();
    let mut packet = before.clone();
    call.session.receive(call.now, Port::Browser, BROWSER, port, &mut packet, &mut call.log);
    // The page before checks on, by the credentials it had; and its packet from the new address.
    let mut request = binding_request([3; 12], "ours:theirs", &ice("ours").pwd, true);
    call.session.receive(call.now, Port::Browser, BROWSER, port, &mut request, &mut call.log);
    let mut packet = before;
    let from = call.browser;
    call.session.receive(call.now, Port::Browser, BROWSER, from, &mut packet, &mut call.log);
    assert!(call.log.sent.is_empty() && call.trunk_gets().is_empty());
    // Its consent ran out long ago, the next one's did not.
    for _ in 0..20 {
        call.pass(Duration::from_secs(2));
        let mut request = binding_request([4; 12], "anew:page", &ice("anew").pwd, true);
        call.session.receive(call.now, Port::Browser, BROWSER, from, &mut request, &mut call.log);
    }
    let lost = |e: &SessionEvent| matches!(e, SessionEvent::ConsentLost { .. });
    assert!(!call.log.events.iter().any(lost));
}

#[test]
fn a_hundred_reloads_are_one_stream_at_the_trunk_under_keys_of_their_own() {
    let mut call = Call::connected(Codec::Opus, Codec::Pcmu);
    let mut got: Vec<Got> = Vec::new();
    for n in 0..100u16 {
        speaks(&mut call, (0, 10), if n == 0 { 111 } else { 0 }, &[0x30; 160]);
        got.extend(call.trunk_gets().into_iter().map(|(_, p, d)| (p, d)));
        call.session.set_away(BROWSER, true);
        call.pass(Duration::from_millis(500));
        got.extend(call.trunk_gets().into_iter().map(|(_, p, d)| (p, d)));
        reloads(&mut call, Codec::Pcmu, &format!("page{n}"), 5_100 + n);
        call.trunk_sends(addr(10, 4_000), n, &[0x30; 160]);
        let heard = call.browser_gets();
        assert_eq!(heard.len(), 1, "reload {n}: the page hears the trunk");
    }
    assert!(got.len() > 1_500);
    assert_continuous(&got);
}
