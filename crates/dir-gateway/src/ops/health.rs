//! The health report as JSON.

use serde::Serialize;
use std::collections::BTreeMap;

/// The word for the node or one component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// In order.
    Healthy,
    /// Works with less than it should have.
    Degraded,
    /// Does not work.
    Unhealthy,
    /// Coming up.
    Starting,
    /// Going down in order.
    Draining,
}

/// One component: `"<name>":{"status":"healthy"}`, with `detail` when there is something to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComponentHealth {
    /// Its state.
    pub status: Status,
    /// Cause or progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The whole node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    /// The worst that holds.
    pub status: Status,
    /// Traffic may come.
    pub ready: bool,
    /// A restart would not help.
    pub live: bool,
    /// It was ready once.
    pub started: bool,
    /// The first thing that keeps it from being ready.
    #[serde(skip)]
    pub obstacle: Option<String>,
    /// By component.
    pub components: BTreeMap<&'static str, ComponentHealth>,
}

/// Where the report comes from. Must answer from memory, at once.
pub trait HealthSource: Send + Sync {
    /// The state at this moment.
    fn report(&self) -> HealthReport;
}
