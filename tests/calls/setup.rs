//! The laboratory's configuration and descriptions.

use webtrunk::sip::Message;
use webtrunk::sip::parse::HeaderName;

pub(crate) const OFFER: &str = include_str!("../corpus/chromium/loop_audio_full.sdp");

pub(crate) const ANSWER: &str = include_str!("../corpus/chromium/answer-opus.sdp");

pub(crate) const TRUNK_SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.10\r\ns=-\r\nc=IN IP4 127.0.0.10\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 101\r\n\
                             a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n";

/// What the trunk answers `invite` with, as text that a test may change.
pub(crate) fn ok_of_trunk(invite: &Message) -> String {
    let header = |name| invite.header(name).unwrap_or_default();
    format!(
        "SIP/2.0 200 OK\r\nVia: {}\r\nFrom: {}\r\nTo: {};tag=peer\r\nCall-ID: {}\r\nCSeq: {}\r\nContact: <sip:far@127.0.0.10>\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{TRUNK_SDP}",
        header(HeaderName::Via),
        header(HeaderName::From),
        header(HeaderName::To),
        header(HeaderName::CallId),
        header(HeaderName::CSeq),
        TRUNK_SDP.len()
    )
}

pub(crate) const CONFIG: &str = r#"
[server]
domain = "wt.test"
public_ip = "192.0.2.1"
[sip]
udp = "127.0.0.1:5060"
tcp = "127.0.0.1:5060"
[limits]
calls = 50
calls_per_user = 4
[user.alice]
password = "secret-a"
did = "+12065550111"
context = "phones"
[user.bob]
password = "secret-b"
did = "+12065550112"
context = "phones"
[trunk.t1]
uri = "sip:127.0.0.10"
username = "acme"
password = "trunk-secret"
realm = "carrier"
context = "incoming"
max_calls = 3
[trunk.t2]
uri = "sip:127.0.0.11"
[trunk.t3]
uri = "sip:127.0.0.12;transport=tcp"
"#;

pub(crate) const PHONES: &str = r#"
[[route]]
name = "One"
match = "+1X."
do = [{ dial = ["trunk:t1"], timeout = "20s" }]
[[route]]
name = "Two"
match = "+2X."
do = [{ dial = ["trunk:t1", "trunk:t2"] }]
[[route]]
name = "Tcp"
match = "+3X."
do = [{ dial = ["trunk:t3"] }]
[[route]]
name = "Bob, then the trunk"
match = "200"
do = [{ ring = ["user:bob"], timeout = "10s" }, { dial = ["trunk:t2"], to = "+4999" }]
[[route]]
name = "Bob"
match = "201"
do = [{ ring = ["user:bob"], timeout = "10s" }]
[[route]]
name = "Echo"
match = "9196"
do = [{ echo = true }]
[[route]]
name = "Answered first"
match = "300"
do = [{ answer = true }, { dial = ["trunk:t1"], to = "+1777" }, { hangup = 480 }]
[[route]]
name = "Announcement"
match = "9198"
do = [{ play = "builtin:chime" }, { hangup = 603 }]
"#;

pub(crate) const INCOMING: &str = r#"
[[route]]
name = "Owner"
match = "+1206555011X"
do = [{ ring = ["did:{number}"], timeout = "15s" }]
[[route]]
name = "And back"
match = "801"
do = [{ goto = "phones" }]
"#;
