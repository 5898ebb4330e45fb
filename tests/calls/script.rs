//! A call written as its ladder: a script that is performed, and nothing else may happen.
//!
//! `→` is performed by the peer, `←` is what must come; a time alone lets time pass; `//` begins a
//! remark. A request without a number is sent in the newest dialog of the peer that is still up,
//! and a response answers the newest request of its method that has none.
//!
//! What is usual is one sentence instead of its lines: see [`sentence`].

use crate::lab::*;
use std::time::{Duration, Instant};
use webtrunk::sip::parse::HeaderName;
use webtrunk::sip::{Message, Method};

/// What a message of a peer has besides the usual.
pub(crate) struct Extra {
    peer: Peer,
    what: String,
    lines: String,
}

/// One line of a script.
struct Line<'a> {
    at: Duration,
    text: &'a str,
    /// Who, whether it is performed, and what; `None` where time only passes.
    said: Option<(&'a str, bool, &'a str)>,
}

/// Returns the lines that a sentence about two peers stands for, or `None` if it is not one: "alice
/// calls 201 at bob", "bob rings alice", "bob answers alice", "bob refuses alice with 486", "alice
/// gives up on bob", "alice hangs up on bob", "alice transfers to 201 at bob".
fn sentence(text: &str) -> Option<Vec<String>> {
    let (at, words) = text.split_once("s ")?;
    let words: Vec<&str> = words.split(' ').collect();
    let lines = match words[..] {
        [a, "calls", number, "at", b] => {
            vec![format!("{a} → INVITE {number} sdp"), to(a, "100 INVITE"), to(b, "INVITE sdp")]
        }
        [b, "rings", a] => vec![by(b, "180 INVITE"), to(a, "180 INVITE")],
        [b, "answers", a] => vec![
            by(b, if is_trunk(b) { "200 INVITE sdp" } else { "200 INVITE sdp recvonly" }),
            to(b, "ACK"),
            to(a, "200 INVITE sdp"),
            by(a, "ACK"),
        ],
        [b, "refuses", a, "with", status] => {
            let refusal = format!("{status} INVITE");
            vec![by(b, &refusal), to(b, "ACK"), to(a, &refusal)]
        }
        [a, "gives", "up", "on", b] => vec![
            by(a, "CANCEL"),
            to(a, "200 CANCEL"),
            to(a, "487 INVITE"),
            to(b, "CANCEL"),
            by(b, "200 CANCEL"),
            by(b, "487 INVITE"),
            to(b, "ACK"),
        ],
        [a, "hangs", "up", "on", b] => {
            vec![by(a, "BYE"), to(a, "200 BYE"), to(b, "BYE"), by(b, "200 BYE")]
        }
        [a, "transfers", "to", number, "at", c] => vec![
            format!("{a} → REFER {number}"),
            to(a, "202 REFER"),
            to(a, "NOTIFY 100"),
            to(c, "INVITE sdp"),
        ],
        _ => return None,
    };
    Some(lines.into_iter().map(|line| format!("{at}s {line}")).collect())
}

/// The line in which `peer` says `what`.
fn by(peer: &str, what: &str) -> String {
    format!("{peer} → {what}")
}

/// The line in which `peer` gets `what`.
fn to(peer: &str, what: &str) -> String {
    format!("{peer} ← {what}")
}

/// Whether a ladder's name is that of a trunk. The description a browser answers with is recvonly.
fn is_trunk(name: &str) -> bool {
    matches!(name, "t1" | "t2") || name.starts_with("127.")
}

fn read(text: &str) -> Line<'_> {
    let parts = || {
        let (at, rest) = text.split_once('s')?;
        let at = Duration::try_from_secs_f64(at.parse().ok()?).ok()?;
        if rest.is_empty() {
            return Some(Line { at, text, said: None });
        }
        let (who, what) = rest.split_once(['→', '←'])?;
        Some(Line { at, text, said: Some((who.trim(), rest.contains('→'), what.trim())) })
    };
    parts().unwrap_or_else(|| panic!("{text:?} is no line of a ladder"))
}

