//! What the command line does besides serving; part of the binary only.

pub mod call;
pub mod client;
pub mod local;
pub mod look;
pub mod peers;
pub mod print;
pub mod steer;
pub mod top;
