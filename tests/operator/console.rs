//! People who log in to the page: by password, for a while, and nobody else by their cookie.

use crate::server::{Folder, Server};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// A browser's page that is logged in.
struct Page {
    port: u16,
    cookie: String,
}

fn login(user: &str, password: &str) -> String {
    serde_json::json!({ "user": user, "password": password }).to_string()
}

impl Page {
    fn enter(server: &Server, user: &str, password: &str) -> Result<Page, String> {
        let origin = "Origin: http://localhost\r\n";
        let answer = server.web_with("POST", "/api/v1/session", origin, &login(user, password));
        let set = answer.lines().find_map(|l| l.strip_prefix("set-cookie: ")).ok_or(&answer)?;
        assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{set}");
        let cookie = set.split(';').next().expect("a pair").to_owned();
        assert!(cookie.starts_with("webtrunk=") && cookie.len() > 50, "{cookie}");
        Ok(Page { port: server.web, cookie })
    }

    fn ask(&self, server: &Server, method: &str, path: &str, origin: &str) -> String {
        let headers = format!("Cookie: theme=dark; {}\r\n{origin}", self.cookie);
        server.web_with(method, &format!("/api/v1{path}"), &headers, "")
    }

    /// Its own request, as a browser makes it; returns the status.
    fn status(&self, server: &Server, method: &str, path: &str) -> u16 {
        let origin = if method == "GET" { "" } else { "Origin: http://localhost\r\n" };
        let answer = self.ask(server, method, path, origin);
        answer.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status")
    }

    /// Events, once their head is there.
    fn events(&self) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        let cookie = &self.cookie;
        let request =
            format!("GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("a head");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
        stream
    }
}

/// Lets somebody in by the command, which tells the running gateway; returns the password.
pub(crate) fn add(server: &Server, name: &str, scope: &str) -> String {
    let config = server.config();
    let config = config.to_str().expect("UTF-8");
    let said = server.run(&["user", "add", name, "--scope", scope, "--generate", "-c", config]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.contains("the running gateway has read the file"), "{said:?}");
    said.out.trim().to_owned()
}

fn change(server: &Server, args: &[&str]) -> String {
    let config = server.config();
    let said = server.run(&[args, &["-c", config.to_str().expect("UTF-8")]].concat());
    assert_eq!(said.code, 0, "{said:?}");
    said.out.trim().to_owned()
}

