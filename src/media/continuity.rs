//! Whether a source continues or has started again: another SSRC, other sequence numbers, other
//! timestamps, each alone and at any point.

use crate::codec::Codec;
use crate::rtp::packet::{Packet, is_longer};
use std::time::{Duration, Instant};

/// Sequence distance ahead beyond which a source has restarted, and behind.
const AHEAD: i16 = 1_000;
const LATE: i16 = 64;
/// A gap of more packets than this is not counted if next to no time passed in it.
const GAP: i16 = 50;
/// The shortest packet, from which that follows.
const SHORTEST: u32 = 400;
/// How far timestamps may run ahead of the clock on the wall.
const LEAD: Duration = Duration::from_secs(10);
/// Packets in a row that came before: a source that counts again, not a network that repeats.
const REPEATS: u8 = 2;

/// The newest packet of a source, and which of the 64 before it have come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Continuity {
    ssrc: u32,
    newest: u16,
    seen: u64,
    repeats: u8,
    /// The newest packet of sound: its codec, timestamp, and when it came.
    sound: Option<(Codec, u32, Instant)>,
}

impl Continuity {
    /// A source that begins with this packet; `codec` if it is sound.
    pub(super) fn new(now: Instant, packet: &Packet, codec: Option<Codec>) -> Continuity {
        Continuity {
            ssrc: packet.ssrc,
            newest: packet.sequence,
            seen: 1,
            repeats: 0,
            sound: codec.map(|codec| (codec, packet.timestamp, now)),
        }
    }

    /// Takes the next packet. Returns false if its source has started again with it.
    pub(super) fn continues(
        &mut self,
        now: Instant,
        packet: &Packet,
        codec: Option<Codec>,
    ) -> bool {
        let step = packet.sequence.wrapping_sub(self.newest) as i16;
        if packet.ssrc != self.ssrc || !(-LATE < step && step < AHEAD) {
            return false;
        }
        let sound = self.sound.filter(|(known, ..)| Some(*known) == codec);
        let passed = sound.map(|(_, timestamp, _)| packet.timestamp.wrapping_sub(timestamp) as i32);
        if step > 0 {
            let early = sound.zip(passed).is_some_and(|((codec, _, at), passed)| {
                let (units, clock) = (passed as u32, codec.clock());
                let leads = |most| is_longer(units, clock, most);
                passed < 0
                    || (leads(LEAD) && leads(now.saturating_duration_since(at) + LEAD))
                    || (step > GAP && units < step as u32 * (clock / SHORTEST))
            });
            if early {
                return false;
            }
            self.seen = self.seen.checked_shl(step as u32).unwrap_or(0) | 1;
            (self.newest, self.repeats) = (packet.sequence, 0);
            if let Some(codec) = codec {
                self.sound = Some((codec, packet.timestamp, now));
            }
            return true;
        }
        let bit = 1u64 << step.unsigned_abs();
        self.repeats = if self.seen & bit == 0 || step == 0 { 0 } else { self.repeats + 1 };
        self.seen |= bit;
        // A packet that is behind by its number is not ahead by its time.
        self.repeats < REPEATS && passed.is_none_or(|passed| passed <= 0)
    }
}
