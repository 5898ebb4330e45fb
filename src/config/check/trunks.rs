//! Trunks, and signalling's own settings.

use super::Check;
use crate::codec::Codec;
use crate::config::problem::ConfigProblem;
use crate::config::schema::Spanned;
use crate::config::{
    CallerIdPolicy, Prefer, Refer, Reliable, SipSettings, Trunk, TrunkTls, TrunkUri, schema,
};
use crate::dialplan::Plan;
use crate::media::Digits;
use crate::sdp::crypto::Policy;
use crate::sip::session_timer::MIN_SE;
use crate::sip::transaction::TrunkNumber;
use crate::sip::uri::{Scheme, Uri, UriTransport};
use ipnet::IpNet;
use std::net::IpAddr;
use std::time::Duration;

/// Half an hour: what most of the field asks for (RFC 4028 §7.1 recommends 1800).
const SESSION: u32 = 1_800;

const TRUNK_ADDRESSES: &str = "name the trunk's addresses: they are its identity";

impl Check {
    pub(super) fn sip_settings(&mut self, s: &schema::Sip) -> SipSettings {
        let certificate = s.certificate.as_ref().map(|at| {
            let files = (self.folder.join(&at.as_ref().cert), self.folder.join(&at.as_ref().key));
            for path in [&files.0, &files.1] {
                if let Err(e) = std::fs::read(path) {
                    self.error(
                        at,
                        "config::tls",
                        format!("{} cannot be read: {e}", path.display()),
                        "name a PEM file that this user may read",
                    );
                }
            }
            files
        });
        let tls = self.listen(s.tls.as_ref(), "sip.tls");
        if let (Some(at), None) = (&s.tls, &certificate) {
            self.error(
                at,
                "config::tls",
                "sip.tls needs a certificate",
                "add [sip] certificate = { cert = \"fullchain.pem\", key = \"privkey.pem\" }",
            );
        }
        let flow_grace = self.duration(s.flow_grace.as_ref()).unwrap_or(Duration::from_secs(30));
        SipSettings {
            public_ip: self.public_address(s.public_ip.as_ref(), "sip.public_ip"),
            tls,
            certificate,
            client_ca: s.client_ca.as_ref().map(|at| self.folder.join(at.as_ref())),
            session_timer: self.session_timer(s.session_timer.as_ref()),
            flow_grace,
            flow_grace_media: self
                .duration(s.flow_grace_media.as_ref())
                .unwrap_or(Duration::from_secs(300))
                .max(flow_grace),
        }
    }

    fn session_timer(&mut self, text: Option<&Spanned<String>>) -> Option<u32> {
        let Some(at) = text else { return Some(SESSION) };
        if at.as_ref() == "off" {
            return None;
        }
        let seconds = self.duration(text)?.as_secs() as u32;
        if seconds < MIN_SE {
            self.error(
                at,
                "config::session_timer",
                format!("a session timer lasts at least {MIN_SE} s (RFC 4028)"),
                "write \"30m\", or \"off\"",
            );
        }
        Some(seconds.max(MIN_SE))
    }

    /// One of the words of `table`; the first is the default.
    fn word<T: Copy>(
        &mut self,
        text: Option<&Spanned<String>>,
        key: &str,
        table: &[(&str, T)],
    ) -> T {
        let Some(at) = text else { return table[0].1 };
        if let Some((_, value)) = table.iter().find(|(word, _)| *word == at.as_ref().as_str()) {
            return *value;
        }
        let words: Vec<String> = table.iter().map(|(word, _)| format!("{word:?}")).collect();
        self.error(
            at,
            "config::word",
            format!("{key} = {:?} is not known", at.as_ref()),
            format!("use {}", words.join(" or ")),
        );
        table[0].1
    }

    /// A trunk's address; `Some(None)` if it announces it by registering.
    fn place_of(
        &mut self,
        here: &Spanned<()>,
        name: &str,
        t: &schema::Trunk,
    ) -> Option<Option<TrunkUri>> {
        match &t.uri {
            Some(at) => Some(Some(self.trunk_uri(at, at.as_ref())?)),
            None if t.accepts_registration => Some(None),
            None => {
                self.error(
                    here,
                    "config::uri",
                    format!("trunk {name} has no uri"),
                    "add uri = \"sip:HOST\", or accepts_registration = true if the trunk \
                     registers here",
                );
                None
            }
        }
    }

