use super::*;
use crate::config::StoreSettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[tokio::test]
async fn a_store_that_is_silent_keeps_so_many_commands_waiting_and_no_more() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    // It greets, and says nothing more.
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut buf = [0; 4_096];
        let _ = stream.read(&mut buf).await;
        let _ = stream.write_all(b"+OK\r\n+OK\r\n").await;
        while stream.read(&mut buf).await.is_ok_and(|n| n > 0) {}
    });
    let (core, mut arrivals) = mpsc::channel(8_192);
    let settings = ClusterSettings {
        node: "a".into(),
        store: StoreSettings {
            urls: vec![format!("redis://{at}")],
            sentinel: None,
            sentinel_username: None,
            sentinel_password: None,
            username: None,
            password: None,
            ca: None,
        },
        key: crate::sip::digest::Secret::new("k"),
        listen: at,
        advertise: at,
        address: None,
    };
    let store = Store::start(&settings, "x", Inbox::new(core)).expect("sound settings");
    let write = |id| StoreCommand::Write { id, writes: Vec::new() };
    // What is asked before the connection stands is answered at once.
    store.command(write(0));
    let _ = timeout(Duration::from_secs(2), arrivals.recv()).await.expect("an answer");
    while store.0.capacity() > 0 {
        (1..2_000).for_each(|id| store.command(write(id)));
        tokio::task::yield_now().await;
    }
    assert_eq!(store.0.max_capacity(), STORE_QUEUE);
}
