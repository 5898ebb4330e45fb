//! Nobody's datagram makes the gateway send more than it cost, before it is proved who sent it.

use crate::lab::*;
use std::net::SocketAddr;
use webtrunk::call::context::Output;
use webtrunk::gateway::Input;
use webtrunk::sip::Message;
use webtrunk::sip::parse::Framing;
use webtrunk::sip::transaction::Hop;

const OFFICE: &str = "[trunk.office]\naccepts_registration = true\nusername = \"office\"\n\
                      password = \"office-secret\"\ncontext = \"incoming\"\n[trunk.t2]\n";
const METHODS: [&str; 15] = [
    "REGISTER",
    "INVITE",
    "OPTIONS",
    "BYE",
    "CANCEL",
    "ACK",
    "SUBSCRIBE",
    "NOTIFY",
    "MESSAGE",
    "REFER",
    "INFO",
    "UPDATE",
    "PRACK",
    "PUBLISH",
    "NEWMETHOD",
];

fn stranger() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 66], 5060))
}

/// What a datagram from a stranger brings out of the gateway, in bytes; all of it for the stranger.
fn answered(lab: &mut Lab, datagram: &str) -> (usize, usize) {
    let Ok(message) = Message::parse(datagram.as_bytes().to_vec(), Framing::Datagram) else {
        return (0, 0);
    };
    let (hop, remote) = (Hop::Udp(stranger()), stranger());
    let message = message.with_source(remote);
    let mut out = Vec::new();
    lab.gateway.handle(lab.now, Input::Received { hop, remote, message }, &mut out);
    let sent = out.iter().filter_map(|o| match o {
        Output::Send(transmit) => {
            assert_eq!(transmit.hop, hop, "an answer goes where the request came from");
            Some(transmit.bytes.len())
        }
        _ => None,
    });
    let sizes: Vec<usize> = sent.collect();
    (sizes.len(), sizes.iter().sum())
}

/// Requests of each method in each dress: lean and rich, broken in one place, with credentials.
fn requests(lab: &mut Lab) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for method in METHODS {
        let n = lab.token();
        let plain = format!(
            "{method} sip:wt.test SIP/2.0\r\nVia: SIP/2.0/UDP 10.9.9.9;branch=z9hG4bK{n};rport\r\n\
             From: <sip:office@wt.test>;tag=f\r\nTo: <sip:office@wt.test>\r\nCall-ID: r{n}\r\n\
             CSeq: 1 {method}\r\n\r\n"
        );
        let compact = plain
            .replace("Via:", "v:")
            .replace("From:", "f:")
            .replace("To:", "t:")
            .replace("Call-ID:", "i:");
        let dressed = plain.replacen(
            "CSeq",
            "Max-Forwards: 70\r\nContact: <sip:office@10.9.9.9>\r\nExpires: 60\r\nUser-Agent: PBX\r\nCSeq",
            1,
        );
        let credentials = "Authorization: Digest username=\"office\", realm=\"wt.test\", \
             nonce=\"x\", uri=\"sip:wt.test\", response=\"0\", nc=00000001, cnonce=\"c\", qop=auth\r\nCSeq";
        let changes: [(&str, &str, &str); 14] = [
            ("as it is", "", ""),
            ("in a dialog", "To: <sip:office@wt.test>", "To: <sip:office@wt.test>;tag=t"),
            ("no Call-ID", "Call-ID: ", "X: "),
            ("no From", "From: ", "X: "),
            ("no To", "To: ", "X: "),
            ("another CSeq", "CSeq: 1 ", "CSeq: 1 X"),
            ("no CSeq", "CSeq: ", "X: "),
            ("another version", "SIP/2.0\r\nV", "SIP/7.0\r\nV"),
            ("many Vias", "From", "v:a\r\nv:a\r\nv:a\r\nv:a\r\nv:a\r\nv:a\r\nFrom"),
            ("a required extension", "CSeq", "Require: x\r\nCSeq"),
            ("a broken Contact", "CSeq", "Contact: <\r\nCSeq"),
            ("another scheme", "sip:wt.test SIP", "x:y SIP"),
            ("with credentials", "CSeq", credentials),
            ("somebody's", "office@wt.test>\r\nCall", "nobody@wt.test>\r\nCall"),
        ];
        for base in [&plain, &compact, &dressed] {
            for (what, from, to) in changes {
                let text = if from.is_empty() { base.clone() } else { base.replacen(from, to, 1) };
                all.push((format!("{method} {what}"), text));
            }
        }
    }
    all
}

