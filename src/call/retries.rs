//! How often what a peer answers may make us send again: its numbers cost us a bounded sum.

/// Why something is sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Retry {
    /// 422: the session is too brief for somebody on the way (RFC 4028 §7.4).
    TooBrief,
    /// 491: two requests crossed (RFC 3261 §14.1).
    Glare,
    /// A refresh was refused for another reason.
    Refused,
}

/// How often each of them happened in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Retries([u8; 3]);

impl Retries {
    /// Whether it may be sent once more for this reason; counted.
    pub(crate) fn allow(&mut self, retry: Retry) -> bool {
        let most = match retry {
            // Each hop may have its own minimum, and tells it only after the one before it.
            Retry::TooBrief => 3,
            Retry::Glare => 5,
            Retry::Refused => 8,
        };
        let count = &mut self.0[retry as usize];
        *count = count.saturating_add(1);
        *count <= most
    }
}
