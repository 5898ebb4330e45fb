//! The store, one command after the other: for `interop/run.sh store`, which does to a real Redis
//! what the simulated cluster does to its model.

use super::{Dialler, StoreKeys, StoreWork, certificate, taken_of_earlier};
use crate::cluster::keys::derive;
use crate::cluster::store::{FoundPointers, Process, StoreAnswer, StoreCommand};
use crate::config::Config;
use crate::state::seal::Sealer;
use anyhow::{Context, anyhow};
use std::sync::{Arc, Mutex};

/// A connection to the store of a configuration.
pub struct StoreClient {
    config: Arc<Config>,
    work: StoreWork,
}

impl StoreClient {
    /// Connects; `number`: what this connection is called.
    ///
    /// # Errors
    /// There is no `[cluster]`, or the store cannot be reached.
    pub async fn connect(config: &Arc<Config>, number: u64) -> anyhow::Result<StoreClient> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let settings = config.cluster.as_ref().context("there is no [cluster]")?;
        let connection = Dialler::new(&settings.store)?.connect().await;
        let work = StoreWork {
            connection: connection.map_err(|why| anyhow!("{why}"))?,
            number,
            names: Arc::new(StoreKeys::new(&config.domain)),
            seal: Arc::new(Mutex::new(Sealer::new(derive(settings.key.reveal(), "calls"))?)),
        };
        Ok(StoreClient { config: config.clone(), work })
    }

    /// What this connection is called.
    pub fn number(&self) -> u64 {
        self.work.number
    }

    /// Carries a command out.
    pub async fn carry_out(&mut self, command: StoreCommand) -> StoreAnswer {
        self.work.answer(command).await.0
    }

    /// What is known of a user.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn find(&mut self, user: &str) -> anyhow::Result<FoundPointers> {
        let found = self.work.locate(vec![user.to_owned()]).await?;
        Ok(found.into_iter().flat_map(|(_, found)| found).collect())
    }

    /// Gives the lease of a process back, as one that stops does.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn leave(&mut self, own: &Process) -> anyhow::Result<()> {
        Ok(self.work.leave(own).await?)
    }

    /// The lease of a node runs out now.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn expire_lease(&mut self, node: &str) -> anyhow::Result<()> {
        let mut del = redis::cmd("DEL");
        del.arg(self.work.names.lease(node));
        Ok(del.query_async(&mut self.work.connection).await?)
    }

    /// Everything lasts for so many milliseconds longer, as by a clock that is put back, or less
    /// long.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn put_clock_back(&mut self, millis: i64) -> anyhow::Result<()> {
        let connection = &mut self.work.connection;
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query_async(connection).await?;
        for key in keys {
            let left: i64 = redis::cmd("PTTL").arg(&key).query_async(connection).await?;
            if left > 0 {
                let mut set = redis::cmd("PEXPIRE");
                let _: u8 = set.arg(&key).arg(left + millis).query_async(connection).await?;
            }
        }
        Ok(())
    }

    /// Everything is lost.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn forget_all(&mut self) -> anyhow::Result<()> {
        Ok(redis::cmd("FLUSHALL").query_async(&mut self.work.connection).await?)
    }

    /// What other nodes took of this one's earlier processes: the names of the values, and whether
    /// it is all of the `last`.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn taken_of_earlier(&self, last: Option<u64>) -> anyhow::Result<(Vec<String>, bool)> {
        let settings = self.config.cluster.as_ref().context("there is no [cluster]")?;
        let taken = taken_of_earlier(settings, &self.config.domain, last).await?;
        Ok((taken.names, taken.all))
    }

    /// The certificate that all nodes show: `own`, if there is none yet.
    ///
    /// # Errors
    /// The store cannot be asked, or what it has is not sealed by the cluster's key.
    pub async fn certificate(&self, own: &str) -> anyhow::Result<String> {
        let settings = self.config.cluster.as_ref().context("there is no [cluster]")?;
        certificate(settings, &self.config.domain, own).await
    }
}
