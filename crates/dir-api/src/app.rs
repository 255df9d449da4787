//! What is served: the services with everything they need, built once, shared by all connections.

use crate::audit::Audit;
use crate::authz::Authorization;
use crate::methods::Methods;
use crate::metrics::Metrics;
use crate::rate::{Limiter, NoSuchMethod, RateConfig};
use crate::routes::Route;
use crate::services::info::InfoConfig;
use crate::services::reflection::{self, Reflection};
use crate::token::{Gate, Tokens};
use dir_core::identity::IdentityStatus;
use dir_core::partners::Partners;
use dir_core::{Clock, Principal, SpiffeId};
use dir_engine::Engine;
use prometheus::Registry;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Named limits of the API.
#[derive(Debug, Clone)]
pub struct AppConfig {
    /// Version of the server binary, as `GetIdentity` reports it.
    pub version: String,
    /// Largest message that is received, in bytes (`connection.max_recv_msg_size`).
    pub max_recv_msg_size: usize,
    /// Largest message that is sent, in bytes (`connection.max_send_msg_size`).
    pub max_send_msg_size: usize,
    /// Records of one stream that are worked on at the same time.
    pub stream_in_flight: usize,
    /// Rate limits (`ratelimit.*`); `None` limits nothing.
    pub rates: Option<RateConfig>,
    /// Where every call leaves its lines; `None` keeps no audit log.
    pub audit: Option<Audit>,
    /// Peers that may speak for others with `x-auth-principal` (`authn.trusted_gateways`).
    pub trusted_gateways: HashSet<SpiffeId>,
    /// With it, callers are who their token says; `None`: who the handshake says.
    pub tokens: Option<Tokens>,
    /// With tokens: whether `GetServerInfo` is answered to whoever shows none (`auth.allow_anonymous_discovery`).
    pub anonymous_discovery: bool,
    /// The trust domains whose bundles this node fetches by itself.
    pub partners: Option<Arc<dyn Partners>>,
    /// What `GetServerInfo` says beyond what the services know themselves.
    pub info: InfoConfig,
    /// A watch that has nothing to tell says so this often.
    pub watch_bookmark_interval: Duration,
}

impl Default for AppConfig {
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            max_recv_msg_size: 4_194_304,
            max_send_msg_size: 4_194_304,
            stream_in_flight: 16,
            rates: None,
            audit: None,
            trusted_gateways: HashSet::new(),
            tokens: None,
            anonymous_discovery: false,
            partners: None,
            info: InfoConfig::default(),
            watch_bookmark_interval: Duration::from_secs(30),
        }
    }
}

/// What the services are made of.
pub struct AppDeps<'a> {
    /// The use cases.
    pub engine: Engine,
    /// Where `GetIdentity` looks; `None` without identity.
    pub identity: Option<Arc<dyn IdentityStatus>>,
    /// Who may call what; `None` lets every caller call everything.
    pub authorization: Option<Authorization>,
    /// Readiness: what `grpc.health.v1` answers for the service `""`.
    pub ready: watch::Receiver<bool>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where the counters go.
    pub registry: &'a Registry,
}

/// Why an [`App`] cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The registry has a metric of the same name already.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The descriptors of the API are damaged.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// A rate limit names a method that does not exist.
    #[error(transparent)]
    Rates(#[from] NoSuchMethod),
}

/// The services behind one layer stack. Cloning shares them.
#[derive(Clone)]
pub struct App(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) identity: Option<Arc<dyn IdentityStatus>>,
    pub(crate) authorization: Option<Authorization>,
    pub(crate) ready: watch::Receiver<bool>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: AppConfig,
    pub(crate) metrics: Metrics,
    pub(crate) methods: Methods,
    pub(crate) limiter: Option<Limiter>,
    pub(crate) gate: Option<Gate>,
    pub(crate) reflection: Reflection,
    /// Makes request ids of this process differ from those of others.
    pub(crate) instance: String,
}

impl Inner {
    /// Whether this is the one question that may be asked without an identity, where tokens prove who calls.
    pub(crate) fn is_anonymous_discovery(&self, method: usize, who: &Principal) -> bool {
        self.config.anonymous_discovery
            && self.gate.is_some()
            && *who == Principal::Anonymous
            && self.methods.get(method).route == Route::GetServerInfo
    }
}

impl App {
    /// Builds the services and puts every counter on the page.
    pub fn new(deps: AppDeps<'_>, config: AppConfig) -> Result<Self, AppError> {
        let metrics = Metrics::register(deps.registry, &deps.engine)?;
        let methods = Methods::new(&metrics);
        let limiter = config.rates.as_ref().map(|rates| Limiter::new(rates, deps.registry)).transpose()?;
        let gate = config.tokens.clone().map(|tokens| Gate::new(tokens, deps.registry)).transpose()?;
        let (instance, ..) = uuid::Uuid::new_v4().as_fields();
        Ok(Self(Arc::new(Inner {
            engine: deps.engine,
            identity: deps.identity,
            authorization: deps.authorization,
            ready: deps.ready,
            clock: deps.clock,
            config,
            metrics,
            methods,
            limiter,
            gate,
            reflection: reflection::build()?,
            instance: format!("{instance:08x}"),
        })))
    }
}
