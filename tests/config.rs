//! Configuration errors name file, line, cause and fix, all at once; and what the documents and the
//! folders show is sound.

use std::fs;
use std::path::Path;
use webtrunk::config::check::{load, parse_embedded};
use webtrunk::config::{Config, ConfigProblem, Problems};

const GOOD: &str = "[server]\ndomain = \"x\"\n[sip]\nudp = \":5060\"\n[user.alice]\npassword = \"long enough\"\ncontext = \"phones\"\n[trunk.far]\nuri = \"sip:192.0.2.1\"\n";
/// What is given as text has no folder, so nothing is kept.
#[test]
fn the_demo_keeps_no_state() {
    let (config, _) = parse_embedded(GOOD, &[("phones", PLAN)]).expect("sound");
    assert_eq!(config.state_dir, None);
}

const PLAN: &str = "country = \"US\"\n[[route]]\nname = \"A\"\nmatch = [\"+1555X.\", \"911\"]\ndo = [{ dial = [\"trunk:far\"] }]\n";

fn problems(config: &str, plan: &str) -> Vec<ConfigProblem> {
    let result: Result<(Config, Problems), Problems> = parse_embedded(config, &[("phones", plan)]);
    result.map_or_else(|p| p.0, |(_, warnings)| warnings.0)
}

/// A mistake: what is replaced by what, and the code, the line and part of the fix it is told by.
type Mistake = (&'static str, &'static str, &'static str, usize, &'static str);

