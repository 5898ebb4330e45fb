//! The trunk: it answers each call and makes others, says a tone, and counts what it is told.

use crate::arrival::{self, receive};
use crate::ear::{Ear, FROM_BROWSER, FROM_TRUNK, TICK, tone};
use crate::texts;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;
use tokio::net::UdpSocket;
use webtrunk::codec::g711::Law;
use webtrunk::rtp::packet::{Packet, write_header};

/// One call, as the trunk has it.
struct Call {
    call_id: String,
    ear: Ear,
    /// Where our media is, and the gateway's.
    media: SocketAddr,
    to: SocketAddr,
    over: bool,
    /// Messages within the dialog that were neither asked for nor expected.
    told: Vec<String>,
    /// The stream that comes: from where, SSRC, sequence number.
    stream: Option<(SocketAddr, u32, u16)>,
    /// Times it had another source, or went back.
    breaks: u64,
    /// Our INVITE waits for its answer.
    waiting: Option<String>,
}

pub(crate) struct Trunk {
    socket: UdpSocket,
    at: SocketAddr,
    gateway: SocketAddr,
    calls: BTreeMap<String, Rc<RefCell<Call>>>,
    /// The end has begun: BYE is expected.
    pub(crate) ending: bool,
    /// Requests outside every call, but OPTIONS and REGISTER.
    strange: u64,
}

impl Trunk {
    pub(crate) async fn new(at: SocketAddr, gateway: SocketAddr) -> anyhow::Result<Trunk> {
        let socket = UdpSocket::bind(at).await?;
        socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20)?;
        let calls = BTreeMap::new();
        Ok(Trunk { socket, at, gateway, calls, ending: false, strange: 0 })
    }

    /// Calls this number.
    pub(crate) async fn call(trunk: &Rc<RefCell<Trunk>>, number: &str) -> anyhow::Result<()> {
        let at = trunk.borrow().at;
        let (media, rtcp) = arrival::bind_pair(at.ip()).await?;
        let mut this = trunk.borrow_mut();
        let (at, gateway, run) = (this.at, this.gateway, crate::run());
        let body = texts::pcmu(media.local_addr()?);
        let invite = format!(
            "INVITE sip:{number}@{gateway} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {at};branch=z9hG4bKi{number}x{run}\r\nMax-Forwards: 70\r\n\
             From: <sip:+4930999@{at}>;tag=t{number}\r\nTo: <sip:{number}@{gateway}>\r\n\
             Call-ID: {number}@{run}.trunk\r\nCSeq: 1 INVITE\r\nContact: <sip:trunk@{at}>\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let _ = this.socket.try_send_to(invite.as_bytes(), gateway);
        let call_id = format!("{number}@{run}.trunk");
        let call = Call::new(&call_id, (media.local_addr()?, gateway), Some(invite));
        this.calls.insert(number.to_owned(), call.clone());
        drop(this);
        tokio::task::spawn_local(talk((media, rtcp), call));
        Ok(())
    }

    fn by_id(&self, call_id: &str) -> Option<Rc<RefCell<Call>>> {
        self.calls.values().find(|c| c.borrow().call_id == call_id).cloned()
    }

    fn put(&self, text: &str, to: SocketAddr) {
        let _ = self.socket.try_send_to(text.as_bytes(), to);
    }

    /// A message of the gateway; a call that has to begin is returned.
    fn take(&mut self, text: &str, from: SocketAddr) -> Option<String> {
        let call_id = texts::header(text, "Call-ID").unwrap_or_default();
        let call = self.by_id(call_id);
        if let Some(status) = texts::status(text) {
            if let Some(call) = call {
                self.answered((text, from), status, &mut call.borrow_mut());
            }
            return None;
        }
        let method = text.split(' ').next().unwrap_or_default();
        let Some(call) = call else {
            if method == "INVITE" {
                return Some(call_id.to_owned());
            }
            self.strange += u64::from(!matches!(method, "OPTIONS" | "REGISTER" | "ACK"));
            self.put(&texts::ok(text, self.at, self.at), from);
            return None;
        };
        let mut call = call.borrow_mut();
        match method {
            "ACK" => return None,
            // Its 200 was lost, or was late.
            "INVITE" if !texts::header(text, "To").unwrap_or_default().contains("tag=") => {}
            "BYE" => {
                if !self.ending {
                    call.told.push(reason(text));
                }
                call.over = true;
            }
            _ => {
                call.told.push(method.to_owned());
                // Another gateway goes on with the call, from its own address.
                call.to = texts::audio(text).unwrap_or(call.to);
            }
        }
        self.put(&texts::ok(text, self.at, call.media), from);
        None
    }

    fn answered(&mut self, (text, from): (&str, SocketAddr), status: u16, call: &mut Call) {
        if texts::method(text) != "INVITE" || status < 200 {
            return;
        }
        let (at, run) = (self.at, crate::run());
        let number = call.call_id.split('@').next().unwrap_or_default();
        let to = texts::header(text, "To").unwrap_or_default();
        let contact = texts::header(text, "Contact").unwrap_or_default();
        let target = contact.split(['<', '>']).nth(1).unwrap_or("sip:gateway");
        let branch = if status < 300 { "a" } else { "i" };
        let ack = format!(
            "ACK {target} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{branch}{number}x{run}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:+4930999@{at}>;tag=t{number}\r\nTo: {to}\r\n\
             Call-ID: {}\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n",
            call.call_id
        );
        self.put(&ack, from);
        if call.waiting.take().is_none() {
            return;
        }
        match texts::audio(text).filter(|_| status < 300) {
            Some(audio) => call.to = audio,
            None => {
                call.over = true;
                call.told.push(format!("{status}"));
            }
        }
    }

    /// The longest silence of each call since the last call of this, and whether it goes on.
    pub(crate) fn gaps(&self, now: Instant) -> Value {
        let of = |call: &Rc<RefCell<Call>>| {
            let mut call = call.borrow_mut();
            json!({ "gap": call.ear.gap(now).map(crate::ms), "alive": !call.over })
        };
        self.calls.iter().map(|(number, call)| (number.clone(), of(call))).collect()
    }

    /// How many calls were heard.
    pub(crate) fn heard(&self) -> usize {
        self.calls.values().filter(|c| c.borrow().ear.has_heard()).count()
    }

    pub(crate) fn totals(&self) -> Value {
        let calls: Vec<_> = self.calls.iter().map(|(n, call)| (n, call.borrow())).collect();
        let told = calls.iter().map(|(_, c)| c.told.len()).sum::<usize>();
        let what: BTreeMap<_, _> = calls
            .iter()
            .filter(|(_, c)| !c.told.is_empty())
            .map(|(n, c)| (*n, c.told.join("; ")))
            .collect();
        json!({
            "calls": calls.len(), "told": told, "what": what, "strange": self.strange,
            "breaks": calls.iter().map(|(_, c)| c.breaks).sum::<u64>(),
            "over": calls.iter().filter(|(_, c)| c.over).count(),
        })
    }
}