    pub(super) fn trunk(
        &mut self,
        name: String,
        trunk: Spanned<schema::Trunk>,
        plan: &Plan,
        default_stopped_after: Option<Duration>,
    ) -> Option<Trunk> {
        let start = trunk.span().start;
        let here = Spanned::new(start..start + 1, ());
        let t = trunk.into_inner();
        let uri = self.place_of(&here, &name, &t)?;
        let mut allow = self.nets(&t.allow, TRUNK_ADDRESSES);
        if allow.is_empty() && t.allow.is_empty() && !t.accepts_registration {
            // A trunk given by address is known by it.
            allow.extend(uri.as_ref().and_then(|u| u.host.parse::<IpAddr>().ok()).map(IpNet::from));
        }
        if let Some(at) = t.context.as_ref().filter(|c| plan.context(c.as_ref()).is_none()) {
            self.no_context(at, plan);
        }
        self.trunk_callers(&name, &t, &allow);
        let password = t.password.as_ref().map(|p| self.secret(p));
        self.trunk_login(&here, &name, &t);
        let proved = t.accepts_registration
            || t.srtp.as_ref().is_some_and(|s| s.as_ref().as_str() == "required");
        let (nat, nat_signalling) = self.nat(t.nat.as_ref(), proved);
        Some(Trunk {
            number: TrunkNumber(0),
            registrars: self.registrars(t.register.as_ref(), uri.as_ref()),
            register_expires: self
                .duration(t.register_expires.as_ref())
                .map_or(600, |d| (d.as_secs() as u32).max(60)),
            accepts_registration: t.accepts_registration,
            tls: self.trunk_tls(t.tls.as_ref()),
            probe: self.duration(t.probe.as_ref()).map(|p| p.max(Duration::from_secs(1))),
            calls_per_second: t.calls_per_second.map(Spanned::into_inner),
            trusted: t.trusted,
            identity: CallerIdPolicy {
                asserted: t.asserted_identity.unwrap_or(true),
                from_user: t.from_user.map(Spanned::into_inner),
                from_domain: t.from_domain.map(Spanned::into_inner),
                display_name: t.display_name.map(Spanned::into_inner),
            },
            session_timer: self.session_timer(t.session_timer.as_ref()),
            reliable: self.reliable(t.reliable.as_ref()),
            register_once: t.register_once,
            delayed_offer: t.delayed_offer,
            dtmf: self.dtmf(t.dtmf.as_ref()),
            srtp: self.srtp(t.srtp.as_ref(), uri.as_ref()),
            comfort_noise: t.comfort_noise,
            continuous: t.continuous,
            stopped_after: match &t.stopped_after {
                Some(_) => self.stopped_after(t.stopped_after.as_ref(), "stopped_after"),
                None => default_stopped_after,
            },
            refer: self.refer(t.refer.as_ref()),
            messages: t.messages,
            location: t.location,
            codecs: self.codecs(&t.codecs, &[Codec::Pcmu, Codec::Pcma]),
            media: self.nets(&t.media, TRUNK_ADDRESSES),
            name,
            uri,
            username: t.username.map(Spanned::into_inner),
            password,
            realm: t.realm.map(Spanned::into_inner),
            prefer: self.prefer(t.prefer.as_ref()),
            max_calls: t.max_calls.map(Spanned::into_inner),
            allow,
            context: t.context.map(Spanned::into_inner),
            nat,
            nat_signalling,
            public_ip: self.public_address(t.public_ip.as_ref(), "public_ip"),
        })
    }

    /// Calls of a trunk with a context come from addresses that must be known.
    fn trunk_callers(&mut self, name: &str, t: &schema::Trunk, allow: &[IpNet]) {
        let unknown = allow.is_empty() && t.allow.is_empty() && !t.accepts_registration;
        let Some(at) = t.context.as_ref().filter(|_| unknown) else { return };
        let message = format!(
            "nothing says where calls of trunk {name} come from: its uri is a name, and allow is \
             empty, so they are dropped like a stranger's"
        );
        let help = "add allow = [\"192.0.2.12/32\"], the addresses its calls come from; or remove \
                    context if it only takes calls";
        self.warn(at.span(), "config::allow", message, help);
    }

    /// Digest needs a name and a password, and whoever registers needs digest.
    fn trunk_login(&mut self, here: &Spanned<()>, name: &str, t: &schema::Trunk) {
        if t.password.is_some() != t.username.is_some() {
            self.error(
                here,
                "config::digest",
                format!("trunk {name} has only one of username and password"),
                "digest needs both",
            );
        }
        if t.password.is_none() && (t.accepts_registration || t.register.is_some()) {
            self.error(
                here,
                "config::digest",
                format!("trunk {name} registers, but has no username and password"),
                "add username and password",
            );
        }
    }

    fn prefer(&mut self, text: Option<&Spanned<String>>) -> Prefer {
        self.word(text, "prefer", &[("opus", Prefer::Opus), ("passthrough", Prefer::Passthrough)])
    }

    fn reliable(&mut self, text: Option<&Spanned<String>>) -> Reliable {
        self.word(
            text,
            "100rel",
            &[
                ("supported", Reliable::Supported),
                ("off", Reliable::Off),
                ("required", Reliable::Required),
            ],
        )
    }

