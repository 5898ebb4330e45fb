//! Registration: digest both ways of asking, nonce counts, flows (RFC 5626).

use crate::lab::*;
use std::time::Duration;
use webtrunk::gateway::Input;
use webtrunk::sip::transaction::Flow;
use webtrunk::sip::{HeaderName, Message};

fn contact(instance: &str, reg_id: u32, expires: u32) -> String {
    format!(
        "Contact: <sip:alice@x.invalid;transport=ws>;reg-id={reg_id};+sip.instance=\"<urn:{instance}>\";expires={expires}\r\nSupported: outbound\r\n"
    )
}

fn register(lab: &mut Lab, peer: Peer, extra: &str) -> Message {
    let text = lab.register_of(peer, "alice", extra);
    lab.proves(peer, &text, "alice", "secret-a");
    let at = lab
        .inbox
        .iter()
        .position(|(h, m)| *h == peer.hop() && !m.is_request())
        .expect("a response");
    lab.inbox.remove(at).expect("position is valid").1
}

fn open(lab: &mut Lab, flow: u64) -> Peer {
    let peer = Peer::Browser("alice", flow);
    lab.connects(peer);
    peer
}

#[test]
fn a_registration_is_challenged_granted_with_jitter_and_given_its_flow_timer() {
    let mut lab = Lab::new();
    let peer = open(&mut lab, 1);
    let ok = register(&mut lab, peer, &contact("a", 1, 600));
    assert_eq!(ok.status(), 200);
    assert!(ok.lists(HeaderName::Require, "outbound"));
    assert_eq!(ok.header(HeaderName::FlowTimer), Some("120"));
    let granted: u32 = ok.contact().unwrap().params.get("expires").unwrap().parse().unwrap();
    assert!((480..=600).contains(&granted), "{granted}");
    assert_eq!(lab.gateway.gauges().bindings, 1);
    lab.handle(Input::FlowClosed { flow: Flow(1) });
    assert_eq!(lab.gateway.gauges().bindings, 0, "a dead flow's binding goes at once");
    lab.expect_idle();
}

#[test]
fn both_md5_and_sha256_are_accepted() {
    for algorithm in ["MD5", "SHA-256"] {
        let mut lab = Lab::new();
        let peer = open(&mut lab, 1);
        let text = lab.register_of(peer, "alice", &contact("a", 1, 600));
        lab.says(peer, &text);
        let challenge = lab.take(peer, "401");
        let only: String = challenge
            .headers()
            .filter(|(n, _, v)| {
                *n != HeaderName::WwwAuthenticate || v.contains(&format!("algorithm={algorithm}"))
            })
            .map(|(_, n, v)| format!("{n}: {v}\r\n"))
            .collect();
        let only = Message::parse(
            format!("SIP/2.0 401 X\r\n{only}\r\n").into_bytes(),
            webtrunk::sip::parse::Framing::WebSocket,
        )
        .unwrap();
        let again = lab.answer_challenge(&only, &text, "alice", "secret-a");
        assert!(again.contains(&format!("algorithm={algorithm}")));
        lab.says(peer, &again);
        lab.take(peer, "200");
    }
}

#[test]
fn a_replayed_authorization_is_refused_as_stale_and_changes_nothing() {
    let mut lab = Lab::new();
    let peer = open(&mut lab, 1);
    let text = lab.register_of(peer, "alice", &contact("a", 1, 600));
    let good = lab.proves(peer, &text, "alice", "secret-a");
    lab.take(peer, "200");
    let thief = open(&mut lab, 66);
    lab.says(thief, &good.replace("branch=z9hG4bK-", "branch=z9hG4bK-replay"));
    let refused = lab.take(thief, "401");
    assert!(refused.header(HeaderName::WwwAuthenticate).unwrap().contains("stale=true"));
    assert_eq!(lab.gateway.gauges().bindings, 1);
    let bumped = good
        .replace("nc=00000001", "nc=00000002")
        .replace("branch=z9hG4bK-", "branch=z9hG4bK-bump");
    lab.says(thief, &bumped);
    lab.take(thief, "403");
    lab.advance(Duration::from_secs(301));
    lab.says(peer, &good.replace("branch=z9hG4bK-", "branch=z9hG4bK-late"));
    assert!(
        lab.take(peer, "401").header(HeaderName::WwwAuthenticate).unwrap().contains("stale=true"),
        "nonces live 300 s"
    );
}

