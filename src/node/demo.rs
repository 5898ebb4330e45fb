//! The demo: one node for the page, and a second one as a real SIP trunk on loopback with a far end
//! of its own.

use super::{Control, Node, Origin, random};
use crate::config::Config;
use crate::config::check::{own_address, parse_embedded};
use anyhow::anyhow;
use std::fmt::Write as _;
use std::net::IpAddr;

const DIALPLAN: &str = include_str!("../../dialplans/demo.toml");
const FAR_END: &str = include_str!("../../dialplans/far-end.toml");

/// Both nodes of the demo.
pub struct Demo {
    /// The one the page is of.
    pub phone: Node,
    /// The one that answers.
    pub far_end: Node,
}

/// What the command line may change.
#[derive(Clone, Debug)]
pub struct Options {
    /// An address, or empty for loopback.
    pub listen: String,
    /// The port of the page; 0 for any.
    pub port: u16,
    /// A further address to offer to browsers, such as the host's in a container.
    pub ip: Option<IpAddr>,
    /// One JSON object a line.
    pub cdr_file: Option<std::path::PathBuf>,
    /// The control socket's place; `None`: the usual one.
    pub control: Option<std::path::PathBuf>,
}

fn checked(text: &str, dialplans: &[(&str, &str)]) -> anyhow::Result<Config> {
    parse_embedded(text, dialplans)
        .map(|(config, _)| config)
        .map_err(|problems| anyhow!("{problems}"))
}

impl Demo {
    /// Starts both.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start(options: &Options) -> anyhow::Result<Demo> {
        let far_end = Node::start(far_end_config()?).await?;
        let trunk = far_end.udp.ok_or_else(|| anyhow!("the far end has no UDP port"))?;
        let password = random::<16>()?.iter().fold(String::new(), |mut text, b| {
            let _ = write!(text, "{b:02x}");
            text
        });
        let text = format!(
            "[server]\ndomain = \"demo.invalid\"\npublic_ip = \"127.0.0.1\"\n[web]\n\
             listen = \"{}:{}\"\n[sip]\nudp = \"127.0.0.1:0\"\n[media]\nbrowser_port = {}\n\
             workers = 1\nports = \"20000-29999\"\n[limits]\ncalls_per_user = 10\n[credentials]\n\
             secret = \"{password}\"\n[user.demo]\npassword = \"{password}\"\n\
             did = \"+12065550100\"\ndisplay_name = \"Demo\"\ncontext = \"demo\"\n\
             [trunk.loopback]\nuri = \"sip:{trunk}\"\ncodecs = [\"pcmu\", \"pcma\"]\n\
             context = \"demo\"\n",
            options.listen, options.port, options.port
        );
        let mut config = checked(&text, &[("demo", DIALPLAN)])?;
        config.page_login = Some(("demo".into(), password));
        config.cdr_file.clone_from(&options.cdr_file);
        // Media is where the page is: nobody else's business unless the page is everybody's.
        let at = config.web_listen.ip();
        if at.is_unspecified() {
            config.public_ips.extend(options.ip.into_iter().chain([own_address()]));
        } else {
            config.media.bind = Some(at);
            config.public_ips.splice(.., [at].into_iter().chain(options.ip));
        }
        config.public_ips.dedup();
        let control = Control::IfFree(options.control.clone());
        let origin = Origin { control, ..Origin::default() };
        let phone = Node::start_from(config, origin).await?;
        Ok(Demo { phone, far_end })
    }
}

fn far_end_config() -> anyhow::Result<Config> {
    let text = "[server]\ndomain = \"far-end.invalid\"\npublic_ip = \"127.0.0.1\"\n[web]\n\
                listen = \"127.0.0.1:0\"\n[sip]\nudp = \"127.0.0.1:0\"\n[media]\n\
                bind = \"127.0.0.1\"\nbrowser_port = 0\nworkers = 1\nports = \"30000-39999\"\n\
                [trunk.phone]\nuri = \"sip:127.0.0.1:5060\"\nallow = [\"127.0.0.1/32\"]\n\
                context = \"far-end\"\n";
    checked(text, &[("far-end", FAR_END)])
}
