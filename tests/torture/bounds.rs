//! Bounds of what one message may hold (`src/bounds.toml`), at the bound and one beyond it.

use webtrunk::gateway::token::TokenKeys;
use webtrunk::sdp::Description;
use webtrunk::sip::Message;
use webtrunk::sip::digest;
use webtrunk::sip::parse::Framing;
use webtrunk::sip::status::Method;

fn message(start: &str, headers: &str, body: &str) -> Message {
    let text = format!(
        "{start}\r\nVia: SIP/2.0/UDP 127.0.0.10;branch=z9hG4bKbound\r\nFrom: <sip:a@b>;tag=1\r\n\
         To: <sip:x@b>\r\nCall-ID: bound\r\nCSeq: 1 INVITE\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    Message::parse(text.into_bytes(), Framing::Datagram).expect("read")
}

const INVITE: &str = "INVITE sip:x@wt.test SIP/2.0";

#[test]
fn a_request_has_at_most_sixty_four_vias() {
    let more = |n| message(INVITE, &"Via: SIP/2.0/UDP h;branch=z9hG4bKx\r\n".repeat(n), "");
    assert!(more(63).check().is_ok());
    assert!(more(64).check().is_err());
    // In one line they count alike.
    let joined = format!("Via: {}\r\n", ["SIP/2.0/UDP h"; 64].join(", "));
    assert!(message(INVITE, &joined, "").check().is_err());
}

#[test]
fn of_a_body_part_sixteen_header_lines_are_looked_at() {
    let found = |before: usize| {
        let body = format!(
            "--b\r\n{}Content-Type: application/sdp\r\n\r\nv=0\r\n--b--\r\n",
            "X: y\r\n".repeat(before)
        );
        let message = message(INVITE, "Content-Type: multipart/mixed;boundary=b\r\n", &body);
        message.body_of("application/sdp").is_some()
    };
    assert!(found(15));
    assert!(!found(16));
}

#[test]
fn of_a_challenge_twenty_parameters_are_read() {
    let answered = |before: usize| {
        let more: String = (0..before).map(|n| format!("x{n}=1, ")).collect();
        let challenge = format!("WWW-Authenticate: Digest {more}realm=\"r\", nonce=\"n\"\r\n");
        let response = message("SIP/2.0 401 Unauthorized", &challenge, "");
        digest::answer(&response, "a", "p", "sip:x", Method::Invite, "c").is_some()
    };
    assert!(answered(18));
    assert!(!answered(19));
}

#[test]
fn of_a_key_set_a_hundred_keys_are_read() {
    let usable = |before: usize| {
        let other = r#"{"kty":"oct","k":"c2VjcmV0"},"#.repeat(before);
        let good =
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        TokenKeys::parse(&format!("{{\"keys\":[{other}{good}]}}")).is_ok()
    };
    assert!(usable(99));
    assert!(!usable(100));
}

/// A description with these attributes of its one medium.
fn described(formats: &str, attributes: &str) -> Result<Description, impl std::fmt::Debug> {
    let text = format!(
        "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
         m=audio 4000 RTP/AVP {formats}\r\n{attributes}"
    );
    Description::parse(text.as_bytes())
}

#[test]
fn a_description_has_at_most_its_bytes_and_lines() {
    let lines = |n: usize| described("0", &"a=x\r\n".repeat(n)).is_ok();
    assert!(lines(512 - 6));
    assert!(!lines(512 - 5));
    let head = described("0", "").map(|_| 80).unwrap_or_default();
    let bytes = |n: usize| described("0", &format!("a=x:{}\r\n", "y".repeat(n))).is_ok();
    assert!(bytes(32 * 1024 - 2 * head));
    assert!(!bytes(32 * 1024));
    // What is no sound counts for little: a meeting page has much of it.
    let other = |n: usize, line: &str| {
        described("0", &format!("m=video 9 RTP/AVP 96\r\n{}", line.repeat(n))).is_ok()
    };
    assert!(other(8_192 - 7, "a=x\r\n") && !other(8_192 - 6, "a=x\r\n"));
    assert!(other(1, &format!("a=x:{}\r\n", "y".repeat(60_000))));
    assert!(!other(1, &format!("a=x:{}\r\n", "y".repeat(65_536))));
}

#[test]
fn of_a_medium_its_first_formats_candidates_keys_and_names_are_read() {
    let formats: Vec<String> = (0..128).map(|n| n.to_string()).collect();
    let many = described(&formats.join(" "), "").expect("read");
    assert!(many.media[0].formats.len() <= 64, "{}", many.media[0].formats.len());
    let candidates: String = (1..=40)
        .map(|n| format!("a=candidate:{n} 1 udp 1 192.0.2.{n} 4000 typ host\r\n"))
        .collect();
    let many = described("0", &candidates).expect("read");
    assert_eq!(many.media[0].candidates.len(), 20);
    let key = "inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";
    let keys: String =
        (1..=20).map(|n| format!("a=crypto:{n} AES_CM_128_HMAC_SHA1_80 {key}\r\n")).collect();
    let many = described("0", &keys).expect("read");
    assert_eq!(many.media[0].crypto.len(), 8);
    let named = |n: usize| {
        let read = described("0", &format!("a=tls-id:{}\r\n", "x".repeat(n))).expect("read");
        read.media[0].tls_id.is_some()
    };
    assert!(named(255));
    assert!(!named(256));
}
