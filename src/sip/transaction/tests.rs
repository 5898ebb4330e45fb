use super::*;
use crate::sip::parse::Framing;

fn options(branch: &str) -> Message {
    let text = format!(
        "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK{branch}\r\n\
         From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n"
    );
    Message::parse(text.into_bytes(), Framing::Datagram).expect("sound")
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
        all.insert(n.to_string().into(), machine, hop);
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
