//! Call flows as ladders in virtual time. `→` is said to the gateway, `←` by it.

mod addresses;
mod basic;
mod carriers;
mod descriptions;
mod dying;
mod forks;
mod lab;
mod lives;
mod logins;
mod originate;
mod outside;
mod overload;
mod recovery;
mod reflection;
mod refusals;
mod registration;
mod reliable;
mod renegotiation;
mod routes;
mod sessions;
mod transfers;
mod trunks;
mod visitors;
mod wire;
mod world;
