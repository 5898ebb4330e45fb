//! Session timers (RFC 4028): the refresher, how often, and when silence ends the session.
//!
//! Not here: sending the refresh, and clocks; deadlines are durations from the last refresh.

use super::header::delta_seconds;
use super::message::Message;
use super::parse::HeaderName;
use super::uri::Params;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// The shortest interval we accept, seconds (§5: not below 90).
pub(crate) const MIN_SE: u32 = 90;

/// Whose task the refresh is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Refresher {
    Us,
    Peer,
}

/// The running timer of one dialog.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct SessionTimer {
    /// The interval, seconds.
    pub interval: u32,
    /// The refresher.
    pub refresher: Refresher,
}

/// A Session-Expires value: seconds, and the refresher's role if given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SessionExpires {
    /// The interval, seconds.
    pub seconds: u32,
    /// True for `uac`, false for `uas`.
    pub refresher_uac: Option<bool>,
}

impl SessionExpires {
    /// The value of a message (§4); a malformed one is ignored.
    pub(crate) fn of(message: &Message) -> Option<SessionExpires> {
        let text = message.header(HeaderName::SessionExpires)?;
        let params = Params::readable(text.split_once(';').map_or("", |(_, p)| p));
        let refresher_uac = params.get("refresher").and_then(|r| match () {
            () if r.eq_ignore_ascii_case("uac") => Some(true),
            () if r.eq_ignore_ascii_case("uas") => Some(false),
            () => None,
        });
        Some(SessionExpires { seconds: delta_seconds(text)?, refresher_uac })
    }
}

impl fmt::Display for SessionExpires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seconds)?;
        match self.refresher_uac {
            Some(true) => f.write_str(";refresher=uac"),
            Some(false) => f.write_str(";refresher=uas"),
            None => Ok(()),
        }
    }
}

/// Min-SE of a message; 90 if it is missing (§5).
pub(crate) fn min_se(message: &Message) -> u32 {
    message.header(HeaderName::MinSe).and_then(delta_seconds).unwrap_or(MIN_SE).max(MIN_SE)
}

/// What a UAS says to a request: the header of its 2xx, and the timer that runs from then on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Granted {
    /// The Session-Expires value.
    pub header: SessionExpires,
    /// The timer.
    pub timer: SessionTimer,
}

/// The request's interval is below our minimum, and its sender understands a 422 (§6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooBrief;

/// The UAS's part (§9). `own` is the interval we want, seconds; `None`: only what the peer asks
/// for. `refreshes`: whether we refresh if the peer leaves that open.
///
/// # Errors
/// See [`TooBrief`].
pub(crate) fn grant(
    request: &Message,
    own: Option<u32>,
    refreshes: bool,
) -> Result<Option<Granted>, TooBrief> {
    let supports = request.lists(HeaderName::Supported, "timer");
    let asked = SessionExpires::of(request);
    if asked.is_some_and(|a| a.seconds < MIN_SE) {
        if supports {
            return Err(TooBrief);
        }
        // A proxy in between asked for a peer that knows no timers: 422 would mean nothing to it.
        return Ok(granted(MIN_SE, false));
    }
    let floor = min_se(request);
    Ok(match (asked, own) {
        (Some(asked), own) => {
            let seconds = own.map_or(asked.seconds, |own| asked.seconds.min(own.max(floor)));
            // Table 2: a UAC that knows no timers cannot refresh; one that names the refresher is
            // followed.
            granted(seconds, supports && asked.refresher_uac.unwrap_or(!refreshes))
        }
        (None, Some(own)) => granted(own.max(floor), false),
        (None, None) => None,
    })
}

fn granted(seconds: u32, peer_refreshes: bool) -> Option<Granted> {
    let header = SessionExpires { seconds, refresher_uac: Some(peer_refreshes) };
    let refresher = if peer_refreshes { Refresher::Peer } else { Refresher::Us };
    Some(Granted { header, timer: SessionTimer { interval: seconds, refresher } })
}

