//! Golden pairs: real offers (Chromium, JsSIP, Asterisk, SIPp) and the answers we give them.
//! A line `# answer CODEC` in the golden file names the codec preferred. `WEBTRUNK_BLESS=1`
//! rewrites the files: read the difference before you commit it.

mod cases;
mod dialects;
mod events;
mod hostile;
mod levels;
mod strict;

use std::fs;
use std::path::{Path, PathBuf};
use webtrunk::codec::Codec;
use webtrunk::sdp::crypto::{LocalKeys, Policy};
use webtrunk::sdp::offer_answer::{Ice, LegKind, Local, Negotiation, Remote};
use webtrunk::sdp::{Description, Direction};

fn local(side: LegKind) -> Local {
    Local {
        side,
        address: "192.0.2.7:20000".parse().expect("an address"),
        more_addresses: vec![],
        tcp: false,
        ice: (side == LegKind::Browser).then(|| Ice { ufrag: "UFRAG".into(), pwd: "PWD".into() }),
        fingerprint: "FINGERPRINT".into(),
        session_id: 1,
        ssrc: 42,
        cname: "CNAME".into(),
        comfort_noise: false,
        srtp: Policy::Off,
        srtp_keys: LocalKeys::default(),
    }
}

fn corpus(folder: &str) -> Vec<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(path)
        .expect("the corpus")
        .map(|e| e.expect("a file").path())
        .filter(|p| p.extension().is_some_and(|e| e == "sdp"))
        .collect();
    files.sort();
    files
}

fn golden(name: &str, text: &str) {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdp").join(format!("{name}.answer"));
    let text = text.replace("\r\n", "\n");
    if std::env::var_os("WEBTRUNK_BLESS").is_some() {
        fs::write(&path, &text).expect("written");
    }
    let expected = fs::read_to_string(&path)
        .unwrap_or_else(|_| panic!("{} is missing: run with WEBTRUNK_BLESS=1", path.display()));
    assert_eq!(text, expected, "{name}");
}

fn answer(side: LegKind, offer: &[u8], prefer: &[Codec]) -> String {
    let mut leg = Negotiation::new(local(side));
    match leg
        .receive_offer(offer)
        .map(|_| ())
        .and_then(|()| leg.answer(prefer, Direction::SendRecv))
    {
        Ok((sdp, negotiated)) => {
            let answered = Description::parse(sdp.as_bytes()).expect("our own answer can be read");
            let offered = Description::parse(offer).expect("it was read before");
            assert_eq!(
                answered.media.len(),
                offered.media.len(),
                "RFC 3264: as many sections as the offer"
            );
            assert!(prefer.contains(&negotiated.codec));
            sdp
        }
        Err(e) => format!("488 Warning {} {}\n", e.warning, e.why),
    }
}

#[test]
fn chromium_offers_are_answered_as_recorded() {
    for file in corpus("chromium") {
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        let offer = fs::read(&file).expect("readable");
        let opus = answer(LegKind::Browser, &offer, &Codec::ALL);
        let pcmu = answer(LegKind::Browser, &offer, &[Codec::Pcmu, Codec::Opus, Codec::Pcma]);
        golden(&format!("chromium-{name}"), &format!("# answer opus\n{opus}# answer PCMU\n{pcmu}"));
    }
}

#[test]
fn trunk_offers_are_answered_as_recorded() {
    for folder in [
        "trunk-asterisk-out",
        "trunk-asterisk-out-sdes-100rel",
        "trunk-sipp-default-uac-uas",
        "trunk-sipp-to-asterisk-echo",
        "trunk-sipp-to-asterisk-early",
        "trunk-sipp-to-asterisk-dtmf",
    ] {
        for file in corpus(folder) {
            let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
            let offer = fs::read(&file).expect("readable");
            golden(
                &format!("{folder}-{name}"),
                &format!(
                    "# answer PCMU\n{}",
                    answer(LegKind::Trunk, &offer, &[Codec::Pcmu, Codec::Pcma])
                ),
            );
        }
    }
}

