use super::*;
use crate::call::CallPhase;
use crate::config::check::parse_embedded;
use crate::sip::parse::Framing;
use crate::sip::transaction::TransactionEvent;
use crate::worker::load::WorkerLoad;
use overload::Overloaded;

/// An INVITE of the trunk, with this number in its names.
fn invite(gateway: &mut Gateway, now: Instant, n: u8) -> Vec<Output> {
    let remote = SocketAddr::from(([127, 0, 0, 10], 5060));
    let text = format!(
        "INVITE sip:1@x SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.10;branch=z9hG4bK{n}\r\n\
         From: <sip:a@b>;tag={n}\r\nTo: <sip:1@x>\r\nCall-ID: {n}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:a@b>\r\nContent-Length: 0\r\n\r\n"
    );
    let message = Message::parse(text.into_bytes(), Framing::Datagram).expect("sound");
    let mut out = Vec::new();
    let hop = Hop::Udp(remote);
    gateway.handle(now, Input::Received { hop, remote, message }, &mut out);
    out
}

fn with_two_calls() -> (Gateway, Instant, Vec<CallId>) {
    let config = "[server]\ndomain = \"x\"\npublic_ip = \"127.0.0.1\"\n[sip]\nudp = \":5060\"\n\
                  [trunk.t]\nuri = \"sip:127.0.0.10\"\ncontext = \"in\"\n";
    let plan = "[[route]]\nname = \"e\"\nmatch = \".\"\ndo = [{ echo = true }]\n";
    let (config, _) = parse_embedded(config, &[("in", plan)]).unwrap_or_else(|p| panic!("{p}"));
    let identity = NodeIdentity::without_a_host();
    let now = Instant::now();
    let mut gateway = Gateway::new(now, Arc::new(config), identity, [3; 32]);
    (0..2).for_each(|n| drop(invite(&mut gateway, now, n)));
    let ids = gateway.calls.iter().map(|call| call.id()).collect();
    (gateway, now, ids)
}

#[test]
fn where_no_worker_has_a_call_left_a_new_one_is_refused() {
    let (mut gateway, now, _) = with_two_calls();
    assert!(gateway.calls_left() > 100);
    let busy = WorkerLoad { share: 0.8, datagrams: 9_000, sessions: 90, ..Default::default() };
    gateway.worker_load(now, 0, busy);
    assert_eq!((gateway.calls_left(), gateway.overloaded()), (0, Some(Overloaded::Media)));
    let out = invite(&mut gateway, now, 7);
    let refused_503 =
        |o: &Output| matches!(o, Output::Send(t) if t.bytes.starts_with(b"SIP/2.0 503"));
    assert!(out.iter().any(refused_503));
    assert_eq!(gateway.calls.live(), 2);
    gateway.worker_load(now, 0, WorkerLoad { share: 0.3, ..busy });
    let out = invite(&mut gateway, now, 8);
    assert!(!out.iter().any(refused_503) && gateway.calls.live() == 3);
}

#[test]
fn a_bug_in_one_call_ends_that_call_and_no_other() {
    let (mut gateway, now, ids) = with_two_calls();
    let mut out = Vec::new();
    gateway.with_call(&mut Turn::new(now, &mut out), ids[0], |_, _| panic!("a bug"));
    let refused =
        out.iter().any(|o| matches!(o, Output::Send(t) if t.bytes.starts_with(b"SIP/2.0 500")));
    assert!(refused, "its caller gets the refusal");
    let state = |gateway: &Gateway, id| gateway.calls.get(id).map(|call| call.state());
    assert_eq!(state(&gateway, ids[0]), Some(CallPhase::Over));
    assert_eq!(state(&gateway, ids[1]), Some(CallPhase::Opening));
    gateway.with_call(&mut Turn::new(now, &mut out), ids[0], |_, _| panic!("again"));
    assert!(gateway.calls.get(ids[0]).is_none(), "a second one is the end of it");
    assert!(gateway.calls.get(ids[1]).is_some());
}

#[test]
fn a_bug_outside_any_call_costs_the_input_and_no_call() {
    let (mut gateway, now, ids) = with_two_calls();
    let mut out = Vec::new();
    let from = Some(SocketAddr::from(([127, 0, 0, 10], 5060)));
    gateway.guarded(&mut Turn::new(now, &mut out), from, |_, _| panic!("a bug"));
    let told = |o: &Output| matches!(o, Output::Event(Event::InputPanicked { from: Some(_) }));
    assert!(out.iter().any(told));
    assert!(ids.iter().all(|id| gateway.calls.get(*id).is_some()));
    invite(&mut gateway, now, 9);
    assert_eq!(gateway.calls.live(), 3, "the next is taken as ever");
}

