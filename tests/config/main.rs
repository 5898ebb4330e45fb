//! Configuration errors name file, line, cause and fix, all at once; and what the documents and the
//! folders show is sound.

mod mistakes;
mod ranges;
mod settings;

use crate::mistakes::{IN_THE_FILE, IN_THE_PLAN, Mistake};
use crate::ranges::{OUT_OF_RANGE, OUT_OF_RANGE_IN_THE_PLAN};
use std::fs;
use webtrunk::config::check::parse_embedded;
use webtrunk::config::{Config, ConfigProblem, Problems};

pub(crate) const GOOD: &str = "[server]\ndomain = \"x\"\n[sip]\nudp = \":5060\"\n[user.alice]\npassword = \"long enough\"\ncontext = \"phones\"\n[trunk.far]\nuri = \"sip:192.0.2.1\"\n";

/// What is given as text has no folder, so nothing is kept.
#[test]
fn the_demo_keeps_no_state() {
    let (config, _) = parse_embedded(GOOD, &[("phones", PLAN)]).expect("sound");
    assert_eq!(config.state_dir, None);
}

pub(crate) const PLAN: &str = "country = \"US\"\n[[route]]\nname = \"A\"\nmatch = [\"+1555X.\", \"911\"]\ndo = [{ dial = [\"trunk:far\"] }]\n";

pub(crate) fn problems(config: &str, plan: &str) -> Vec<ConfigProblem> {
    let result: Result<(Config, Problems), Problems> = parse_embedded(config, &[("phones", plan)]);
    result.map_or_else(|p| p.0, |(_, warnings)| warnings.0)
}

/// Those with this code; the line 0 is that of a problem without a place.
pub(crate) fn check_mistake(found: &[ConfigProblem], &(_, to, code, line, fix): &Mistake) {
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
    let reported = ("", "case", "dialplan::case", 6, "read from the top");
    check_mistake(&problems(GOOD, &case), &reported);
}

/// Two files that form a pair, and some that do not.
#[test]
fn mismatched_certificates_are_reported_before_the_start() {
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
fn all_mistakes_are_reported_at_once_and_secrets_are_not() {
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

#[test]
fn a_dialplan_without_emergency_calls_is_reported() {
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
