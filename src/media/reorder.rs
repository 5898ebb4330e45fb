//! Packets put in order: packet driven, no timer.

use crate::rtp::packet::{Packet, Unwrapper};
use crate::rtp::report::WINDOW;

/// Sequence distance beyond which a source has restarted.
const RESTART: u64 = 1_000;

/// One packet that waits.
struct HeldPacket {
    extended: u64,
    packet: Packet,
    bytes: Vec<u8>,
}

/// What comes out of the window.
pub(crate) enum Ordered<'a> {
    Packet(Packet, &'a [u8]),
    /// This many packets are missing before the next one.
    Gap(u64),
}

/// A reorder window.
#[derive(Default)]
pub(crate) struct Reorder {
    unwrapper: Unwrapper,
    expected: Option<u64>,
    held: Vec<HeldPacket>,
    spare: Vec<Vec<u8>>,
}

impl Reorder {
    /// Takes a packet; calls `deliver` for everything that is now in order.
    pub(crate) fn push(
        &mut self,
        packet: Packet,
        bytes: &[u8],
        mut deliver: impl FnMut(Ordered<'_>),
    ) {
        let extended = self.unwrapper.extend(packet.sequence);
        let expected = *self.expected.get_or_insert(extended);
        if extended > expected + RESTART || extended + RESTART < expected {
            *self = Reorder {
                expected: Some(u64::from(packet.sequence) + (1 << 16) + 1),
                ..Reorder::default()
            };
            self.unwrapper.extend(packet.sequence);
            return deliver(Ordered::Packet(packet, bytes));
        }
        if extended < expected || self.held.iter().any(|h| h.extended == extended) {
            return;
        }
        if extended == expected {
            self.expected = Some(extended + 1);
            deliver(Ordered::Packet(packet, bytes));
            return self.drain(&mut deliver);
        }
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(bytes);
        let at = self.held.partition_point(|h| h.extended < extended);
        self.held.insert(at, HeldPacket { extended, packet, bytes: copy });
        if self.held.len() > WINDOW {
            let next = self.held[0].extended;
            deliver(Ordered::Gap(next - expected));
            self.expected = Some(next);
            self.drain(&mut deliver);
        }
    }

    fn drain(&mut self, deliver: &mut impl FnMut(Ordered<'_>)) {
        while self.held.first().is_some_and(|h| Some(h.extended) == self.expected) {
            let held = self.held.remove(0);
            self.expected = Some(held.extended + 1);
            deliver(Ordered::Packet(held.packet, &held.bytes));
            self.spare.push(held.bytes);
        }
    }
}
