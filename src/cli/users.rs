//! `user`: who may log in to the page's views, in the configuration file and in the gateway that
//! runs by it.

use super::client::{ApiAddress, ApiClient, NotReachable};
use super::{print, random};
use anyhow::{Context, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::Method;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use toml_edit::{DocumentMut, Item, Table, TableLike, value};
use webtrunk::config::password::{MIN_PASSWORD, PasswordHash, is_user_name};
use webtrunk::config::{Config, Problems, check};

#[derive(clap::Args)]
pub(crate) struct UserCommand {
    #[command(subcommand)]
    what: UserAction,
    /// The configuration file, which is changed
    #[arg(short, long, global = true, default_value = "webtrunk.toml", env = "WEBTRUNK_CONFIG")]
    config: PathBuf,
}

#[derive(clap::Subcommand)]
enum UserAction {
    /// Let somebody log in; asks for the password, or reads it from a pipe
    #[command(
        after_help = "Examples:\n  webtrunk user add anna --scope admin\n  webtrunk user add \
            wallboard --generate"
    )]
    Add {
        /// The name to log in by
        name: String,
        /// read looks; write also starts and ends calls; admin also changes the gateway
        #[arg(long, default_value = "read", value_parser = ["read", "write", "admin"])]
        scope: String,
        /// Make a password, and print it
        #[arg(long)]
        generate: bool,
    },
    /// List who may log in, and what each may do
    #[command(after_help = "Examples:\n  webtrunk user list\n  webtrunk user list -o json")]
    List {
        #[arg(long, short, value_enum, default_value_t)]
        output: print::OutputFormat,
    },
    /// Change a password; ends the sessions of that user
    #[command(
        after_help = "Examples:\n  webtrunk user password anna\n  webtrunk user password anna \
            --generate"
    )]
    Password {
        /// Whose
        name: String,
        /// Make a password, and print it
        #[arg(long)]
        generate: bool,
    },
    /// Remove a user; ends the sessions of that user
    #[command(after_help = "Examples:\n  webtrunk user remove anna")]
    Remove {
        /// Whom
        name: String,
    },
}

/// A password nobody can guess, short enough to be copied by hand.
///
/// # Errors
/// The system gives no random bytes.
pub(super) fn generated() -> anyhow::Result<String> {
    Ok(URL_SAFE_NO_PAD.encode(random::<12>()?))
}

/// The hash of a password, as the configuration holds it.
///
/// # Errors
/// The password is too long, or the system gives no random bytes.
pub(super) fn hash_of(password: &str) -> anyhow::Result<String> {
    let hash = PasswordHash::make(password, random()?).map_err(anyhow::Error::msg)?;
    Ok(hash.to_string())
}

