//! `[user.…]` and `[trunk.…]` as written.

use super::{SecretText, Spanned, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A certificate and its key, PEM files relative to this one.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certificate {
    /// The chain, leaf first.
    pub cert: String,
    /// Its key.
    pub key: String,
}

/// How the TLS certificate of a trunk is verified, and which one is presented. Chain and name are
/// always verified.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TrunkTls {
    /// A PEM file of authorities. Default: those of the system.
    pub ca: Option<String>,
    /// The name the certificate must have (RFC 5922). Default: the host of `uri`.
    pub name: Option<String>,
    /// A client certificate, a PEM file; needs `key`.
    pub cert: Option<String>,
    /// Its key, a PEM file.
    pub key: Option<String>,
}

/// The registrars to register with.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "true or a list of registrars such as [\"sip:reg.example\"]")]
pub(crate) enum Register {
    /// true: with the trunk itself.
    Own(bool),
    /// With these registrars.
    With(Vec<String>),
}

/// What is learned of where a trunk's media comes from.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "true, false or \"signalling\"")]
pub(crate) enum Nat {
    /// The port.
    Port(bool),
    /// "signalling": the address too.
    Word(String),
}

/// A user who registers.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    /// Its password, not empty. It guards your telephone bill: make it long and random.
    pub password: Spanned<SecretText>,
    /// The number that reaches the user, and the caller id of its calls, in +E.164.
    pub did: Option<Text>,
    /// Further numbers that reach the user, and that it may choose as caller id with
    /// P-Preferred-Identity.
    #[serde(default)]
    pub numbers: Vec<Text>,
    /// The name shown to the callee.
    pub display_name: Option<Text>,
    /// The dialplan of its calls. Default: "default".
    pub context: Option<Text>,
    /// Calls at once. Default: limits.calls_per_user.
    pub max_calls: Option<Spanned<usize>>,
    /// New calls and transfers per second. Default: limits.new_calls_per_second_per_user.
    pub calls_per_second: Option<Spanned<u32>>,
    /// May transfer calls. Default: true.
    pub refer: Option<bool>,
    /// Hold its calls to the limits of [fraud]. Default: true.
    pub fraud_brake: Option<bool>,
    /// Claims that the `require` of a route may ask for, such as ["international"].
    #[serde(default)]
    pub claims: Vec<String>,
    /// Values written into the record of each of its calls.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Patterns of the only numbers the user may dial. Default: any the dialplan allows.
    #[serde(default)]
    pub callees: Vec<Text>,
}

