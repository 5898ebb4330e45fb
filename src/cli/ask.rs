//! What `init` asks on a terminal, if no flag says it.

use super::countries::CountryPlans;
use super::peers::{Init, KnownPeer};
use clap::ValueEnum as _;
use std::io::{self, BufRead, IsTerminal as _, Write};

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
        let host = question(input, out, "Its host", "the carrier's", |answer| {
            let odd = |c: char| c.is_whitespace() || c.is_control() || c == '"';
            if answer.contains(odd) {
                return Err("a name or an address, such as 10.0.0.20:5080".to_owned());
            }
            Ok(answer.to_owned())
        })?;
        self.host = host;
        self.country =
            question(input, out, "The country whose numbers you dial", "US", |answer| {
                CountryPlans::of(Some(answer), None).map_err(|e| e.to_string())?;
                Ok(answer.to_uppercase())
            })?;
        let example = super::peers::DOMAIN;
        self.domain =
            question(input, out, "The SIP domain users register in", example, |answer| {
                let fits = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
                let sound = answer.chars().all(fits);
                sound
                    .then(|| answer.to_owned())
                    .ok_or_else(|| "a name, such as calls.example.com".into())
            })?;
        Ok(())
    }
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
        let (init, shown) = asked("Asterisk\n10.0.0.20:5080\nde\n\n");
        let init = init.expect("answered");
        assert_eq!(init.trunk, Some(KnownPeer::Asterisk));
        assert_eq!(init.host.as_deref(), Some("10.0.0.20:5080"));
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
        let (init, shown) = asked("lucent\ngeneric\na \"b\nb\nxx\nFR\na b\n");
        let init = init.expect("answered");
        assert_eq!((init.host.as_deref(), init.country.as_deref()), (Some("b"), Some("FR")));
        for said in ["known: asterisk", "such as 10.0.0.20:5080", "no dialplan for \"XX\""] {
            assert!(shown.contains(said), "{said}: {shown}");
        }
        assert!(asked("x\nx\nx\nx\nx\n").0.is_err());
    }
}
