//! Addresses of this machine, as bound and as announced.

use super::{Check, own_address};
use crate::config::problem::ConfigProblem;
use crate::config::schema::Spanned;
use std::net::{IpAddr, Ipv4Addr};

/// The port of STUN servers (RFC 8489 §8.1).
const STUN_PORT: u16 = 3_478;

impl Check {
    /// The addresses announced to everybody.
    pub(super) fn public_ip(&mut self, text: Option<&Spanned<String>>) -> Vec<IpAddr> {
        match text.map(|t| (t, t.as_ref().as_str())) {
            None | Some((_, "auto")) => vec![own_address()],
            Some((at, text)) => match text.parse() {
                Ok(ip) => vec![self.usable(at, "server.public_ip", ip)],
                Err(_) => {
                    self.error(
                        at,
                        "config::address",
                        format!("{text:?} is not an IP address"),
                        "write \"auto\" or an address such as \"203.0.113.7\"",
                    );
                    vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]
                }
            },
        }
    }

    /// A single address.
    pub(super) fn address(&mut self, text: Option<&Spanned<String>>, key: &str) -> Option<IpAddr> {
        let at = text?;
        let ip = at.as_ref().parse().ok();
        if ip.is_none() {
            self.error(
                at,
                "config::address",
                format!("{key} = {:?} is not an IP address", at.as_ref()),
                "write an address such as \"192.0.2.7\", without a port",
            );
        }
        ip
    }

    /// A single address that peers are given.
    pub(super) fn public_address(
        &mut self,
        text: Option<&Spanned<String>>,
        key: &str,
    ) -> Option<IpAddr> {
        let ip = self.address(text, key)?;
        Some(text.map_or(ip, |at| self.usable(at, key, ip)))
    }

    fn usable(&mut self, at: &Spanned<String>, key: &str, ip: IpAddr) -> IpAddr {
        if ip.is_unspecified() || ip.is_multicast() {
            self.error(
                at,
                "config::address",
                format!("{key} = \"{ip}\" is no address that a peer can send to"),
                "write the address at which peers reach this machine, such as \"203.0.113.7\"",
            );
        }
        ip
    }

    /// An address to bind that this machine does not have is found now, not by `serve`.
    pub(super) fn bound(&mut self, text: Option<&Spanned<String>>, key: &str) -> Option<IpAddr> {
        let ip = self.address(text, key)?;
        if let (Some(at), Err(e)) = (text, std::net::UdpSocket::bind((ip, 0))) {
            self.error(
                at,
                "config::address",
                format!("{key} = \"{ip}\" cannot be bound: {e}"),
                "name an address of this machine (`ip address` lists them); the address \
                 given to peers is public_ip",
            );
        }
        Some(ip)
    }

    /// A STUN server, HOST or HOST:PORT.
    pub(super) fn stun(&mut self, text: Option<&Spanned<String>>, auto: bool) -> Option<String> {
        let at = text?;
        let text = at.as_ref().strip_prefix("stun:").unwrap_or(at.as_ref());
        if !auto {
            self.problems.push(
                ConfigProblem::at(
                    &self.source,
                    at.span(),
                    "config::stun",
                    "server.stun is not asked, because server.public_ip is an address",
                )
                .help("remove one of them, or set public_ip = \"auto\"")
                .warning(),
            );
            return None;
        }
        if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Some(std::net::SocketAddr::new(ip, STUN_PORT).to_string());
        }
        let (host, port) = text.rsplit_once(':').map_or((text, None), |(h, p)| (h, Some(p)));
        let odd = |c: char| c.is_whitespace() || matches!(c, '/' | '@' | '?');
        let port = port.map_or(Some(STUN_PORT), |p| p.parse::<u16>().ok().filter(|p| *p != 0));
        match port.filter(|_| !host.is_empty() && !host.contains(odd)) {
            Some(port) => Some(format!("{host}:{port}")),
            None => {
                self.error(
                    at,
                    "config::stun",
                    format!("server.stun = {:?} is not HOST or HOST:PORT", at.as_ref()),
                    "write \"stun.example.com:3478\"",
                );
                None
            }
        }
    }
}
