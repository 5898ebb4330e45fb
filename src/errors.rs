//! The registry of everything that can go wrong: one code, one title, one likely cause, one fix.
//!
//! `errors.toml` holds the words. Log lines, verdicts, HTTP problems, the page and the docs take
//! them from here.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

/// The number behind `WT-`; 0 stands for "nothing was wrong".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Code(pub u16);

macro_rules! codes {
    ($($name:ident = $number:literal),* $(,)?) => {
        impl Code {
            $(
                #[doc = concat!("`WT-", stringify!($number), "`.")]
                pub const $name: Code = Code($number);
            )*
            /// All that have a name in the source.
            #[cfg(test)]
            pub(crate) const NAMED: &'static [Code] = &[$(Code($number)),*];
        }
    };
}

codes! {
    LOGIN_REFUSED = 1001, CREDENTIALS_EXPIRED = 1002, LOCKED_OUT = 1003, TOKEN = 1004,
    LOGIN_UNCHECKED = 1005, ORIGIN = 1006, CONNECTIONS = 1007, PROXY_HEADER = 1008,
    REFUSED = 1100, MALFORMED = 1101, LOOP = 1102, NOT_ALLOWED = 1103, NO_ROUTE = 1104,
    REGION = 1105, NOT_PERMITTED = 1106, DEAR = 1107, LIMIT = 1110, DRAINING = 1111, PORTS = 1112,
    FRAUD = 1113, OVERLOADED = 1114,
    KICKED = 1200, FLOW_LOST = 1201, TOO_LONG = 1202, SESSION_TIMER = 1203, NO_ACK = 1204,
    NO_PRACK = 1205, PAGE_LEFT = 1206,
    CANCELLED = 1300, BUSY = 1301, NO_ANSWER = 1302, DECLINED = 1303, NOT_AVAILABLE = 1304,
    NOT_REGISTERED = 1310, FLOW_DEAD = 1311,
    TARGET_FAILED = 2100, TRUNK_DOWN = 2101, NOT_REGISTERED_WITH = 2102, WEDGED = 2103,
    CERTIFICATE = 2104, UNREACHABLE = 2105, DNS = 2106, CREDENTIALS = 2107, FORBIDDEN = 2108,
    NO_SUCH_NUMBER = 2109, TRUNK_FULL = 2110, TRUNK_FAILED = 2111, TRUNK_DISABLED = 2112,
    UNREADABLE = 2113, TRUNK_AWAY = 2114,
    TRANSFER_FAILED = 2200,
    NO_CODEC = 3001, ADDRESS_UNKNOWN = 3003, PRIVATE_PUBLIC_IP = 3004, UDP_BLOCKED = 3005,
    FINGERPRINT = 3006, DTLS = 3007, PAYLOAD_TYPE = 3008, SRTP = 3009, PRIVATE_MEDIA = 3010,
    TRUNK_SILENT = 3011, BROWSER_SILENT = 3012, MUTED = 3013, OTHER_SOURCE = 3014, NOT_HEARD = 3015,
    NOT_PASSED_ON = 3016, ONE_STOPPED = 3017, MEDIA_STOPPED = 3020, BROWSER_GONE = 3021,
    TRUNK_GONE = 3022, DIGITS = 3030,
    STORE_AWAY = 4001, NODE_AWAY = 4002, NODE_NAME = 4003, CLUSTER_KEY = 4004, CLOCK = 4005,
    NODE_LOST = 4006, DEPOSED = 4007, TOKEN_TWICE = 4009,
    RECORDS = 5001, WEBHOOK = 5002, STATE = 5003, RECORDS_LOST = 5004, RECORDS_CORRUPT = 5005,
    RESTARTED = 5006, ACME = 5007, OWN_CERTIFICATE = 5008, UPGRADE = 5009,
    LOG_LOST = 5010,
    MEDIA_BUG = 9001, SESSION_BUG = 9002, WORKER_BEHIND = 9003, CALL_BUG = 9004, WORKER_DIED = 9005,
    CORE_DIED = 9006, STANDS_STILL = 9007, STALLED = 9008, INPUT_BUG = 9009,
}

/// What is known of a code besides the sentence of the moment.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorEntry {
    /// A few words.
    pub title: String,
    /// What it usually comes from.
    pub likely: String,
    /// What to do.
    pub fix: String,
}

static REGISTRY: LazyLock<BTreeMap<Code, ErrorEntry>> = LazyLock::new(|| {
    let read: BTreeMap<String, ErrorEntry> =
        toml::from_str(include_str!("errors.toml")).unwrap_or_default();
    read.into_iter().filter_map(|(code, entry)| Some((Code(code.parse().ok()?), entry))).collect()
});

impl Code {
    /// Nothing was wrong.
    pub const FINE: Code = Code(0);

    /// Returns its texts, or `None` for [`FINE`](Self::FINE).
    pub fn entry(self) -> Option<&'static ErrorEntry> {
        REGISTRY.get(&self)
    }

    /// The whole registry, in order.
    pub fn all() -> impl Iterator<Item = (Code, &'static ErrorEntry)> {
        REGISTRY.iter().map(|(code, entry)| (*code, entry))
    }

    /// Whether anything was wrong.
    pub fn is_fault(self) -> bool {
        self != Code::FINE
    }

    /// Returns itself, or `other` if nothing is wrong.
    pub fn or(self, other: Code) -> Code {
        if self.is_fault() { self } else { other }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WT-{:04}", self.0)
    }
}

impl FromStr for Code {
    type Err = String;

    fn from_str(text: &str) -> Result<Code, String> {
        let digits = text.trim().trim_start_matches("WT-").trim_start_matches("wt-");
        digits.parse().map(Code).map_err(|_| format!("{text:?} is no code such as WT-2107"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_words_and_every_entry_its_use() {
        for code in Code::NAMED {
            assert!(code.entry().is_some(), "{code} is not in errors.toml");
        }
        for (code, entry) in Code::all() {
            assert!(Code::NAMED.contains(&code), "{code} is used nowhere: {}", entry.title);
            for text in [&entry.title, &entry.likely, &entry.fix] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{code}: {text}");
            }
        }
        assert_eq!("WT-2107".parse(), Ok(Code::CREDENTIALS));
    }
}
