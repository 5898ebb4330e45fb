//! Tokens that are good for one login: by which connection each was used.
//!
//! ```text
//!   unknown --store asked--> Asked --no other has it, or no answer--> Ours
//!                              |
//!                              +--another connection has it--> Theirs
//! ```
//!
//! A token is known by its issuer and its `jti`. The connection that logged in by it may keep using
//! it; any other is refused, until the token has expired. A gateway alone uses this table. A node
//! of a cluster asks the store once for each token; if the store does not answer, the node uses
//! what it knows itself, and writes that to the store as soon as it is back: meanwhile a token is
//! good for one login at each node, and not for a second one at any.

use super::token::TokenId;
use super::{Gateway, Turn};
use crate::address::network_of;
use crate::call::Output;
use crate::cluster::store::StoreCommand;
use crate::event::Event;
use crate::sip::transaction::Flow;
use crate::tally::Tally;
use rand_core::RngCore;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Used tokens that are remembered until they expire; beyond that a login by another token gets 503
/// with Retry-After.
const MAX_SPENT: usize = 100_000;
/// Those of one source: whoever is given token after token leaves room for others.
const MAX_SPENT_OF_SOURCE: usize = 10_000;
/// How long a login waits for the store.
const ANSWER: Duration = Duration::from_millis(500);
/// Tokens written to the store at once after it was away.
const BATCH: usize = 32;

/// How a token stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TokenStanding {
    Asked,
    Ours,
    Theirs,
}

/// A login by a token that is good for one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TokenLogin {
    /// Which token.
    pub(super) token: TokenId,
    /// The connection that logs in by it.
    pub(super) flow: Flow,
    /// Until when the token would be good, seconds since 1970.
    pub(super) until: u64,
}

/// A token that somebody has used.
struct SpentToken {
    login: TokenLogin,
    /// Where from.
    source: Option<IpAddr>,
    standing: TokenStanding,
    /// What the store has of us, so that asking twice is asking once.
    mark: u64,
}

/// A question under way.
struct AskedToken {
    token: TokenId,
    until: Instant,
}

/// What may become of a login by a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Spending {
    /// It is this connection's.
    Ours,
    /// The store is asked.
    Waits,
    /// Another connection has used it.
    Used,
    /// There is no room for another token.
    Full,
}

/// The tokens that were used.
#[derive(Default)]
pub(super) struct UsedTokens {
    spent: HashMap<TokenId, SpentToken>,
    /// The same by their end.
    ends: BTreeSet<(u64, TokenId)>,
    /// How many are of each source.
    of_source: Tally<IpAddr>,
    asked: BTreeMap<u64, AskedToken>,
    /// Those that the store may not know of.
    untold: BTreeSet<TokenId>,
    /// The state of the store at the last report to it.
    told_in: u64,
    next: u64,
}

impl UsedTokens {
    /// Returns how many questions are open.
    pub(super) fn open(&self) -> usize {
        self.asked.len()
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        // Each has the same time: whichever was asked first is due first.
        self.asked.first_key_value().map(|(_, asked)| asked.until)
    }

    fn known(&self, login: &TokenLogin) -> Option<Spending> {
        let spent = self.spent.get(&login.token)?;
        Some(match spent.standing {
            _ if spent.login.flow != login.flow => Spending::Used,
            TokenStanding::Asked => Spending::Waits,
            TokenStanding::Ours => Spending::Ours,
            TokenStanding::Theirs => Spending::Used,
        })
    }

    fn forget_expired(&mut self, unix: u64) {
        while let Some((_, token)) = self.ends.first().copied().filter(|(until, _)| *until <= unix)
        {
            self.ends.pop_first();
            let gone = self.spent.remove(&token);
            self.untold.remove(&token);
            if let Some(source) = gone.and_then(|gone| gone.source) {
                self.of_source.remove(&source);
            }
        }
    }

    /// Notes a token that nobody here has used; `false` if there is no room.
    fn note(&mut self, spent: SpentToken) -> bool {
        let own = spent.source.map_or(0, |source| self.of_source.of(&source));
        if self.spent.len() >= MAX_SPENT || own >= MAX_SPENT_OF_SOURCE {
            return false;
        }
        if let Some(source) = spent.source {
            self.of_source.add(source);
        }
        let TokenLogin { token, until, .. } = spent.login;
        self.ends.insert((until, token));
        self.spent.insert(token, spent);
        true
    }

