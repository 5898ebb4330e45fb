use super::key::{MAX_KEY, bounded};
use super::*;
use crate::sip::parse::Framing;

fn options(branch: &str) -> Message {
    let text = format!(
        "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK{branch}\r\n\
         From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n"
    );
    Message::parse(text.into_bytes(), Framing::Datagram).expect("sound")
}

/// As another node passes it on that got it over `transport`.
fn passed(by: &str, transport: &str, branch: &str) -> Message {
    let text = format!(
        "BYE sip:a@b SIP/2.0\r\nVia: SIP/2.0/TLS {by}:5071;branch={PASSED_ON}{by}.x\r\n\
         Via: SIP/2.0/{transport} 192.0.2.1;branch={branch};received=192.0.2.1\r\n\
         From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 BYE\r\n\r\n"
    );
    Message::parse(text.into_bytes(), Framing::WebSocket).expect("sound")
}

#[test]
fn what_comes_again_by_another_node_is_the_same_and_is_answered_the_same() {
    for branch in ["z9hG4bKone", "of-rfc-2543"] {
        let (mut all, mut now) = (Transactions::default(), Instant::now());
        let (mut sends, mut events) = (Vec::new(), Vec::new());
        let by = |n: u8| Hop::Node(([192, 0, 2, n], 5071).into());
        all.receive(now, by(7), passed("192.0.2.7", "UDP", branch), &mut sends, &mut events);
        let Some(TransactionEvent::Request { id, .. }) = events.pop() else { panic!("a request") };
        all.respond(now, id, 200, Bytes::from_static(b"200"), &mut sends);
        // The answer may be lost behind the node that passes it on.
        for n in [7, 8] {
            now += T4;
            all.fire(now, &mut sends, &mut events);
            let (host, before) = (format!("192.0.2.{n}"), sends.len());
            all.receive(now, by(n), passed(&host, "UDP", branch), &mut sends, &mut events);
            assert!(events.is_empty(), "{branch}: it is nothing new");
            assert_eq!(sends[before..].iter().map(|s| s.hop).collect::<Vec<_>>(), [by(7)]);
        }
        all.receive(now, by(8), passed("192.0.2.8", "UDP", "z9hG4bKtwo"), &mut sends, &mut events);
        assert!(matches!(events.pop(), Some(TransactionEvent::Request { .. })), "that is new");
    }
}

#[test]
fn what_came_to_another_node_by_a_connection_does_not_come_again() {
    let (mut all, now) = (Transactions::default(), Instant::now());
    let (mut sends, mut events) = (Vec::new(), Vec::new());
    let hop = Hop::Node(([192, 0, 2, 7], 5071).into());
    let message = passed("192.0.2.7", "WSS", "z9hG4bKone");
    all.receive(now, hop, message, &mut sends, &mut events);
    let Some(TransactionEvent::Request { id, .. }) = events.pop() else { panic!("a request") };
    all.respond(now, id, 200, Bytes::from_static(b"200"), &mut sends);
    all.fire(now, &mut sends, &mut events);
    assert_eq!(all.len(), 0);
}

#[test]
fn beyond_the_bound_a_new_request_makes_no_transaction() {
    let (mut all, now) = (Transactions::default(), Instant::now());
    let hop = Hop::Udp(([127, 0, 0, 1], 5060).into());
    let (mut sends, mut events) = (Vec::new(), Vec::new());
    all.receive(now, hop, options("first"), &mut sends, &mut events);
    assert!(matches!(events.pop(), Some(TransactionEvent::Request { .. })));
    for n in 1..MAX_TRANSACTIONS {
        let machine = Machine::Server(server::ServerTransaction::start());
        all.insert(n.to_string().into(), machine, hop, false);
    }
    all.receive(now, hop, options("second"), &mut sends, &mut events);
    assert!(events.is_empty() && sends.is_empty());
    assert_eq!(all.len(), MAX_TRANSACTIONS);
    // One that is known is known all the same, and our own requests go out.
    assert!(all.knows(&options("first")));
    let bytes = Bytes::from_static(b"OPTIONS");
    all.request(now, Method::Options, "ours", hop, bytes, &mut sends);
    assert_eq!((sends.len(), all.len()), (1, MAX_TRANSACTIONS + 1));
}

/// As many requests of `sender` as it may begin, each refused and never acknowledged.
fn begin_all(all: &mut Transactions, sender: &str, most: usize) -> usize {
    let hop = Hop::Flow(Flow(1));
    let mut begun = 0;
    while all.has_room_for(sender, most) {
        let machine = Machine::InviteServer(invite_server::InviteServer::start());
        let id = all.insert(format!("{sender} {begun}").into(), machine, hop, false);
        all.charge(ServerId(id), sender);
        begun += 1;
        assert!(begun <= MAX_TRANSACTIONS);
    }
    begun
}

#[test]
fn one_sender_has_its_share_of_the_table_and_others_find_room() {
    let mut all = Transactions::default();
    assert_eq!(begin_all(&mut all, "ada", MAX_OF_USER), MAX_OF_USER);
    assert!(all.has_room_for("bob", MAX_OF_USER));
    let (one, other) = (begin_all(&mut all, "one", usize::MAX), begin_all(&mut all, "other", 9));
    assert!(one > MAX_TRANSACTIONS / 2 && other == 9, "{one}, {other}");
    // Whoever else comes finds room, however many there are already.
    let late: Vec<usize> = (0..20).map(|n| begin_all(&mut all, &n.to_string(), 200)).collect();
    assert!(late.iter().all(|begun| *begun >= 100), "{late:?}");
    assert!(all.len() < MAX_TRANSACTIONS);
    // It is given back with the requests.
    let mut events = Vec::new();
    all.hop_failed(Hop::Flow(Flow(1)), &mut events);
    assert!(all.by_sender.is_empty() && all.len() == 0);
}

#[test]
fn a_long_key_is_kept_as_its_hash() {
    assert_eq!(bounded("x".repeat(MAX_KEY)).len(), MAX_KEY);
    let (one, other) = ("x".repeat(MAX_KEY + 1), "y".repeat(60_000));
    let kept = [bounded(one.clone()), bounded(other)];
    assert!(kept.iter().all(|key| key.len() == 65) && kept[0] != kept[1]);
    assert_eq!(bounded(one), kept[0]);
    let mut all = Transactions::default();
    let hop = Hop::Udp(([127, 0, 0, 1], 5060).into());
    let long = "b".repeat(4_000);
    all.receive(Instant::now(), hop, options(&long), &mut Vec::new(), &mut Vec::new());
    assert!(all.knows(&options(&long)) && !all.knows(&options(&long[1..])));
    assert!(all.keys.keys().all(|key| key.len() <= MAX_KEY));
}
