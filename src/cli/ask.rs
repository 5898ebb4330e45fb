//! What `init` asks on a terminal, if no flag says it.

use super::countries::CountryPlans;
use super::peers::{Init, KnownPeer};
use clap::ValueEnum as _;
use std::io::{self, BufRead, IsTerminal as _, Write};
use webtrunk::config::check::is_domain;

/// Answers to one question that may be wrong before it is given up.
const TRIES: usize = 5;

impl Init {
    /// Whether nothing was said on the command line, and somebody is there to be asked.
    pub(super) fn wants_to_ask(&self) -> bool {
        let said = self.trunk.is_some()
            || self.host.is_some()
            || self.domain.is_some()
            || self.number.is_some()
            || self.country.is_some();
        !said && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Asks for what flags would say; an empty answer is the default.
    ///
    /// # Errors
    /// The terminal is gone, or its answers stay wrong.
    pub(super) fn ask(
        &mut self,
        input: &mut impl BufRead,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        let kinds: Vec<_> = KnownPeer::value_variants()
            .iter()
            .filter_map(|kind| Some(kind.to_possible_value()?.get_name().to_owned()))
            .collect();
        let what = format!("Your trunk's other side ({})", kinds.join(", "));
        self.trunk = question(input, out, &what, "generic", |answer| {
            KnownPeer::from_str(answer, true).map_err(|_| format!("known: {}", kinds.join(", ")))
        })?;
        self.host = question(input, out, "Its host", "the carrier's", host)?;
        self.number =
            question(input, out, "Your number, as +12065550111", "the country's example", number)?;
        let own = CountryPlans::of(None, self.number.as_deref());
        let default = own.as_ref().map_or("US", CountryPlans::code).to_owned();
        if let Err(why) = own {
            writeln!(out, "  {why}")?;
            self.country = Some(default.clone());
        }
        let country =
            question(input, out, "The country whose numbers you dial", &default, |answer| {
                CountryPlans::of(Some(answer), None).map_err(|e| e.to_string())?;
                Ok(answer.to_uppercase())
            })?;
        self.country = country.or(self.country.take());
        let example = super::peers::DOMAIN;
        self.domain = question(input, out, "The SIP domain users register in", example, domain)?;
        Ok(())
    }
}

/// The trunk's other side, with a port or without.
///
/// # Errors
/// What is wrong with it.
pub(super) fn host(answer: &str) -> Result<String, String> {
    let (name, port) = match answer.rsplit_once(':') {
        Some((name, port)) if !answer.ends_with(']') => (name, port),
        _ => (answer, "5060"),
    };
    let sound = is_domain(name) && port.parse::<u16>().is_ok_and(|port| port > 0);
    let why = "a name or an address, such as 10.0.0.20:5080 or [2001:db8::1]";
    sound.then(|| answer.to_owned()).ok_or_else(|| why.to_owned())
}

/// The SIP domain.
///
/// # Errors
/// What is wrong with it.
pub(super) fn domain(answer: &str) -> Result<String, String> {
    let why = "the name alone, such as calls.example.com: no scheme, no port";
    is_domain(answer).then(|| answer.to_owned()).ok_or_else(|| why.to_owned())
}

/// A number that calls can come to.
///
/// # Errors
/// What is wrong with it.
pub(super) fn number(answer: &str) -> Result<String, String> {
    let spaced = |c: &char| !c.is_whitespace() && !"()-./".contains(*c);
    let number: String = answer.chars().filter(spaced).collect();
    let digits = number.strip_prefix('+').unwrap_or_default();
    let sound = (7..=15).contains(&digits.len())
        && !digits.starts_with('0')
        && digits.bytes().all(|b| b.is_ascii_digit());
    let why = "E.164: + and the country's code, such as +12065550123";
    sound.then_some(number).ok_or_else(|| why.to_owned())
}

/// One answer; `None` for the default.
fn question<T>(
    input: &mut impl BufRead,
    out: &mut impl Write,
    what: &str,
    default: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> anyhow::Result<Option<T>> {
    for _ in 0..TRIES {
        write!(out, "{what} [{default}]: ")?;
        out.flush()?;
        let mut line = String::new();
        let ended = input.read_line(&mut line)? == 0;
        let answer = line.trim();
        if answer.is_empty() {
            if ended {
                writeln!(out)?;
            }
            return Ok(None);
        }
        match read(answer) {
            Ok(answer) => return Ok(Some(answer)),
            Err(why) => writeln!(out, "  {why}")?,
        }
    }
    anyhow::bail!(
        "no answer could be used; `webtrunk init --help` lists the flags that say the same"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(answers: &str) -> (anyhow::Result<Init>, String) {
        let mut init = Init::default();
        let mut out = Vec::new();
        let done = init.ask(&mut answers.as_bytes(), &mut out);
        (done.map(|()| init), String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn answers_are_what_flags_would_say_and_none_is_the_default() {
        let (init, shown) = asked("Asterisk\n10.0.0.20:5080\n+1 (206) 555-0111\nde\n\n");
        let init = init.expect("answered");
        assert_eq!(init.trunk, Some(KnownPeer::Asterisk));
        assert_eq!(init.host.as_deref(), Some("10.0.0.20:5080"));
        assert_eq!(init.number.as_deref(), Some("+12065550111"));
        assert_eq!((init.country.as_deref(), init.domain), (Some("DE"), None));
        assert!(
            shown.contains("(asterisk, freeswitch, twilio, telnyx, generic) [generic]"),
            "{shown}"
        );
        let (init, _) = asked("");
        assert!(init.is_ok_and(|i| i.trunk.is_none() && i.host.is_none() && i.country.is_none()));
    }

    #[test]
    fn a_wrong_answer_is_asked_for_again_and_not_for_ever() {
        let (init, shown) = asked("lucent\ngeneric\na \"b\nb\n0301\n\nxx\nFR\na b\n");
        let init = init.expect("answered");
        assert_eq!((init.host.as_deref(), init.country.as_deref()), (Some("b"), Some("FR")));
        for said in ["known: asterisk", "such as 10.0.0.20:5080", "E.164", "no dialplan for \"XX\""]
        {
            assert!(shown.contains(said), "{said}: {shown}");
        }
        assert!(asked("x\nx\nx\nx\nx\n").0.is_err());
    }

    #[test]
    fn the_country_asked_for_is_that_of_the_number() {
        let (init, shown) = asked("\n\n+493023125000\n\n\n");
        assert_eq!(init.expect("answered").country, None, "as --number alone");
        assert!(shown.contains("The country whose numbers you dial [DE]"), "{shown}");
        // Where nothing is known of it, the reader sees whose plan it becomes.
        let (init, shown) = asked("\n\n+4532123456\n\n\n");
        assert_eq!(init.expect("answered").country.as_deref(), Some("US"));
        assert!(shown.contains("no dialplan for \"DK\" yet") && shown.contains("[US]"), "{shown}");
    }

    #[test]
    fn a_flag_that_would_spoil_a_file_is_refused() {
        for sound in ["10.0.0.20", "10.0.0.20:5080", "[2001:db8::1]:5060", "[::1]", "sip.x.example"]
        {
            assert_eq!(host(sound).as_deref(), Ok(sound));
        }
        for odd in ["a\"b", "sip:x", "x:0", "x:99999", "2001:db8::1", "", "x y", "x;transport=tcp"]
        {
            assert!(host(odd).is_err(), "{odd}");
        }
        for odd in ["a\"b", "https://x", "x:5060", "x y", "", "dömäin"] {
            assert!(domain(odd).is_err(), "{odd}");
        }
        assert_eq!(number("+49 (30) 23125-000").as_deref(), Ok("+493023125000"));
        for odd in
            ["0301234567", "garbage", "+0123456789", "+1206555\"0", "+123456", "", "++123456789"]
        {
            assert!(number(odd).is_err(), "{odd}");
        }
    }
}
