//! Requests of strangers.

use crate::dice::Dice;
use crate::place::{Place, nth, tcp};
use crate::texts;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

#[derive(clap::Args, Clone)]
pub(crate) struct Flood {
    #[command(flatten)]
    place: Place,
    /// The gateway's SIP
    #[arg(long)]
    sip: SocketAddr,
    /// udp, tcp or wss
    #[arg(long)]
    over: String,
    /// The first of its addresses
    #[arg(long)]
    from: IpAddr,
    #[arg(long, default_value_t = 10)]
    sources: usize,
    #[arg(long)]
    count: usize,
    /// The most a second, over all sources
    #[arg(long, default_value_t = 1_000_000)]
    rate: usize,
    /// Only this method
    #[arg(long)]
    only: Option<String>,
    /// The user part that is asked for
    #[arg(long, default_value = "7000")]
    number: String,
    /// Text of a header that each request has besides
    #[arg(long, default_value = "")]
    extra: String,
    #[arg(long)]
    seed: u64,
}

const METHODS: [&str; 5] = ["REGISTER", "INVITE", "OPTIONS", "SUBSCRIBE", "MESSAGE"];

#[derive(Default)]
struct Counts {
    sent: u64,
    sent_bytes: u64,
    answers: u64,
    answer_bytes: u64,
    /// The largest answer in relation to its request.
    worst: f64,
    closed: u64,
}

/// Requests whose length is remembered until their answers come.
const REMEMBERED: usize = 50_000;

fn call_of(text: &str) -> String {
    // A short answer has the short name.
    let id = texts::header(text, "Call-ID").or_else(|| texts::header(text, "i"));
    id.unwrap_or_default().to_owned()
}