/// Mistakes in `webtrunk.toml`.
const IN_THE_FILE: &[Mistake] = &[
    ("uri = ", "urii = ", "config::key", 9, "did you mean \"uri\"?"),
    ("domain = \"x\"", "domain = 5", "config::syntax", 2, "webtrunk schema config"),
    ("\":5060\"", "\"five\"", "config::address", 4, "write \":5060\""),
    (
        "password = \"long enough\"",
        "password = { env = \"NOT_SET_X\" }",
        "config::secret",
        6,
        "set it before the start",
    ),
    (
        "password = \"long enough\"",
        "password = \"\"",
        "config::secret",
        6,
        "guards your telephone bill",
    ),
    (
        "context = \"phones\"",
        "context = \"phone\"",
        "config::context",
        7,
        "did you mean \"phones\"?",
    ),
    ("sip:192.0.2.1", "sip:192.0.2.1;transport=sctp", "config::uri", 9, "use sip:"),
    ("uri = \"sip:192.0.2.1\"", "codecs = [\"pcmu\"]", "config::uri", 8, "accepts_registration"),
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
    ("[sip]", "[api.token.x]\nsha256 = \"abc\"\n[sip]", "config::token", 4, "webtrunk api-token x"),
    ("[sip]", "[limits]\nmax_duration = \"long\"\n[sip]", "config::duration", 4, "write \"30s\""),
    ("domain = \"x\"", "domain = \"https://x\"", "config::domain", 2, "no scheme"),
    ("domain = \"x\"", "domain = \"x:5060\"", "config::domain", 2, "no port"),
    ("domain = \"x\"", "domain = \"x/sip\"", "config::domain", 2, "no path"),
    ("domain = \"x\"", "domain = \"sip:x\"", "config::domain", 2, "the name alone"),
    ("domain = \"x\"", "domain = \"\"", "config::domain", 2, "the name alone"),
    ("domain = \"x\"", "domain = \"a b\"", "config::domain", 2, "the name alone"),
    ("domain = \"x\"", "domain = \"u@x\"", "config::domain", 2, "the name alone"),
    ("domain = \"x\"", "domain = \"x\"\npublic_ip = \"1.2.3\"", "config::address", 3, "auto"),
    ("domain = \"x\"", "domain = \"x\"\ndrain_timeout = \"1x\"", "config::duration", 3, "30s"),
    ("domain = \"x\"", "domian = \"x\"", "config::key", 2, "did you mean \"domain\"?"),
    ("[sip]", "[web]\norigins = [\"https://a.b/\"]\n[sip]", "config::origin", 4, "port only"),
    ("[sip]", "[web]\norigins = [\"https://a.b/x\"]\n[sip]", "config::origin", 4, "port only"),
    ("[sip]", "[web]\norigins = [\"a.b\"]\n[sip]", "config::origin", 4, "write scheme"),
    ("[sip]", "[web]\norigins = [\"ftp://a.b\"]\n[sip]", "config::origin", 4, "write scheme"),
    ("[sip]", "[web]\norigins = [\"https://\"]\n[sip]", "config::origin", 4, "write scheme"),
    ("[sip]", "[web]\norigins = [\"*\"]\n[sip]", "config::origin", 4, "write scheme"),
    ("[sip]", "[web]\norigins = [\"https://*.b\"]\n[sip]", "config::origin", 4, "write scheme"),
    ("[sip]", "[web]\norigins = [\"https://A.b\"]\n[sip]", "config::origin", 4, "write scheme"),
    ("[sip]", "[web]\norigins = [\"https://a.b:443\"]\n[sip]", "config::origin", 4, "port only"),
    ("[sip]", "[web]\norigins = [\"http://a.b:80\"]\n[sip]", "config::origin", 4, "port only"),
    ("[sip]", "[web]\norigins = [\"https://[::1]:443\"]\n[sip]", "config::origin", 4, "port only"),
    ("[sip]", "[web]\norigins = [\"https://a.b:\"]\n[sip]", "config::origin", 4, "port only"),
    ("[sip]", "[web]\norigins = [\"https://a.b:99999\"]\n[sip]", "config::origin", 4, "port only"),
    ("[sip]", "[web]\norigins = [\"https://a.b:x\"]\n[sip]", "config::origin", 4, "port only"),
    ("[sip]", "[web]\norigins = [\"https://müller.b\"]\n[sip]", "config::origin", 4, "port only"),
    ("[sip]", "[web]\nlisten = \"8088\"\n[sip]", "config::address", 4, "\":5060\""),
    ("[sip]", "[web]\ntls = \"on\"\n[sip]", "config::tls", 4, "\"local\""),
    ("\":5060\"", "\":5060\"\ntcp = \":8088\"", "config::port", 5, "another port"),
    ("[sip]", "[web]\nlisten = \":5061\"\n[sip]\ntcp = \":5061\"", "config::port", 4, "another"),
    ("\":5060\"", "\":8088\"", "config::port", 4, "another port"),
    ("\":5060\"", "\":20001\"", "config::port", 4, "another port"),
    ("[sip]", "[media]\nports = \"5000-6000\"\n[sip]", "config::port", 4, "another port"),
    ("[sip]", "[media]\nbrowser_port = 5060\n[sip]", "config::port", 6, "another port"),
    ("[sip]", "[media]\nbrowser_port = 20005\n[sip]", "config::port", 0, "another port"),
    ("[sip]", "[metrics]\nlisten = \":8088\"\n[sip]", "config::port", 4, "another port"),
    ("[sip]", "[metrics]\nlisten = \"127.0.0.1:8088\"\n[sip]", "config::port", 4, "another"),
    (
        "[sip]",
        "[media]\nbrowser_port = 9000\n[metrics]\nlisten = \":9000\"\n[sip]",
        "config::port",
        6,
        "another port",
    ),
    ("\":5060\"", "\"192.0.2.77:5060\"", "config::address", 4, "every address"),
    ("\":5060\"", "\":5060\"\nsession_timer = \"x\"", "config::duration", 5, "30s"),
    ("\":5060\"", "\":5060\"\nflow_grace = \"soon\"", "config::duration", 5, "30s"),
    ("[sip]", "[media]\ntimeout = \"4s\"\n[sip]", "config::range", 4, "5s"),
    ("[sip]", "[media]\ntimeout = \"never\"\n[sip]", "config::duration", 4, "30s"),
    ("[sip]", "[media]\nhold_timeout = \"2d\"\n[sip]", "config::range", 4, "1day"),
    ("[sip]", "[media]\nstopped_after = \"0s\"\n[sip]", "config::range", 4, "1s"),
    ("[sip]", "[media]\nask_every = \"off\"\n[sip]", "config::duration", 4, "30s"),
    ("[sip]", "[media]\nanswer_within = \"33s\"\n[sip]", "config::range", 4, "32s"),
    (
        "\":5060\"",
        "\":5060\"\ncertificate = { cert = \"a\", key = \"b\" }",
        "config::tls",
        5,
        "PEM file",
    ),
    ("\"phones\"", "\"phones\"\ndid = \"(206) 555-0123\"", "config::did", 8, "E.164"),
    ("\"phones\"", "\"phones\"\ndid = \"\"", "config::did", 8, "E.164"),
    ("\"phones\"", "\"phones\"\ndid = \"2065550123\"", "config::did", 8, "E.164"),
    ("\"phones\"", "\"phones\"\ndid = \"+0206555012\"", "config::did", 8, "E.164"),
    ("\"phones\"", "\"phones\"\ndid = \"+12\"", "config::did", 8, "E.164"),
    ("\"phones\"", "\"phones\"\nnumbers = [\"12-34\"]", "config::did", 8, "E.164"),
    (
        "[trunk",
        "did = \"+12065550123\"\n[user.bob]\npassword = \"a long one\"\ncontext = \
        \"phones\"\ndid = \"+12065550123\"\n[trunk",
        "config::did",
        12,
        "from one of the two",
    ),
    (
        "[trunk",
        "did = \"+12065550123\"\n[user.bob]\npassword = \"a long one\"\ncontext = \
        \"phones\"\nnumbers = [\"+12065550123\"]\n[trunk",
        "config::did",
        12,
        "of the two",
    ),
    ("\"long enough\"", "\"short\"", "config::password", 6, "openssl rand"),
    ("\"long enough\"", "\"12345678\"", "config::password", 6, "openssl rand"),
    ("\"long enough\"", "\"Password\"", "config::password", 6, "openssl rand"),
    ("\"long enough\"", "\"P@ssw0rd2026!\"", "config::password", 6, "openssl rand"),
    ("\"long enough\"", "\"alice2026\"", "config::password", 6, "openssl rand"),
    ("\"long enough\"", "\"11111111\"", "config::password", 6, "openssl rand"),
    ("\"long enough\"", "\"1q2w3e4r5t\"", "config::password", 6, "openssl rand"),
    (
        "\"long enough\"",
        "\"2065550123\"\ndid = \"+12065550123\"",
        "config::password",
        6,
        "openssl rand",
    ),
    ("\"long enough\"", "{ file = \"nowhere\" }", "config::secret", 6, "before the start"),
    ("\"long enough\"", "{ env = 5 }", "config::syntax", 6, "webtrunk schema config"),
    (
        "[user.alice]",
        "[user.alicealice]\ncontext = \"phones\"\npassword = \"AliceAlice\"\n\
        [user.alice]",
        "config::password",
        7,
        "openssl rand",
    ),
    ("\"sip:192.0.2.1\"", "\"sip:192.0.2.1\"\nstopped_after = \"6m\"", "config::range", 10, "5m"),
    (
        "\"sip:192.0.2.1\"",
        "\"sip:192.0.2.1\"\nallow = [\"0.0.0.0/1\", \"128.0.0.0/1\"]",
        "config::allow",
        10,
        "name the trunk's addresses",
    ),
    ("\"long enough\"", "\"          \"", "config::secret", 6, "guards your telephone bill"),
    (
        "\"sip:192.0.2.1\"",
        "\"sip:192.0.2.1\"\nallow = [\"192.0.2.1/33\"]",
        "config::allow",
        10,
        "192.0.2.12/32",
    ),
    (
        "\"sip:192.0.2.1\"",
        "\"sip:192.0.2.1\"\nallow = [\"192.0.2\"]",
        "config::allow",
        10,
        "192.0.2.12/32",
    ),
    (
        "\"sip:192.0.2.1\"",
        "\"sip:192.0.2.1\"\nallow = [\"carrier.example\"]",
        "config::allow",
        10,
        "192.0.2.12/32",
    ),
    (
        "\"sip:192.0.2.1\"",
        "\"sip:192.0.2.1\"\nmedia = [\"10.0.0.0/40\"]",
        "config::allow",
        10,
        "192.0.2.12/32",
    ),
    (
        "\"sip:192.0.2.1\"",
        "\"sip:192.0.2.1\"\nallow = [\"192.0.2.0/24\"]\n[trunk.near]\n\
        uri = \"sip:192.0.2.9\"\nallow = [\"192.0.2.9\"]",
        "config::allow",
        13,
        "of its own",
    ),
    (
        "\"sip:192.0.2.1\"",
        "\"sip:192.0.2.1\"\nallow = [\"2001:db8::/32\"]\n[trunk.near]\n\
        uri = \"sip:192.0.2.9\"\nallow = [\"2001:db8::1\"]",
        "config::allow",
        13,
        "of its own",
    ),
    (
        "\"sip:192.0.2.1\"",
        "\"sip:sip.carrier.example\"\ncontext = \"phones\"",
        "config::allow",
        10,
        "its calls come from",
    ),
    (
        "\"sip:192.0.2.1\"",
        "\"sip:192.0.2.1\"\ncontext = \"out\"",
        "config::context",
        10,
        "contexts are the files",
    ),
    ("\"sip:192.0.2.1\"", "\"sip:192.0.2.1\"\npassword = \"x\"", "config::digest", 8, "both"),
    ("\"sip:192.0.2.1\"", "\"sip:192.0.2.1\"\nprobe = \"often\"", "config::duration", 10, "30s"),
    ("\"sip:192.0.2.1\"", "\"sip:192.0.2.1\"\ndtmf = \"sip\"", "config::word", 10, "\"info\""),
    ("\"sip:192.0.2.1\"", "\"sip:192.0.2.1\"\nrefer = \"yes\"", "config::word", 10, "\"pass\""),
    ("\"sip:192.0.2.1\"", "\"sip:192.0.2.1\"\nprefer = \"g711\"", "config::word", 10, "opus"),
    (
        "\"sip:192.0.2.1\"",
        "\"sip:192.0.2.1\"\ntls = { cert = \"Cargo.toml\" }",
        "config::tls",
        10,
        "needs both",
    ),
    (
        "\"sip:192.0.2.1\"",
        "\"sip:192.0.2.1\"\ntls = { ca = \"Cargo.toml\" }",
        "config::tls",
        10,
        "BEGIN CERTIFICATE",
    ),
    ("\":5060\"", "\":5060\"\nclient_ca = \"Cargo.toml\"", "config::tls", 5, "BEGIN CERTIFICATE"),
    (
        "[sip]",
        "[events]\ncdr = { file = \"no/such/cdr.jsonl\" }\n[sip]",
        "config::folder",
        4,
        "make the folder",
    ),
    (
        "[sip]",
        "[events]\ncdr = { sqlite = \"no/such/cdr.db\" }\n[sip]",
        "config::folder",
        4,
        "make the folder",
    ),
    (
        "[sip]",
        "[events]\ncdr = { file = \"Cargo.toml/cdr\" }\n[sip]",
        "config::folder",
        4,
        "make the folder",
    ),
    (
        "domain = \"x\"",
        "domain = \"x\"\nstate_dir = \"no/such/state\"",
        "config::state_dir",
        3,
        "name another folder",
    ),
    (
        "domain = \"x\"",
        "domain = \"x\"\nstate_dir = \"Cargo.toml\"",
        "config::state_dir",
        3,
        "name another folder",
    ),
    ("[sip]", "[events]\ncdr = { file = \"src\" }\n[sip]", "config::folder", 4, "make the folder"),
    ("[sip]", "[credentials]\nsecret = \"\"\n[sip]", "config::secret", 4, "openssl rand"),
    ("[sip]", "[limits]\ncalls = 5001\n[sip]", "config::ports", 4, "set media.ports"),
    ("[sip]", "[media]\nports = \"20000\"\n[sip]", "config::ports", 4, "from 1024 up"),
    ("[sip]", "[media]\nports = \"80-90\"\n[sip]", "config::ports", 4, "from 1024 up"),
    ("[sip]", "[media]\nworkers = 0\n[sip]", "config::workers", 4, "one per core"),
    ("[sip]", "[media]\ncomplexity = 11\n[sip]", "config::complexity", 4, ""),
    ("[sip]", "[media]\ncodecs = [\"g723\"]\n[sip]", "config::codec", 4, "known: opus"),
    (
        "[sip]",
        "[api.token.x]\nsha256 = \"HEX\"\nscope = \"root\"\n[sip]",
        "config::scope",
        5,
        "\"admin\"",
    ),
];