#[test]
fn no_datagram_brings_out_more_bytes_than_it_has() {
    for routes in [true, false] {
        let mut lab =
            if routes { Lab::changed(&[("[trunk.t2]\n", OFFICE)], "") } else { Lab::with_phones() };
        let (mut count, mut answers) = (0, 0);
        for (what, text) in requests(&mut lab) {
            let (messages, bytes) = answered(&mut lab, &text);
            assert!(messages <= 1, "{what}: {messages} answers");
            assert!(bytes <= text.len(), "{what}: {bytes} for {}\n{text}", text.len());
            assert!(bytes == 0 || what.starts_with("REGISTER"), "{what}: {bytes} for\n{text}");
            (count, answers) = (count + 1, answers + messages);
        }
        assert_eq!(count, 15 * 42);
        assert_eq!(answers > 10, routes, "{answers} answers");
        // And nothing later.
        lab.inbox.clear();
        lab.advance(std::time::Duration::from_secs(40));
        let late = lab.inbox.iter().filter(|(hop, _)| *hop == Hop::Udp(stranger())).count();
        assert_eq!(late, 0);
    }
}

/// What PBXs send is long enough for an answer they can use, with and without MD5.
#[test]
fn the_registers_of_pbxs_are_challenged_within_their_own_length() {
    let asterisk = "REGISTER sip:wt.test:5060 SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.168.1.10:5060;rport;branch=z9hG4bKPj0d5d1b0e-7c1f-4b0f-9a53-9cd6d2b4\r\n\
        From: <sip:office@wt.test>;tag=6a0f6f3e-2a4e-4c1e-8a51-6f2b9ea5c7a1\r\n\
        To: <sip:office@wt.test>\r\n\
        Call-ID: 9d5c1e5a-3b72-4a44-9f1e-3f8d2f4b5c6d\r\nCSeq: 27394 REGISTER\r\n\
        Contact: <sip:s@192.168.1.10:5060>\r\nExpires: 3600\r\nMax-Forwards: 70\r\n\
        User-Agent: Asterisk PBX 20.6.0\r\nContent-Length:  0\r\n\r\n";
    let sipp = "REGISTER sip:wt.test SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.168.1.10:5060;branch=z9hG4bK-12-1-0\r\n\
        From: <sip:office@wt.test>;tag=1\r\nTo: <sip:office@wt.test>\r\nCall-ID: 1-12@192.168.1.10\r\n\
        CSeq: 1 REGISTER\r\nContact: <sip:office@192.168.1.10:5060>\r\nMax-Forwards: 70\r\n\
        Expires: 3600\r\nContent-Length: 0\r\n\r\n";
    for md5 in [true, false] {
        let server = format!("[sip]\nmd5 = {md5}\n");
        // The lean one has no room for the name of an algorithm.
        for text in if md5 { vec![asterisk, sipp] } else { vec![asterisk] } {
            let mut lab = Lab::changed(&[("[trunk.t2]\n", OFFICE), ("[sip]\n", &server)], "");
            let pbx = Peer::Trunk("office", 66);
            lab.says(pbx, text);
            assert!(lab.got(pbx, "401"), "no answer to {} bytes, md5 = {md5}\n{text}", text.len());
            let challenge = lab.take(pbx, "401");
            let answer = lab.answer_challenge(&challenge, text, "office", "office-secret");
            lab.says(pbx, &answer);
            lab.take(pbx, "200");
        }
    }
}
