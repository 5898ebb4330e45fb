//! How the nodes are configured.

use crate::shell::Addresses;
use crate::world::{NODES, PHONES};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use webtrunk::config::Config;
use webtrunk::config::check::parse_embedded;

/// What a carrier is that takes one registration.
pub(super) const CARRIER: &str = "register = true\nregister_once = true\nregister_expires = \"60s\"\n\
                       username = \"us\"\npassword = \"secret\"\n";

pub(super) fn config(node: usize, name: &str, trunk: &str, floats: bool) -> Arc<Config> {
    let address =
        if floats { format!("address = \"{}\"\n", Addresses::of(node)) } else { String::new() };
    let limit = |n| if n == 5 { "max_calls = 3\n" } else { "" };
    let user =
        |n| format!("[user.u{n}]\npassword = \"secret\"\ncontext = \"phones\"\n{}", limit(n));
    let users: String = (0..PHONES).map(user).collect();
    let text = format!(
        "[server]\ndomain = \"wt.test\"\npublic_ip = \"127.0.0.9\"\n[cluster]\nnode = \"{name}\"\n\
         store = \"redis://127.0.0.1\"\nkey = \"the key of the cluster, long enough\"\n\
         advertise = \"127.0.1.{node}:5071\"\n{address}[limits]\ncalls = 200\ncalls_per_user = 50\nnew_calls_per_second_per_user = 50\n{users}"
    );
    let plan: String = (0..PHONES)
        .map(|n| {
            format!(
                "[[route]]\nname = \"{n}\"\nmatch = \"10{n}\"\ndo = [{{ ring = [\"user:u{n}\"], timeout = \"20s\" }}]\n\
                 [[route]]\nname = \"u{n}\"\nmatch = \"u{n}\"\ndo = [{{ ring = [\"user:u{n}\"] }}]\n"
            )
        })
        .collect();
    let crowd: String = (0..12)
        .map(|n| format!("[user.x{n}]\npassword = \"secret\"\ncontext = \"phones\"\n"))
        .collect();
    let all: Vec<String> = (0..12).map(|n| format!("\"user:x{n}\"")).collect();
    let plan = format!(
        "{plan}[[route]]\nname = \"all\"\nmatch = \"199\"\ndo = [{{ ring = [{}] }}]\n",
        all.join(", ")
    );
    let plan = format!(
        "{plan}[[route]]\nname = \"out\"\nmatch = \"9X.\"\ndo = [{{ dial = [\"trunk:far\"] }}]\n"
    );
    let plan = format!(
        "{plan}[[route]]\nname = \"nobody\"\nmatch = \"109\"\ndo = [{{ ring = [\"user:x1\"] }}]\n"
    );
    let second: String = (0..PHONES)
        .map(|n| {
            format!(
                "[[route]]\nname = \"second {n}\"\nmatch = \"18{n}\"\ndo = [{{ ring = [\"user:x0\"] }}, {{ ring = [\"user:u{n}\"] }}]\n"
            )
        })
        .collect();
    let plan = format!("{plan}{second}");
    let own = trunk.split('[').next().unwrap_or_default();
    let calls = if own.contains("max_calls") { "" } else { "max_calls = 4\n" };
    let trunk_base = "[sip]\nudp = \"127.0.0.1:5060\"\n[trunk.far]\nuri = \"sip:127.0.0.77\"\ncontext = \"phones\"\n";
    let text = format!("{text}{crowd}{trunk_base}{calls}{trunk}");
    let (config, _) = parse_embedded(&text, &[("phones", &plan)]).unwrap_or_else(|p| panic!("{p}"));
    Arc::new(config)
}

pub(super) static CONFIGS: LazyLock<Vec<Arc<Config>>> =
    LazyLock::new(|| (0..NODES).map(|n| config(n, &format!("n{n}"), "", false)).collect());

pub(super) static FLOATING: LazyLock<Vec<Arc<Config>>> =
    LazyLock::new(|| (0..NODES).map(|n| config(n, &format!("n{n}"), "", true)).collect());

pub(super) fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 1, node as u8], 5071))
}
