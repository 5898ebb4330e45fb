//! Connections that trunks offered for our requests too (RFC 5923).

use crate::sip::transaction::Flow;
use std::collections::HashMap;
use std::net::SocketAddr;

/// Most that are remembered, and the addresses that one connection is remembered for.
const MAX_ALIASES: usize = 4_096;
const MOST_ALIASES_OF_FLOW: usize = 4;

/// A trunk, and the address it listens at.
type TrunkListener = (String, SocketAddr);

/// Offered connections by the address they stand for.
#[derive(Debug, Default)]
pub(crate) struct Aliases {
    flows: HashMap<TrunkListener, Flow>,
    of_flow: HashMap<Flow, Vec<TrunkListener>>,
}

impl Aliases {
    /// The connection that a trunk offered for an address.
    pub(crate) fn get(&self, listener: &TrunkListener) -> Option<Flow> {
        self.flows.get(listener).copied()
    }

    /// A trunk offers a connection for an address; forgotten if it or everybody has enough.
    pub(crate) fn offer(&mut self, listener: TrunkListener, flow: Flow) {
        if self.get(&listener) == Some(flow) || self.flows.len() >= MAX_ALIASES {
            return;
        }
        let own = self.of_flow.entry(flow).or_default();
        if own.len() >= MOST_ALIASES_OF_FLOW {
            return;
        }
        own.push(listener.clone());
        if let Some(before) = self.flows.insert(listener.clone(), flow)
            && let Some(others) = self.of_flow.get_mut(&before)
        {
            others.retain(|other| *other != listener);
            if others.is_empty() {
                self.of_flow.remove(&before);
            }
        }
    }

    /// A connection is closed.
    pub(crate) fn forget(&mut self, flow: Flow) {
        for listener in self.of_flow.remove(&flow).into_iter().flatten() {
            self.flows.remove(&listener);
        }
    }

    /// Returns how many are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_last_connections_and_goes_with_it() {
        let mut aliases = Aliases::default();
        let at = |port: u16| ("pbx".to_owned(), SocketAddr::from(([192, 0, 2, 1], port)));
        let (first, second) = (Flow(1), Flow(2));
        aliases.offer(at(5060), first);
        aliases.offer(at(5061), first);
        aliases.offer(at(5060), second);
        assert_eq!((aliases.get(&at(5060)), aliases.get(&at(5061))), (Some(second), Some(first)));
        aliases.forget(first);
        assert_eq!((aliases.get(&at(5060)), aliases.get(&at(5061))), (Some(second), None));
        aliases.forget(second);
        assert!(aliases.flows.is_empty() && aliases.of_flow.is_empty());
    }
}
