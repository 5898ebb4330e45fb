//! The ports a firewall must let in.

use super::Config;

/// A range of ports: protocol, first, last, what for.
pub type OpenPorts = (&'static str, u16, u16, &'static str);

/// The ports on which others reach the gateway.
pub fn ports_of(config: &Config) -> Vec<OpenPorts> {
    let mut ports = vec![(
        "tcp",
        config.web_listen.port(),
        config.web_listen.port(),
        "page, API and SIP over WebSocket",
    )];
    let (first, workers) = (config.media.browser_port, config.media.workers as u16);
    if first != 0 {
        ports.push(("udp", first, first + workers.max(1) - 1, "media of browsers"));
        let own = if first == config.web_listen.port() { first + 1 } else { first };
        if config.media.ice_tcp && own < first + workers.max(1) {
            ports.push(("tcp", own, first + workers.max(1) - 1, "media of browsers without UDP"));
        }
    }
    ports.push(("udp", config.media.ports.0, config.media.ports.1, "media of trunks"));
    ports.extend(config.udp.map(|a| ("udp", a.port(), a.port(), "SIP")));
    ports.extend(config.tcp.map(|a| ("tcp", a.port(), a.port(), "SIP")));
    ports.extend(config.sip.tls.map(|a| ("tcp", a.port(), a.port(), "SIP over TLS")));
    ports
}
