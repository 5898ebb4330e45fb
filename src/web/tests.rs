use super::*;
use crate::config::check::parse_embedded;
use crate::transport::WRITE_STALL;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

async fn upgrade_at(web: SocketAddr) -> String {
    let mut stream = TcpStream::connect(web).await.expect("it listens");
    let ask = format!(
        "GET /sip HTTP/1.1\r\nHost: {web}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: sip\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 1_024];
    let n = stream.read(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer[..n]).into_owned()
}

#[tokio::test]
async fn a_browser_that_would_be_refused_its_login_is_not_let_in() {
    let text = "[server]\ndomain = \"wt.test\"\npublic_ip = \"127.0.0.1\"\n";
    let (config, _) = parse_embedded(text, &[]).unwrap_or_else(|p| panic!("{p}"));
    let (core, _arrivals) = mpsc::channel(100);
    let (tell, gauges) = watch::channel(Gauges::default());
    let refused = Arc::new(RefusedConnections::default());
    let inbox = Inbox::new(core);
    let web = WebPort::new(inbox, &config, None, gauges, Router::new(), refused.clone());
    let web = Arc::new(web);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("bound");
    let serving = tokio::spawn(serve(listener, web.clone()));
    assert!(upgrade_at(at).await.starts_with("HTTP/1.1 101"));
    for (why, status) in
        [(Overloaded::Core, 503), (Overloaded::Queue, 503), (Overloaded::Media, 101)]
    {
        tell.send_modify(|gauges| gauges.overloaded = Some(why));
        let answer = upgrade_at(at).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{why:?}: {answer}");
        assert_eq!(answer.contains("retry-after: "), status == 503, "{answer}");
    }
    tell.send_modify(|gauges| gauges.overloaded = Some(Overloaded::Core));
    let on_drop = refused.read().find(|(_, why, _)| *why == "overload");
    assert_eq!(on_drop, Some(("web", "overload", 2)));
    // Its calls wait for it.
    let soon = Instant::now() + Duration::from_secs(30);
    web.awaited.expect([127, 0, 0, 1].into(), soon);
    assert!(upgrade_at(at).await.starts_with("HTTP/1.1 101"));
    (0..2 * MAX_AWAITED as u32)
        .for_each(|n| web.awaited.expect(IpAddr::from(n.to_be_bytes()), soon));
    assert_eq!(web.awaited.0.lock().expect("sound").len(), MAX_AWAITED);
    serving.abort();
}

/// Thousands may say nothing: each costs its socket, its place and little else.
#[tokio::test]
async fn a_connection_that_says_nothing_costs_a_kilobyte() {
    let text = "[server]\ndomain = \"wt.test\"\npublic_ip = \"127.0.0.1\"\n";
    let (config, _) = parse_embedded(text, &[]).unwrap_or_else(|p| panic!("{p}"));
    let (core, _arrivals) = mpsc::channel(100);
    let (_tell, gauges) = watch::channel(Gauges::default());
    let (inbox, refused) = (Inbox::new(core), Arc::default());
    let web = WebPort::new(inbox, &config, None, gauges, Router::new(), refused);
    let web = Arc::new(web);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("bound");
    let (stream, _) = tokio::join!(TcpStream::connect(at), listener.accept());
    let stream = stream.expect("it listens");
    let seat = web.seats.take_or_stand(at.ip(), false).expect("a place");
    let waits = visit(stream, at, Arc::new(Visitor { web, seat }));
    assert!(size_of_val(&waits) <= 1_024, "{} bytes", size_of_val(&waits));
}

/// Says when it is dropped.
struct OnDrop(Option<tokio::sync::oneshot::Sender<()>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.take().map(|on_drop| on_drop.send(()));
    }
}

#[tokio::test(start_paused = true)]
async fn handshakes_of_a_source_are_as_many_as_is_set_from_a_reload_on_too() {
    let of = |limits: &str| {
        let text = "[server]\ndomain = \"wt.test\"\npublic_ip = \"127.0.0.1\"\n";
        let text = format!("{text}[limits]\n{limits}\n");
        parse_embedded(&text, &[]).unwrap_or_else(|p| panic!("{p}")).0
    };
    let (core, _arrivals) = mpsc::channel(100);
    let (_tell, gauges) = watch::channel(Gauges::default());
    let (inbox, config) = (Inbox::new(core), of("handshakes_per_source = 7"));
    let web = WebPort::new(inbox, &config, None, gauges, Router::new(), Arc::default());
    assert_eq!(handshakes::tests::crowd(&web.handshakes, 20).await, (13, 7));
    web.set(&of("handshakes_per_source = 15"));
    assert_eq!(handshakes::tests::crowd(&web.handshakes, 20).await, (5, 15));
    web.set(&of(""));
    assert_eq!(handshakes::tests::crowd(&web.handshakes, 260).await, (4, 256), "the default");
}

/// Serves this API; returns where.
async fn serving(api: Router) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let text = "[server]\ndomain = \"wt.test\"\npublic_ip = \"127.0.0.1\"\n";
    let (config, _) = parse_embedded(text, &[]).unwrap_or_else(|p| panic!("{p}"));
    let (core, _arrivals) = mpsc::channel(100);
    let (_tell, gauges) = watch::channel(Gauges::default());
    let (inbox, refused) = (Inbox::new(core), Arc::default());
    let web = WebPort::new(inbox, &config, None, gauges, api, refused);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("bound");
    (at, tokio::spawn(serve(listener, Arc::new(web))))
}

#[tokio::test]
async fn a_listener_that_never_reads_is_let_go() {
    let (on_drop, gone) = tokio::sync::oneshot::channel();
    let on_drop = Arc::new(Mutex::new(Some(OnDrop(Some(on_drop)))));
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = taken.clone();
    let events = move || async move {
        let on_drop = on_drop.lock().expect("sound").take();
        let frames = futures_util::stream::unfold(on_drop, move |on_drop| {
            let counted = counted.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                counted.fetch_add(65_536, Ordering::Relaxed);
                Some((Ok::<_, Infallible>(Bytes::from_static(&[b':'; 65_536])), on_drop))
            }
        });
        Body::from_stream(frames)
    };
    let api = Router::new().route("/api/v1/events", axum::routing::get(events));
    let (at, serving) = serving(api).await;
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("set");
    let mut stream = socket.connect(at).await.expect("it listens");
    let ask = format!("GET /api/v1/events HTTP/1.1\r\nHost: {at}\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.expect("sent");
    // The kernel's buffers fill first; then a write stalls.
    let ended = timeout(WRITE_STALL + Duration::from_secs(15), gone).await;
    assert!(matches!(ended, Ok(Ok(()))), "the answer is still held");
    // In the buffers of both ends, and of hyper.
    let taken = taken.load(Ordering::Relaxed);
    assert!(taken <= 1 << 20, "{taken} bytes were taken for who reads none");
    drop(stream);
    serving.abort();
}
