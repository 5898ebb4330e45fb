//! Sessions of the console's users: who is logged in, by the hash of what the browser holds. In
//! memory only; a restart ends them.

use crate::config::{Api, ApiUser, OidcSettings, Scope, SessionTimes};
use aws_lc_rs::digest::{SHA256, digest};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// Sessions of one user; the one unused longest makes room.
const MAX_PER_USER: usize = 10;
/// Sessions in all, likewise.
const MAX_SESSIONS: usize = 1_000;

/// What a session is known by: the SHA-256 of its cookie, so that a look into this process's memory
/// or a dump of it lets nobody in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Key([u8; 32]);

impl Key {
    /// The key of what a cookie says.
    pub(crate) fn of(cookie: &str) -> Key {
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, cookie.as_bytes()).as_ref());
        Key(key)
    }
}

#[derive(Debug)]
struct PageSession {
    user: String,
    /// What somebody may do whom the provider knows; others are of [`Sessions::users`].
    named: Option<Scope>,
    began: Instant,
    used: Instant,
}

/// Somebody who is logged in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LoggedIn {
    /// The operator's name.
    pub user: String,
    /// What the operator may do.
    pub scope: Scope,
    /// When the session ends if nothing more is asked.
    pub until: Instant,
}

/// The console's users, and their sessions.
#[derive(Default, Debug)]
pub(crate) struct Sessions {
    users: BTreeMap<String, ApiUser>,
    times: SessionTimes,
    provider: Option<Arc<OidcSettings>>,
    open: HashMap<Key, PageSession>,
}

impl Sessions {
    /// Replaces the users. One who is gone, or has a new password, is logged out, and so is
    /// everybody whom another provider knows.
    pub(crate) fn set(&mut self, api: &Api) {
        let users: BTreeMap<_, _> = api.users.iter().map(|u| (u.name.clone(), u.clone())).collect();
        let same = |name: &str| {
            let hash = |users: &BTreeMap<String, ApiUser>| users.get(name).map(|u| u.hash.clone());
            hash(&users).is_some_and(|now| hash(&self.users) == Some(now))
        };
        let same_provider = api.oidc == self.provider;
        self.open.retain(|_, s| if s.named.is_some() { same_provider } else { same(&s.user) });
        (self.users, self.times) = (users, api.sessions);
        self.provider.clone_from(&api.oidc);
    }

    /// The user of this name.
    pub(crate) fn user(&self, name: &str) -> Option<&ApiUser> {
        self.users.get(name)
    }

    /// Begins a session of `user`, who has proved to have the password of `hash`; `None` if it has
    /// another one by now.
    pub(crate) fn begin(&mut self, now: Instant, user: &ApiUser, key: Key) -> Option<LoggedIn> {
        self.users.get(&user.name).filter(|u| u.hash == user.hash)?;
        self.open(now, &user.name, None, key)
    }

    /// Begins a session of somebody whom the provider named, and gave this scope.
    pub(crate) fn begin_named(
        &mut self,
        now: Instant,
        name: &str,
        scope: Scope,
        key: Key,
    ) -> Option<LoggedIn> {
        self.open(now, name, Some(scope), key)
    }

    fn open(
        &mut self,
        now: Instant,
        name: &str,
        named: Option<Scope>,
        key: Key,
    ) -> Option<LoggedIn> {
        self.open.retain(|_, s| end_of(s, self.times) > now);
        self.make_room(|s| s.user == name && s.named.is_some() == named.is_some(), MAX_PER_USER);
        self.make_room(|_| true, MAX_SESSIONS);
        let user = name.to_owned();
        self.open.insert(key, PageSession { user, named, began: now, used: now });
        self.find(now, key)
    }

    /// Ends sessions `of` somebody, unused longest first, until one more is no more than `most`.
    fn make_room(&mut self, of: impl Fn(&PageSession) -> bool, most: usize) {
        while self.open.values().filter(|s| of(s)).count() >= most {
            let oldest = self.open.iter().filter(|(_, s)| of(s)).min_by_key(|(_, s)| s.used);
            let Some(key) = oldest.map(|(key, _)| *key) else { return };
            self.open.remove(&key);
        }
    }

    /// Whose session this is, without using it.
    pub(crate) fn find(&self, now: Instant, key: Key) -> Option<LoggedIn> {
        let session = self.open.get(&key)?;
        let until = end_of(session, self.times);
        if until <= now {
            return None;
        }
        let scope = match session.named {
            Some(scope) => scope,
            None => self.users.get(&session.user)?.scope,
        };
        Some(LoggedIn { user: session.user.clone(), scope, until })
    }

