//! Call flows as ladders in virtual time. `→` is said to the gateway, `←` by it.

mod basic;
mod forks;
mod lab;
mod lives;
mod refusals;
mod reliable;
mod registration;
mod renegotiation;
mod sessions;
mod trunks;