    fn dtmf(&mut self, text: Option<&Spanned<String>>) -> Digits {
        self.word(
            text,
            "dtmf",
            &[("rtp", Digits::Events), ("info", Digits::Signalled), ("inband", Digits::Tones)],
        )
    }

    fn refer(&mut self, text: Option<&Spanned<String>>) -> Refer {
        self.word(
            text,
            "refer",
            &[("refuse", Refer::Refuse), ("execute", Refer::Execute), ("pass", Refer::Pass)],
        )
    }

    /// Whether the port of media is learned, and whether its address is. `proved`: somebody else
    /// at that address would have to prove who they are.
    fn nat(&mut self, nat: Option<&Spanned<schema::Nat>>, proved: bool) -> (bool, bool) {
        let Some(at) = nat else { return (false, false) };
        match at.as_ref() {
            schema::Nat::Port(port) => (*port, false),
            schema::Nat::Word(word) if word == "signalling" => {
                if !proved {
                    self.error(
                        at,
                        "config::nat",
                        "nat = \"signalling\" is for a trunk that proves who it is",
                        "add accepts_registration = true or srtp = \"required\", or set nat = true",
                    );
                }
                (true, true)
            }
            schema::Nat::Word(word) => {
                let message = format!("nat = {word:?} is not known");
                self.error(at, "config::nat", message, "use true, false or \"signalling\"");
                (false, false)
            }
        }
    }

    /// Keys in signalling that is not encrypted are keys for everyone on the way.
    fn srtp(&mut self, text: Option<&Spanned<String>>, uri: Option<&TrunkUri>) -> Policy {
        let policy = self.word(
            text,
            "srtp",
            &[("off", Policy::Off), ("optional", Policy::Optional), ("required", Policy::Required)],
        );
        let readable = uri.is_some_and(|u| !u.secure && u.transport != Some(UriTransport::Tls));
        if let Some(at) = text.filter(|_| policy != Policy::Off && readable) {
            let problem = ConfigProblem::at(
                &self.source,
                at.span(),
                "config::srtp",
                "the keys of this trunk's media are sent in signalling that anyone on the way \
                 can read",
            );
            self.problems.push(
                problem
                    .help("reach it by TLS: uri = \"sips:HOST\", or \"sip:HOST;transport=tls\"")
                    .warning(),
            );
        }
        policy
    }

    fn registrars(
        &mut self,
        register: Option<&Spanned<schema::Register>>,
        own: Option<&TrunkUri>,
    ) -> Vec<TrunkUri> {
        let Some(at) = register else { return Vec::new() };
        match at.as_ref() {
            schema::Register::Own(false) => Vec::new(),
            schema::Register::Own(true) => own.cloned().into_iter().collect(),
            schema::Register::With(list) => {
                list.iter().filter_map(|text| self.trunk_uri(at, text)).collect()
            }
        }
    }

    fn trunk_tls(&mut self, tls: Option<&Spanned<schema::TrunkTls>>) -> TrunkTls {
        let Some(at) = tls else { return TrunkTls::default() };
        let t = at.as_ref();
        let path = |p: &Option<String>| p.as_ref().map(|p| self.folder.join(p));
        let (ca, cert, key) = (path(&t.ca), path(&t.cert), path(&t.key));
        for file in [&ca, &cert, &key].into_iter().flatten() {
            if let Err(e) = std::fs::read(file) {
                self.error(
                    at,
                    "config::tls",
                    format!("{} cannot be read: {e}", file.display()),
                    "name a PEM file that this user may read",
                );
            }
        }
        if cert.is_some() != key.is_some() {
            self.error(
                at,
                "config::tls",
                "tls has only one of cert and key",
                "a client certificate needs both",
            );
        }
        TrunkTls { ca, name: t.name.clone(), cert: cert.zip(key) }
    }

    fn trunk_uri<T>(&mut self, at: &Spanned<T>, text: &str) -> Option<TrunkUri> {
        let Ok(uri) = Uri::parse_strict(text) else {
            self.error(
                at,
                "config::uri",
                format!("{text:?} is not a SIP URI"),
                "write \"sip:192.0.2.20:5060\" or \"sip:host;transport=tcp\"",
            );
            return None;
        };
        let named = uri.params.get("transport");
        let transport = named.and_then(UriTransport::from_param);
        let secure = uri.scheme == Scheme::Sips;
        let fits = matches!(uri.scheme, Scheme::Sip | Scheme::Sips)
            && named.is_some() == transport.is_some()
            && !(secure && transport == Some(UriTransport::Udp));
        if !fits {
            self.error(
                at,
                "config::uri",
                format!("{text:?} is not an address of a trunk"),
                "use sip: with transport=udp, tcp or tls, or sips:",
            );
            return None;
        }
        let transport = if secure { Some(UriTransport::Tls) } else { transport };
        Some(TrunkUri { host: uri.host.to_owned(), port: uri.port, transport, secure })
    }
}
