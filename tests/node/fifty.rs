//! Fifty browsers at once, played by the webrtc crate, through two nodes and a real trunk between
//! them.

use crate::{PASSWORD, far_end, phone};
use futures_util::{SinkExt, StreamExt};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MediaEngine};
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RtpCodecKind,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
    RTCPeerConnectionState,
};
use webtrunk::codec::{Codec, Decoder, Encoder, MAX_FRAME, NARROW};
use webtrunk::sip::parse::Framing;
use webtrunk::sip::{Message, Method, digest};

const CALLS: usize = 50;
const PACKETS: usize = 100;

struct Handler {
    gathered: mpsc::Sender<()>,
    connected: mpsc::Sender<()>,
    packets: mpsc::Sender<rtp::packet::Packet>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.gathered.try_send(());
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Connected {
            let _ = self.connected.try_send(());
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let packets = self.packets.clone();
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                    let _ = packets.try_send(packet);
                }
            }
        });
    }
}

struct Sip {
    socket: WebSocketStream<TcpStream>,
    n: usize,
    cseq: u32,
}

impl Sip {
    async fn open(web: SocketAddr, n: usize) -> Sip {
        let mut request = format!("ws://{web}/sip").into_client_request().expect("a URL");
        request.headers_mut().insert("Sec-WebSocket-Protocol", "sip".parse().expect("a token"));
        let stream = TcpStream::connect(web).await.expect("it listens");
        let (socket, _) =
            tokio_tungstenite::client_async(request, stream).await.expect("the upgrade");
        Sip { socket, n, cseq: 0 }
    }

    async fn send(&mut self, text: String) {
        self.socket.send(Frame::text(text)).await.expect("sent");
    }

    async fn receive(&mut self) -> Message {
        loop {
            let frame = tokio::time::timeout(Duration::from_secs(30), self.socket.next())
                .await
                .expect("in time")
                .expect("open")
                .expect("sound");
            if let Frame::Text(text) = frame {
                return Message::parse(text.as_bytes().to_vec(), Framing::WebSocket)
                    .expect("sound");
            }
        }
    }

    fn request(&mut self, method: &str, uri: &str, to: &str, extra: &str, body: &str) -> String {
        self.cseq += 1;
        let (n, cseq) = (self.n, self.cseq);
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/WS c{n}.invalid;branch=z9hG4bK{n}-{cseq}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:alice@wt.test>;tag=f{n}\r\nTo: {to}\r\n\
             Call-ID: {method}-{n}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:alice@c{n}.invalid;transport=ws>\r\n{extra}{kind}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    async fn log_in(&mut self) {
        let options = self.request("OPTIONS", "sip:wt.test", "<sip:wt.test>", "", "");
        self.send(options).await;
        let challenge = self.receive().await;
        let (name, value) =
            digest::answer(&challenge, "alice", PASSWORD, "sip:wt.test", Method::Options, "c")
                .expect("a challenge");
        let options = self.request(
            "OPTIONS",
            "sip:wt.test",
            "<sip:wt.test>",
            &format!("{name}: {value}\r\n"),
            "",
        );
        self.send(options).await;
        assert_eq!(self.receive().await.status(), 200);
    }
}

fn opus() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: MIME_TYPE_OPUS.to_owned(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".into(),
        rtcp_feedback: vec![],
    }
}

/// One browser: its connection, what it sends on, and what it hears.
struct Browser {
    connection: Box<dyn PeerConnection>,
    track: Arc<TrackLocalStaticRTP>,
    gathered: mpsc::Receiver<()>,
    connected: mpsc::Receiver<()>,
    received: mpsc::Receiver<rtp::packet::Packet>,
    n: usize,
}

