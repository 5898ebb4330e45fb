//! Configuration errors name file, line, cause and fix, all at once; and what the documents and the
//! folders show is sound.

mod mistakes;
mod ranges;
mod settings;

use crate::mistakes::{IN_THE_FILE, IN_THE_PLAN, Mistake};
use crate::ranges::{OUT_OF_RANGE, OUT_OF_RANGE_IN_THE_PLAN};
use std::fs;
use tempfile::TempDir;
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
    assert!(!hit.message.contains("struct "), "a name of the program's own: {hit:?}");
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

/// Certificates and keys in a folder of their own, which goes with this.
struct CertificateFiles(TempDir);

impl CertificateFiles {
    fn make() -> CertificateFiles {
        let files = CertificateFiles(tempfile::tempdir().expect("a folder"));
        for (cert, key, names, from, to) in [
            ("cert", "key", &["x"][..], 2020, 4000),
            ("another", "other", &["x"], 2020, 4000),
            ("old", "old_key", &["x"], 2000, 2001),
            ("young", "young_key", &["x"], 3990, 4000),
            ("foreign", "foreign_key", &["y.example", "*.z.example"], 2020, 4000),
        ] {
            let pair = rcgen::KeyPair::generate().expect("a key");
            let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
            let mut params = rcgen::CertificateParams::new(names).expect("sound names");
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(to, 1, 1);
            files.write(cert, &params.self_signed(&pair).expect("signed").pem());
            files.write(key, &pair.serialize_pem());
        }
        files
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).expect("written");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).expect("it is there")
    }

    fn at(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn pair(&self, cert: &str, key: &str) -> String {
        format!("{{ cert = \"{}\", key = \"{}\" }}", self.at(cert), self.at(key))
    }
}

/// Two files that form a pair, and some that do not.
#[test]
fn mismatched_certificates_are_reported_before_the_start() {
    let files = CertificateFiles::make();
    files.write("nothing", "no PEM");
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
        let web = format!("[web]\ntls = {}\n[sip]", files.pair(cert, key));
        let sip = format!("[sip]\ncertificate = {}", files.pair(cert, key));
        for (text, line) in [(web, 4), (sip, 4)] {
            let found = problems(&GOOD.replacen("[sip]", &text, 1), PLAN);
            let hit = found.iter().find(|p| said.is_some_and(|s| p.message.contains(s)));
            assert_eq!(hit.is_some(), said.is_some(), "{cert} {key}: {found:#?}");
            assert_eq!(found.is_empty(), said.is_none(), "{cert} {key}: {found:#?}");
            assert!(hit.is_none_or(|h| h.line() == Some(line) && !h.help.is_empty()), "{hit:?}");
        }
    }
}

/// Browsers go where the page is; an authority that has expired signs nothing.
#[test]
fn certificates_are_checked_against_the_page_and_up_the_chain() {
    let files = CertificateFiles::make();
    let (cert, old) = (files.read("cert"), files.read("old"));
    files.write("chain", &format!("{cert}{old}"));
    files.write("both", &format!("{old}{cert}"));
    let web = |url: &str, cert: &str, key: &str| {
        format!("[web]\n{url}tls = {}\n[sip]", files.pair(cert, key))
    };
    let page = |path: &str| format!("public_url = \"https://y.example{path}\"\n");
    for (text, said) in [
        (web(&page("/phone"), "foreign", "foreign_key"), None),
        (web(&page(""), "cert", "key"), Some("does not name y.example")),
        (web("", "chain", "key"), Some("between")),
        (format!("[sip]\nclient_ca = \"{}\"", files.at("old")), Some("has expired")),
        (format!("[sip]\nclient_ca = \"{}\"", files.at("both")), None),
    ] {
        let found = problems(&GOOD.replacen("[sip]", &text, 1), PLAN);
        let hit = found.iter().any(|p| said.is_some_and(|s| p.message.contains(s)));
        assert_eq!((hit, found.is_empty()), (said.is_some(), said.is_none()), "{text}: {found:#?}");
    }
    let wild = GOOD.replacen("\"x\"", "\"a.z.example\"", 1);
    let text = web("", "foreign", "foreign_key");
    assert!(problems(&wild.replacen("[sip]", &text, 1), PLAN).is_empty(), "a star is a label");
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
