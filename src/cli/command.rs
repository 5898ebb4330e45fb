//! The commands of `webtrunk`, and what each takes.

use super::print;
use super::{call, local, look, peers, records, steer, trace, users};
use clap::Subcommand;
use std::net::IpAddr;
use std::path::PathBuf;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the gateway
    #[command(
        after_help = "Examples:\n  webtrunk serve -c /etc/webtrunk/webtrunk.toml\n  webtrunk serve --log json\n\n\
        SIGTERM drains: new calls get 503 with Retry-After, active calls continue; a second\nsignal, or server.drain_timeout, ends them with BYE. SIGHUP reloads."
    )]
    Serve {
        /// The configuration file; dialplans are read from the folder `dialplans` beside it
        #[arg(short, long, default_value = "webtrunk.toml", env = "WEBTRUNK_CONFIG")]
        config: PathBuf,
        /// Take the place of the gateway with this control socket: its sockets and its calls
        #[arg(long, value_name = "PATH")]
        take_over: Option<PathBuf>,
    },
    /// Run a phone in the browser without a configuration: echo, tones, a real trunk on this
    /// machine
    #[command(
        after_help = "Examples:\n  webtrunk demo\n  webtrunk demo --port 9000 --ip 192.168.1.5"
    )]
    Demo {
        /// Port of the page (TCP) and of the media of browsers (UDP)
        #[arg(long, default_value_t = 8088)]
        port: u16,
        /// Address the page listens on; 0.0.0.0 in a container
        #[arg(long, default_value = "127.0.0.1")]
        listen: String,
        /// Another address to offer to browsers, such as that of this machine in the local network
        #[arg(long)]
        ip: Option<IpAddr>,
        /// Write call records to this file
        #[arg(long)]
        cdr: Option<PathBuf>,
    },
    /// Write a configuration, dialplans and the peer's half of a trunk
    #[command(
        after_help = "Examples:\n  webtrunk init --trunk asterisk --host 10.0.0.20\n  webtrunk \
            init --trunk telnyx --dir /etc/webtrunk --domain calls.example.com"
    )]
    Init(peers::Init),
    /// List active calls; with --all also ended ones, and what happened to them
    #[command(
        after_help = "Examples:\n  webtrunk calls --watch\n  webtrunk calls --all --user alice -o \
            jsonl"
    )]
    Calls(look::Calls),
    /// Make a test call without a browser; prints a score
    #[command(
        after_help = "Examples:\n  webtrunk call 9196\n  webtrunk call +12065550123 --as alice \
            --for 15s --min-mos 3.8 --record out.wav\n  webtrunk call +12065550123 --via \
            trunk:telnyx --speech\n\nExit codes: 5 the call failed or nothing was heard, 6 the \
            score is below --min-mos."
    )]
    Call(Box<call::CallArgs>),
    /// Find out how many calls this machine carries
    #[command(
        after_help = "Examples:\n  webtrunk bench --calls 50 --codec pcmu\n  webtrunk bench \
            --calls 200 --rate 50 -o json"
    )]
    Bench(call::bench::Bench),
    /// Show a call as a ladder: the messages of both legs, the media, and what went wrong
    #[command(after_help = "Examples:\n  webtrunk trace --last\n  webtrunk trace 7f3a --full\n  \
            webtrunk trace 7f3a --pcap call.pcap\n  webtrunk trace 7f3a --diff 1,3")]
    Trace(trace::Trace),
    /// Watch calls and trunks in the terminal; Enter draws the ladder of a call
    #[command(
        after_help = "Examples:\n  webtrunk top\n  webtrunk top --api https://calls.example.com \
            --token …\n\nKeys: arrows, Enter ladder, f whole messages, / filter, x hang up, q \
            back or quit."
    )]
    Top,
    /// List registered users and their addresses
    #[command(
        after_help = "Examples:\n  webtrunk registrations\n  webtrunk registrations --node all\n  \
            webtrunk registrations -o json"
    )]
    Registrations {
        /// Of this node of the cluster, or of "all" [default: the gateway that is asked]
        #[arg(long, value_name = "NAME")]
        node: Option<String>,
        #[arg(long, short, value_enum, default_value_t)]
        output: print::OutputFormat,
    },
    /// List trunks: health, success rates, last failure
    #[command(
        after_help = "Examples:\n  webtrunk trunks\n  webtrunk trunks probe telnyx\n  webtrunk \
            trunks disable telnyx"
    )]
    Trunks {
        #[command(subcommand)]
        what: Option<look::TrunksCommand>,
        /// Of this node of the cluster, or of "all" [default: the gateway that is asked]
        #[arg(long, value_name = "NAME")]
        node: Option<String>,
        #[arg(long, short, value_enum, default_value_t, global = true)]
        output: print::OutputFormat,
    },
    /// List the nodes of the cluster: lease, version, calls, registrations, load
    #[command(after_help = "Examples:\n  webtrunk nodes\n  webtrunk nodes -o json")]
    Nodes {
        #[arg(long, short, value_enum, default_value_t)]
        output: print::OutputFormat,
    },
    /// End a call, or close a user's connections
    #[command(after_help = "Examples:\n  webtrunk kick 7f3a\n  webtrunk kick user:alice")]
    Kick(steer::KickArgs),
    /// Refuse new calls and wait until the last one has ended
    #[command(after_help = "Examples:\n  webtrunk drain --timeout 15m\n  webtrunk drain --cancel")]
    Drain(steer::Drain),
    /// Wait for the process that took this one's place
    #[command(hide = true)]
    Guard,
    /// Start a new process in the place of the running one; active calls continue
    #[command(
        after_help = "Examples:\n  webtrunk upgrade\n  webtrunk upgrade --binary /opt/webtrunk-next/webtrunk --wait 30s\n\n\
        The new process reads the configuration, takes the sockets and the calls, and the old one\nends. If the new one does not come up, the old one continues, and the exit code is 1."
    )]
    Upgrade(steer::UpgradeArgs),
    /// Read the configuration again; active calls continue
    #[command(
        after_help = "Examples:\n  webtrunk check-config && webtrunk reload\n  webtrunk reload \
            --control /run/webtrunk/control.sock"
    )]
    Reload,
    /// Follow events: one JSON object per line
    #[command(
        after_help = "Examples:\n  webtrunk events\n  webtrunk events --type 'call.ended,trunk.*'"
    )]
    Events(look::EventsArgs),
    /// Show the log lines of one call
    #[command(after_help = "Examples:\n  webtrunk logs --call 7f3a\n  webtrunk logs --call last")]
    Logs {
        /// The call, as `webtrunk calls --all` shows it, or "last"
        #[arg(long)]
        call: String,
    },
    /// Show or export call records
    #[command(
        after_help = "Examples:\n  webtrunk cdr tail\n  webtrunk cdr export --from 2026-11-01 \
            --format csv"
    )]
    Cdr(records::CdrArgs),
    /// Check that a gateway runs and accepts calls
    #[command(after_help = "Examples:\n  webtrunk readyz\n  webtrunk readyz --api \
            https://calls.example.com --token …")]
    Readyz,
    /// List the ports that a firewall must let in
    #[command(after_help = "Examples:\n  webtrunk ports\n  webtrunk ports --ufw | sudo sh")]
    Ports {
        #[command(flatten)]
        args: local::Ports,
        #[arg(short, long, default_value = "webtrunk.toml", env = "WEBTRUNK_CONFIG")]
        config: PathBuf,
    },
    /// Check addresses, ports, limits, clock, certificates and names; each line is ok or has its
    /// fix
    #[command(after_help = "Examples:\n  webtrunk doctor\n  webtrunk doctor -c \
            /etc/webtrunk/webtrunk.toml --stun stun.example.com:3478")]
    Doctor {
        #[arg(short, long, default_value = "webtrunk.toml", env = "WEBTRUNK_CONFIG")]
        config: PathBuf,
        /// Ask this STUN server for the address the gateway has from outside
        #[arg(long, value_name = "HOST:PORT")]
        stun: Option<String>,
    },
    /// Make short-lived credentials for a browser
    #[command(
        after_help = "Examples:\n  webtrunk token alice --ttl 10m\n  webtrunk token visitor-1 \
            --context click-to-call"
    )]
    Token(steer::TokenArgs),
    /// Make a token for the API, and its lines of the configuration
    #[command(
        after_help = "Examples:\n  webtrunk api-token dashboard\n  webtrunk api-token deploy \
            --scope admin"
    )]
    ApiToken {
        /// The name of the token in the configuration and the log
        name: String,
        /// read looks; write also starts and ends calls; admin also changes the gateway
        #[arg(long, default_value = "read", value_parser = ["read", "write", "admin"])]
        scope: String,
    },
    /// List and change who may log in to the page's views of calls, trunks and settings
    #[command(
        after_help = "Examples:\n  webtrunk user add anna --scope admin\n  webtrunk user list\n  \
            webtrunk user password anna\n\nThe password is kept as an argon2id hash in \
            [api.user.NAME]. Telephones are [user.NAME]."
    )]
    User(users::UserCommand),
    /// Explain a code such as WT-2107, and what to do
    #[command(after_help = "Examples:\n  webtrunk explain WT-2107\n  webtrunk explain")]
    Explain {
        /// The code; without one, all of them are listed
        code: Option<String>,
        #[arg(long, short, value_enum, default_value_t)]
        output: print::OutputFormat,
    },
    /// Print the description of the API, OpenAPI 3.1
    #[command(
        after_help = "Examples:\n  webtrunk openapi > openapi.json\n  webtrunk openapi | jq \
            '.paths | keys'"
    )]
    Openapi,
    /// Print the JSON Schema of the configuration, dialplans, events, records or webhooks
    #[command(after_help = "Examples:\n  webtrunk schema config > config.json\n  webtrunk schema")]
    Schema {
        /// The name of the schema; without one, their names are listed
        name: Option<String>,
        #[arg(long, short, value_enum, default_value_t)]
        output: print::OutputFormat,
    },
    /// Print completions for a shell
    #[command(
        after_help = "Examples:\n  webtrunk completions bash > /etc/bash_completion.d/webtrunk\n  \
            webtrunk completions zsh > _webtrunk"
    )]
    Completions { shell: clap_complete::Shell },
    /// Print the manual page, or write those of all commands into a folder
    #[command(after_help = "Examples:\n  webtrunk man | man -l -\n  webtrunk man --dir \
            /usr/local/share/man/man1")]
    Man {
        /// The folder to write webtrunk.1 and a page for each command to
        #[arg(long, value_name = "FOLDER")]
        dir: Option<PathBuf>,
    },
    /// Check the configuration and every dialplan, without opening a port
    #[command(after_help = "Examples:\n  webtrunk check-config\n  webtrunk check-config -c \
            /etc/webtrunk/webtrunk.toml && systemctl restart webtrunk")]
    CheckConfig {
        #[arg(short, long, default_value = "webtrunk.toml", env = "WEBTRUNK_CONFIG")]
        config: PathBuf,
        /// Also check addresses, ports, names and certificates, as `webtrunk doctor` does
        #[arg(long)]
        online: bool,
        /// With --online: ask this STUN server for the address the gateway has from outside
        #[arg(long, value_name = "HOST:PORT", requires = "online")]
        stun: Option<String>,
    },
    /// Test the dialplan
    #[command(subcommand)]
    Dialplan(DialplanCommand),
}

#[derive(Subcommand)]
pub(crate) enum DialplanCommand {
    /// Show each route, and why it does or does not match a number
    #[command(
        after_help = "Examples:\n  webtrunk dialplan test \"(206) 555-0123\" --as user:alice\n  \
            webtrunk dialplan test +12065550111 --as trunk:telnyx -c webtrunk.toml"
    )]
    Test {
        /// The number as dialled
        number: String,
        /// The caller, user:NAME or trunk:NAME [default: the first user]
        #[arg(long = "as")]
        caller: Option<String>,
        /// The time of the call, such as 2026-12-25T10:00:00Z [default: now]
        #[arg(long)]
        at: Option<String>,
        #[arg(short, long, default_value = "webtrunk.toml", env = "WEBTRUNK_CONFIG")]
        config: PathBuf,
    },
}
