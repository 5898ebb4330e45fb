//! The dialplans that `init` writes: what each country calls an emergency, and its numbers.

use anyhow::{Context as _, anyhow};
use rlibphonenumber::PhoneNumber;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

const COUNTRIES: &str = include_str!("../../dialplans/countries.toml");

/// A country's numbers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Country {
    /// As in "Calls in …".
    name: String,
    /// The pattern of its numbers.
    prefix: String,
    /// Countries at home there.
    regions: Vec<String>,
    emergency: Vec<String>,
    /// One of its numbers, in E.164.
    number: String,
    /// Another, as people dial it.
    dialled: String,
    /// One that costs more than a call.
    premium: String,
}

/// The dialplans of one country.
pub(super) struct CountryPlans {
    code: String,
    country: Country,
}

impl CountryPlans {
    /// The plans of the country `code`, else of the country `number` lies in; of the United States
    /// if neither is told.
    ///
    /// # Errors
    /// Nothing is known of that country: another's emergency numbers are none there.
    pub(super) fn of(code: Option<&str>, number: Option<&str>) -> anyhow::Result<CountryPlans> {
        let mut all: BTreeMap<String, Country> = toml::from_str(COUNTRIES).context("a bug")?;
        let code = match code {
            Some(code) => code.to_uppercase(),
            None => number.map_or_else(|| "US".to_owned(), region_of),
        };
        let known = all.keys().cloned().collect::<Vec<_>>().join(", ");
        let country = all.remove(&code);
        let country = country.ok_or_else(|| {
            anyhow!(
                "there is no dialplan for {code:?} yet, only for {known}; take one with \
                 --country and edit it"
            )
        })?;
        Ok(CountryPlans { code, country })
    }

    /// The country's letters.
    pub(super) fn code(&self) -> &str {
        &self.code
    }

    /// A number of there, in E.164.
    pub(super) fn number(&self) -> &str {
        &self.country.number
    }

    /// What users call by `trunk`, with the cases that check it.
    pub(super) fn outbound(&self, trunk: &str) -> String {
        let Country { name, prefix, regions, emergency, number, dialled, premium } = &self.country;
        let code = &self.code;
        let (regions, emergencies) = (list(regions), list(emergency));
        let mut plan = format!(
            "# Read from the top; the first route that matches takes the call.\n\
             # X is 0-9, Z is 1-9, N is 2-9, a last \".\" is one or more digits, +, * or #.\n\
             # Premium, shared-cost, personal and satellite numbers are refused, unless the route has\n\
             # allow = [\"premium\"] or the like: they are what a stolen password is used for.\n\
             country = \"{code}\"                  # {dialled} becomes +E.164 before matching\n\n\
             [[route]]\nname  = \"Echo\"\nmatch = \"9196\"\ndo    = [{{ echo = true }}]\n\n\
             [[route]]\nname  = \"Emergency\"\nmatch = {emergencies}\nignore_limits = true\n\
             do    = [{{ dial = [\"trunk:{trunk}\"] }}]\n\n\
             [[route]]\nname  = \"Home\"                 # calls in {name}\nmatch = \"{prefix}\"\n\
             region = {regions}                # a prefix may hold other countries\n\
             caller_id = \"{{user.did}}\"\ntimeout   = \"45s\"\ndo    = [{{ dial = [\"trunk:{trunk}\"] }}]\n\n\
             # The rest of the world, once you want to pay for it:\n\
             # [[route]]\n# name  = \"World\"\n# match = \"+ZX.\"\n# limit = {{ per_user_per_hour = 20 }}\n\
             # do    = [{{ dial = [\"trunk:{trunk}\"] }}]\n\n\
             # What is to hold; `webtrunk check-config` tries it.\n"
        );
        for emergency in emergency {
            let _ = write!(plan, "[[case]]\ndial  = \"{emergency}\"\nroute = \"Emergency\"\n\n");
        }
        let _ = write!(
            plan,
            "[[case]]\ndial  = \"{dialled}\"\nroute = \"Home\"\n\n\
             [[case]]\ndial   = \"{number}\"\nroute  = \"Home\"\nnumber = \"{number}\"\n\n\
             [[case]]\ndial = \"{premium}\"     # premium rate: refused\n\n\
             [[case]]\ndial = \"+881612345678\"     # a satellite: refused\n"
        );
        plan
    }

    /// What comes from the trunk.
    pub(super) fn inbound(&self) -> String {
        format!(
            "country = \"{}\"\n\n[[route]]\nname  = \"Whoever owns the number\"\nmatch = \"+ZX.\"\n\
             do    = [{{ ring = [\"did:{{number}}\"], timeout = \"25s\" }}, \
             {{ hangup = 480, on = [\"timeout\", \"unregistered\"] }}]\n",
            self.code
        )
    }
}

/// The country a number lies in, by its letters.
fn region_of(number: &str) -> String {
    let region = PhoneNumber::parse(number, None).ok().and_then(|n| n.get_region_code());
    region.map_or_else(|| number.to_owned(), |region| region.to_string())
}

fn list(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use webtrunk::config::check::parse_embedded;

    #[test]
    fn every_country_has_a_dialplan_whose_cases_hold() {
        let all: BTreeMap<String, Country> = toml::from_str(COUNTRIES).expect("a table");
        assert!(all.len() >= 10);
        let mut failed = Vec::new();
        for code in all.keys() {
            let plans = CountryPlans::of(Some(&code.to_lowercase()), None).expect("it is there");
            let config = format!(
                "[server]\ndomain = \"x.test\"\npublic_ip = \"127.0.0.1\"\n[sip]\nudp = \":5060\"\n\
                 [user.alice]\npassword = \"a word of hers\"\ndid = \"{}\"\ncontext = \"outbound\"\n\
                 [trunk.t]\nuri = \"sip:192.0.2.1\"\ncontext = \"from-trunk\"\n",
                plans.number()
            );
            let (outbound, inbound) = (plans.outbound("t"), plans.inbound());
            let plans = [("outbound", outbound.as_str()), ("from-trunk", inbound.as_str())];
            match parse_embedded(&config, &plans) {
                Ok((_, problems)) if problems.0.is_empty() => {}
                Ok((_, problems)) | Err(problems) => failed.push(format!("{code}: {problems}")),
            }
        }
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    }

    #[test]
    fn the_country_is_that_of_the_number_unless_it_is_set() {
        let of = |code, number| CountryPlans::of(code, number).map(|plans| plans.code);
        assert_eq!(of(None, None).expect("the default"), "US");
        assert_eq!(of(None, Some("+493023125000")).expect("known"), "DE");
        assert_eq!(of(Some("fr"), Some("+493023125000")).expect("known"), "FR");
        for (code, number, said) in [
            (Some("ZZ"), None, "ZZ"),
            // Not the United States' plan, whose 911 is nobody's there.
            (None, Some("+4532123456"), "DK"),
            (None, Some("+18765550123"), "JM"),
            (None, Some("+999123456789"), "+999123456789"),
        ] {
            let unknown = of(code, number).expect_err("none").to_string();
            let said = format!("for {said:?} yet, only for AT, AU");
            assert!(unknown.contains(&said) && unknown.contains("--country"), "{unknown}");
        }
    }
}
