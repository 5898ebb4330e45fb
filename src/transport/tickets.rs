//! TLS tickets that every node of a cluster can read: a client that reconnects to another node when
//! its own is gone costs no signature there.
//!
//! The keys are derived of the cluster's key and the hour, so there is nothing to hand out: a
//! ticket is made by the key of its period, and read in that one and the next, or by a clock that
//! is behind, in the one before.

use crate::cluster::keys::derive;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rand_core::{OsRng, TryRngCore};
use rustls::server::ProducesTickets;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// How long one key makes tickets, seconds.
const PERIOD: u64 = 6 * 3_600;
/// The lifetime of a ticket, as announced to clients.
const LIFETIME: u32 = PERIOD as u32;

/// Makes and reads the tickets of a cluster.
pub(crate) struct SharedTickets {
    secret: Zeroizing<String>,
    clock: fn() -> u64,
}

impl fmt::Debug for SharedTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedTickets")
    }
}

fn wall_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl SharedTickets {
    /// Those of the cluster with this key.
    pub(crate) fn new(secret: &str) -> SharedTickets {
        SharedTickets { secret: Zeroizing::new(secret.to_owned()), clock: wall_clock }
    }

    fn key(&self, period: u64) -> Option<LessSafeKey> {
        let key = Zeroizing::new(derive(&self.secret, &format!("tickets {period}")));
        UnboundKey::new(&AES_256_GCM_SIV, &*key).ok().map(LessSafeKey::new)
    }

    fn open(&self, period: u64, ticket: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = ticket.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let opened = self.key(period)?.open_in_place(nonce, Aad::empty(), &mut sealed).ok()?;
        Some(opened.to_vec())
    }
}

impl ProducesTickets for SharedTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        OsRng.try_fill_bytes(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        let key = self.key((self.clock)() / PERIOD)?;
        key.seal_in_place_append_tag(unique, Aad::empty(), &mut sealed).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let now = (self.clock)() / PERIOD;
        [now, now.saturating_sub(1), now + 1].into_iter().find_map(|at| self.open(at, ticket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secret: &str, clock: fn() -> u64) -> SharedTickets {
        SharedTickets { secret: Zeroizing::new(secret.to_owned()), clock }
    }

    #[test]
    fn a_ticket_of_one_node_is_read_by_another_until_its_keys_have_turned() {
        const KEY: &str = "the key of the cluster, long enough";
        let one = at(KEY, || 10 * PERIOD + 5);
        let ticket = one.encrypt(b"a session").expect("a ticket");
        assert_eq!(one.decrypt(&ticket).as_deref(), Some(&b"a session"[..]));
        let behind = at(KEY, || 10 * PERIOD - 1);
        let next = at(KEY, || 12 * PERIOD - 1);
        for other in [behind, next] {
            assert_eq!(other.decrypt(&ticket).as_deref(), Some(&b"a session"[..]));
        }
        assert_eq!(at(KEY, || 12 * PERIOD).decrypt(&ticket), None, "two periods later");
        assert_eq!(at("another key", || 10 * PERIOD).decrypt(&ticket), None);
        assert_ne!(one.encrypt(b"a session"), Some(ticket.clone()), "no two are alike");
        for end in 0..ticket.len() {
            assert_eq!(one.decrypt(&ticket[..end]), None, "{end} bytes");
        }
    }

    #[test]
    fn a_browser_that_reconnects_to_another_node_continues_its_session() {
        use rustls::pki_types::{PrivateKeyDer, ServerName};
        use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig};
        use rustls::{Connection, ServerConnection};
        use std::sync::Arc;
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let own = rcgen::generate_simple_self_signed(["wt.test".into()]).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(own.cert.der().clone()).expect("a root");
        let node = |secret: &str| {
            let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("a key");
            let chain = vec![own.cert.der().clone()];
            let config = ServerConfig::builder().with_no_client_auth();
            let mut config = config.with_single_cert(chain, key).expect("fits");
            config.ticketer = Arc::new(SharedTickets::new(secret));
            Arc::new(config)
        };
        let client =
            Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
        let shake = |server: &Arc<ServerConfig>| {
            let name = ServerName::try_from("wt.test").expect("a name");
            let client = ClientConnection::new(client.clone(), name).expect("it begins");
            let server = ServerConnection::new(server.clone()).expect("it begins");
            let mut ends = [Connection::from(client), Connection::from(server)];
            for _ in 0..6 {
                for n in 0..2 {
                    let mut wire = Vec::new();
                    while ends[n].wants_write() {
                        ends[n].write_tls(&mut wire).expect("written");
                    }
                    let mut wire = wire.as_slice();
                    while !wire.is_empty() {
                        ends[1 - n].read_tls(&mut wire).expect("read");
                        ends[1 - n].process_new_packets().expect("sound");
                    }
                }
            }
            ends[1].handshake_kind()
        };
        let key = "the key of the cluster, long enough";
        assert_eq!(shake(&node(key)), Some(HandshakeKind::Full));
        assert_eq!(shake(&node(key)), Some(HandshakeKind::Resumed), "by another node");
        assert_eq!(shake(&node("the key of another cluster")), Some(HandshakeKind::Full));
    }
}