#[test]
fn so_many_connections_are_remembered_as_offered_and_no_more() {
    const MAX_ALIASES: usize = 4_096;
    let (mut gateway, now, _) = with_two_calls();
    let mut out = Vec::new();
    for n in 0..=MAX_ALIASES as u64 {
        let (flow, kind) = (Flow(n), FlowKind::Tcp);
        let remote = SocketAddr::from(([127, 0, 0, 10], 6_000));
        gateway.handle(now, Input::FlowOpened { flow, kind, remote }, &mut out);
        let port = 10_000 + n;
        let text = format!(
            "OPTIONS sip:x SIP/2.0\r\n\
             Via: SIP/2.0/TCP 127.0.0.10:{port};alias;branch=z9hG4bK{n}\r\n\
             From: <sip:a@b>;tag=1\r\nTo: <sip:x>\r\nCall-ID: {n}\r\nCSeq: 1 OPTIONS\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let message = Message::parse(text.into_bytes(), Framing::Stream).expect("sound");
        gateway.handle(now, Input::Received { hop: Hop::Flow(flow), remote, message }, &mut out);
    }
    assert_eq!(gateway.services.aliases.len(), MAX_ALIASES);
}

#[test]
fn a_connection_is_offered_for_few_addresses_and_leaves_room_for_others() {
    let (mut gateway, now, _) = with_two_calls();
    let mut offer = |flow: u64, port: u64| {
        let (flow, kind) = (Flow(flow), FlowKind::Tcp);
        let remote = SocketAddr::from(([127, 0, 0, 10], 6_000));
        let mut out = Vec::new();
        gateway.handle(now, Input::FlowOpened { flow, kind, remote }, &mut out);
        let text = format!(
            "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.10:{port};alias;branch=z9hG4bK{port}\r\n\
             From: <sip:a@b>;tag=1\r\nTo: <sip:x>\r\nCall-ID: {port}\r\nCSeq: 1 OPTIONS\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let message = Message::parse(text.into_bytes(), Framing::Stream).expect("sound");
        gateway.handle(now, Input::Received { hop: Hop::Flow(flow), remote, message }, &mut out);
        gateway.services.aliases.len()
    };
    let all: Vec<usize> = (0..50).map(|n| offer(1, 10_000 + n)).collect();
    assert_eq!(all.last(), Some(&4), "{all:?}");
    assert_eq!(offer(2, 20_000), 5);
}

/// Whoever acknowledges no refusal keeps each of them for half a minute.
#[test]
fn one_user_does_not_use_up_the_room_for_requests() {
    let (mut gateway, now, _) = with_two_calls();
    let request = |user: &str, method: &str, n: usize, to: &str| {
        let text = format!(
            "{method} sip:1@x SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK{user}{method}{n}\r\n\
             From: <sip:{user}@x>;tag={n}\r\nTo: <sip:1@x>{to}\r\nCall-ID: {user}{n}\r\n\
             CSeq: 1 {method}\r\nContact: <sip:a@a.invalid>\r\nContent-Length: 0\r\n\r\n"
        );
        Message::parse(text.into_bytes(), Framing::WebSocket).expect("sound")
    };
    let remote = SocketAddr::from(([192, 0, 2, 1], 4_000));
    for (flow, user) in [(Flow(1), "ada"), (Flow(2), "bob")] {
        let mut state = crate::flow::FlowState::opened(FlowKind::WebSocket, remote);
        state.user = Some(user.to_owned());
        gateway.services.flows.insert(flow, state);
    }
    let (mut sends, mut events) = (Vec::new(), Vec::new());
    for n in 0..crate::sip::transaction::MAX_OF_USER {
        let (hop, message) = (Hop::Flow(Flow(1)), request("ada", "INVITE", n, ""));
        let transactions = &mut gateway.services.transactions;
        transactions.receive(now, hop, message, &mut sends, &mut events);
        let Some(TransactionEvent::Request { id, .. }) = events.pop() else { panic!("a request") };
        transactions.charge(id, "ada");
    }
    let mut status = |flow: u64, message: Message| {
        let (hop, mut out) = (Hop::Flow(Flow(flow)), Vec::new());
        gateway.handle(now, Input::Received { hop, remote, message }, &mut out);
        let first = out.iter().find_map(|o| match o {
            Output::Send(sent) => Some(String::from_utf8_lossy(&sent.bytes[8..11]).into_owned()),
            _ => None,
        });
        first.unwrap_or_default()
    };
    assert_eq!(status(1, request("ada", "INVITE", 99_999, "")), "503");
    assert_eq!(status(1, request("ada", "INFO", 99_999, ";tag=none")), "503");
    assert_eq!(status(1, request("ada", "BYE", 99_999, ";tag=none")), "481", "as ever");
    assert_eq!(status(2, request("bob", "INVITE", 1, "")), "403", "he has no dialplan, but room");
}
