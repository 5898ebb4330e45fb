//! What each operation of the API answers: its status, its shape, and how it refuses.

use super::{CDR, Fields};

/// The answers of one operation.
pub(crate) struct Answers {
    /// The status of success.
    pub status: u16,
    /// Media types, and what they hold: a word as in [`Fields`], or nothing for what is not JSON.
    pub content: &'static [(&'static str, Option<&'static str>)],
    /// Statuses of its refusals, besides those of [`ALWAYS`].
    pub refusals: &'static [u16],
}

/// How any operation may refuse: a request that cannot be read, no token, one that may not, a
/// gateway that stops.
pub(crate) const ALWAYS: [u16; 4] = [400, 401, 403, 503];
/// How one refuses that may be asked of another node: it is not known, or does not answer.
pub(crate) const OF_ANOTHER_NODE: [u16; 2] = [404, 504];

/// The shapes of answers, by the names that types have for them.
pub(crate) const SHAPES: &[(&str, Fields)] = &[
    ("CALL", CALL),
    ("CALL_DETAIL", CALL_DETAIL),
    ("CDR", CDR),
    ("BEGUN", BEGUN),
    ("DONE", DONE),
    ("ENDED", ENDED),
    ("LADDER", LADDER),
    ("ROW", ROW),
    ("RULE", RULE),
    ("QUALITY", QUALITY),
    ("LEG_QUALITY", LEG_QUALITY),
    ("SECOND", SECOND),
    ("SESSION", SESSION),
    ("LOGGED_OUT", LOGGED_OUT),
    ("CREDENTIAL", CREDENTIAL),
    ("ICE_SERVER", ICE_SERVER),
    ("BINDING", BINDING),
    ("LOGIN", LOGIN),
    ("CLOSED", CLOSED),
    ("TRUNK", TRUNK),
    ("TRUNK_CHANGE", TRUNK_CHANGE),
    ("TRUNK_FAILURE", TRUNK_FAILURE),
    ("TRUNK_REGISTRATION", TRUNK_REGISTRATION),
    ("PROBED", PROBED),
    ("NODE", NODE),
    ("STATUS", STATUS),
    ("CALL_LIMITS", CALL_LIMITS),
    ("MEMORY", MEMORY),
    ("CHANGES", CHANGES),
    ("SOURCES", SOURCES),
    ("FORETOLD", FORETOLD),
    ("OPEN_PORTS", OPEN_PORTS),
    ("CERTIFICATE", CERTIFICATE),
    ("DIALPLAN_FILES", DIALPLAN_FILES),
    ("DIALPLAN_FILE", DIALPLAN_FILE),
    ("MARK", MARK),
    ("CHECKED", CHECKED),
    ("CONTEXT", CONTEXT),
    ("ROUTE", ROUTE),
    ("ROUTED", ROUTED),
    ("CONSIDERED", CONSIDERED),
    ("ERROR", ERROR),
    ("DELIVERY", DELIVERY),
    ("RESENT", RESENT),
    ("SCHEMA_NAME", SCHEMA_NAME),
];