/// Mistakes in a dialplan.
const IN_THE_PLAN: &[Mistake] = &[
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
    (
        "dial = [\"trunk:far\"] }",
        "dial = [\"trunk:far\"] }, { answer = true, on = [\"bussy\"] }",
        "dialplan::on",
        5,
        "did you mean \"busy\"",
    ),
    (
        "dial = [\"trunk:far\"]",
        "answer = true, on = [\"busy\"]",
        "dialplan::on",
        5,
        "put ring or dial before it",
    ),
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
    ("dial = [\"trunk:far\"]", "goto = \"phone\"", "dialplan::goto", 5, "did you mean \"phones\"?"),
    // Warnings: what is allowed and probably not meant.
    ("+1555X.", "+1NXXNXXXXXX", "dialplan::region", 4, "add region = [\"US\", \"CA\"]"),
    ("trunk:far", "trunk:", "dialplan::trunk", 5, "known: far"),
    ("dial = [\"trunk:far\"]", "ring = [\"user:bob\"]", "dialplan::user", 5, "known: alice"),
    ("dial = [\"trunk:far\"]", "ring = [\"alice\"]", "dialplan::target", 5, "user:NAME"),
    ("dial = [\"trunk:far\"]", "ring = [\"did:{dialled}\"]", "dialplan::template", 5, "{number}"),
    (
        "dial = [\"trunk:far\"]",
        "dial = [\"trunk:far\"], to = \"{numbr}\"",
        "dialplan::template",
        5,
        "did you mean",
    ),
    ("do = ", "caller_id = \"{user.number}\"\ndo = ", "dialplan::template", 5, "{user.did}"),
    ("do = ", "caller_id = \"{user.dids}\"\ndo = ", "dialplan::template", 5, "did you mean"),
    ("do = ", "caller_id = \"{\"\ndo = ", "dialplan::template", 5, "{caller}"),
    ("dial = [\"trunk:far\"]", "goto = \"phones\"", "dialplan::goto", 5, "another context"),
    ("dial = [\"trunk:far\"]", "play = \"builtin:tunes\"", "dialplan::play", 5, "builtin:tune"),
    ("dial = [\"trunk:far\"]", "play = \"Cargo.toml\"", "dialplan::play", 5, "relative"),
    ("dial = [\"trunk:far\"]", "tone = 5", "dialplan::tone", 5, "telephone line"),
    ("dial = [\"trunk:far\"]", "echo = \"11s\"", "dialplan::echo", 5, "echo = true"),
    ("dial = [\"trunk:far\"]", "echo = false", "dialplan::echo", 5, "echo = true"),
    ("dial = [\"trunk:far\"]", "timeout = \"5s\"", "dialplan::step", 5, "one of dial"),
    ("dial = [\"trunk:far\"]", "webhook = \"https://x\"", "dialplan::webhook", 5, "secret ="),
    ("do = [{ dial = [\"trunk:far\"] }]", "do = []", "dialplan::do", 3, "add do"),
    ("do = ", "timeout = \"5\"\ndo = ", "config::duration", 5, "30s"),
    ("do = ", "next_on = [\"200\"]\ndo = ", "dialplan::next_on", 5, "silent:6s"),
    ("do = ", "require = \"user.\"\ndo = ", "dialplan::require", 5, "claims ="),
];