impl Lab {
    /// Plays the call that `script` draws. What was drawn since the last script, or since
    /// [`clear`](Lab::clear), is its beginning; nothing may come that it does not have. Logging in
    /// counts only in a script that speaks of REGISTER.
    pub(crate) fn plays(&mut self, script: &str) {
        let texts = script.lines().map(|l| l.split("//").next().unwrap_or_default().trim());
        let lines = texts.filter(|l| !l.is_empty());
        let texts: Vec<String> =
            lines.flat_map(|l| sentence(l).unwrap_or_else(|| vec![l.to_owned()])).collect();
        let lines: Vec<Line<'_>> = texts.iter().map(|l| read(l)).collect();
        let expected: Vec<&str> =
            lines.iter().filter(|l| l.said.is_some()).map(|l| l.text).collect();
        let mut done = 0;
        for line in &lines {
            if line.said.is_some() && self.seen(&expected).len() > done {
                // Came of itself, or was said by the test.
            } else if let Some((who, true, what)) = line.said {
                self.pass_until(line.at);
                self.compare(&expected, done);
                let peer = self.peer(who);
                self.performs(peer, what);
            } else if line.said.is_some() {
                self.wait_for(line.at, done, &expected);
            } else {
                self.pass_until(line.at);
                self.compare(&expected, done);
            }
            done += usize::from(line.said.is_some());
            assert!(self.seen(&expected).len() >= done, "{}", self.difference(&expected, done));
        }
        self.compare(&expected, done);
        self.played = self.picture().lines().count();
        self.shown.extend(self.inbox.drain(..));
    }

    /// The picture since the last script.
    fn seen(&self, expected: &[&str]) -> Vec<String> {
        let of_logins = expected.iter().any(|l| l.contains("REGISTER"));
        let lines = self.picture().lines().skip(self.played).map(|l| l.trim().to_owned());
        lines.filter(|l| of_logins || !l.contains("REGISTER")).collect()
    }

    /// Panics unless the picture is the first `done` lines of the script.
    fn compare(&self, expected: &[&str], done: usize) {
        let seen = self.seen(expected);
        assert!(seen == expected[..done], "{}", self.difference(expected, done));
    }

    fn difference(&self, expected: &[&str], done: usize) -> String {
        let seen = self.seen(expected);
        let at = seen.iter().zip(expected).take_while(|(s, e)| s == e).count();
        let script = expected.get(at).filter(|_| at < done).unwrap_or(&"nothing");
        let came = seen.get(at).map_or("nothing", String::as_str);
        format!(
            "line {}: the script has {script:?}, and what came is {came:?}\n\
             --- script\n{}\n--- came\n{}\n",
            at + 1,
            expected.join("\n"),
            seen.join("\n")
        )
    }

    /// How late it is, as a ladder says it.
    pub(crate) fn seconds(&self) -> String {
        format!("{:.1}", self.now.duration_since(self.start).as_secs_f32())
    }

    fn time(&self, at: Duration) -> Instant {
        self.start + at
    }

    fn pass_until(&mut self, at: Duration) {
        let until = self.time(at);
        if until > self.now {
            self.advance(until - self.now);
        }
    }

    /// Lets time pass until there is one more line than `done`, to the tenth of a second.
    fn wait_for(&mut self, at: Duration, done: usize, expected: &[&str]) {
        let latest = self.time(at) + Duration::from_millis(50);
        while self.seen(expected).len() <= done {
            let Some(due) = self.gateway.next_timeout().filter(|d| *d <= latest) else { return };
            self.advance(due.saturating_duration_since(self.now));
        }
    }

    fn peer(&self, name: &str) -> Peer {
        if let Some(n) = name.strip_prefix("127.0.0.") {
            return Peer::Trunk("another", n.parse().expect("an address"));
        }
        if let Some(flow) = name.strip_prefix("flow-") {
            return Peer::Browser("flow", flow.parse().expect("a number"));
        }
        let known = [ALICE, BOB, T1, T2].into_iter().chain(self.phones.iter().copied());
        let found = known.into_iter().find(|p| self.name_of(p.hop()) == name);
        found.unwrap_or_else(|| panic!("nobody is called {name}"))
    }

    /// The newest message the gateway sent to `peer` of which a ladder says `what` (`INVITE`,
    /// `200 BYE`, or `200`).
    pub(crate) fn last(&self, peer: Peer, what: &str) -> Message {
        let found = self.heard(peer).find(|m| is_called(m, what));
        found.unwrap_or_else(|| panic!("{peer:?} never got {what}\n{}", self.picture())).clone()
    }

    /// What `peer` got, the newest first.
    fn heard(&self, peer: Peer) -> impl Iterator<Item = &Message> {
        self.heard.iter().rev().filter(move |(hop, _)| *hop == peer.hop()).map(|(_, m)| m)
    }

