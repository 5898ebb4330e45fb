//! Configuration errors name file, line, cause and fix, all at once; and what the documents and the
//! folders show is sound.

use std::fs;
use std::path::Path;
use webtrunk::config::check::{load, parse_embedded};
use webtrunk::config::{Config, Problem, Problems};

const GOOD: &str = "[server]\ndomain = \"x\"\n[sip]\nudp = \":5060\"\n[user.alice]\npassword = \"p\"\ncontext = \"phones\"\n[trunk.far]\nuri = \"sip:192.0.2.1\"\n";
const PLAN: &str = "country = \"US\"\n[[route]]\nname = \"A\"\nmatch = [\"+1555X.\", \"911\"]\ndo = [{ dial = [\"trunk:far\"] }]\n";

fn problems(config: &str, plan: &str) -> Vec<Problem> {
    let result: Result<(Config, Problems), Problems> = parse_embedded(config, &[("phones", plan)]);
    result.map_or_else(|p| p.0, |(_, warnings)| warnings.0)
}

#[test]
fn each_mistake_names_its_line_its_cause_and_its_fix() {
    assert!(problems(GOOD, PLAN).is_empty());
    for (from, to, code, line, fix) in [
        ("uri = ", "urii = ", "config::key", 9, "did you mean \"uri\"?"),
        ("domain = \"x\"", "domain = 5", "config::syntax", 2, "webtrunk schema config"),
        ("\":5060\"", "\"five\"", "config::address", 4, "write \":5060\""),
        (
            "password = \"p\"",
            "password = { env = \"NOT_SET_X\" }",
            "config::secret",
            6,
            "set it before the start",
        ),
        ("password = \"p\"", "password = \"\"", "config::secret", 6, "guards your telephone bill"),
        (
            "context = \"phones\"",
            "context = \"phone\"",
            "config::context",
            7,
            "did you mean \"phones\"?",
        ),
        ("sip:192.0.2.1", "sip:192.0.2.1;transport=sctp", "config::uri", 9, "use sip:"),
        (
            "uri = \"sip:192.0.2.1\"",
            "codecs = [\"pcmu\"]",
            "config::uri",
            8,
            "accepts_registration",
        ),
        (
            "\"sip:192.0.2.1\"",
            "\"sip:192.0.2.1\"\nregister = true",
            "config::digest",
            8,
            "add username and password",
        ),
        (
            "\"sip:192.0.2.1\"",
            "\"sip:192.0.2.1\"\n100rel = \"maybe\"",
            "config::word",
            10,
            "\"required\"",
        ),
        (
            "\"sip:192.0.2.1\"",
            "\"sip:192.0.2.1\"\nsession_timer = \"30s\"",
            "config::session_timer",
            10,
            "\"30m\"",
        ),
        (
            "\"sip:192.0.2.1\"",
            "\"sip:192.0.2.1\"\ntls = { ca = \"nowhere.pem\" }",
            "config::tls",
            10,
            "PEM file",
        ),
        ("\":5060\"", "\":5060\"\ntls = \":5061\"", "config::tls", 5, "certificate = {"),
        ("sip:192.0.2.1", "http//x", "config::uri", 9, "write \"sip:"),
        (
            "\"sip:192.0.2.1\"",
            "\"sip:192.0.2.1\"\ncodecs = [\"g729\"]",
            "config::codec",
            10,
            "known: opus, g722, pcmu, pcma",
        ),
        (
            "\"sip:192.0.2.1\"",
            "\"sip:192.0.2.1\"\nallow = [\"0.0.0.0/0\"]",
            "config::allow",
            10,
            "name the trunk's addresses",
        ),
        (
            "\"sip:192.0.2.1\"",
            "\"sip:192.0.2.1\"\nusername = \"u\"",
            "config::digest",
            8,
            "digest needs both",
        ),
        (
            "\"sip:192.0.2.1\"",
            "\"sip:192.0.2.1\"\nsrtp = \"maybe\"",
            "config::word",
            10,
            "use \"off\" or \"optional\" or \"required\"",
        ),
        (
            "\"sip:192.0.2.1\"",
            "\"sip:192.0.2.1\"\nsrtp = \"required\"",
            "config::srtp",
            10,
            "reach it by TLS",
        ),
        ("[sip]", "[media]\nports = \"9-8\"\n[sip]", "config::ports", 4, "write \"20000-29999\""),
        ("[sip]", "[events]\nhep = \"homer\"\n[sip]", "config::hep", 4, "udp:10.0.0.9:9060"),
        (
            "[sip]",
            "[events]\nwebhook = { url = \"http://x\", secret = \"0123456789abcdef\" }\n[sip]",
            "config::webhook",
            4,
            "https://",
        ),
        (
            "[sip]",
            "[events]\nwebhook = { url = \"https://x\", secret = \"short\" }\n[sip]",
            "config::secret",
            4,
            "openssl rand",
        ),
        ("[sip]", "[credentials]\nsecret = \"short\"\n[sip]", "config::secret", 4, "openssl rand"),
        ("[sip]", "[events]\ncdr = {}\n[sip]", "config::cdr", 4, "sqlite"),
        (
            "[sip]",
            "[auth.jwt]\njwks = \"nowhere.json\"\naudience = \"w\"\n[sip]",
            "config::jwks",
            4,
            "https URL",
        ),
        (
            "[sip]",
            "[auth.jwt]\njwks = \"http://x/jwks\"\naudience = \"w\"\n[sip]",
            "config::jwks",
            4,
            "allow_private",
        ),
        (
            "[sip]",
            "[auth.jwt]\njwks = \"https://x/jwks\"\naudience = \"w\"\ncontext = \"phone\"\n[sip]",
            "config::context",
            6,
            "did you mean \"phones\"?",
        ),
        (
            "[sip]",
            "[telemetry]\notlp = \"collector\"\n[sip]",
            "config::otlp",
            4,
            "http://127.0.0.1:4318",
        ),
        (
            "context = \"phones\"",
            "context = \"phones\"\ncallees = [\"+1.X\"]",
            "dialplan::pattern",
            8,
            "X is 0-9",
        ),
        ("[sip]", "[recorder]\nmemory = \"lots\"\n[sip]", "config::size", 4, "64MB"),
        (
            "[sip]",
            "[api.token.x]\nsha256 = \"abc\"\n[sip]",
            "config::token",
            4,
            "webtrunk api-token x",
        ),
        (
            "[sip]",
            "[limits]\nmax_duration = \"long\"\n[sip]",
            "config::duration",
            4,
            "write \"30s\"",
        ),
    ] {
        let found = problems(&GOOD.replace(from, to), PLAN);
        let hit =
            found.iter().find(|p| p.code == code).unwrap_or_else(|| panic!("{to}: {found:?}"));
        assert_eq!(hit.line(), Some(line), "{to}: {hit:?}");
        assert!(hit.help.contains(fix), "{to}: {}", hit.help);
        assert!(Problems(vec![hit.clone()]).to_string().contains("built-in"), "the file is named");
    }
    for (from, to, code, line, fix) in [
        ("trunk:far", "trunk:fra", "dialplan::trunk", 5, "did you mean \"far\"?"),
        ("trunk:far", "far", "dialplan::target", 5, "write \"trunk:NAME\""),
        ("+1555X.", "+1.X", "dialplan::pattern", 4, "X is 0-9"),
        ("\"US\"", "\"USA\"", "dialplan::country", 1, "two-letter"),
        (
            "dial = [\"trunk:far\"]",
            "dial = [\"trunk:far\"], hangup = 603",
            "dialplan::step",
            5,
            "one of dial",
        ),
        (
            "dial = [\"trunk:far\"]",
            "ring = [\"did:1\"], order = \"random\"",
            "dialplan::order",
            5,
            "\"in-turn\"",
        ),
        ("dial = [\"trunk:far\"]", "hangup = 200", "dialplan::hangup", 5, "603 declines"),
        ("dial = [\"trunk:far\"]", "play = \"nope.wav\"", "dialplan::play", 5, "relative"),
        ("do = ", "next_on = [\"sometimes\"]\ndo = ", "dialplan::next_on", 5, "silent:6s"),
        ("do = ", "region = [\"USA\"]\ndo = ", "dialplan::region", 5, "two-letter"),
        (
            "do = ",
            "require = \"international\"\ndo = ",
            "dialplan::require",
            5,
            "claims = [\"international\"]",
        ),
        ("do = ", "when = \"office\"\ndo = ", "dialplan::hours", 5, "hours.office ="),
        (
            "country",
            "hours.o = { tz = \"Mars/Base\", open = [] }\ncountry",
            "dialplan::hours",
            1,
            "Europe/Berlin",
        ),
        (
            "country",
            "hours.o = { tz = \"UTC\", open = [\"Mon 8-9\"] }\ncountry",
            "dialplan::hours",
            1,
            "Mon-Fri 08:00-18:00",
        ),
        (
            "dial = [\"trunk:far\"]",
            "goto = \"phone\"",
            "dialplan::goto",
            5,
            "did you mean \"phones\"?",
        ),
        // Warnings: what is allowed and probably not meant.
        ("+1555X.", "+1NXXNXXXXXX", "dialplan::region", 4, "add region = [\"US\", \"CA\"]"),
        (
            "country",
            "[[case]]\ndial = \"912\"\nroute = \"A\"\n#",
            "dialplan::case",
            1,
            "top to bottom",
        ),
    ] {
        let plan = if code == "dialplan::case" {
            format!("{PLAN}[[case]]\ndial = \"912\"\nroute = \"A\"\n")
        } else {
            PLAN.replace(from, to)
        };
        let found = problems(GOOD, &plan);
        let hit =
            found.iter().find(|p| p.code == code).unwrap_or_else(|| panic!("{to}: {found:?}"));
        let (line, fix) =
            if code == "dialplan::case" { (6, "read from the top") } else { (line, fix) };
        assert_eq!(hit.line(), Some(line), "{to}: {hit:?}");
        assert!(hit.help.contains(fix), "{to}: {}", hit.help);
    }
}

