//! From files to settings: every error in every file, with place, cause and fix.

mod around;
pub mod certificates;
mod cluster;
mod common;
mod hosts;
mod media;
mod names;
mod operators;
mod passwords;
mod rivals;
mod routes;
mod steps;
mod text;
mod times;
mod trunks;
mod values;

pub use self::around::{WITHOUT_STATE, is_domain, unusable};
use super::problem::{ConfigProblem, Problems, SourceFile};
use super::schema;
use super::{Config, Trunk, TrunkTable, User, Users};
use crate::address::is_private;
use crate::config::schema::Spanned;
use crate::dialplan::{Context, Permits, Plan, Route};
use crate::sip::digest::Secret;
use crate::sip::transaction::TrunkNumber;
use crate::sip::uri::UriTransport;
use certificates::site;
use ipnet::IpNet;
use names::{KnownNames, Names, first_names, suggestion};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The web port's default address.
const WEB_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8088);

/// Reads `path` and the `dialplans` folder beside it. Warnings come back with a sound
/// configuration.
///
/// # Errors
/// Everything that is wrong, at once. No port has been touched.
pub fn load(path: &Path) -> Result<(Config, Problems), Problems> {
    let mut check = Check::new(path.parent().unwrap_or(Path::new(".")).to_owned());
    let text = text::text_of(path).map_err(|why| {
        let help = "write one with `webtrunk init`, or name another file with -c FILE";
        Problems(vec![ConfigProblem::plain("config::read", why).help(help)])
    })?;
    check.file(&path.display().to_string(), &text)
}

/// Checks a configuration given as text; dialplans come from `folder`/dialplans.
///
/// # Errors
/// As [`load`].
pub fn parse(name: &str, text: &str, folder: &Path) -> Result<(Config, Problems), Problems> {
    Check::new(folder.to_owned()).file(name, text)
}

/// As [`parse`], with the dialplans given as (context, text) too: the demo has no folder.
///
/// # Errors
/// As [`load`].
pub fn parse_embedded(
    text: &str,
    dialplans: &[(&str, &str)],
) -> Result<(Config, Problems), Problems> {
    let mut check = Check::new(PathBuf::from("."));
    check.embedded =
        Some(dialplans.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect());
    check.file("built-in", text)
}

/// A file of dialplans as it stands, and what is wrong with it.
pub(crate) struct Inspected {
    /// The name of the file.
    pub name: String,
    /// What it contains.
    pub text: String,
    /// What is wrong with it.
    pub problems: Vec<ConfigProblem>,
}

/// The dialplans beside `path` as they are now, checked with it; and what is wrong elsewhere.
pub(crate) fn inspect(path: &Path) -> (Vec<Inspected>, Vec<ConfigProblem>) {
    let mut problems = match load(path) {
        Ok((_, warnings)) => warnings.0,
        Err(problems) => problems.0,
    };
    let mut files = Vec::new();
    for file in routes::files(&path.parent().unwrap_or(Path::new(".")).join("dialplans")) {
        let name = file.display().to_string();
        let (own, rest) =
            problems.into_iter().partition(|p| p.source.as_ref().is_some_and(|s| s.name == name));
        problems = rest;
        files.push(Inspected {
            text: std::fs::read_to_string(&file).unwrap_or_default(),
            name,
            problems: own,
        });
    }
    (files, problems)
}

