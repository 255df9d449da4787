//! The identity of the node: from a Workload API outside, or from the development one inside.

use super::load::Base;
use super::pin;
use crate::config::keys::{Config, Profile, ProxyProtocol, TlsVersion};
use crate::config::public_name_problem;
use crate::exit::{Failure, Status};
use dir_api::Tokens;
use dir_core::identity::IdentityStatus;
use dir_core::{Clock, TrustDomain};
use dir_identity::devapi::{DevConfig, DevDomain, DevSvid, DevWorkloadApi};
use dir_identity::proxy::{ProxyConfig, ProxyMode};
use dir_identity::{
    AcceptorConfig, ClientCertificate, Identity, IdentityError, JwtConfig, JwtVerifier, MinVersion,
    PlainConfig, StartupWait, WorkloadConfig,
};
use std::path::Path;
use std::sync::Arc;

/// Hint of the SVID that the server takes from the development Workload API.
const SERVER_HINT: &str = "server";
/// Value of `authn.mode` with which callers prove themselves by a token.
const JWT: &str = "jwt";
/// Name of the development socket in `state_dir`.
const SOCKET: &str = "workload.sock";

/// The identity, and the development Workload API when there is one.
pub(super) struct Held {
    pub(super) identity: Identity,
    pub(super) dev: Option<DevWorkloadApi>,
    /// In mode `jwt`: who verifies the tokens of calls.
    pub(super) tokens: Option<Tokens>,
}

/// Waits for the first SVID and holds it against the configuration.
pub(super) async fn obtain(base: &Base) -> anyhow::Result<Option<Held>> {
    let config = &base.config;
    if !config.authn.enabled {
        tracing::warn!("authentication is off: plaintext, and nobody has an identity");
        base.latches.svid.ready();
        return Ok(None);
    }
    let dev = development(base).await?;
    let mut workload = workload(config);
    if let Some(dev) = &dev
        && workload.socket.is_empty()
    {
        workload.socket = dev.socket_uri();
        workload.svid_hint = Some(SERVER_HINT.to_owned());
    }
    base.latches.svid.starting(format!("waiting for an SVID from {}", workload.socket));
    let clock: Arc<dyn Clock> = base.clock.clone();
    let identity = Identity::obtain(workload, clock, &base.metrics).await.map_err(|e| refusal(&e))?;
    if let Some(report) = identity.report() {
        let spiffe_id = report.id.as_str();
        tracing::info!(spiffe_id, dns_names = ?report.dns_names, "Successfully obtained valid X509-SVID for server");
        judge(config, &base.state_dir, report.id.trust_domain())?;
    }
    let tokens = if config.authn.mode == JWT {
        Some(tokens(base, &identity).await?)
    } else {
        tracing::info!("X.509 authentication service initialized");
        None
    };
    base.latches.svid.ready();
    Ok(Some(Held { identity, dev, tokens }))
}

/// Waits for the keys that tokens are verified with.
async fn tokens(base: &Base, identity: &Identity) -> anyhow::Result<Tokens> {
    let authn = &base.config.authn;
    base.latches.svid.starting("waiting for JWT bundles");
    let config =
        JwtConfig { audiences: authn.audiences.clone(), leeway: authn.jwt_leeway, ..JwtConfig::default() };
    let verifier = JwtVerifier::obtain(identity, config, &base.metrics).await.map_err(|e| refusal(&e))?;
    tracing::info!(audiences = authn.audiences.join(","), "JWT authentication service initialized");
    Ok(Tokens { changed: verifier.changed(), verifier: Arc::new(verifier) })
}

fn refusal(error: &IdentityError) -> anyhow::Error {
    let status = match error {
        IdentityError::NoSvid { .. } | IdentityError::NoJwtBundles { .. } => Status::NoSvid,
        IdentityError::Endpoint(_) => Status::Config,
        IdentityError::Tls(_) => Status::Identity,
    };
    Failure::new(status, error.to_string()).into()
}

/// Whether a node of this configuration and history may have an SVID of `domain`.
fn judge(config: &Config, state_dir: &Path, domain: &TrustDomain) -> Result<(), Failure> {
    let wanted = &config.authn.trust_domain;
    if !wanted.is_empty() && !wanted.eq_ignore_ascii_case(domain.as_str()) {
        let text = format!("authn.trust_domain is {wanted}, and the SVID of this node is of {domain}");
        return Err(Failure::new(Status::Identity, text));
    }
    if config.profile == Profile::Production
        && let Some(text) = public_name_problem(domain.as_str())
    {
        return Err(Failure::new(Status::Config, format!("production: trust domain of the SVID: {text}")));
    }
    pin::check(state_dir, domain)
}

