//! Federation of the node: the partners of the configuration, and our own bundle for them to fetch.

use super::identity::Held;
use super::listen;
use super::load::Base;
use super::open::unusable;
use crate::config::keys::FederatedDomain;
use crate::config::parse_duration;
use crate::exit::{Failure, Status};
use dir_core::partners::Partners;
use dir_core::{Class, Classified, Clock};
use dir_identity::federation::{
    BundleEndpoint, Endpoint, Federation, FederationConfig, FederationError, Partner, PublishConfig,
};
use std::path::PathBuf;
use std::sync::Arc;

/// Directory of the partners' last good bundles, in `state_dir`.
const PARTNERS: &str = "federation";
/// File with the sequence number of our own bundle, in `state_dir`.
const PUBLISHED: &str = "federation-published.json";

/// What runs; it ends when dropped.
pub(super) struct Running {
    partners: Option<Arc<Federation>>,
    _endpoint: Option<BundleEndpoint>,
}

impl Running {
    /// What operators ask about.
    pub(super) fn partners(&self) -> Option<Arc<dyn Partners>> {
        self.partners.clone().map(|partners| -> Arc<dyn Partners> { partners })
    }
}

/// Starts what is configured. A partner that does not answer is no obstacle; a wrong configuration is.
pub(super) async fn start(base: &Base, held: Option<&Held>) -> anyhow::Result<Option<Running>> {
    let config = &base.config.federation;
    let Some(held) = held else { return Ok(None) };
    if config.trust_domains.0.is_empty() && !config.bundle_endpoint.enabled {
        return Ok(None);
    }
    std::fs::create_dir_all(&base.state_dir).map_err(|e| unusable("state_dir", &base.state_dir, &e))?;
    let clock: Arc<dyn Clock> = base.clock.clone();
    let endpoint = if config.bundle_endpoint.enabled {
        let keys = &config.bundle_endpoint;
        let listener = listen::bind("federation.bundle_endpoint.listen_address", &keys.listen_address)?;
        let publish = PublishConfig {
            refresh_hint: keys.refresh_hint,
            state_file: Some(base.state_dir.join(PUBLISHED)),
        };
        let started = BundleEndpoint::start(listener, publish, &held.identity, clock.clone(), &base.metrics);
        Some(started.map_err(|e| refusal(&e))?)
    } else {
        None
    };
    let partners = if config.trust_domains.0.is_empty() {
        None
    } else {
        let partners: Result<Vec<_>, _> = config.trust_domains.0.iter().map(partner).collect();
        let federation = FederationConfig {
            partners: partners.map_err(|text| Failure::new(Status::Config, text))?,
            state_dir: Some(base.state_dir.join(PARTNERS)),
            allow_link_local: config.allow_link_local,
            ..FederationConfig::default()
        };
        let started = Federation::start(federation, held.identity.clone(), clock, &base.metrics).await;
        Some(Arc::new(started.map_err(|e| refusal(&e))?))
    };
    Ok(Some(Running { partners, _endpoint: endpoint }))
}

fn refusal(error: &FederationError) -> Failure {
    let status = if error.class() == Class::Invalid { Status::Config } else { Status::Generic };
    Failure::new(status, format!("federation: {error}"))
}

/// A partner in the words of the manager.
fn partner(keys: &FederatedDomain) -> Result<Partner, String> {
    let fault = |what: &dyn std::fmt::Display| format!("federation.trust_domains: {}: {what}", keys.name);
    let path = |text: &str| Some(PathBuf::from(text)).filter(|p| !p.as_os_str().is_empty());
    let mut partner = Partner::new(keys.name.parse().map_err(|e| fault(&e))?);
    if !keys.url.is_empty() {
        let url = keys.url.parse().map_err(|e| fault(&format!("url: {e}")))?;
        let endpoint = if keys.profile == "https_spiffe" {
            Endpoint::HttpsSpiffe { id: keys.endpoint_spiffe_id.parse().map_err(|e| fault(&e))? }
        } else {
            Endpoint::HttpsWeb { ca_file: path(&keys.ca_file) }
        };
        partner.source = Some((url, endpoint));
    }
    partner.bootstrap_file = path(&keys.bootstrap_file);
    for (text, value) in [
        (&keys.refresh_min, &mut partner.refresh_min),
        (&keys.refresh_max, &mut partner.refresh_max),
        (&keys.max_stale, &mut partner.max_stale),
    ] {
        if !text.is_empty() {
            *value = parse_duration(text).map_err(|e| fault(&e))?;
        }
    }
    Ok(partner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn partners_in_the_words_of_the_manager() {
        let read = |json: &str| partner(&serde_json::from_str(json).unwrap());
        let web =
            read(r#"{"name": "a.x", "url": "https://a.x/b", "ca_file": "/ca", "max_stale": "24h"}"#).unwrap();
        let (url, endpoint) = web.source.unwrap();
        assert_eq!(url.as_str(), "https://a.x/b");
        assert_eq!(endpoint, Endpoint::HttpsWeb { ca_file: Some("/ca".into()) });
        assert_eq!((web.max_stale, web.bootstrap_file), (Duration::from_secs(86_400), None));
        let spiffe = r#"{"name": "a.x", "url": "https://a.x:8443", "profile": "https_spiffe",
            "endpoint_spiffe_id": "spiffe://a.x/dir", "bootstrap_file": "/b"}"#;
        let (_, endpoint) = read(spiffe).unwrap().source.unwrap();
        assert_eq!(endpoint, Endpoint::HttpsSpiffe { id: "spiffe://a.x/dir".parse().unwrap() });
        assert!(read(r#"{"name": "a.x", "bootstrap_file": "/b"}"#).unwrap().source.is_none());
        for wrong in [r#"{"name": "a x"}"#, r#"{"name": "a.x", "url": "https://"}"#] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
