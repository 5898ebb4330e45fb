#![doc = include_str!("ARCHITECTURE.md")]
#![forbid(unsafe_code)]
// Unit tests may read clocks; machines may not.
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod address;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it asks the system")]
pub(crate) mod boot;
pub mod chance;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it asks the system")]
pub mod datagrams;
pub(crate) mod egress;
pub mod errors;
pub(crate) mod expiring;
pub mod hex;
pub mod ids;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it is the log's clock")]
pub(crate) mod log_limit;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it writes the log")]
pub mod log_queue;
pub(crate) mod pace;
pub mod printable;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it makes files")]
pub mod private;
pub(crate) mod refused;
pub(crate) mod tally;
pub mod timers;

pub mod codec;
pub mod rtp;
pub mod sdp;
pub mod sip;

pub mod dialplan;
pub mod media;

pub mod config;

pub mod brakes;
pub mod cluster;
pub mod flow;
pub(crate) mod fraud;
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
pub mod handover;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a shell")]
pub mod journal;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a shell")]
pub mod state;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a shell")]
pub mod store;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a shell")]
pub mod supervisor;
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

#[cfg(any(test, fuzzing))]
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it measures")]
pub mod fuzzing;

/// The layers, from the ground up: a module uses those of its own layer and of earlier ones only.
/// `tests/layers` holds that, and that each module is in one.
pub const LAYERS: &[&[&str]] = &[
    &[
        "address",
        "boot",
        "chance",
        "datagrams",
        "egress",
        "errors",
        "expiring",
        "hex",
        "ids",
        "log_limit",
        "log_queue",
        "pace",
        "printable",
        "private",
        "refused",
        "tally",
        "timers",
    ],
    &["codec", "rtp", "sdp", "sip"],
    &["dialplan", "media"],
    &["config"],
    &["brakes", "cluster", "flow", "fraud", "registrar", "resolver", "trunk", "worker"],
    &["cdr"],
    &["event"],
    &["call"],
    &["recorder"],
    &["gateway"],
    &[
        "api",
        "handover",
        "journal",
        "state",
        "store",
        "supervisor",
        "telemetry",
        "transport",
        "web",
        "webhook",
    ],
    &["fuzzing", "node"],
];

/// The order within the modules that have one, read like [`LAYERS`]. What the methods of `Call` and
/// of `Gateway` call of each other is not of it: an order of types, not of an `impl`.
pub const LAYERS_WITHIN: &[(&str, &[&[&str]])] = &[
    (
        "call",
        &[
            &[
                "bodies",
                "caller_id",
                "codec_policy",
                "dtmf_info",
                "farewells",
                "joined_call",
                "media_policy",
                "owed_goodbyes",
                "reach",
                "retries",
                "route_cursor",
            ],
            // Legs, branches, what they wait for and what they are given: they name each other.
            &["branch", "challenge", "context", "leg", "media_path", "services", "transfer_state"],
            &[
                "branches",
                "call_media",
                "invite_server",
                "leg_snapshot",
                "packages",
                "relocation",
                "testing",
                "texts",
                "toll_fraud",
            ],
            &["branch_snapshot", "call_snapshot"],
            &["failure", "outgoing", "tombstone", "transfer"],
            &["in_dialog", "invite", "joined", "queries", "refresh", "reinvite", "routing"],
            &[
                "cancel",
                "operator",
                "replacement",
                "resumed_route",
                "silent_trunk",
                "takeover",
                "third_party",
                "uac",
                "uas",
            ],
            &["outcome"],
        ],
    ),
    (
        "gateway",
        &[
            &[
                "admission",
                "call_table",
                "challenges",
                "cluster",
                "credential",
                "overload",
                "time_jumps",
                "token",
                "turn",
                "unproved",
                "used_tokens",
            ],
            &[
                "load_shedding",
                "logins",
                "out_of_dialog",
                "record",
                "registering",
                "succession",
                "texts",
            ],
            // What one node asks another, and tells it.
            &[
                "dialog_owner",
                "edge_proxy",
                "location_queries",
                "named_hosts",
                "node_queries",
                "retransmissions",
            ],
            &["dispatch", "flows", "joined", "operate", "trunks"],
            &["farewells", "growth", "invite", "originate", "restore", "takeover"],
        ],
    ),
];
