//! `[cluster]`: the nodes a gateway shares users with, and the store they find each other by.

use super::{OneOrMany, SecretText, Spanned, Text};
use schemars::JsonSchema;
use serde::Deserialize;

/// Several gateways as one: a browser registered on any of them is reached from all. They find each
/// other by a store, Redis or Valkey, and speak SIP over TLS, proved by the key they share.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cluster {
    /// The name of this node, another on each, such as "a"; { env = "NAME" } or { file = "path" }
    /// if all nodes have the same file.
    pub node: Spanned<SecretText>,
    /// The store: "redis://HOST:PORT", or "rediss://HOST:PORT" over TLS, with a database as
    /// "rediss://HOST:PORT/1"; of Sentinel a list of its own addresses.
    pub store: Spanned<OneOrMany>,
    /// The name of the primary that Sentinel watches; then `store` names the sentinels. Default: no
    /// Sentinel.
    pub sentinel: Option<Text>,
    /// The name to log in to the store with. Default: the store's own default user.
    pub username: Option<Text>,
    /// The password of the store: a text, { env = "NAME" } or { file = "path" }. Default: none.
    pub password: Option<Spanned<SecretText>>,
    /// The name to log in to the sentinels with, if they have users. Default: none.
    pub sentinel_username: Option<Text>,
    /// The password of the sentinels, as `password`. Default: none.
    pub sentinel_password: Option<Spanned<SecretText>>,
    /// A PEM file of the authorities that the store's certificate is checked by. Default: the
    /// system's.
    pub ca: Option<Text>,
    /// The key all nodes share, at least 32 characters: they prove themselves by it, and sign what
    /// they write into the store.
    pub key: Spanned<SecretText>,
    /// The TCP address at which the other nodes connect. Default: ":5071".
    pub listen: Option<Text>,
    /// The IP address and port at which the others reach it, such as "192.0.2.1:5071"; an address
    /// alone is with the port of `listen`. { env = "NAME" } and { file = "path" } as for `node`.
    /// Default: `listen`, if it names an address.
    pub advertise: Option<Spanned<SecretText>>,
    /// The IP address that moves to another node when this one is lost, as keepalived's
    /// `virtual_ipaddress`: the calls then continue there and nobody in them notices. Browsers and
    /// trunks must use this address, and media.browser_port and media.workers be the same on all
    /// nodes. Default: none, so that the calls of a lost node are moved to another address.
    pub address: Option<Text>,
}
