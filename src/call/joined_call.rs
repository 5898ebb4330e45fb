//! The inner end of a call that is joined with another.

use super::CallId;
use crate::codec::Codec;
use crate::media::LegId;
use serde::{Deserialize, Serialize};

/// The inner end of a joined call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct JoinedCall {
    /// The call that is the other half.
    pub other: CallId,
    /// The inner end.
    pub end: LegId,
    /// The codec between the halves.
    pub codec: Codec,
    /// Port of the other half's inner end, once it is open.
    pub theirs: Option<u16>,
    /// The inner end is open.
    pub open: bool,
}

impl JoinedCall {
    /// The two inner ends know each other.
    pub(super) fn is_up(&self) -> bool {
        self.open && self.theirs.is_some()
    }
}
