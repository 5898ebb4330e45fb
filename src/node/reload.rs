//! Another configuration while calls go on: read, checked whole, compared, and only then put in
//! force.

use crate::api::Api;
use crate::api::server::{Changes, Reload, compare};
use crate::config;
use crate::transport::Arrival;
use crate::web::Web;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// What `POST /reload` and SIGHUP do.
pub(super) fn reloader(file: PathBuf, api: Api, web: Arc<OnceLock<Arc<Web>>>) -> Reload {
    Arc::new(move || {
        let (file, api, web) = (file.clone(), api.clone(), web.clone());
        Box::pin(async move { reload(file, api, web).await })
    })
}

async fn reload(file: PathBuf, api: Api, web: Arc<OnceLock<Arc<Web>>>) -> Result<Changes, String> {
    let loaded = tokio::task::spawn_blocking(move || config::load(&file))
        .await
        .map_err(|e| e.to_string())?;
    let (mut fresh, warnings) = loaded.map_err(|problems| problems.to_string())?;
    let before = api.ask(|gateway, _| gateway.config().clone()).await.map_err(|p| p.detail)?;
    let mut changes = compare(&before, &fresh);
    changes.warnings = warnings.to_string();
    fresh.renumber(&before);
    // What is bound stays as it is until the restart that rebinds it; signalling must go on naming
    // that.
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
    api.access.set(&fresh.api);
    if let Some(web) = web.get() {
        web.set(&fresh);
    }
    let told = match (changes.changed.is_empty(), changes.restart.is_empty()) {
        (true, true) => "nothing changed".to_owned(),
        (_, true) => changes.changed.join(", "),
        (_, false) => format!(
            "{}; needs a restart: {}",
            changes.changed.join(", "),
            changes.restart.join(", ")
        ),
    };
    api.inbox.give(Arrival::Reload { config: Box::new(fresh), changes: told }).await;
    // In force when this returns: what was handed over before is done before.
    api.ask(|_, _| ()).await.map_err(|p| p.detail)?;
    Ok(changes)
}
