//! A node as its lease describes it, signed by the cluster's key.

use super::keys::ClusterKeys;
use super::store::{MAX_VALUE, Process};
use super::token::short;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// What the mark of a node begins with.
pub(super) const MARK: &str = "-n";

/// How much a node does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NodeLoad {
    /// Calls it has.
    pub calls: usize,
    /// Bindings of its users.
    pub registrations: usize,
    /// New calls it would take now.
    pub calls_left: usize,
    /// It takes no new calls.
    pub draining: bool,
}

/// A node as its lease says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub node: String,
    /// Tells its process from earlier ones.
    pub epoch: u64,
    /// Renewals since it began.
    pub beat: u64,
    /// Where the others reach it.
    pub advertise: SocketAddr,
    /// Of webtrunk.
    pub version: String,
    /// As of its last renewal.
    pub load: NodeLoad,
    /// Trunks it registers with, where one node does.
    #[serde(default)]
    pub registers: Vec<String>,
    /// Users with more than one call there, in short, and how many.
    #[serde(default)]
    pub busy: Vec<(u64, u32)>,
    /// The address that moves to the node that takes its calls over.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// Processes whose calls it took over, the newest last.
    #[serde(default)]
    pub taken: Vec<Process>,
    /// What its process was before: nobody finds calls by these names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<Process>,
    /// What it is to have in common with the others; 0 if it does not say.
    #[serde(default)]
    pub config: u64,
    /// The form in which it keeps its calls; 0 if it does not say.
    #[serde(default)]
    pub form: u16,
}

impl Member {
    /// Its process.
    pub fn process(&self) -> Process {
        Process { node: self.node.clone(), epoch: self.epoch }
    }

    /// Whether it is configured otherwise than one of this number; other versions may read the same
    /// file otherwise.
    pub fn differs(&self, config: u64) -> bool {
        self.config != 0 && config != 0 && self.config != config && self.is_of_this_version()
    }

    /// One of this name that tells nothing else.
    #[cfg(test)]
    pub(super) fn named(node: &str, epoch: u64, advertise: SocketAddr) -> Member {
        Member {
            node: node.to_owned(),
            epoch,
            beat: 1,
            advertise,
            version: String::new(),
            load: NodeLoad::default(),
            registers: Vec::new(),
            busy: Vec::new(),
            address: None,
            taken: Vec::new(),
            former: Vec::new(),
            config: 0,
            form: 0,
        }
    }

    fn is_of_this_version(&self) -> bool {
        self.version == env!("CARGO_PKG_VERSION")
    }
}

/// What tags and branches of a node end with.
pub(super) fn mark_of(node: &str) -> String {
    format!("{MARK}{:08x}", short(Some(node)) >> 32)
}

/// Whether a tag or branch ends with what those of a node do.
pub(super) fn is_marked(text: &str) -> bool {
    let mark = text.rfind(MARK).and_then(|at| text.get(at + MARK.len()..));
    mark.is_some_and(|mark| mark.len() == 8 && mark.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// What the record of a node is signed as.
pub(super) fn name_of(node: &str) -> String {
    format!("node {node}")
}

/// Why a lease is not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LeaseFault {
    /// It is not signed by our key, or not as this node's.
    OtherKey,
    /// It is, and what it says is known to newer versions only.
    Newer,
}

/// The lease of a node.
///
/// # Errors
/// It is not believed, or not understood.
pub(crate) fn read(keys: &ClusterKeys, node: &str, value: &str) -> Result<Member, LeaseFault> {
    let sealed = value.split_at_checked(16).filter(|_| value.len() <= MAX_VALUE);
    let (epoch, sealed) = sealed.ok_or(LeaseFault::OtherKey)?;
    let text = keys.open(&name_of(node), sealed).ok_or(LeaseFault::OtherKey)?;
    let member: Member = serde_json::from_str(text).map_err(|_| LeaseFault::Newer)?;
    let sound = member.node == node && u64::from_str_radix(epoch, 16) == Ok(member.epoch);
    sound.then_some(member).ok_or(LeaseFault::OtherKey)
}

/// A lease of node b that says `text`, whoever wrote that.
///
/// # Errors
/// It is not believed, or not understood.
#[cfg(any(fuzzing, test))]
pub(super) fn read_signed(keys: &ClusterKeys, text: &str) -> Result<Member, LeaseFault> {
    read(keys, "b", &format!("{:016x}{}", 7, keys.seal(&name_of("b"), text)))
}