/// Values of the right kind that nothing works with.
const OUT_OF_RANGE: &[Mistake] = &[
    ("\"x\"", "\"x\"\ndrain_timeout = \"100000years\"", "config::range", 3, "7days"),
    ("\":5060\"", "\":5060\"\nflow_grace = \"0s\"", "config::range", 5, "1s"),
    ("\":5060\"", "\":5060\"\nsession_timer = \"200years\"", "config::range", 5, "1day"),
    ("[sip]", "[limits]\nmax_duration = \"0s\"\n[sip]", "config::range", 4, "30days"),
    ("[sip]", "[limits]\ncalls = 0\n[sip]", "config::range", 4, "1 to"),
    ("[sip]", "[limits]\ncalls_per_user = 20000\n[sip]", "config::range", 4, "0 to"),
    ("[sip]", "[limits]\ntext_size = \"1MB\"\n[sip]", "config::size", 4, "8kB"),
    ("[sip]", "[fraud]\ncountries_per_hour = 31\n[sip]", "config::range", 4, "0 to"),
    ("[sip]", "[fraud]\nhome = [\"USA\"]\n[sip]", "config::country", 4, "two-letter"),
    ("[sip]", "[limits]\nhandshakes_per_source = 0\n[sip]", "config::range", 4, "1 to 2048"),
    ("[sip]", "[limits]\nhandshakes_per_source = 2049\n[sip]", "config::range", 4, "1 to 2048"),
    ("[sip]", "[limits]\nnew_calls_per_second = 0\n[sip]", "config::range", 4, "1 to"),
    ("[sip]", "[recorder]\ncalls = 99999999999\n[sip]", "config::range", 4, "0 to"),
    ("[sip]", "[recorder]\nmemory = \"1kB\"\n[sip]", "config::size", 4, "64MB"),
    ("[sip]", "[media]\nbrowser_port = 65535\nworkers = 4\n[sip]", "config::range", 4, "65532"),
    ("[sip]", "[media]\nworkers = 4\nbrowser_port = 5058\n[sip]", "config::port", 7, "another"),
    ("[sip]", "[media]\ncodecs = [\"l16\"]\n[sip]", "config::codec", 4, "opus"),
    ("[sip]", "[media]\ncodecs = [\"opus\", \"opus\"]\n[sip]", "config::codec", 4, "once"),
    (
        "[sip]",
        "[credentials]\nsecret = \"0123456789abcdef\"\nlongest = \"0s\"\n[sip]",
        "config::range",
        5,
        "10s",
    ),
    (
        "[sip]",
        "[credentials]\nsecret = \"0123456789abcdef\"\nturn = { uris = [\"turn:t.test\"], \
        secret = \"\" }\n[sip]",
        "config::secret",
        5,
        "openssl rand",
    ),
    (
        "[sip]",
        "[credentials]\nsecret = \"0123456789abcdef\"\nturn = { uris = [\"turn:\"], \
        secret = \"s\" }\n[sip]",
        "config::turn",
        5,
        "turn.example.com",
    ),
    (
        "[sip]",
        "[credentials]\nsecret = \"0123456789abcdef\"\nturn = { uris = [], secret = \"s\" }\n[sip]",
        "config::turn",
        3,
        "add uris",
    ),
    (
        "[sip]",
        "[events]\nwebhook = { url = \"https://x.test\", secret = \"\" }\n[sip]",
        "config::secret",
        4,
        "openssl rand",
    ),
    (
        "[sip]",
        "[events]\nwebhook = { url = \"https://a b\", secret = \"0123456789abcdef\" }\n[sip]",
        "config::webhook",
        4,
        "https://",
    ),
    (
        "[sip]",
        "[events]\ncdr = { file = \"a\", sqlite = \"a\" }\n[sip]",
        "config::cdr",
        4,
        "a file of its own",
    ),
    ("[sip]", "[events]\nhep = \"udp:0.0.0.0:9060\"\n[sip]", "config::hep", 4, "10.0.0.9"),
    ("[sip]", "[events]\nhep = \"udp:10.0.0.9:0\"\n[sip]", "config::hep", 4, "10.0.0.9"),
    ("[sip]", "[telemetry]\notlp = \"http://\"\n[sip]", "config::otlp", 4, "127.0.0.1"),
    ("[sip]", "[api]\ncontrol = \"src\"\n[sip]", "config::control", 4, "not there yet"),
    (
        "[sip]",
        "[api.token.x]\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\
        \"\n[sip]",
        "config::token",
        4,
        "webtrunk api-token x",
    ),
    (
        "[sip]",
        "[auth.jwt]\njwks = \"https://x/jwks\"\naudience = \"\"\n[sip]",
        "config::jwt",
        5,
        "`aud`",
    ),
    (
        "[sip]",
        "[auth.jwt]\njwks = \"Cargo.toml\"\naudience = \"w\"\n[sip]",
        "config::jwks",
        4,
        "JWK set",
    ),
    ("[user.alice]", "[user.\"al ice\"]", "config::name", 5, "without spaces"),
    ("[trunk.far]", "[trunk.\"a/b\"]", "config::name", 8, "without spaces"),
    ("\"phones\"", "\"phones\"\nmax_calls = 20000", "config::range", 8, "0 to"),
    ("\"phones\"", "\"phones\"\ncalls_per_second = 0", "config::range", 8, "1 to"),
    ("\"phones\"", "\"phones\"\ndisplay_name = \"a\\u202eb\"", "config::text", 8, "letters"),
    (
        "[trunk",
        "did = \"+12065550123\"\n[user.12065550123]\npassword = \"a long one\"\ncontext = \
        \"phones\"\n[trunk",
        "config::did",
        8,
        "rename the user",
    ),
    ("sip:192.0.2.1", "sip:192.0.2.1:0", "config::uri", 9, "5060"),
    ("sip:192.0.2.1", "sip:0.0.0.0", "config::uri", 9, "5060"),
    ("sip:192.0.2.1", "sip:127.0.0.1:5060", "config::uri", 9, "the trunk's host"),
    ("\"sip:192.0.2.1\"", "\"sip:192.0.2.1\"\nmax_calls = 200000", "config::range", 10, "0 to"),
    ("\"sip:192.0.2.1\"", "\"sip:192.0.2.1\"\nprobe = \"1ms\"", "config::range", 10, "1s"),
    (
        "\"sip:192.0.2.1\"",
        "\"sip:192.0.2.1\"\nusername = \"u\"\npassword = \"\"",
        "config::secret",
        11,
        "openssl rand",
    ),
    (
        "\"sip:192.0.2.1\"",
        "\"sip:192.0.2.1\"\nusername = \"\"\npassword = \"p\"",
        "config::digest",
        10,
        "leave it out",
    ),
    (
        "\"sip:192.0.2.1\"",
        "\"sip:192.0.2.1\"\nregister_expires = \"5s\"",
        "config::range",
        10,
        "1m",
    ),
    (
        "\"sip:192.0.2.1\"",
        "\"sip:192.0.2.1\"\nfrom_domain = \"sip:x\"",
        "config::domain",
        10,
        "no scheme",
    ),
    (
        "\"sip:192.0.2.1\"",
        "\"sip:192.0.2.1\"\nfrom_user = \"a@b\"",
        "config::from",
        10,
        "without its domain",
    ),
    (
        "\"sip:192.0.2.1\"",
        "\"sip:192.0.2.1\"\ntls = { name = \"a b\" }",
        "config::tls",
        10,
        "sip.example.com",
    ),
];