impl SessionTimer {
    /// The UAC's part (§7.2): what a 2xx says, and not less than the least there is (§5): the
    /// interval is how often we send. Without Session-Expires there is no timer.
    pub(crate) fn from_response(response: &Message) -> Option<SessionTimer> {
        let said = SessionExpires::of(response).filter(|s| s.seconds > 0)?;
        let refresher =
            if said.refresher_uac == Some(false) { Refresher::Peer } else { Refresher::Us };
        Some(SessionTimer { interval: said.seconds.max(MIN_SE), refresher })
    }

    /// From the last refresh to our refresh, or to the end of a session the peer forgot (§10).
    pub(crate) fn due(&self) -> Duration {
        let seconds = match self.refresher {
            Refresher::Us => self.interval / 2,
            Refresher::Peer => self.interval - (self.interval / 3).min(32),
        };
        Duration::from_secs(u64::from(seconds))
    }

    /// From the last refresh to the session's end.
    pub(crate) fn expiry(&self) -> Duration {
        Duration::from_secs(u64::from(self.interval - (self.interval / 3).min(32)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::parse::Framing;

    fn request(lines: &str) -> Message {
        Message::parse(
            format!("INVITE sip:a SIP/2.0\r\n{lines}\r\n").into_bytes(),
            Framing::Datagram,
        )
        .expect("sound")
    }

    #[test]
    fn the_uas_follows_table_2() {
        let grant = |lines: &str, own| {
            super::grant(&request(lines), own, false).map(|g| g.map(|g| g.header.to_string()))
        };
        let timer = "Supported: timer\r\n";
        for (lines, own, expected) in [
            (String::new(), None, Ok(None)),
            (String::new(), Some(1800), Ok(Some("1800;refresher=uas"))),
            (timer.to_owned(), Some(1800), Ok(Some("1800;refresher=uas"))),
            (format!("{timer}Session-Expires: 600\r\n"), None, Ok(Some("600;refresher=uac"))),
            (
                format!("{timer}Session-Expires: 600;refresher=uas\r\n"),
                None,
                Ok(Some("600;refresher=uas")),
            ),
            (format!("{timer}x: 600;refresher=uac\r\n"), Some(300), Ok(Some("300;refresher=uac"))),
            (
                format!("{timer}Session-Expires: 600\r\nMin-SE: 400\r\n"),
                Some(300),
                Ok(Some("400;refresher=uac")),
            ),
            (
                "Session-Expires: 600;refresher=uac\r\n".to_owned(),
                None,
                Ok(Some("600;refresher=uas")),
            ),
            (format!("{timer}Session-Expires: 60\r\n"), None, Err(TooBrief)),
            ("Session-Expires: 60\r\n".to_owned(), None, Ok(Some("90;refresher=uas"))),
        ] {
            assert_eq!(
                grant(&lines, own),
                expected.map(|e| e.map(str::to_owned)),
                "{lines} {own:?}"
            );
        }
    }

    #[test]
    fn we_refresh_where_the_peer_leaves_it_open_and_we_want_to() {
        for (said, expected) in [("", "90;refresher=uas"), (";refresher=uac", "90;refresher=uac")] {
            let lines = format!("Supported: timer\r\nSession-Expires: 90{said}\r\n");
            let granted = super::grant(&request(&lines), Some(1800), true);
            let header = granted.map(|g| g.map(|g| g.header.to_string()));
            assert_eq!(header, Ok(Some(expected.to_owned())), "{said}: table 2 of RFC 4028");
        }
    }

    #[test]
    fn the_refresher_refreshes_at_half_and_the_other_gives_up_in_time() {
        let timer = |refresher| SessionTimer { interval: 1800, refresher };
        assert_eq!(timer(Refresher::Us).due().as_secs(), 900);
        assert_eq!(timer(Refresher::Peer).due().as_secs(), 1768);
        assert_eq!(SessionTimer { interval: 90, refresher: Refresher::Peer }.due().as_secs(), 60);
    }
}
