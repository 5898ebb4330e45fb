//! telephone-event payloads (RFC 4733 §2.3).

/// One event report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TelephoneEvent {
    /// 0-9, `*` is 10, `#` is 11, A-D are 12 to 15, flash is 16.
    pub event: u8,
    /// The last packet of a press, sent three times.
    pub end: bool,
    /// dBm0 below zero, 0 to 63.
    pub volume: u8,
    /// Timestamp units of the stream's clock.
    pub duration: u16,
}

impl TelephoneEvent {
    /// Reads the first report of a payload.
    pub fn parse(payload: &[u8]) -> Option<TelephoneEvent> {
        let [event, flags, high, low] = *payload.first_chunk::<4>()?;
        let duration = u16::from_be_bytes([high, low]);
        Some(TelephoneEvent { event, end: flags & 0x80 != 0, volume: flags & 0x3f, duration })
    }

    /// The four bytes on the wire.
    pub fn to_bytes(self) -> [u8; 4] {
        let [high, low] = self.duration.to_be_bytes();
        [self.event, (u8::from(self.end) << 7) | self.volume.min(63), high, low]
    }
}

/// The DTMF character of an event number 0 to 15.
pub(crate) fn digit_of(event: u8) -> Option<char> {
    b"0123456789*#ABCD".get(usize::from(event)).map(|b| *b as char)
}

/// The event number of a DTMF character.
pub fn event_of(digit: char) -> Option<u8> {
    "0123456789*#ABCD".find(digit.to_ascii_uppercase()).map(|n| n as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_written_as_it_was_read() {
        let event = TelephoneEvent::parse(&[5, 0x80 | 10, 0x12, 0xc0]).expect("four bytes");
        assert_eq!(event, TelephoneEvent { event: 5, end: true, volume: 10, duration: 4800 });
        assert_eq!(TelephoneEvent::parse(&event.to_bytes()), Some(event));
        assert!((0..16).all(|n| event_of(digit_of(n).expect("sixteen")) == Some(n)));
    }
}
