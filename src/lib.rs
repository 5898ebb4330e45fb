#![doc = include_str!("ARCHITECTURE.md")]

pub mod address;
pub mod chance;
pub mod datagrams;
pub mod errors;
pub mod hex;
pub mod ids;
pub mod timers;

pub mod codec;
pub mod rtp;
pub mod sdp;
pub mod sip;

pub mod dialplan;
pub mod media;

pub mod config;

pub mod registrar;
pub mod resolver;
pub mod trunk;
pub mod worker;

pub mod call;
pub mod gateway;
pub mod recorder;

pub mod event;

pub mod api;
pub mod journal;
pub mod telemetry;
pub mod transport;
pub mod web;
pub mod webhook;

pub mod node;
