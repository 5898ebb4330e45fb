//! Which calls somebody asks for: one notion for calls that live, are remembered or are on disk.

use super::Cdr;
use serde_json::Value;
use smallvec::SmallVec;
use std::borrow::Cow;

/// The outcomes a record can have.
pub const OUTCOMES: [&str; 6] =
    ["success", "busy", "no_answer", "cancelled", "refused", "server_error"];

/// What a call has to be like; what is omitted does not matter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct CallFilter {
    /// Part of a number of the caller or the callee, as [`normalised`] writes it.
    pub number: Option<String>,
    /// Part of the caller's name, in lower case.
    pub name: Option<String>,
    /// Who made the call, was tried or answered.
    pub user: Option<String>,
    /// A trunk that made the call, was tried or answered.
    pub trunk: Option<String>,
    /// How the call ended, as [`Cdr::outcome`](super::Cdr::outcome) says it.
    pub outcome: Option<String>,
    /// `WT-nnnn`.
    pub code: Option<String>,
    /// Its worst estimated opinion score is below this, in hundredths.
    pub mos_below: Option<u16>,
    /// Part of anything of the above or of the call's id, in lower case; or several words, each
    /// of which is.
    pub search: Option<String>,
}

/// What is looked at of a call.
#[derive(Debug, Default)]
pub(crate) struct Facts<'a> {
    call: String,
    from: Cow<'a, str>,
    from_number: &'a str,
    from_name: &'a str,
    from_shown: &'a str,
    dialled: &'a str,
    number: &'a str,
    /// Who answered, and who was tried: `user:alice`, `trunk:carrier`.
    targets: SmallVec<[Cow<'a, str>; 4]>,
    /// `None` while it lives.
    outcome: Option<&'a str>,
    code: Option<String>,
    /// The worst estimated opinion score, in hundredths, if it has one.
    mos: Option<u16>,
}

/// An opinion score in hundredths.
pub(crate) fn hundredths(score: f64) -> u16 {
    (score * 100.0).round().clamp(0.0, 500.0) as u16
}

/// The worst score of a record's legs; `None` if one of them was not heard, as in [`Cdr::score`].
fn score_of_record(record: &Value) -> Option<u16> {
    let legs = || record["legs"].as_array().into_iter().flatten();
    let measured = |leg: &&Value| !leg["packets_in"].is_null();
    let unheard = |leg: &Value| leg["mos_in_estimated"].is_null();
    if legs().filter(measured).count() > 1 && legs().filter(measured).any(unheard) {
        return None;
    }
    let both = legs().flat_map(|leg| [&leg["mos_in_estimated"], &leg["mos_out_estimated"]]);
    both.filter_map(Value::as_f64).map(hundredths).min()
}

/// A number without what people write for their eyes; `00` is not taken for `+`, which depends on
/// the country.
pub(crate) fn normalised(number: &str) -> String {
    number.chars().filter(|c| !c.is_whitespace() && !"()-./".contains(*c)).collect()
}

/// The user a party such as `user:alice` or `alice` is.
fn user_of(party: &str) -> Option<&str> {
    match party.split_once(':') {
        Some(("user", name)) => Some(name),
        Some(_) => None,
        None => Some(party),
    }
}

/// The trunk a party such as `trunk:carrier` is.
fn trunk_of(party: &str) -> Option<&str> {
    party.strip_prefix("trunk:")
}

impl<'a> Facts<'a> {
    /// Those of a call that lives, or has `ended`.
    pub(crate) fn of(cdr: &'a Cdr, ended: bool) -> Facts<'a> {
        let answered = cdr.answered_by.as_ref();
        let targets = answered.into_iter().chain(cdr.tried.iter().map(|t| &t.target));
        Facts {
            call: cdr.call.to_string(),
            from: cdr.from.as_caller().into(),
            from_number: &cdr.from_number,
            from_name: &cdr.from_name,
            from_shown: &cdr.from_shown,
            dialled: &cdr.dialled,
            number: &cdr.number,
            targets: targets.map(|party| Cow::from(party.as_callee())).collect(),
            outcome: ended.then(|| cdr.outcome()),
            code: cdr.error_code().map(|c| c.to_string()),
            mos: cdr.score().map(|score| hundredths(score.into())),
        }
    }

    /// Those of a record as it was written.
    pub(crate) fn of_record(record: &'a Value) -> Facts<'a> {
        let text = |value: &'a Value| value.as_str().unwrap_or_default();
        let (from, to) = (&record["from"], &record["to"]);
        let answered = record["answered_by"].as_str();
        let tried = record["attempts"].as_array().into_iter().flatten();
        let tried = tried.filter_map(|attempt| attempt["target"].as_str());
        // Records of before had the code of the verdict there only.
        let code = record["code"].as_str().or_else(|| record["verdict"]["code"].as_str());
        Facts {
            call: text(&record["call"]).to_owned(),
            from: text(&from["user"]).into(),
            from_number: text(&from["number"]),
            from_name: text(&from["name"]),
            from_shown: text(&from["shown"]),
            dialled: text(&to["dialled"]),
            number: text(&to["number"]),
            targets: answered.into_iter().chain(tried).map(Cow::from).collect(),
            outcome: record["outcome"].as_str(),
            code: code.map(str::to_owned),
            mos: score_of_record(record),
        }
    }

    fn parties(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.from).chain(&self.targets).map(AsRef::as_ref)
    }

    fn numbers(&self) -> [&'a str; 4] {
        [self.from_number, self.from_shown, self.dialled, self.number]
    }

    fn has_number(&self, part: &str) -> bool {
        // Most numbers are written plainly, and plain ones need no copy.
        self.numbers().into_iter().any(|n| n.contains(part) || normalised(n).contains(part))
    }

    fn has_name(&self, part: &str) -> bool {
        self.from_name.to_lowercase().contains(part)
            || self.parties().filter_map(user_of).any(|user| user.to_lowercase().contains(part))
    }
}

impl CallFilter {
    /// Whether a call is one that is asked for.
    pub(crate) fn fits(&self, call: &Facts<'_>) -> bool {
        let is = |wanted: &Option<String>, found: &dyn Fn(&str) -> bool| {
            wanted.as_deref().is_none_or(found)
        };
        is(&self.outcome, &|o| call.outcome == Some(o))
            && is(&self.code, &|c| call.code.as_deref() == Some(c))
            && self.mos_below.is_none_or(|bar| call.mos.is_some_and(|mos| mos < bar))
            && is(&self.user, &|u| call.parties().any(|p| p == u || user_of(p) == Some(u)))
            && is(&self.trunk, &|t| call.parties().any(|p| p == t || trunk_of(p) == Some(t)))
            && is(&self.number, &|n| call.has_number(n))
            && is(&self.name, &|n| call.has_name(n))
            && is(&self.search, &|s| CallFilter::found_all(call, s))
    }

