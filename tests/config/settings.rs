//! Whole settings and what becomes of them: addresses, the cluster, the examples in the documents.

use crate::{GOOD, PLAN, check_mistake, problems};
use std::fs;
use std::path::Path;
use webtrunk::config::check::{load, parse_embedded};

/// An example with files that exist, in this folder, and secrets that are set; nothing else is
/// changed.
fn filled_in(text: &str, folder: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["calls.example.com".to_owned()]);
    let made = made.expect("a certificate");
    let files = [
        ("fullchain.pem", made.cert.pem()),
        ("privkey.pem", made.signing_key.serialize_pem()),
        ("ca.pem", made.cert.pem()),
    ];
    let text = files.iter().fold(text.to_owned(), |text, (name, pem)| {
        let path = folder.join(name);
        fs::write(&path, pem).expect("written");
        text.replace(&format!("\"{name}\""), &format!("\"{}\"", path.display()))
    });
    let parts: Vec<&str> = text.split("{ env = \"").collect();
    parts[1..].iter().fold(parts[0].to_owned(), |out, part| {
        out + "\"a-secret-that-is-long\"" + part.split_once("\" }").expect("it ends").1
    })
}

#[test]
fn the_examples_in_the_documents_and_in_the_folders_are_sound() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().expect("a folder");
    for (page, contexts) in [
        ("README.md", &["out"][..]),
        ("src/docs/reference/example.md", &["us-outbound", "from-carrier"]),
    ] {
        let text = fs::read_to_string(root.join(page)).expect("the page");
        let blocks: Vec<String> = text
            .split("```toml")
            .skip(1)
            .map(|b| b.split_once('\n').expect("a line").1)
            .map(|b| filled_in(b.split("```").next().expect("it ends"), folder.path()))
            .collect();
        assert_eq!(blocks.len(), 1 + contexts.len(), "{page}");
        let plans = contexts.iter().copied().zip(blocks[1..].iter().map(String::as_str));
        let (_, warnings) = parse_embedded(&blocks[0], &plans.collect::<Vec<_>>())
            .unwrap_or_else(|p| panic!("{page}: {p}"));
        assert!(warnings.0.is_empty(), "{page}: {warnings}");
    }
    let example =
        |name: &str| fs::read_to_string(root.join("dialplans").join(name)).expect("an example");
    let around = "[server]\ndomain = \"x\"\n[sip]\nudp = \":5060\"\n[user.alice]\npassword = \"long enough\"\ncontext = \"us-outbound\"\n[user.bob]\npassword = \"long enough\"\ncontext = \"us-outbound\"\n\
                  [user.demo]\npassword = \"long enough\"\ncontext = \"demo\"\n[trunk.carrier]\nuri = \"sip:192.0.2.1\"\ncontext = \"from-carrier\"\n[trunk.fallback]\nuri = \"sip:192.0.2.2\"\n\
                  [trunk.loopback]\nuri = \"sip:127.0.0.1:5070\"\ncontext = \"far-end\"\n";
    let names = ["us-outbound", "from-carrier", "demo", "far-end"];
    let texts: Vec<String> = names.iter().map(|n| example(&format!("{n}.toml"))).collect();
    let all: Vec<(&str, &str)> =
        names.iter().copied().zip(texts.iter().map(String::as_str)).collect();
    let (_, warnings) = parse_embedded(around, &all).unwrap_or_else(|p| panic!("{p}"));
    assert!(warnings.0.is_empty(), "{warnings}");
    assert!(texts.iter().all(|t| t.contains("[[case]]")), "each example has its own cases");
    for file in [
        "interop/chromium/webtrunk.toml",
        "interop/chromium/webtrunk-tls.toml",
        "interop/docker/webtrunk.toml",
    ] {
        // Certificates are made when the suite runs.
        let found = match load(&root.join(file)) {
            Ok((_, warnings)) => warnings,
            Err(problems) => problems,
        };
        // Its passwords are short, one Asterisk is several trunks, and a container's address is not
        // here.
        let meant = ["config::tls", "config::allow", "config::password", "config::address"];
        let other: Vec<_> = found.0.iter().filter(|p| !meant.contains(&p.code)).collect();
        assert!(other.is_empty(), "{found}");
    }
}

