//! Messages out of a byte stream (RFC 3261 §18.3), with the same parser that reads them.

use super::message::Message;
use super::parse::{Framing, Index, MAX_MESSAGE, ParseError, head_end};
use super::salvage::{Salvaged, salvage};

/// What the next bytes of a stream are.
#[derive(Debug)]
pub enum Frame {
    /// A whole one.
    Message(Message),
    /// CRLFCRLF: the peer wants a CRLF back (RFC 5626 §3.5.1).
    Ping,
    /// A lone CRLF: an answer to our ping.
    Pong,
    /// A message whose start line cannot be read; its lines said how long it is, so that the next
    /// one is found.
    Unreadable(ParseError, Option<Salvaged>),
}

/// Unreadable messages in a row before a stream is taken for something else than SIP.
const MAX_UNREADABLE: u8 = 8;

/// Collects bytes until a message is whole. Remembers how far it searched, so a slow drip costs no
/// more.
#[derive(Debug, Default)]
pub struct Framer {
    buf: Vec<u8>,
    /// What comes before was taken. It is dropped with the next bytes, once for all that was taken:
    /// a stream of line ends is thousands of frames.
    taken: usize,
    searched: usize,
    /// Length of the message under way, once its head was read: a dripped body is not read again
    /// and again.
    needed: usize,
    /// Unreadable messages in a row.
    unreadable: u8,
}

