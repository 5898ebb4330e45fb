//! Calls in the store: sealed by the cluster's key, one hash for each process.
//!
//! A claim puts the name of the taker in the place of that hash, in one step. From then on the
//! owner's writes fail for their type, and so it learns that it has been deposed.

use super::{StoreWork, text};
use crate::cluster::store::{CALLS, CLAIM, CallValue, CallWrite, Claim, Keeping, Process};
use redis::RedisError;
use std::sync::PoisonError;

/// Writes ARGV[2] names and values into KEYS[1], which is kept for ARGV[1] milliseconds, and
/// removes what is named after them; with ARGV[3], whatever else there was before. 0: another
/// process has these calls.
const KEEP: &str = r"
local last = 3 + ARGV[2]
if ARGV[3] == '1' and redis.call('TYPE', KEYS[1])['ok'] == 'hash' then redis.call('DEL', KEYS[1]) end
for _, part in ipairs({{'HSET', 4, last}, {'HDEL', last + 1, #ARGV}}) do
  if part[2] <= part[3] then
    local done = redis.pcall(part[1], KEYS[1], unpack(ARGV, part[2], part[3]))
    if type(done) == 'table' then return 0 end
  end
end
if last > 3 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return 1
";

/// Makes ARGV[1] the owner of the calls in KEYS[2] for ARGV[3] milliseconds and moves them to
/// KEYS[3], for ARGV[4], unless the lease KEYS[1] is of their epoch ARGV[2], or another process is
/// the owner already. With ARGV[5] it is the owner itself that asks, whose lease does not matter.
/// With ARGV[6] the store was told so before: what there still is of them is removed, and is not
/// all there was. KEYS[4] is there for as long as the owner is known, if there were none. Returns
/// what came of it: "lives", "granted" or "taken", by whom, the names, and 1 if these are all that
/// was taken, though it be nothing: 0 once they have been forgotten. (Builds from before KEYS[4]
/// tell that by how long the owner will be known still; they are told no more, and no less.)
pub(super) const TAKE_OVER: &str = r"
local held = redis.call('GET', KEYS[1])
local kind = redis.call('TYPE', KEYS[2])['ok']
if kind == 'string' then
  local by, names = redis.call('GET', KEYS[2]), redis.call('HKEYS', KEYS[3])
  local all = #names > 0 or redis.call('EXISTS', KEYS[4]) == 1
  return {by == ARGV[1] and 'granted' or 'taken', by, names, all and 1 or 0}
end
if ARGV[5] == '0' and held and string.sub(held, 1, 16) == ARGV[2] then
  return {'lives', '', {}, 1}
end
redis.call('DEL', KEYS[4])
if ARGV[6] == '1' then
  redis.call('DEL', KEYS[2], KEYS[3])
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3] - ARGV[4])
  return {'granted', ARGV[1], {}, 1}
end
if kind == 'hash' then
  redis.call('RENAME', KEYS[2], KEYS[3])
  redis.call('PEXPIRE', KEYS[3], ARGV[4])
end
local names = redis.call('HKEYS', KEYS[3])
if #names == 0 then redis.call('SET', KEYS[4], '', 'PX', ARGV[3]) end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
return {'granted', ARGV[1], names, 1}
";

/// What [`TAKE_OVER`] returns.
pub(super) type TakeOverAnswer = (String, Vec<u8>, Vec<Vec<u8>>, u8);

/// What a value is sealed as: of this call, of this process.
fn sealed_as(owner: &Process, name: &str) -> String {
    format!("{} {name}", owner.mark())
}

impl StoreWork {
    fn seal(&self, owner: &Process, name: &str, value: &CallValue) -> Option<Vec<u8>> {
        let plain = [&value.taken.to_be_bytes()[..], &value.bytes].concat();
        let mut seal = self.seal.lock().unwrap_or_else(PoisonError::into_inner);
        seal.seal(&sealed_as(owner, name), &plain)
    }

    fn open(&self, owner: &Process, name: &str, sealed: &[u8]) -> Option<CallValue> {
        let mut seal = self.seal.lock().unwrap_or_else(PoisonError::into_inner);
        let plain = seal.open(&sealed_as(owner, name), sealed)?;
        let (taken, bytes) = plain.split_first_chunk::<8>()?;
        Some(CallValue { taken: u64::from_be_bytes(*taken), bytes: bytes.into() })
    }

    /// Writes values of calls.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub(super) async fn keep(
        &mut self,
        owner: &Process,
        anew: bool,
        writes: Vec<CallWrite>,
    ) -> Result<Keeping, RedisError> {
        let (mut put, mut removed) = (Vec::new(), Vec::new());
        for CallWrite { name, value } in writes {
            match value.and_then(|value| self.seal(owner, &name, &value)) {
                Some(sealed) => put.extend([name.into_bytes(), sealed]),
                None => removed.push(name),
            }
        }
        let kept: u8 = redis::cmd("EVAL")
            .arg(KEEP)
            .arg(1)
            .arg(self.names.calls(owner))
            .arg(CALLS.as_millis() as u64)
            .arg(put.len())
            .arg(u8::from(anew))
            .arg(put)
            .arg(removed)
            .query_async(&mut self.connection)
            .await?;
        Ok(if kept == 1 { Keeping::Kept } else { Keeping::Deposed })
    }

    /// Claims the calls of a process.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub(super) async fn claim(
        &mut self,
        of: &Process,
        by: &Process,
        again: bool,
    ) -> Result<Claim, RedisError> {
        let (what, owner, names, known): TakeOverAnswer = redis::cmd("EVAL")
            .arg(TAKE_OVER)
            .arg(4)
            .arg(self.names.lease(&of.node))
            .arg(self.names.calls(of))
            .arg(self.names.taken(of))
            .arg(self.names.none_taken(of))
            .arg(by.mark())
            .arg(format!("{:016x}", of.epoch))
            .arg(CLAIM.as_millis() as u64)
            .arg(CALLS.as_millis() as u64)
            .arg(u8::from(of == by))
            .arg(u8::from(again))
            .query_async(&mut self.connection)
            .await?;
        let names = names.into_iter().filter_map(text).collect();
        Ok(match what.as_str() {
            "granted" => Claim::Granted { names },
            "taken" => Claim::Taken {
                by: text(owner).unwrap_or_default(),
                names: (known == 1).then_some(names),
            },
            _ => Claim::Lives,
        })
    }

    /// Reads values of calls.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub(super) async fn take(
        &mut self,
        of: &Process,
        names: Vec<String>,
    ) -> Result<Vec<(String, CallValue)>, RedisError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut read = redis::cmd("HMGET");
        read.arg(self.names.taken(of)).arg(&names);
        let values: Vec<Option<Vec<u8>>> = read.query_async(&mut self.connection).await?;
        let opened = names.into_iter().zip(values).filter_map(|(name, sealed)| {
            let value = self.open(of, &name, &sealed?)?;
            Some((name, value))
        });
        Ok(opened.collect())
    }
}