fn with(server: &str, media: &str, trunk: &str) -> Result<webtrunk::config::Config, String> {
    let text = format!(
        "[server]\ndomain = \"x\"\n{server}\n[sip]\nudp = \":5060\"\n[media]\n{media}\n\
         [trunk.t]\nuri = \"sip:192.0.2.10\"\n{trunk}\n"
    );
    let folder = std::path::Path::new("/nonexistent");
    webtrunk::config::check::parse("webtrunk.toml", &text, folder)
        .map(|(config, warnings)| {
            assert!(!warnings.is_fatal());
            config
        })
        .map_err(|problems| problems.to_string())
}

#[test]
fn a_whole_private_network_may_be_allowed_and_no_such_part_of_the_public_ones() {
    for net in ["10.0.0.0/8", "fd00::/8", "fc00::/7", "2001::/16"] {
        let config = with("", "", &format!("allow = [\"{net}\"]")).expect(net);
        assert_eq!(config.trunks["t"].allow, [net.parse().expect("a network")]);
    }
    for net in ["0.0.0.0/7", "f000::/4", "fe00::/7", "2000::/8"] {
        let why = with("", "", &format!("allow = [\"{net}\"]")).expect_err(net);
        assert!(why.contains("a large part of all addresses"), "{net}: {why}");
    }
}

#[test]
fn the_settings_of_addresses_are_read_and_their_mistakes_reported() {
    let ip = |text: &str| text.parse::<std::net::IpAddr>().expect("an address");
    let config = with(
        "stun = \"stun.example.com\"",
        "bind = \"127.0.0.1\"\npublic_ip = \"203.0.113.7\"",
        "public_ip = \"10.0.0.2\"\nnat = true",
    )
    .expect("sound");
    assert!(config.public_auto && config.stun.as_deref() == Some("stun.example.com:3478"));
    assert_eq!(config.media.bind, Some(ip("127.0.0.1")));
    assert_eq!(config.browser_ips(), [ip("203.0.113.7")]);
    let trunk = &config.trunks["t"];
    assert_eq!((trunk.public_ip, trunk.nat), (Some(ip("10.0.0.2")), true));
    assert!(!trunk.nat_signalling);
    let registers = "accepts_registration = true\nusername = \"u\"\npassword = \"p-of-the-pbx\"\n";
    let config = with("", "", &format!("{registers}nat = \"signalling\"")).expect("sound");
    assert!(config.trunks["t"].nat && config.trunks["t"].nat_signalling);
    for (server, media, trunk, said) in [
        ("", "bind = \"192.0.2.77\"", "", "cannot be bound"),
        ("", "bind = \"eth0\"", "", "is not an IP address"),
        ("", "public_ip = \"0.0.0.0\"", "", "is no address that a peer can send to"),
        ("public_ip = \"::\"", "", "", "is no address that a peer can send to"),
        ("", "", "public_ip = \"host.example\"", "is not an IP address"),
        ("stun = \"http://stun.example.com\"", "", "", "is not HOST or HOST:PORT"),
        ("", "", "nat = \"signalling\"", "proves who it is"),
        ("", "", "nat = \"always\"", "is not known"),
    ] {
        let reported = with(server, media, trunk).expect_err(said);
        let flat = reported.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(said) && flat.contains("help:"), "{said} is not in\n{reported}");
    }
}

const CLUSTER: &str = "[cluster]\nnode = \"a\"\nstore = \"rediss://redis.example\"\nkey = \"0123456789abcdef0123456789abcdef\"\nadvertise = \"192.0.2.1:5071\"\n";

