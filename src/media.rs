//! One call's media: ends, how they are joined, and the packets between them. Knows no SIP and no SDP text.

pub mod dtls;
pub mod egress;
pub mod end;
pub mod ice;
pub mod ingress;
pub mod player;
pub mod session;
pub mod stun;

pub use end::{EndId, Port, Settings, Statistics};
pub use session::{Event, Session, Sink};
