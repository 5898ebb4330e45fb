#![doc = include_str!("ARCHITECTURE.md")]
#![forbid(unsafe_code)]
// Unit tests may read clocks; machines may not.
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod address;
pub mod chance;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it asks the system")]
pub mod datagrams;
pub(crate) mod egress;
pub mod errors;
pub mod hex;
pub mod ids;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it is the log's clock")]
pub(crate) mod log_limit;
pub mod printable;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it makes files")]
pub mod private;
pub(crate) mod refused;
pub mod timers;

pub mod codec;
pub mod rtp;
pub mod sdp;
pub mod sip;

pub mod dialplan;
pub mod media;

pub mod config;

pub mod flow;
pub mod registrar;
pub mod resolver;
pub mod trunk;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a shell")]
pub mod worker;

pub mod cdr;

pub mod event;

pub mod call;

pub mod recorder;

pub mod gateway;

#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a shell")]
pub mod api;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a shell")]
pub mod journal;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a shell")]
pub mod state;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a shell")]
pub mod telemetry;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a shell")]
pub mod transport;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a shell")]
pub mod web;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a shell")]
pub mod webhook;

#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a shell")]
pub mod node;

/// The layers, from the ground up: a module uses those of its own layer and of earlier ones only.
/// `tests/layers.rs` holds that, and that each module is in one.
pub const LAYERS: &[&[&str]] = &[
    &[
        "address",
        "chance",
        "datagrams",
        "egress",
        "errors",
        "hex",
        "ids",
        "log_limit",
        "printable",
        "private",
        "refused",
        "timers",
    ],
    &["codec", "rtp", "sdp", "sip"],
    &["dialplan", "media"],
    &["config"],
    &["flow", "registrar", "resolver", "trunk", "worker"],
    &["cdr"],
    &["event"],
    &["call"],
    &["recorder"],
    &["gateway"],
    &["api", "journal", "state", "telemetry", "transport", "web", "webhook"],
    &["node"],
];