    /// What `peer` got, then what its user got in other places: a browser that comes back has the
    /// calls it had.
    fn heard_anywhere(&self, peer: Peer) -> impl Iterator<Item = &Message> {
        let elsewhere = self.phones.iter().filter(move |p| match (peer, p) {
            (Peer::Browser(name, _), Peer::Browser(other, _)) => name == *other && peer != **p,
            _ => false,
        });
        self.heard(peer).chain(elsewhere.flat_map(|p| self.heard(*p)))
    }

    /// What `peer` said, the newest first.
    fn sent_by(&self, peer: Peer) -> impl Iterator<Item = &Message> {
        self.said.iter().rev().filter(move |(p, ..)| p.hop() == peer.hop()).map(|(_, m, _)| m)
    }

    /// The next `what` that a script has `peer` say also has these header lines.
    pub(crate) fn adds(&mut self, peer: Peer, what: &str, lines: &str) {
        let (what, lines) = (what.to_owned(), lines.to_owned());
        self.extras.push(Extra { peer, what, lines });
    }

    pub(crate) fn calls(&mut self, peer: Peer, number: &str) {
        self.performs(peer, &format!("INVITE {number} sdp"));
    }

    pub(crate) fn rings(&mut self, peer: Peer) {
        self.performs(peer, "180 INVITE");
    }

    pub(crate) fn answers(&mut self, peer: Peer) {
        self.performs(peer, "200 INVITE sdp");
    }

    /// One `→` of a script.
    fn performs(&mut self, peer: Peer, what: &str) {
        let words: Vec<&str> = what.split(' ').collect();
        let name = if words[0].parse::<u16>().is_ok() {
            words[..2].join(" ")
        } else {
            words[0].to_owned()
        };
        let mut lines = String::new();
        for at in (0..self.extras.len()).rev() {
            if self.extras[at].peer == peer && self.extras[at].what == name {
                lines.push_str(&self.extras.remove(at).lines);
            }
        }
        let body = self.description(peer, &words);
        if let Ok(status) = words[0].parse() {
            let request = self.to_answer(peer, words[1]);
            return self.reply_with(peer, &request, status, &body, "peer", &lines);
        }
        let text = match (words[0], words.get(1)) {
            ("INVITE", Some(number)) if *number != "sdp" => {
                let host = if matches!(peer, Peer::Browser(..)) { "wt.test" } else { "127.0.0.1" };
                self.request(peer, "INVITE", &format!("sip:{number}@{host}"), &lines, &body)
            }
            ("ACK", _) => return self.acknowledges(peer, &body),
            ("CANCEL", _) => {
                let text = self.invite_of(peer, None);
                return self.cancel(peer, &text);
            }
            ("REFER", Some(number)) => {
                let host = if matches!(peer, Peer::Browser(..)) { "wt.test" } else { "127.0.0.1" };
                lines.push_str(&format!("Refer-To: <sip:{number}@{host}>\r\n"));
                self.in_newest_dialog(peer, "REFER", &lines, &body)
            }
            ("PRACK", _) => {
                let reliable = self.heard(peer).find(|m| m.header(HeaderName::RSeq).is_some());
                let reliable = reliable.expect("a reliable response came first");
                let (rseq, cseq) = (
                    Lab::header(reliable, HeaderName::RSeq),
                    Lab::header(reliable, HeaderName::CSeq),
                );
                lines.push_str(&format!("RAck: {rseq} {cseq}\r\n"));
                self.in_newest_dialog(peer, "PRACK", &lines, &body)
            }
            (method, _) => self.in_newest_dialog(peer, method, &lines, &body),
        };
        self.says(peer, &text);
    }

    /// What `peer` describes where the line has `sdp`, in the direction it names.
    fn description(&mut self, peer: Peer, words: &[&str]) -> String {
        let Some(at) = words.iter().position(|w| *w == "sdp") else { return String::new() };
        let direction = words.get(at + 1).copied().unwrap_or("sendrecv");
        let again = words[0] != "INVITE" || at == 1;
        let version = if again { self.token() + 10 } else { 2 };
        match peer {
            Peer::Browser(..) => {
                let usual =
                    if words[0] == "INVITE" || words[0] == "UPDATE" { OFFER } else { ANSWER };
                let usual = usual.replace("a=sendrecv", &format!("a={direction}"));
                if words[0] == "INVITE" && again {
                    usual.replacen(" 2 IN IP4", &format!(" {version} IN IP4"), 1)
                } else {
                    usual
                }
            }
            Peer::Trunk(_, n) => {
                let mut usual = TRUNK_SDP.replace("127.0.0.10", &format!("127.0.0.{n}"));
                if words[0] == "INVITE" && again {
                    usual = usual.replacen("o=- 1 1", &format!("o=- 1 {version}"), 1);
                }
                if direction != "sendrecv" {
                    usual.push_str(&format!("a={direction}\r\n"));
                }
                usual
            }
        }
    }