#[test]
fn all_mistakes_are_told_at_once_and_secrets_are_not() {
    let bad = GOOD
        .replace("\":5060\"", "\"five\"")
        .replace("context = \"phones\"", "context = \"none\"")
        .replace("\"p\"", "\"hunter2\"")
        .replace("sip:192.0.2.1", "nothing");
    let found = problems(&bad, &PLAN.replace("trunk:far", "trunk:x").replace("US", "ZZ"));
    let mut codes: Vec<&str> = found.iter().map(|p| p.code).collect();
    codes.sort_unstable();
    assert_eq!(
        codes,
        [
            "config::address",
            "config::context",
            "config::uri",
            "dialplan::country",
            "dialplan::trunk"
        ]
    );
    assert!(
        !format!("{:?}", found.iter().map(|p| (&p.message, &p.help)).collect::<Vec<_>>())
            .contains("hunter2")
    );
}

#[test]
fn a_route_that_can_never_be_reached_is_a_warning() {
    let found = problems(
        GOOD,
        &format!(
            "{PLAN}[[route]]\nname = \"B\"\nmatch = \"+155500X.\"\ndo = [{{ hangup = 603 }}]\n"
        ),
    );
    assert!(
        found.len() == 1 && found[0].warning && found[0].code == "dialplan::unreachable",
        "{found:?}"
    );
    let shown = Problems(found).to_string();
    assert!(
        shown.contains("never tried") && shown.contains("\"A\" takes these calls first"),
        "both places are shown: {shown}"
    );
}

