//! SIP: messages, transactions, dialogs, digest. A body is bytes; calls, users and sockets are
//! unknown here.

pub mod build;
pub(crate) mod capabilities;
pub mod cause;
pub(crate) mod dialog;
pub mod digest;
pub mod header;
pub mod hop;
pub(crate) mod message;
pub(crate) mod multipart;
mod number;
pub mod parse;
mod parts;
pub(crate) mod preferences;
pub mod remarks;
mod repair;
pub(crate) mod resubmit;
pub(crate) mod salvage;
mod scan;
pub(crate) mod session_timer;
pub mod status;
pub mod stream;
pub mod transaction;
pub(crate) mod uri;

pub(crate) use build::MessageWriter;
pub use message::Message;
pub use parse::{HeaderName, ParseError};
pub use status::{Method, Refusal};
pub use uri::Uri;
