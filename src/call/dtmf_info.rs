//! Digits in INFO: `application/dtmf-relay`, `application/dtmf` and their like, as phones, PBXs and
//! browsers write them. No RFC says how, so everything seen is read, and one form is written.

use crate::rtp::event::{digit_of, event_of};
use crate::sip::message::Message;
use std::time::Duration;

/// The types that carry digits, for `Accept`.
pub(super) const ACCEPTED: &str = "application/dtmf-relay, application/dtmf, \
     application/vnd.nortelnetworks.digits, application/hook-flash";
/// The type of a flash alone.
const HOOK_FLASH: &str = "application/hook-flash";
/// The types of keys.
const KEYS: [&str; 3] =
    ["application/dtmf-relay", "application/dtmf", "application/vnd.nortelnetworks.digits"];
/// All types that are read.
pub(super) const READ: [&str; 4] = [HOOK_FLASH, KEYS[0], KEYS[1], KEYS[2]];
/// The type written.
pub(super) const WRITTEN: &str = "application/dtmf-relay";
/// The event of a hook flash (RFC 4733 §7.2), the last one read.
const FLASH: u8 = 16;
/// The length of a digit that does not name one.
const USUAL: u64 = 160;
/// Shortest and longest digit, ms.
const SHORTEST: u64 = 40;
const LONGEST: u64 = 6_000;

/// The event in the body of an INFO and how long it is. The outer `None`: the body is no digits at
/// all; the inner: it is of their type, and none can be read.
pub(super) fn read(message: &Message) -> Option<Option<(u8, Duration)>> {
    if message.body_of(HOOK_FLASH).is_some() {
        return Some(Some((FLASH, Duration::from_millis(USUAL))));
    }
    let body = KEYS.into_iter().find_map(|kind| message.body_of(kind))?;
    let text = String::from_utf8_lossy(body);
    let value = |wanted: &[&str]| {
        text.lines().filter_map(|l| l.split_once(['=', ':'])).find_map(|(name, value)| {
            let name = name.trim();
            wanted.iter().any(|w| name.eq_ignore_ascii_case(w)).then(|| value.trim())
        })
    };
    let bare = || text.lines().map(str::trim).find(|l| !l.is_empty() && !l.contains(['=', ':']));
    let event = value(&["signal", "digit", "d"]).or_else(bare).and_then(event_named);
    let length = value(&["duration"]).map(|d| d.trim_end_matches("ms").trim_end());
    let length = length.and_then(|d| d.parse().ok()).unwrap_or(USUAL).clamp(SHORTEST, LONGEST);
    Some(event.map(|event| (event, Duration::from_millis(length))))
}

/// The event a value names: a key, its number from 0 to 16, or the flash.
fn event_named(value: &str) -> Option<u8> {
    let value = value.trim_matches('"').split([';', ',', ' ']).next().unwrap_or_default();
    let mut characters = value.chars();
    match (characters.next(), characters.next()) {
        (Some('!'), None) => Some(FLASH),
        (Some(key), None) => event_of(key),
        _ if ["flash", "hookflash", "hook-flash", "hf"]
            .iter()
            .any(|name| value.eq_ignore_ascii_case(name)) =>
        {
            Some(FLASH)
        }
        _ => value.parse().ok().filter(|n| *n <= FLASH && !value.starts_with('+')),
    }
}

/// A body for an event: keys as themselves, the flash by its number, which is what PBXs read.
pub(super) fn write(event: u8, length: Duration) -> String {
    let signal = digit_of(event).map_or_else(|| event.to_string(), String::from);
    let length = (length.as_millis() as u64).clamp(SHORTEST, LONGEST);
    format!("Signal={signal}\r\nDuration={length}\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::parse::Framing;

    fn of(kind: &str, body: &str) -> Option<Option<(u8, u64)>> {
        let text = format!("INFO sip:a@b SIP/2.0\r\nContent-Type: {kind}\r\n\r\n{body}");
        let message = Message::parse(text.into(), Framing::Datagram).expect("a message");
        read(&message).map(|found| found.map(|(event, length)| (event, length.as_millis() as u64)))
    }

    #[test]
    fn digits_are_read_however_they_are_written() {
        for (body, expected) in [
            ("Signal=5\r\nDuration=100\r\n", (5, 100)),
            ("signal = 5\nDURATION = 100", (5, 100)),
            ("Signal: 5\r\nDuration: 100 ms\r\n", (5, 100)),
            (" Signal =\t*\r\n", (10, 160)),
            ("Signal=#\r\nDuration=0\r\n", (11, 40)),
            ("Signal=10\r\nDuration=999999\r\n", (10, 6_000)),
            ("Signal=11\r\nDuration=-1\r\n", (11, 160)),
            ("Signal=12\r\nDuration=soon\r\n", (12, 160)),
            ("Signal=a\r\n", (12, 160)),
            ("Signal=D\r\n", (15, 160)),
            ("Signal=15\r\n", (15, 160)),
            ("Signal=16\r\n", (16, 160)),
            ("Signal=flash\r\n", (16, 160)),
            ("Signal=!\r\n", (16, 160)),
            ("Signal=\"7\"\r\n", (7, 160)),
            ("d=7\r\n", (7, 160)),
            ("7", (7, 160)),
            ("\r\n 7 \r\n", (7, 160)),
            ("*", (10, 160)),
            ("11\r\n", (11, 160)),
            ("hf", (16, 160)),
        ] {
            for kind in ["application/dtmf-relay", "Application/DTMF; charset=x"] {
                assert_eq!(of(kind, body), Some(Some(expected)), "{kind} {body:?}");
            }
        }
        for body in ["Nothing=1\r\n", "Signal=\r\n", "Signal=17", "Signal=E", "Signal=+5", "x"] {
            assert_eq!(of("application/dtmf-relay", body), Some(None), "{body:?}");
        }
        assert_eq!(of("text/plain", "7"), None);
        let nortel = "p=Digit-Collection\r\ny=Digits\r\ns=success\r\nu=12345678\r\nd=#\r\n";
        assert_eq!(of("application/vnd.nortelnetworks.digits", nortel), Some(Some((11, 160))));
        assert_eq!(of("application/hook-flash", "signal=hf\r\n"), Some(Some((16, 160))));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for event in 0..=16 {
            let body = write(event, Duration::from_millis(120));
            assert_eq!(of(WRITTEN, &body), Some(Some((event, 120))), "{body:?}");
        }
    }
}