/// What routes further up leave: alone, together, by countries, claims and hours.
#[test]
fn several_routes_together_leave_nothing_to_one_below_them() {
    let route = |name: &str, pattern: &str, more: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\nmatch = \"{pattern}\"\n{more}\ndo = [{{ hangup = 603 }}]\n"
        )
    };
    let hours = "hours.day = { tz = \"UTC\", open = [\"daily 08:00-20:00\"] }\nhours.night = { tz = \"UTC\", open = [\"daily 20:00-08:00\"] }\n\
                 hours.noon = { tz = \"Europe/Berlin\", open = [\"Mon-Fri 11:00-13:00\"] }\nhours.most = { tz = \"UTC\", open = [\"daily 08:00-20:00\"], closed = [\"2026-12-25\"] }\n";
    for (above, below, reached) in [
        (vec![route("A", "9[0-4]", ""), route("B", "9[5-9]", "")], route("C", "9X", ""), false),
        (vec![route("A", "9[0-4]", ""), route("B", "9[6-9]", "")], route("C", "9X", ""), true),
        (vec![route("A", "9X", "when = \"day\"")], route("C", "9X", ""), true),
        (
            vec![route("A", "9X", "when = \"day\""), route("B", "9X", "when = \"night\"")],
            route("C", "9X", ""),
            false,
        ),
        (
            vec![route("A", "9X", "when = \"most\""), route("B", "9X", "when = \"night\"")],
            route("C", "9X", ""),
            true,
        ),
        (vec![route("A", "9X", "when = \"day\"")], route("C", "9X", "when = \"day\""), false),
        (vec![route("A", "9X", "when = \"day\"")], route("C", "9X", "when = \"noon\""), false),
        (vec![route("A", "9X", "when = \"noon\"")], route("C", "9X", "when = \"day\""), true),
        (
            vec![route("A", "+4X.", "region = [\"GB\", \"DE\"]")],
            route("C", "+44X.", "region = [\"GB\"]"),
            false,
        ),
        (
            vec![route("A", "+4X.", "region = [\"GB\"]")],
            route("C", "+44X.", "region = [\"GB\", \"JE\"]"),
            true,
        ),
        (vec![route("A", "+4X.", "region = [\"GB\"]")], route("C", "+44X.", ""), true),
        (vec![route("A", "9X", "require = \"user.a\"")], route("C", "9X", ""), true),
        (
            vec![route("A", "9X", "require = \"user.a\"")],
            route("C", "9X", "require = [\"user.a\", \"user.b\"]"),
            false,
        ),
    ] {
        let found = problems(GOOD, &format!("{hours}{}{below}", above.concat()));
        let unreachable = found.iter().filter(|p| p.code == "dialplan::unreachable").count();
        assert_eq!(unreachable == 0, reached, "{above:?}\n{below}\n{found:?}");
    }
}

