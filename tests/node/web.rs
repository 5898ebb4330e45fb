//! The web port's door, over real sockets.

use crate::{far_end, phone};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

async fn ask(web: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(web).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut buf = vec![0; 65_536];
    let mut text = String::new();
    while let Ok(Ok(n)) = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut buf)).await
    {
        text.push_str(&String::from_utf8_lossy(&buf[..n]));
        if n == 0 || text.contains("\r\n\r\n") {
            break;
        }
    }
    text
}

fn upgrade(web: SocketAddr, change: &[(&str, &str)]) -> String {
    let mut text = format!(
        "GET /sip HTTP/1.1\r\nHost: {web}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: sip\r\nOrigin: http://{web}\r\n\r\n"
    );
    for (from, to) in change {
        text = text.replace(from, to);
    }
    text
}

#[tokio::test]
async fn the_door_opens_for_sip_from_allowed_origins_only() {
    let far = far_end().await;
    let node = phone(far.udp.expect("UDP")).await;
    let web = node.web;
    let own = format!("Origin: http://{web}");
    for (change, status) in [
        (vec![], "101"),
        (vec![(own.as_str(), "Origin: https://shop.example")], "101"),
        (vec![(own.as_str(), "Origin: https://evil.example")], "403"),
        (vec![(own.as_str(), "Origin: null")], "403"),
        (vec![(own.as_str(), &format!("{own}\r\nOrigin: https://shop.example"))], "403"),
        (
            vec![(own.as_str(), "Origin: https://shop.example\r\nOrigin: https://evil.example")],
            "403",
        ),
        (vec![(own.as_str(), "Origin: http://shop.example")], "403"),
        (vec![(own.as_str(), "Origin: https://shop.example.evil")], "403"),
        (vec![(own.as_str(), "X-None: 1")], "101"),
        (vec![("Sec-WebSocket-Protocol: sip\r\n", "")], "400"),
        (vec![("Sec-WebSocket-Protocol: sip\r\n", "Sec-WebSocket-Protocol: mqtt, sip\r\n")], "101"),
        (vec![("Version: 13", "Version: 8")], "426"),
        (vec![("Upgrade: websocket\r\n", "")], "400"),
        (vec![("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "")], "400"),
        (vec![("GET", "POST")], "405"),
    ] {
        let answer = ask(web, &upgrade(web, &change)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{change:?}: {answer}");
        if status == "101" {
            assert!(
                answer
                    .to_ascii_lowercase()
                    .contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
                "{answer}"
            );
        }
    }
    node.stop().await;
    far.stop().await;
}

/// A page elsewhere leads its own name to this address: neither its origin nor its Host is ours.
#[tokio::test]
async fn no_other_name_is_served() {
    let far = far_end().await;
    let node = phone(far.udp.expect("UDP")).await;
    let web = node.web;
    for (host, status) in [
        (web.to_string(), "200"),
        ("localhost".into(), "200"),
        ("gateway:8088".into(), "200"),
        ("[::1]:8088".into(), "200"),
        ("203.0.113.7".into(), "200"),
        ("shop.example".into(), "200"),
        ("evil.example".into(), "421"),
        (format!("evil.example:{}", web.port()), "421"),
        ("127.0.0.1.evil.example".into(), "421"),
        ("localhost.evil.example".into(), "421"),
        ("evilshop.example".into(), "421"),
        ("a\r\nHost: b".into(), "400"),
    ] {
        for path in ["/", "/livez"] {
            let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let answer = ask(web, &text).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {answer}");
        }
    }
    for (version, status) in [("1.1", "400"), ("1.0", "200")] {
        let text = format!("GET /livez HTTP/{version}\r\nConnection: close\r\n\r\n");
        let answer = ask(web, &text).await;
        assert!(answer.contains(&format!(" {status} ")), "without a Host: {answer}");
    }
    let rebound = [
        (format!("Host: {web}"), "Host: evil.example".to_owned()),
        (format!("Origin: http://{web}"), "Origin: http://evil.example".to_owned()),
    ];
    let change: Vec<(&str, &str)> = rebound.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let answer = ask(web, &upgrade(web, &change)).await;
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
    node.stop().await;
    far.stop().await;
}

#[tokio::test]
async fn guesses_at_the_apis_tokens_are_braked() {
    let far = far_end().await;
    let node = phone(far.udp.expect("UDP")).await;
    let web = node.web;
    let guess = |n: u32| {
        format!(
            "GET /api/v1/calls HTTP/1.1\r\nHost: {web}\r\nAuthorization: Bearer guess-{n}\r\n\
             Connection: close\r\n\r\n"
        )
    };
    let mut refused = 0;
    for n in 0..40 {
        let answer = ask(web, &guess(n)).await;
        let braked = answer.starts_with("HTTP/1.1 429");
        assert!(braked || answer.starts_with("HTTP/1.1 401"), "{answer}");
        assert!(!braked || answer.to_ascii_lowercase().contains("retry-after: "), "{answer}");
        refused += u32::from(braked);
    }
    // A minute may have begun anew meanwhile.
    assert!((1..=20).contains(&refused), "{refused}");
    // A request without a token gets that answer, and does not count as a guess.
    let answer = ask(web, &guess(0).replace("Authorization", "X-Nothing")).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    node.stop().await;
    far.stop().await;
}

#[tokio::test]
async fn pages_have_a_strict_policy_and_no_login_outside_the_demo() {
    let far = far_end().await;
    let node = phone(far.udp.expect("UDP")).await;
    let get =
        |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    for path in [
        "/",
        "/page.js",
        "/page.css",
        "/phone.css",
        "/tokens.css",
        "/icon.svg",
        "/charts.js",
        "/call-button.js",
        "/button.html",
        "/jssip.js",
        "/resume.js",
        "/service-worker.js",
        "/manifest.webmanifest",
        "/icon.svg",
        "/icon-192.png",
        "/icon-512.png",
        "/livez",
        "/readyz",
    ] {
        let answer = ask(node.web, &get(path)).await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("default-src 'self'"),
            "{path}"
        );
    }
    for (path, open) in [("/resume.js", true), ("/call-button.js", true), ("/page.js", false)] {
        let answer = ask(node.web, &get(path)).await;
        let by_cors = answer.contains("access-control-allow-origin: *");
        assert_eq!(by_cors, open, "{path}: modules of other origins are loaded by CORS");
    }
    assert!(ask(node.web, &get("/settings.json")).await.contains("\"login\":null"));
    for path in [
        "/../etc/passwd",
        "/docs/../../etc/passwd",
        "/docs/%2e%2e/%2e%2e/etc/passwd",
        "/docs//etc/passwd",
        "/%2fetc%2fpasswd",
        "/docs/..%5c..%5cetc",
        "/docs/\u{e9}",
    ] {
        let answer = ask(node.web, &get(path)).await;
        assert!(answer.starts_with("HTTP/1.1 40"), "{path}: {answer}");
    }
    // A monitor asks for the head alone.
    for (path, status) in [("/", "200"), ("/livez", "200"), ("/no", "404"), ("/sip", "404")] {
        let answer = ask(node.web, &get(path).replace("GET", "HEAD")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{path}: no body: {answer}");
    }
    let refused = ask(node.web, &get("/").replace("GET", "PUT")).await.to_ascii_lowercase();
    assert!(refused.starts_with("http/1.1 405") && refused.contains("allow: get, head"));
    node.stop().await;
    far.stop().await;
}

#[tokio::test]
async fn a_trunks_socket_survives_junk_and_strangers_hear_nothing() {
    let far = far_end().await;
    let node = phone(far.udp.expect("UDP")).await;
    let (to, stranger) =
        (node.udp.expect("UDP"), UdpSocket::bind("127.0.0.66:0").await.expect("a socket"));
    for junk in [
        &b"\0\0\0\0"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"INVITE",
        b"\xff\xfe\xfd\r\n\r\n",
        b"SIP/2.0 99999 x\r\n\r\n",
    ] {
        stranger.send_to(junk, to).await.expect("sent");
    }
    let options = "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.66;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:x>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
    stranger.send_to(options.as_bytes(), to).await.expect("sent");
    let trunk = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    trunk.send_to(options.as_bytes(), to).await.expect("sent");
    let mut buf = [0; 2_000];
    let (n, _) = tokio::time::timeout(Duration::from_secs(5), trunk.recv_from(&mut buf))
        .await
        .expect("in time")
        .expect("received");
    assert!(buf[..n].starts_with(b"SIP/2.0 200"), "{}", String::from_utf8_lossy(&buf[..n]));
    assert!(stranger.try_recv(&mut buf).is_err(), "a stranger gets nothing");
    node.stop().await;
    far.stop().await;
}

#[tokio::test]
async fn a_websocket_survives_bad_messages_and_keep_alives_are_answered() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message as Frame;
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let far = far_end().await;
    let node = phone(far.udp.expect("UDP")).await;
    let mut request = format!("ws://{}/sip", node.web).into_client_request().expect("a URL");
    request.headers_mut().insert("Sec-WebSocket-Protocol", "sip".parse().expect("a token"));
    let stream = TcpStream::connect(node.web).await.expect("it listens");
    let (mut socket, _) =
        tokio_tungstenite::client_async(request, stream).await.expect("the upgrade");
    let message = |extra: &str| {
        format!(
            "OPTIONS sip:wt.test SIP/2.0\r\nVia: SIP/2.0/WS x.invalid;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:x>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n{extra}\r\n"
        )
    };
    socket.send(Frame::text("hello")).await.expect("sent");
    socket
        .send(Frame::Binary(vec![0xff, 0xfe, 0x0d, 0x0a, 0x0d, 0x0a].into()))
        .await
        .expect("sent");
    socket.send(Frame::text("\r\n\r\n")).await.expect("sent");
    socket.send(Frame::text(message("Content-Length: 5\r\n"))).await.expect("sent");
    socket.send(Frame::text(message("no colon here\r\n"))).await.expect("sent");
    socket.send(Frame::text(message("Content-Length: 0\r\n"))).await.expect("sent");
    let mut heard = Vec::new();
    while heard.len() < 4 {
        let frame = tokio::time::timeout(Duration::from_secs(5), socket.next())
            .await
            .expect("in time")
            .expect("open")
            .expect("sound");
        if let Frame::Text(text) = frame {
            heard.push(text.chars().take(11).collect::<String>());
        }
    }
    assert_eq!(heard, ["\r\n", "SIP/2.0 400", "SIP/2.0 401", "SIP/2.0 401"]);
    node.stop().await;
    far.stop().await;
}
