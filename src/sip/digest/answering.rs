//! Answers to challenges of others: of a trunk, or of the proxies before it (RFC 3261 §22.3).

use super::Algorithm;
use crate::sip::build::quoted;
use crate::sip::header::DigestParams;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::Method;
use std::fmt::Write as _;

/// A challenge of ours to answer, kept over the requests that use its nonce.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Challenge {
    header: HeaderName,
    realm: String,
    nonce: String,
    opaque: Option<String>,
    qop: bool,
    algorithm: Algorithm,
}

/// Most challenges of one response that are answered: proxies on the way, and the server.
const MAX_CHALLENGES: usize = 4;
/// Most responses with challenges in a row that are answered: each of them once, and a few stale.
const MAX_TRIES: u32 = 6;
/// Challenges in a row by one realm that are answered, if each says that the nonce was stale.
const MAX_STALE: u32 = 3;

impl Challenge {
    /// The challenges of a response that may be answered, one for each realm of servers and of
    /// proxies: the first that is understood, which is the one they prefer (RFC 8760 §2.4). Both
    /// kinds may stand in one response (RFC 3261 §22.3).
    fn all_of(response: &Message, realms: Option<&[String]>) -> Vec<(Challenge, bool)> {
        let mut all: Vec<(Challenge, bool)> = Vec::new();
        if !matches!(response.status(), 401 | 407) {
            return all;
        }
        for (from, to) in [
            (HeaderName::WwwAuthenticate, HeaderName::Authorization),
            (HeaderName::ProxyAuthenticate, HeaderName::ProxyAuthorization),
        ] {
            for d in response.all(from).filter_map(DigestParams::parse) {
                let Some(found) = Challenge::of(&d, to) else { continue };
                let allowed = realms.is_none_or(|r| r.contains(&found.0.realm));
                if allowed
                    && all.len() < MAX_CHALLENGES
                    && !all.iter().any(|(c, _)| c.is_of(&found.0))
                {
                    all.push(found);
                }
            }
        }
        all
    }

    /// One challenge, and whether it says that the last nonce was stale; `None` if no algorithm or
    /// qop of it is ours, or what has to be echoed cannot be within quotes.
    fn of(d: &DigestParams<'_>, header: HeaderName) -> Option<(Challenge, bool)> {
        let fits = |q: &str| q.split(',').any(|q| q.trim().eq_ignore_ascii_case("auth"));
        if !d.get("qop").is_none_or(fits) {
            return None;
        }
        let stale = d.get("stale").is_some_and(|s| s.eq_ignore_ascii_case("true"));
        let challenge = Challenge {
            header,
            realm: d.get("realm").filter(|realm| echoes(realm))?.to_owned(),
            nonce: d.get("nonce").filter(|nonce| echoes(nonce))?.to_owned(),
            opaque: match d.get("opaque") {
                Some(opaque) if !echoes(opaque) => return None,
                opaque => opaque.map(str::to_owned),
            },
            qop: d.get("qop").is_some(),
            algorithm: Algorithm::from_token(d.get("algorithm"))?,
        };
        Some((challenge, stale))
    }

    /// Whether `other` takes this one's place.
    fn is_of(&self, other: &Challenge) -> bool {
        self.header == other.header && self.realm == other.realm
    }

    fn answer(
        &self,
        count: u32,
        user: &str,
        password: &str,
        uri: &str,
        method: Method,
        cnonce: &str,
    ) -> String {
        let Challenge { realm, nonce, algorithm, .. } = self;
        let ha1 = algorithm.hash(&[user, realm, password]);
        let ha2 = algorithm.hash(&[method.as_str(), uri]);
        let nc = format!("{count:08x}");
        let response = if self.qop {
            algorithm.hash(&[&ha1, nonce, &nc, cnonce, "auth", &ha2])
        } else {
            algorithm.hash(&[&ha1, nonce, &ha2])
        };
        // Realm, nonce and opaque are echoed as received: their escapes must not be doubled.
        let mut value = format!(
            "Digest username={}, realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
                response=\"{response}\", algorithm={}",
            quoted(user),
            algorithm.as_str()
        );
        if self.qop {
            let _ = write!(value, ", qop=auth, nc={nc}, cnonce=\"{cnonce}\"");
        }
        if let Some(opaque) = &self.opaque {
            let _ = write!(value, ", opaque=\"{opaque}\"");
        }
        value
    }
}

/// Whether a value can stand within quotes as it came: its escapes are whole, and no quote or
/// control character is outside one.
fn echoes(value: &str) -> bool {
    let mut escaped = false;
    for c in value.chars() {
        if c.is_control() || c == '"' && !escaped {
            return false;
        }
        escaped = c == '\\' && !escaped;
    }
    !escaped
}

