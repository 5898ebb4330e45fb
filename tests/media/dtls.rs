//! DTLS alone: its pitfalls, loss, and certificates that are not the described ones.

use crate::lab::*;
use std::mem::take;
use std::sync::Arc;
use std::time::{Duration, Instant};
use webtrunk::codec::Codec;
use webtrunk::media::dtls::{DtlsIdentity, DtlsKeys, Failed, Handshake};
use webtrunk::media::{EndpointSettings, Port, SessionEvent};
use webtrunk::rtp::packet::write_header;
use webtrunk::rtp::srtp::Profile;
use webtrunk::sdp::offer_answer::Remote;

struct Wire {
    datagrams: Vec<(bool, Vec<u8>)>,
}

/// Runs two handshakes against each other; `lost` decides per datagram. Returns the keys of both.
fn shake(
    client: &mut Handshake,
    server: &mut Handshake,
    mut lost: impl FnMut() -> bool,
) -> (Option<DtlsKeys>, Option<DtlsKeys>, Option<Failed>) {
    let mut now = Instant::now();
    let mut wire = Wire { datagrams: Vec::new() };
    client.start(now, &mut |d| wire.datagrams.push((true, d.to_vec())));
    let (mut client_keys, mut server_keys, mut failed) = (None, None, None);
    for _ in 0..2_000 {
        while !wire.datagrams.is_empty() {
            let (to_server, datagram) = wire.datagrams.remove(0);
            if lost() {
                continue;
            }
            let (machine, keys) = if to_server {
                (&mut *server, &mut server_keys)
            } else {
                (&mut *client, &mut client_keys)
            };
            match machine
                .receive(now, &datagram, &mut |d| wire.datagrams.push((!to_server, d.to_vec())))
            {
                Ok(Some(found)) => *keys = Some(found),
                Ok(None) => {}
                Err(why) => failed = Some(why),
            }
        }
        if (client_keys.is_some() && server_keys.is_some()) || failed.is_some() {
            break;
        }
        let Some(due) = [client.next_timeout(), server.next_timeout()].into_iter().flatten().min()
        else {
            break;
        };
        now = due;
        for (machine, to_server) in [(&mut *client, true), (&mut *server, false)] {
            if let Err(why) =
                machine.fire(now, &mut |d| wire.datagrams.push((to_server, d.to_vec())))
            {
                failed = Some(why);
            }
        }
    }
    (client_keys, server_keys, failed)
}

fn pair() -> (Handshake, Handshake) {
    let (ours, theirs) = identities();
    (
        Handshake::new(theirs.clone(), vec![fingerprint(ours)]),
        Handshake::new(ours.clone(), vec![fingerprint(theirs)]),
    )
}

#[test]
fn three_hundred_handshakes_complete_with_a_tenth_of_their_packets_lost() {
    let mut chance = Chance::new(0x5eed);
    for n in 0..300 {
        let (mut client, mut server) = pair();
        let (a, b, failed) = shake(&mut client, &mut server, || chance.below(10) == 0);
        assert!(a.is_some() && b.is_some(), "handshake {n}: {failed:?}");
    }
}

#[test]
fn gcm_is_chosen_and_both_sides_derive_the_same_keys() {
    let (mut client, mut server) = pair();
    let (client, server, _) = shake(&mut client, &mut server, || false);
    let (mut client, mut server) = (client.expect("keys"), server.expect("keys"));
    assert_eq!((client.profile, server.profile), (Profile::AeadAes128Gcm, Profile::AeadAes128Gcm));
    let mut buf = [0u8; 100];
    write_header(buf.first_chunk_mut().expect("room"), true, 0, 1, 2, 3);
    let len = client.protect.rtp(&mut buf, 32).expect("protected");
    assert_eq!(server.unprotect.rtp(&mut buf[..len]), Ok(32));
}

