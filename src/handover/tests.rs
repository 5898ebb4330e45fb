use super::*;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

const SOON: Duration = Duration::from_secs(10);

fn pair() -> (Link, Link) {
    let (a, b) = UnixStream::pair().expect("a pair");
    (Link::new(a).expect("an end"), Link::new(b).expect("an end"))
}

#[test]
fn sockets_arrive_in_order_however_many_there_are() {
    let (here, there) = pair();
    let sockets: Vec<UdpSocket> =
        (0..2 * AT_ONCE + 3).map(|_| UdpSocket::bind("127.0.0.1:0").expect("bound")).collect();
    let ports: Vec<u16> = sockets.iter().map(|s| s.local_addr().expect("bound").port()).collect();
    let taken = vec![Process { node: "b".into(), epoch: 7 }];
    let former = vec![Process { node: "a".into(), epoch: 6 }];
    let message = LinkMessage::Calls { draining: true, ports: ports.clone(), taken, former };
    let bytes = vec![7; 3_000_000];
    let sent = (message.clone(), bytes.clone());
    let sender = std::thread::spawn(move || {
        let borrowed: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        here.send(&sent.0, &sent.1, &borrowed)
            .and_then(|()| here.say(&LinkMessage::Go))
            .expect("sent");
    });
    let got = there.receive(SOON).expect("received");
    assert_eq!((got.message, got.bytes), (message, bytes));
    let bound = |fd: OwnedFd| UdpSocket::from(fd).local_addr().expect("bound").port();
    assert_eq!(got.sockets.into_iter().map(bound).collect::<Vec<_>>(), ports);
    assert_eq!(there.receive(SOON).expect("the next").message, LinkMessage::Go);
    sender.join().expect("sent");
    assert_eq!(there.receive(SOON).expect_err("gone").kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn what_is_no_handover_is_refused() {
    for junk in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 16], &[255; 64], b"\0wthxxxxxxxxxxxxxxxx"] {
        let (a, b) = UnixStream::pair().expect("a pair");
        (&a).write_all(junk).expect("sent");
        drop(a);
        let link = Link::new(b).expect("an end");
        let why = link.receive(SOON).expect_err("junk").kind();
        assert!(matches!(why, ErrorKind::InvalidData | ErrorKind::UnexpectedEof), "{why}");
    }
    // Sockets are promised, and none come.
    let (a, b) = UnixStream::pair().expect("a pair");
    let mut frame = MAGIC.to_vec();
    [12u32, 0, 2].iter().for_each(|n| frame.extend_from_slice(&n.to_be_bytes()));
    frame.extend_from_slice(br#"{"say":"go"}"#);
    (&a).write_all(&frame).and_then(|()| (&a).write_all(&[0])).expect("sent");
    assert!(Link::new(b).expect("an end").receive(SOON).is_err());
}

#[test]
fn one_that_says_nothing_is_not_waited_for() {
    let (_here, there) = pair();
    let why = there.receive(Duration::from_millis(10)).expect_err("nothing was said");
    assert!(matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
}

#[test]
fn a_later_version_may_say_more() {
    let later = r#"{"say":"hello","protocol":1,"version":"9","reads":[2,3],"also":true}"#;
    let read: LinkMessage = serde_json::from_str(later).expect("it is understood");
    let hello = LinkMessage::Hello { protocol: 1, version: "9".into(), reads: vec![2, 3] };
    assert_eq!(read, hello);
}

#[test]
fn a_link_is_told_from_http() {
    for (first, is) in [(&b"\0wth"[..], true), (b"GET ", false)] {
        let (a, b) = UnixStream::pair().expect("a pair");
        (&a).write_all(first).expect("sent");
        assert_eq!(is_link(&b).expect("something has come"), is);
        let mut still = [0; 4];
        (&b).read_exact(&mut still).expect("it is still there");
        assert_eq!(still, first);
    }
}