#[test]
fn the_settings_of_a_cluster_are_read_and_their_mistakes_told() {
    let good = format!("{GOOD}{CLUSTER}");
    let (config, warnings) = parse_embedded(&good, &[("phones", PLAN)]).expect("sound");
    assert!(warnings.0.is_empty(), "{warnings}");
    let cluster = config.cluster.expect("one");
    assert_eq!((cluster.node.as_str(), cluster.listen.port()), ("a", 5_071));
    assert_eq!(cluster.advertise.to_string(), "192.0.2.1:5071");
    assert_eq!(cluster.store.urls, ["rediss://redis.example"]);
    for (from, to, code, line, fix) in [
        ("node = \"a\"", "node = \"a b\"", "config::name", 11, "letters, digits"),
        ("rediss://redis.example", "redis", "config::cluster", 12, "redis://HOST:6379"),
        ("rediss://redis.example", "http://redis", "config::cluster", 12, "redis://HOST:6379"),
        ("rediss://redis.example", "redis://redis.example", "config::cluster", 12, "rediss://"),
        ("rediss://redis.", "rediss://me:word@redis.", "config::cluster", 12, "cluster.password"),
        (
            "\"rediss://redis.example\"",
            "[\"rediss://a\", \"rediss://b\"]",
            "config::cluster",
            12,
            "cluster.sentinel",
        ),
        ("rediss://redis.example", "rediss://::1:6379", "config::cluster", 12, "redis://HOST:6379"),
        (
            "\"rediss://redis.example\"",
            "[\"rediss://a\", \"redis://localhost\"]\nsentinel = \"main\"",
            "config::cluster",
            12,
            "for all of them",
        ),
        ("\"rediss://redis.example\"", "[]", "config::cluster", 12, "name the sentinels"),
        ("key = \"0123456789", "key = \"", "config::secret", 13, "openssl rand"),
        ("192.0.2.1:5071", "0.0.0.0:5071", "config::address", 14, "192.0.2.1:5071"),
        ("192.0.2.1:5071", "node-a:5071", "config::address", 14, "192.0.2.1:5071"),
        ("192.0.2.1:5071", "127.0.0.1:5071", "config::cluster", 10, "cluster.advertise"),
        ("advertise = \"192.0.2.1:5071\"", "", "config::cluster", 10, "192.0.2.1:5071"),
        ("advertise", "listen = \":5060\"\nadvertise", "", 0, ""),
        ("advertise", "listen = \"[::]:5060\"\nadvertise", "", 0, ""),
        ("advertise", "listen = \"127.0.0.1:5071\"\nadvertise", "config::cluster", 10, "[::]"),
        ("192.0.2.1:5071", "2001:db8::1", "config::cluster", 10, "[::]:5071"),
        ("node = ", "ca = \"none.pem\"\nnode = ", "config::tls", 11, "PEM file"),
    ] {
        let bad = format!("{GOOD}{}", CLUSTER.replacen(from, to, 1));
        assert_ne!(bad, good, "{from}");
        let found = problems(&bad, PLAN);
        if code.is_empty() {
            // UDP and TCP do not meet.
            assert!(found.is_empty(), "{to}: {found:#?}");
        } else {
            check_mistake(&found, &(from, to, code, line, fix));
        }
    }
    let taken = good.replace("udp = \":5060\"", "udp = \":5060\"\ntcp = \":5071\"");
    let found = problems(&taken, PLAN);
    assert!(found.iter().any(|p| p.message.contains("cluster.listen")), "{found:#?}");
    // What it shows holds no secret.
    let shown = format!("{:?}", parse_embedded(&good, &[("phones", PLAN)]).expect("sound").0);
    assert!(!shown.contains("0123456789abcdef"), "the key is not shown");
}