/// As [`OUT_OF_RANGE`], in a dialplan.
const OUT_OF_RANGE_IN_THE_PLAN: &[Mistake] = &[
    ("do = ", "timeout = \"0s\"\ndo = ", "config::range", 5, "1s"),
    ("do = ", "timeout = \"9000years\"\ndo = ", "config::range", 5, "1h"),
    (
        "dial = [\"trunk:far\"]",
        "dial = [\"trunk:far\"], timeout = \"0s\"",
        "config::range",
        5,
        "1s",
    ),
    ("do = ", "limit = { per_user_per_hour = 0 }\ndo = ", "config::range", 5, "1 to"),
    ("do = ", "allow = [\"premium rate\"]\ndo = ", "dialplan::allow", 5, "shared-cost"),
    ("do = ", "next_on = [\"silent:0s\"]\ndo = ", "dialplan::next_on", 5, "silent:6s"),
];

/// Those with this code; the line 0 is that of a problem without a place.
fn check_mistake(found: &[ConfigProblem], &(_, to, code, line, fix): &Mistake) {
    let hit = found
        .iter()
        .find(|p| p.code == code && p.line().unwrap_or(0) == line && p.help.contains(fix))
        .unwrap_or_else(|| panic!("{to}: expected {code} in line {line} ({fix}): {found:#?}"));
    assert!(!hit.message.is_empty(), "{to}: {hit:?}");
    if line > 0 {
        assert!(Problems(vec![hit.clone()]).to_string().contains("built-in"), "the file is named");
    }
}