const CALL: Fields = &[
    ("call", "string", "the id of the call"),
    ("state", "string", "opening, dialling, ringing, talking, ending or ended"),
    ("from", "string", "the user, or trunk:NAME"),
    ("from_number", "string", "the number of the caller"),
    ("from_name", "string", "the display name of the caller; may be empty"),
    ("to", "string", "the number in +E.164, or as dialled"),
    ("direction", "string", "inbound: from a trunk; outbound: from a user"),
    ("route", "string?", "the route that took it"),
    ("with", "string?", "who answered: trunk:NAME or user:NAME"),
    ("tried", "strings", "targets tried, in order"),
    ("start", "time", "when the INVITE arrived"),
    ("seconds", "integer", "start to end, or to now"),
    ("talked_s", "integer?", "answer to end, or to now"),
    ("codecs", "strings", "the codecs of the legs"),
    ("mos_estimated", "number?", "the worst estimated opinion score of both legs (G.107)"),
    (
        "outcome",
        "string?",
        "success, busy, no_answer, cancelled, refused or server_error; null while it lives",
    ),
    ("sip_code", "integer?", "the final SIP status the caller received; null while it lives"),
    ("code", "string?", "WT-nnnn, or null if nothing was wrong"),
    ("verdict", "string?", "what happened, in one sentence; null while it lives"),
];
/// A record, and what only a call in memory has.
const CALL_DETAIL: Fields = &[
    ("state", "string", "opening, dialling, ringing, talking, ending or ended"),
    ("seconds", "integer", "start to end, or to now"),
    ("mos_estimated", "number?", "the worst estimated opinion score of both legs (G.107)"),
    ("end", "time?", "when it ended; null while it lives"),
];
const BEGUN: Fields = &[("call", "string", "the id of the call")];
const DONE: Fields = &[("call", "string", "the id of the call"), ("done", "boolean", "true")];
const ENDED: Fields = &[("call", "string", "the id of the call"), ("ended", "boolean", "true")];
const LADDER: Fields = &[
    ("call", "string", "the id of the call"),
    ("headline", "string", "the call in one line"),
    ("verdict", "VERDICT?", "the diagnosis; null while it lives"),
    ("lanes", "strings", "the peers, in the order of their lanes"),
    ("rows", "ROW*", "what happened, in order"),
];
const ROW: Fields = &[
    ("at_s", "number", "seconds since the call began"),
    ("kind", "string", "message, route or event"),
    ("lane", "integer-", "message: the index of its peer in lanes"),
    ("sent", "boolean-", "message: whether the gateway sent it"),
    ("summary", "string-", "message: its first line, shortened"),
    ("repeated", "boolean-", "message: whether it is the one before once more"),
    ("text", "string-", "message: all of it, secrets masked; event: its text"),
    ("rules", "RULE*-", "message: why its SDP is as it is"),
    ("route", "string-", "route: its name"),
    ("pattern", "string-", "route: what it matches"),
    ("why_not", "string?-", "route: why it does not match"),
    ("code", "string?-", "event: WT-nnnn"),
];
const RULE: Fields = &[
    ("line", "string?", "the line of the SDP that was made"),
    ("from", "string?", "the line of the other leg's SDP it was made from"),
    ("why", "string", "the rule"),
];
const QUALITY: Fields =
    &[("call", "string", "the id of the call"), ("legs", "LEG_QUALITY*", "the legs with media")];
