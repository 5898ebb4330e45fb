use super::*;

/// The example of the Standard Webhooks specification.
#[test]
fn signatures_are_the_standards() {
    let (secret, id) = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek");
    assert_eq!(
        signature(secret, id, 1_614_265_330, "{\"test\": 2432232314}"),
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    );
}

/// A target that does not listen, a stop at once, and a target that listens after the start.
#[tokio::test]
async fn deliveries_that_a_stop_interrupts_are_made_after_the_next_start() {
    use crate::state::{Directory, tests::Scratch};
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let scratch = Scratch::new("webhook");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("bound");
    drop(listener);
    let settings = Webhook {
        url: format!("http://{at}/x"),
        secret: crate::sip::digest::Secret::new("0123456789abcdef"),
        allow_private: true,
    };
    let dead = scratch.0.join("dead.jsonl");
    let begin = || {
        let spool = Spool::new(Arc::new(Directory::open(&scratch.0).expect("a directory")));
        let hook = Hook::new(&settings, Arc::default()).expect("a client");
        start(Arc::new(hook), dead.clone(), 7, Some(Arc::new(spool))).expect("a thread")
    };
    let (outbox, telling) = begin();
    let event = crate::api::events::LoggedEvent::for_test(5);
    outbox.tell(&Arc::new(event));
    telling.stop().await;
    drop(outbox);
    assert!(!dead.exists(), "it is no dead letter yet");
    let listener = tokio::net::TcpListener::bind(at).await.expect("the port again");
    let (_outbox, telling) = begin();
    let (mut stream, _) = listener.accept().await.expect("a delivery");
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut request = vec![0; 4_096];
    let n = stream.read(&mut request).await.expect("a request");
    let text = String::from_utf8_lossy(&request[..n]).into_owned();
    assert!(text.contains("msg_000000000000000700000005"), "under its id of before: {text}");
    let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
    stream.write_all(answer).await.expect("answered");
    telling.stop().await;
    let spool = Spool::new(Arc::new(Directory::open(&scratch.0).expect("a directory")));
    assert_eq!(spool.waiting("webhook").expect("read").0, 0);
}

fn settings() -> Webhook {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Webhook {
        url: "http://127.0.0.1:1/x".into(),
        secret: crate::sip::digest::Secret::new("0123456789abcdef"),
        allow_private: true,
    }
}

/// An event, and a place for its dead letter.
fn event(id: u64) -> Arc<LoggedEvent> {
    Arc::new(LoggedEvent::for_test(id))
}

/// An hour of tries in virtual time, then the file.
#[tokio::test(start_paused = true)]
async fn deliveries_that_fail_for_an_hour_are_kept() {
    let counts = Arc::new(Counts::default());
    let hook = Arc::new(Hook::new(&settings(), counts.clone()).expect("a client"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("dead.jsonl");
    let dead = DeadLetters::start(file.clone(), counts.clone()).expect("a thread");
    let waiting = Arc::new(Semaphore::new(1));
    let teller =
        Teller { hook, dead, log: Log::default(), outstanding: Outstanding::new(None), waiting };
    let began = tokio::time::Instant::now();
    let (one, other) = (WebhookEvent::Event(event(1)), WebhookEvent::Event(event(2)));
    let first = teller.tell("msg_1", &one).await;
    let refused = teller.hook.post(EVENT, "msg_2", "{}", EVENT_TIMEOUT).await;
    let (refused, other) = tokio::join!(
        teller.insist(1, "msg_1", &one, first),
        teller.insist(2, "msg_2", &other, refused)
    );
    assert!(refused.is_err() && other.is_err());
    assert!(
        (Duration::from_secs(3_500)..Duration::from_secs(3_700)).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    drop(teller);
    let kept = std::fs::read_to_string(&file).expect("it is kept");
    let lines: Vec<&str> = kept.lines().collect();
    assert!(lines.len() == 2 && lines[1].contains("refused"), "{kept}");
    assert!(lines[0].contains("too many events wait to be sent again"), "no place for two");
    assert_eq!((counts.failed.get_or_create(&EVENT).get(), counts.dead.get()), (5, 2));
}

/// More events than there is room for, at a target that is down: what waits is bounded, the
/// rest is in the file, and after the last try nothing is kept.
#[tokio::test(start_paused = true)]
async fn a_target_that_is_down_costs_bounded_memory_which_goes_back() {
    const EVENTS: usize = 12_000;
    let counts = Arc::new(Counts::default());
    let hook = Arc::new(Hook::new(&settings(), counts.clone()).expect("a client"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("dead.jsonl");
    let (outbox, telling) = start(hook, file.clone(), 1, None).expect("a thread");
    let events: Vec<_> = (0..EVENTS).map(|n| event(n as u64)).collect();
    events.iter().for_each(|event| outbox.tell(event));
    let weak: Vec<_> = events.iter().map(Arc::downgrade).collect();
    drop(events);
    let held = || weak.iter().filter(|e| e.strong_count() > 0).count();
    assert!(held() <= QUEUE + DeadLetters::QUEUE, "{} are held", held());
    // Until each was tried once: then only so many wait for another try.
    while counts.failed.get_or_create(&EVENT).get() < QUEUE as u64 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(held() <= MAX_WAITING + REMEMBERED + PARALLEL + DeadLetters::QUEUE);
    tokio::time::sleep(Duration::from_secs(7_200)).await;
    assert!(outbox.deliveries().iter().all(|d| d.outcome.is_some()));
    telling.stop().await;
    drop(outbox);
    assert_eq!(held(), 0, "nothing is kept when all is over");
    let kept = std::fs::read_to_string(&file).expect("it is kept").lines().count() as u64;
    assert_eq!((kept + counts.lost.get(), counts.dead.get()), (EVENTS as u64, kept));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_fails_again_and_again_is_left_alone_for_a_while() {
    let hook = Hook::new(&settings(), Arc::default()).expect("a client");
    for _ in 0..BREAKS_AFTER {
        assert!(
            hook.ask("route_1", "{}", Duration::from_millis(800))
                .await
                .expect_err("nobody is there")
                .contains("refused")
        );
    }
    assert!(
        hook.ask("route_1", "{}", Duration::from_millis(800))
            .await
            .expect_err("it is broken")
            .contains("not asked for 30 s")
    );
}
