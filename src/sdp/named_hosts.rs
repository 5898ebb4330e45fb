//! Host names that stand where a description has addresses (RFC 8866 §5.7 allows them in `c=`):
//! which they are, and the description with what DNS has for them.
//!
//! Not here: the DNS query, and whether the address may be sent to.

use std::net::IpAddr;

/// Most names of one description; those of a call are one, or one for each section.
pub(crate) const MOST: usize = 4;
/// Longest name in DNS (RFC 1035 §2.3.4).
const LONGEST: usize = 253;

/// Returns the names in the `c=` lines of `sdp`, each once, [`MOST`] at most.
pub(crate) fn named_hosts(sdp: &[u8]) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for name in sdp.split(|b| *b == b'\n').filter_map(|line| name_of(line)) {
        if found.len() < MOST && !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// Returns `body` with an address in each `c=` line whose name has one in `found`.
pub(crate) fn with_addresses(body: &[u8], found: &[(String, IpAddr)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    for line in body.split_inclusive(|b| *b == b'\n') {
        let known = name_of(line).and_then(|name| found.iter().find(|(known, _)| known == name));
        match known {
            Some((_, ip)) => {
                let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
                out.extend_from_slice(format!("c=IN {family} {ip}\r\n").as_bytes());
            }
            None => out.extend_from_slice(line),
        }
    }
    out
}

/// The name a line has in place of an address.
fn name_of(line: &[u8]) -> Option<&str> {
    let value = std::str::from_utf8(line.strip_prefix(b"c=")?).ok()?;
    let host = value.split_ascii_whitespace().nth(2)?.split('/').next()?;
    let is_address = host.parse::<IpAddr>().is_ok();
    (!is_address && is_name(host)).then_some(host)
}

/// Whether DNS can be asked for `host`. A name of mDNS is of another network, and digits and dots
/// alone are a mistyped address.
fn is_name(host: &str) -> bool {
    let labels = || host.trim_end_matches('.').split('.');
    let sound = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let last = labels().next_back().unwrap_or_default();
    host.len() <= LONGEST
        && labels().all(sound)
        && !last.eq_ignore_ascii_case("local")
        && last.bytes().any(|b| b.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_addresses_take_their_place() {
        let sdp =
            b"v=0\r\no=- 1 1 IN IP4 pbx.example\r\nc=IN IP4 pbx.example\r\nm=audio 4 RTP/AVP 0\r\n\
            c=IN IP6 six.example/127\nm=audio 6 RTP/AVP 0\r\nc=IN IP4 127.0.0.10\r\n";
        assert_eq!(named_hosts(sdp), ["pbx.example", "six.example"]);
        let found = [
            ("six.example".to_owned(), "2001:db8::1".parse().expect("an address")),
            ("pbx.example".to_owned(), "192.0.2.1".parse().expect("an address")),
        ];
        let text = String::from_utf8(with_addresses(sdp, &found)).expect("text");
        assert_eq!(
            text,
            "v=0\r\no=- 1 1 IN IP4 pbx.example\r\nc=IN IP4 192.0.2.1\r\nm=audio 4 RTP/AVP 0\r\n\
             c=IN IP6 2001:db8::1\r\nm=audio 6 RTP/AVP 0\r\nc=IN IP4 127.0.0.10\r\n"
        );
        // What DNS does not know stays as it is.
        assert_eq!(with_addresses(sdp, &[]), sdp);
    }

    #[test]
    fn what_is_no_name_of_dns_is_never_asked_for() {
        for odd in ["1.2.3", "999.1.1.1", "a..b", "-$(x)", "x y", "phone.local", "[::1]", ".", "é"]
        {
            let sdp = format!("v=0\r\nc=IN IP4 {odd}\r\n");
            assert!(named_hosts(sdp.as_bytes()).iter().all(|n| *n == "x"), "{odd}");
        }
        let long = format!("v=0\r\nc=IN IP4 {}example\r\n", "a.".repeat(130));
        assert!(named_hosts(long.as_bytes()).is_empty());
    }

    #[test]
    fn a_description_names_so_many_hosts_and_no_more() {
        let many: String = (0..9).map(|n| format!("c=IN IP4 h{n}.example\r\n")).collect();
        assert_eq!(named_hosts(many.as_bytes()).len(), MOST);
    }
}