const LEG_QUALITY: Fields = &[
    ("leg", "string", "a: the caller, b: the callee"),
    ("codec", "string?", "the codec"),
    ("packets_in", "integer", "RTP packets received"),
    ("packets_out", "integer", "RTP packets sent"),
    (
        "packets_lost",
        "integer?",
        "RTP packets lost on the way to the gateway; null without any packet",
    ),
    ("mos_in_estimated", "number?", "estimated opinion score of the packets received"),
    ("mos_out_estimated", "number?", "estimated opinion score of the packets sent"),
    ("began_ms", "integer?", "when the first packet came, ms since the call began"),
    ("series", "SECOND*", "the figures second by second"),
];
const SECOND: Fields = &[
    ("at_ms", "integer", "since the leg's media began, ms"),
    ("received", "integer", "RTP packets received in that second"),
    ("lost", "integer", "RTP packets lost in it"),
    ("sent", "integer", "RTP packets sent in it"),
    ("jitter_ms", "integer", "interarrival jitter, ms (RFC 3550)"),
    ("rtt_ms", "integer?", "round trip, ms"),
    (
        "reported_loss_percent",
        "integer?",
        "loss that its RTCP reports, percent; null before it reports",
    ),
    (
        "reported_jitter_ms",
        "integer?",
        "interarrival jitter that its RTCP reports, ms; null before it reports",
    ),
    ("mos_estimated", "number?", "estimated opinion score of what came; null of few packets"),
    (
        "reported_mos_estimated",
        "number?",
        "estimated opinion score of what was sent, by its RTCP; null before it reports, and of few \
            packets",
    ),
    (
        "level_dbov",
        "integer?",
        "how loud what came was, dBov: 0 is the loudest square wave, -127 is nothing; null if \
            nothing came, or it was not decoded and its sender did not say",
    ),
    (
        "played_level_dbov",
        "integer?",
        "how loud what the gateway played was, dBov; null where it played nothing: what it passes \
            on is as loud as it came from the other leg",
    ),
];
const SESSION: Fields = &[
    ("by", "string", "session, token or control: by what the request is let in"),
    ("user", "string?", "the name of the user or of the token"),
    ("scope", "string", "read, write or admin"),
    ("ends_in_s", "integer?", "when the session ends if nothing more is asked, seconds"),
];
const LOGGED_OUT: Fields = &[("ended", "boolean", "whether there was a session")];
const CREDENTIAL: Fields = &[
    ("uri", "string", "the SIP URI to register"),
    ("username", "string", "the user name of the digest"),
    ("password", "string", "its password"),
    ("expires", "integer", "when both expire, seconds since 1970"),
    ("ws", "string", "the URL of the WebSocket"),
    ("ice_servers", "ICE_SERVER*", "as RTCPeerConnection takes them"),
];
const ICE_SERVER: Fields = &[
    ("urls", "strings", "the URIs of the TURN server"),
    ("username", "string", "the user name for it"),
    ("credential", "string", "its password"),
];
const BINDING: Fields = &[
    ("user", "string", "the user"),
    ("contact", "string", "the address it registered"),
    ("remote", "string?", "where its connection comes from"),
    ("user_agent", "string?", "its User-Agent"),
    ("instance", "string?", "the id of the device"),
    ("reg_id", "integer?", "the connection of that device (RFC 5626)"),
    ("q", "number", "its preference, 0 to 1"),
    ("path", "strings", "proxies on the way to it (RFC 3327)"),
    ("expires_s", "integer", "seconds until it expires"),
];
const LOGIN: Fields = &[
    ("at", "time", "when"),
    ("type", "string", "registration.added, registration.removed or login.refused"),
    ("user", "string", "whose it was, as named"),
    ("remote", "string?", "where a login that was refused came from"),
    ("user_agent", "string?", "what a browser that registered says it is"),
    ("why", "string?", "why it was refused, or the registration ended"),
    ("code", "string?", "WT-nnnn of a refusal"),
    ("fix", "string?", "what to do about it"),
    ("more", "integer?", "refusals of the same source since the last that is listed"),
];
const CLOSED: Fields =
    &[("user", "string", "the user"), ("closed", "integer", "how many connections were closed")];