/// A challenge that was taken, and how it continued.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Taken {
    challenge: Challenge,
    /// Uses of its nonce.
    count: u32,
    /// How often this realm challenged in a row.
    in_a_row: u32,
    /// Another one was next: this one was content.
    passed: bool,
}

/// Credentials that continue with a nonce (RFC 7616 §3.4: nc counts its uses), towards one server
/// and the proxies before it (RFC 3261 §22.3).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Answering {
    taken: Vec<Taken>,
    /// Challenges in a row without a success in between.
    tries: u32,
    /// The only realms that are answered; any if empty.
    realms: Option<Vec<String>>,
}

impl Answering {
    /// Answers challenges for `realm` only, or for any.
    pub(crate) fn for_realm(realm: Option<&str>) -> Answering {
        Answering { realms: realm.map(|r| vec![r.to_owned()]), ..Answering::default() }
    }

    /// Answers challenges for these realms only.
    pub(crate) fn for_realms(realms: &[String]) -> Answering {
        Answering { realms: Some(realms.to_vec()), ..Answering::default() }
    }

    /// Takes the challenges of a response. Returns false if none of them may, or can, be answered
    /// (another realm, no algorithm of ours), or our credentials were refused already. A new nonce
    /// marked stale is no refusal, nor is one of a realm that was content before another asked.
    pub(crate) fn take(&mut self, response: &Message) -> bool {
        let asked = Challenge::all_of(response, self.realms.as_deref());
        self.tries += 1;
        if asked.is_empty() || self.tries > MAX_TRIES {
            return false;
        }
        for known in &mut self.taken {
            known.passed |= !asked.iter().any(|(c, _)| c.is_of(&known.challenge));
        }
        for (challenge, stale) in asked {
            let Some(known) = self.taken.iter_mut().find(|t| t.challenge.is_of(&challenge)) else {
                if self.taken.len() == MAX_CHALLENGES {
                    return false;
                }
                self.taken.push(Taken { challenge, count: 0, in_a_row: 1, passed: false });
                continue;
            };
            let content = std::mem::take(&mut known.passed);
            known.in_a_row += 1;
            let again = known.in_a_row == 1 || content || (stale && known.in_a_row <= MAX_STALE);
            if !again {
                return false;
            }
            (known.challenge, known.count) = (challenge, 0);
        }
        true
    }

    /// Whether the peer has seen our credentials for its challenge.
    pub(crate) fn has_answered(&self) -> bool {
        self.taken.iter().any(|t| t.count > 0)
    }

    /// The realms whose challenges were taken.
    pub(crate) fn realms(&self) -> Vec<String> {
        self.taken.iter().map(|t| t.challenge.realm.clone()).collect()
    }

    /// The last request was accepted: the next challenge is a new one.
    pub(crate) fn accepted(&mut self) {
        self.tries = 0;
        self.taken.iter_mut().for_each(|t| t.in_a_row = 0);
    }

    /// Starts over.
    pub(crate) fn forget(&mut self) {
        *self = Answering { realms: self.realms.take(), ..Answering::default() };
    }

    /// The headers for the next request: one for each challenge that is known.
    pub(crate) fn credentials(
        &mut self,
        user: &str,
        password: &str,
        uri: &str,
        method: Method,
        cnonce: &str,
    ) -> Vec<(HeaderName, String)> {
        let one = |taken: &mut Taken| {
            taken.count += 1;
            let Taken { challenge, count, .. } = taken;
            (challenge.header, challenge.answer(*count, user, password, uri, method, cnonce))
        };
        self.taken.iter_mut().map(one).collect()
    }
}

/// Our answer to a trunk's challenge.
///
/// Returns the header to add, or `None` if the challenge has no algorithm or qop of ours.
pub fn answer(
    challenge: &Message,
    user: &str,
    password: &str,
    uri: &str,
    method: Method,
    cnonce: &str,
) -> Option<(HeaderName, String)> {
    let all = Challenge::all_of(challenge, None);
    let (challenge, _) = all.into_iter().next()?;
    Some((challenge.header, challenge.answer(1, user, password, uri, method, cnonce)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::parse::Framing;

    #[test]
    fn of_the_challenges_of_a_response_four_are_answered() {
        let asked: String = (0..9)
            .map(|n| {
                format!("WWW-Authenticate: Digest realm=\"r{n}\", nonce=\"n\", qop=\"auth\"\r\n")
            })
            .collect();
        let text = format!("SIP/2.0 401 Unauthorized\r\nCSeq: 1 INVITE\r\n{asked}\r\n");
        let response = Message::parse(text.into_bytes(), Framing::Datagram).expect("sound");
        assert_eq!(Challenge::all_of(&response, None).len(), MAX_CHALLENGES);
    }
}
