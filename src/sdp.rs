//! Session descriptions (RFC 8866) and offer/answer (RFC 3264, 8829's parts that matter). Knows no
//! SIP.

pub mod crypto;
pub mod description;
pub(crate) mod named_hosts;
pub(crate) mod negotiated;
pub mod offer_answer;
mod payload_types;
pub(crate) mod print;
mod read;
mod section;
mod transport;

pub use description::{Description, Direction, Format, MediaDescription, SdpError, Setup};
pub(crate) use offer_answer::Local;
