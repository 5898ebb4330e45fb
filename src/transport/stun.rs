//! Where this machine is seen from outside: one STUN Binding request (RFC 8489).

use anyhow::{Context, anyhow};
use rand_core::{OsRng, TryRngCore};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// Waits between requests: a lost datagram is no closed firewall.
const TRIES: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// Asks `server` from local port `port` (0: any); the address it sees, and the port it was asked
/// from.
///
/// # Errors
/// No answer in four seconds, or none that can be read.
pub async fn seen_from(server: &str, port: u16) -> anyhow::Result<(SocketAddr, u16)> {
    let to = tokio::net::lookup_host(server)
        .await
        .with_context(|| format!("{server} is not a known HOST:PORT"))?
        .next()
        .ok_or_else(|| anyhow!("{server} has no address"))?;
    let any: IpAddr =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, port)).await?;
    let mut id = [0; 12];
    OsRng.try_fill_bytes(&mut id).context("the system gives no random bytes")?;
    let mut request = vec![0, 1, 0, 0];
    request.extend(COOKIE);
    request.extend(id);
    let mut buf = [0; 1_500];
    for wait in TRIES {
        socket.send_to(&request, to).await?;
        if let Ok(Ok((n, from))) = timeout(wait, socket.recv_from(&mut buf)).await
            && from == to
            && let Some(mapped) = mapped(&buf[..n], &id)
        {
            return Ok((mapped, socket.local_addr()?.port()));
        }
    }
    Err(anyhow!("{server} does not answer: UDP from this machine, or its answers, are blocked"))
}

/// XOR-MAPPED-ADDRESS of a success response to our request.
pub(crate) fn mapped(response: &[u8], id: &[u8; 12]) -> Option<SocketAddr> {
    let (head, mut rest) = response.split_at_checked(20)?;
    if head[..2] != [1, 1] || head[4..8] != COOKIE || &head[8..20] != id {
        return None;
    }
    while let Some((attribute, after)) = rest.split_at_checked(4) {
        let length = usize::from(u16::from_be_bytes([attribute[2], attribute[3]]));
        let value = after.get(..length)?;
        if attribute[..2] == [0, 0x20] {
            let key: Vec<u8> = COOKIE.iter().chain(id).copied().collect();
            let port = u16::from_be_bytes([*value.get(2)? ^ key[0], *value.get(3)? ^ key[1]]);
            let plain: Vec<u8> = value.get(4..)?.iter().zip(&key).map(|(a, b)| a ^ b).collect();
            let ip = match value.get(1)? {
                1 => IpAddr::from(<[u8; 4]>::try_from(plain.get(..4)?).ok()?),
                2 => IpAddr::from(<[u8; 16]>::try_from(plain.get(..16)?).ok()?),
                _ => return None,
            };
            return Some(SocketAddr::new(ip, port));
        }
        rest = after.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5769 section 2.2 and 2.3: the responses of the test vectors.
    #[test]
    fn the_addresses_of_the_test_vectors_are_read() {
        let id = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];
        let answer = |attributes: &[u8]| {
            [&[1, 1, 0, attributes.len() as u8][..], &COOKIE, &id, attributes].concat()
        };
        let software = [
            0x80, 0x22, 0x00, 0x0b, b't', b'e', b's', b't', b' ', b'v', b'e', b'c', b't', b'o',
            b'r', b' ',
        ];
        let v4 = [
            &software[..],
            &[0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43],
        ]
        .concat();
        assert_eq!(mapped(&answer(&v4), &id), Some("192.0.2.1:32853".parse().expect("an address")));
        let v6 = [
            0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3,
            0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
        ];
        assert_eq!(
            mapped(&answer(&v6), &id),
            Some("[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().expect("an address"))
        );
        for wrong in
            [&v4[..10], &[0, 0x20, 0, 8, 0, 3, 0, 0, 0, 0, 0, 0], &[0, 0x20, 0xff, 0xff], &[]]
        {
            assert_eq!(mapped(&answer(wrong), &id), None);
        }
        assert_eq!(mapped(&answer(&v4), &[0; 12]), None, "somebody else's");
    }
}
