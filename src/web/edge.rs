//! Proxies in front of the web port: whose connection and whose request they pass on.
//!
//! Nobody is believed but those the configuration names: `web.proxy_protocol` for connections,
//! whose first bytes are then a PROXY header and nothing else, `web.trusted_proxies` for requests.

use crate::config::Config;
use hyper::Request;
use hyper::header::{HeaderMap, HeaderName};
use ipnet::IpNet;
use ppp::v2::{Addresses, Header};
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of a PROXY header after the first sixteen: addresses, and what else the proxy tells.
const MAX_HEADER: usize = 2_048;
/// The byte of version 2 and of a connection that is the proxy's own.
const VERSION_2_LOCAL: u8 = 0x20;
/// Proxies a request may have passed; clients beyond the last of them are not searched for.
const MAX_HOPS: usize = 16;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Where browsers reach the page, as [web] `public_url` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Public {
    /// Scheme, host and port.
    pub origin: String,
    /// The host alone.
    pub host: String,
    /// The path without a slash at the end; empty: the root.
    pub path: String,
}

impl Public {
    fn of(url: &str) -> Option<Public> {
        let uri: hyper::Uri = url.parse().ok()?;
        let (scheme, host) = (uri.scheme_str()?, uri.host()?.to_ascii_lowercase());
        // Browsers name no port that is the scheme's own (RFC 6454, section 6.1).
        let usual = if scheme == "http" { 80 } else { 443 };
        let port = uri.port_u16().filter(|port| *port != usual);
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let origin = format!("{scheme}://{host}{port}");
        Some(Public { origin, host, path: uri.path().trim_end_matches('/').to_owned() })
    }
}

/// What the configuration says of proxies.
#[derive(Clone, Default, Debug)]
pub(crate) struct Edge {
    trusted: Vec<IpNet>,
    proxies: Vec<IpNet>,
    /// The address by which browsers know the gateway.
    pub public: Option<Public>,
}

/// The client of a request, and its scheme.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Client {
    /// The client's address, as the trusted proxies give it.
    pub address: SocketAddr,
    /// A trusted proxy says that the browser speaks TLS to it (true) or does not.
    pub secure: Option<bool>,
    /// The connection is a trusted proxy's.
    pub is_proxied: bool,
}

impl Edge {
    pub(crate) fn new(config: &Config) -> Edge {
        Edge {
            trusted: config.trusted_proxies.clone(),
            proxies: config.proxy_protocol.clone(),
            public: config.public_url.as_deref().and_then(Public::of),
        }
    }

    /// Whether connections from there begin with a PROXY header.
    pub(crate) fn expects_header(&self, ip: IpAddr) -> bool {
        contains(&self.proxies, ip)
    }

    /// Whether requests from there are other people's.
    pub(crate) fn trusts(&self, ip: IpAddr) -> bool {
        contains(&self.trusted, ip)
    }

    /// The client of a request that came over the connection of `peer`.
    pub(crate) fn client<T>(&self, request: &Request<T>, peer: SocketAddr) -> Client {
        let is_proxied = self.trusts(peer.ip());
        if !is_proxied {
            return Client { address: peer, secure: None, is_proxied };
        }
        let ip = self.forwarded_for(request.headers()).unwrap_or(peer.ip());
        let proto = request.headers().get_all(FORWARDED_PROTO).iter().next_back();
        let proto = proto.and_then(|v| v.to_str().ok()).and_then(|v| v.rsplit(',').next());
        let secure = proto.map(|p| p.trim().eq_ignore_ascii_case("https"));
        Client { address: SocketAddr::new(ip, peer.port()), secure, is_proxied }
    }

    /// The last address that no trusted proxy has: what is before it, anybody may have written.
    fn forwarded_for(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        let hops = lines.flat_map(|v| v.to_str().unwrap_or("?").rsplit(',')).take(MAX_HOPS);
        let mut last = None;
        for hop in hops {
            // What cannot be read ends what is known.
            let Some(ip) = address(hop.trim()) else { break };
            last = Some(ip);
            if !self.trusts(ip) {
                break;
            }
        }
        last
    }
}

fn contains(nets: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    nets.iter().any(|net| net.contains(&ip))
}