/// Reads the steps a web application answered: `{ "do": […], "caller_id": …, "tags": … }`, by the
/// rules of a dialplan.
///
/// # Errors
/// What is wrong with it, for the log.
pub fn steps_of(answer: &str, config: &Config) -> Result<Route, String> {
    let mut json: serde_json::Value =
        serde_json::from_str(answer).map_err(|e| format!("its answer is not JSON: {e}"))?;
    let object = json.as_object_mut().ok_or("its answer is not a JSON object")?;
    // Nothing an answer says may make us read a file or ask elsewhere.
    let reads = |step: &serde_json::Value| {
        step.get("webhook").is_some()
            || step.get("secret").is_some()
            || step["play"].as_str().is_some_and(|p| !p.starts_with("builtin:"))
    };
    if object.get("do").and_then(|d| d.as_array()).is_some_and(|steps| steps.iter().any(reads)) {
        return Err("its answer asks another webhook or plays a file, which an answer may not do"
            .to_owned());
    }
    object.insert("name".into(), "webhook".into());
    object.insert("match".into(), "webhook".into());
    let route = toml::Value::try_from(&json).map_err(|e| format!("its answer: {e}"))?;
    let document = toml::Table::from_iter([("route".to_owned(), toml::Value::Array(vec![route]))]);
    let text = toml::to_string(&document).map_err(|e| format!("its answer: {e}"))?;
    let mut check = Check::new(PathBuf::from("."));
    let names = Names {
        users: KnownNames::Users(config.users.clone()),
        trunks: KnownNames::Trunks(config.trunks.clone()),
    };
    let context = check.dialplan("webhook", "the answer", &text, Some(&names));
    check.check_gotos(&config.plan);
    let fatal = check.problems.iter().find(|p| !p.warning);
    match (fatal, context.and_then(|c| c.routes.into_iter().next())) {
        (None, Some(route)) => Ok(route),
        (Some(problem), _) => Err(format!("its answer: {}. {}", problem.message, problem.help)),
        (None, None) => Err("its answer has no steps".to_owned()),
    }
}

const PROXIES: &str = "name the proxies alone: whoever is believed can be anybody";

struct Check {
    embedded: Option<Vec<(String, String)>>,
    folder: PathBuf,
    source: SourceFile,
    problems: Vec<ConfigProblem>,
    prompts: BTreeMap<String, Arc<[i16]>>,
    /// Where a `goto` leads, to be looked at once all contexts are known.
    gotos: Vec<(SourceFile, String, Spanned<String>)>,
    /// The context whose file is read.
    context: String,
    /// Routes that were compared with one another: it grows as the plan does.
    compared: u64,
    common: common::CommonTexts,
    /// Files of secrets that were read.
    secret_files: Vec<PathBuf>,
}

impl Check {
    fn new(folder: PathBuf) -> Check {
        let source = SourceFile { name: String::new(), text: "".into() };
        Check {
            embedded: None,
            folder,
            source,
            problems: Vec::new(),
            prompts: BTreeMap::new(),
            gotos: Vec::new(),
            context: String::new(),
            compared: 0,
            common: common::CommonTexts::default(),
            secret_files: Vec::new(),
        }
    }

    fn error<T>(
        &mut self,
        at: &Spanned<T>,
        code: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.problems.push(ConfigProblem::at(&self.source, at.span(), code, message).help(help));
    }

    fn file(&mut self, name: &str, text: &str) -> Result<(Config, Problems), Problems> {
        self.source = SourceFile { name: name.to_owned(), text: text.into() };
        let source = self.source.clone();
        let file: Option<schema::File> = self.read(text);
        self.common.add("", text);
        let names = file.as_ref().map(Names::of);
        let plan = self.dialplans(names.as_ref());
        self.check_gotos(&plan);
        self.source = source;
        let config = file.and_then(|f| self.config(f, plan));
        let problems = Problems(std::mem::take(&mut self.problems));
        match config {
            Some(config) if !problems.is_fatal() => Ok((config, problems)),
            _ => Err(problems),
        }
    }

    fn read<T: serde::de::DeserializeOwned>(&mut self, text: &str) -> Option<T> {
        match toml::from_str(text) {
            Ok(value) => Some(value),
            Err(e) => {
                // Only the message: a toml error's Debug prints the file, secrets included.
                let message = e.message().trim().to_owned();
                let span = e.span().unwrap_or(0..1);
                self.problems.push(explain(&self.source, span, &message));
                None
            }
        }
    }

