//! Which of a user's phones a caller wants: Accept-Contact and Reject-Contact (RFC 3841 §7.2.4)
//! against the feature parameters a phone registered with (RFC 3840 §9).
//!
//! Phones that are not wanted are not rung. Not here: scores among those that are (they ring by
//! their own q), preferences a request implies by its method, and ranges of numbers, which are
//! compared as texts.

use super::header::NameAddr;
use super::message::Message;
use super::parse::HeaderName;
use super::scan::cut;
use super::uri::Params;

/// Values of one header that are read.
const MAX_WISHES: usize = 16;
/// Longest features of one phone that are kept, bytes.
const MAX_FEATURES: usize = 1_024;
/// Contact parameters that are no features.
const NO_FEATURES: [&str; 6] = ["q", "expires", "reg-id", "+sip.instance", "pub-gruu", "temp-gruu"];

/// The feature parameters of a Contact, as a parameter list.
pub(crate) fn features_of(contact: &NameAddr<'_>) -> String {
    let mut out = String::new();
    for (name, value) in contact
        .params
        .iter()
        .filter(|(name, _)| !NO_FEATURES.iter().any(|n| n.eq_ignore_ascii_case(name)))
    {
        if !out.is_empty() {
            out.push(';');
        }
        out.push_str(name);
        if let Some(value) = value {
            out.push_str("=\"");
            out.push_str(value);
            out.push('"');
        }
    }
    if out.len() > MAX_FEATURES { String::new() } else { out }
}

/// One value: features that belong together.
struct PreferredFeatures<'a> {
    params: Params<'a>,
    require: bool,
    explicit: bool,
}

impl<'a> PreferredFeatures<'a> {
    /// Reads `*;audio;require`. Returns `None` if it cannot be read.
    fn parse(text: &'a str) -> Option<PreferredFeatures<'a>> {
        let (star, params) = cut(text, b';')?;
        let params = Params::parse(params).ok().filter(|_| star.trim_ascii() == "*")?;
        Some(PreferredFeatures {
            params,
            require: params.has("require"),
            explicit: params.has("explicit"),
        })
    }

    fn features(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        self.params.iter().filter(|(name, _)| {
            !["require", "explicit"].iter().any(|n| n.eq_ignore_ascii_case(name))
        })
    }

    /// Whether nothing a phone says of itself contradicts this.
    fn agrees(&self, phone: Params<'_>) -> bool {
        self.features()
            .all(|(name, wanted)| value_of(phone, name).is_none_or(|has| matches(wanted, has)))
    }

    /// Whether a phone speaks of every feature named here.
    fn is_covered(&self, phone: Params<'_>) -> bool {
        self.features().all(|(name, _)| phone.has(name))
    }
}

/// What a phone says of one feature: the outer none if it says nothing, the inner for a bare flag.
fn value_of<'a>(phone: Params<'a>, name: &str) -> Option<Option<&'a str>> {
    phone.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Whether some alternative of `wanted` is among what the phone `has`; a bare flag is true, `!`
/// denies.
fn matches(wanted: Option<&str>, has: Option<&str>) -> bool {
    let has = has.unwrap_or("TRUE");
    let holds = |value: &str| has.split(',').any(|h| h.trim().eq_ignore_ascii_case(value));
    wanted.unwrap_or("TRUE").split(',').map(str::trim).any(|value| match value.strip_prefix('!') {
        Some(denied) => !holds(denied),
        None => holds(value),
    })
}

/// A request's wishes.
pub(crate) struct Preferences<'a> {
    accept: Vec<PreferredFeatures<'a>>,
    reject: Vec<PreferredFeatures<'a>>,
}

impl<'a> Preferences<'a> {
    /// Reads them; values that cannot be read wish nothing.
    pub(crate) fn of(request: &'a Message) -> Preferences<'a> {
        let read = |name| {
            request.values(name).take(MAX_WISHES).filter_map(PreferredFeatures::parse).collect()
        };
        Preferences {
            accept: read(HeaderName::AcceptContact),
            reject: read(HeaderName::RejectContact),
        }
    }

    /// Whether a phone with these features may be rung.
    pub(crate) fn allow(&self, features: &str) -> bool {
        let phone = Params::parse(features).unwrap_or_default();
        let rejected = |w: &PreferredFeatures<'_>| w.is_covered(phone) && w.agrees(phone);
        let accepted = |w: &PreferredFeatures<'_>| {
            !w.require || (w.agrees(phone) && (!w.explicit || w.is_covered(phone)))
        };
        !self.reject.iter().any(rejected) && self.accept.iter().all(accepted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::parse::Framing;

    fn allowed(wishes: &str, features: &str) -> bool {
        let text = format!("INVITE sip:a@b SIP/2.0\r\n{wishes}\r\n\r\n");
        let message = Message::parse(text.into_bytes(), Framing::WebSocket).expect("sound");
        Preferences::of(&message).allow(features)
    }

    #[test]
    fn only_what_is_required_keeps_a_phone_from_ringing() {
        let desk = "audio;mobility=\"fixed\";methods=\"INVITE,BYE\"";
        for (wishes, rings) in [
            ("Accept-Contact: *;audio;require", true),
            ("Accept-Contact: *;mobility=\"mobile\"", true),
            ("Accept-Contact: *;mobility=\"mobile\";require", false),
            ("Accept-Contact: *;mobility=\"!mobile\";require", true),
            ("Accept-Contact: *;mobility=\"mobile,fixed\";require", true),
            ("Accept-Contact: *;video;require", true),
            ("Accept-Contact: *;video;require;explicit", false),
            ("Accept-Contact: *;audio;require;explicit", true),
            ("a: *;methods=\"BYE\";require, *;mobility=\"mobile\";require", false),
            ("Reject-Contact: *;mobility=\"fixed\"", false),
            ("Reject-Contact: *;mobility=\"fixed\";video", true),
            ("j: *;mobility=\"mobile\"", true),
            ("Accept-Contact: nonsense;require", true),
        ] {
            assert_eq!(allowed(wishes, desk), rings, "{wishes}");
        }
        assert!(
            allowed("Reject-Contact: *;video", ""),
            "a phone that says nothing is not rejected"
        );
    }

    #[test]
    fn a_contacts_features_are_kept_and_the_rest_is_not() {
        let contact = NameAddr::parse(
            "<sip:a@b>;q=0.5;expires=60;+sip.instance=\"<urn:x>\";audio;+sip.extra=\"one,two\"",
        )
        .expect("sound");
        assert_eq!(features_of(&contact), "audio;+sip.extra=\"one,two\"");
    }

    #[test]
    fn of_a_callers_wishes_the_first_sixteen_count() {
        let text = format!(
            "INVITE sip:a@b SIP/2.0\r\nAccept-Contact: {}\r\nReject-Contact: {}\r\n\r\n",
            vec!["*;audio"; 40].join(", "),
            vec!["*;video"; 40].join(", ")
        );
        let message = Message::parse(text.into_bytes(), Framing::WebSocket).expect("sound");
        let wishes = Preferences::of(&message);
        assert_eq!((wishes.accept.len(), wishes.reject.len()), (MAX_WISHES, MAX_WISHES));
    }
}