const TRUNK: Fields = &[
    ("trunk", "string", "its name"),
    ("state", "string", "up, down, unknown or disabled"),
    ("since_s", "integer?", "for how long, seconds"),
    ("options_ms", "integer?", "how long it took to answer OPTIONS, ms"),
    ("calls", "integer", "active calls"),
    ("max_calls", "integer?", "its limit"),
    ("uri", "string?", "where its calls go"),
    ("context", "string?", "the dialplan of its calls"),
    ("usable", "boolean", "whether calls go to it now"),
    ("why_not", "string?", "the reason as text"),
    ("code", "string?", "WT-nnnn"),
    ("last_failure", "string?", "why a probe or a registration failed last"),
    ("probes_missed", "integer", "probes without an answer, in a row"),
    ("registrations", "TRUNK_REGISTRATION*", "its registrations with registrars"),
    ("registered_from", "string?", "where it registered here from"),
    ("history", "TRUNK_CHANGE*", "how its health changed, the newest first, 20 at most"),
    ("attempts", "integer-", "calls tried over it lately"),
    ("asr", "number?-", "answer-seizure ratio, 0 to 1"),
    ("ner", "number?-", "network effectiveness ratio, 0 to 1 (E.425)"),
    ("pdd_ms_p50", "integer?-", "post-dial delay, median, ms"),
    ("pdd_ms_p95", "integer?-", "post-dial delay, 95th percentile, ms"),
    ("mos_estimated", "number?-", "mean estimated opinion score"),
    ("last_call_failure", "TRUNK_FAILURE?-", "the last call that failed there"),
];
const TRUNK_CHANGE: Fields = &[
    ("at", "string", "when"),
    ("state", "string", "up, down, disabled or enabled"),
    ("why", "string?", "the reason as text"),
];
const TRUNK_FAILURE: Fields = &[
    ("sip_code", "integer", "the final SIP status; 0: given up"),
    ("ago_s", "integer", "how long ago, seconds"),
];
const TRUNK_REGISTRATION: Fields =
    &[("registrar", "string", "its address"), ("state", "string", "its state as text")];
const PROBED: Fields = &[("answered", "boolean", "whether OPTIONS was answered within 4 s")];
const NODE: Fields = &[
    ("node", "string", "its name"),
    ("this", "boolean", "whether it is the node that answers"),
    ("state", "string", "joined, joining, store away or name taken"),
    ("lease_s", "number?", "what is left of its lease as this node knows it, seconds"),
    ("address", "string", "where the others reach it"),
    ("version", "string", "the version that runs"),
    ("calls", "integer", "active calls"),
    ("registrations", "integer", "registrations of users"),
    ("calls_left", "integer", "calls that it would take"),
    ("draining", "boolean", "whether it takes no new calls"),
    ("took", "strings", "nodes that were lost and whose calls it took over"),
    ("beats", "integer", "renewals of its lease since it began"),
    (
        "config_differs",
        "boolean",
        "whether its users, trunks, limits or dialplans are not those of the node that answers",
    ),
];
const STATUS: Fields = &[
    ("version", "string", "the version that runs"),
    ("domain", "string", "server.domain"),
    ("draining", "boolean", "whether new calls are refused"),
    ("calls", "integer", "active calls"),
    ("calls_left", "integer", "calls that would be taken now"),
    ("overloaded", "string?", "why new calls are refused, if it is for overload"),
    ("longest_call_s", "integer?", "the age of the oldest active call, seconds"),
    ("registrations", "integer", "registered browsers"),
    ("flows", "integer", "connections of browsers and trunks"),
    ("transactions", "integer", "live SIP transactions"),
    ("subscriptions", "integer", "subscriptions of browsers"),
    ("dropped", "integer", "messages dropped without an answer"),
    ("refused", "integer", "INVITEs refused before they became a call"),
    ("limits", "CALL_LIMITS", "limits of the configuration"),
    ("recorder", "MEMORY", "what the flight recorder remembers"),
    ("trunks", "boolean#", "whether each trunk is usable"),
];
const CALL_LIMITS: Fields = &[("calls", "integer", "limits.calls")];
const MEMORY: Fields =
    &[("calls", "integer", "calls it remembers"), ("bytes", "integer", "their size")];
