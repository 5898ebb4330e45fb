//! RTP, RTCP, telephone-event and SRTP as bytes, and how it sounds by the numbers. Knows no SDP,
//! sockets or clocks.

pub(crate) mod bursts;
pub mod event;
pub mod packet;
pub mod quality;
pub mod report;
pub mod reserve;
pub mod srtp;
pub mod underway;

pub use packet::Packet;
