//! `[user.…]` and `[trunk.…]` as written.

use super::{SecretText, Spanned, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A certificate and its key, PEM files relative to this one.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The chain, leaf first.
    pub cert: String,
    /// Its key.
    pub key: String,
}

/// How a trunk's TLS certificate is judged, and what we show. Chain and name are always verified.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct TrunkTls {
    /// PEM file of authorities; the system's where left out.
    pub ca: Option<String>,
    /// The name it must have; the URI's host where left out (RFC 5922).
    pub name: Option<String>,
    /// A client certificate.
    pub cert: Option<String>,
    /// Its key.
    pub key: Option<String>,
}

/// Whom we register with.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "true or a list of registrars such as [\"sip:reg.example\"]")]
pub enum Register {
    /// true: with the trunk itself.
    Own(bool),
    /// With these registrars.
    With(Vec<String>),
}

/// A user who registers.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Guards your telephone bill: make it long and random.
    pub password: Spanned<SecretText>,
    /// The number that reaches the user, and the caller id on its calls.
    pub did: Option<Text>,
    /// Other numbers of the user's, and caller ids it may choose by P-Preferred-Identity.
    #[serde(default)]
    pub numbers: Vec<Text>,
    /// Shown to who is called.
    pub display_name: Option<String>,
    /// Dialplan of its calls; "default" where left out.
    pub context: Option<Text>,
    /// Calls at once; limits.calls_per_user where left out.
    pub max_calls: Option<usize>,
    /// New calls in one second.
    pub calls_per_second: Option<u32>,
    /// May transfer calls; true where left out.
    pub refer: Option<bool>,
    /// What a route's `require` may ask for, such as ["international"].
    #[serde(default)]
    pub claims: Vec<String>,
    /// Put into the record of each of its calls.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The only numbers it may dial, as patterns; any the dialplan allows where left out.
    #[serde(default)]
    pub callees: Vec<Text>,
}

/// A trunk: a carrier or a PBX.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trunk {
    /// Where it is, such as "sip:sip.carrier.example". Without a port NAPTR and SRV are asked (RFC
    /// 3263); ";transport=tcp", ";transport=tls" or "sips:" fixes the transport.
    pub uri: Option<Text>,
    /// Register with it: true, or a list of registrars.
    pub register: Option<Spanned<Register>>,
    /// How long we ask a registration to last; "10m" where left out.
    pub register_expires: Option<Text>,
    /// It registers here with its username and password, from wherever it is.
    #[serde(default)]
    pub accepts_registration: bool,
    /// How its TLS certificate is judged.
    pub tls: Option<Spanned<TrunkTls>>,
    /// Interval of OPTIONS probes, such as "30s": three misses take it out, two answers bring it
    /// back.
    pub probe: Option<Text>,
    /// New calls in one second, each way.
    pub calls_per_second: Option<u32>,
    /// Its P-Asserted-Identity, Diversion and History-Info count, and it is told ours (RFC 3324).
    #[serde(default)]
    pub trusted: bool,
    /// Write P-Asserted-Identity (RFC 3325).
    pub asserted_identity: Option<bool>,
    /// User part of From; the caller's number where left out.
    pub from_user: Option<String>,
    /// Domain of From.
    pub from_domain: Option<String>,
    /// Display name of From; "" shows none.
    pub display_name: Option<String>,
    /// Session timer (RFC 4028), such as "30m"; "off".
    pub session_timer: Option<Text>,
    /// Reliable provisional responses (RFC 3262): "supported" (the default), "off" or "required".
    #[serde(rename = "100rel")]
    pub reliable: Option<Text>,
    /// INVITE without SDP, for PBXs that want to offer themselves.
    #[serde(default)]
    pub delayed_offer: bool,
    /// Digits: "rtp" (RFC 4733, the default), "info" (SIP INFO) or "inband" (tones in the sound).
    pub dtmf: Option<Text>,
    /// SRTP with keys in SDP (RFC 4568): "off" (the default), "optional" or "required".
    pub srtp: Option<Text>,
    /// Offer comfort noise (RFC 3389); where the trunk offers it, it is agreed to anyway.
    #[serde(default)]
    pub comfort_noise: bool,
    /// Packets without a pause, faint noise where the browser's stop.
    #[serde(default)]
    pub continuous: bool,
    /// Its REFERs: "refuse" (the default), "execute" (done here) or "pass" (browsers' are passed to
    /// it too).
    pub refer: Option<Text>,
    /// Texts (MESSAGE) to and from it.
    #[serde(default)]
    pub messages: bool,
    /// Answers this trunk's digest challenges, and no other's.
    pub username: Option<String>,
    /// Goes with `username`.
    pub password: Option<Spanned<SecretText>>,
    /// Answer challenges of this realm only.
    pub realm: Option<String>,
    /// Its codecs in order of preference: "pcmu", "pcma", "g722", "opus", "l16" (8 kHz,
    /// uncompressed); the first two where left out.
    #[serde(default)]
    pub codecs: Vec<Text>,
    /// "opus" (the default): the browser speaks Opus, transcoded where need be; "passthrough": it
    /// speaks the trunk's codec.
    pub prefer: Option<Text>,
    /// Calls at once.
    pub max_calls: Option<usize>,
    /// Where its calls come from, such as "192.0.2.12/32"; a trunk given by address is known by it.
    #[serde(default)]
    pub allow: Vec<Text>,
    /// Dialplan of its calls; without one they are refused.
    pub context: Option<Text>,
    /// Learn its media's port, within the announced address, once, then lock.
    #[serde(default)]
    pub nat: bool,
    /// Networks its media may be in, beyond its own and the public internet.
    #[serde(default)]
    pub media: Vec<Text>,
}
