//! A media record that is torn, bent or foreign.
#![no_main]
use libfuzzer_sys::fuzz_target;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use webtrunk::media::dtls::Identity;
use webtrunk::media::session::SessionEvent;
use webtrunk::media::{Port, Session, SessionSnapshot, Sink};

static IDENTITY: LazyLock<Arc<Identity>> =
    LazyLock::new(|| Arc::new(Identity::generate().expect("a certificate")));

struct Nowhere;

impl Sink for Nowhere {
    fn send(&mut self, _: Port, _: SocketAddr, _: &[u8]) {}
    fn event(&mut self, _: SessionEvent) {}
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(snapshot) = SessionSnapshot::from_bytes(bytes) else { return };
    let (now, taken) = (Instant::now(), snapshot.taken);
    let Ok(mut session) = Session::restore(snapshot, now, taken, &IDENTITY) else { return };
    for n in 0..50 {
        session.fire(now + Duration::from_millis(20) * n, &mut Nowhere);
    }
    let again = session.checkpoint(now, taken).to_bytes();
    assert!(SessionSnapshot::from_bytes(&again).is_ok());
});
