//! Proxies in front: only configured proxies may name the client of a connection or request.

use crate::server::Server;
use std::io::{Read, Write};
use std::net::TcpStream;

const WRONG: &str = "{\"user\":\"anna\",\"password\":\"not the password\"}";

fn guess_by(server: &Server, forwarded: &str) -> String {
    let headers = format!("X-Forwarded-For: {forwarded}\r\n");
    server.web_with("POST", "/api/v1/session", &headers, WRONG)
}

fn with_web(line: &str) -> Server {
    Server::start_changed(&[("[sip]", &format!("{line}\n[sip]"))])
}

#[test]
fn a_trusted_proxy_names_who_guesses_and_nobody_else_can() {
    let server = with_web("trusted_proxies = [\"127.0.0.1\"]");
    for n in 0..10 {
        let forged = format!("203.0.113.{n}, 198.51.100.1");
        assert!(guess_by(&server, &forged).contains("401"), "{n}");
    }
    assert!(guess_by(&server, "203.0.113.99, 198.51.100.1").contains("429"));
    assert!(guess_by(&server, "198.51.100.2").contains("401"), "another browser");
    server.logs("source=198.51.100.1");

    let server = Server::start("");
    for n in 0..10 {
        assert!(guess_by(&server, &format!("198.51.100.{n}")).contains("401"));
    }
    assert!(guess_by(&server, "198.51.100.77").contains("429"), "a stranger's header");
    server.logs("source=127.0.0.1");
    // The trusted proxies can be changed while it runs.
    server.edit("webtrunk.toml", "[sip]", "trusted_proxies = [\"127.0.0.1\"]\n[sip]");
    let said = server.run(&["reload"]);
    assert!(said.code == 0, "{said:?}");
    assert!(guess_by(&server, "198.51.100.77").contains("401"));
}

/// The PROXY header of a connection from 198.51.100.N, or of the proxy itself.
fn header(n: Option<u8>) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    match n {
        Some(n) => bytes.extend([0x21, 0x11, 0, 12, 198, 51, 100, n, 10, 0, 0, 1, 16, 0, 1, 0]),
        None => bytes.extend([0x20, 0, 0, 0]),
    }
    bytes
}

fn through(server: &Server, header: &[u8], request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server.web)).expect("it listens");
    stream.write_all(&[header, request.as_bytes()].concat()).expect("sent");
    let mut text = Vec::new();
    // A refused connection may be reset.
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn a_proxy_header_names_who_connects_and_must_be_there() {
    let server = with_web("proxy_protocol = [\"127.0.0.1\"]");
    let live = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert!(through(&server, &header(Some(1)), live).contains("200 OK"));
    assert!(through(&server, &header(None), live).contains("200 OK"), "its health check");
    for wrong in [Vec::new(), b"PROXY TCP4 198.51.100.1 10.0.0.1 4 5\r\n".to_vec()] {
        assert_eq!(through(&server, &wrong, live), "");
    }
    assert_eq!(server.log().matches("WT-1008").count(), 1, "{}", server.log());
    let guess = format!(
        "POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.1\r\n\
         Connection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{WRONG}",
        WRONG.len()
    );
    for n in 0..10 {
        assert!(through(&server, &header(Some(1)), &guess).contains("401"), "{n}");
    }
    assert!(through(&server, &header(Some(1)), &guess).contains("429"));
    assert!(through(&server, &header(Some(2)), &guess).contains("401"));
    server.logs("source=198.51.100.1");

    let server = Server::start("");
    let answer = through(&server, &header(Some(1)), live);
    assert!(!answer.contains("200 OK"), "a stranger's PROXY header: {answer}");
}

#[test]
fn the_page_may_be_below_a_path_of_another_name() {
    let server = with_web("public_url = \"https://example.com/phone/\"");
    let get = |path: &str| {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n");
        through(&server, &[], &request)
    };
    let moved = get("/phone");
    assert!(moved.contains("308") && moved.contains("location: /phone/"), "{moved}");
    // Whether the proxy takes the path off or not.
    for path in ["/phone/", "/"] {
        assert!(get(path).contains("<title>webtrunk phone</title>"), "{path}");
    }
    assert!(get("/phone/api/v1/calls?limit=1").contains("401"));
    assert!(get("/phone/livez").contains("200 OK") && get("/phonelivez").contains("404"));
    assert!(get("/phone/docs/").contains("href=\"/phone/docs/how-to/operate\""));
    let other =
        through(&server, &[], "GET / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n");
    assert!(other.contains("421"), "{other}");

    let password = crate::console::add(&server, "anna", "read");
    let login = format!("{{\"user\":\"anna\",\"password\":\"{password}\"}}");
    let answer =
        server.web_with("POST", "/api/v1/session", "Origin: https://example.com\r\n", &login);
    assert!(
        answer.contains("set-cookie: __Host-webtrunk=") && answer.contains("; Secure"),
        "{answer}"
    );
}