fn workload(config: &Config) -> WorkloadConfig {
    let authn = &config.authn;
    WorkloadConfig {
        socket: authn.socket_path.clone(),
        startup_wait: StartupWait {
            initial: authn.startup_wait.initial,
            max: authn.startup_wait.max,
            total: authn.startup_wait.total,
        },
        svid_hint: Some(authn.svid_hint.clone()).filter(|hint| !hint.is_empty()),
        public_hostnames: authn.public_hostnames.clone(),
        ..WorkloadConfig::default()
    }
}

/// The development Workload API: the first SVID on its socket is the client's, because that is what tools take;
/// the server takes its own by hint.
async fn development(base: &Base) -> anyhow::Result<Option<DevWorkloadApi>> {
    let dev = &base.config.dev_identity;
    if !dev.enabled {
        return Ok(None);
    }
    if base.config.profile == Profile::Production {
        let text = "production: the development Workload API cannot be started";
        return Err(Failure::new(Status::Config, text).into());
    }
    let socket = if dev.socket_path.as_os_str().is_empty() {
        base.state_dir.join(SOCKET)
    } else {
        std::path::absolute(&dev.socket_path)?
    };
    let svid = |path: &str, dns_names: &[&str], hint: &str| DevSvid {
        spiffe_id: format!("spiffe://{}/{path}", dev.trust_domain),
        dns_names: dns_names.iter().map(|n| (*n).to_owned()).collect(),
        hint: hint.to_owned(),
    };
    let mut names = vec!["localhost"];
    names.extend(base.config.authn.public_hostnames.iter().map(String::as_str));
    let domain = DevDomain {
        name: dev.trust_domain.clone(),
        svids: vec![svid("dir/client", &[], "client"), svid("dir/apiserver", &names, SERVER_HINT)],
        federates_with: Vec::new(),
    };
    let config =
        DevConfig { socket, trust_domains: vec![domain], svid_ttl: dev.svid_ttl, ca_ttl: dev.ca_ttl };
    let api = DevWorkloadApi::start(config, base.clock.clone())
        .await
        .map_err(|e| Failure::new(Status::Config, e.to_string()))?;
    let socket = api.socket_uri();
    tracing::warn!(
        socket,
        "development Workload API: whoever opens this socket gets an SVID; not for production"
    );
    Ok(Some(api))
}

/// Caps and patience of the TLS acceptor.
pub(super) fn acceptor(config: &Config, timeout_is_set: bool) -> AcceptorConfig {
    let caps = &config.limits.connections;
    AcceptorConfig {
        handshake_timeout: if timeout_is_set {
            config.connection.connection_timeout
        } else {
            config.limits.handshake_timeout
        },
        min_version: match config.authn.tls.min_version {
            TlsVersion::Tls12 => MinVersion::Tls12,
            TlsVersion::Tls13 => MinVersion::Tls13,
        },
        client_certificate: if config.authn.mode == JWT {
            ClientCertificate::NotAsked
        } else {
            ClientCertificate::Required
        },
        max_total: caps.total,
        max_per_identity: caps.per_identity,
        max_per_ip: caps.per_ip,
        per_ip_rate: super::limits::connections(&config.ratelimit),
        proxy: proxy(config),
        ..AcceptorConfig::default()
    }
}

/// Caps of the plaintext listener.
pub(super) fn plain(config: &Config) -> PlainConfig {
    let caps = &config.limits.connections;
    PlainConfig {
        max_total: caps.total,
        max_per_ip: caps.per_ip,
        per_ip_rate: super::limits::connections(&config.ratelimit),
        proxy: proxy(config),
        ..PlainConfig::default()
    }
}

fn proxy(config: &Config) -> ProxyConfig {
    ProxyConfig {
        mode: match config.listen.proxy_protocol {
            ProxyProtocol::Off => ProxyMode::Off,
            ProxyProtocol::Optional => ProxyMode::Optional,
            ProxyProtocol::Required => ProxyMode::Required,
        },
        trusted: config.listen.trusted_proxies.0.clone(),
        timeout: config.limits.proxy_header_timeout,
    }
}