/// An address, which some write with its port.
fn address(text: &str) -> Option<IpAddr> {
    let ip = text.trim_matches(['[', ']']).parse::<IpAddr>();
    let ip = ip.ok().or_else(|| text.parse::<SocketAddr>().ok().map(|a| a.ip()))?;
    Some(ip.to_canonical())
}

/// Reads the PROXY header (version 2) that a connection begins with; returns who connected to the
/// proxy, or `None` if the proxy speaks for itself.
///
/// # Errors
/// There is no such header, or the connection ended.
pub(crate) async fn header<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<SocketAddr>> {
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut bytes = vec![0; 16];
    stream.read_exact(&mut bytes).await?;
    if !bytes.starts_with(ppp::v2::PROTOCOL_PREFIX) {
        return Err(wrong("it begins with something else"));
    }
    let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if length > MAX_HEADER {
        return Err(wrong("its PROXY header is too long"));
    }
    bytes.resize(16 + length, 0);
    stream.read_exact(&mut bytes[16..]).await?;
    // Whatever family it names and however many bytes of it there are: nothing of that is read.
    if bytes[12] == VERSION_2_LOCAL {
        return Ok(None);
    }
    let header = Header::try_from(bytes.as_slice()).map_err(|e| wrong(&e.to_string()))?;
    Ok(match header.addresses {
        Addresses::IPv4(a) => Some((a.source_address, a.source_port).into()),
        Addresses::IPv6(a) => {
            Some((IpAddr::from(a.source_address).to_canonical(), a.source_port).into())
        }
        // A health check of the proxy's, over a way that has no address.
        Addresses::Unspecified | Addresses::Unix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(trusted: &[&str]) -> Edge {
        let nets = |list: &[&str]| list.iter().map(|t| t.parse().expect("a network")).collect();
        Edge { trusted: nets(trusted), ..Edge::default() }
    }

    fn client(edge: &Edge, peer: &str, headers: &[(&str, &str)]) -> (String, Option<bool>) {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let client = edge.client(&request, format!("{peer}:1000").parse().expect("an address"));
        (client.address.ip().to_string(), client.secure)
    }

    #[test]
    fn a_proxy_is_believed_only_if_it_is_trusted_and_only_what_it_says_itself() {
        let edge = edge(&["10.0.0.0/24", "127.0.0.1/32"]);
        let by = |peer: &str, list: &str| client(&edge, peer, &[("x-forwarded-for", list)]).0;
        assert_eq!(by("203.0.113.9", "198.51.100.1"), "203.0.113.9", "a stranger's header");
        assert_eq!(by("10.0.0.1", "198.51.100.1"), "198.51.100.1");
        assert_eq!(by("10.0.0.1", "192.0.2.66, 198.51.100.1"), "198.51.100.1", "forged before it");
        assert_eq!(by("10.0.0.1", "198.51.100.1, 10.0.0.2,127.0.0.1"), "198.51.100.1", "a chain");
        assert_eq!(by("10.0.0.1", "10.0.0.3, 10.0.0.2"), "10.0.0.3", "one of ours asks");
        assert_eq!(by("10.0.0.1", "198.51.100.1, unknown"), "10.0.0.1");
        assert_eq!(by("10.0.0.1", "x, 10.0.0.2"), "10.0.0.2", "as far as it can be read");
        assert_eq!(by("10.0.0.1", "198.51.100.1:4711"), "198.51.100.1");
        assert_eq!(by("10.0.0.1", "[2001:db8::1]:4711"), "2001:db8::1");
        assert_eq!(by("10.0.0.1", "::ffff:198.51.100.1"), "198.51.100.1");
        assert_eq!(by("10.0.0.1", ""), "10.0.0.1");
        let many = vec!["10.0.0.2"; 5_000].join(",");
        assert_eq!(by("10.0.0.1", &format!("198.51.100.1,{many}")), "10.0.0.2");
        let two = [("x-forwarded-for", "192.0.2.66"), ("x-forwarded-for", "198.51.100.1")];
        assert_eq!(client(&edge, "10.0.0.1", &two).0, "198.51.100.1", "two lines are one list");
    }

    #[test]
    fn only_trusted_proxies_can_say_that_the_browser_uses_tls() {
        let edge = edge(&["10.0.0.1/32"]);
        let by = |peer: &str, said: &str| client(&edge, peer, &[("x-forwarded-proto", said)]).1;
        assert_eq!(by("10.0.0.1", "https"), Some(true));
        assert_eq!(by("10.0.0.1", "https, http"), Some(false), "the last one is the proxy's");
        assert_eq!(by("203.0.113.9", "https"), None);
        assert_eq!(client(&edge, "10.0.0.1", &[]).1, None);
    }

    #[test]
    fn the_origin_of_a_public_url_is_the_one_browsers_send() {
        for (url, origin, path) in [
            ("https://calls.example.com:443/phone/", "https://calls.example.com", "/phone"),
            ("https://Calls.example.com", "https://calls.example.com", ""),
            ("http://calls.example.com:80", "http://calls.example.com", ""),
            ("http://calls.example.com:443/", "http://calls.example.com:443", ""),
            ("https://calls.example.com:8443", "https://calls.example.com:8443", ""),
            ("https://[2001:DB8::1]:443", "https://[2001:db8::1]", ""),
        ] {
            let public = Public::of(url).expect("a URL");
            assert_eq!((public.origin.as_str(), public.path.as_str()), (origin, path), "{url}");
        }
    }

    fn written(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = ppp::v2::PROTOCOL_PREFIX.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend((rest.len() as u16).to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    const V4: [u8; 12] = [198, 51, 100, 1, 10, 0, 0, 1, 0x12, 0x34, 0x01, 0xbb];

    #[tokio::test]
    async fn a_proxy_header_names_who_connected() {
        let named = |bytes: Vec<u8>| async move { header(&mut bytes.as_slice()).await };
        let one = named(written(1, 0x11, &V4)).await.expect("a header");
        assert_eq!(one, Some("198.51.100.1:4660".parse().expect("an address")));
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        let six = named(written(1, 0x21, &v6)).await.expect("a header");
        assert_eq!(six, Some("[2001:db8::1]:0".parse().expect("an address")));
        let with_more = [V4.as_slice(), &[0x04, 0, 3, 1, 2, 3]].concat();
        let mut stream = written(1, 0x11, &with_more);
        stream.extend(b"GET /");
        let mut rest = stream.as_slice();
        assert!(header(&mut rest).await.expect("a header").is_some());
        assert_eq!(rest, b"GET /", "what follows is not touched");
        assert_eq!(
            named(written(0, 0, &[])).await.expect("a header"),
            None,
            "it speaks for itself"
        );
        assert_eq!(named(written(1, 0, &[])).await.expect("a header"), None);
        // Some proxies fill a family in though they have no client.
        for (family, rest) in [(0x11, &V4[..]), (0x11, &[]), (0x21, &[1, 2, 3]), (0x55, &[7])] {
            let own = named(written(0, family, rest)).await;
            assert_eq!(own.expect("a header"), None, "{family:x} {rest:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_proxy_header_is_refused_whatever_it_is() {
        let sound = written(1, 0x11, &V4);
        for end in 0..sound.len() {
            assert!(header(&mut &sound[..end]).await.is_err(), "cut at {end}");
        }
        let mut at = 0;
        for (n, byte) in sound.iter().enumerate() {
            for other in (0..=255).filter(|o| o != byte) {
                let mut torn = sound.clone();
                torn[n] = other;
                torn.resize(200, 7);
                // Never a panic, and never an address of bytes that were not there.
                at += usize::from(header(&mut torn.as_slice()).await.is_ok_and(|a| a.is_some()));
            }
        }
        // Other addresses, other ports, other families; longer headers as far as there are bytes.
        assert!(at > 12 * 255 - 1 && at < 16 * 255, "{at}");
        let long = written(1, 0x11, &[0; MAX_HEADER + 1]);
        assert!(header(&mut long.as_slice()).await.is_err());
        let old = b"PROXY TCP4 198.51.100.1 10.0.0.1 4660 443\r\nGET / HTTP/1.1\r\n\r\n";
        assert!(header(&mut old.as_slice()).await.is_err());
    }
}