/// An example with files that exist and secrets that are set; nothing else is changed.
fn filled_in(text: &str) -> String {
    let files = ["fullchain.pem", "privkey.pem", "ca.pem"];
    let text = files
        .iter()
        .fold(text.to_owned(), |text, name| text.replace(&format!("\"{name}\""), "\"Cargo.toml\""));
    let parts: Vec<&str> = text.split("{ env = \"").collect();
    parts[1..].iter().fold(parts[0].to_owned(), |out, part| {
        out + "\"a-secret-that-is-long\"" + part.split_once("\" }").expect("it ends").1
    })
}

#[test]
fn the_examples_in_the_documents_and_in_the_folders_are_sound() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (page, contexts) in [
        ("README.md", &["out"][..]),
        ("src/docs/reference/example.md", &["us-outbound", "from-carrier"]),
    ] {
        let text = fs::read_to_string(root.join(page)).expect("the page");
        let blocks: Vec<String> = text
            .split("```toml")
            .skip(1)
            .map(|b| b.split_once('\n').expect("a line").1)
            .map(|b| filled_in(b.split("```").next().expect("it ends")))
            .collect();
        assert_eq!(blocks.len(), 1 + contexts.len(), "{page}");
        let plans = contexts.iter().copied().zip(blocks[1..].iter().map(String::as_str));
        let (_, warnings) = parse_embedded(&blocks[0], &plans.collect::<Vec<_>>())
            .unwrap_or_else(|p| panic!("{page}: {p}"));
        assert!(warnings.0.is_empty(), "{page}: {warnings}");
    }
    let example =
        |name: &str| fs::read_to_string(root.join("dialplans").join(name)).expect("an example");
    let around = "[server]\ndomain = \"x\"\n[sip]\nudp = \":5060\"\n[user.alice]\npassword = \"p\"\ncontext = \"us-outbound\"\n[user.bob]\npassword = \"p\"\ncontext = \"us-outbound\"\n\
                  [user.demo]\npassword = \"p\"\ncontext = \"demo\"\n[trunk.carrier]\nuri = \"sip:192.0.2.1\"\ncontext = \"from-carrier\"\n[trunk.fallback]\nuri = \"sip:192.0.2.2\"\n\
                  [trunk.loopback]\nuri = \"sip:127.0.0.1\"\ncontext = \"far-end\"\n";
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
        // Certificates are made when the suite runs; everything else must be sound.
        let found = match load(&root.join(file)) {
            Ok((_, warnings)) => warnings,
            Err(problems) => problems,
        };
        let other: Vec<_> = found.0.iter().filter(|p| p.code != "config::tls").collect();
        assert!(other.is_empty(), "{found}");
    }
}

#[test]
fn a_dialplan_that_reaches_the_network_and_no_help_is_told() {
    let found = problems(GOOD, &PLAN.replace(", \"911\"", ""));
    let hit = found
        .iter()
        .find(|p| p.code == "dialplan::emergency")
        .unwrap_or_else(|| panic!("{found:?}"));
    assert!(hit.help.contains("add a route for \"911\""), "{}", hit.help);
    let german = PLAN.replace("\"US\"", "\"DE\"").replace("911", "112");
    assert!(problems(GOOD, &german).is_empty());
    assert!(
        problems(GOOD, &PLAN.replace("dial = [\"trunk:far\"]", "hangup = 603").replace("911", "1"))
            .is_empty(),
        "who dials nobody needs none"
    );
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
fn the_settings_of_addresses_are_read_and_their_mistakes_told() {
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
        let told = with(server, media, trunk).expect_err(said);
        let flat = told.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(said) && flat.contains("help:"), "{said} is not in\n{told}");
    }
}