const CHANGES: Fields = &[
    ("changed", "strings", "what is in force now"),
    ("needs_restart", "strings", "keys whose new value waits for a restart"),
    ("warnings", "string", "what the checker says; may be empty"),
];
const SOURCES: Fields = &[
    ("file", "string?", "the configuration file; null in the demo"),
    ("lines", "integer#", "the line of each key of the file; what is not there is the default"),
    ("restart_keys", "strings", "keys whose new value needs a restart"),
    ("reload", "FORETOLD", "what a reload would do with the file as it is now"),
    ("ports", "OPEN_PORTS*", "the ports on which others reach the gateway"),
    ("certificates", "CERTIFICATE*", "the certificates it shows"),
];
const FORETOLD: Fields = &[
    ("changed", "strings", "what would be in force at once"),
    ("needs_restart", "strings", "keys whose new value would wait for a restart"),
    ("problem", "string?", "why the file would be refused"),
];
const OPEN_PORTS: Fields = &[
    ("protocol", "string", "udp or tcp"),
    ("first", "integer", "the first port"),
    ("last", "integer", "the last port"),
    ("for", "string", "what comes there"),
];
const CERTIFICATE: Fields = &[
    ("setting", "string", "the setting it comes from"),
    ("names", "strings", "the DNS names it is for"),
    ("ends", "string?", "when it expires"),
];
const DIALPLAN_FILES: Fields = &[
    ("files", "DIALPLAN_FILE*", "the files of dialplans/"),
    ("elsewhere", "MARK*", "findings in no file of dialplans/"),
];
const DIALPLAN_FILE: Fields = &[
    ("file", "string", "its path"),
    ("text", "string", "its text, secrets masked"),
    ("marks", "MARK*", "the findings of the checker"),
];
const MARK: Fields = &[
    ("file", "string?", "the file"),
    ("line", "integer?", "the line, from 1"),
    ("warning", "boolean", "false for an error"),
    ("code", "string", "the kind of finding"),
    ("message", "string", "what is wrong"),
    ("fix", "string", "what to do"),
];
const CHECKED: Fields = &[
    ("sound", "boolean", "whether there is no error"),
    ("marks", "MARK*", "the findings, warnings included"),
];
const CONTEXT: Fields =
    &[("context", "string", "its name"), ("routes", "ROUTE*", "its routes, in order")];
const ROUTE: Fields = &[("route", "string", "its name"), ("steps", "strings", "its steps as text")];
const ROUTED: Fields = &[
    ("dialled", "string", "the number as dialled"),
    ("number", "string", "the number in +E.164, or as dialled"),
    ("context", "string", "the dialplan"),
    ("considered", "CONSIDERED*", "the routes that were looked at"),
    ("route", "string?", "the one that takes the call"),
    ("steps", "strings?", "its steps as text"),
];
const CONSIDERED: Fields = &[
    ("route", "string", "its name"),
    ("pattern", "string", "what it matches"),
    ("why_not", "string?", "why it does not match"),
];
const ERROR: Fields = &[
    ("code", "string", "WT-nnnn"),
    ("title", "string", "what it means"),
    ("likely", "string", "the likely cause"),
    ("fix", "string", "what to do"),
];
const DELIVERY: Fields = &[
    ("id", "string", "the id of the delivery"),
    ("type", "string", "the kind of event"),
    ("call", "string?", "the call it is about"),
    ("tries", "integer", "how often it was sent"),
    ("began", "string", "when it was sent first, RFC 3339"),
    ("state", "string", "trying, delivered or dead"),
    ("why", "string?", "why it failed"),
    ("body", "object", "the event"),
];
const RESENT: Fields = &[("id", "string", "the id of the delivery"), ("sent", "boolean", "true")];
const SCHEMA_NAME: Fields =
    &[("name", "string", "the name of the schema"), ("of", "string", "what it describes")];

const JSON: &str = "application/json";

/// A `200` with this JSON.
const fn json(shape: &'static [(&str, Option<&str>)], refusals: &'static [u16]) -> Answers {
    Answers { status: 200, content: shape, refusals }
}

macro_rules! json {
    ($shape:literal $(, $refusal:literal)*) => {
        json(&[(JSON, Some($shape))], &[$($refusal),*])
    };
}