    /// The newest request of this method that `peer` got and has not answered, else the newest.
    fn to_answer(&self, peer: Peer, method: &str) -> Message {
        let branch = |m: &Message| m.via().and_then(|v| v.branch().map(str::to_owned));
        let answered = |request: &Message| {
            self.sent_by(peer).any(|m| {
                !m.is_request()
                    && m.status() >= 200
                    && branch(m) == branch(request)
                    && m.method() == request.method()
            })
        };
        let all =
            || self.heard_anywhere(peer).filter(|m| m.is_request() && m.method_token() == method);
        let open = all().find(|m| !answered(m)).or_else(|| all().next());
        open.unwrap_or_else(|| panic!("{peer:?} never got {method}\n{}", self.picture())).clone()
    }

    /// ACK of the newest final response to an INVITE of `peer`.
    fn acknowledges(&mut self, peer: Peer, body: &str) {
        let last = self
            .heard(peer)
            .find(|m| !m.is_request() && m.status() >= 200 && m.method() == Method::Invite);
        let last = last.expect("an answer came first").clone();
        if last.status() < 300 {
            let cseq = last.cseq().expect("a 200 has a CSeq").number;
            let text = self.in_dialog(peer, &last, "ACK", cseq, "", body);
            return self.says(peer, &text);
        }
        let text = self.invite_of(peer, Some(last.call_id()));
        let to = Lab::header(&last, HeaderName::To).to_owned();
        let head = text.split("\r\n\r\n").next().expect("a head");
        let lines: Vec<String> = head
            .lines()
            .filter(|l| !["Content-", "Contact"].iter().any(|p| l.starts_with(p)))
            .map(|l| if l.starts_with("To:") { format!("To: {to}") } else { l.to_owned() })
            .collect();
        let text = lines.join("\r\n").replacen("INVITE", "ACK", 1).replace(" INVITE", " ACK");
        self.says(peer, &format!("{text}\r\nContent-Length: 0\r\n\r\n"));
    }

    /// The newest INVITE that `peer` sent, as text.
    fn invite_of(&self, peer: Peer, call_id: Option<&str>) -> String {
        let mut said = self.said.iter().rev().filter(|(p, m, _)| {
            p.hop() == peer.hop()
                && m.is_request()
                && m.method_token() == "INVITE"
                && call_id.is_none_or(|id| m.call_id() == id)
        });
        said.next().expect("an INVITE was sent").2.clone()
    }

    fn in_newest_dialog(&mut self, peer: Peer, method: &str, lines: &str, body: &str) -> String {
        let in_dialog = |m: &&Message| {
            let tagged = m.to().is_some_and(|to| to.tag().is_some());
            if m.is_request() {
                m.method_token() == "INVITE" && !tagged
            } else {
                m.method() == Method::Invite && m.status() < 300 && tagged
            }
        };
        let up =
            self.heard_anywhere(peer).filter(in_dialog).find(|m| !self.is_over(peer, m.call_id()));
        let seen = up.or_else(|| self.heard_anywhere(peer).find(in_dialog));
        let seen = seen.unwrap_or_else(|| panic!("{peer:?} has no dialog")).clone();
        let cseq = 1_000 + self.token() as u32;
        let text = self.in_dialog(peer, &seen, method, cseq, "peer", body);
        text.replacen("Max-Forwards", &format!("{lines}Max-Forwards"), 1)
    }

    /// Whether this dialog of `peer` was hung up, or never came to be.
    fn is_over(&self, peer: Peer, call_id: &str) -> bool {
        let of_call = |m: &&Message| m.call_id() == call_id;
        let all = || self.heard_anywhere(peer).chain(self.sent_by(peer)).filter(of_call);
        let answers = || all().filter(|m| !m.is_request() && m.method() == Method::Invite);
        all().any(|m| m.is_request() && m.method_token() == "BYE")
            || answers().any(|m| m.status() >= 300) && !answers().any(|m| m.status() / 100 == 2)
    }
}

/// Whether a ladder calls a message so: `INVITE`, `200 BYE`, or `200`.
pub(crate) fn is_called(message: &Message, what: &str) -> bool {
    if message.is_request() {
        return message.method_token() == what;
    }
    let status = message.status().to_string();
    status == what || format!("{status} {}", message.method()) == what
}
