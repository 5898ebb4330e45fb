//! Records found again: in the database, or read from the end of the file.

use super::sqlite;
use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Most records of one answer.
const MOST: usize = 10_000;
/// Bytes of the record file read at once.
const BLOCK: u64 = 1 << 20;

/// Where records are searched.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Lines(PathBuf),
    Database(PathBuf),
}

/// Which records are wanted.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Wanted {
    /// RFC 3339, or the beginning of it: records that began then or later, and before.
    pub from: Option<String>,
    pub to: Option<String>,
    pub number: Option<String>,
    pub user: Option<String>,
    pub outcome: Option<String>,
    pub limit: Option<usize>,
}

impl Wanted {
    fn most(&self) -> usize {
        self.limit.unwrap_or(100).min(MOST)
    }

    fn wants(&self, record: &Value) -> bool {
        let start = record["start"].as_str().unwrap_or_default();
        let contains =
            |value: &Value, wanted: &str| value.as_str().is_some_and(|v| v.contains(wanted));
        self.from.as_deref().is_none_or(|from| start >= from)
            && self.to.as_deref().is_none_or(|to| start < to)
            && self.number.as_deref().is_none_or(|n| {
                contains(&record["to"]["number"], n) || contains(&record["to"]["dialled"], n)
            })
            && self.user.as_deref().is_none_or(|u| {
                record["from"]["user"] == u || record["answered_by"] == format!("user:{u}")
            })
            && self.outcome.as_deref().is_none_or(|o| record["outcome"] == o)
    }
}

/// Records from the end of the file, block by block: it may be larger than the memory.
fn newest_lines(path: &Path, query: &Wanted) -> std::io::Result<Vec<Value>> {
    let most = query.most();
    let mut file = std::fs::File::open(path)?;
    let mut end = file.seek(SeekFrom::End(0))?;
    let (mut found, mut rest) = (Vec::new(), Vec::new());
    while end > 0 && found.len() < most {
        let begin = end.saturating_sub(BLOCK);
        let mut block = vec![0; (end - begin) as usize];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(&mut block)?;
        block.append(&mut rest);
        // The first line of a block may have begun in the one before.
        let whole = if begin == 0 {
            0
        } else {
            block.iter().position(|b| *b == b'\n').map_or(block.len(), |at| at + 1)
        };
        rest = block[..whole].to_vec();
        for line in block[whole..].split(|b| *b == b'\n').rev().filter(|l| !l.is_empty()) {
            let Ok(record) = serde_json::from_slice::<Value>(line) else { continue };
            if query.wants(&record) && found.len() < most {
                found.push(record);
            }
        }
        end = begin;
        if rest.len() as u64 > 2 * BLOCK {
            return Err(std::io::Error::other("a line longer than two megabytes"));
        }
    }
    Ok(found)
}

/// The newest records that are wanted, the newest first.
///
/// # Errors
/// They cannot be read.
pub(crate) fn newest(place: &Place, query: &Wanted) -> anyhow::Result<Vec<Value>> {
    match place {
        Place::Lines(path) => {
            newest_lines(path, query).with_context(|| format!("{} cannot be read", path.display()))
        }
        Place::Database(path) => {
            let found = sqlite::newest(path, query, query.most())
                .with_context(|| format!("{} cannot be read", path.display()))?;
            found.iter().map(|text| Ok(serde_json::from_str(text)?)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_newest_records_are_found_from_the_end_of_a_large_file() {
        let path = std::env::temp_dir().join(format!("webtrunk-cdr-{}.jsonl", std::process::id()));
        let mut file = std::io::BufWriter::new(std::fs::File::create(&path).expect("a file"));
        for n in 0..20_000 {
            writeln!(file, "{{\"call\":\"{n}\",\"start\":\"2026-11-{:02}\",\"outcome\":\"{}\",\"pad\":\"{}\"}}", 1 + n / 1_000, if n % 1_000 == 0 { "busy" } else { "success" }, "x".repeat(150)).expect("written");
        }
        drop(file);
        let calls = |query: Wanted| {
            newest(&Place::Lines(path.clone()), &query)
                .expect("read")
                .iter()
                .map(|r| r["call"].as_str().expect("a call").parse::<u32>().expect("a number"))
                .collect::<Vec<_>>()
        };
        assert_eq!(calls(Wanted { limit: Some(3), ..Wanted::default() }), [19_999, 19_998, 19_997]);
        let busy = calls(Wanted { outcome: Some("busy".into()), ..Wanted::default() });
        assert_eq!(
            busy,
            (0..20).rev().map(|n| n * 1_000).collect::<Vec<_>>(),
            "every block, whole lines, none twice"
        );
        assert_eq!(
            calls(Wanted {
                from: Some("2026-11-05".into()),
                to: Some("2026-11-06".into()),
                limit: Some(10_000),
                ..Wanted::default()
            })
            .len(),
            1_000
        );
        let _ = std::fs::remove_file(&path);
    }
}
