//! What a web application said of names, and for how long it is believed.

use crate::config::User;
use crate::expiring::Expiring;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Users remembered; when full, the one whose time ends first is asked for again.
pub(super) const MAX_REMEMBERED: usize = 10_000;
/// Names remembered that nobody has: anybody can ask for those, so they have places of their own.
pub(super) const MAX_NOBODY: usize = 5_000;

/// Names, and who has them.
#[derive(Debug)]
pub(in crate::gateway) struct RememberedNames {
    users: Expiring<String, Arc<User>>,
    nobody: Expiring<String, ()>,
}

impl Default for RememberedNames {
    fn default() -> RememberedNames {
        RememberedNames { users: Expiring::new(MAX_REMEMBERED), nobody: Expiring::new(MAX_NOBODY) }
    }
}

impl RememberedNames {
    /// Returns who has a name, or that nobody has; `None` if that is not known.
    pub(super) fn get(&self, now: Instant, name: &str) -> Option<Option<&Arc<User>>> {
        let nobody = || self.nobody.get(now, name).map(|()| None);
        self.users.get(now, name).map(Some).or_else(nobody)
    }

    /// Believes for `time` that `user`, or nobody, has a name.
    pub(super) fn put(
        &mut self,
        now: Instant,
        name: String,
        user: Option<Arc<User>>,
        time: Duration,
    ) {
        self.users.remove(&name);
        self.nobody.remove(&name);
        match user {
            Some(user) => self.users.insert(now, name, user, now + time),
            None => self.nobody.insert(now, name, (), now + time),
        }
    }

    /// Returns how many names are remembered.
    pub(super) fn len(&self) -> usize {
        self.users.len() + self.nobody.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::gateway;
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn names_that_nobody_has_make_nobody_forgotten() {
        let (now, mut names) = (Instant::now(), RememberedNames::default());
        let ada = gateway(now).config.users.values().next().cloned();
        names.put(now, "ada".to_owned(), ada.clone(), MINUTE);
        for n in 0..3 * MAX_NOBODY {
            names.put(now, format!("u{n}"), None, MINUTE);
            assert!(names.len() <= 1 + MAX_NOBODY);
        }
        assert!(names.get(now, "ada").is_some_and(|user| user.is_some()));
        let last = format!("u{}", 3 * MAX_NOBODY - 1);
        assert!(names.get(now, &last).is_some_and(|user| user.is_none()));
        // Somebody has the name after all, and then nobody has.
        names.put(now, last.clone(), ada, MINUTE);
        assert!(names.get(now, &last).is_some_and(|user| user.is_some()));
        names.put(now, last.clone(), None, MINUTE);
        assert!(names.get(now, &last).is_some_and(|user| user.is_none()));
        assert!(
            names.get(now + MINUTE, &last).is_none() && names.get(now + MINUTE, "ada").is_none()
        );
    }

    #[test]
    fn so_many_users_are_remembered_and_no_more() {
        let (now, mut names) = (Instant::now(), RememberedNames::default());
        let ada = gateway(now).config.users.values().next().cloned();
        names.put(now, "long".to_owned(), ada.clone(), 10 * MINUTE);
        for n in 0..2 * MAX_REMEMBERED {
            names.put(now, format!("u{n:06}"), ada.clone(), MINUTE);
            assert!(names.len() <= MAX_REMEMBERED);
        }
        // Whoever was to be asked for soonest is, and nobody else.
        assert!(names.get(now, "long").is_some() && names.get(now, "u000000").is_none());
        assert!(names.get(now, &format!("u{:06}", 2 * MAX_REMEMBERED - 1)).is_some());
    }
}
