//! One call's media: ends, how they are joined, and the packets between them. Knows no SIP and no
//! SDP text.

mod budget;
mod continuity;
pub mod dtls;
pub mod endpoint;
mod endpoint_settings;
mod feedback;
pub(crate) mod ice;
mod inbound_event;
mod latching;
mod loudness;
pub(crate) mod outbound_stream;
mod peer_transport;
pub mod player;
pub(crate) mod reorder;
pub(crate) mod series;
pub mod session;
pub mod snapshot;
mod statistics;
pub mod stun;
pub mod transcoder;

pub use endpoint::{Digits, EndpointSettings, LegId, MediaWatch, Port, Statistics};
pub use session::{Session, SessionEvent, Sink};
pub use snapshot::{Clocks, NotRestored, SessionSnapshot};
