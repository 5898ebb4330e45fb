//! A call's messages as a capture file: what a WebSocket or TLS hid, in a form Wireshark and sngrep
//! read.
//!
//! Each message is one UDP datagram between port 5060 of addresses that stand for the peers;
//! credentials are masked as everywhere.

use crate::journal::WallClock;
use crate::recorder::mask::{readable, wire};
use crate::recorder::{CallTrace, TraceEvent};
use etherparse::PacketBuilder;
use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use std::borrow::Cow;

/// Our address in the capture; peers follow it.
const US: [u8; 4] = [192, 0, 2, 1];

/// The file's bytes.
///
/// # Errors
/// A message is too long for a datagram.
pub(crate) fn write(flight: &CallTrace, clock: &WallClock) -> anyhow::Result<Vec<u8>> {
    let header = PcapHeader { datalink: DataLink::IPV4, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(Vec::new(), header)?;
    for entry in &flight.entries {
        let (lane, sent, text) = match &entry.what {
            TraceEvent::Message { lane, sent, whole: true, text } => {
                (*lane, *sent, readable(flight.text(*text)))
            }
            _ => continue,
        };
        // Masking has changed the body's length; the capture must say its own.
        let datagram = wire(&text);
        let peer = [192, 0, 2, 10u8.saturating_add(lane as u8)];
        let (from, to) = if sent { (US, peer) } else { (peer, US) };
        let mut packet = Vec::with_capacity(datagram.len() + 28);
        PacketBuilder::ipv4(from, to, 64)
            .udp(5060, 5060)
            .write(&mut packet, datagram.as_bytes())?;
        let length = u32::try_from(packet.len())?;
        writer.write_packet(&PcapPacket {
            timestamp: clock.since_epoch(entry.at),
            orig_len: length,
            data: Cow::Owned(packet),
        })?;
    }
    Ok(writer.into_writer())
}