#[test]
fn a_wrong_password_looks_like_an_unknown_user_and_guessing_is_slowed_down() {
    let mut lab = Lab::new();
    let peer = open(&mut lab, 1);
    let mut answers = Vec::new();
    for user in ["alice", "nobody"] {
        let text = lab
            .request(peer, "REGISTER", "sip:wt.test", &contact("a", 1, 600), "")
            .replace("alice@wt.test", &format!("{user}@wt.test"));
        lab.proves(peer, &text, user, "guess");
        let refused = lab.take(peer, "403");
        answers.push(
            refused
                .headers()
                .filter(|(n, ..)| {
                    !matches!(
                        n,
                        HeaderName::Via
                            | HeaderName::From
                            | HeaderName::To
                            | HeaderName::CallId
                            | HeaderName::CSeq
                    )
                })
                .map(|(_, n, v)| format!("{n}: {v}"))
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(answers[0], answers[1]);
    for _ in 0..18 {
        let text = lab.register_of(peer, "alice", &contact("a", 1, 600));
        lab.proves(peer, &text, "alice", "guess");
        lab.take(peer, "403");
    }
    assert_eq!(
        register(&mut lab, peer, &contact("a", 1, 600)).status(),
        403,
        "twenty guesses a minute, then even the right one waits"
    );
    lab.advance(Duration::from_secs(61));
    assert_eq!(register(&mut lab, peer, &contact("a", 1, 600)).status(), 200);
}

#[test]
fn the_same_instance_and_reg_id_replaces_its_binding_and_leaves_its_old_flow_open() {
    let mut lab = Lab::new();
    let old = open(&mut lab, 1);
    register(&mut lab, old, &contact("a", 1, 600));
    let new = open(&mut lab, 2);
    register(&mut lab, new, &contact("a", 1, 600));
    assert_eq!(lab.gateway.gauges().bindings, 1);
    assert!(lab.closed_flows.is_empty(), "two tabs would close each other's for ever");
    let other = open(&mut lab, 3);
    register(&mut lab, other, &contact("b", 1, 600));
    assert_eq!(lab.gateway.gauges().bindings, 2, "another instance stands beside it");
}

#[test]
fn bounds_of_a_registration() {
    let mut lab = Lab::new();
    let peer = open(&mut lab, 1);
    let brief = register(&mut lab, peer, &contact("a", 1, 30));
    assert_eq!((brief.status(), brief.header(HeaderName::MinExpires)), (423, Some("60")));
    for n in 0..10 {
        assert_eq!(register(&mut lab, peer, &contact(&format!("i{n}"), 1, 600)).status(), 200);
    }
    assert_eq!(register(&mut lab, peer, &contact("eleventh", 1, 600)).status(), 403);
    assert_eq!(register(&mut lab, peer, "Contact: *\r\nExpires: 10\r\n").status(), 400);
    assert_eq!(lab.gateway.gauges().bindings, 10);
    assert_eq!(register(&mut lab, peer, "Contact: *\r\nExpires: 0\r\n").status(), 200);
    assert_eq!(lab.gateway.gauges().bindings, 0);
    assert_eq!(register(&mut lab, peer, &contact("a", 1, 600)).status(), 200);
    assert_eq!(register(&mut lab, peer, &contact("a", 1, 0)).status(), 200);
    assert_eq!(lab.gateway.gauges().bindings, 0, "expires=0 removes");
}

#[test]
fn one_user_may_not_register_or_speak_for_another() {
    let mut lab = Lab::with_phones();
    let text = lab.register_of(ALICE, "bob", &contact("a", 1, 600));
    lab.proves(ALICE, &text, "alice", "secret-a");
    lab.take(ALICE, "403");
    let text = lab
        .request(ALICE, "INVITE", "sip:9196@wt.test", "", OFFER)
        .replace("From: <sip:alice@", "From: <sip:bob@");
    lab.proves(ALICE, &text, "alice", "secret-a");
    lab.take(ALICE, "403");
}

#[test]
fn a_contact_elsewhere_is_never_dialled() {
    let mut lab = Lab::new();
    let peer = open(&mut lab, 1);
    register(&mut lab, peer, "Contact: <sip:alice@127.0.0.99:5060>;expires=600\r\n");
    lab.invite(T1, "+12065550111", TRUNK_SDP);
    lab.take(peer, "INVITE");
    assert!(
        lab.inbox.iter().all(|(hop, _)| *hop == peer.hop() || *hop == T1.hop()),
        "only the flow and the trunk"
    );
}

#[test]
fn a_websocket_that_never_proves_who_it_is_is_closed_after_thirty_seconds() {
    let mut lab = Lab::new();
    let peer = open(&mut lab, 1);
    open(&mut lab, 2);
    register(&mut lab, peer, &contact("a", 1, 600));
    lab.advance(Duration::from_secs(29));
    assert!(lab.closed_flows.is_empty());
    lab.advance(Duration::from_secs(2));
    assert_eq!(lab.closed_flows, [Flow(2)]);
}

/// A wrong password for `user` by this flow.
fn guess(lab: &mut Lab, peer: Peer, user: &str) -> Message {
    let text = lab
        .register_of(peer, user, &contact("a", 1, 600))
        .replace("alice@wt.test", &format!("{user}@wt.test"));
    lab.proves(peer, &text, user, "guess");
    lab.take(peer, "403")
}

#[test]
fn guesses_cost_their_source_and_never_an_authenticated_flow_or_a_name_known_there() {
    let mut lab = Lab::new();
    let (hers, other) = (open(&mut lab, 1), open(&mut lab, 2));
    assert_eq!(register(&mut lab, hers, &contact("a", 1, 600)).status(), 200);
    for n in 0..30 {
        guess(&mut lab, other, if n < 6 { "alice" } else { "bob" });
    }
    let locked = guess(&mut lab, other, "bob");
    assert!(Lab::header(&locked, HeaderName::Reason).contains("locked out"), "reported as such");
    let seconds: u32 = Lab::header(&locked, HeaderName::RetryAfter).parse().unwrap();
    assert!((1..=60).contains(&seconds));
    assert!(lab.notes.iter().any(|n| n.code() == webtrunk::errors::Code::LOCKED_OUT));
    assert_eq!(register(&mut lab, hers, &contact("a", 1, 600)).status(), 200, "her own flow");
    lab.handle(Input::FlowClosed { flow: Flow(1) });
    let again = open(&mut lab, 3);
    // Six wrong ones at her name were more than what a known name may have.
    assert_eq!(register(&mut lab, again, &contact("a", 1, 600)).status(), 403);
    lab.advance(Duration::from_secs(61));
    for _ in 0..25 {
        guess(&mut lab, other, "bob");
    }
    assert_eq!(register(&mut lab, again, &contact("a", 1, 600)).status(), 200, "after a blip");
}

#[test]
fn five_wrong_guesses_at_a_name_do_not_refuse_its_password() {
    let mut lab = Lab::new();
    let other = open(&mut lab, 2);
    for _ in 0..6 {
        guess(&mut lab, other, "alice");
    }
    let hers = open(&mut lab, 1);
    assert_eq!(register(&mut lab, hers, &contact("a", 1, 600)).status(), 200);
}

#[test]
fn a_proved_flow_is_no_way_to_guess_at_others() {
    let mut lab = Lab::new();
    let hers = open(&mut lab, 1);
    assert_eq!(register(&mut lab, hers, &contact("a", 1, 600)).status(), 200);
    for _ in 0..21 {
        let text = lab.register_of(hers, "alice", &contact("a", 1, 600));
        lab.proves(hers, &text, "bob", "guess");
        lab.take(hers, "403");
    }
    assert!(lab.notes.iter().any(|n| n.code() == webtrunk::errors::Code::LOCKED_OUT));
}