#[test]
fn no_suite_without_authenticated_encryption_is_offered_or_taken() {
    let (mut client, mut server) = pair();
    let now = Instant::now();
    let mut hello = Vec::new();
    client.start(now, &mut |d| hello.extend_from_slice(d));
    let session = 13 + 12 + 2 + 32;
    let cookie = session + 1 + usize::from(hello[session]);
    let at = cookie + 1 + usize::from(hello[cookie]);
    let length = usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
    let suites: Vec<u16> = hello[at + 2..at + 2 + length]
        .chunks(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
        .collect();
    assert!(!suites.is_empty());
    for suite in &suites {
        assert!([0xc02b, 0xc02f, 0xcca8, 0xcca9, 0x00ff].contains(suite), "{suite:#06x}");
    }
    // The same hello with CBC in every place is refused.
    for n in 0..length / 2 {
        hello[at + 2 + 2 * n..at + 4 + 2 * n].copy_from_slice(&0xc00a_u16.to_be_bytes());
    }
    let mut answers = Vec::new();
    let mut now = now;
    let mut ended = server.receive(now, &hello, &mut |d| answers.push(d.to_vec())).is_err();
    while let Some(due) = server.next_timeout().filter(|_| !ended) {
        now = due;
        ended = server.fire(now, &mut |d| answers.push(d.to_vec())).is_err();
    }
    assert!(ended, "no handshake without a suite in common");
    let certificate = answers.iter().any(|d| d.get(13) == Some(&11));
    assert!(!certificate, "its flight never begins");
}

/// Both ends repeat their last flight when the other repeats its own: that ends.
#[test]
fn two_ends_of_this_code_do_not_answer_each_other_for_ever() {
    let (mut client, mut server) = pair();
    let mut now = Instant::now();
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    client.start(now, &mut |d| to_server.push(d.to_vec()));
    let mut sent = 0;
    for round in 0..20_000 {
        let (for_server, for_client) = (take(&mut to_server), take(&mut to_client));
        sent += for_server.len() + for_client.len();
        // Each datagram comes twice.
        for datagram in for_server.iter().flat_map(|d| [d, d]) {
            let _ = server.receive(now, datagram, &mut |d| to_client.push(d.to_vec()));
        }
        for datagram in for_client.iter().flat_map(|d| [d, d]) {
            let _ = client.receive(now, datagram, &mut |d| to_server.push(d.to_vec()));
        }
        if to_server.is_empty() && to_client.is_empty() {
            let due = [server.next_timeout(), client.next_timeout()].into_iter().flatten().min();
            let Some(due) = due else { break };
            now = due;
            let _ = server.fire(now, &mut |d| to_client.push(d.to_vec()));
            let _ = client.fire(now, &mut |d| to_server.push(d.to_vec()));
        }
        assert!(sent < 200, "a storm: {sent} datagrams by round {round}");
    }
}

#[test]
fn a_certificate_that_does_not_match_the_description_gives_no_keys_in_either_role() {
    let (ours, theirs) = identities();
    // Six wrong lists, each in both roles.
    let bent = |of: [u8; 32], at: usize| {
        let mut print = of;
        print[at] ^= 1;
        print
    };
    for (of, own) in
        [(fingerprint(theirs), fingerprint(ours)), (fingerprint(ours), fingerprint(theirs))]
    {
        let mut reversed = of;
        reversed.reverse();
        for wrong in [
            vec![[0u8; 32]],
            vec![bent(of, 0)],
            vec![bent(of, 31)],
            vec![reversed],
            vec![own],
            vec![bent(of, 7), [7; 32]],
        ] {
            let server_judges = of == fingerprint(theirs);
            let (of_client, of_server) =
                if server_judges { (wrong.clone(), vec![own]) } else { (vec![own], wrong.clone()) };
            let mut server = Handshake::new(ours.clone(), of_client);
            let mut client = Handshake::new(theirs.clone(), of_server);
            let (client_keys, server_keys, failed) = shake(&mut client, &mut server, || false);
            let judged = if server_judges { server_keys } else { client_keys };
            assert!(
                judged.is_none() && failed == Some(Failed::Fingerprint),
                "{wrong:?}: {failed:?}"
            );
        }
    }
    let mut good_among_two = Handshake::new(ours.clone(), vec![[7u8; 32], fingerprint(theirs)]);
    let mut client = Handshake::new(theirs.clone(), vec![fingerprint(ours)]);
    assert!(
        shake(&mut client, &mut good_among_two, || false).1.is_some(),
        "one of two fingerprints fits"
    );
}

#[test]
fn a_handshake_that_never_finishes_is_given_up_after_its_budget_and_a_finished_one_is_freed() {
    let (mut client, mut server) = pair();
    let (_, _, failed) = shake(&mut client, &mut server, || true);
    assert_eq!(failed, Some(Failed::TimedOut));
    let (mut client, mut server) = pair();
    shake(&mut client, &mut server, || false);
    assert!(server.is_done() && !server.is_freed());
    let later = server.next_timeout().expect("it lingers");
    server.fire(later, &mut |_| {}).expect("freed");
    assert!(server.is_freed() && server.next_timeout().is_none());
}

#[test]
fn chromiums_fragmented_client_hello_is_read_in_any_order_and_answered_once() {
    let first: &[u8] = include_bytes!("../corpus/dtls/01_chromium156_clienthello_frag1.bin");
    let second: &[u8] = include_bytes!("../corpus/dtls/02_chromium156_clienthello_frag2.bin");
    for order in [
        vec![first, second],
        vec![second, first],
        vec![first, first, second],
        vec![first, second, first, second],
    ] {
        let (ours, theirs) = identities();
        let mut server = Handshake::new(ours.clone(), vec![fingerprint(theirs)]);
        let mut sent: Vec<Vec<u8>> = Vec::new();
        let now = Instant::now();
        for (n, fragment) in order.iter().enumerate() {
            server.receive(now, fragment, &mut |d| sent.push(d.to_vec())).expect("no failure");
            if n == 0 {
                assert!(sent.is_empty(), "half a hello is not answered");
            }
        }
        // Content type 22, message type 3: HelloVerifyRequest.
        assert!(
            !sent.is_empty() && sent.iter().all(|d| d[0] == 22 && d[13] == 3),
            "{} answers",
            sent.len()
        );
        assert!(sent.len() <= order.len() / 2);
    }
}

#[test]
fn an_alert_in_clear_does_not_end_a_handshake() {
    let (mut client, mut server) = pair();
    let alert = [21u8, 254, 253, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40];
    let now = Instant::now();
    client.start(now, &mut |_| {});
    for machine in [&mut client, &mut server] {
        assert!(matches!(machine.receive(now, &alert, &mut |_| panic!("an answer")), Ok(None)));
    }
    let later = now + Duration::from_millis(60);
    let mut hello = Vec::new();
    client.fire(later, &mut |d| hello.push(d.to_vec())).expect("it continues");
    assert_eq!(hello.len(), 1, "the flight is repeated");
}

#[test]
fn dtls_junk_changes_nothing() {
    let (ours, theirs) = identities();
    let mut chance = Chance::new(99);
    let mut server = Handshake::new(ours.clone(), vec![fingerprint(theirs)]);
    let now = Instant::now();
    for _ in 0..5_000 {
        let len = chance.below(200) as usize;
        let mut junk: Vec<u8> = (0..len).map(|_| chance.below(256) as u8).collect();
        if let Some(first) = junk.first_mut() {
            *first = 20 + chance.below(44) as u8;
        }
        let result = server.receive(now, &junk, &mut |_| {});
        assert!(matches!(result, Ok(None)), "junk gave {:?}", result.err());
    }
    let mut client = Handshake::new(theirs.clone(), vec![fingerprint(ours)]);
    assert!(
        shake(&mut client, &mut server, || false).1.is_some(),
        "the real peer still gets through"
    );
}

/// What a browser that rolled its certificate announces, and its own side of the handshake.
fn rolled(active: bool, tls_id: Option<&str>, certificate: &DtlsIdentity) -> EndpointSettings {
    let mut settings = settings(Codec::Pcmu, dtls_remote());
    let Remote::Dtls { fingerprints, active: role, tls_id: name, .. } =
        &mut settings.negotiated.remote
    else {
        panic!("a browser's")
    };
    (*fingerprints, *role) = (vec![fingerprint(certificate)], active);
    *name = tls_id.map(str::to_owned);
    settings
}

fn hears(call: &mut Call, sequence: u16) -> bool {
    let (last, port) = TRUNK_ADDRESS;
    call.trunk_sends(addr(last, port), sequence, &[sequence as u8; 160]);
    call.browser_gets().iter().any(|(_, payload)| payload == &[sequence as u8; 160])
}

fn is_heard(call: &mut Call, n: u32) -> bool {
    call.browser_sends(0, n * 160, &[n as u8; 160]);
    call.trunk_gets().iter().any(|(.., payload)| payload == &[n as u8; 160])
}

/// RFC 8842 §5.5: another certificate, role or tls-id asks for another association. The old keys
/// serve until the new ones are there, and those of packets on the way for a while.
#[test]
fn a_new_certificate_begins_a_new_association_and_the_old_keys_serve_until_it_is_there() {
    let newer = Arc::new(DtlsIdentity::generate().expect("a certificate"));
    let same = identities().1.clone();
    for (certificate, tls_id) in [(&newer, None), (&same, Some("another-association-1"))] {
        let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
        assert!(hears(&mut call, 1) && is_heard(&mut call, 1));
        let settings = rolled(false, tls_id, certificate);
        call.session.configure(call.now, BROWSER, settings, &mut call.log);
        assert!(hears(&mut call, 2) && is_heard(&mut call, 2), "under the old keys");
        call.client = Handshake::new(certificate.clone(), vec![fingerprint(&identities().0)]);
        let mut old = call.sealed(0, 3 * 160, &[3; 160]);
        call.secure();
        let (now, from) = (call.now, call.browser);
        call.session.receive(now, Port::Browser, BROWSER, from, &mut old, &mut call.log);
        assert_eq!(call.trunk_gets().len(), 1, "it was on the way");
        assert!(hears(&mut call, 4) && is_heard(&mut call, 4), "under the new keys");
        call.pass(Duration::from_secs(6));
        assert!(hears(&mut call, 5) && is_heard(&mut call, 5));
    }
}

#[test]
fn keys_of_an_association_that_was_replaced_open_nothing_after_a_while() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    let newer = Arc::new(DtlsIdentity::generate().expect("a certificate"));
    let settings = rolled(false, None, &newer);
    call.session.configure(call.now, BROWSER, settings, &mut call.log);
    call.client = Handshake::new(newer, vec![fingerprint(&identities().0)]);
    let mut old = call.sealed(0, 160, &[1; 160]);
    call.secure();
    call.pass(Duration::from_secs(5));
    let (now, from) = (call.now, call.browser);
    call.session.receive(now, Port::Browser, BROWSER, from, &mut old, &mut call.log);
    assert!(call.trunk_gets().is_empty());
    assert_eq!(call.session.ends()[0].statistics().dropped.bad_tag, 1);
}

