//! The RTP header, read by hand and without allocation (RFC 3550 §5.1).
//!
//! The `rtp` crate allocates per packet and reports a wrong header length for extension id 15, so
//! it is the oracle of the tests, not the parser of the hot path.

use std::time::Duration;

/// Length of the fixed header, bytes.
pub const HEADER: usize = 12;

/// A packet's header, with where its payload lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// The first after silence, or of a digit.
    pub marker: bool,
    /// 0 to 127.
    pub payload_type: u8,
    /// Wraps around.
    pub sequence: u16,
    /// In the units of the format's clock.
    pub timestamp: u32,
    /// Of the source.
    pub ssrc: u32,
    /// Bytes before the payload: fixed header, CSRCs, extension.
    pub header_len: usize,
    /// Padding after the payload, bytes.
    pub padding: usize,
}

impl Packet {
    /// Reads a header; `None` if the bytes are not version 2 RTP or lengths do not fit. For SRTP
    /// call it before decryption with `padded: false` (padding is encrypted).
    pub fn parse(bytes: &[u8], padded: bool) -> Option<Packet> {
        let fixed: &[u8; HEADER] = bytes.first_chunk()?;
        if fixed[0] >> 6 != 2 {
            return None;
        }
        let mut header_len = HEADER + 4 * usize::from(fixed[0] & 0x0f);
        if fixed[0] & 0x10 != 0 {
            let words = bytes.get(header_len + 2..header_len + 4)?;
            header_len += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
        }
        if header_len > bytes.len() {
            return None;
        }
        let mut padding = 0;
        if padded && fixed[0] & 0x20 != 0 {
            padding = usize::from(*bytes.last()?);
            if padding == 0 || header_len + padding > bytes.len() {
                return None;
            }
        }
        Some(Packet {
            marker: fixed[1] & 0x80 != 0,
            payload_type: fixed[1] & 0x7f,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            header_len,
            padding,
        })
    }

    /// The payload of the packet this header was read from.
    pub fn payload<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.header_len..bytes.len().saturating_sub(self.padding)).unwrap_or_default()
    }

    /// How loud its sender says the packet is, 0 to 127 dB below the loudest, in the header
    /// extension of this number (RFC 6464 §3); `None` if it does not say.
    pub fn audio_level(&self, bytes: &[u8], number: u8) -> Option<u8> {
        let first = *bytes.first()?;
        if first & 0x10 == 0 {
            return None;
        }
        let extension = bytes.get(HEADER + 4 * usize::from(first & 0x0f)..self.header_len)?;
        // One-byte headers (RFC 8285 §4.2); two bytes would have to be agreed on.
        let mut rest = extension.strip_prefix(&[0xbe, 0xde])?.get(2..)?;
        while let [head, after @ ..] = rest {
            let length = usize::from(head & 0x0f) + 1;
            rest = match head >> 4 {
                0 if *head == 0 => after,
                15 => return None,
                found if found == number => return after.first().map(|level| level & 0x7f),
                _ => after.get(length..)?,
            };
        }
        None
    }
}

/// How long `units` of a stream's clock are.
pub fn time_of(units: u32, clock: u32) -> Duration {
    Duration::from_micros(u64::from(units) * 1_000_000 / u64::from(clock.max(1)))
}

/// Whether `units` of a stream's clock are longer than `time`. Asked of every packet: it divides
/// nothing.
pub(crate) fn is_longer(units: u32, clock: u32, time: Duration) -> bool {
    u64::from(units) * 1_000_000 > time.as_micros() as u64 * u64::from(clock)
}

/// Writes a bare 12-byte header.
pub fn write_header(
    out: &mut [u8; HEADER],
    marker: bool,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
) {
    out[0] = 0x80;
    out[1] = (u8::from(marker) << 7) | (payload_type & 0x7f);
    out[2..4].copy_from_slice(&sequence.to_be_bytes());
    out[4..8].copy_from_slice(&timestamp.to_be_bytes());
    out[8..12].copy_from_slice(&ssrc.to_be_bytes());
}