    fn config(&mut self, f: schema::File, mut plan: Plan) -> Option<Config> {
        self.around(&f);
        let domain = self.own_domain(f.server.domain);
        let public_auto =
            f.server.public_ip.as_ref().is_none_or(|ip| ip.as_ref().as_str() == "auto");
        let public_ips = self.public_ip(f.server.public_ip.as_ref());
        let stun = self.stun(f.server.stun.as_ref(), public_auto);
        let web_listen = self.listen(f.web.listen.as_ref(), "web.listen").unwrap_or(WEB_LISTEN);
        let web_tls = self.tls(f.web.tls, &site(f.web.public_url.as_ref(), &domain));
        let trusted_proxies = self.nets(&f.web.trusted_proxies, PROXIES);
        let proxy_protocol = self.nets(&f.web.proxy_protocol, PROXIES);
        let media = self.media(f.media);
        let udp = self.listen(f.sip.udp.as_ref(), "sip.udp");
        let tcp = self.listen(f.sip.tcp.as_ref(), "sip.tcp");
        let sip = self.sip_settings(&f.sip);
        let limits = self.limits(f.limits, &media);
        let hep = self.hep(f.events.hep.as_ref());
        let webhook = f.events.webhook.map(|w| self.webhook(&w.url, &w.secret, w.allow_private));
        let credentials = f.credentials.map(|c| self.credentials(c.into_inner()));
        let cdr = self.cdr(f.events.cdr.as_ref());
        let auth = self.auth(f.auth, &plan);
        let recorder = self.recorder(&f.recorder);
        let api = self.api(f.api, f.metrics.listen.as_ref(), f.web.public_url.as_ref());
        let drain_timeout = self.duration(f.server.drain_timeout.as_ref());
        let state_dir = self.state_dir(f.server.state_dir.as_ref());
        let users = self.accounts(f.user, &plan);
        let trunks = self.trunks(f.trunk, &plan, media.watch.stopped);
        plan.extend(trunks.keys().map(|t| Context::direct_to_trunk(t)));
        let listeners =
            [(UriTransport::Udp, udp), (UriTransport::Tcp, tcp), (UriTransport::Tls, sip.tls)];
        self.trunk_listeners(trunks.values(), listeners);
        self.digests(&f.sip);
        Some(Config {
            domain,
            public_ips,
            public_auto,
            stun,
            web_listen,
            web_tls,
            public_url: f.web.public_url.map(|u| u.as_ref().trim_end_matches('/').to_owned()),
            origins: f.web.origins.into_iter().map(Spanned::into_inner).collect(),
            trusted_proxies,
            proxy_protocol,
            udp,
            tcp,
            sip,
            cluster: self.cluster(f.cluster),
            common: self.common(),
            media,
            limits,
            fraud: self.fraud(f.fraud),
            users: Users::new(users),
            trunks: TrunkTable::new(trunks),
            plan: Arc::new(plan),
            prompts: std::mem::take(&mut self.prompts),
            cdr_file: cdr.0,
            cdr_sqlite: cdr.1,
            auth,
            otlp: self.otlp(f.telemetry.otlp.as_ref()),
            hep,
            webhook,
            recorder,
            api,
            credentials,
            drain_timeout: drain_timeout.unwrap_or(Duration::from_secs(900)),
            state_dir,
            secret_files: std::mem::take(&mut self.secret_files),
            page_login: None,
            allow_md5: f.sip.md5.unwrap_or(true),
            allow_sha256: f.sip.sha256.unwrap_or(true),
        })
    }

    fn accounts(
        &mut self,
        users: BTreeMap<String, Spanned<schema::User>>,
        plan: &Plan,
    ) -> BTreeMap<String, Arc<User>> {
        users.into_iter().map(|(n, u)| (n.clone(), Arc::new(self.user(n, u, plan)))).collect()
    }

    /// The trunks that can be used, numbered by the order of their names.
    fn trunks(
        &mut self,
        trunks: BTreeMap<String, Spanned<schema::Trunk>>,
        plan: &Plan,
        stopped: Option<Duration>,
    ) -> BTreeMap<String, Trunk> {
        let checked = trunks
            .into_iter()
            .filter_map(|(n, t)| Some((n.clone(), self.trunk(n, t, plan, stopped)?)));
        let mut trunks: BTreeMap<_, _> = checked.collect();
        trunks.values_mut().enumerate().for_each(|(n, t)| t.number = TrunkNumber(n as u32));
        trunks
    }

    fn own_domain(&mut self, domain: Option<Spanned<String>>) -> String {
        let Some(domain) = domain else {
            let help =
                "add [server] domain = \"calls.example.com\": the SIP domain users register in";
            self.problems.push(
                ConfigProblem::plain("config::domain", "server.domain is missing").help(help),
            );
            return String::new();
        };
        domain.into_inner()
    }

