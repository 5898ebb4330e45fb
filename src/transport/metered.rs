//! What a WebSocket's peer may send before a message is whole. tungstenite bounds a message's
//! bytes, not the number of its fragments, nor the time it takes, nor the pings between them.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Bytes on the wire for one message of at most 64 KiB: browsers do not fragment, and small
/// fragments carry no more than their own size again in heads.
const MOST_BYTES: usize = 160 * 1024;
/// A message must be whole this long after its first byte.
const DEADLINE: Duration = Duration::from_secs(10);
/// Pings a peer may send within [`CONTROL_TIME`]; a browser sends none, others one in some seconds.
const MOST_CONTROLS: u32 = 100;
const CONTROL_TIME: Duration = Duration::from_secs(10);

/// A peer sent more than a message may take.
#[derive(Debug)]
pub(super) struct TooMuch;

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message takes too many bytes, or too long")
    }
}

impl std::error::Error for TooMuch {}

/// A connection whose reading fails once the current message has had its share.
#[derive(Debug)]
pub(super) struct Metered<S> {
    inner: S,
    bytes: usize,
    began: Option<Instant>,
}

impl<S> Metered<S> {
    /// Nothing read yet.
    pub(super) fn new(inner: S) -> Metered<S> {
        Metered { inner, bytes: 0, began: None }
    }

    /// A message, or a control frame on its own, was received completely.
    pub(super) fn message_ended(&mut self) {
        self.bytes = 0;
        self.began = None;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if matches!(read, Poll::Ready(Ok(()))) {
            self.bytes += buf.filled().len() - before;
            let now = Instant::now();
            let began = *self.began.get_or_insert(now);
            if self.bytes > MOST_BYTES || now.saturating_duration_since(began) > DEADLINE {
                return Poll::Ready(Err(io::Error::other(TooMuch)));
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Pings of a peer, counted.
#[derive(Debug, Default)]
pub(super) struct Controls {
    since: Option<Instant>,
    count: u32,
}

impl Controls {
    /// Counts one in; true if it is one too many.
    pub(super) fn is_too_many(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) > CONTROL_TIME) {
            (self.since, self.count) = (Some(now), 0);
        }
        self.count += 1;
        self.count > MOST_CONTROLS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn a_message_has_its_share_of_bytes_and_of_time() {
        let (mut far, near) = tokio::io::duplex(1 << 20);
        let mut near = Metered::new(near);
        let mut buf = vec![0; 64 * 1024];
        far.write_all(&vec![0; 300 * 1024]).await.expect("room");
        let mut taken = 0;
        let error = loop {
            match near.read(&mut buf).await {
                Ok(n) => taken += n,
                Err(e) => break e,
            }
        };
        assert!(taken <= MOST_BYTES, "{taken}");
        assert!(error.get_ref().is_some_and(|e| e.is::<TooMuch>()));

        near.message_ended();
        while near.bytes < 100 * 1024 {
            let taken = near.read(&mut buf).await.expect("a new message, a new share");
            assert!(taken > 0);
        }
        near.message_ended();
        far.write_all(b"x").await.expect("room");
        assert_eq!(near.read(&mut buf).await.expect("in time"), 1);
        tokio::time::advance(DEADLINE + Duration::from_secs(1)).await;
        far.write_all(b"x").await.expect("room");
        assert!(near.read(&mut buf).await.is_err(), "the rest came too late");
    }

    #[test]
    fn pings_have_a_rate() {
        let (mut controls, now) = (Controls::default(), Instant::now());
        assert_eq!((0..150).filter(|_| controls.is_too_many(now)).count(), 50);
        assert!(!controls.is_too_many(now + CONTROL_TIME + Duration::from_secs(1)));
    }
}
