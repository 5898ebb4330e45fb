//! Another configuration while calls continue: read, checked whole, compared, and only then put in
//! force. All that takes time is done beside the core, which only puts the one in the place of the
//! other.

use super::start::tls_trunks;
use crate::api::ApiState;
use crate::api::reload::{Changes, Reload, compare};
use crate::config::{self, Config};
use crate::gateway::operate::Revised;
use crate::transport::{Arrival, Reloaded};
use crate::web::WebPort;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

/// What `POST /reload` and SIGHUP do. One is done after the other, and to its end even if nobody
/// waits for it any more.
pub(super) fn reloader(file: PathBuf, api: ApiState, web: Arc<OnceLock<Arc<WebPort>>>) -> Reload {
    let one = Arc::new(Mutex::new(()));
    Arc::new(move || {
        let (file, api, web, one) = (file.clone(), api.clone(), web.clone(), one.clone());
        let work = tokio::spawn(async move {
            let _one = one.lock().await;
            reload(file, api, web).await
        });
        Box::pin(async move { work.await.map_err(|e| e.to_string())? })
    })
}

async fn reload(
    file: PathBuf,
    api: ApiState,
    web: Arc<OnceLock<Arc<WebPort>>>,
) -> Result<Changes, String> {
    let loaded = spawn_blocking(move || config::load(&file)).await.map_err(|e| e.to_string())?;
    let (fresh, warnings) = loaded.map_err(|problems| problems.to_string())?;
    let before = api.ask(|gateway, _| gateway.config().clone()).await.map_err(|p| p.detail)?;
    let warnings = warnings.to_string();
    let (reloaded, mut changes) =
        spawn_blocking(move || prepare(&before, fresh)).await.map_err(|e| e.to_string())?;
    changes.warnings = warnings;
    let config = reloaded.revised.config();
    api.access.set(&config.api);
    let certificates = api.certificates.clone();
    spawn_blocking(move || certificates.read_again()).await.map_err(|e| e.to_string())?;
    if let Some(web) = web.get() {
        web.set(config);
    }
    api.inbox.give(Arrival::Reload(Box::new(reloaded))).await;
    // In force when this returns: what was handed over before is done before.
    api.ask(|_, _| ()).await.map_err(|p| p.detail)?;
    Ok(changes)
}

/// All that the core needs to go over from `before` to `fresh`, and what differs.
fn prepare(before: &Config, mut fresh: Config) -> (Reloaded, Changes) {
    fresh.renumber(before);
    let changes = compare(before, &fresh);
    stay(before, &mut fresh);
    let summary = match (changes.changed.is_empty(), changes.restart.is_empty()) {
        (true, true) => "nothing changed".to_owned(),
        (_, true) => changes.changed.join(", "),
        (_, false) => format!(
            "{}; needs a restart: {}",
            changes.changed.join(", "),
            changes.restart.join(", ")
        ),
    };
    let tls = tls_trunks(&fresh)
        .map_err(|e| tracing::warn!("trunks' TLS settings stay as they were: {e:#}"))
        .ok();
    let revised = Revised::new(Instant::now(), before, fresh, summary);
    (Reloaded { revised, tls }, changes)
}

/// What is bound stays as it is until the restart that rebinds it; signalling must continue naming
/// that.
fn stay(before: &Config, fresh: &mut Config) {
    fresh.domain.clone_from(&before.domain);
    if fresh.public_auto && before.public_auto {
        // What was found is known better than what a file says.
        fresh.public_ips.clone_from(&before.public_ips);
    }
    fresh.stun.clone_from(&before.stun);
    fresh.media.bind = before.media.bind;
    (fresh.udp, fresh.tcp, fresh.web_listen) = (before.udp, before.tcp, before.web_listen);
    (fresh.sip.tls, fresh.media.ports, fresh.media.browser_port, fresh.media.workers) =
        (before.sip.tls, before.media.ports, before.media.browser_port, before.media.workers);
    fresh.media.ice_tcp = before.media.ice_tcp;
}