/// What somebody types twice, or writes into a pipe once.
fn asked(name: &str) -> anyhow::Result<String> {
    let password = if std::io::stdin().is_terminal() {
        let password = rpassword::prompt_password(format!("Password of {name}: "))?;
        if rpassword::prompt_password("Once more: ")? != password {
            bail!("the two are not the same; nothing was changed");
        }
        password
    } else {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    if password.chars().count() < MIN_PASSWORD {
        bail!(
            "a password has at least {MIN_PASSWORD} characters\n  fix: type a longer one, or have \
             one made with --generate"
        );
    }
    Ok(password)
}

/// A password for `name`, and whether it is to be shown.
fn password(name: &str, generate: bool) -> anyhow::Result<(String, bool)> {
    Ok(if generate { (generated()?, true) } else { (asked(name)?, false) })
}

/// Does what the command says.
///
/// # Errors
/// The file cannot be read or written.
pub(crate) async fn user(args: &UserCommand, reach: &ApiAddress) -> anyhow::Result<ExitCode> {
    let mut file = ConfigurationFile::read(&args.config)?;
    let (done, made) = match &args.what {
        UserAction::List { output } => {
            list(file.users()?, *output);
            return Ok(ExitCode::SUCCESS);
        }
        UserAction::Add { name, scope, generate } => {
            if !is_user_name(name) {
                bail!("{name:?} cannot be a name here\n  fix: use letters, digits and - _ . + @");
            }
            if file.users()?.contains_key(name) {
                bail!(
                    "{name} may log in already\n  fix: `webtrunk user password {name}` changes \
                     the password"
                );
            }
            let (password, show) = password(name, *generate)?;
            let mut user = Table::new();
            user["hash"] = value(hash_of(&password)?);
            user["scope"] = value(scope.as_str());
            file.users()?.insert(name, Item::Table(user));
            (format!("{name} may log in, with the scope {scope}"), show.then_some(password))
        }
        UserAction::Password { name, generate } => {
            if !file.users()?.contains_key(name) {
                bail!(nobody(name));
            }
            let (password, show) = password(name, *generate)?;
            let users = file.users()?;
            let user = users.get_mut(name).and_then(Item::as_table_like_mut);
            let user = user.ok_or_else(|| anyhow!("api.user.{name} is no table"))?;
            user.insert("hash", value(hash_of(&password)?));
            (format!("{name} has another password"), show.then_some(password))
        }
        UserAction::Remove { name } => {
            if file.users()?.remove(name).is_none() {
                bail!(nobody(name));
            }
            (format!("{name} may not log in any more"), None)
        }
    };
    let (is_sound, config) = file.checked();
    if !is_sound {
        print::note("nothing was changed");
        return Ok(ExitCode::from(crate::EXIT_CONFIG));
    }
    file.write()?;
    print::note(&done);
    if let Some(password) = made {
        print::note("The password, shown only once:");
        print::line(&password);
    }
    reload(reach, config.as_ref()).await
}

fn nobody(name: &str) -> String {
    format!("there is no [api.user.{name}]\n  fix: `webtrunk user list` shows who there is")
}

fn list(users: &dyn TableLike, output: print::OutputFormat) {
    let one = |(name, user): (&str, &Item)| {
        let scope = user.get("scope").and_then(Item::as_str).unwrap_or("read");
        json!({ "name": name, "scope": scope })
    };
    print::list(
        &users.iter().map(one).collect(),
        output,
        &[
            print::Column::new("name", |i| print::text(i, "name")),
            print::Column::new("scope", |i| print::text(i, "scope")),
        ],
        "nobody may log in yet; `webtrunk user add NAME --scope admin` lets somebody",
    );
}

/// Has the gateway that runs on this machine read the file again.
async fn reload(reach: &ApiAddress, config: Option<&Config>) -> anyhow::Result<ExitCode> {
    let control = reach.control.clone().or_else(|| config.and_then(|c| c.api.control.clone()));
    let here = ApiAddress { control, ..ApiAddress::default() };
    match ApiClient::new(&here).call(Method::POST, "/reload", None).await {
        Ok(_) => print::note("the running gateway has read the file"),
        Err(e) if e.downcast_ref::<NotReachable>().is_some() => {
            print::note("no gateway runs here; it is read at the next start");
        }
        Err(e) => return Err(e.context("the file is changed, but was not read by the gateway")),
    }
    Ok(ExitCode::SUCCESS)
}

/// The configuration file, to be changed without touching what else stands in it.
struct ConfigurationFile {
    path: PathBuf,
    before: String,
    document: DocumentMut,
}

impl ConfigurationFile {
    fn read(path: &Path) -> anyhow::Result<ConfigurationFile> {
        // A link is followed: the file behind it is changed, not the link.
        let path = std::fs::canonicalize(path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let document = text.parse::<DocumentMut>().map_err(|_| {
            let check = format!("`webtrunk check-config -c {}` shows where", path.display());
            anyhow!("{} is not TOML\n  fix: {check}", path.display())
        })?;
        Ok(ConfigurationFile { path, before: text, document })
    }

    /// The tables `[api.user.…]`.
    fn users(&mut self) -> anyhow::Result<&mut dyn TableLike> {
        let mut table: &mut dyn TableLike = self.document.as_table_mut();
        for name in ["api", "user"] {
            let implicit = || {
                let mut table = Table::new();
                table.set_implicit(true);
                Item::Table(table)
            };
            let item = table.entry(name).or_insert_with(implicit);
            table = item.as_table_like_mut().ok_or_else(|| anyhow!("{name} is no table"))?;
        }
        Ok(table)
    }

    /// Whether the file is no worse than it was, and the configuration if it is sound. A secret
    /// that only the service's environment has is no mistake of this change.
    fn checked(&self) -> (bool, Option<Config>) {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let name = self.path.display().to_string();
        let parse = |text: &str| check::parse(&name, text, folder);
        let problems = match parse(&self.document.to_string()) {
            Ok((config, _)) => return (true, Some(config)),
            Err(problems) => problems,
        };
        let messages = |p: &Problems| -> BTreeSet<String> {
            p.0.iter().filter(|p| !p.warning).map(|p| p.message.clone()).collect()
        };
        print::problems(&problems);
        let before = parse(&self.before).err().map(|p| messages(&p)).unwrap_or_default();
        (messages(&problems).is_subset(&before), None)
    }

    /// Puts the file in the place of the old one in one step, with its owner and its rights.
    fn write(&self) -> anyhow::Result<()> {
        let show = || format!("{} cannot be written", self.path.display());
        let before = std::fs::metadata(&self.path).with_context(show)?;
        let fresh = self.path.with_extension(format!("toml.{}", std::process::id()));
        let written = || {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&fresh)?;
            file.write_all(self.document.to_string().as_bytes())?;
            let now = file.metadata()?;
            if (now.uid(), now.gid()) != (before.uid(), before.gid()) {
                fchown(&file, Some(before.uid()), Some(before.gid()))?;
            }
            file.set_permissions(before.permissions())?;
            file.sync_all()?;
            std::fs::rename(&fresh, &self.path)
        };
        written().inspect_err(|_| drop(std::fs::remove_file(&fresh))).with_context(show)
    }
}
