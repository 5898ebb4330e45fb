//! Which calls a query asks for, and pages of them: `/calls` and `/cdr` take the same parameters.
//!
//! A page costs what is on it. The core looks at so many calls in one turn at most; a query that
//! few of them fit takes more turns, between which the gateway works on.

use super::{ApiResult, ApiState, Problem, view};
use crate::cdr::search::{CallFilter, Facts, OUTCOMES, hundredths, normalised};
use crate::errors::Code;
use crate::gateway::Gateway;
use crate::ids::{CallId, CallKey};
use crate::journal::WallClock;
use crate::transport::WorkTurn;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, http::Uri};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Items of a page: the default, and the most.
const USUAL: usize = 100;
pub(crate) const MOST: usize = 1_000;
/// Calls the core looks at, and shows, in one turn.
const LOOKED_AT: usize = 1_000;
const SHOWN: usize = 100;

/// The parameters of a list of calls or records.
#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ListQuery {
    /// `live`, `ended` or `all`; calls only.
    pub state: Option<String>,
    /// The earliest start: RFC 3339, or a time ago such as `2h`.
    #[serde(alias = "from")]
    pub since: Option<String>,
    /// The start before which calls are wanted, written like `since`.
    #[serde(alias = "to")]
    pub until: Option<String>,
    /// Part of a number of either party.
    pub number: Option<String>,
    /// Part of the caller's name.
    pub name: Option<String>,
    /// A user who made the call, was tried or answered.
    pub user: Option<String>,
    /// A trunk of the call.
    pub trunk: Option<String>,
    /// How it ended, as in the record.
    pub outcome: Option<String>,
    /// An error code, `WT-nnnn`.
    pub code: Option<String>,
    /// Calls whose worst estimated opinion score is below this, 1 to 5.
    pub mos_below: Option<f64>,
    /// Words that the record contains.
    pub search: Option<String>,
    /// Most calls of a page; 100 by default.
    pub limit: Option<usize>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// A query that was understood.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Listing {
    /// Which calls are wanted.
    pub wanted: CallFilter,
    /// The start from which on calls are wanted, since 1970.
    pub since: Option<Duration>,
    /// The start before which calls are wanted, since 1970.
    pub until: Option<Duration>,
    /// Most calls of a page.
    pub limit: usize,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

fn bad(why: impl Into<String>, fix: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, why).fix(fix)
}

impl ListQuery {
    /// Reads the parameters; times that are relative count back from `now`.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub(crate) fn understood(self, now: Timestamp) -> ApiResult<Listing> {
        let plain = |text: Option<String>| text.filter(|t| !t.is_empty());
        let lower = |text: Option<String>| plain(text).map(|t| t.trim().to_lowercase());
        if let Some(odd) = self.outcome.as_deref().filter(|o| !OUTCOMES.contains(o)) {
            return Err(bad(
                format!("outcome={odd} is not known"),
                &format!("use {}", OUTCOMES.join(", ")),
            ));
        }
        let code = match plain(self.code).map(|c| (c.to_uppercase().parse::<Code>(), c)) {
            Some((Ok(code), _)) => Some(code.to_string()),
            Some((Err(_), odd)) => {
                return Err(bad(
                    format!("code={odd} is no code"),
                    "write it as WT-2107; `webtrunk explain` lists all",
                ));
            }
            None => None,
        };
        if let Some(odd) = self.mos_below.filter(|mos| !(1.0..=5.0).contains(mos)) {
            return Err(bad(format!("mos_below={odd} is no opinion score"), "use 1 to 5"));
        }
        if self.limit == Some(0) {
            return Err(bad("limit=0 shows nothing", "use 1 to 1000"));
        }
        let time = |name: &str, text: Option<String>| match plain(text) {
            Some(text) => moment(&text, now).map(Some).ok_or_else(|| {
                bad(
                    format!("{name}={text} is no time"),
                    "write 2h, 09:30, 2026-11-20 or 2026-11-20T09:30:00Z",
                )
            }),
            None => Ok(None),
        };
        Ok(Listing {
            wanted: CallFilter {
                number: plain(self.number).map(|n| normalised(&n)).filter(|n| !n.is_empty()),
                name: lower(self.name),
                user: plain(self.user),
                trunk: plain(self.trunk),
                outcome: plain(self.outcome),
                code,
                mos_below: self.mos_below.map(hundredths),
                search: lower(self.search),
            },
            since: time("since", self.since)?,
            until: time("until", self.until)?,
            limit: self.limit.unwrap_or(USUAL).min(MOST),
            cursor: self.cursor,
        })
    }
}

