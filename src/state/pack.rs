//! Checkpoints are made small before they are sealed: raw DEFLATE (RFC 1951), after a text that all
//! of them begin with.
//!
//! A call names its Call-IDs, tags and addresses several times over, and peers write their random
//! bytes in hexadecimal: half of a checkpoint is redundant. The lengths that compression reveals
//! are visible to whoever can read the file, which is the gateway alone.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// What most calls contain, the most common last. It is part of the format, and records of other
/// versions are read with it too: it never changes.
const COMMON: &[u8] = b"application/sdp UPDATE INVITE SIP/2.0/TCP SIP/2.0/TLS \
    completed elsewhere Asterisk PBX FPBX-Kamailio SIP.js/0.21.2 <urn:uuid:-4000-8000-> \
    CN/8000 G722/8000 L16/16000 info dtmf-relay infoDtmf trunk default incoming phones \
    ;lr;transport=tcp>;lr>;transport=tls;ob>;+sip.instance=;alias \
    From: \r\nTo: \r\nCall-ID: \r\nCSeq:  INVITE\r\nContact: <sip:\r\nMax-Forwards: 70\r\n\
    Via: SIP/2.0/UDP ;rport;branch=z9hG4bK\r\nVia: SIP/2.0/WSS .invalid;branch=z9hG4bK\
    User-Agent: JsSIP 3.10.13Mozilla/5.0 Chrome/ 127.0.0.1 192.168.10.0 @.invalid;transport=ws;ob\
    telephone-event/48000telephone-event/8000opus/48000PCMA/8000PCMU/8000 \
    \"\" <sip:+49301206555@>;tag=<sip:+1@sip:@.example.com>;tag=";
/// More than any call has.
const LARGEST: usize = 1 << 20;

/// Packs one value after the other, without a new start of 300 kB for each.
pub(super) struct Packer(Compress);

impl Packer {
    pub(super) fn new() -> Packer {
        Packer(Compress::new(Compression::default(), false))
    }

    /// `plain`, as small as it gets; `None` if the library has a bug.
    pub(super) fn pack(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.reset();
        let mut packed = Vec::with_capacity(COMMON.len() + plain.len() + 128);
        self.0.compress_vec(COMMON, &mut packed, FlushCompress::Sync).ok()?;
        if self.0.total_in() != COMMON.len() as u64 {
            return None;
        }
        // Whoever reads knows it.
        packed.clear();
        packed.reserve(plain.len() + 128);
        match self.0.compress_vec(plain, &mut packed, FlushCompress::Finish).ok()? {
            Status::StreamEnd => Some(packed),
            Status::Ok | Status::BufError => None,
        }
    }
}

/// What was packed; `None` if it is nothing that was.
pub(super) fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    // A block that is stored as it is (RFC 1951 §3.2.4) and not the last one.
    let length = u16::try_from(COMMON.len()).ok()?;
    let mut whole = vec![0];
    whole.extend_from_slice(&length.to_le_bytes());
    whole.extend_from_slice(&(!length).to_le_bytes());
    whole.extend_from_slice(COMMON);
    whole.extend_from_slice(packed);
    let mut decompress = Decompress::new(false);
    let mut plain = Vec::with_capacity(COMMON.len() + 4 * packed.len() + 256);
    loop {
        let (read, had) = (usize::try_from(decompress.total_in()).ok()?, plain.len());
        let status = decompress.decompress_vec(&whole[read..], &mut plain, FlushDecompress::None);
        let goes_on = decompress.total_in() > read as u64 || plain.len() > had;
        match status.ok()? {
            Status::StreamEnd if decompress.total_in() == whole.len() as u64 => break,
            Status::StreamEnd => return None,
            _ if plain.len() >= LARGEST => return None,
            _ if plain.len() == plain.capacity() => plain.reserve(plain.capacity()),
            _ if goes_on => {}
            _ => return None,
        }
    }
    plain.drain(..COMMON.len());
    Some(plain)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Bytes that no packing makes smaller.
    pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn what_is_packed_is_unpacked_as_it_was() {
        let mut packer = Packer::new();
        let text = b"<sip:+4930123456@192.168.10.7>;tag=3f9a".repeat(30);
        for plain in [&[][..], b"a", &text, &noise(1, 3_000), &[0; 50_000], &COMMON.repeat(20)] {
            let packed = packer.pack(plain).expect("packed");
            assert!(packed.len() <= plain.len() + 16, "{} of {}", packed.len(), plain.len());
            assert_eq!(unpack(&packed).as_deref(), Some(plain));
        }
        assert!(packer.pack(&text).expect("packed").len() < 80);
    }

    #[test]
    fn nothing_else_is_unpacked() {
        let mut packer = Packer::new();
        let packed = packer.pack(&noise(2, 300)).expect("packed");
        assert_eq!(unpack(&packed[..packed.len() - 1]), None, "torn");
        assert_eq!(unpack(&[&packed[..], b"x"].concat()), None, "something follows");
        assert_eq!(unpack(&[]), None);
        for seed in 0..2_000 {
            let junk = noise(seed, 1 + seed as usize % 60);
            assert!(unpack(&junk).is_none_or(|plain| plain.len() <= LARGEST * 2));
        }
        let bomb = packer.pack(&vec![0; 3 * LARGEST]);
        assert!(bomb.is_none_or(|bomb| unpack(&bomb).is_none()));
    }

    /// A process of any later version reads the stable part of what this one wrote.
    #[test]
    fn the_format_never_changes() {
        let packed = [0x01, 0x05, 0x00, 0xfa, 0xff, b'h', b'e', b'l', b'l', b'o'];
        assert_eq!(unpack(&packed).as_deref(), Some(&b"hello"[..]));
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, COMMON);
        let digest: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(&digest[..16], "713712b60214e63e");
    }
}
