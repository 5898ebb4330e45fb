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
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/WS c{n}.invalid;branch=z9hG4bK{n}-{cseq}\r\nMax-Forwards: 70\r\nFrom: <sip:alice@wt.test>;tag=f{n}\r\nTo: {to}\r\n\
             Call-ID: {method}-{n}\r\nCSeq: {cseq} {method}\r\nContact: <sip:alice@c{n}.invalid;transport=ws>\r\n{extra}{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    async fn log_in(&mut self) {
        let options = self.request("OPTIONS", "sip:wt.test", "<sip:wt.test>", "", "");
        self.send(options).await;
        let challenge = self.receive().await;
        let (name, value) = digest::answer(
            &challenge,
            None,
            "alice",
            PASSWORD,
            "sip:wt.test",
            Method::Options,
            "c",
        )
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

async fn call(
    web: SocketAddr,
    n: usize,
    all_up: Arc<tokio::sync::Barrier>,
    heard: Arc<AtomicUsize>,
) {
    let mut sip = Sip::open(web, n).await;
    sip.log_in().await;
    let (gathered, mut is_gathered) = mpsc::channel(1);
    let (connected, mut is_connected) = mpsc::channel(1);
    let (packets, mut received) = mpsc::channel(1_000);
    let mut engine = MediaEngine::default();
    engine
        .register_codec(
            RTCRtpCodecParameters { rtp_codec: opus(), payload_type: 111 },
            RtpCodecKind::Audio,
        )
        .expect("opus");
    let coding = RTCRtpCodingParameters { ssrc: Some(1_000 + n as u32), ..Default::default() };
    let encodings = vec![RTCRtpEncodingParameters {
        rtp_coding_parameters: coding,
        codec: opus(),
        ..Default::default()
    }];
    let track = Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(
        "s".into(),
        "t".into(),
        "l".into(),
        RtpCodecKind::Audio,
        encodings,
    )));
    let connection = PeerConnectionBuilder::new()
        .with_configuration(RTCConfigurationBuilder::new().build())
        .with_media_engine(engine)
        .with_handler(Arc::new(Handler { gathered, connected, packets }))
        .with_udp_addrs(vec!["127.0.0.1:0"])
        .build()
        .await
        .expect("a connection");
    connection.add_track(Arc::clone(&track) as Arc<dyn TrackLocal>).await.expect("a track");
    let offer = connection.create_offer(None).await.expect("an offer");
    connection.set_local_description(offer).await.expect("set");
    is_gathered.recv().await;
    let offer = connection.local_description().await.expect("an offer").sdp;
    let invite =
        sip.request("INVITE", "sip:+4930123456@wt.test", "<sip:+4930123456@wt.test>", "", &offer);
    sip.send(invite).await;
    let ok = loop {
        let response = sip.receive().await;
        if response.status() >= 200 {
            break response;
        }
    };
    assert_eq!(ok.status(), 200, "call {n}: {ok}");
    let answer =
        RTCSessionDescription::answer(String::from_utf8(ok.body().to_vec()).expect("text"))
            .expect("an answer");
    connection.set_remote_description(answer).await.expect("our answer is understood");
    let to = ok.header(webtrunk::sip::HeaderName::To).expect("a To").to_owned();
    let cseq = ok.cseq().expect("a CSeq").number;
    let ack = sip.request("ACK", "sip:call@wt.test;transport=ws", &to, "", "");
    let ack = ack
        .replace("Call-ID: ACK-", "Call-ID: INVITE-")
        .replace(&format!("CSeq: {} ACK", sip.cseq), &format!("CSeq: {cseq} ACK"));
    sip.send(ack).await;
    tokio::time::timeout(Duration::from_secs(30), is_connected.recv())
        .await
        .expect("connected in time");
    // Nobody hangs up before all talk.
    all_up.wait().await;
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    let mut encoder = Encoder::new(Codec::Opus, NARROW, 3);
    for at in 0..PACKETS {
        pace.tick().await;
        let pcm: Vec<i16> = (0..160)
            .map(|s| {
                (8_000.0 * (std::f32::consts::TAU * 440.0 * (at * 160 + s) as f32 / 8_000.0).sin())
                    as i16
            })
            .collect();
        let mut payload = [0u8; 400];
        let len = encoder.encode(&pcm, &mut payload);
        let header = rtp::header::Header {
            version: 2,
            payload_type: 111,
            sequence_number: at as u16,
            timestamp: at as u32 * 960,
            ssrc: 1_000 + n as u32,
            ..Default::default()
        };
        track
            .write_rtp(rtp::packet::Packet {
                header,
                payload: bytes::Bytes::copy_from_slice(&payload[..len]),
            })
            .await
            .expect("sent");
    }
    let mut decoder = Decoder::new(Codec::Opus, NARROW);
    let (mut count, mut pcm) = (0, Vec::new());
    while count < PACKETS - 15 {
        let packet = tokio::time::timeout(Duration::from_secs(10), received.recv())
            .await
            .unwrap_or_else(|_| panic!("call {n} heard {count} packets"));
        let mut out = [0; MAX_FRAME];
        let samples = decoder.decode(&packet.expect("open").payload, &mut out).expect("Opus");
        pcm.extend_from_slice(&out[..samples]);
        count += 1;
    }
    heard.fetch_add(usize::from(is_tone(&pcm[pcm.len() / 2..], 440.0)), Ordering::Relaxed);
    let bye = sip
        .request("BYE", "sip:call@wt.test;transport=ws", &to, "", "")
        .replace("Call-ID: BYE-", "Call-ID: INVITE-");
    sip.send(bye).await;
    assert_eq!(sip.receive().await.status(), 200);
    let _ = connection.close().await;
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
    let calls: Vec<_> =
        (0..CALLS).map(|n| tokio::spawn(call(web, n, all_up.clone(), heard.clone()))).collect();
    for one in calls {
        one.await.expect("a call");
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
