//! `init`: a configuration, a dialplan, and the peer's own half of the trunk.

use super::countries::CountryPlans;
use super::{ask, print};
use anyhow::Context;
use base64::Engine as _;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use webtrunk::private;

/// Peers whose half is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum KnownPeer {
    Asterisk,
    Freeswitch,
    Twilio,
    Telnyx,
    Generic,
}

#[derive(clap::Args, Clone, Default)]
pub(crate) struct Init {
    /// The kind of trunk [default: generic; on a terminal, init without flags asks]
    #[arg(long, value_enum)]
    pub(super) trunk: Option<KnownPeer>,
    /// Its host [default: the carrier's]
    #[arg(long, value_parser = ask::host)]
    pub(super) host: Option<String>,
    /// The folder to write to; existing files are never overwritten
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// The SIP domain users register in [default: calls.example.com]
    #[arg(long, value_parser = ask::domain)]
    pub(super) domain: Option<String>,
    /// The number of alice, and her caller id [default: an example of the country's]
    #[arg(long, value_parser = ask::number)]
    pub(super) number: Option<String>,
    /// The country whose numbers are dialled, such as DE [default: that of --number, or US]
    #[arg(long, value_name = "CODE")]
    pub(super) country: Option<String>,
    /// The port of the page and the WebSocket
    #[arg(long, default_value_t = 8088)]
    port: u16,
}

/// The domain if none is named.
pub(super) const DOMAIN: &str = "calls.example.com";

struct PeerKind {
    name: &'static str,
    /// Lines of `[trunk.…]`, with HOST.
    trunk: &'static str,
    host: &'static str,
    /// The variable that holds its password, if the file names one.
    secret: Option<&'static str>,
    /// Files and texts of the peer's half; a carrier's portal has none.
    half: &'static [(&'static str, &'static str)],
    next: &'static str,
}

const ASTERISK: &str = r#"; webtrunk as a trunk of this Asterisk: append to pjsip.conf, then `asterisk -rx "pjsip reload"`.
[webtrunk]
type = endpoint
transport = transport-udp          ; the name of your UDP transport
context = from-webtrunk            ; where calls from browsers arrive in extensions.conf
disallow = all
allow = alaw,ulaw
dtmf_mode = rfc4733
direct_media = no
rtp_symmetric = yes
aors = webtrunk
from_domain = DOMAIN

[webtrunk]
type = aor
contact = sip:WEBTRUNK:5060
qualify_frequency = 30

[webtrunk]
type = identify
endpoint = webtrunk
match = WEBTRUNK

; extensions.conf: calls to browsers, and a number to try.
; [from-webtrunk]
; exten = _+X.,1,Dial(PJSIP/${EXTEN}@your-carrier)
; exten = 9196,1,Answer()
;  same = n,Echo()
; [somewhere]
; exten = _X.,1,Dial(PJSIP/${EXTEN}@webtrunk)
"#;

/// The files of `interop/freeswitch`, where webtrunk's address is that of docker-compose.yml.
const FREESWITCH: &[(&str, &str)] = &[
    (
        "freeswitch-gateway.xml",
        include_str!("../../interop/freeswitch/sip_profiles/external/webtrunk.xml"),
    ),
    (
        "freeswitch-public.xml",
        include_str!("../../interop/freeswitch/dialplan/public/webtrunk.xml"),
    ),
    (
        "freeswitch-default.xml",
        include_str!("../../interop/freeswitch/dialplan/default/webtrunk.xml"),
    ),
    (
        "freeswitch-acl.xml",
        include_str!("../../interop/freeswitch/autoload_configs/acl.webtrunk.xml"),
    ),
];
const FREESWITCH_NEXT: &str =
    "on FreeSWITCH, copy freeswitch-gateway.xml to sip_profiles/external/webtrunk.xml,
      freeswitch-public.xml and freeswitch-default.xml to dialplan/public/webtrunk.xml and
      dialplan/default/webtrunk.xml, and put freeswitch-acl.xml into <network-lists> of
      autoload_configs/acl.conf.xml; then
      fs_cli -x reloadxml && fs_cli -x reloadacl
      fs_cli -x \"sofia profile external rescan reloadxml\"
      and here";