    /// A trunk that is reached over UDP or TCP needs a socket of that kind here.
    fn trunk_listeners<'a>(
        &mut self,
        trunks: impl Iterator<Item = &'a Trunk>,
        listeners: [(UriTransport, Option<SocketAddr>); 3],
    ) {
        for trunk in trunks {
            // A TLS connection of ours needs no listener; requests of the peer come back over it.
            let wanted = trunk.uri.as_ref().and_then(|u| u.transport).unwrap_or(UriTransport::Udp);
            if wanted != UriTransport::Tls
                && listeners.iter().any(|(t, at)| *t == wanted && at.is_none())
            {
                let kind = wanted.as_str();
                let message = format!(
                    "trunk {} is reached over {kind}, but sip.{kind} is not set",
                    trunk.name
                );
                self.problems.push(
                    ConfigProblem::plain("config::listener", message)
                        .help(format!("add [sip] {kind} = \":5060\"")),
                );
            }
        }
    }

    fn digests(&mut self, sip: &schema::Sip) {
        if sip.md5 == Some(false) && sip.sha256 == Some(false) {
            self.problems.push(
                ConfigProblem::plain(
                    "config::digest",
                    "sip.md5 and sip.sha256 are both false, so nobody can log in",
                )
                .help("set at least one of them to true"),
            );
        }
    }

    fn listen(&mut self, text: Option<&Spanned<String>>, key: &str) -> Option<SocketAddr> {
        let at = text?;
        let text = at.as_ref();
        let parsed = around::listener_address(text);
        if parsed.is_none() {
            self.error(
                at,
                "config::address",
                format!("{key} = {text:?} is not an address"),
                "write \":5060\" or \"192.0.2.1:5060\"",
            );
        }
        parsed
    }

    fn duration(&mut self, text: Option<&Spanned<String>>) -> Option<Duration> {
        let at = text?;
        let parsed = humantime::parse_duration(at.as_ref()).ok();
        if parsed.is_none() {
            self.error(
                at,
                "config::duration",
                format!("{:?} is not a duration", at.as_ref()),
                "write \"30s\", \"5m\" or \"1h 30m\"",
            );
        }
        parsed
    }

    fn secret(&mut self, at: &Spanned<schema::SecretText>) -> Secret {
        let text = self.text_of(at);
        if text.trim().is_empty() && !self.problems.last().is_some_and(|p| p.is_at(&at.span())) {
            let help = "make one: `openssl rand -base64 24`; it guards your telephone bill";
            self.error(at, "config::secret", "this secret is empty", help);
        }
        Secret::new(text)
    }

    /// A text from where the file says it is.
    fn text_of(&mut self, at: &Spanned<schema::SecretText>) -> String {
        let text = match at.as_ref() {
            schema::SecretText::Text(text) => Ok(text.clone()),
            schema::SecretText::Env { env } => {
                std::env::var(env).map_err(|_| format!("the environment has no {env}"))
            }
            schema::SecretText::File { file } => {
                let path = self.folder.join(file);
                let read = std::fs::read_to_string(&path);
                self.secret_files.push(path);
                // Some editors begin a file with a mark of its encoding.
                read.map(|t| t.trim_end().trim_start_matches('\u{feff}').to_owned())
                    .map_err(|e| format!("{file} cannot be read: {e}"))
            }
        };
        text.unwrap_or_else(|why| {
            let help = "set it before the start, or write the text itself";
            self.error(at, "config::secret", why, help);
            String::new()
        })
    }

    fn user(&mut self, name: String, user: Spanned<schema::User>, plan: &Plan) -> User {
        let span = user.span();
        let user = user.into_inner();
        let context = match &user.context {
            Some(at) => {
                if plan.context(at.as_ref()).is_none() {
                    self.no_context(at, plan);
                }
                at.as_ref().clone()
            }
            None => "default".into(),
        };
        if user.context.is_none() && plan.context("default").is_none() {
            let message =
                format!("user {name} has no context, and there is no dialplans/default.toml");
            self.problems.push(
                ConfigProblem::at(
                    &self.source,
                    span.start..span.start + 1,
                    "config::context",
                    message,
                )
                .help("add context = \"…\" here, or write dialplans/default.toml")
                .warning(),
            );
        }
        let password = self.secret(&user.password);
        self.password_of(&name, &user, password.reveal());
        User {
            name,
            password,
            did: user.did.map(Spanned::into_inner),
            numbers: user.numbers.into_iter().map(Spanned::into_inner).collect(),
            display_name: user.display_name.map(Spanned::into_inner),
            context,
            max_calls: user.max_calls.map(Spanned::into_inner),
            calls_per_second: user.calls_per_second.map(Spanned::into_inner),
            refer: user.refer.unwrap_or(true),
            fraud_brake: user.fraud_brake.unwrap_or(true),
            tags: user.tags,
            network: None,
            permits: Permits {
                claims: user.claims,
                callees: user
                    .callees
                    .iter()
                    .flat_map(|at| self.patterns(at, std::slice::from_ref(at.as_ref())))
                    .collect(),
            },
        }
    }

    fn no_context(&mut self, at: &Spanned<String>, plan: &Plan) {
        let names: Vec<&str> = plan.written().map(|c| c.name.as_str()).collect();
        let message = format!("there is no dialplan context {:?}", at.as_ref());
        let help = format!(
            "{}contexts are the files in dialplans/: {}",
            suggestion(at.as_ref(), &names),
            first_names(&names)
        );
        self.error(at, "config::context", message, help);
    }

    /// Addresses and networks; what is wrong with naming every address, `why_not` says.
    fn nets(&mut self, list: &[Spanned<String>], why_not: &str) -> Vec<IpNet> {
        let mut nets = Vec::new();
        for at in list {
            let text = at.as_ref();
            match text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
                Ok(net) if net.prefix_len() == 0 => {
                    self.error(
                        at,
                        "config::allow",
                        format!("{text:?} allows every address"),
                        why_not,
                    );
                }
                Ok(net) if is_large(net) => {
                    let message = format!("{text:?} allows a large part of all addresses");
                    self.error(at, "config::allow", message, why_not);
                }
                Ok(net) => nets.push(as_ipv4(net)),
                Err(_) => self.error(
                    at,
                    "config::allow",
                    format!("{text:?} is not an address or network"),
                    "write \"192.0.2.12/32\"",
                ),
            }
        }
        nets
    }
}

