//! RTP, RTCP, telephone-event and SRTP as bytes. Knows no SDP, sockets or clocks.

pub mod event;
pub mod packet;
pub mod report;
pub mod srtp;

pub use packet::Packet;