/// The new association is judged by the new description, and an unsolicited one does not count.
#[test]
fn another_certificate_without_a_description_of_it_gets_no_keys() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    let (newer, other) = (
        Arc::new(DtlsIdentity::generate().expect("a certificate")),
        Arc::new(DtlsIdentity::generate().expect("a certificate")),
    );
    let attempt = |call: &mut Call, certificate: &Arc<DtlsIdentity>| {
        let mut client = Handshake::new(certificate.clone(), vec![fingerprint(&identities().0)]);
        let (mut up, mut done) = (Vec::new(), false);
        client.start(call.now, &mut |d| up.push(d.to_vec()));
        for _ in 0..10 {
            for mut d in std::mem::take(&mut up) {
                let (now, from) = (call.now, call.browser);
                call.session.receive(now, Port::Browser, BROWSER, from, &mut d, &mut call.log);
            }
            for (_, _, d) in std::mem::take(&mut call.log.sent) {
                let more = client.receive(call.now, &d, &mut |d| up.push(d.to_vec()));
                done |= matches!(more, Ok(Some(_)));
            }
        }
        done
    };
    assert!(!attempt(&mut call, &newer), "nobody described it");
    assert!(hears(&mut call, 1) && is_heard(&mut call, 1));
    call.log.events.clear();
    let settings = rolled(false, None, &newer);
    call.session.configure(call.now, BROWSER, settings, &mut call.log);
    attempt(&mut call, &other);
    let failed = |e: &SessionEvent| matches!(e, SessionEvent::DtlsFailed { end: BROWSER, .. });
    assert!(call.log.events.iter().any(failed), "{:?}", call.log.events);
    assert!(!call.log.events.iter().any(|e| matches!(e, SessionEvent::Secured { .. })));
}