fn kind(peer: KnownPeer) -> PeerKind {
    match peer {
        KnownPeer::Asterisk => PeerKind {
            name: "asterisk",
            trunk: "uri     = \"sip:HOST:5060\"\ncodecs  = [\"pcma\", \"pcmu\"]\nprobe   = \
                \"30s\"\ncontext = \"from-trunk\"\n",
            host: "10.0.0.20",
            secret: None,
            half: &[("asterisk-pjsip.conf", ASTERISK)],
            next: "append asterisk-pjsip.conf to Asterisk's pjsip.conf and reload it there",
        },
        KnownPeer::Freeswitch => PeerKind {
            name: "freeswitch",
            trunk: "uri     = \"sip:HOST:5080\"\ncodecs  = [\"pcma\", \"pcmu\"]\nprobe   = \
                \"30s\"\ncontext = \"from-trunk\"\nrefer   = \"execute\"          # its transfers \
                (deflect) are made here\n",
            host: "10.0.0.20",
            secret: None,
            half: FREESWITCH,
            next: FREESWITCH_NEXT,
        },
        KnownPeer::Twilio => PeerKind {
            name: "twilio",
            trunk: "uri      = \"sip:HOST;transport=tls\"   # Elastic SIP Trunking → Termination \
                → your domain\nusername = \"webtrunk\"                  # Termination → \
                Authentication → Credential Lists\npassword = { env = \"TWILIO_PASSWORD\" \
                }\ncodecs   = [\"pcmu\"]\nallow    = [\"54.172.60.0/30\", \"54.244.51.0/30\", \
                \"35.156.191.128/30\", \"54.171.127.192/30\"]\ncontext  = \"from-trunk\"\n",
            host: "example.pstn.twilio.com",
            secret: Some("TWILIO_PASSWORD"),
            half: &[],
            next: "in Twilio's console: Termination domain and credential list as in the file; \
                Origination URI sip:YOUR-ADDRESS:5060",
        },
        KnownPeer::Telnyx => PeerKind {
            name: "telnyx",
            trunk: "uri      = \"sip:HOST;transport=tls\"\nusername = \
                \"acme42\"                   # SIP Trunking → Authentication → \
                Credentials\npassword = { env = \"TELNYX_PASSWORD\" }\ncodecs   = \
                [\"pcmu\"]\nallow    = [\"192.76.120.10\", \"64.16.250.10\"]\ncontext  = \
                \"from-trunk\"\nprobe    = \"30s\"\n",
            host: "sip.telnyx.com",
            secret: Some("TELNYX_PASSWORD"),
            half: &[],
            next: "in Telnyx's portal: a SIP connection with these credentials, and your number \
                assigned to it",
        },
        KnownPeer::Generic => PeerKind {
            name: "carrier",
            trunk: "uri      = \"sip:HOST\"\n# username = \"…\"                      # if the \
                carrier asks for credentials\n# password = { env = \"CARRIER_PASSWORD\" \
                }\ncodecs   = [\"pcmu\", \"pcma\"]\ncontext  = \"from-trunk\"\n",
            host: "192.0.2.10",
            secret: None,
            half: &[],
            next: "give the carrier your public address, and have it send your numbers there on \
                port 5060",
        },
    }
}

/// Whether a host is an address, with a port or without.
fn is_address(host: &str) -> bool {
    let alone = host.trim_matches(['[', ']']).parse::<IpAddr>();
    alone.is_ok() || host.parse::<SocketAddr>().is_ok()
}

/// HOST in a template; a port of its own takes the place of the template's.
fn with_host(template: &str, host: &str) -> String {
    let port = host
        .rsplit_once(':')
        .is_some_and(|(name, port)| !name.ends_with(':') && port.parse::<u16>().is_ok());
    let text = if port {
        template.replace("HOST:5060", "HOST").replace("HOST:5080", "HOST")
    } else {
        template.to_owned()
    };
    text.replace("HOST", host)
}

/// A file of the peer's half, with our address and domain in it.
fn half(text: &str, ours: &str, domain: &str) -> String {
    text.replace("WEBTRUNK", ours)
        .replace("DOMAIN", domain)
        .replace("10.88.0.2", ours)
        .replace(r"10\.88\.0\.2", &ours.replace('.', r"\."))
}

/// What to do next, one step a line, as it is typed.
fn steps(kind: &PeerKind, folder: &str) -> String {
    let mut steps = kind.next.to_owned();
    if let Some(secret) = kind.secret {
        // Typed unseen, and not in the shell's history.
        let typed = format!("read -rs {secret} && export {secret}");
        let _ = write!(steps, "; type its password after\n      {typed}\n      and then");
    }
    let _ = write!(
        steps,
        "\n      webtrunk check-config{folder}\n      webtrunk serve{folder}\n      \
         and in a second terminal\n      webtrunk trunks probe {}",
        kind.name
    );
    steps
}