impl Browser {
    async fn new(n: usize) -> Browser {
        let (gathered, is_gathered) = mpsc::channel(1);
        let (connected, is_connected) = mpsc::channel(1);
        let (packets, received) = mpsc::channel(1_000);
        let mut engine = MediaEngine::default();
        let parameters = RTCRtpCodecParameters { rtp_codec: opus(), payload_type: 111 };
        engine.register_codec(parameters, RtpCodecKind::Audio).expect("opus");
        let coding = RTCRtpCodingParameters { ssrc: Some(1_000 + n as u32), ..Default::default() };
        let encodings = vec![RTCRtpEncodingParameters {
            rtp_coding_parameters: coding,
            codec: opus(),
            ..Default::default()
        }];
        let (stream, id, label) = ("s".into(), "t".into(), "l".into());
        let media = MediaStreamTrack::new(stream, id, label, RtpCodecKind::Audio, encodings);
        let track = Arc::new(TrackLocalStaticRTP::new(media));
        let connection = PeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::new().build())
            .with_media_engine(engine)
            .with_handler(Arc::new(Handler { gathered, connected, packets }))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await
            .expect("a connection");
        connection.add_track(Arc::clone(&track) as Arc<dyn TrackLocal>).await.expect("a track");
        let connection = Box::new(connection);
        Browser { connection, track, gathered: is_gathered, connected: is_connected, received, n }
    }

    async fn offer(&mut self) -> String {
        let offer = self.connection.create_offer(None).await.expect("an offer");
        self.connection.set_local_description(offer).await.expect("set");
        self.gathered.recv().await;
        self.connection.local_description().await.expect("an offer").sdp
    }

    async fn answered(&mut self, ok: &Message) {
        let answer = String::from_utf8(ok.body().to_vec()).expect("text");
        let answer = RTCSessionDescription::answer(answer).expect("an answer");
        self.connection.set_remote_description(answer).await.expect("our answer is understood");
    }

    async fn sends_a_tone(&self) {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        let mut encoder = Encoder::new(Codec::Opus, NARROW, 3);
        for at in 0..PACKETS {
            pace.tick().await;
            let sample = |s: usize| {
                let phase = std::f32::consts::TAU * 440.0 * (at * 160 + s) as f32 / 8_000.0;
                (8_000.0 * phase.sin()) as i16
            };
            let pcm: Vec<i16> = (0..160).map(sample).collect();
            let mut payload = [0u8; 400];
            let len = encoder.encode(&pcm, &mut payload);
            let header = rtp::header::Header {
                version: 2,
                payload_type: 111,
                sequence_number: at as u16,
                timestamp: at as u32 * 960,
                ssrc: 1_000 + self.n as u32,
                ..Default::default()
            };
            let payload = bytes::Bytes::copy_from_slice(&payload[..len]);
            let packet = rtp::packet::Packet { header, payload };
            self.track.write_rtp(packet).await.expect("sent");
        }
    }

    /// What it hears, but for the last few packets, which may still be under way.
    async fn hears(&mut self) -> Vec<i16> {
        let mut decoder = Decoder::new(Codec::Opus, NARROW);
        let mut pcm = Vec::new();
        for count in 0..PACKETS - 15 {
            let packet = tokio::time::timeout(Duration::from_secs(10), self.received.recv())
                .await
                .unwrap_or_else(|_| panic!("call {} heard {count} packets", self.n));
            let mut out = [0; MAX_FRAME];
            let samples = decoder.decode(&packet.expect("open").payload, &mut out).expect("Opus");
            pcm.extend_from_slice(&out[..samples]);
        }
        pcm
    }
}

async fn call(
    web: SocketAddr,
    n: usize,
    all_up: Arc<tokio::sync::Barrier>,
    heard: Arc<AtomicUsize>,
) {
    let mut sip = Sip::open(web, n).await;
    sip.log_in().await;
    let mut browser = Browser::new(n).await;
    let (number, offer) = ("sip:+4930123456@wt.test", browser.offer().await);
    let invite = sip.request("INVITE", number, &format!("<{number}>"), "", &offer);
    sip.send(invite).await;
    let ok = loop {
        let response = sip.receive().await;
        if response.status() >= 200 {
            break response;
        }
    };
    assert_eq!(ok.status(), 200, "call {n}: {ok}");
    browser.answered(&ok).await;
    let to = ok.header(webtrunk::sip::HeaderName::To).expect("a To").to_owned();
    let cseq = ok.cseq().expect("a CSeq").number;
    let ack = sip
        .request("ACK", "sip:call@wt.test;transport=ws", &to, "", "")
        .replace("Call-ID: ACK-", "Call-ID: INVITE-")
        .replace(&format!("CSeq: {} ACK", sip.cseq), &format!("CSeq: {cseq} ACK"));
    sip.send(ack).await;
    tokio::time::timeout(Duration::from_secs(30), browser.connected.recv())
        .await
        .expect("connected in time");
    // Nobody hangs up before all talk.
    all_up.wait().await;
    browser.sends_a_tone().await;
    let pcm = browser.hears().await;
    heard.fetch_add(usize::from(is_tone(&pcm[pcm.len() / 2..], 440.0)), Ordering::Relaxed);
    let bye = sip
        .request("BYE", "sip:call@wt.test;transport=ws", &to, "", "")
        .replace("Call-ID: BYE-", "Call-ID: INVITE-");
    sip.send(bye).await;
    assert_eq!(sip.receive().await.status(), 200);
    let _ = browser.connection.close().await;
}

fn is_tone(pcm: &[i16], hz: f32) -> bool {
    let (mut re, mut im, mut power) = (0.0f32, 0.0f32, 0.0f32);
    for (n, s) in pcm.iter().enumerate() {
        let (x, phase) = (f32::from(*s), std::f32::consts::TAU * hz * n as f32 / 8_000.0);
        (re, im, power) = (re + x * phase.cos(), im + x * phase.sin(), power + x * x);
    }
    power > 0.0 && (re * re + im * im) * 2.0 / pcm.len() as f32 / power > 0.9
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_browsers_talk_at_once_and_leave_nothing_behind() {
    let mut far = far_end().await;
    let mut node = phone(far.udp.expect("UDP")).await;
    let (web, heard, all_up) =
        (node.web, Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Barrier::new(CALLS)));
    let mut calls: tokio::task::JoinSet<_> =
        (0..CALLS).map(|n| call(web, n, all_up.clone(), heard.clone())).collect();
    // Whichever ends first: one that fails leaves the others waiting for it.
    while let Some(one) = calls.join_next().await {
        one.expect("a call");
    }
    assert_eq!(heard.load(Ordering::Relaxed), CALLS, "each hears its 440 Hz again");
    for node in [&mut node, &mut far] {
        tokio::time::timeout(Duration::from_secs(60), node.until(|g| g.is_idle()))
            .await
            .unwrap_or_else(|_| panic!("something is left"));
    }
    node.stop().await;
    far.stop().await;
}