/// A trunk: a carrier or a PBX.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trunk {
    /// The trunk's address, such as "sip:sip.carrier.example". Without a port, NAPTR and SRV are
    /// looked up (RFC 3263); ";transport=tcp", ";transport=tls" or "sips:" fixes the transport.
    pub uri: Option<Text>,
    /// Register with the trunk: true, or a list of registrars. Default: false.
    pub register: Option<Spanned<Register>>,
    /// The requested lifetime of a registration, at least "1m". Default: "10m".
    pub register_expires: Option<Text>,
    /// The trunk registers here with its username and password, from any address. Over UDP no
    /// answer to a stranger is longer than its REGISTER: one too short for a challenge gets none.
    /// Default: false.
    #[serde(default)]
    pub accepts_registration: bool,
    /// How the trunk's TLS certificate is verified.
    pub tls: Option<Spanned<TrunkTls>>,
    /// The interval of OPTIONS probes, at least "1s": three misses take the trunk out, two answers
    /// bring it back. Default: no probes.
    pub probe: Option<Text>,
    /// New calls per second, in each direction. Default: no limit of its own.
    pub calls_per_second: Option<Spanned<u32>>,
    /// Believe the trunk's P-Asserted-Identity, Diversion and History-Info, and send it the
    /// gateway's (RFC 3324). Default: false.
    #[serde(default)]
    pub trusted: bool,
    /// Write P-Asserted-Identity (RFC 3325). Default: true.
    pub asserted_identity: Option<bool>,
    /// The user part of From. Default: the caller's number.
    pub from_user: Option<Text>,
    /// The domain of From. Default: server.domain.
    pub from_domain: Option<Text>,
    /// The display name in From; "" sends none. Default: the caller's.
    pub display_name: Option<Text>,
    /// The session timer requested (RFC 4028), at least "90s", or "off". Default: "30m".
    pub session_timer: Option<Text>,
    /// Reliable provisional responses (RFC 3262): "supported" (the default), "off" or "required".
    #[serde(rename = "100rel")]
    pub reliable: Option<Text>,
    /// Register from one node of the cluster, for a carrier that takes one registration; another
    /// node takes over when that one is gone. Default: false, each node registers.
    #[serde(default)]
    pub register_once: bool,
    /// Send INVITE without SDP, for PBXs that make the offer. Default: false.
    #[serde(default)]
    pub delayed_offer: bool,
    /// The form of digits: "rtp" (RFC 4733, the default), "info" (SIP INFO) or "inband" (tones in
    /// the audio).
    pub dtmf: Option<Text>,
    /// SRTP with keys in SDP (RFC 4568): "off" (the default), "optional" or "required".
    pub srtp: Option<Text>,
    /// Offer comfort noise (RFC 3389). Default: false; an offer of it from the trunk is always
    /// accepted.
    #[serde(default)]
    pub comfort_noise: bool,
    /// Send packets without a pause: faint noise while the browser sends none. Default: false.
    #[serde(default)]
    pub continuous: bool,
    /// How long the trunk's media may stop before it is asked whether it still knows the call, 1s
    /// to 5m, or "off" for a trunk that sends nothing, RTCP included, while nobody speaks. Default:
    /// media.stopped_after.
    pub stopped_after: Option<Text>,
    /// REFERs from the trunk: "refuse" (the default), "execute" (carried out here) or "pass" (and
    /// REFERs from browsers are passed to it).
    pub refer: Option<Text>,
    /// Pass a caller's location to the trunk, if the caller's INVITE has it (PIDF-LO, RFC 6442):
    /// for emergency calls. It is personal data. Default: false.
    #[serde(default)]
    pub location: bool,
    /// Exchange texts (MESSAGE) with the trunk. Default: false.
    #[serde(default)]
    pub messages: bool,
    /// The user name for digest challenges of this trunk, and no other.
    pub username: Option<Text>,
    /// The password for `username`.
    pub password: Option<Spanned<SecretText>>,
    /// The only realm whose challenges are answered. Default: any realm of this trunk.
    pub realm: Option<Text>,
    /// Codecs in order of preference: "pcmu", "pcma", "g722", "opus", "l16" (8 kHz, uncompressed).
    /// Default: ["pcmu", "pcma"].
    #[serde(default)]
    pub codecs: Vec<Text>,
    /// "opus" (the default): the browser speaks Opus, transcoded if necessary; "passthrough": the
    /// browser speaks the trunk's codec.
    pub prefer: Option<Text>,
    /// Calls at once. Default: no limit of its own.
    pub max_calls: Option<Spanned<usize>>,
    /// Networks its calls come from, such as "192.0.2.12/32". Default: the address in `uri`, if it
    /// is one.
    #[serde(default)]
    pub allow: Vec<Text>,
    /// The dialplan of its calls. Default: its calls are refused.
    pub context: Option<Text>,
    /// true: learn the port of its media, within the announced IP address. "signalling": for a PBX
    /// behind NAT that registers here or has `srtp = "required"`; its media may also come from the
    /// address its signalling comes from. Both learn within 3 s of an offer and answer, or of the
    /// 200, and then keep the address. The announced address wins whenever it sends; until it has,
    /// at most 5 packets go to it. The risk: without SRTP, whoever shares that IP address (the
    /// network behind the same NAT) can take the media over if it sends first. Default: false.
    pub nat: Option<Spanned<Nat>>,
    /// The IP address given to this trunk, in SIP and SDP; if it is an address of this machine, SIP
    /// over UDP and media are sent from it. Default: sip.public_ip.
    pub public_ip: Option<Text>,
    /// Networks its media may be in, besides its own address and the public internet.
    #[serde(default)]
    pub media: Vec<Text>,
}