#[test]
fn our_offers_are_as_recorded_and_real_answers_to_them_are_understood() {
    let mut browser = Negotiation::new(local(LegKind::Browser));
    golden("offer-browser", &browser.offer(&Codec::BROWSERS));
    for (file, codec) in [
        ("answer-opus", Codec::Opus),
        ("answer-PCMU", Codec::Pcmu),
        ("answer-PCMA", Codec::Pcma),
        ("answer-G722", Codec::G722),
        ("answer-default", Codec::Opus),
    ] {
        let mut leg = browser.clone();
        let body = fs::read(
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/corpus/chromium/{file}.sdp")),
        )
        .expect("readable");
        let negotiated = leg.receive_answer(&body).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!(negotiated.codec, codec, "{file}");
        let Remote::Dtls { active: false, fingerprints, .. } = &negotiated.remote else {
            panic!("{file}")
        };
        assert_eq!(fingerprints.len(), 1, "{file}");
    }
    let g722 = fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/chromium/answer-G722.sdp"),
    )
    .expect("readable");
    let mut narrow = Negotiation::new(local(LegKind::Browser));
    narrow.offer(&[Codec::Opus, Codec::Pcmu]);
    assert_eq!(narrow.receive_answer(&g722).map(|a| a.codec).map_err(|e| e.warning), Err(305));
    let mut trunk = Negotiation::new(local(LegKind::Trunk));
    golden("offer-trunk", &trunk.offer(&[Codec::Pcmu, Codec::Pcma]));
    let asterisk = fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/corpus/trunk-sipp-to-asterisk-echo/003_5080-5072_INVITE_200.sdp"),
    )
    .expect("readable");
    assert_eq!(trunk.receive_answer(&asterisk).map(|a| a.codec), Ok(Codec::Pcmu));
}

#[test]
fn a_browser_need_not_send_more_than_the_other_side_can_hear() {
    let offer = fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/chromium/offer-default.sdp"),
    )
    .expect("readable");
    for (rate, asked) in [
        (None, "minptime=10;useinbandfec=1\r\n"),
        (
            Some(8_000),
            "minptime=10;useinbandfec=1;maxplaybackrate=8000;maxaveragebitrate=32000\r\n",
        ),
        (
            Some(16_000),
            "minptime=10;useinbandfec=1;maxplaybackrate=16000;maxaveragebitrate=48000\r\n",
        ),
    ] {
        let mut leg = Negotiation::new(local(LegKind::Browser));
        leg.playback_rate = rate;
        let line = format!("a=fmtp:111 {asked}");
        assert!(leg.offer(&Codec::ALL).contains(&line), "{line}");
        leg.withdraw_offer();
        leg.receive_offer(&offer).expect("an offer");
        assert!(
            leg.clone()
                .answer(&[Codec::Opus], Direction::SendRecv)
                .expect("answered")
                .0
                .contains(&line),
            "{line}"
        );
        assert!(
            leg.answer(&[Codec::Pcmu], Direction::SendRecv)
                .is_ok_and(|(text, _)| !text.contains("playback"))
        );
        let mut trunk = Negotiation::new(local(LegKind::Trunk));
        trunk.playback_rate = rate;
        assert!(!trunk.offer(&Codec::ALL).contains("playback"), "a trunk gets no such line");
    }
}

#[test]
fn a_codec_of_more_channels_than_we_speak_is_not_ours() {
    let plain = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 97\r\na=rtpmap:97 ";
    for (map, codec) in [
        ("L16/8000", Some(Codec::L16)),
        ("L16/8000/1", Some(Codec::L16)),
        ("L16/8000/2", None),
        ("L16/16000", None),
        ("PCMU/8000/2", None),
        ("L16/8000/x", None),
        ("opus/48000/2", Some(Codec::Opus)),
        ("opus/48000", Some(Codec::Opus)),
    ] {
        let read = Description::parse(format!("{plain}{map}\r\n").as_bytes()).expect("sound");
        assert_eq!(read.audio().next().expect("audio").1.formats[0].codec(), codec, "{map}");
    }
    assert!(
        answer(LegKind::Trunk, format!("{plain}L16/8000\r\n").as_bytes(), &Codec::ALL)
            .contains("m=audio 20000 RTP/AVP 97\r\na=rtpmap:97 L16/8000\r\n")
    );
}