impl Framer {
    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buf.drain(..std::mem::take(&mut self.taken));
        self.buf.extend_from_slice(bytes);
    }

    /// What was not taken yet.
    fn left(&self) -> &[u8] {
        &self.buf[self.taken..]
    }

    /// Whether a message has begun but not ended.
    pub(crate) fn is_partial(&self) -> bool {
        // A lone CRLF is a whole answer to a ping, or half a ping: either may take its time.
        !self.left().is_empty() && self.left() != b"\r\n"
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// The stream cannot be framed any more and must be closed. `Some(message)` is the head that
    /// broke it, if it can still be answered.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, (ParseError, Option<Message>)> {
        match self.left() {
            [b'\r', b'\n', b'\r', b'\n', ..] => {
                self.take(4);
                return Ok(Some(Frame::Ping));
            }
            [b'\r', b'\n', b'\r'] | [b'\r', b'\n'] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] => {
                self.take(2);
                return Ok(Some(Frame::Pong));
            }
            [b'\n', ..] => {
                // Line ends before a start line are looked past (RFC 3261 §7.5).
                self.take(1);
                return Ok(Some(Frame::Pong));
            }
            [] => return Ok(None),
            left if left.len() < self.needed => return Ok(None),
            _ => {}
        }
        let left = self.left();
        let Some(end) = head_end(left, self.searched) else {
            if left.len() > MAX_MESSAGE {
                return Err((
                    ParseError::status("head longer than 65535 bytes", MAX_MESSAGE, 513),
                    None,
                ));
            }
            self.searched = left.len().saturating_sub(3);
            return Ok(None);
        };
        let mut head = left[..end].to_vec();
        let index = match Index::parse(&mut head) {
            Ok(index) => index,
            Err(e) => return self.skip(end, e),
        };
        let length = match index.body_length(0, Framing::Stream) {
            Ok(length) => length,
            Err(e) => return Err((e, Some(Message::framed(head, index, 0)))),
        };
        if end + length > MAX_MESSAGE {
            let error = ParseError::status("message longer than 65535 bytes", MAX_MESSAGE, 513);
            return Err((error, Some(Message::framed(head, index, 0))));
        }
        if left.len() < end + length {
            self.needed = end + length;
            return Ok(None);
        }
        head.extend_from_slice(&left[end..end + length]);
        self.take(end + length);
        self.unreadable = 0;
        Ok(Some(Frame::Message(Message::framed(head, index, length))))
    }

    /// Steps over a message whose start line cannot be read: it costs itself, not the connection.
    fn skip(
        &mut self,
        end: usize,
        why: ParseError,
    ) -> Result<Option<Frame>, (ParseError, Option<Message>)> {
        let left = self.left();
        let length = Index::length_of(&left[..end]).filter(|n| end + n <= MAX_MESSAGE);
        let Some(length) = length.filter(|_| self.unreadable < MAX_UNREADABLE) else {
            return Err((why, None));
        };
        if left.len() < end + length {
            self.needed = end + length;
            return Ok(None);
        }
        let rest = salvage(&left[..end]);
        self.take(end + length);
        self.unreadable += 1;
        Ok(Some(Frame::Unreadable(why, rest)))
    }

    fn take(&mut self, n: usize) {
        self.taken += n;
        (self.searched, self.needed) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &str = "OPTIONS sip:a@b SIP/2.0\r\nContent-Length : 4\r\n\r\nBYE ";

    #[test]
    fn a_stream_dripped_byte_by_byte_frames_like_one_write() {
        let mut framer = Framer::default();
        let mut seen = Vec::new();
        let all = format!("\r\n\r\n{OPTIONS}\r\n\r\n{OPTIONS}");
        for b in all.bytes() {
            framer.push(&[b]);
            while let Some(frame) = framer.next_frame().expect("sound stream") {
                seen.push(match frame {
                    Frame::Message(m) => {
                        format!("{m} {:?}", std::str::from_utf8(m.body()).unwrap())
                    }
                    other => format!("{other:?}"),
                });
            }
        }
        let options = "OPTIONS sip:a@b \"BYE \"";
        assert_eq!(seen, ["Ping", options, "Ping", options]);
        assert!(!framer.is_partial());
    }

    #[test]
    fn a_stream_without_content_length_is_closed_with_the_head_to_answer() {
        let mut framer = Framer::default();
        framer.push(b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP x;branch=z9hG4bK1\r\n\r\nBYE sip:x SIP/2.0\r\n\r\n");
        let (error, head) = framer.next_frame().expect_err("no length");
        assert_eq!(error.what, "no Content-Length on a stream");
        assert!(head.is_some());
    }

    #[test]
    fn an_unreadable_start_line_costs_its_message_and_a_row_of_them_the_stream() {
        let mut framer = Framer::default();
        framer.push(b"\n\r\nSIP/2.0 999 ?\r\nContent-Length: 3\r\n\r\nabc");
        framer.push(OPTIONS.as_bytes());
        let mut seen = Vec::new();
        while let Some(frame) = framer.next_frame().expect("framed") {
            seen.push(matches!(frame, Frame::Message(_)));
        }
        assert_eq!(seen.last(), Some(&true), "the next message is found: {seen:?}");
        let junk = b"HELLO\r\nContent-Length: 0\r\n\r\n".repeat(20);
        framer.push(&junk);
        let ended = (0..20).find(|_| framer.next_frame().is_err());
        assert_eq!(ended, Some(usize::from(MAX_UNREADABLE)), "then it is no SIP");
    }

    /// To move what is left up after each frame would cost its length again and again.
    #[test]
    fn what_was_taken_is_dropped_once_for_all_frames() {
        let mut framer = Framer::default();
        framer.push(&b"\n".repeat(8_192));
        while let Some(frame) = framer.next_frame().expect("framed") {
            assert!(matches!(frame, Frame::Pong));
            assert_eq!(framer.buf.len(), 8_192, "nothing was moved");
        }
        assert!(!framer.is_partial());
        framer.push(OPTIONS.as_bytes());
        assert_eq!(framer.buf.len(), OPTIONS.len());
        assert!(matches!(framer.next_frame(), Ok(Some(Frame::Message(_)))));
    }

    #[test]
    fn hostile_lengths_never_smuggle() {
        for length in ["-1", "4294967328", "18446744073709551617", "0x10", "4, 4", " ", "1e1"] {
            let mut framer = Framer::default();
            framer.push(
                format!("OPTIONS sip:a@b SIP/2.0\r\nContent-Length: {length}\r\n\r\nabcd")
                    .as_bytes(),
            );
            assert!(framer.next_frame().is_err(), "{length}");
        }
    }
}