/// A moment since 1970: `2h` ago, `09:30` as it last was (UTC), or RFC 3339 and the beginnings of
/// it that name a year, a month, a day, a minute.
fn moment(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let since_epoch = |t: Timestamp| Duration::try_from(t.as_duration()).ok();
    if let Ok(ago) = humantime::parse_duration(text) {
        return since_epoch(now.checked_sub(ago).ok()?);
    }
    if text.len() <= 8
        && text.contains(':')
        && let Ok(time) = text.parse::<Time>()
    {
        let today: Zoned = now.to_zoned(TimeZone::UTC).with().time(time).build().ok()?;
        let last = if today.timestamp() > now { today.yesterday().ok()? } else { today };
        // `yesterday` is the beginning of that day.
        return since_epoch(last.with().time(time).build().ok()?.timestamp());
    }
    const WHOLE: &str = "0000-01-01T00:00:00Z";
    let whole = match text.len() {
        4 | 7 | 10 | 13 | 16 | 19 => format!("{text}{}", &WHOLE[text.len()..]),
        _ => text.to_owned(),
    };
    // A `+` of an offset that was not escaped has become a space.
    since_epoch(whole.replace(' ', "T").parse().or_else(|_| whole.replace(' ', "+").parse()).ok()?)
}

/// Which of both kinds are wanted.
#[derive(Clone, Copy, Debug)]
struct States {
    live: bool,
    ended: bool,
}

/// What `GET /calls` looks for.
struct CallSearch<'a> {
    listing: &'a Listing,
    states: States,
}

/// What one turn of the core found.
struct Slice {
    found: Vec<Value>,
    /// The last call that was looked at.
    at: Option<CallKey>,
    over: bool,
}

/// Looks at calls that began before `at`, the newest first, until there are `room` to show or
/// `left` have been looked at.
fn look(
    gateway: &Gateway,
    turn: &WorkTurn<'_>,
    search: &CallSearch<'_>,
    mut at: Option<CallKey>,
    room: usize,
    left: &mut usize,
) -> Slice {
    let CallSearch { listing, states } = *search;
    let since = listing.since.and_then(|since| turn.clock.instant(since));
    let mut live = gateway.live_before(at).filter(|_| states.live).peekable();
    let mut ended = gateway.recorder.ended_before(at).filter(|_| states.ended).peekable();
    let mut found = Vec::new();
    while *left > 0 && found.len() < room.min(SHOWN) {
        let next_live = live.peek().map(|c| (c.cdr().start, c.id()));
        let next_ended = ended.peek().map(|f| (f.started, f.call));
        let key = next_live.max(next_ended);
        if key.is_none_or(|(start, _)| since.is_some_and(|since| start < since)) {
            return Slice { found, at, over: true };
        }
        *left -= 1;
        at = key;
        let shown = if key == next_live {
            live.next().and_then(|call| {
                let fits = listing.wanted.fits(&Facts::of(call.cdr(), false));
                fits.then(|| view::live(call, turn.now, turn.clock))
            })
        } else {
            ended.next().and_then(|flight| {
                let fits = listing.wanted.fits(&Facts::of(flight.cdr.as_deref()?, true));
                fits.then(|| view::ended(flight, turn.clock)).flatten()
            })
        };
        found.extend(shown);
    }
    Slice { found, at, over: false }
}

/// Where a page ends, for the next one: when that call began, and its number.
fn cursor_of((start, call): CallKey, clock: &WallClock) -> String {
    format!("{}.{:x}", clock.since_epoch(start).as_nanos(), call.0)
}

fn key_of(cursor: &str, clock: &WallClock) -> Option<CallKey> {
    let (nanos, call) = cursor.split_once('.')?;
    let start = clock.instant(Duration::from_nanos(nanos.parse().ok()?))?;
    Some((start, CallId(u64::from_str_radix(call, 16).ok()?)))
}

/// The calls of one page, and where the next begins.
pub(crate) async fn calls(
    api: &ApiState,
    mut query: ListQuery,
) -> ApiResult<(Vec<Value>, Option<String>)> {
    let state = query.state.take();
    let states = match state.as_deref() {
        None | Some("all") => States { live: true, ended: true },
        Some("live") => States { live: true, ended: false },
        Some("ended") => States { live: false, ended: true },
        Some(odd) => {
            return Err(bad(format!("state={odd} is not known"), "use live, ended or all"));
        }
    };
    let listing = Arc::new(query.understood(Timestamp::now())?);
    let first = listing.clone();
    let begin = api.ask(move |_, turn| begin_of(&first, turn.clock)).await??;
    let Some(mut at) = begin else { return Ok((Vec::new(), None)) };
    let (mut page, mut end) = (Vec::new(), None);
    loop {
        // Past a full page, to know whether there is another.
        let (asked, room) = (listing.clone(), (listing.limit - page.len()).max(1));
        let work = move |gateway: &mut Gateway, turn: &mut WorkTurn<'_>| {
            let search = CallSearch { listing: &asked, states };
            let slice = look(gateway, turn, &search, at, room, &mut { LOOKED_AT });
            let cursor = slice.at.map(|key| cursor_of(key, turn.clock));
            (slice, cursor)
        };
        let (slice, cursor) = api.ask(work).await?;
        at = slice.at;
        if page.len() < listing.limit {
            page.extend(slice.found);
            end = cursor;
        } else if !slice.found.is_empty() {
            return Ok((page, end));
        }
        if slice.over {
            return Ok((page, None));
        }
    }
}