#[test]
fn the_bits_a_peer_takes_of_opus_are_read() {
    let offer = String::from_utf8(
        fs::read(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/chromium/offer-default.sdp"),
        )
        .expect("readable"),
    )
    .expect("text");
    for (fmtp, most) in [
        ("minptime=10; MaxAverageBitrate=20000 ;stereo=0", Some(20_000)),
        ("minptime=10;useinbandfec=1", None),
        ("maxaveragebitrate=-4", None),
        ("maxaveragebitrate", None),
    ] {
        let mut leg = Negotiation::new(local(LegKind::Browser));
        leg.receive_offer(offer.replace("minptime=10;useinbandfec=1", fmtp).as_bytes())
            .expect("an offer");
        assert_eq!(
            leg.answer(&[Codec::Opus], Direction::SendRecv)
                .expect("answered")
                .1
                .max_average_bitrate,
            most,
            "{fmtp}"
        );
    }
}

fn with_keys(srtp: Policy) -> Negotiation {
    let mut n = 0u64;
    let srtp_keys = LocalKeys::generate(|| {
        n += 0x0101_0101_0101_0101;
        n
    });
    Negotiation::new(Local { srtp, srtp_keys, ..local(LegKind::Trunk) })
}

#[test]
fn keys_are_agreed_by_each_policy_or_the_call_fails_and_says_why() {
    let asterisk = fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/corpus/trunk-asterisk-out-sdes-100rel/001_5080-5070_INVITE.sdp"),
    )
    .expect("readable");
    let plain = "v=0\r\no=- 1 1 IN IP4 192.0.2.20\r\ns=-\r\nc=IN IP4 192.0.2.20\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    let offered = |policy, body: &[u8]| {
        let mut leg = with_keys(policy);
        leg.receive_offer(body)
            .map(|_| ())
            .and_then(|()| leg.answer(&[Codec::Pcmu], Direction::SendRecv))
    };
    for policy in [Policy::Optional, Policy::Required] {
        let (text, negotiated) = offered(policy, &asterisk).expect("keys");
        assert!(
            text.contains("m=audio 20000 RTP/SAVP 0")
                && text.contains("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:"),
            "{text}"
        );
        let Remote::Rtp { sdes: Some(sdes), .. } = negotiated.remote else { panic!("no keys") };
        assert!(sdes.ours != sdes.theirs && sdes.theirs.key()[..2] == [0x86, 0xb7]);
    }
    assert!(
        offered(Policy::Off, &asterisk)
            .is_err_and(|e| e.warning == 302 && e.why.contains("srtp = "))
    );
    assert!(
        offered(Policy::Required, plain.as_bytes()).is_err_and(|e| e.why.contains("must encrypt"))
    );
    let (text, negotiated) = offered(Policy::Optional, plain.as_bytes()).expect("plain");
    assert!(
        !text.contains("crypto") && matches!(negotiated.remote, Remote::Rtp { sdes: None, .. })
    );
    let unknown = String::from_utf8(asterisk)
        .expect("text")
        .replace("AES_CM_128_HMAC_SHA1_80", "F8_128_HMAC_SHA1_80");
    assert!(
        offered(Policy::Optional, unknown.as_bytes())
            .is_err_and(|e| e.why.contains("no a=crypto line"))
    );

    // Our offers: keys within AVP where they are only wished for.
    for (policy, proto) in [(Policy::Optional, "RTP/AVP"), (Policy::Required, "RTP/SAVP")] {
        let mut leg = with_keys(policy);
        let text = leg.offer(&[Codec::Pcmu]);
        assert!(
            text.contains(&format!("m=audio 20000 {proto} 0"))
                && text.matches("a=crypto:").count() == 3,
            "{text}"
        );
        let answer = |proto: &str, crypto: &str| plain.replace("RTP/AVP", proto) + crypto;
        let gcm = "a=crypto:2 AEAD_AES_256_GCM inline:HGAPy4Cedy/qumbZvpuCZSVT7rNDk8vG4TdUXp5hkyWqJCqiLRGab0KJy1g=\r\n";
        let negotiated =
            leg.clone().receive_answer(answer(proto, gcm).as_bytes()).cloned().expect("keys");
        let Remote::Rtp { sdes: Some(sdes), .. } = negotiated.remote else { panic!("{proto}") };
        assert_eq!(sdes.ours.key().len(), 32);
        let wrong_tag = leg
            .clone()
            .receive_answer(answer("RTP/SAVP", &gcm.replace(":2", ":1")).as_bytes())
            .cloned();
        assert!(wrong_tag.is_err_and(|e| e.why.contains("no a=crypto line")));
        let none = leg.receive_answer(answer("RTP/AVP", "").as_bytes()).cloned();
        assert_eq!(none.is_ok(), policy == Policy::Optional);
    }
}