#[test]
fn each_mistake_names_its_line_its_cause_and_its_fix() {
    assert!(problems(GOOD, PLAN).is_empty(), "{:?}", problems(GOOD, PLAN));
    assert!(IN_THE_FILE.len() + IN_THE_PLAN.len() >= 100);
    assert!(OUT_OF_RANGE.len() + OUT_OF_RANGE_IN_THE_PLAN.len() >= 25);
    for mistake in IN_THE_FILE.iter().chain(OUT_OF_RANGE) {
        assert!(GOOD.contains(mistake.0), "{mistake:?}");
        let bad = GOOD.replacen(mistake.0, &mistake.1.replace("HEX", &"ab".repeat(32)), 1);
        check_mistake(&problems(&bad, PLAN), mistake);
    }
    for mistake in IN_THE_PLAN.iter().chain(OUT_OF_RANGE_IN_THE_PLAN) {
        assert!(PLAN.contains(mistake.0), "{mistake:?}");
        check_mistake(&problems(GOOD, &PLAN.replacen(mistake.0, mistake.1, 1)), mistake);
    }
    let case = format!("{PLAN}[[case]]\ndial = \"912\"\nroute = \"A\"\n");
    let told = ("", "case", "dialplan::case", 6, "read from the top");
    check_mistake(&problems(GOOD, &case), &told);
}

