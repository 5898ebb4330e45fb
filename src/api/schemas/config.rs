//! The shape of `GET /config`: the active configuration as it is shown, without secrets.

use super::Fields;

pub(super) const SHAPES: &[(&str, Fields)] = &[
    ("CONFIG", CONFIG),
    ("CONFIG_SERVER", SERVER),
    ("CONFIG_WEB", WEB),
    ("CONFIG_SIP", SIP),
    ("CONFIG_CLUSTER", CLUSTER),
    ("CONFIG_MEDIA", MEDIA),
    ("CONFIG_LIMITS", LIMITS),
    ("CONFIG_FRAUD", FRAUD),
    ("CONFIG_RECORDER", RECORDER),
    ("CONFIG_API", API),
    ("CONFIG_TOKEN", TOKEN),
    ("CONFIG_EVENTS", EVENTS),
    ("CONFIG_CDR", CDR),
    ("CONFIG_AUTH", AUTH),
    ("CONFIG_JWT", JWT),
    ("CONFIG_OIDC", OIDC),
    ("CONFIG_CREDENTIALS", CREDENTIALS),
    ("CONFIG_TELEMETRY", TELEMETRY),
    ("CONFIG_USER", USER),
    ("CONFIG_TRUNK", TRUNK),
];

const CONFIG: Fields = &[
    ("server", "CONFIG_SERVER", "[server]"),
    ("web", "CONFIG_WEB", "[web]"),
    ("sip", "CONFIG_SIP", "[sip]"),
    ("cluster", "CONFIG_CLUSTER?", "[cluster]"),
    ("media", "CONFIG_MEDIA", "[media]"),
    ("limits", "CONFIG_LIMITS", "[limits]"),
    ("fraud", "CONFIG_FRAUD", "[fraud]"),
    ("recorder", "CONFIG_RECORDER", "[recorder]"),
    ("api", "CONFIG_API", "[api] and [metrics]"),
    ("events", "CONFIG_EVENTS", "[events]"),
    ("auth", "CONFIG_AUTH", "[auth]"),
    ("credentials", "CONFIG_CREDENTIALS?", "[credentials]"),
    ("telemetry", "CONFIG_TELEMETRY", "[telemetry]"),
    ("user", "CONFIG_USER#", "the users by name"),
    ("trunk", "CONFIG_TRUNK#", "the trunks by name"),
];
const SERVER: Fields = &[
    ("domain", "string", "the SIP domain"),
    ("public_ip", "strings", "the addresses given to peers"),
    ("drain_timeout_s", "integer", "how long a drain waits, seconds"),
];
const WEB: Fields = &[
    ("listen", "string", "the address of the web port"),
    ("tls", "string", "how it is protected"),
    ("public_url", "string?", "where browsers reach it"),
    ("origins", "strings", "origins of other pages"),
    ("trusted_proxies", "strings", "networks whose X-Forwarded-For is believed"),
    ("proxy_protocol", "strings", "networks whose connections begin with a PROXY header"),
];
const SIP: Fields = &[
    ("udp", "string?", "the UDP address"),
    ("tcp", "string?", "the TCP address"),
    ("tls", "string?", "the TLS address"),
    ("flow_grace_s", "integer", "how long a call waits for its browser, seconds"),
    ("flow_grace_media_s", "integer", "the same while its media is alive, seconds"),
    ("session_timer_s", "integer?", "the session interval, seconds (RFC 4028)"),
    ("md5", "boolean", "whether MD5 digests are offered"),
    ("sha256", "boolean", "whether SHA-256 digests are offered"),
];
const CLUSTER: Fields = &[
    ("node", "string", "the name of this node"),
    ("store", "strings", "the store, or its sentinels"),
    ("sentinel", "string?", "what the sentinels call the primary"),
    ("listen", "string", "where the other nodes connect"),
    ("advertise", "string", "where they reach this one"),
    ("address", "string?", "the address that moves to the node that takes its calls over"),
];
const MEDIA: Fields = &[
    ("ports", "integers", "the first and the last port of the trunk side"),
    ("browser_port", "integer", "the port of the browsers' media"),
    ("workers", "integer", "media threads"),
    ("codecs", "strings", "the codecs in order"),
    ("complexity", "integer", "the effort of the Opus encoder, 0 to 10"),
    ("timeout_s", "integer?", "media.timeout, seconds"),
    ("hold_timeout_s", "integer?", "media.hold_timeout, seconds"),
    ("stopped_after_s", "integer?", "media.stopped_after, seconds"),
    ("ask_every_s", "integer", "media.ask_every, seconds"),
    ("answer_within_s", "integer", "media.answer_within, seconds"),
];
const FRAUD: Fields = &[
    ("calls_per_hour", "integer", "calls of one user to trunks per hour"),
    ("minutes_per_hour", "integer", "minutes of them per hour"),
    ("countries_per_hour", "integer", "countries abroad per hour"),
    ("home", "strings", "countries that are abroad to nobody"),
];
const LIMITS: Fields = &[
    ("calls", "integer", "active calls"),
    ("calls_per_user", "integer", "active calls of one user"),
    ("new_calls_per_second", "integer", "new calls a second"),
    ("new_calls_per_second_per_user", "integer", "new calls of one user per second"),
    ("connections", "integer", "connections of the web port"),
    ("connections_per_source", "integer", "the same, of one address"),
    ("handshakes_per_source", "integer", "TLS handshakes of one address that may wait"),
    ("max_duration_s", "integer", "how long a call may last, seconds"),
    ("texts_per_minute", "integer", "texts of one user per minute"),
    ("texts_per_minute_of_source", "integer", "texts of one address or trunk per minute"),
    ("text_size", "integer", "the longest text, bytes"),
];
const RECORDER: Fields = &[
    ("calls", "integer", "ended calls it remembers"),
    ("memory", "integer", "bytes of all together"),
    ("messages", "boolean", "whether it keeps whole messages"),
];
const API: Fields = &[
    ("tokens", "CONFIG_TOKEN*", "the tokens, by name and scope"),
    ("users", "CONFIG_TOKEN*", "the users of the console, by name and scope"),
    ("oidc", "CONFIG_OIDC?", "the provider at which people log in besides"),
    ("session_idle_s", "integer", "how long a session lasts without a request, seconds"),
    ("session_longest_s", "integer", "how long a session lasts at most, seconds"),
    ("metrics", "string?", "the address of /metrics"),
];
const TOKEN: Fields =
    &[("name", "string", "its name"), ("scope", "string", "read, write or admin")];
