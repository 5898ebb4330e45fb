//! One call's media: ends, how they are joined, and the packets between them. Knows no SIP and no
//! SDP text.

pub mod dtls;
pub mod egress;
pub mod end;
pub mod ice;
pub mod player;
pub mod reorder;
pub mod series;
pub mod session;
pub mod stun;
pub mod transcoder;

pub use end::{Digits, EndId, Port, Settings, Statistics};
pub use session::{Event, Session, Sink};
