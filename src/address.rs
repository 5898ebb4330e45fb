//! What kind of network an address is of, and which source it counts for.

use std::net::{IpAddr, Ipv4Addr};

/// Of a private network (RFC 1918, RFC 6598, RFC 4193), where the next machine may be.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || (ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

/// Of the internet, and no other address in disguise: not private, loopback, link-local, multicast
/// or unspecified, nor 6to4, which holds an IPv4 address that may be any of these. An address of
/// NAT64 is judged by the IPv4 address in it.
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let special = v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.octets()[0] == 0;
            !special && !is_private(ip)
        }
        IpAddr::V6(v6) => {
            if let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = v6.segments() {
                return is_public(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)).into());
            }
            let special = v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
                || v6.segments()[0] == 0x2002
                || v6.segments()[..2] == [0x64, 0xff9b];
            !special && !is_private(ip)
        }
    }
}

/// Set apart by IANA's registries of special-purpose addresses (RFC 6890): for protocols,
/// documentation, benchmarks, transitions, or nothing yet. Nobody is reached there.
pub(crate) fn is_reserved(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => matches!(
            v4.octets(),
            [0 | 240.., ..]
                | [192, 0, 0 | 2, _]
                | [192, 88, 99, _]
                | [198, 18 | 19, ..]
                | [198, 51, 100, _]
                | [203, 0, 113, _]
        ),
        IpAddr::V6(v6) => match v6.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                is_reserved(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)).into())
            }
            // Teredo and its neighbours (RFC 2928), documentation (RFC 3849, RFC 9637), 6to4.
            [0x2001, 0..0x200 | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..0x1000, ..] => true,
            [0x2000..0x4000, ..] => false,
            _ => {
                let known = v6.is_loopback() || v6.is_unique_local() || v6.is_multicast();
                !known && !v6.is_unicast_link_local()
            }
        },
    }
}

/// The source an address belongs to where sources are counted: itself, or its /64, which one host
/// may fill with addresses of its own (RFC 4291 §2.5.4).
pub(crate) fn network_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            IpAddr::from((u128::from(v6) & !u128::from(u64::MAX)).to_be_bytes())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_disguise_makes_an_inner_address_public() {
        for inside in [
            "127.0.0.1",
            "10.0.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "fd00::1",
            "fe80::1",
            "ff02::1",
            "64:ff9b::a00:1",
            "64:ff9b:1::808:808",
            "2002:a00:1::",
        ] {
            assert!(!is_public(inside.parse().expect("an address")), "{inside}");
        }
        for outside in ["203.0.113.7", "100.128.0.1", "2001:4860:4860::8888", "::ffff:203.0.113.7"]
        {
            assert!(is_public(outside.parse().expect("an address")), "{outside}");
        }
        assert!(
            is_private("::ffff:10.0.0.1".parse().expect("an address"))
                && !is_private("127.0.0.1".parse().expect("an address"))
        );
    }
}