const OIDC: Fields = &[
    ("issuer", "string", "its URL"),
    ("client_id", "string", "who the gateway is there"),
    ("scopes", "strings", "what is asked for"),
    ("roles_claim", "string", "the claim that has roles"),
    ("roles", "CONFIG_TOKEN*", "what its values allow, by name and scope"),
];
const EVENTS: Fields = &[
    ("cdr", "CONFIG_CDR", "where records are written"),
    ("webhook", "string?", "the host of the webhook"),
    ("hep", "string?", "the HEP collector"),
];
const CDR: Fields =
    &[("file", "string?", "the file of lines"), ("sqlite", "string?", "the database")];
const AUTH: Fields =
    &[("jwt", "CONFIG_JWT?", "[auth.jwt]"), ("webhook", "string?", "the host of the webhook")];
const JWT: Fields = &[
    ("jwks", "string", "where its keys are"),
    ("audience", "string?", "the audience a token must have"),
    ("issuer", "string?", "the issuer a token must have"),
    ("context", "string?", "the dialplan of its users"),
    ("single_use", "boolean", "whether a token is good for one login"),
];
const CREDENTIALS: Fields = &[
    ("secret", "string", "\"***\""),
    ("longest_s", "integer", "the longest validity, seconds"),
    ("turn", "strings?", "the TURN servers"),
];
const TELEMETRY: Fields = &[("otlp", "string?", "the OTLP collector")];
const USER: Fields = &[
    ("did", "string?", "its number"),
    ("numbers", "strings", "its other numbers"),
    ("display_name", "string?", "its name"),
    ("context", "string", "its dialplan"),
    ("max_calls", "integer?", "its limit"),
    ("password", "string", "\"***\""),
];
const TRUNK: Fields = &[
    ("uri", "string?", "where its calls go"),
    ("registrars", "strings", "where the gateway registers"),
    ("username", "string?", "the user name for it"),
    ("password", "string?", "\"***\""),
    ("codecs", "strings", "its codecs in order"),
    ("allow", "strings", "where its calls may come from"),
    ("context", "string?", "the dialplan of its calls"),
    ("max_calls", "integer?", "its limit"),
    ("nat", "boolean", "whether it is behind a NAT"),
    ("dtmf", "string", "how digits are sent"),
    ("srtp", "string", "whether its media is encrypted"),
    ("probe_s", "integer?", "seconds between probes"),
];
