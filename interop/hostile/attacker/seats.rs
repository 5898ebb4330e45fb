//! Connections that take and do not give.

use crate::place::{Place, nth};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

#[derive(clap::Args, Clone)]
pub(crate) struct Seats {
    #[command(flatten)]
    place: Place,
    /// idle, hello, head, body, unread, fragments or upgraded
    #[arg(long)]
    kind: String,
    /// The first of its addresses
    #[arg(long)]
    from: IpAddr,
    #[arg(long)]
    sources: usize,
    #[arg(long)]
    count: usize,
    /// How long each is kept if nobody closes it, s
    #[arg(long)]
    seconds: u64,
}

/// What became of one connection.
enum End {
    /// It was not let in, or closed within 100 ms.
    Refused,
    Closed(Duration),
    Kept,
}

/// The first bytes of a ClientHello of 512 bytes.
const HELLO: [u8; 9] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc];

impl Seats {
    pub(crate) async fn run(&self) -> anyhow::Result<Value> {
        let mut all = JoinSet::new();
        for n in 0..self.count {
            let (seats, source) = (self.clone(), nth(self.from, n % self.sources));
            all.spawn(async move { seats.one(source).await });
            if n % 20 == 19 {
                sleep(Duration::from_millis(2)).await;
            }
        }
        let (mut refused, mut kept, mut closed) = (0, 0, Vec::new());
        while let Some(end) = all.join_next().await {
            match end? {
                End::Refused => refused += 1,
                End::Kept => kept += 1,
                End::Closed(after) => closed.push(after),
            }
        }
        Ok(json!({ "refused": refused, "kept": kept, "closed": crate::spread(closed) }))
    }

    async fn one(&self, source: IpAddr) -> End {
        // The gateway's deadline counts from where the handshake ends.
        let mut began = Instant::now();
        let sits = self.sit(source, &mut began);
        let kept = timeout(Duration::from_secs(self.seconds), sits).await.is_err();
        match began.elapsed() {
            _ if kept => End::Kept,
            short if short < Duration::from_millis(100) => End::Refused,
            after => End::Closed(after),
        }
    }

    /// Sits until the gateway closes the connection.
    async fn sit(&self, source: IpAddr, began: &mut Instant) -> anyhow::Result<()> {
        match self.kind.as_str() {
            "idle" => until_closed(self.place.tcp(source).await?).await,
            "hello" => {
                let mut raw = self.place.tcp(source).await?;
                raw.write_all(&HELLO).await?;
                until_closed(raw).await
            }
            "fragments" | "upgraded" => self.upgraded(source, began).await,
            _ => self.within(source, began).await,
        }
    }

    /// What is done within TLS.
    async fn within(&self, source: IpAddr, began: &mut Instant) -> anyhow::Result<()> {
        let mut stream = self.place.tls(source).await?;
        *began = Instant::now();
        let host = format!("{}:{}", self.place.domain, self.place.web.port());
        match self.kind.as_str() {
            "head" => {
                let head = format!("GET /sip HTTP/1.1\r\nHost: {host}\r\nX-Slow: ");
                stream.write_all(head.as_bytes()).await?;
            }
            "body" => {
                let head = format!(
                    "POST /api/v1/calls HTTP/1.1\r\nHost: {host}\r\n\
                     Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).await?;
            }
            _ => return self.unread(stream, &host).await,
        }
        let (mut from, mut to) = tokio::io::split(stream);
        let drip = async {
            loop {
                sleep(Duration::from_secs(1)).await;
                to.write_all(b"a").await?;
                to.flush().await?;
            }
        };
        let end = async {
            let mut buf = [0; 4_096];
            while from.read(&mut buf).await? > 0 {}
            Ok(())
        };
        tokio::select! { r = drip => r, r = end => r }
    }

    /// Asks for much and reads nothing of it.
    async fn unread(
        &self,
        mut stream: Box<dyn crate::place::Stream>,
        host: &str,
    ) -> anyhow::Result<()> {
        let get = format!("GET /docs/reference/config.html HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let all = get.repeat(20);
        loop {
            // A write fails only once the gateway has closed, or waits because it reads no more.
            stream.write_all(all.as_bytes()).await?;
            stream.flush().await?;
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// A WebSocket that sends the fragments of one message without end, or nothing at all.
    async fn upgraded(&self, source: IpAddr, began: &mut Instant) -> anyhow::Result<()> {
        use futures_util::{SinkExt, StreamExt};
        use tokio_tungstenite::tungstenite::Message;
        use tokio_tungstenite::tungstenite::protocol::frame::Frame;
        use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
        let mut socket = self.place.websocket(source).await?;
        *began = Instant::now();
        if self.kind == "fragments" {
            let frame = |data| Message::Frame(Frame::message("x", OpCode::Data(data), false));
            socket.send(frame(Data::Text)).await?;
            loop {
                tokio::select! {
                    got = socket.next() => if !matches!(got, Some(Ok(_))) { return Ok(()) },
                    () = sleep(Duration::from_secs(1)) => {
                        socket.send(frame(Data::Continue)).await?;
                    }
                }
            }
        }
        while let Some(Ok(_)) = socket.next().await {}
        Ok(())
    }
}

async fn until_closed(mut stream: TcpStream) -> anyhow::Result<()> {
    let mut buf = [0; 256];
    while stream.read(&mut buf).await? > 0 {}
    Ok(())
}
