//! Call flows as ladders in virtual time. `→` is said to the gateway, `←` by it.

mod basic;
mod lab;
mod lives;
mod refusals;
mod registration;
mod renegotiation;
mod trunks;