/// Whether a network is a large part of all public addresses.
fn is_large(net: IpNet) -> bool {
    let fewest = if net.addr().is_ipv4() { 8 } else { 16 };
    let private = [net.network(), net.broadcast()].into_iter().all(is_private);
    net.prefix_len() < fewest && !private
}

/// A network of IPv4 that is written as one of IPv6: addresses are compared as what they are.
fn as_ipv4(net: IpNet) -> IpNet {
    let IpNet::V6(wide) = net else { return net };
    let mapped = wide.addr().to_ipv4_mapped().zip(wide.prefix_len().checked_sub(96));
    let narrow = mapped.and_then(|(ip, length)| IpNet::new(ip.into(), length).ok());
    narrow.unwrap_or(net)
}

/// serde's words in ours: what is unknown, what was meant, what there is.
fn explain(source: &SourceFile, span: std::ops::Range<usize>, message: &str) -> ConfigProblem {
    // Not by the name it has in the program.
    let object = message.split_once("expected struct ");
    let object = object.map(|(before, _)| format!("{before}expected a table"));
    let message = object.as_deref().unwrap_or(message);
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if let (true, [unknown, known @ ..]) = (message.starts_with("unknown field"), quoted.as_slice())
    {
        let help = format!("{}all keys here: {}", suggestion(unknown, known), known.join(", "));
        return ConfigProblem::at(source, span, "config::key", format!("unknown key `{unknown}`"))
            .help(help);
    }
    let help = if message.starts_with("missing field") {
        "add it; every other key has a default"
    } else {
        "`webtrunk schema config` prints what each key takes; /docs has an example"
    };
    ConfigProblem::at(
        source,
        span,
        "config::syntax",
        message.lines().collect::<Vec<_>>().join("; "),
    )
    .help(help)
}

/// The address the default route leaves by; no packet is sent to find it.
pub fn own_address() -> IpAddr {
    let probe = UdpSocket::bind("0.0.0.0:0").and_then(|s| {
        s.connect("192.0.2.1:9")?;
        s.local_addr()
    });
    probe.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |a| a.ip())
}