/// A re-offer that changes nothing of the association leaves it, whatever else it changes; and a
/// role that changed alone costs no call where the peer does not begin anew.
#[test]
fn an_unchanged_certificate_keeps_its_association() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    let same = identities().1.clone();
    let settings = rolled(false, None, &same);
    call.session.configure(call.now, BROWSER, settings, &mut call.log);
    call.check(call.browser, true);
    assert!(call.log.sent.iter().all(|(_, _, d)| !(20..64).contains(&d[0])), "no handshake");
    assert!(hears(&mut call, 1) && is_heard(&mut call, 1));
    let settings = rolled(true, None, &same);
    call.session.configure(call.now, BROWSER, settings, &mut call.log);
    let begun = call.log.sent.iter().any(|(_, _, d)| (20..64).contains(&d[0]));
    assert!(begun, "we begin as client");
    call.log.sent.clear();
    for _ in 0..20 {
        call.pass(Duration::from_secs(1));
        call.check(call.browser, false);
    }
    let failed = |e: &SessionEvent| matches!(e, SessionEvent::DtlsFailed { .. });
    assert!(!call.log.events.iter().any(failed), "{:?}", call.log.events);
    assert!(is_heard(&mut call, 2));
    call.log.sent.clear();
    assert!(hears(&mut call, 3));
}
