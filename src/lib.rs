//! webtrunk: a SIP-to-WebRTC gateway.

pub mod timers;

pub mod codec;
pub mod rtp;
pub mod sdp;
pub mod sip;

pub mod dialplan;
pub mod media;

pub mod config;