#[test]
fn a_person_logs_in_by_password_acts_as_the_page_alone_and_logs_out() {
    let server = Server::start("");
    let password = add(&server, "anna", "admin");
    assert!(Page::enter(&server, "anna", "another").is_err());
    assert!(Page::enter(&server, "nobody", &password).is_err());
    let page = Page::enter(&server, "anna", &password).expect("logged in");

    let who = page.ask(&server, "GET", "/session", "");
    let who: Value =
        serde_json::from_str(who.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
    assert_eq!(
        (&who["by"], &who["user"], &who["scope"]),
        (&"session".into(), &"anna".into(), &"admin".into())
    );
    assert!(who["ends_in_s"].as_u64().is_some_and(|s| (3_590..=3_600).contains(&s)), "{who}");
    assert_eq!(page.status(&server, "GET", "/config"), 200);
    assert_eq!(page.status(&server, "POST", "/drain"), 200);
    assert_eq!(page.status(&server, "DELETE", "/drain"), 200);

    // Another page of this site would send the cookie along.
    for origin in ["", "Origin: http://shop.localhost\r\n", "Origin: null\r\n"] {
        let answer = page.ask(&server, "POST", "/drain", origin);
        assert!(answer.contains("403 Forbidden") && answer.contains("own page"), "{answer}");
    }
    let foreign = "Origin: http://shop.example\r\n";
    let answer = page.ask(&server, "GET", "/calls", foreign);
    assert!(answer.contains("403 Forbidden"), "{answer}");
    let answer = server.web_with("POST", "/api/v1/session", foreign, &login("anna", &password));
    assert!(answer.contains("403 Forbidden") && !answer.contains("set-cookie"), "{answer}");

    let out = page.ask(&server, "DELETE", "/session", "Origin: http://localhost\r\n");
    assert!(out.contains("\"ended\":true") && out.contains("webtrunk=; Path=/"), "{out}");
    let after = page.ask(&server, "GET", "/calls", "");
    assert!(after.contains("401") && after.contains("this session has ended"), "{after}");
    assert!(!server.log().contains(&password));
}

#[test]
fn over_tls_the_cookie_is_for_this_host_alone() {
    let server = Server::start_secure("");
    let password = add(&server, "anna", "read");
    let answer = server.https_with(
        "POST",
        "/api/v1/session",
        "Origin: https://localhost\r\n",
        &login("anna", &password),
    );
    let set = answer.lines().find_map(|l| l.strip_prefix("set-cookie: ")).expect("a cookie");
    assert!(set.starts_with("__Host-webtrunk=") && set.ends_with("; Secure"), "{set}");
    let value = set.split([';', '=']).nth(1).expect("a value");
    let asked = |name: &str| {
        server.https_with("GET", "/api/v1/calls", &format!("Cookie: {name}={value}\r\n"), "")
    };
    assert!(asked("__Host-webtrunk").contains("200 OK"));
    assert!(asked("webtrunk").contains("401"), "a name that any page above may set");
}

#[test]
fn each_role_may_what_its_scope_says_and_a_change_of_it_counts_at_once() {
    let server = Server::start("");
    let password = add(&server, "wall", "read");
    let page = Page::enter(&server, "wall", &password).expect("logged in");
    let asks = [("GET", "/calls"), ("DELETE", "/calls/abcd"), ("GET", "/config")];
    let statuses = || asks.map(|(method, path)| page.status(&server, method, path));
    assert_eq!(statuses(), [200, 403, 403]);
    for (from, to, expected) in
        [("read", "write", [200, 404, 403]), ("write", "admin", [200, 404, 200])]
    {
        server.edit("webtrunk.toml", &format!("scope = \"{from}\""), &format!("scope = \"{to}\""));
        assert_eq!(server.run(&["reload"]).code, 0);
        assert_eq!(statuses(), expected, "{to}");
    }
}

#[test]
fn a_new_password_or_removal_ends_sessions_and_their_event_streams() {
    let server = Server::start("");
    let (anna, bert) = (add(&server, "anna", "read"), add(&server, "bert", "read"));
    let pages = [("anna", &anna), ("bert", &bert)]
        .map(|(name, password)| Page::enter(&server, name, password).expect("logged in"));
    let mut streams = pages.each_ref().map(Page::events);
    let changed = change(&server, &["user", "password", "anna", "--generate"]);
    assert_ne!(changed, anna);
    let mut rest = Vec::new();
    streams[0].read_to_end(&mut rest).expect("the stream ends");
    assert_eq!([401, 200], pages.each_ref().map(|p| p.status(&server, "GET", "/calls")));
    assert!(Page::enter(&server, "anna", &anna).is_err());
    assert!(Page::enter(&server, "anna", &changed).is_ok());
    change(&server, &["user", "remove", "bert"]);
    streams[1].read_to_end(&mut rest).expect("the stream ends");
    assert_eq!(pages[1].status(&server, "GET", "/calls"), 401);
    assert!(Page::enter(&server, "bert", &bert).is_err());
}

/// What was let in by a token that is gone is not read on either.
#[test]
fn a_stream_ends_with_its_token() {
    let made = Server::offline(&["api-token", "t", "--scope", "read"]);
    let lines = made.err.split("reload`:").nth(1).expect("the lines to paste").to_owned();
    let server = Server::start(&lines);
    let mut stream = TcpStream::connect(("127.0.0.1", server.web)).expect("it listens");
    let request = format!(
        "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        made.out.trim()
    );
    stream.write_all(request.as_bytes()).expect("sent");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let mut first = [0; 12];
    stream.read_exact(&mut first).expect("a head");
    assert_eq!(&first, b"HTTP/1.1 200");
    let hash = lines.split('"').nth(1).expect("a hash");
    server.edit("webtrunk.toml", hash, &"0".repeat(64));
    assert_eq!(server.run(&["reload"]).code, 0);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the stream ends");
}

#[test]
fn password_guessing_is_delayed_and_logged_twice() {
    let server = Server::start("");
    let password = add(&server, "anna", "admin");
    let page = Page::enter(&server, "anna", &password).expect("logged in");
    let guess = |password: &str| {
        let body = login("anna", password);
        server.web_with("POST", "/api/v1/session", "", &body)
    };
    // Ten of a source, and five more at a name that has logged in there.
    for n in 0..15 {
        assert!(guess(&format!("guess-{n}")).contains("401"));
    }
    let braked = guess(&password);
    assert!(braked.contains("429") && braked.contains("retry-after: "), "{braked}");
    assert_eq!(page.status(&server, "GET", "/calls"), 200, "who is in stays in");
    assert_eq!(server.log().matches("a wrong password for the console").count(), 2);
    assert!(!server.log().contains("guess-"));
}

#[test]
fn users_are_written_into_the_file_and_nothing_else_is_touched() {
    let server = Server::start("# A comment of mine.\n");
    let file = server.config();
    let config = file.to_str().expect("UTF-8");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("set");
    let before = std::fs::read_to_string(&file).expect("it is there");
    let user = |args: &[&str], input: &str| {
        Server::typed(
            &[&["user"], args, &["-c", config, "--control", "/nowhere/c.sock"]].concat(),
            input,
        )
    };
    assert!(user(&["list"], "").err.contains("nobody may log in yet"));
    let short = user(&["add", "anna"], "1234567\n");
    assert!(short.code == 1 && short.err.contains("at least 8 characters"), "{short:?}");
    let odd = user(&["add", "an na", "--generate"], "");
    assert!(odd.code == 1 && odd.err.contains("cannot be a name"), "{odd:?}");
    let unknown = user(&["remove", "anna"], "");
    assert!(
        unknown.code == 1 && unknown.err.contains("there is no [api.user.anna]"),
        "{unknown:?}"
    );
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), before);

    let added = user(&["add", "anna", "--scope", "write"], "correct horse\n");
    assert!(added.code == 0 && added.err.contains("read at the next start"), "{added:?}");
    let twice = user(&["add", "anna"], "correct horse\n");
    assert!(twice.code == 1 && twice.err.contains("may log in already"), "{twice:?}");
    let now = std::fs::read_to_string(&file).expect("it is there");
    assert!(now.contains("hash = \"$argon2id$v=19$") && now.contains("# A comment of mine."));
    assert!(!now.contains("correct horse"));
    assert_eq!(file.metadata().expect("it is there").permissions().mode() & 0o777, 0o640);
    let listed: Value = serde_json::from_str(&user(&["list", "-o", "json"], "").out).expect("JSON");
    assert_eq!(listed, serde_json::json!([{ "name": "anna", "scope": "write" }]));
    assert_eq!(server.run(&["reload"]).code, 0);
    assert!(Page::enter(&server, "anna", "correct horse").is_ok());
    assert_eq!(user(&["remove", "anna"], "").code, 0);
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), before);

    // A file with mistakes of its own, such as a secret only the service has, is not made worse.
    server.edit("webtrunk.toml", "password = \"secret-a\"", "password = { env = \"NOT_HERE\" }");
    assert_eq!(user(&["add", "bert", "--generate"], "").code, 0);
    server.edit("webtrunk.toml", "[server]", "[server");
    assert!(user(&["remove", "bert"], "").err.contains("is not TOML"));
}

#[test]
fn init_lets_an_admin_in_and_says_the_password_once() {
    let place = Folder::new("init-admin");
    let said = Server::offline(&["init", "--dir", place.to_str().expect("UTF-8")]);
    let password =
        said.out.split("log in as admin, password ").nth(1).expect("the password is printed");
    let password = password.split(' ').next().expect("a word");
    let file = std::fs::read_to_string(place.join("webtrunk.toml")).expect("written");
    let user = file.split("[api.user.admin]").nth(1).expect("a user");
    let user = user.split("[user.alice]").next().expect("its lines");
    assert!(!file.contains(password));
    for (name, mode) in [("webtrunk.toml", 0o600), ("dialplans", 0o700)] {
        let made = std::fs::metadata(place.join(name)).expect("written").permissions().mode();
        assert_eq!(made & 0o777, mode, "{name}, whatever the umask");
    }
    let server = Server::start(&format!("[api.user.admin]{user}"));
    let page = Page::enter(&server, "admin", password).expect("logged in");
    assert_eq!(page.status(&server, "GET", "/config"), 200);
}
