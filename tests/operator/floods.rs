//! What a stranger sends again and again costs a line in ten seconds, and little else.

use super::phone::Phone;
use super::server::Server;
use super::shop::Shop;
use std::net::TcpStream;
use std::time::Instant;

/// Lines of the log that hold all of these.
fn lines(server: &Server, wanted: &[&str]) -> Vec<String> {
    let log = server.log();
    let fits = |line: &&str| wanted.iter().all(|w| line.contains(w));
    log.lines().filter(fits).map(str::to_owned).collect()
}

/// How many a line says were held back: "… 1234 more in 10 s: …".
fn held_back(line: &str) -> u64 {
    let words = line.split(" more in ").next().unwrap_or_default();
    words.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[test]
fn sixty_thousand_braked_logins_are_a_line_in_ten_seconds() {
    const LOGINS: u64 = 60_000;
    let shop = Shop::open();
    let down = "url = \"http://127.0.0.1:1/x\", secret = \"0123456789abcdef0123\", \
                allow_private = true";
    let server = Server::start_with("", down, "", &shop);
    let began = Instant::now();
    let mut phone = Phone::connect(server.web);
    phone.guess("wt.test", "alice", 20);
    let before = server.resident();
    assert_eq!(phone.flood("wt.test", "alice", LOGINS), LOGINS, "each is answered");
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{} MiB more", grown >> 20);
    server.until(|| {
        let logged = lines(&server, &["WT-1003"]);
        logged.len() as u64 + logged.iter().map(|l| held_back(l).saturating_sub(1)).sum::<u64>() + 1
            > LOGINS
    });
    let (logged, windows) = (lines(&server, &["WT-1003"]), 2 + began.elapsed().as_secs() / 10);
    assert!(logged.len() as u64 <= windows, "{} lines\n{}", logged.len(), logged.join("\n"));
    assert!(
        logged[0].contains("locked out") && logged[0].contains("wait a minute"),
        "{}",
        logged[0]
    );
    assert!(server.log().lines().count() < 40, "{}", server.log());
    // The web application gets an event per source, not per guess.
    let dead = server.metrics();
    let dead = dead.lines().find(|l| l.starts_with("webtrunk_webhook_dead_total ")).expect("it");
    assert_eq!(dead, "webtrunk_webhook_dead_total 0");
    assert!(
        server
            .metrics()
            .lines()
            .any(|l| l == format!("webtrunk_login_refused_total {}", LOGINS + 20))
    );
}

#[test]
fn a_refused_origin_is_reported_once_with_its_fix() {
    let server = Server::start("");
    for _ in 0..200 {
        let headers = "Upgrade: websocket\r\nConnection: close, Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\
            Origin: https://\u{202e}evil.test\r\n";
        let stream = TcpStream::connect(("127.0.0.1", server.web)).expect("it listens");
        let answer = Server::get_with(stream, "/sip", headers);
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    }
    let logged = lines(&server, &["WT-1006"]);
    assert_eq!(logged.len(), 1, "{}", logged.join("\n"));
    assert!(
        logged[0].contains("evil.test") && logged[0].contains("[web] origins"),
        "{}",
        logged[0]
    );
    assert!(!logged[0].contains('\u{202e}'), "it is read as it is");
    server.until(|| lines(&server, &["WT-1006", "199 more in 10 s: origins refused"]).len() == 1);
}
