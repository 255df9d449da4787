//! Records in an OCI registry. A registry that is down does not keep the node from starting: reads that memory or
//! index can answer are answered, and the component `registry` says what is missing.

use super::open::refusal;
use crate::config::keys::{LayoutChoice, Oci};
use crate::config::{Secret, given};
use dir_core::Classified;
use dir_core::store::RecordStore;
use dir_store::{CacheConfig, Credentials, Layout, OciConfig, OciStore};
use std::time::Duration;
use zeroize::Zeroizing;

/// The registry gets this long to tell its layout before the node starts without knowing it.
const FIRST_PING: Duration = Duration::from_secs(5);

/// The memory level of a cache on disk: small, because the engine keeps encoded records in memory already.
const CACHE_MEMORY: u64 = 32 << 20;

/// Opens the store, and answers whether others may write to the same registry.
pub(super) async fn open(oci: &Oci) -> anyhow::Result<(OciStore, bool)> {
    let store = OciStore::new(&settings(oci)).map_err(|e| refusal(&e))?;
    let (address, repository) = (&oci.registry_address, &oci.repository_name);
    match tokio::time::timeout(FIRST_PING, store.ping()).await {
        Ok(Ok(())) => {
            tracing::info!(address, repository, layout = ?store.layout(), "records in an OCI registry");
        }
        // Gone for the moment: everything else can start.
        Ok(Err(error)) if error.class().is_transient() => {
            tracing::warn!(address, %error, "the registry does not answer; starting without it");
        }
        Ok(Err(error)) => return Err(refusal(&error).into()),
        Err(_) => {
            tracing::warn!(address, limit = ?FIRST_PING, "the registry does not answer; starting without it");
        }
    }
    // Nobody else knows our shards. One repository is what other implementations read and write; and as long as
    // the layout is not known, each write looks first.
    let shared = store.layout() != Some(Layout::Sharded);
    Ok((store, shared))
}

/// The content cache in front of the registry, when it has a directory.
pub(super) fn cache(oci: &Oci) -> std::io::Result<Option<CacheConfig>> {
    if !given(&oci.cache_dir) {
        return Ok(None);
    }
    let dir = Some(std::path::absolute(&oci.cache_dir)?);
    Ok(Some(CacheConfig { memory_bytes: CACHE_MEMORY, dir, ..CacheConfig::default() }))
}

fn settings(oci: &Oci) -> OciConfig {
    OciConfig {
        address: oci.registry_address.clone(),
        insecure: oci.auth_config.insecure,
        repository: oci.repository_name.clone(),
        credentials: credentials(oci),
        layout: match oci.layout {
            LayoutChoice::Auto => Layout::Auto,
            LayoutChoice::Sharded => Layout::Sharded,
            LayoutChoice::Single => Layout::Single,
        },
        ..OciConfig::default()
    }
}

/// A password wins over tokens, an access token over one that has to be traded first.
fn credentials(oci: &Oci) -> Credentials {
    let auth = &oci.auth_config;
    let set = |secret: &Secret| (!secret.is_empty()).then(|| Zeroizing::new(secret.reveal().to_owned()));
    if let Some(password) = set(&auth.password) {
        Credentials::Basic { username: auth.username.clone(), password }
    } else if let Some(token) = set(&auth.access_token) {
        Credentials::AccessToken(token)
    } else if let Some(token) = set(&auth.refresh_token) {
        Credentials::RefreshToken(token)
    } else {
        Credentials::Anonymous
    }
}
