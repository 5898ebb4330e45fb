//! Certificates of the web port that change while the gateway runs.

use crate::server::{Folder, Server};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::CertificateDer;
use std::io::{Read, Write};
use std::path::Path;

/// Writes a certificate of `localhost` and its key, and returns the certificate.
fn write_pair(folder: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).expect("made");
    std::fs::write(folder.join("key.pem"), signing_key.serialize_pem()).expect("written");
    std::fs::write(folder.join("cert.pem"), cert.pem()).expect("written");
    cert.der().clone()
}

/// Whether the node at the other end answers.
fn answers(stream: &mut (impl Read + Write)) -> bool {
    let asked = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut answer = [0; 4_096];
    asked.is_ok()
        && stream.read(&mut answer).is_ok_and(|n| answer[..n].starts_with(b"HTTP/1.1 200"))
}

#[test]
fn a_renewed_certificate_is_shown_and_a_broken_one_is_not() {
    let place = Folder::new("certificates");
    let first = write_pair(&place);
    let tls = format!(
        "tls = {{ cert = \"{0}/cert.pem\", key = \"{0}/key.pem\" }}\n[sip]",
        place.display()
    );
    let server = Server::start_changed(&[("wt.test", "localhost"), ("[sip]", &tls)]);
    let shows = |it: &CertificateDer<'static>| answers(&mut server.connect_trusting(it.clone()));
    let mut connected = server.connect_trusting(first.clone());
    assert!(answers(&mut connected));

    let second = write_pair(&place);
    assert_eq!(server.run(&["reload"]).code, 0);
    assert!(shows(&second) && !shows(&first));
    server.logs("web.tls: the certificate in ");
    assert!(answers(&mut connected), "who is connected stays");

    std::fs::write(place.join("cert.pem"), "-----BEGIN CERTIFICATE-----\n").expect("written");
    assert_ne!(server.run(&["reload"]).code, 0, "the file is checked");
    assert!(shows(&second), "the one before");
}