    /// As one text, which a name or a number with blanks is, or else every word of it.
    fn found_all(call: &Facts<'_>, text: &str) -> bool {
        CallFilter::found(call, text)
            || text.split_whitespace().all(|word| CallFilter::found(call, word))
    }

    fn found(call: &Facts<'_>, part: &str) -> bool {
        call.call.starts_with(part)
            || call.has_number(&normalised(part))
            || call.has_name(part)
            || call.parties().any(|p| p.to_lowercase().contains(part))
            || call.code.as_ref().is_some_and(|c| c.to_lowercase().contains(part))
            || call.outcome.is_some_and(|o| o.contains(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_call_is_found_by_either_number_by_name_and_by_who_took_part() {
        let record = json!({
            "call": "7f3a91c2", "code": "WT-3105", "outcome": "success", "answered_by": "user:bob",
            "from": {
                "user": "trunk:carrier", "number": "+493012345", "name": "Ada Müller",
                "shown": "030 123-45",
            },
            "to": { "dialled": "(206) 555-0123", "number": "+12065550123" },
            "attempts": [{ "target": "user:alice" }, { "target": "trunk:second" }],
            "legs": [{ "packets_in": 900, "mos_in_estimated": 4.31, "mos_out_estimated": 2.98 },
                     { "packets_in": 900, "mos_in_estimated": 4.12, "mos_out_estimated": null }],
        });
        let fits = |wanted: CallFilter| wanted.fits(&Facts::of_record(&record));
        let some = |text: &str| Some(text.to_owned());
        for number in ["+4930", "12345", "55501", "03012345", "2065550123"] {
            assert!(fits(CallFilter { number: some(number), ..CallFilter::default() }), "{number}");
        }
        for user in ["alice", "bob"] {
            assert!(fits(CallFilter { user: some(user), ..CallFilter::default() }), "{user}");
        }
        for trunk in ["carrier", "second"] {
            assert!(fits(CallFilter { trunk: some(trunk), ..CallFilter::default() }), "{trunk}");
        }
        for text in [
            "7f3a",
            "müll",
            "wt-3105",
            "555-01",
            "second",
            "success",
            "555 01",
            "bob 0123",
            "wt-3105 müller",
        ] {
            assert!(fits(CallFilter { search: some(text), ..CallFilter::default() }), "{text}");
        }
        assert!(fits(CallFilter { mos_below: Some(299), ..CallFilter::default() }));
        assert!(fits(CallFilter {
            name: some("müller"),
            code: some("WT-3105"),
            ..CallFilter::default()
        }));
        for wrong in [
            CallFilter { number: some("999"), ..CallFilter::default() },
            CallFilter { name: some("grace"), ..CallFilter::default() },
            CallFilter { user: some("carrier"), ..CallFilter::default() },
            CallFilter { trunk: some("alice"), ..CallFilter::default() },
            CallFilter { outcome: some("busy"), ..CallFilter::default() },
            CallFilter { code: some("WT-1104"), ..CallFilter::default() },
            CallFilter { mos_below: Some(298), ..CallFilter::default() },
            CallFilter { search: some("nobody"), ..CallFilter::default() },
            CallFilter { search: some("bob nobody"), ..CallFilter::default() },
        ] {
            assert!(!fits(wrong.clone()), "{wrong:?}");
        }
    }

    #[test]
    fn a_call_of_which_one_side_was_not_heard_has_no_score_to_be_below() {
        let legs = |mos: Value| {
            json!({ "legs": [{ "packets_in": 9, "mos_in_estimated": 2.0 },
                             { "packets_in": 0, "mos_in_estimated": mos }] })
        };
        let below = CallFilter { mos_below: Some(500), ..CallFilter::default() };
        assert!(below.fits(&Facts::of_record(&legs(json!(4.0)))));
        assert!(!below.fits(&Facts::of_record(&legs(Value::Null))));
        assert!(!below.fits(&Facts::of_record(&json!({ "outcome": "busy" }))));
    }
}
