//! What became of the calls of this node's earlier processes, asked once at its start: another node
//! may have taken them over, and nobody may from then on.

use super::calls::{TAKE_OVER, TakeOverAnswer};
use super::{Dialler, StoreKeys, text};
use crate::cluster::store::{CALLS, CLAIM, Process};
use crate::cluster::succession::closed_by;
use crate::config::ClusterSettings;
use anyhow::anyhow;

/// Keys that are looked through at once.
const PAGE: usize = 1_000;

/// Calls that other nodes took of earlier processes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct TakenCallNames {
    /// Values of these names.
    pub names: Vec<String>,
    /// All of the last process, so long ago that their names are not known any more. Of which it
    /// was only its machine can be sure: the number of one tells when it began by a clock that may
    /// have been put back since, and of one whose calls nobody took the store soon knows nothing.
    pub all: bool,
}

/// Asks what other nodes took of this one's earlier processes; nobody takes the rest any more.
/// `last`: the process whose calls this machine has, if that is known.
///
/// # Errors
/// The store cannot be asked.
pub(crate) async fn taken_of_earlier(
    settings: &ClusterSettings,
    domain: &str,
    last: Option<u64>,
) -> anyhow::Result<TakenCallNames> {
    let mut dialler = Dialler::new(&settings.store)?;
    let mut connection = dialler.connect().await.map_err(|why| anyhow!("{why}"))?;
    let keys = StoreKeys::new(domain);
    let start = keys.calls_of_node(&settings.node);
    let pattern = format!("{}*", escaped(&start));
    let (mut epochs, mut cursor) = (Vec::new(), 0u64);
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(PAGE);
        let (next, found): (u64, Vec<Vec<u8>>) = scan.query_async(&mut connection).await?;
        let names = found.into_iter().filter_map(text);
        epochs.extend(
            names.filter_map(|key| u64::from_str_radix(key.strip_prefix(&start)?, 16).ok()),
        );
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    epochs.sort_unstable();
    epochs.dedup();
    let (own, mut taken) = (settings.node.clone(), TakenCallNames::default());
    let by = closed_by(&own).mark();
    let last = last.or_else(|| epochs.last().copied());
    for epoch in epochs {
        let of = Process { node: own.clone(), epoch };
        let (what, owner, names, known): TakeOverAnswer = redis::cmd("EVAL")
            .arg(TAKE_OVER)
            .arg(4)
            .arg(keys.lease(&own))
            .arg(keys.calls(&of))
            .arg(keys.taken(&of))
            .arg(keys.none_taken(&of))
            .arg(&by)
            .arg(format!("{epoch:016x}"))
            .arg(CLAIM.as_millis() as u64)
            .arg(CALLS.as_millis() as u64)
            .arg(1)
            .arg(0)
            .query_async(&mut connection)
            .await?;
        // One that had them closed itself has them still.
        let is_taken = what == "taken" && owner != of.mark().as_bytes();
        taken.all |= Some(epoch) == last && is_taken && known == 0;
        if is_taken {
            taken.names.extend(names.into_iter().filter_map(text));
        }
    }
    Ok(taken)
}

/// As a pattern that fits nothing else.
fn escaped(text: &str) -> String {
    let special = |c| matches!(c, '*' | '?' | '[' | ']' | '\\' | '^');
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_pattern() {
        assert_eq!(escaped("webtrunk:x:calls:a-1:"), "webtrunk:x:calls:a-1:");
        assert_eq!(escaped("a*[b]"), "a\\*\\[b\\]");
    }
}
