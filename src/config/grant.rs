//! What a token, or a web application's answer, says of a user who is not (only) written in the
//! configuration.

use super::{Config, User};
use crate::dialplan::{Pattern, Permits};
use crate::sip::digest::Secret;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a user may do. A missing key has the value of `[user.…]` of that name, if there is one. An
/// unknown key refuses the login: a misspelt `callees` must not open every number.
#[derive(Clone, PartialEq, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Grant {
    /// The dialplan of its calls.
    pub context: Option<String>,
    /// The number that reaches the user, and the caller id on its calls.
    pub did: Option<String>,
    /// Further caller ids it may choose with P-Preferred-Identity.
    pub numbers: Option<Vec<String>>,
    /// The name shown to the callee.
    pub display_name: Option<String>,
    /// Calls at once.
    pub max_calls: Option<usize>,
    /// New calls per second.
    pub calls_per_second: Option<u32>,
    /// May transfer calls. Default: that of `[user.…]`, or else false.
    pub refer: Option<bool>,
    /// Claims that the `require` of a route may ask for.
    pub claims: Option<Vec<String>>,
    /// Patterns of the only numbers it may dial.
    pub callees: Option<Vec<String>>,
    /// Values written into the record of each of its calls.
    pub tags: BTreeMap<String, String>,
}

/// Longest text of a grant, bytes.
const MAX_TEXT: usize = 256;
/// Most entries of a list.
const MAX_LIST: usize = 100;

impl Grant {
    /// As [`user`](Self::user), of what somebody else says: no dialplan but those that were
    /// written.
    ///
    /// # Errors
    /// As [`user`](Self::user).
    pub(crate) fn granted_user(
        &self,
        name: &str,
        password: Secret,
        default_context: Option<&str>,
        config: &Config,
    ) -> Result<Arc<User>, String> {
        match self.context.as_ref().filter(|c| c.starts_with('@')) {
            Some(context) => {
                Err(format!("{name} is given the context {context:?}, which does not exist"))
            }
            None => self.user(name, password, default_context, config),
        }
    }

    /// The user this makes of `name`; `None` if it only repeats who is configured.
    ///
    /// # Errors
    /// Why nobody can be made of it.
    pub(crate) fn user(
        &self,
        name: &str,
        password: Secret,
        default_context: Option<&str>,
        config: &Config,
    ) -> Result<Arc<User>, String> {
        self.bounded()?;
        let base = config.users.get(name);
        let context =
            self.context.as_deref().or(base.map(|u| u.context.as_str())).or(default_context);
        let context = context
            .ok_or_else(|| format!("{name} is given no context, and there is no [user.{name}]"))?;
        if config.plan.context(context).is_none() {
            return Err(format!("{name} is given the context {context:?}, which does not exist"));
        }
        let patterns = |list: &Vec<String>| {
            list.iter()
                .map(|t| Pattern::parse(t).map_err(|why| format!("callees {t:?}: {why}")))
                .collect::<Result<Vec<_>, _>>()
        };
        let callees = match &self.callees {
            // An empty list allows nobody, not everybody.
            Some(list) if list.is_empty() => {
                return Err(format!("{name} is given an empty list of callees"));
            }
            Some(list) => patterns(list)?,
            None => base.map(|u| u.permits.callees.clone()).unwrap_or_default(),
        };
        Ok(Arc::new(User {
            name: name.to_owned(),
            password,
            did: self.did.clone().or_else(|| base.and_then(|u| u.did.clone())),
            numbers: self
                .numbers
                .clone()
                .or_else(|| base.map(|u| u.numbers.clone()))
                .unwrap_or_default(),
            display_name: self
                .display_name
                .clone()
                .or_else(|| base.and_then(|u| u.display_name.clone())),
            context: context.to_owned(),
            max_calls: self.max_calls.or(base.and_then(|u| u.max_calls)),
            calls_per_second: self.calls_per_second.or(base.and_then(|u| u.calls_per_second)),
            refer: self.refer.or(base.map(|u| u.refer)).unwrap_or(false),
            fraud_brake: base.is_none_or(|u| u.fraud_brake),
            permits: Permits {
                claims: self
                    .claims
                    .clone()
                    .or_else(|| base.map(|u| u.permits.claims.clone()))
                    .unwrap_or_default(),
                callees,
            },
            tags: self.tags.clone(),
            network: None,
        }))
    }

    fn bounded(&self) -> Result<(), String> {
        let lists = [&self.numbers, &self.claims, &self.callees].into_iter().flatten();
        if self.tags.len() > MAX_LIST || lists.clone().any(|l| l.len() > MAX_LIST) {
            return Err(format!("a list has more than {MAX_LIST} entries"));
        }
        let texts = [&self.context, &self.did, &self.display_name]
            .into_iter()
            .flatten()
            .chain(lists.flatten());
        let sound = |t: &&String| t.len() <= MAX_TEXT && !t.chars().any(char::is_control);
        if texts.chain(self.tags.keys()).chain(self.tags.values()).all(|t| sound(&t)) {
            Ok(())
        } else {
            Err(format!("a text has control characters, or more than {MAX_TEXT} bytes"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_has_at_most_its_texts_and_lists() {
        let text = |n: usize| Grant { display_name: Some("x".repeat(n)), ..Grant::default() };
        assert!(text(MAX_TEXT).bounded().is_ok());
        assert!(text(MAX_TEXT + 1).bounded().is_err());
        let list = |n: usize| Grant { claims: Some(vec![String::new(); n]), ..Grant::default() };
        assert!(list(MAX_LIST).bounded().is_ok());
        assert!(list(MAX_LIST + 1).bounded().is_err());
        let tags = |n: usize| Grant {
            tags: (0..n).map(|n| (n.to_string(), String::new())).collect(),
            ..Grant::default()
        };
        assert!(tags(MAX_LIST).bounded().is_ok());
        assert!(tags(MAX_LIST + 1).bounded().is_err());
    }
}