/// RFC 4568 §5.1.2: the suite of the answer is the offered one, which a peer looks for by name.
#[test]
fn a_suite_is_answered_by_the_name_it_was_offered_by() {
    for (bits, bytes) in [(192, 38), (256, 46)] {
        for name in [format!("AES_{bits}_CM_HMAC_SHA1_80"), format!("AES_CM_{bits}_HMAC_SHA1_32")] {
            let key = "A".repeat((bytes * 4usize).div_ceil(3));
            let offer = format!(
                "v=0\r\no=- 1 1 IN IP4 192.0.2.20\r\ns=-\r\nc=IN IP4 192.0.2.20\r\nt=0 0\r\n\
                 m=audio 4000 RTP/SAVP 0\r\na=crypto:3 {name} inline:{key}\r\n"
            );
            let mut leg = with_keys(Policy::Optional);
            leg.receive_offer(offer.as_bytes()).expect("sound");
            let (text, negotiated) =
                leg.answer(&[Codec::Pcmu], Direction::SendRecv).expect("an answer");
            assert!(text.contains(&format!("a=crypto:3 {name} inline:")), "{text}");
            let Remote::Rtp { sdes: Some(sdes), .. } = negotiated.remote else {
                panic!("{name}: keys")
            };
            assert_eq!((sdes.ours.key().len(), sdes.theirs.key().len()), (bits / 8, bits / 8));
        }
    }
}

#[test]
fn one_port_for_rtp_and_rtcp_and_voip_metrics_are_agreed_where_a_trunk_asks() {
    let offer = "v=0\r\no=- 1 1 IN IP4 192.0.2.20\r\ns=-\r\nc=IN IP4 192.0.2.20\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    let mut leg = Negotiation::new(local(LegKind::Trunk));
    leg.receive_offer(format!("{offer}a=rtcp-xr:rcvr-rtt=all voip-metrics\r\n").as_bytes())
        .expect("sound");
    let (text, negotiated) = leg.answer(&[Codec::Pcmu], Direction::SendRecv).expect("an answer");
    assert!(negotiated.voip_metrics && text.contains("a=rtcp-xr:voip-metrics"));
    for (line, port) in [("a=rtcp-mux\r\n", 4_000), ("", 4_001), ("a=rtcp:4711\r\n", 4_711)] {
        let mut leg = Negotiation::new(local(LegKind::Trunk));
        leg.receive_offer(format!("{offer}{line}").as_bytes()).expect("sound");
        let (text, negotiated) =
            leg.answer(&[Codec::Pcmu], Direction::SendRecv).expect("an answer");
        assert_eq!(text.contains("rtcp-mux"), line.contains("mux"));
        assert!(matches!(negotiated.remote, Remote::Rtp { rtcp, .. } if rtcp.port() == port));
    }
}

#[test]
fn comfort_noise_is_agreed_with_trunks_that_know_it_and_never_with_browsers() {
    let body = |formats: &str| {
        format!(
            "v=0\r\no=- 1 1 IN IP4 192.0.2.20\r\ns=-\r\nc=IN IP4 192.0.2.20\r\nt=0 0\r\nm=audio 4000 RTP/AVP {formats}\r\n"
        )
    };
    let mut trunk = Negotiation::new(local(LegKind::Trunk));
    trunk.receive_offer(body("0 13").as_bytes()).expect("sound");
    let (text, negotiated) = trunk.answer(&[Codec::Pcmu], Direction::SendRecv).expect("an answer");
    assert!(negotiated.noise == Some(13) && text.contains("a=rtpmap:13 CN/8000"), "{text}");
    for (offers, answer, noise) in
        [(false, "0 13", None), (true, "0 13", Some(13)), (true, "0", None)]
    {
        let mut trunk = Negotiation::new(Local { comfort_noise: offers, ..local(LegKind::Trunk) });
        assert_eq!(trunk.offer(&[Codec::Pcmu]).contains("CN/8000"), offers);
        assert_eq!(trunk.receive_answer(body(answer).as_bytes()).expect("sound").noise, noise);
    }
    let offer = fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/chromium/loop_audio_full.sdp"),
    )
    .expect("readable");
    let offer = String::from_utf8(offer)
        .expect("text")
        .replace("m=audio 9 UDP/TLS/RTP/SAVPF", "m=audio 9 UDP/TLS/RTP/SAVPF 13");
    assert!(!answer(LegKind::Browser, offer.as_bytes(), &[Codec::Pcmu]).contains(" 13"));
}

