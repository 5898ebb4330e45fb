//! The sections [media], [limits] and [fraud].

use super::super::problem::ConfigProblem;
use super::super::{FraudLimits, Limits, Media, schema};
use super::Check;
use super::times::{ANSWER, ASK_EVERY, HOLD, TIMEOUT};
use crate::codec::{Codec, opus};
use crate::config::schema::Spanned;
use crate::dialplan::is_country;
use crate::media::MediaWatch;
use std::time::Duration;

impl Check {
    pub(super) fn media(&mut self, m: schema::Media) -> Media {
        let ports = match &m.ports {
            None => (20_000, 29_999),
            Some(at) => match at
                .as_ref()
                .split_once('-')
                .map(|(a, b)| (a.trim().parse::<u16>(), b.trim().parse::<u16>()))
            {
                Some((Ok(a), Ok(b))) if a >= 1_024 && b > a + 2 => (a, b),
                _ => {
                    let message = format!("media.ports = {:?} is not a range", at.as_ref());
                    self.error(at, "config::ports", message, "write \"20000-29999\", from 1024 up");
                    (20_000, 29_999)
                }
            },
        };
        if let Some(at) = m.complexity.as_ref().filter(|c| *c.as_ref() > 10) {
            self.error(
                at,
                "config::complexity",
                "media.complexity is not within 0 to 10",
                "the default is 1; 10 costs five times as much",
            );
        }
        if let Some(at) = m.workers.as_ref().filter(|w| !(1..=64).contains(w.as_ref())) {
            self.error(
                at,
                "config::workers",
                "media.workers is not within 1 to 64",
                "one per core is the default",
            );
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Media {
            bind: self.bound(m.bind.as_ref(), "media.bind"),
            public_ips: self
                .public_address(m.public_ip.as_ref(), "media.public_ip")
                .into_iter()
                .collect(),
            ports,
            browser_port: m.browser_port.map_or(8_088, Spanned::into_inner),
            ice_tcp: m.ice_tcp.unwrap_or(true),
            workers: m.workers.map_or(cores.min(8), Spanned::into_inner).clamp(1, 64),
            codecs: self.codecs(&m.codecs, &Codec::BROWSERS),
            complexity: m.complexity.map_or(opus::COMPLEXITY, Spanned::into_inner),
            watch: MediaWatch {
                stopped: self.stopped_after(m.stopped_after.as_ref(), "media.stopped_after"),
                again: self.time(m.ask_every.as_ref(), "media.ask_every", ASK_EVERY),
                silent: self.time_or_off(m.timeout.as_ref(), "media.timeout", TIMEOUT),
            },
            answer_within: self.time(m.answer_within.as_ref(), "media.answer_within", ANSWER),
            hold_timeout: self.time_or_off(m.hold_timeout.as_ref(), "media.hold_timeout", HOLD),
        }
    }

    pub(super) fn codecs(&mut self, names: &[Spanned<String>], default: &[Codec]) -> Vec<Codec> {
        if names.is_empty() {
            return default.to_vec();
        }
        let mut codecs = Vec::new();
        for name in names {
            match Codec::from_name(name.as_ref()) {
                Some(codec) => codecs.push(codec),
                None => self.error(
                    name,
                    "config::codec",
                    format!("{:?} is not a known codec", name.as_ref()),
                    "known: opus, g722, pcmu, pcma, l16",
                ),
            }
        }
        codecs
    }

    pub(super) fn limits(&mut self, l: schema::Limits, media: &Media) -> Limits {
        let room = usize::from(media.ports.1 - media.ports.0 + 1) / 2;
        if let Some(at) = l.calls.as_ref().filter(|c| *c.as_ref() > room) {
            let (calls, high) = (*at.as_ref(), usize::from(media.ports.0) + 2 * at.as_ref() - 1);
            let message = format!(
                "the media ports are enough for {room} trunk calls, but limits.calls is {calls}"
            );
            let problem = ConfigProblem::at(&self.source, at.span(), "config::ports", message);
            self.problems.push(
                problem.help(format!("set media.ports = \"{}-{high}\"", media.ports.0)).warning(),
            );
        }
        let pace = l.new_calls_per_second.map_or(20, Spanned::into_inner);
        Limits {
            connections: l.connections.map_or(12_000, Spanned::into_inner),
            connections_per_source: l.connections_per_source.map_or(1_000, Spanned::into_inner),
            handshakes_per_source: l.handshakes_per_source.map_or(256, Spanned::into_inner),
            calls: l.calls.map_or(500, Spanned::into_inner),
            calls_per_user: l.calls_per_user.map_or(4, Spanned::into_inner),
            new_calls_per_second: pace,
            new_calls_per_second_per_user: l
                .new_calls_per_second_per_user
                .map_or((pace / 5).max(1), Spanned::into_inner),
            max_duration: self
                .duration(l.max_duration.as_ref())
                .unwrap_or(Duration::from_secs(4 * 3600)),
            texts_per_minute: l.texts_per_minute.map_or(30, Spanned::into_inner),
            texts_per_minute_of_source: l
                .texts_per_minute_of_source
                .map_or(600, Spanned::into_inner),
            text_size: self.text_size(l.text_size.as_ref()).unwrap_or(8_000),
        }
    }

    pub(super) fn fraud(&mut self, f: schema::Fraud) -> FraudLimits {
        self.within(f.calls_per_hour.as_ref(), "fraud.calls_per_hour", 1..=1_000_000);
        self.within(f.minutes_per_hour.as_ref(), "fraud.minutes_per_hour", 1..=1_000_000);
        self.within(f.countries_per_hour.as_ref(), "fraud.countries_per_hour", 0..=30);
        for at in f.home.iter().filter(|at| !is_country(at.as_ref())) {
            let message = format!("fraud.home: {:?} is not a country", at.as_ref());
            let help = "use two-letter codes such as \"US\" or \"DE\"";
            self.error(at, "config::country", message, help);
        }
        FraudLimits {
            calls_per_hour: f.calls_per_hour.map_or(120, Spanned::into_inner),
            minutes_per_hour: f.minutes_per_hour.map_or(180, Spanned::into_inner),
            countries_per_hour: f.countries_per_hour.map_or(5, Spanned::into_inner),
            home: f.home.into_iter().map(Spanned::into_inner).collect(),
            hours: f.hours.and_then(|at| self.hours("business", at)),
        }
    }
}