/// Files as people and their tools leave them: the text counts, and what is no text is told.
#[test]
fn a_file_is_read_as_it_was_saved_or_says_how_to_save_it() {
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path();
    let plans = folder.join("dialplans");
    fs::create_dir_all(&plans).expect("a folder");
    let (file, plan) = (folder.join("webtrunk.toml"), plans.join("phones.toml"));
    let utf16 = |text: &str| -> Vec<u8> {
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
    };
    let windows = |text: &str| format!("\u{feff}{}", text.replace('\n', "\r\n")).into_bytes();
    let latin1 = |text: &str| [b"# caf\xe9\n", text.as_bytes()].concat();
    // What editors and other systems put beside it.
    for other in
        [".phones.toml.swp", "._phones.toml", ".#phones.toml", "phones.toml~", "phones.bak"]
    {
        fs::write(plans.join(other), b"\x00\x05\x16\x07 no dialplan").expect("written");
    }
    for (main, plan_text, said) in [
        (windows(GOOD), windows(PLAN), None),
        (GOOD.as_bytes().to_vec(), [PLAN.as_bytes(), b"# \xe2\x98\x8e"].concat(), None),
        (
            latin1(GOOD),
            PLAN.as_bytes().to_vec(),
            Some("line 1 has a byte that is not UTF-8 (0xE9)"),
        ),
        (utf16(GOOD), PLAN.as_bytes().to_vec(), Some("is UTF-16: save it as UTF-8")),
        (GOOD.as_bytes().to_vec(), utf16(PLAN), Some("is UTF-16: save it as UTF-8")),
        (
            GOOD.as_bytes().to_vec(),
            [PLAN.as_bytes(), b"\n# \xfc\n"].concat(),
            Some("line 7 has a byte that is not UTF-8 (0xFC)"),
        ),
        (Vec::new(), PLAN.as_bytes().to_vec(), Some("server.domain is missing")),
        (b"[general]\nbindport=5060\n".to_vec(), PLAN.as_bytes().to_vec(), Some("general")),
        (b"<?xml version=\"1.0\"?>\n".to_vec(), PLAN.as_bytes().to_vec(), Some("config::")),
        (b"server:\n  domain: x\n".to_vec(), PLAN.as_bytes().to_vec(), Some("config::")),
        (b"{\"server\":{}}".to_vec(), PLAN.as_bytes().to_vec(), Some("config::")),
    ] {
        fs::write(&file, &main).expect("written");
        fs::write(&plan, &plan_text).expect("written");
        let told = match load(&file) {
            Ok((_, warnings)) => warnings.0,
            Err(problems) => problems.0,
        };
        let errors: Vec<_> = told.iter().filter(|p| !p.warning).collect();
        let hit =
            |said: &str| errors.iter().any(|p| p.message.contains(said) || p.code.contains(said));
        assert_eq!(errors.is_empty(), said.is_none(), "{said:?}: {told:#?}");
        assert!(said.is_none_or(hit), "{said:?}: {told:#?}");
    }
    let missing = load(&folder.join("none.toml")).expect_err("there is none");
    assert!(missing.0[0].help.contains("webtrunk init"));
    assert!(load(folder).expect_err("a folder").0[0].message.contains("cannot be read"));
    // A secret of its own file, saved in the same ways.
    fs::write(&plan, PLAN).expect("written");
    fs::write(folder.join("secret"), b"\xef\xbb\xbfa long secret\r\n").expect("written");
    let with = GOOD.replace("\"long enough\"", "{ file = \"secret\" }");
    fs::write(&file, with).expect("written");
    let (config, _) = load(&file).unwrap_or_else(|p| panic!("{p}"));
    assert_eq!(config.users["alice"].password.reveal(), "a long secret");
    // A weak one is weak wherever it stands.
    fs::write(folder.join("secret"), "12345678\n").expect("written");
    let (_, warnings) = load(&file).unwrap_or_else(|p| panic!("{p}"));
    assert!(warnings.0.iter().any(|p| p.code == "config::password"), "{warnings}");
}