#[test]
fn an_answers_direction_is_legal_for_every_offer_and_every_wish() {
    let offer = String::from_utf8(
        fs::read(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/chromium/loop_audio_full.sdp"),
        )
        .expect("readable"),
    )
    .expect("text");
    let all = [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive];
    for offered in all {
        for allow in all {
            let mut leg = Negotiation::new(local(LegKind::Browser));
            leg.receive_offer(
                offer.replace("a=sendrecv", &format!("a={}", offered.as_str())).as_bytes(),
            )
            .expect("an offer");
            let (_, negotiated) = leg.answer(&Codec::ALL, allow).expect("an answer");
            // RFC 3264 section 6.1: we send only where they receive, and receive only where they
            // send.
            assert!(
                !negotiated.direction.sends() || (offered.receives() && allow.sends()),
                "{offered:?} {allow:?}"
            );
            assert!(
                !negotiated.direction.receives() || (offered.sends() && allow.receives()),
                "{offered:?} {allow:?}"
            );
            assert_eq!(negotiated.direction, offered.reversed().and(allow));
        }
    }
}

#[test]
fn common_trunk_mistakes_are_tolerated_and_hostile_input_is_refused() {
    let plain = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    for (from, to) in [
        ("s=-\r\n", ""),
        ("t=0 0\r\n", ""),
        ("o=- 1 1", "o=John Doe 1 1"),
        ("s=-\r\nc=IN IP4 192.0.2.1\r\n", "s=-\r\na=sendrecv\r\nc=IN IP4 192.0.2.1\r\n"),
        ("o=- 1 1", "o=- 99999999999999999999999 99999999999999999999999"),
        ("\r\n", "\n"),
        ("t=0 0\r\n", "t=0 0\r\nX=unknown line\r\n"),
        (
            "m=audio 4000 RTP/AVP 0\r\n",
            "m=audio 4000 RTP/AVP 0\r\nm=application 0 TCP/WSS/BFCP *\r\n",
        ),
    ] {
        let sdp = plain.replace(from, to);
        let read = Description::parse(sdp.as_bytes())
            .unwrap_or_else(|e| panic!("{from:?} -> {to:?}: {e}"));
        assert_eq!(
            read.audio().next().map(|(_, m)| (m.port, m.formats[0].codec())),
            Some((4000, Some(Codec::Pcmu))),
            "{to}"
        );
    }
    let many = |line: &str, n: usize| format!("{plain}{}", line.repeat(n));
    for (what, sdp) in [
        ("NUL", plain.replace("s=-", "s=a\0b")),
        ("lone CR", plain.replace("s=-", "s=a\rb")),
        ("payload type", plain.replace("AVP 0", "AVP 128")),
        ("lines", many("a=x\r\n", 600)),
        ("sections", many("m=audio 1 RTP/AVP 0\r\n", 64)),
        ("bytes", many(&format!("a={}\r\n", "x".repeat(1_000)), 40)),
        ("port", plain.replace("4000", "70000")),
        ("not SDP", "hello".into()),
        ("empty", String::new()),
    ] {
        let offered =
            Negotiation::new(local(LegKind::Trunk)).receive_offer(sdp.as_bytes()).map(drop);
        assert!(offered.is_err(), "{what}");
    }
    let candidates = many("a=candidate:1 1 udp 1 127.0.0.99 9 typ host\r\n", 400);
    assert_eq!(
        Description::parse(candidates.as_bytes()).expect("sound").media[0].candidates.len(),
        20,
        "a flood is cut"
    );
}