    /// The command that asks for a token, or tells of it.
    fn ask(&mut self, now: Instant, unix: u64, token: TokenId) -> Option<StoreCommand> {
        let spent = self.spent.get(&token)?;
        let mark = spent.mark;
        let lasts = Duration::from_secs(spent.login.until.saturating_sub(unix));
        self.next += 1;
        self.asked.insert(self.next, AskedToken { token, until: now + ANSWER });
        Some(StoreCommand::Spend { id: self.next, token, mark, lasts })
    }

    /// What the store may not know of, once it can be asked; `state` changes when it may have lost
    /// what was written to it.
    fn tell(&mut self, now: Instant, unix: u64, state: u64) -> Vec<StoreCommand> {
        if std::mem::replace(&mut self.told_in, state) != state {
            let ours = self.spent.iter().filter(|(_, spent)| spent.standing == TokenStanding::Ours);
            self.untold.extend(ours.map(|(token, _)| *token));
        }
        let mut commands = Vec::new();
        while self.asked.len() < BATCH
            && let Some(token) = self.untold.pop_first()
        {
            commands.extend(self.ask(now, unix, token));
        }
        commands
    }

    /// The store said whether a token is ours, or did not. Returns the token, and the connection
    /// that keeps it though another used it too; `None` for an answer that comes late or twice.
    fn answered(&mut self, id: u64, answer: Option<bool>) -> Option<(TokenId, Option<Flow>)> {
        let AskedToken { token, .. } = self.asked.remove(&id)?;
        // Whoever waits gets an answer, even if the token has expired meanwhile.
        let Some(spent) = self.spent.get_mut(&token) else { return Some((token, None)) };
        let twice = spent.standing == TokenStanding::Ours && answer == Some(false);
        match (spent.standing, answer) {
            (_, None) => {
                self.untold.insert(token);
                spent.standing = TokenStanding::Ours;
            }
            (TokenStanding::Asked, Some(ours)) => {
                spent.standing = if ours { TokenStanding::Ours } else { TokenStanding::Theirs };
            }
            // It was let in, and stays.
            (TokenStanding::Ours | TokenStanding::Theirs, Some(_)) => {}
        }
        Some((token, twice.then_some(spent.login.flow)))
    }

    /// Questions that were not answered in time.
    fn late(&self, now: Instant) -> Vec<u64> {
        self.asked.iter().take_while(|(_, asked)| asked.until <= now).map(|(id, _)| *id).collect()
    }
}

impl Gateway {
    /// A login by a token that is good for one.
    pub(super) fn spend_token(&mut self, turn: &mut Turn<'_>, login: TokenLogin) -> Spending {
        let flow = self.services.flows.get(&login.flow);
        if flow.is_some_and(|f| f.token == Some(login.token)) {
            return Spending::Ours;
        }
        let source = flow.map(|f| network_of(f.remote.ip()));
        let unix = self.unix(turn.now);
        self.used_tokens.forget_expired(unix);
        if let Some(known) = self.used_tokens.known(&login) {
            return known;
        }
        let cluster = self.services.cluster.as_ref();
        let asks = cluster.is_some_and(|c| c.cannot_ask(turn.now).is_none());
        let standing = if asks { TokenStanding::Asked } else { TokenStanding::Ours };
        let mark = self.services.random.next_u64();
        if !self.used_tokens.note(SpentToken { login, source, standing, mark }) {
            return Spending::Full;
        }
        if !asks {
            if cluster.is_some() {
                self.used_tokens.untold.insert(login.token);
            }
            return Spending::Ours;
        }
        turn.out.extend(self.used_tokens.ask(turn.now, unix, login.token).map(Output::Store));
        Spending::Waits
    }