/// Where the first turn begins to look: `None` if nothing can be there, `Some(None)` for the
/// newest.
fn begin_of(listing: &Listing, clock: &WallClock) -> ApiResult<Option<Option<CallKey>>> {
    if let Some(cursor) = &listing.cursor {
        let key = key_of(cursor, clock).ok_or_else(|| bad_cursor(cursor))?;
        return Ok(Some(Some(key)));
    }
    Ok(match listing.until {
        Some(until) => clock.instant(until).map(|until| Some((until, CallId(0)))),
        None => Some(None),
    })
}

/// Why a cursor is not followed.
#[cfg(any(test, fuzzing))]
pub(crate) fn listed(query: &str) -> bool {
    let uri = Uri::builder().path_and_query(format!("/calls?{query}")).build();
    let read = uri.ok().and_then(|uri| axum::extract::Query::<ListQuery>::try_from_uri(&uri).ok());
    read.is_some_and(|read| read.0.understood(Timestamp::UNIX_EPOCH).is_ok())
}

pub(crate) fn bad_cursor(cursor: &str) -> Problem {
    bad(format!("cursor={cursor} is not one of this gateway's"), "follow the Link header of a page")
}

/// A page as it is answered: a JSON array, and a Link to the next (RFC 8288).
pub(crate) fn page(uri: &Uri, items: Vec<Value>, cursor: Option<&str>) -> Response {
    let mut response = Json(Value::Array(items)).into_response();
    if let Some(cursor) = cursor {
        let kept = uri.query().unwrap_or_default().split('&');
        let kept = kept.filter(|p| !p.is_empty() && !p.starts_with("cursor="));
        let cursor = format!("cursor={cursor}");
        let query = kept.chain([cursor.as_str()]).collect::<Vec<_>>().join("&");
        // What came in a request line and was parsed fits into a header.
        if let Ok(link) = HeaderValue::from_str(&format!("<?{query}>; rel=\"next\"")) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::services::NodeIdentity;
    use crate::cdr::{Cdr, Party};
    use crate::config::check::parse_embedded;
    use crate::sip::message::Message;
    use crate::sip::parse::Framing;
    use std::time::Instant;

    /// A gateway that remembers `n` calls, one a second; every hundredth from `ada`.
    fn remembering(n: u32) -> (Gateway, Instant) {
        let config = "[server]\ndomain = \"x\"\npublic_ip = \"127.0.0.1\"\n[sip]\nudp = \":5060\"\n\
                      [recorder]\ncalls = 100000\nmemory = \"1GB\"\n";
        let (config, _) = parse_embedded(config, &[]).unwrap_or_else(|p| panic!("{p}"));
        let begin = Instant::now();
        let identity = NodeIdentity::without_a_host();
        let mut gateway = Gateway::new(begin, Arc::new(config), identity, [3; 32]);
        let invite = "INVITE sip:1@x SIP/2.0\r\nFrom: <sip:a@x>;tag=1\r\nCall-ID: c\r\n\r\n";
        let invite = Message::parse(invite.as_bytes().to_vec(), Framing::WebSocket).expect("sound");
        for i in 0..n {
            let (now, id) = (begin + Duration::from_secs(i.into()), CallId(u64::from(i) << 32));
            gateway.recorder.open(now, id, "a", "1", &i.to_string());
            let name = if i % 100 == 0 { "ada" } else { "bob" };
            let from = Party::User { name: name.into(), instance: None };
            let mut cdr = Cdr::new(id, now, from, &invite);
            cdr.verdict = Some(crate::cdr::Diagnosis::default());
            gateway.recorder.ended(id, Arc::new(cdr));
        }
        (gateway, begin)
    }

    /// A page, and how many calls the core looked at for it.
    fn page_of(gateway: &Gateway, begin: Instant, query: ListQuery) -> (Vec<String>, usize) {
        let clock = WallClock::now();
        let listing = query.understood(Timestamp::now()).expect("a query");
        let search = CallSearch { listing: &listing, states: States { live: true, ended: true } };
        let turn = WorkTurn { now: begin, clock: &clock, out: &mut Vec::new() };
        let mut at = begin_of(&listing, &clock).expect("a cursor").expect("a place");
        let (mut page, mut looked_at) = (Vec::new(), 0);
        loop {
            let mut left = LOOKED_AT;
            let room = listing.limit - page.len();
            let slice = look(gateway, &turn, &search, at, room, &mut left);
            looked_at += LOOKED_AT - left;
            assert!(slice.found.len() <= SHOWN, "a turn of the core has its bound");
            page.extend(slice.found.iter().map(|c| c["call"].as_str().unwrap_or("?").to_owned()));
            at = slice.at;
            if slice.over || page.len() >= listing.limit {
                return (page, looked_at);
            }
        }
    }

    #[test]
    fn a_page_costs_the_same_among_ten_thousand_and_a_hundred_thousand_calls() {
        let work = |n: u32| {
            let (gateway, begin) = remembering(n);
            let (page, all) = page_of(&gateway, begin, ListQuery::default());
            assert_eq!(page.len(), USUAL);
            assert_eq!(page[0], format!("{:08x}", n - 1), "the newest first");
            let ada =
                || ListQuery { user: Some("ada".into()), limit: Some(10), ..ListQuery::default() };
            let (page, of_ada) = page_of(&gateway, begin, ada());
            assert_eq!((page.len(), page[0].clone()), (10, format!("{:08x}", n - 100)));
            let clock = WallClock::now();
            let at = |second: u32| {
                let at = clock.since_epoch(begin + Duration::from_secs(second.into()));
                let at = Timestamp::UNIX_EPOCH.checked_add(at).expect("a time");
                Some(at.to_string())
            };
            // Half a second off: two readings of a clock differ by less.
            let window =
                ListQuery { since: at(n / 2), until: at(n / 2 + 50), ..ListQuery::default() };
            let (page, in_window) = page_of(&gateway, begin, window);
            assert!((49..=51).contains(&page.len()), "{page:?}");
            (all, of_ada, in_window.clamp(49, 51) == in_window)
        };
        let (small, large) = (work(10_000), work(100_000));
        assert_eq!(small, large, "looked at: in all, for one user, within a window");
        assert_eq!(small.0, USUAL, "not one more than is shown");
    }

    #[test]
    fn a_page_is_as_long_as_asked_within_its_bound() {
        let limit = |limit| {
            let query = ListQuery { limit, ..ListQuery::default() };
            query.understood(Timestamp::UNIX_EPOCH).expect("understood").limit
        };
        let wanted = [None, Some(1), Some(MOST), Some(MOST + 1), Some(usize::MAX)];
        assert_eq!(wanted.map(limit), [USUAL, 1, MOST, MOST, MOST]);
    }

    #[test]
    fn a_time_is_an_age_a_time_of_day_or_the_beginning_of_a_date() {
        let now: Timestamp = "2026-11-27T04:05:57Z".parse().expect("a time");
        let read = |text: &str| {
            let at = moment(text, now)?;
            Some(Timestamp::UNIX_EPOCH.checked_add(at).expect("a time").to_string())
        };
        for (text, wanted) in [
            ("2h", "2026-11-27T02:05:57Z"),
            ("1d 5s", "2026-11-26T04:05:52Z"),
            ("03:30", "2026-11-27T03:30:00Z"),
            ("09:30:15", "2026-11-26T09:30:15Z"),
            ("2026", "2026-01-01T00:00:00Z"),
            ("2026-11", "2026-11-01T00:00:00Z"),
            ("2026-11-20", "2026-11-20T00:00:00Z"),
            ("2026-11-20T09", "2026-11-20T09:00:00Z"),
            ("2026-11-20 09:30", "2026-11-20T09:30:00Z"),
            ("2026-11-20T09:30:00.250Z", "2026-11-20T09:30:00.25Z"),
            ("2026-11-20T09:30:00+01:00", "2026-11-20T08:30:00Z"),
            ("2026-11-20T09:30:00 01:00", "2026-11-20T08:30:00Z"),
        ] {
            assert_eq!(read(text).as_deref(), Some(wanted), "{text}");
        }
        for odd in ["", "yesterday", "2026-11-2", "2026-13", "25:00", "-2h", "999999999y"] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_cursor_leads_back_to_its_call() {
        let clock = WallClock::now();
        let key = (Instant::now(), CallId(0x7f3a_91c2_0000_0001));
        assert_eq!(key_of(&cursor_of(key, &clock), &clock), Some(key));
        for odd in ["", "1", "x.y", "1.", ".1", "-1.5"] {
            assert_eq!(key_of(odd, &clock), None, "{odd}");
        }
    }
}
