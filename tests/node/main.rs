//! Whole nodes over real sockets: fifty calls by the webrtc crate, the web port's door, survival of
//! bad messages.

mod fifty;
mod misuse;
mod web;
mod wire;

use std::net::SocketAddr;
use webtrunk::config::check::parse_embedded;
use webtrunk::node::Node;

pub(crate) const PASSWORD: &str = "secret";

/// A node whose number `+X.` goes to `trunk`, and whose trunk may be anything on loopback.
pub async fn phone(trunk: SocketAddr) -> Node {
    phone_with(trunk, "").await
}

/// As [`phone`], with more limits.
pub async fn phone_with(trunk: SocketAddr, limits: &str) -> Node {
    let text = format!(
        "[server]\ndomain = \"wt.test\"\npublic_ip = \"127.0.0.9\"\n[web]\nlisten = \"127.0.0.1:0\"\norigins = [\"https://shop.example\"]\n[sip]\nudp = \"127.0.0.1:0\"\n\
         [media]\nbrowser_port = 0\nworkers = 2\nports = \"22000-22999\"\n[limits]\ncalls_per_user = 100\nnew_calls_per_second = 1000\n{limits}\
         [user.alice]\npassword = \"{PASSWORD}\"\ncontext = \"phones\"\n[trunk.far]\nuri = \"sip:{trunk}\"\n"
    );
    let plan = "[[route]]\nname = \"out\"\nmatch = \"+X.\"\ndo = [{ dial = [\"trunk:far\"] }]\n[[route]]\nname = \"echo\"\nmatch = \"9196\"\ndo = [{ echo = true }]\n";
    let (config, _) = parse_embedded(&text, &[("phones", plan)]).unwrap_or_else(|p| panic!("{p}"));
    Node::start(config).await.expect("it starts")
}

/// A node that answers every call on its UDP port with an echo.
pub async fn far_end() -> Node {
    let text = "[server]\ndomain = \"far.test\"\npublic_ip = \"127.0.0.9\"\n[web]\nlisten = \"127.0.0.1:0\"\n[sip]\nudp = \"127.0.0.1:0\"\n\
                [media]\nbrowser_port = 0\nworkers = 1\nports = \"23000-23999\"\n[limits]\nnew_calls_per_second = 1000\n\
                [trunk.phone]\nuri = \"sip:127.0.0.1:5060\"\nallow = [\"127.0.0.1\"]\ncontext = \"in\"\n";
    let plan = "[[route]]\nname = \"echo\"\nmatch = \".\"\ndo = [{ echo = true }]\n";
    let (config, _) = parse_embedded(text, &[("in", plan)]).unwrap_or_else(|p| panic!("{p}"));
    Node::start(config).await.expect("it starts")
}