    /// The store answered, or cannot.
    pub(super) fn token_spent(&mut self, turn: &mut Turn<'_>, id: u64, answer: Option<bool>) {
        let Some((token, twice)) = self.used_tokens.answered(id, answer) else { return };
        if let Some(flow) = twice {
            let user = self.services.flows.get(&flow).and_then(|f| f.user.clone());
            let user = user.unwrap_or_else(|| "somebody who is gone".to_owned());
            turn.push(Output::Event(Event::TokenUsedTwice { user }));
        }
        self.replay_token(turn, token);
    }

    /// Gives up questions not answered in time, and tells the store what it may not know.
    pub(super) fn used_tokens_due(&mut self, turn: &mut Turn<'_>) {
        for id in self.used_tokens.late(turn.now) {
            self.token_spent(turn, id, None);
        }
        let Some(cluster) = &self.services.cluster else { return };
        if cluster.cannot_ask(turn.now).is_some() {
            return;
        }
        let (state, unix) = (cluster.store_state(), self.unix(turn.now));
        let commands = self.used_tokens.tell(turn.now, unix, state);
        turn.out.extend(commands.into_iter().map(Output::Store));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(token: TokenId, flow: u64, until: u64) -> TokenLogin {
        TokenLogin { token, flow: Flow(flow), until }
    }

    fn used(token: TokenId, until: u64) -> SpentToken {
        let (login, standing) = (login(token, 1, until), TokenStanding::Ours);
        SpentToken { login, source: None, standing, mark: 1 }
    }

    #[test]
    fn one_sources_tokens_leave_room_for_those_of_others() {
        let mut tokens = UsedTokens::default();
        let mut from = |n: usize, source: u8| {
            let source = Some(IpAddr::from([192, 0, 2, source]));
            tokens.note(SpentToken { source, ..used(n as u128, 100) })
        };
        assert_eq!((0..20_000).filter(|n| from(*n, 1)).count(), MAX_SPENT_OF_SOURCE);
        assert!(from(30_000, 2));
        tokens.forget_expired(100);
        assert!(tokens.spent.is_empty() && tokens.of_source.is_empty());
    }

    #[test]
    fn so_many_tokens_are_remembered_until_they_expire_and_none_is_forgotten_before() {
        let mut tokens = UsedTokens::default();
        for n in 0..MAX_SPENT {
            assert!(tokens.note(used(n as u128, 100 + n as u64 % 2)));
        }
        assert!(!tokens.note(used(TokenId::MAX, 200)), "there is no room");
        let known = |tokens: &UsedTokens, token, flow| tokens.known(&login(token, flow, 200));
        assert_eq!(known(&tokens, 7, 2), Some(Spending::Used));
        tokens.forget_expired(100);
        assert_eq!(known(&tokens, 0, 2), None, "it is over");
        assert_eq!(known(&tokens, 1, 2), Some(Spending::Used));
        assert!(tokens.note(used(TokenId::MAX, 200)));
        assert_eq!(known(&tokens, TokenId::MAX, 1), Some(Spending::Ours));
        tokens.forget_expired(200);
        assert_eq!((tokens.spent.len(), tokens.ends.len()), (0, 0));
    }

    #[test]
    fn the_store_is_told_so_many_at_once_and_all_again_when_it_may_have_lost_them() {
        let (now, mut tokens) = (Instant::now(), UsedTokens::default());
        for n in 0..3 * BATCH {
            assert!(tokens.note(used(n as u128, 100)));
        }
        assert_eq!(tokens.tell(now, 0, 0).len(), 0, "it knows of them");
        let mut sent = Vec::new();
        for _ in 0..3 {
            let commands = tokens.tell(now, 0, 1);
            assert_eq!((commands.len(), tokens.open()), (BATCH, BATCH));
            assert_eq!(tokens.tell(now, 0, 1).len(), 0, "so many are under way");
            for command in commands {
                let StoreCommand::Spend { id, token, .. } = command else { panic!("{command:?}") };
                sent.push(token);
                assert_eq!(tokens.answered(id, Some(true)), Some((token, None)));
                assert_eq!(tokens.answered(id, Some(false)), None, "not twice");
            }
        }
        sent.sort_unstable();
        assert_eq!(sent, (0..3 * BATCH as u128).collect::<Vec<_>>());
        assert_eq!((tokens.tell(now, 0, 1).len(), tokens.next_timeout()), (0, None));
    }
}
