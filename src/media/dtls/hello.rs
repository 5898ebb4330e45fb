//! A ClientHello that comes in pieces, and the SRTP profiles it lists.

use super::MAX_HELLO;

/// A handshake fragment that is alone in its record.
pub(super) struct Fragment<'a> {
    record: &'a [u8],
    sequence: u16,
    total: usize,
    offset: usize,
    body: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// Reads a datagram that is one plaintext ClientHello record.
    pub(super) fn parse(datagram: &'a [u8]) -> Option<Fragment<'a>> {
        let header: &[u8; 25] = datagram.first_chunk()?;
        let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
        let number = |b: &[u8]| b.iter().fold(0usize, |n, b| (n << 8) | usize::from(*b));
        // Content type 22 (handshake), epoch 0, message type 1 (ClientHello).
        if header[0] != 22 || header[3..5] != [0, 0] || header[13] != 1 {
            return None;
        }
        let (total, offset, len) =
            (number(&header[14..17]), number(&header[19..22]), number(&header[22..25]));
        let body =
            datagram.get(25..13 + length).filter(|b| b.len() == len && offset + len <= total)?;
        Some(Fragment {
            record: datagram,
            sequence: u16::from_be_bytes([header[17], header[18]]),
            total,
            offset,
            body,
        })
    }

    pub(super) fn is_partial(&self) -> bool {
        self.body.len() < self.total
    }
}

/// A ClientHello being put together.
#[derive(Default)]
pub(super) struct Hello {
    sequence: Option<u16>,
    head: Vec<u8>,
    body: Vec<u8>,
    have: Vec<bool>,
}

impl Hello {
    /// Adds a fragment; returns the message once it is whole.
    pub(super) fn push(&mut self, datagram: &[u8]) -> Option<Hello> {
        let fragment = Fragment::parse(datagram)?;
        if fragment.total > MAX_HELLO || fragment.total == 0 {
            return None;
        }
        if self.sequence != Some(fragment.sequence) || self.body.len() != fragment.total {
            *self = Hello {
                sequence: Some(fragment.sequence),
                head: Vec::new(),
                body: vec![0; fragment.total],
                have: vec![false; fragment.total],
            };
        }
        // The newest record number is used, so that the crate's replay window accepts the joined
        // record.
        self.head = fragment.record[..13].to_vec();
        let range = fragment.offset..fragment.offset + fragment.body.len();
        self.body[range.clone()].copy_from_slice(fragment.body);
        self.have[range].fill(true);
        self.have.iter().all(|h| *h).then(|| std::mem::take(self))
    }

    /// The whole message as one record.
    pub(super) fn record(&self) -> Vec<u8> {
        let total = (self.body.len() as u32).to_be_bytes();
        let mut out = self.head.clone();
        out[11..13].copy_from_slice(&((self.body.len() + 12) as u16).to_be_bytes());
        out.push(1);
        out.extend(&total[1..]);
        out.extend(self.sequence.unwrap_or_default().to_be_bytes());
        out.extend([0, 0, 0]);
        out.extend(&total[1..]);
        out.extend(&self.body);
        out
    }

    /// The `use_srtp` profiles offered (RFC 5764 §4.1.1), empty if the extension is missing or
    /// broken.
    pub(super) fn profiles(&self) -> Vec<u16> {
        self.find_profiles().unwrap_or_default()
    }

    fn find_profiles(&self) -> Option<Vec<u16>> {
        let mut at = 34;
        let byte = |at: usize| self.body.get(at).map(|b| usize::from(*b));
        let word = |at: usize| Some((byte(at)? << 8) | byte(at + 1)?);
        at += 1 + byte(at)?; // session id
        at += 1 + byte(at)?; // cookie
        at += 2 + word(at)?; // cipher suites
        at += 1 + byte(at)?; // compression
        let end = at + 2 + word(at)?;
        at += 2;
        while at + 4 <= end {
            let (kind, len) = (word(at)?, word(at + 2)?);
            if kind == 14 {
                let count = word(at + 4)? / 2;
                return (0..count.min(16))
                    .map(|n| word(at + 6 + 2 * n).map(|w| w as u16))
                    .collect();
            }
            at += 4 + len;
        }
        None
    }
}