/// A request with random identifiers; its body is one where the method has one.
fn request(flood: &Flood, dice: &mut Dice, via: &str, n: usize) -> String {
    let method = flood.only.as_deref().unwrap_or(METHODS[n % METHODS.len()]);
    let (domain, number, extra) = (&flood.place.domain, &flood.number, &flood.extra);
    let (id, user) = (dice.number(), dice.below(1 << 30));
    let uri = match method {
        "REGISTER" => format!("sip:{domain}"),
        _ => format!("sip:{number}@{domain}"),
    };
    let tag = if dice.below(4) == 0 { format!(";tag={id:x}") } else { String::new() };
    let extra = match extra.as_str() {
        "" => String::new(),
        text => format!("{}\r\n", text.replace("{n}", &n.to_string())),
    };
    let body = if method == "INVITE" {
        texts::pcmu(SocketAddr::new(flood.from, 9_000))
    } else {
        String::new()
    };
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{via} 10.99.0.1;branch=z9hG4bK{id:x};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:u{user}@{domain}>;tag={user:x}\r\nTo: <{uri}>{tag}\r\n\
         Call-ID: {id:x}\r\nCSeq: 1 {method}\r\nContact: <sip:u{user}@10.99.0.1>\r\n\
         {extra}{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

impl Flood {
    pub(crate) async fn run(&self) -> anyhow::Result<Value> {
        let began = Instant::now();
        let mut all = JoinSet::new();
        for n in 0..self.sources {
            let flood = self.clone();
            all.spawn(async move { flood.one(n).await });
        }
        let mut sum = Counts::default();
        while let Some(one) = all.join_next().await {
            let one = one?;
            sum.sent += one.sent;
            sum.sent_bytes += one.sent_bytes;
            sum.answers += one.answers;
            sum.answer_bytes += one.answer_bytes;
            sum.worst = sum.worst.max(one.worst);
            sum.closed += one.closed;
        }
        Ok(json!({
            "sent": sum.sent, "sent_bytes": sum.sent_bytes,
            "answers": sum.answers, "answer_bytes": sum.answer_bytes,
            "amplification": sum.answer_bytes as f64 / sum.sent_bytes.max(1) as f64,
            "worst": sum.worst, "closed": sum.closed, "seconds": began.elapsed().as_secs_f64(),
        }))
    }

    /// One source's share.
    async fn one(&self, n: usize) -> Counts {
        let mut counts = Counts::default();
        let source = nth(self.from, n);
        let share = self.count / self.sources;
        let dice = Dice::new(self.seed + n as u64);
        let _ = match self.over.as_str() {
            "udp" => self.udp(source, share, dice, &mut counts).await,
            _ => self.streams(source, share, dice, &mut counts).await,
        };
        counts
    }

    /// Waits until the `n`th of this source's may go.
    async fn pace(&self, began: Instant, n: usize) {
        if n.is_multiple_of(50) {
            let rate = (self.rate / self.sources).max(1) as f64;
            let due = began + Duration::from_secs_f64(n as f64 / rate);
            tokio::time::sleep_until(due.into()).await;
            tokio::task::yield_now().await;
        }
    }

    async fn udp(
        &self,
        source: IpAddr,
        share: usize,
        mut dice: Dice,
        counts: &mut Counts,
    ) -> anyhow::Result<()> {
        let socket = UdpSocket::bind(SocketAddr::new(source, 0)).await?;
        socket.connect(self.sip).await?;
        let began = Instant::now();
        let mut buf = [0; 65_536];
        // What each request was long, by its Call-ID.
        let mut asked: HashMap<String, usize> = HashMap::new();
        for n in 0..share {
            self.pace(began, n).await;
            let text = request(self, &mut dice, "UDP", n);
            if asked.len() > REMEMBERED {
                asked.clear();
            }
            asked.insert(call_of(&text), text.len());
            if socket.send(text.as_bytes()).await.is_ok() {
                counts.sent += 1;
                counts.sent_bytes += text.len() as u64;
            }
            while let Ok(got) = socket.try_recv(&mut buf) {
                counts.answers += 1;
                counts.answer_bytes += got as u64;
                let answer = String::from_utf8_lossy(&buf[..got]);
                if let Some(length) = asked.get(&call_of(&answer)) {
                    counts.worst = counts.worst.max(got as f64 / *length as f64);
                }
            }
        }
        Ok(())
    }

    /// Over TCP or wss, on one connection until it is closed, then on another.
    async fn streams(
        &self,
        source: IpAddr,
        share: usize,
        mut dice: Dice,
        counts: &mut Counts,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut n = 0;
        let mut failures = 0;
        while n < share && failures < 100 {
            let before = n;
            let result = if self.over == "tcp" {
                self.tcp(source, (began, share, &mut n), &mut dice, counts).await
            } else {
                self.wss(source, (began, share, &mut n), &mut dice, counts).await
            };
            if result.is_err() {
                counts.closed += 1;
                if n == before {
                    failures += 1;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        Ok(())
    }

    async fn tcp(
        &self,
        source: IpAddr,
        (began, share, n): (Instant, usize, &mut usize),
        dice: &mut Dice,
        counts: &mut Counts,
    ) -> anyhow::Result<()> {
        let stream = tcp(source, self.sip).await?;
        let (mut from, mut to) = stream.into_split();
        let reader = tokio::spawn(async move {
            let (mut bytes, mut buf) = (0, [0; 16_384]);
            while let Ok(got @ 1..) = from.read(&mut buf).await {
                bytes += got as u64;
            }
            bytes
        });
        let result = loop {
            if *n >= share {
                break Ok(());
            }
            self.pace(began, *n).await;
            let text = request(self, dice, "TCP", *n);
            *n += 1;
            if let Err(e) = to.write_all(text.as_bytes()).await {
                break Err(e.into());
            }
            counts.sent += 1;
            counts.sent_bytes += text.len() as u64;
        };
        drop(to);
        counts.answer_bytes += reader.await.unwrap_or_default();
        result
    }

    async fn wss(
        &self,
        source: IpAddr,
        (began, share, n): (Instant, usize, &mut usize),
        dice: &mut Dice,
        counts: &mut Counts,
    ) -> anyhow::Result<()> {
        use futures_util::{SinkExt, StreamExt};
        use tokio_tungstenite::tungstenite::Message;
        let (mut to, mut from) = self.place.websocket(source).await?.split();
        let reader = tokio::spawn(async move {
            let (mut answers, mut bytes) = (0, 0);
            while let Some(Ok(message)) = from.next().await {
                answers += u64::from(message.is_text());
                bytes += message.len() as u64;
            }
            (answers, bytes)
        });
        let mut result = Ok(());
        while *n < share && result.is_ok() {
            self.pace(began, *n).await;
            let text = request(self, dice, "WSS", *n);
            *n += 1;
            let bytes = text.len() as u64;
            result = to.send(Message::text(text)).await.map_err(anyhow::Error::from);
            counts.sent += u64::from(result.is_ok());
            counts.sent_bytes += bytes;
        }
        let _ = to.close().await;
        let (answers, bytes) = reader.await.unwrap_or_default();
        counts.answers += answers;
        counts.answer_bytes += bytes;
        result
    }
}
