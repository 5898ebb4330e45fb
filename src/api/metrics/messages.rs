//! SIP messages, counted without a look-up once a series is there: requests by method, responses by
//! status code; in and out, by transport.

use super::Label;
use crate::flow::Transport;
use crate::sip::{Message, Method};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use std::sync::OnceLock;

/// Methods that are counted: each that has a name, and all others together.
const METHODS: usize = Method::ALL.len() + 1;
const TRANSPORTS: usize = Transport::ALL.len();
/// Status codes are 100 to 699.
const STATUSES: usize = 600;

pub struct Messages {
    /// Requests, by method, transport and direction.
    pub requests: Family<Label, Counter>,
    /// Responses, by status, transport and direction.
    pub responses: Family<Label, Counter>,
    by_method: [[[OnceLock<Counter>; 2]; TRANSPORTS]; METHODS],
    by_status: Vec<[OnceLock<Counter>; 2]>,
}

impl Default for Messages {
    fn default() -> Messages {
        let by_status = (0..STATUSES).map(|_| Default::default()).collect();
        Messages {
            requests: Family::default(),
            responses: Family::default(),
            by_method: Default::default(),
            by_status,
        }
    }
}

const IN: usize = 0;
const OUT: usize = 1;

impl Messages {
    /// Counts a message that came in.
    pub(crate) fn received(&self, message: &Message, transport: Transport) {
        match message.status() {
            0 => self.request(message.method(), transport, IN),
            status => self.response(status, IN),
        }
    }

    /// Counts a message that goes out.
    pub(crate) fn sent(&self, bytes: &[u8], transport: Transport) {
        let mut words =
            bytes.split(|b| *b == b' ').map(|w| std::str::from_utf8(w).unwrap_or_default());
        match words.next() {
            Some("SIP/2.0") => {
                self.response(words.next().and_then(|s| s.parse().ok()).unwrap_or(0), OUT)
            }
            method => self.request(Method::from_token(method.unwrap_or_default()), transport, OUT),
        }
    }

    fn request(&self, method: Method, transport: Transport, direction: usize) {
        let at = Method::ALL.iter().position(|m| *m == method).unwrap_or(Method::ALL.len());
        let counter = || {
            let label = vec![
                ("method", method.to_string()),
                ("transport", transport.to_string()),
                ("direction", name(direction)),
            ];
            self.requests.get_or_create(&label).clone()
        };
        self.by_method[at][transport as usize][direction].get_or_init(counter).inc();
    }

    fn response(&self, status: u16, direction: usize) {
        let Some(slot) = usize::from(status).checked_sub(100).and_then(|at| self.by_status.get(at))
        else {
            return;
        };
        let counter = || {
            self.responses
                .get_or_create(&vec![("code", status.to_string()), ("direction", name(direction))])
                .clone()
        };
        slot[direction].get_or_init(counter).inc();
    }
}

fn name(direction: usize) -> String {
    if direction == IN { "in" } else { "out" }.to_owned()
}
