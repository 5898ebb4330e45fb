//! What browsers know the gateway by.

use crate::config::Config;
use crate::errors::Code;
use crate::media::dtls::DtlsIdentity;
use crate::state::State;
use crate::store;

/// The DTLS certificate: that of the cluster, if it can be had and no call needs the one before.
///
/// # Errors
/// None could be made.
pub(super) async fn certificate(config: &Config, state: &State) -> anyhow::Result<DtlsIdentity> {
    let own = state.certificate()?;
    let Some(settings) = config.cluster.as_ref().filter(|_| state.found.is_empty()) else {
        return Ok(own);
    };
    let pem = store::certificate(settings, &config.domain, own.pem()).await;
    match pem.and_then(|pem| if pem == own.pem() { Ok(None) } else { state.show(&pem).map(Some) }) {
        Ok(shared) => Ok(shared.unwrap_or(own)),
        Err(e) => {
            tracing::warn!(
                code = %Code::STORE_AWAY,
                "the cluster's DTLS certificate cannot be had, so browsers of calls that move \
                 between nodes shake hands again: {e:#}"
            );
            Ok(own)
        }
    }
}