    /// As [`find`](Self::find); a request is made in it.
    pub(crate) fn touch(&mut self, now: Instant, key: Key) -> Option<LoggedIn> {
        self.find(now, key)?;
        self.open.get_mut(&key)?.used = now;
        self.find(now, key)
    }

    /// Ends a session; returns whether there was one.
    pub(crate) fn end(&mut self, key: Key) -> bool {
        self.open.remove(&key).is_some()
    }
}

fn end_of(session: &PageSession, times: SessionTimes) -> Instant {
    (session.used + times.idle).min(session.began + times.longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::password::PasswordHash;
    use std::time::Duration;

    const MINUTE: Duration = Duration::from_secs(60);

    fn user(name: &str, salt: u8) -> ApiUser {
        // Argon2 at full cost belongs to other tests.
        let salt = format!("{}{}", "A".repeat(20), (b'a' + salt) as char);
        let hash = format!("$argon2id$v=19$m=8,t=1,p=1${salt}A${}", "A".repeat(43));
        let hash = PasswordHash::parse(&hash).expect("a hash");
        ApiUser { name: name.into(), hash, scope: Scope::Write }
    }

    fn sessions(users: &[ApiUser]) -> Sessions {
        let mut sessions = Sessions::default();
        sessions.set(&Api { users: users.to_vec(), ..Api::default() });
        sessions
    }

    #[test]
    fn a_session_ends_when_idle_and_at_last_whatever_is_done() {
        let (now, anna) = (Instant::now(), user("anna", 0));
        let mut sessions = sessions(std::slice::from_ref(&anna));
        let key = Key::of("a");
        assert_eq!(sessions.begin(now, &anna, key).map(|s| s.until), Some(now + 60 * MINUTE));
        assert!(sessions.touch(now + 59 * MINUTE, key).is_some());
        assert!(sessions.find(now + 118 * MINUTE, key).is_some(), "an hour after the last use");
        assert!(sessions.touch(now + 119 * MINUTE, key).is_none(), "idle");
        assert!(sessions.find(now, Key::of("b")).is_none(), "a cookie nobody was given");

        let key = Key::of("c");
        sessions.begin(now, &anna, key).expect("begun");
        let used = (1..24).all(|n| sessions.touch(now + n * 30 * MINUTE, key).is_some());
        assert!(used && sessions.touch(now + 24 * 30 * MINUTE, key).is_none(), "12 hours are all");
    }

    #[test]
    fn logout_another_password_and_removal_end_sessions() {
        let (now, anna, bert) = (Instant::now(), user("anna", 0), user("bert", 0));
        let mut sessions = sessions(&[anna.clone(), bert.clone()]);
        let keys = ["a", "b", "c", "d"].map(Key::of);
        for (key, user) in keys.iter().zip([&anna, &anna, &bert, &bert]) {
            sessions.begin(now, user, *key).expect("begun");
        }
        assert!(sessions.end(keys[0]) && !sessions.end(keys[0]));
        let open = |s: &Sessions| keys.map(|k| s.find(now, k).is_some());
        assert_eq!(open(&sessions), [false, true, true, true]);

        let promoted = ApiUser { scope: Scope::Admin, ..bert.clone() };
        sessions.set(&Api { users: vec![user("anna", 1), promoted], ..Api::default() });
        assert_eq!(open(&sessions), [false, false, true, true]);
        assert_eq!(sessions.find(now, keys[2]).map(|s| s.scope), Some(Scope::Admin), "at once");
        assert!(sessions.begin(now, &anna, keys[0]).is_none(), "proved by the password before");

        sessions.set(&Api::default());
        assert_eq!(open(&sessions), [false; 4]);
        assert!(sessions.open.is_empty());
    }

    #[test]
    fn sessions_are_bounded_per_user_and_in_all() {
        let now = Instant::now();
        let all: Vec<ApiUser> = (0..150).map(|n| user(&format!("u{n}"), 0)).collect();
        let mut sessions = sessions(&all);
        let first = Key::of("first");
        sessions.begin(now, &all[0], first).expect("begun");
        for n in 0..MAX_PER_USER {
            let later = now + Duration::from_secs(n as u64 + 1);
            sessions.begin(later, &all[0], Key::of(&n.to_string())).expect("begun");
        }
        assert!(sessions.find(now, first).is_none() && sessions.open.len() == MAX_PER_USER);
        for (n, user) in all.iter().flat_map(|u| [u; MAX_PER_USER]).enumerate() {
            let key = Key::of(&format!("later {n}"));
            sessions.begin(now + MINUTE, user, key).expect("begun");
        }
        assert_eq!(sessions.open.len(), MAX_SESSIONS);
    }
}