/// Two files of one pair, and those that are none.
#[test]
fn certificates_that_do_not_fit_are_told_before_the_start() {
    let folder = std::env::temp_dir().join(format!("webtrunk-pairs-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("written");
    let made = |names: &[&str], from: i32, to: i32| {
        let key = rcgen::KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).expect("sound names");
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        let cert = params.self_signed(&key).expect("signed");
        (cert.pem(), key.serialize_pem())
    };
    let (cert, key) = made(&["x"], 2020, 4000);
    let (_, other) = made(&["x"], 2020, 4000);
    let (old, old_key) = made(&["x"], 2000, 2001);
    let (young, young_key) = made(&["x"], 3990, 4000);
    let (foreign, foreign_key) = made(&["y.example", "*.z.example"], 2020, 4000);
    for (name, text) in [
        ("cert", &cert),
        ("key", &key),
        ("other", &other),
        ("old", &old),
        ("old_key", &old_key),
        ("young", &young),
        ("young_key", &young_key),
        ("foreign", &foreign),
        ("foreign_key", &foreign_key),
    ] {
        write(name, text);
    }
    write("nothing", "no PEM");
    let pair = |cert: &str, key: &str| {
        format!(
            "{{ cert = \"{}\", key = \"{}\" }}",
            folder.join(cert).display(),
            folder.join(key).display()
        )
    };
    for (cert, key, said) in [
        ("cert", "key", None),
        ("cert", "other", Some("is not the one of the certificate")),
        ("key", "cert", Some("are swapped")),
        ("nothing", "key", Some("holds no certificate")),
        ("cert", "nothing", Some("no private key")),
        ("old", "old_key", Some("has expired")),
        ("young", "young_key", Some("is not valid before")),
        ("foreign", "foreign_key", Some("does not name x, but y.example, *.z.example")),
    ] {
        let web = format!("[web]\ntls = {}\n[sip]", pair(cert, key));
        let sip = format!("[sip]\ncertificate = {}", pair(cert, key));
        for (text, line) in [(web, 4), (sip, 4)] {
            let found = problems(&GOOD.replacen("[sip]", &text, 1), PLAN);
            let hit = found.iter().find(|p| said.is_some_and(|s| p.message.contains(s)));
            assert_eq!(hit.is_some(), said.is_some(), "{cert} {key}: {found:#?}");
            assert_eq!(found.is_empty(), said.is_none(), "{cert} {key}: {found:#?}");
            assert!(hit.is_none_or(|h| h.line() == Some(line) && !h.help.is_empty()), "{hit:?}");
        }
    }
    // Browsers go where the page is; what signs is over when it is over.
    let at = |name: &str| folder.join(name).display().to_string();
    write("chain", &format!("{cert}{old}"));
    write("both", &format!("{old}{cert}"));
    for (text, said) in [
        (
            format!(
                "[web]\npublic_url = \"https://y.example/phone\"\ntls = {}\n[sip]",
                pair("foreign", "foreign_key")
            ),
            None,
        ),
        (
            format!(
                "[web]\npublic_url = \"https://y.example\"\ntls = {}\n[sip]",
                pair("cert", "key")
            ),
            Some("does not name y.example"),
        ),
        (format!("[web]\ntls = {}\n[sip]", pair("chain", "key")), Some("between")),
        (format!("[sip]\nclient_ca = \"{}\"", at("old")), Some("has expired")),
        (format!("[sip]\nclient_ca = \"{}\"", at("both")), None),
    ] {
        let found = problems(&GOOD.replacen("[sip]", &text, 1), PLAN);
        let hit = found.iter().any(|p| said.is_some_and(|s| p.message.contains(s)));
        assert_eq!((hit, found.is_empty()), (said.is_some(), said.is_none()), "{text}: {found:#?}");
    }
    let wild = GOOD.replacen("\"x\"", "\"a.z.example\"", 1);
    let text = format!("[web]\ntls = {}\n[sip]", pair("foreign", "foreign_key"));
    assert!(problems(&wild.replacen("[sip]", &text, 1), PLAN).is_empty(), "a star is a label");
    fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn all_mistakes_are_told_at_once_and_secrets_are_not() {
    let bad = GOOD
        .replace("\":5060\"", "\"five\"")
        .replace("context = \"phones\"", "context = \"none\"")
        .replace("\"long enough\"", "\"hunter2\"")
        .replace("sip:192.0.2.1", "nothing");
    let found = problems(&bad, &PLAN.replace("trunk:far", "trunk:x").replace("US", "ZZ"));
    let mut codes: Vec<&str> = found.iter().map(|p| p.code).collect();
    codes.sort_unstable();
    assert_eq!(
        codes,
        [
            "config::address",
            "config::context",
            "config::password",
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
    let dials = |name: &str, pattern: &str, more: &str| {
        route(name, pattern, more).replace("{ hangup = 603 }", "{ dial = [\"trunk:far\"] }")
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
        (vec![dials("A", "+1X.", "")], dials("C", "+1900X.", "allow = [\"premium\"]"), true),
        (
            vec![dials("A", "+1X.", "allow = [\"premium\"]")],
            dials("C", "+1900X.", "allow = [\"premium\"]"),
            false,
        ),
        (vec![route("A", "+1X.", "")], dials("C", "+1900X.", "allow = [\"premium\"]"), false),
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
    let made = rcgen::generate_simple_self_signed(vec!["calls.example.com".to_owned()]);
    let made = made.expect("a certificate");
    let folder = std::env::temp_dir().join(format!("webtrunk-examples-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
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
        // Its passwords are short, one Asterisk is several trunks, and a container's address is not here.
        let meant = ["config::tls", "config::allow", "config::password", "config::address"];
        let other: Vec<_> = found.0.iter().filter(|p| !meant.contains(&p.code)).collect();
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
        ("\"rediss://redis.example\"", "[]", "config::cluster", 12, "name the sentinels"),
        ("key = \"0123456789", "key = \"", "config::secret", 13, "openssl rand"),
        ("192.0.2.1:5071", "0.0.0.0:5071", "config::address", 14, "192.0.2.1:5071"),
        ("192.0.2.1:5071", "node-a:5071", "config::address", 14, "192.0.2.1:5071"),
        ("192.0.2.1:5071", "127.0.0.1:5071", "config::cluster", 10, "cluster.advertise"),
        ("advertise = \"192.0.2.1:5071\"", "", "config::cluster", 10, "192.0.2.1:5071"),
        ("advertise", "listen = \":5060\"\nadvertise", "", 0, ""),
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
    let folder = std::env::temp_dir().join(format!("webtrunk-saved-{}", std::process::id()));
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
    assert!(load(&folder).expect_err("a folder").0[0].message.contains("cannot be read"));
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
    fs::remove_dir_all(&folder).expect("removed");
}