/// What a BYE says of why.
fn reason(bye: &str) -> String {
    format!("BYE {}", texts::header(bye, "Reason").unwrap_or_default())
}

impl Call {
    fn new(
        call_id: &str,
        (media, to): (SocketAddr, SocketAddr),
        waiting: Option<String>,
    ) -> Rc<RefCell<Call>> {
        Rc::new(RefCell::new(Call {
            call_id: call_id.to_owned(),
            ear: Ear::new(FROM_BROWSER),
            media,
            to,
            over: false,
            told: Vec::new(),
            stream: None,
            breaks: 0,
            waiting,
        }))
    }

    fn hear(&mut self, (from, came): (SocketAddr, Instant), datagram: &[u8]) {
        let Some(packet) = Packet::parse(datagram, true).filter(|p| p.payload_type == 0) else {
            return;
        };
        if let Some((source, ssrc, sequence)) = self.stream {
            let ahead = packet.sequence.wrapping_sub(sequence);
            let other = source != from || ssrc != packet.ssrc;
            self.breaks += u64::from(other || ahead == 0 || ahead >= 0x8000);
        }
        self.stream = Some((from, packet.ssrc, packet.sequence));
        let mut pcm = [0; 480];
        let codes = packet.payload(datagram);
        let len = codes.len().min(pcm.len());
        Law::Mu.decode(&codes[..len], &mut pcm[..len]);
        self.ear.hear(came, &pcm[..len]);
    }
}

/// The media of one call; nobody reads the RTCP.
async fn talk((socket, _rtcp): (UdpSocket, UdpSocket), call: Rc<RefCell<Call>>) {
    let mut packet = [0; 172];
    Law::Mu.encode(&tone(FROM_TRUNK), &mut packet[12..]);
    let ssrc = u32::from(socket.local_addr().map_or(0, |a| a.port()));
    let (mut ticks, mut sent, mut buf) = (tokio::time::interval(TICK), 0u32, [0; 2_048]);
    loop {
        tokio::select! {
            got = receive(&socket, &mut buf) => {
                if let Ok((len, from, came)) = got {
                    call.borrow_mut().hear((from, came), &buf[..len]);
                }
            }
            _ = ticks.tick() => {
                let (to, over) = { let call = call.borrow(); (call.to, call.over) };
                if over {
                    return;
                }
                if let Some(header) = packet.first_chunk_mut() {
                    write_header(header, sent == 0, 0, sent as u16, sent * 160, ssrc);
                }
                sent += 1;
                let _ = socket.try_send_to(&packet, to);
            }
        }
    }
}

/// Reads what the gateway sends until the task is dropped.
pub(crate) async fn run(trunk: Rc<RefCell<Trunk>>) -> anyhow::Result<()> {
    let mut buf = vec![0; 65_536];
    let mut again = tokio::time::interval(std::time::Duration::from_millis(500));
    loop {
        let came = {
            let this = trunk.borrow();
            this.socket.try_recv_from(&mut buf)
        };
        let Ok((len, from)) = came else {
            tokio::select! {
                () = tokio::time::sleep(std::time::Duration::from_millis(2)) => {}
                _ = again.tick() => {
                    let this = trunk.borrow();
                    for call in this.calls.values() {
                        let gateway = this.gateway;
                        call.borrow().waiting.iter().for_each(|invite| this.put(invite, gateway));
                    }
                }
            }
            continue;
        };
        let Ok(text) = std::str::from_utf8(&buf[..len]) else { continue };
        let begins = trunk.borrow_mut().take(text, from);
        if let Some(call_id) = begins {
            begin(&trunk, (text, from), &call_id).await?;
        }
    }
}

/// Answers a call.
async fn begin(
    trunk: &Rc<RefCell<Trunk>>,
    (invite, from): (&str, SocketAddr),
    call_id: &str,
) -> anyhow::Result<()> {
    let at = trunk.borrow().at;
    let (media, rtcp) = arrival::bind_pair(at.ip()).await?;
    let mut this = trunk.borrow_mut();
    let Some(to) = texts::audio(invite) else { return Ok(()) };
    let number = invite.split([':', '@']).nth(1).unwrap_or_default().to_owned();
    let own = media.local_addr()?;
    let call = Call::new(call_id, (own, to), None);
    this.put(&texts::ok(invite, this.at, own), from);
    this.calls.insert(number, call.clone());
    tokio::task::spawn_local(talk((media, rtcp), call));
    Ok(())
}