/// Writes the files.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn init(args: &Init) -> anyhow::Result<ExitCode> {
    let mut args = args.clone();
    if args.wants_to_ask() {
        args.ask(&mut std::io::stdin().lock(), &mut std::io::stderr())?;
    }
    let kind = kind(args.trunk.unwrap_or(KnownPeer::Generic));
    let domain = args.domain.as_deref().unwrap_or(DOMAIN);
    let plans = CountryPlans::of(args.country.as_deref(), args.number.as_deref())?;
    let host = args.host.as_deref().unwrap_or(kind.host);
    let ours = webtrunk::config::check::own_address().to_string();
    let word = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let password = word(&super::random::<9>()?);
    let secret = word(&super::random::<32>()?);
    let admin = super::users::generated()?;
    let zone = jiff::tz::TimeZone::system();
    let zone = zone.iana_name().unwrap_or("UTC");
    let mut config = format!(
        "[server]\ndomain    = \"{}\"\npublic_ip = \"auto\"          # the address at which browsers and the trunk reach this machine\n\n\
         [web]\nlisten = \":{}\"             # page, API and SIP over WebSocket\n# tls  = \"acme\"             # browsers elsewhere need https for the microphone: Certificates in the book\n\n\
         [sip]\nudp = \":5060\"\n\n[media]\nbrowser_port = {}          # UDP, one for all browsers\nports = \"20000-29999\"       # UDP, for the trunk\n\n\
         [events]\ncdr = {{ file = \"cdr.jsonl\" }}\n\n\
         [fraud]                    # a brake on what a stolen password costs; see WT-1113\nhours = {{ tz = \"{zone}\", open = [\"daily 06:00-22:00\"] }}   # outside them: usual countries only\n\n\
         [api.user.admin]           # logs in to the page's views of calls, trunks and settings\nhash  = \"{}\"\nscope = \"admin\"\n\n[credentials]              # short-lived logins for pages of yours: POST /api/v1/credentials\nsecret = \"{secret}\"\n\n[user.alice]\npassword = \"{password}\"\ndid      = \"{}\"\ncontext  = \"outbound\"\n\n",
        domain,
        args.port,
        args.port,
        super::users::hash_of(&admin)?,
        args.number.as_deref().unwrap_or(plans.number())
    );
    let trunk = with_host(kind.trunk, host);
    let _ = writeln!(config, "[trunk.{}]\n{}", kind.name, trunk.trim_end());
    if !trunk.contains("\nallow") && !is_address(host) {
        let told = "the addresses its calls come from: a name says none";
        let _ = writeln!(config, "# allow = [\"192.0.2.10\"]      # {told}");
    }
    let mut files = vec![
        ("webtrunk.toml".to_owned(), config),
        ("dialplans/outbound.toml".to_owned(), plans.outbound(kind.name)),
        ("dialplans/from-trunk.toml".to_owned(), plans.inbound()),
    ];
    files.extend(
        kind.half.iter().map(|(name, text)| ((*name).to_owned(), half(text, &ours, domain))),
    );
    if let Some((taken, _)) = files.iter().find(|(name, _)| args.dir.join(name).exists()) {
        anyhow::bail!(
            "{} exists already and is not overwritten; choose another --dir",
            args.dir.join(taken).display()
        );
    }
    for (name, text) in &files {
        write(&args.dir.join(name), text)?;
        print::line(&format!("wrote {}", args.dir.join(name).display()));
    }
    let folder = if args.dir == Path::new(".") {
        String::new()
    } else {
        format!(" -c {}", args.dir.join("webtrunk.toml").display())
    };
    print::line(&format!(
        "\nNext: {}\n      open http://localhost:{} and log in as alice, password {password}\n      \
         open http://localhost:{}/#/calls and log in as admin, password {admin} (shown only once)",
        steps(&kind, &folder),
        args.port,
        args.port
    ));
    Ok(ExitCode::SUCCESS)
}

/// A peer's half holds no secret, and is read by the peer's service once it is copied there.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        private::folder_of_configuration(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    let written = if path.extension().is_some_and(|e| e == "toml") {
        private::write_configuration(path, text.as_bytes())
    } else {
        std::fs::write(path, text)
    };
    written.with_context(|| format!("{} cannot be written", path.display()))
}
