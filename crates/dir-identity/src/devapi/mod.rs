//! The development Workload API: a real SPIFFE Workload API on a Unix socket with its own CA for each trust domain.
//!
//! Any SPIFFE client library can use it. It attests nobody (whoever opens the socket gets every identity configured
//! for it), so it is for development and tests, and the production profile refuses to start it.

mod authority;
mod ca;
mod jwt;
mod server;
mod service;
mod socket;
mod world;

pub use ca::{Authority, ChainForm, MintError, svid_params};
pub use world::{Answer, Material, MaterialSvid};

use dir_core::identity::IdError;
use dir_core::{Class, Classified, Clock};
use server::Serving;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};
use world::{Endpoint, World};

/// One identity that the socket hands out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DevSvid {
    /// The SPIFFE ID; its trust domain must be the one it is listed under.
    pub spiffe_id: String,
    /// DNS names, in this order; the first becomes the subject's CN.
    pub dns_names: Vec<String>,
    /// What clients choose by when there are several; may be empty.
    pub hint: String,
}

/// One trust domain with a CA of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DevDomain {
    /// Its name, such as `example.org`.
    pub name: String,
    /// The identities of this domain; none for a domain that only has a bundle.
    pub svids: Vec<DevSvid>,
    /// Domains of this configuration whose bundles are handed out as federated.
    pub federates_with: Vec<String>,
}

/// What to serve, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevConfig {
    /// Path of the socket, at most 100 bytes. A missing folder is created with mode 0700; the socket has 0600.
    pub socket: PathBuf,
    /// The trust domains. The first SVID of the first domain is the default.
    pub trust_domains: Vec<DevDomain>,
    /// Life of an SVID; it is renewed at half of it.
    pub svid_ttl: Duration,
    /// Life of a CA; the next one is announced at half of it and signs from the next renewal on.
    pub ca_ttl: Duration,
}

/// Why the development Workload API cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// Not a trust domain or SPIFFE ID.
    #[error("\"{name}\": {source}")]
    Name {
        /// What was given.
        name: String,
        /// What is wrong with it.
        source: IdError,
    },
    /// The configuration contradicts itself.
    #[error("development Workload API: {0}")]
    Config(String),
    /// The socket cannot be made.
    #[error("development Workload API socket {}: {reason}", path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate cannot be made.
    #[error(transparent)]
    Mint(#[from] MintError),
}

impl Classified for DevError {
    fn class(&self) -> Class {
        match self {
            Self::Name { .. } | Self::Config(_) => Class::Invalid,
            Self::Socket { .. } => Class::Unavailable,
            Self::Mint(_) => Class::Internal,
        }
    }
}

/// A running development Workload API. Dropping it ends it as well, and removes the socket.
pub struct DevWorkloadApi {
    world: Arc<World>,
    endpoint: Arc<Endpoint>,
    socket: PathBuf,
    serving: Mutex<Option<Serving>>,
    _timers: DropGuard,
}

