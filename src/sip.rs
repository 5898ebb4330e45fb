//! SIP: messages, transactions, dialogs, digest. A body is bytes; calls, users and sockets are
//! unknown here.

pub mod build;
pub mod capabilities;
pub mod cause;
pub mod dialog;
pub mod digest;
pub mod header;
pub mod message;
pub mod multipart;
mod number;
pub mod parse;
mod parts;
pub mod preferences;
pub mod remarks;
mod repair;
pub mod resubmit;
pub mod salvage;
mod scan;
pub mod session_timer;
pub mod status;
pub mod stream;
pub mod transaction;
pub mod uri;
pub mod vocabulary;

pub use build::Writer;
pub use message::Message;
pub use parse::{HeaderName, ParseError};
pub use status::{Method, Refusal};
pub use uri::Uri;
