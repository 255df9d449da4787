//! The engine over what is open, the services over the engine, and the tasks around both.

use super::load::Base;
use super::open::Opened;
use super::{audit, federation, gauges, info, limits, policy, tasks};
use crate::about;
use crate::config::keys::{Config, RulesMode};
use crate::config::leaf::Leaf;
use crate::exit::{Failure, Status};
use dir_api::{App, AppConfig, AppDeps, Audit};
use dir_core::identity::IdentityStatus;
use dir_core::rules::RecordRules;
use dir_engine::{Deps, Engine, EngineConfig, EventLogging};
use dir_oasf::{Mode, Settings};
use dir_runtime::Health;
use std::sync::Arc;
use tokio::sync::watch;

/// A node that is ready to serve.
pub(super) struct Wired {
    pub(super) opened: Opened,
    pub(super) engine: Engine,
    pub(super) app: App,
    /// `None` when it is off.
    pub(super) audit: Option<Audit>,
}

/// Makes engine and services, and starts the background tasks.
pub(super) fn wire(base: &Base, opened: Opened) -> anyhow::Result<Wired> {
    let config = &base.config;
    let audit = audit::start(base)?;
    if let (Some(audit), Some(held)) = (&audit, &opened.held) {
        audit::watch_identity(base, audit, &held.identity);
    }
    let authorization = policy::open(base, &opened, audit.clone())?;
    let deps = Deps {
        store: opened.store.clone(),
        index: opened.index.clone(),
        rules: rules(config)?,
        clock: base.clock.clone(),
    };
    let engine = Engine::new(
        deps,
        EngineConfig {
            exclusive_store: !opened.shared_store,
            index_set_aside: opened.set_aside,
            event_buffer: config.events.subscriber_buffer_size,
            event_logging: EventLogging {
                slow: config.events.log_slow_consumers,
                every: config.events.log_published_events,
            },
            ..EngineConfig::default()
        },
    )
    .with_maintenance(opened.maintenance.clone());
    let identity = opened.held.as_ref().map(|h| -> Arc<dyn IdentityStatus> { Arc::new(h.identity.clone()) });
    let app = App::new(
        AppDeps {
            engine: engine.clone(),
            identity,
            authorization,
            ready: ready(&base.health),
            clock: base.clock.clone(),
            registry: &base.metrics,
        },
        AppConfig {
            version: about::VERSION.to_owned(),
            max_recv_msg_size: config.connection.max_recv_msg_size,
            max_send_msg_size: config.connection.max_send_msg_size,
            rates: limits::rates(&config.ratelimit),
            audit: audit.clone(),
            trusted_gateways: limits::gateways(&config.authn),
            tokens: opened.held.as_ref().and_then(|h| h.tokens.clone()),
            anonymous_discovery: config.auth.allow_anonymous_discovery,
            partners: opened.federation.as_ref().and_then(federation::Running::partners),
            info: info::config(config, &opened),
            ..AppConfig::default()
        },
    )?;
    base.services.are_up(&app);
    gauges::register_index(&base.metrics, &opened.index)?;
    tasks::start(base, &opened, &engine);
    Ok(Wired { opened, engine, app, audit })
}

fn rules(config: &Config) -> anyhow::Result<Arc<dyn RecordRules>> {
    let validation = &config.oasf_api_validation;
    let mode = match validation.mode {
        RulesMode::Auto => None,
        RulesMode::Remote => Some(Mode::Remote),
        RulesMode::Builtin => Some(Mode::Builtin),
        RulesMode::Off => Some(Mode::Off),
    };
    let settings = Settings { mode, schema_url: validation.schema_url.clone(), ..Settings::default() };
    tracing::info!(mode = ?settings.mode(), schema_url = %validation.schema_url.show(), "records are judged");
    Ok(settings.rules().map_err(|e| Failure::new(Status::Config, e.to_string()))?)
}

/// Readiness as one bit that changes only when it changes.
fn ready(health: &Health) -> watch::Receiver<bool> {
    let mut snapshots = health.watch();
    let (tx, rx) = watch::channel(snapshots.borrow_and_update().ready());
    tokio::spawn(async move {
        while snapshots.changed().await.is_ok() {
            let now = snapshots.borrow_and_update().ready();
            tx.send_if_modified(|held| std::mem::replace(held, now) != now);
        }
    });
    rx
}