/// What a datagram on a media port is (RFC 7983, RFC 5761).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DatagramKind {
    /// First byte 0 to 3.
    Stun,
    /// First byte 20 to 63.
    Dtls,
    /// First byte 128 to 191, and not RTCP.
    Rtp,
    /// As RTP, with a second byte of 192 to 223.
    Rtcp,
    /// Anything else.
    Unknown,
}

impl DatagramKind {
    /// Judged by the first two bytes.
    pub fn of(bytes: &[u8]) -> DatagramKind {
        match bytes {
            [0..=3, ..] => DatagramKind::Stun,
            [20..=63, ..] => DatagramKind::Dtls,
            [128..=191, 192..=223, ..] => DatagramKind::Rtcp,
            [128..=191, _, ..] => DatagramKind::Rtp,
            _ => DatagramKind::Unknown,
        }
    }
}

/// The source that an RTP packet names (RFC 3550 §5.1), encrypted or not.
pub(crate) fn ssrc_of(rtp: &[u8]) -> Option<u32> {
    rtp.get(8..)?.first_chunk().map(|ssrc| u32::from_be_bytes(*ssrc))
}

/// Extends 16-bit sequence numbers to 64 bits, nearest to the highest seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unwrapper(Option<u64>);

impl Unwrapper {
    /// One whose highest extended number is `highest`.
    pub(crate) fn after(highest: u64) -> Unwrapper {
        Unwrapper(Some(highest))
    }

    /// The extended number; starts one cycle up so that early reordering cannot go below zero.
    pub(crate) fn extend(&mut self, sequence: u16) -> u64 {
        let Some(last) = self.0 else {
            let first = (1 << 16) | u64::from(sequence);
            self.0 = Some(first);
            return first;
        };
        let delta = sequence.wrapping_sub(last as u16) as i16;
        let extended = last.saturating_add_signed(i64::from(delta));
        self.0 = Some(last.max(extended));
        extended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet of one CSRC with this extension, and what it says in extension 3.
    fn level(profile: [u8; 2], extension: &[u8]) -> Option<u8> {
        let mut bytes = vec![0x91; HEADER + 4];
        bytes.extend(profile);
        bytes.extend([0, (extension.len() / 4) as u8]);
        bytes.extend(extension);
        bytes.extend([0x31; 8]);
        let packet = Packet::parse(&bytes, false).expect("RTP");
        assert_eq!(packet.payload(&bytes), [0x31; 8]);
        packet.audio_level(&bytes, 3)
    }

    #[test]
    fn an_audio_level_is_read_where_it_was_agreed_to_stand_and_nowhere_else() {
        let one_byte = [0xbe, 0xde];
        assert_eq!(level(one_byte, &[0x30, 0x80 | 42, 0, 0]), Some(42), "with its voice bit");
        assert_eq!(level(one_byte, &[0x30, 127, 0, 0]), Some(127));
        assert_eq!(level(one_byte, &[0, 0x11, 0x30, 5, 0, 0x30, 42, 0]), Some(42), "behind others");
        assert_eq!(level(one_byte, &[0x10, 5, 0x20, 6]), None, "others only");
        assert_eq!(level(one_byte, &[0xf0, 0x30, 42, 0]), None, "15 ends them (RFC 8285 §4.2)");
        assert_eq!(level(one_byte, &[0x17, 0x30, 42, 0]), None, "longer than there is");
        assert_eq!(level(one_byte, &[0, 0, 0, 0x30]), None, "of no byte");
        assert_eq!(level(one_byte, &[]), None);
        assert_eq!(level([0x10, 0x00], &[3, 1, 42, 0]), None, "two bytes were not agreed on");
        let bare = [0x80; HEADER];
        assert_eq!(Packet::parse(&bare, false).expect("RTP").audio_level(&bare, 3), None);
    }
}
