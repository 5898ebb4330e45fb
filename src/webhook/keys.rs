//! Key sets of tokens (RFC 7517), by HTTP or from a file.

use super::client::{allowed, client, send};
use crate::config::{JwtSettings, KeySet};
use crate::gateway::token::TokenKeys;
use std::sync::Arc;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(5);

/// Reads the key set.
///
/// # Errors
/// It is not to be had, or holds nothing usable.
pub(crate) async fn read(settings: &JwtSettings) -> Result<Arc<TokenKeys>, String> {
    let text = match &settings.jwks {
        KeySet::File(path) => std::fs::read_to_string(path)
            .map_err(|e| format!("{} cannot be read: {e}", path.display()))?,
        KeySet::Url(url) => {
            let url = allowed(url, settings.allow_private).map_err(|e| e.why)?;
            let client = client(settings.allow_private).map_err(|e| format!("{e:#}"))?;
            send(
                client
                    .get(url)
                    .timeout(LIMIT)
                    .header("accept", "application/jwk-set+json, application/json"),
            )
            .await
            .map_err(|e| e.why)?
        }
    };
    TokenKeys::parse(&text).map(Arc::new)
}
