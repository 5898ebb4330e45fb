//! Debian's rtpengine in user space, spoken to by its `ng` protocol (bencode over UDP).

use super::{Peer, Wired};
use crate::drive::{self, Load};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Stdio};
use std::time::Duration;
use webtrunk::rtp::srtp::{Profile, Protect, Unprotect};

const CONTROL: &str = "127.0.0.1:22222";

pub(super) struct Rtpengine {
    child: Child,
    control: UdpSocket,
    cookies: u32,
}

impl Rtpengine {
    pub(super) fn start() -> Rtpengine {
        let args = [
            "--interface=127.0.0.1",
            "--listen-ng=127.0.0.1:22222",
            "--table=-1",
            "--foreground",
            "--log-stderr",
            "--log-level=2",
            "--port-min=30000",
            "--port-max=39999",
        ];
        let child = super::on_its_core("rtpengine")
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let control = UdpSocket::bind("127.0.0.1:0").expect("a port");
        control.connect(CONTROL).expect("connected");
        control.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        let mut peer = Rtpengine {
            child: child.expect("rtpengine starts: interop/setup.sh bench installs it"),
            control,
            cookies: 0,
        };
        assert!(
            (0..20).any(|_| peer.ask(&[("command", "ping")], "").is_some()),
            "rtpengine answers"
        );
        peer
    }

    /// Sends a dictionary of strings, and `more` as written; the answer as text.
    fn ask(&mut self, entries: &[(&str, &str)], more: &str) -> Option<String> {
        self.cookies += 1;
        let pairs: String =
            entries.iter().map(|(k, v)| format!("{}:{k}{}:{v}", k.len(), v.len())).collect();
        let request = format!("{} d{pairs}{more}e", self.cookies);
        let mut buf = [0u8; 8_192];
        let _ = self.control.send(request.as_bytes());
        let len = self
            .control
            .recv(&mut buf)
            .map_err(|_| std::thread::sleep(Duration::from_millis(100)))
            .ok()?;
        String::from_utf8(buf[..len].to_vec()).ok()
    }

    /// As [`ask`](Self::ask), for the description in the answer.
    fn describe(&mut self, entries: &[(&str, &str)], more: &str) -> String {
        let answer = self.ask(entries, more).expect("an answer");
        let at = answer.find("3:sdp").unwrap_or_else(|| panic!("no description in {answer}")) + 5;
        let (len, rest) = answer[at..].split_once(':').expect("a string");
        rest[..len.parse::<usize>().expect("a length")].to_owned()
    }
}

impl Drop for Rtpengine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sdp(port: u16, proto: &str, formats: &str, lines: &str) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} {proto} {formats}\r\n{lines}a=sendrecv\r\n"
    )
}

/// The port of the audio line.
fn port(sdp: &str) -> u16 {
    let line = sdp
        .lines()
        .find_map(|l| l.strip_prefix("m=audio "))
        .unwrap_or_else(|| panic!("no audio in {sdp}"));
    line.split(' ').next().and_then(|p| p.parse().ok()).expect("a port")
}

impl Peer for Rtpengine {
    fn name(&self) -> &'static str {
        "rtpengine"
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn call(&mut self, n: usize, load: &Load) -> Wired {
        let (browser, trunk) = (drive::socket(), drive::socket());
        let local = |s: &UdpSocket| s.local_addr().expect("bound").port();
        let id = format!("call-{n}-{}", local(&browser));
        let mut own = [0u8; 28];
        own.iter_mut().enumerate().for_each(|(at, b)| *b = (at * 7 + n) as u8);
        let suite = "AEAD_AES_128_GCM";
        let crypto = format!("a=crypto:1 {suite} inline:{}\r\n", STANDARD.encode(own));
        let (formats, map) =
            if load.transcoded { ("111", "a=rtpmap:111 opus/48000/2\r\n") } else { ("0", "") };
        let offer = sdp(local(&browser), "RTP/SAVP", formats, &format!("{map}{crypto}"));
        let codec = if load.transcoded { "5:codecd4:maskl4:opuse9:transcodel4:PCMUee" } else { "" };
        let plain = "3:ICE6:remove18:transport-protocol7:RTP/AVP";
        let towards = self.describe(
            &[("call-id", &id), ("command", "offer"), ("from-tag", "a"), ("sdp", &offer)],
            &format!("{codec}{plain}"),
        );
        let answer = sdp(local(&trunk), "RTP/AVP", "0", "");
        let secure = "3:ICE6:remove18:transport-protocol8:RTP/SAVP";
        let back = self.describe(
            &[
                ("call-id", &id),
                ("command", "answer"),
                ("from-tag", "a"),
                ("sdp", &answer),
                ("to-tag", "b"),
            ],
            secure,
        );
        let theirs = back
            .lines()
            .find_map(|l| l.split_once(suite)?.1.split_once("inline:").map(|(_, key)| key))
            .unwrap_or_else(|| panic!("no key in {back}"));
        let theirs = STANDARD_NO_PAD
            .decode(theirs.split(['|', ' ', '=']).next().expect("a key"))
            .expect("base64");
        trunk.connect(SocketAddr::from(([127, 0, 0, 1], port(&towards)))).expect("connected");
        browser.connect(SocketAddr::from(([127, 0, 0, 1], port(&back)))).expect("connected");
        let key = |keys: &[u8]| -> ([u8; 16], Vec<u8>) {
            (keys[..16].try_into().expect("16 bytes"), keys[16..28].to_vec())
        };
        let ((a, a_salt), (b, b_salt)) = (key(&own), key(&theirs));
        let profile = Profile::AeadAes128Gcm;
        Wired {
            browser,
            trunk,
            protect: Protect::new(profile, &a, &a_salt),
            ticks: 0,
            unprotect: Some(Unprotect::new(profile, &b, &b_salt)),
        }
    }
}
