//! RFC 5118: IPv6 in SIP.

use super::Case;
use super::Verdict::*;
use super::crlf;

const VIA: &str = "[2001:db8::9:1];branch=z9hG4bKas3-111";
const CONTACT: &str = "\"Caller\" <sip:caller@[2001:db8::1]>";

fn register(uri: &str, via: &str, contact: &str) -> Vec<u8> {
    crlf(&format!(
        "REGISTER {uri} SIP/2.0\nTo: sip:user@example.com\nFrom: sip:user@example.com;tag=81x2\nVia: SIP/2.0/UDP {via}\nCall-ID: SSG9559905523997077@hlau_4100\n\
        Max-Forwards: 70\nContact: {contact}\nCSeq: 98176 REGISTER\nContent-Length: 0\n\n"
    ))
}

fn invite(sdp: &str) -> Vec<u8> {
    let sdp = sdp.replace('\n', "\r\n");
    let mut bytes = crlf(&format!(
        "INVITE sip:user@[2001:db8::10] SIP/2.0\nTo: sip:user@[2001:db8::10]\nFrom: sip:user@example.com;tag=81x2\nVia: SIP/2.0/UDP [2001:db8::20];branch=z9hG4bKas3-111\n\
        Call-ID: SSG9559905523997077@hlau_4100\nContact: \"Caller\" <sip:caller@[2001:db8::20]>\nCSeq: 8612 INVITE\nMax-Forwards: 70\nContent-Type: application/sdp\nContent-Length: {}\n\n",
        sdp.len()
    ));
    bytes.extend(sdp.into_bytes());
    bytes
}

pub(crate) fn cases() -> Vec<Case> {
    let mut all = delimiters();
    all.extend(several_families());
    all
}

/// Sections 4.1 to 4.6: where an address begins and ends.
fn delimiters() -> Vec<Case> {
    vec![
        Case(
            "4.1 a valid IPv6 reference",
            register("sip:[2001:db8::10]", VIA, CONTACT),
            Sound,
            "brackets delimit",
        ),
        Case(
            "4.2 no delimiters",
            register("sip:2001:db8::10", VIA, CONTACT),
            Refused(400),
            "without brackets it is no host",
        ),
        Case(
            "4.3 an ambiguous port",
            register("sip:[2001:db8::10:5070]", VIA, CONTACT),
            Sound,
            "within the brackets it is address, not port",
        ),
        Case(
            "4.4 port outside the brackets",
            register("sip:[2001:db8::10]:5070", VIA, CONTACT),
            Sound,
            "a port after the brackets",
        ),
        Case(
            "4.5a received with brackets",
            register(
                "sip:[2001:db8::10]",
                "[2001:db8::9:1];received=[2001:db8::9:255];branch=z9hG4bKas3-111",
                CONTACT,
            ),
            Sound,
            "liberal: both forms are read",
        ),
        Case(
            "4.5b received without brackets",
            register(
                "sip:[2001:db8::10]",
                "[2001:db8::9:1];received=2001:db8::9:255;branch=z9hG4bKas3",
                CONTACT,
            ),
            Sound,
            "the form of the grammar",
        ),
        Case(
            "4.6 IPv6 in the SDP",
            invite(
                "v=0\no=assistant 971731711378798081 0 IN IP6 2001:db8::20\ns=Live video feed\nc=IN IP6 2001:db8::20\nt=3338481189 3370017201\nm=audio 6000 RTP/AVP 2\na=rtpmap:2 G726-32/8000/1\n",
            ),
            Sound,
            "no brackets in SDP",
        ),
    ]
}

/// The rest of section 4: invalid addresses, and both families in one message.
fn several_families() -> Vec<Case> {
    vec![
        Case(
            "4.7 one colon too few",
            register("sip:[2001:db8:10]", VIA, CONTACT),
            Refused(400),
            "not an IPv6 address",
        ),
        Case(
            "4.8 several addresses in one request",
            register(
                "sip:[2001:db8::10]",
                "[2001:db8::9:1]:6050;branch=z9hG4bKas3-111",
                "<sip:caller@[2001:db8::1]>, <sip:caller@192.0.2.1>",
            ),
            Sound,
            "families may mix",
        ),
        Case(
            "4.9 several addresses in the SDP",
            invite(
                "v=0\no=bob 280744730 28977631 IN IP4 host.example.com\ns=\nt=0 0\nm=audio 22334 RTP/AVP 0\nc=IN IP4 192.0.2.1\nm=video 6024 RTP/AVP 107\nc=IN IP6 2001:db8::1\na=rtpmap:107 H263-1998/90000\n",
            ),
            Sound,
            "each section has its own address",
        ),
        Case(
            "4.10a an IPv4-mapped address",
            register(
                "sip:[::ffff:192.0.2.10]",
                "[::ffff:192.0.2.2];branch=z9hG4bKas3-111",
                CONTACT,
            ),
            Sound,
            "the dotted tail is legal",
        ),
        Case(
            "4.10b an IPv4-mapped address in the SDP",
            invite(
                "v=0\no=bob 280744730 28977631 IN IP6 ::ffff:192.0.2.2\ns=\nc=IN IP6 ::ffff:192.0.2.2\nt=0 0\nm=audio 22334 RTP/AVP 0\n",
            ),
            Sound,
            "legal SDP; whether we send there is the egress policy's matter",
        ),
        Case(
            "4.x an open bracket",
            register("sip:[2001:db8::10", VIA, CONTACT),
            Refused(400),
            "a bracket that does not close",
        ),
    ]
}