/// Every operation, by method and path.
pub(crate) const ANSWERS: &[(&str, &str, Answers)] = &[
    ("get", "/calls", json!("CALL*", 400)),
    (
        "post",
        "/calls",
        Answers {
            status: 202,
            content: &[(JSON, Some("BEGUN"))],
            refusals: &[400, 404, 409, 413, 415, 480, 488, 500],
        },
    ),
    ("post", "/calls/{id}/dtmf", json!("DONE", 400, 404, 409, 413, 415, 488)),
    ("post", "/calls/{id}/transfer", json!("DONE", 400, 404, 409, 413, 415, 480, 488)),
    ("post", "/calls/{id}/hold", json!("DONE", 404, 409, 488)),
    ("delete", "/calls/{id}/hold", json!("DONE", 404, 409, 488)),
    ("get", "/calls/{id}", json!("CALL_DETAIL", 404)),
    ("delete", "/calls/{id}", json!("ENDED", 400, 404, 409)),
    (
        "get",
        "/calls/{id}/ladder",
        json(
            &[
                (JSON, Some("LADDER")),
                ("text/plain", None),
                ("image/svg+xml", None),
                ("text/vnd.mermaid", None),
            ],
            &[400, 404],
        ),
    ),
    ("get", "/calls/{id}/quality", json!("QUALITY", 404)),
    ("get", "/calls/{id}/pcap", json(&[("application/vnd.tcpdump.pcap", None)], &[404, 500])),
    ("get", "/session", json!("SESSION")),
    ("post", "/session", json!("SESSION", 400, 413, 415, 429)),
    ("delete", "/session", json!("LOGGED_OUT")),
    ("post", "/credentials", json!("CREDENTIAL", 400, 404, 409, 413, 415)),
    ("get", "/registrations", json!("BINDING*", 400)),
    ("get", "/logins", json!("LOGIN*", 400)),
    ("delete", "/registrations/{user}", json!("CLOSED", 404)),
    ("get", "/trunks", json!("TRUNK*")),
    ("get", "/trunks/{name}", json!("TRUNK", 404)),
    ("post", "/trunks/{name}/probe", json!("PROBED", 404)),
    ("post", "/trunks/{name}/enable", json!("TRUNK", 404)),
    ("post", "/trunks/{name}/disable", json!("TRUNK", 404)),
    ("get", "/nodes", json!("NODE*")),
    ("get", "/status", json!("STATUS")),
    ("post", "/drain", json!("STATUS")),
    ("delete", "/drain", json!("STATUS")),
    ("post", "/reload", json!("CHANGES", 409, 422)),
    ("get", "/config", json!("CONFIG")),
    ("get", "/config/sources", json!("SOURCES", 500)),
    ("get", "/config/dialplans", json!("DIALPLAN_FILES", 409, 500)),
    ("post", "/config/check", json!("CHECKED", 409, 500)),
    ("get", "/dialplan", json!("CONTEXT*")),
    ("post", "/dialplan/test", json!("ROUTED", 400, 404, 413, 415)),
    ("get", "/errors", json!("ERROR*")),
    ("get", "/errors/{code}", json!("ERROR", 404)),
    ("get", "/cdr", json!("CDR*", 400, 404, 500)),
    ("get", "/webhooks", json!("DELIVERY*")),
    ("post", "/webhooks/{id}/resend", json!("RESENT", 404, 409)),
    ("get", "/events", json(&[("text/event-stream", None)], &[400])),
    ("get", "/schemas", json!("SCHEMA_NAME*")),
    ("get", "/schemas/{name}", json!("object", 404)),
    ("get", "/openapi.json", json!("object")),
];

/// The answers of an operation.
pub(crate) fn of(method: &str, path: &str) -> Option<&'static Answers> {
    ANSWERS.iter().find(|(m, p, _)| (*m, *p) == (method, path)).map(|(.., answers)| answers)
}

/// The shapes that extend another: their own fields count before those of the other.
pub(crate) const EXTENDED: [(&str, Fields); 2] = [("CALL_DETAIL", CDR), ("PROBED", TRUNK)];