impl std::fmt::Debug for DevWorkloadApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevWorkloadApi").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl DevWorkloadApi {
    /// Makes the CAs and the SVIDs, and serves.
    pub async fn start(config: DevConfig, clock: Arc<dyn Clock>) -> Result<Self, DevError> {
        let api = Self::prepare(config, clock)?;
        api.appear().await?;
        Ok(api)
    }

    /// Makes the CAs and the SVIDs, and does not serve yet: see [`DevWorkloadApi::appear`].
    pub fn prepare(config: DevConfig, clock: Arc<dyn Clock>) -> Result<Self, DevError> {
        let world = World::new(clock, config.ca_ttl, ChainForm::SelfSigned);
        Self::within(&world, config)
    }

    /// As [`DevWorkloadApi::prepare`], with the form of the chains chosen.
    pub fn prepare_with(config: DevConfig, clock: Arc<dyn Clock>, form: ChainForm) -> Result<Self, DevError> {
        let world = World::new(clock, config.ca_ttl, form);
        Self::within(&world, config)
    }

    /// A second socket beside this one, with other identities signed by the same CAs. `ca_ttl` is that of the first.
    pub async fn beside(&self, config: DevConfig) -> Result<Self, DevError> {
        let api = Self::within(&self.world, config)?;
        api.appear().await?;
        Ok(api)
    }

    fn within(world: &Arc<World>, config: DevConfig) -> Result<Self, DevError> {
        let socket = config.socket.clone();
        let stop = CancellationToken::new();
        let half_life = (config.svid_ttl / 2).max(Duration::from_millis(100));
        let endpoint = world.add_endpoint(config.trust_domains, config.svid_ttl)?;
        tokio::spawn(keep_fresh(world.clone(), endpoint.clone(), half_life, stop.clone()));
        Ok(Self {
            world: world.clone(),
            endpoint,
            socket,
            serving: Mutex::new(None),
            _timers: stop.drop_guard(),
        })
    }

    /// Opens the socket and serves. Does nothing while it serves.
    pub async fn appear(&self) -> Result<(), DevError> {
        let mut serving = self.serving.lock().await;
        if serving.is_none() {
            *serving = Some(Serving::start(&self.socket, self.endpoint.clone(), self.world.clone()).await?);
        }
        Ok(())
    }

    /// Ends every stream and removes the socket, as an agent that is stopped. The CAs stay.
    pub async fn vanish(&self) {
        if let Some(serving) = self.serving.lock().await.take() {
            serving.stop().await;
        }
    }

    /// Issues every SVID of this socket anew, signed by the newest CA of its domain, and pushes the update.
    pub fn rotate(&self) {
        if let Err(error) = self.world.rotate(&self.endpoint) {
            tracing::error!(%error, "development SVIDs could not be renewed");
        }
    }

    /// Makes a new CA for a trust domain and pushes the bundle with old and new roots, to every socket. The new CA
    /// signs from the next [`DevWorkloadApi::rotate`] on. Returns whether the domain exists.
    pub fn rotate_ca(&self, trust_domain: &str) -> bool {
        self.world.rotate_ca(trust_domain)
    }

    /// Makes a new CA for a trust domain and pushes the bundle with it; it does not sign before
    /// [`DevWorkloadApi::activate_ca`], so that partners who look now and then can learn it first. Returns whether
    /// the domain exists.
    pub fn announce_ca(&self, trust_domain: &str) -> bool {
        self.world.announce_ca(trust_domain)
    }

    /// Lets the CA that was announced last sign from the next [`DevWorkloadApi::rotate`] on. Returns whether there
    /// is one.
    pub fn activate_ca(&self, trust_domain: &str) -> bool {
        self.world.activate_ca(trust_domain)
    }

    /// Drops all CAs of a trust domain but the newest from its bundle, for every socket.
    pub fn retire_cas(&self, trust_domain: &str) -> bool {
        self.world.retire_cas(trust_domain)
    }

    /// Another key for the JWT-SVIDs of a trust domain, pushed to every socket: beside the old ones, which go on being
    /// trusted, or in their place. Returns whether the domain exists.
    pub fn rotate_jwt_key(&self, trust_domain: &str, keep_old: bool) -> bool {
        self.world.rotate_jwt_key(trust_domain, keep_old)
    }

    /// The public keys of a trust domain's JWT-SVIDs as they stand in a bundle document, oldest first.
    pub fn jwt_keys(&self, trust_domain: &str) -> Option<Vec<serde_json::Value>> {
        let keys = self.world.jwt_keys(&trust_domain.parse().ok()?)?;
        Some(keys.iter().map(|key| key.jwk()).collect())
    }

    /// Life of the JWT-SVIDs of this socket from now on; five minutes at first.
    pub fn set_jwt_ttl(&self, ttl: Duration) {
        self.endpoint.set_jwt_ttl(ttl);
    }

    /// A token with these claims, signed by the newest key of a trust domain; `header` goes over the one that belongs to
    /// the key. For tests of servers. `None` if the domain is not served here.
    pub fn sign_jwt(
        &self,
        trust_domain: &str,
        header: &serde_json::Value,
        claims: &serde_json::Value,
    ) -> Option<String> {
        self.world.jwt_keys(&trust_domain.parse().ok()?)?.last()?.sign_claims(header, claims)
    }

    /// Changes with whom a domain of this socket federates, and pushes the update.
    pub fn federate(&self, trust_domain: &str, with: &[&str]) {
        self.world.federate(&self.endpoint, trust_domain, with);
    }

    /// Answers something else than the truth from now on; `None` goes back to it. For tests of clients.
    pub fn override_answer(&self, answer: Option<Answer>) {
        self.endpoint.override_answer(answer);
    }

    /// What is, or would be, handed out now.
    pub fn material(&self) -> Arc<Material> {
        self.endpoint.material()
    }

    /// The newest CA of a trust domain, to sign other certificates with.
    pub fn authority(&self, trust_domain: &str) -> Option<Arc<Authority>> {
        self.world.authority(trust_domain)
    }

    /// Address for `SPIFFE_ENDPOINT_SOCKET` and [`crate::WorkloadConfig::socket`].
    pub fn socket_uri(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Ends every stream, stops renewing and removes the socket.
    pub async fn stop(self) {
        self.vanish().await;
    }
}

async fn keep_fresh(
    world: Arc<World>,
    endpoint: Arc<Endpoint>,
    half_life: Duration,
    stop: CancellationToken,
) {
    while stop.run_until_cancelled(tokio::time::sleep(half_life)).await.is_some() {
        if let Err(error) = world.rotate(&endpoint) {
            tracing::error!(%error, "development SVIDs could not be renewed");
        }
        // After the leaves: a new CA is known to everybody one renewal before it signs.
        world.rotate_aged_cas();
    }
}
