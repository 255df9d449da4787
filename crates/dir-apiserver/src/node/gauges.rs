//! What the node says of itself on the metrics page: health by component, build, limits, size of the index.

use super::health::word;
use super::load::Base;
use crate::about;
use dir_core::index::RecordIndex;
use dir_gateway::Status;
use dir_runtime::Health;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts, Registry};
use std::sync::{Arc, Weak};

/// The words of a component.
const WORDS: [(Status, &str); 4] = [
    (Status::Healthy, "healthy"),
    (Status::Degraded, "degraded"),
    (Status::Unhealthy, "unhealthy"),
    (Status::Starting, "starting"),
];

fn gauge(name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    IntGaugeVec::new(Opts::new(name, help), labels)
}

/// Health, build and limits: what is known before anything is opened.
pub(super) fn register(base: &Base) -> Result<(), prometheus::Error> {
    let registry = &base.metrics;
    let build = gauge(
        "directory_build_info",
        "1; the labels tell what was built.",
        &["version", "git_sha", "target"],
    )?;
    let sha = about::git_sha().unwrap_or("unknown");
    build.with_label_values(&[about::VERSION, sha, about::TARGET]).set(1);
    registry.register(Box::new(build))?;
    let limits = gauge("directory_limit", "Configured limits, for comparison; 0 is none.", &["limit"])?;
    let (caps, audit) = (&base.config.limits.connections, &base.config.audit);
    for (name, limit) in [
        ("connections_total", caps.total),
        ("connections_per_identity", caps.per_identity),
        ("connections_per_ip", caps.per_ip),
        ("audit_queue", audit.queue),
    ] {
        limits.with_label_values(&[name]).set(i64::try_from(limit).unwrap_or(i64::MAX));
    }
    registry.register(Box::new(limits))?;
    registry.register(Box::new(HealthGauges::new(base.health.clone())?))
}

/// The size of the index, as long as it is there.
pub(super) fn register_index(
    registry: &Registry,
    index: &Arc<dyn RecordIndex>,
) -> Result<(), prometheus::Error> {
    let records = gauge("directory_index_records", "Records that can be found.", &["component"])?;
    registry.register(Box::new(IndexGauge { index: Arc::downgrade(index), records }))
}

struct HealthGauges {
    health: Health,
    ready: IntGaugeVec,
    components: IntGaugeVec,
}

impl HealthGauges {
    fn new(health: Health) -> Result<Self, prometheus::Error> {
        Ok(Self {
            health,
            ready: gauge(
                "directory_ready",
                "1 while the node takes traffic, as /readyz says.",
                &["component"],
            )?,
            components: gauge(
                "directory_component_status",
                "1 for the status that a component has, 0 for the others, as /healthz says.",
                &["component", "status"],
            )?,
        })
    }
}

impl Collector for HealthGauges {
    fn desc(&self) -> Vec<&Desc> {
        [self.ready.desc(), self.components.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = self.health.snapshot();
        self.ready.with_label_values(&["node"]).set(now.ready().into());
        for (name, component) in &now.components {
            let held = word(&component.state);
            for (status, text) in WORDS {
                self.components.with_label_values(&[name, text]).set((status == held).into());
            }
        }
        [self.ready.collect(), self.components.collect()].concat()
    }
}

struct IndexGauge {
    /// The page outlives the index.
    index: Weak<dyn RecordIndex>,
    records: IntGaugeVec,
}

impl Collector for IndexGauge {
    fn desc(&self) -> Vec<&Desc> {
        self.records.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(index) = self.index.upgrade() else { return Vec::new() };
        self.records.with_label_values(&["index"]).set(i64::try_from(index.len()).unwrap_or(i64::MAX));
        self.records.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_status_a_component_is_1() {
        let health = Health::new();
        let (svid, registry) = (health.vital("svid"), health.inform("registry"));
        health.seal();
        let page = Registry::new();
        page.register(Box::new(HealthGauges::new(health).unwrap())).unwrap();
        let ones = || {
            let text = prometheus::TextEncoder::new().encode_to_string(&page.gather()).unwrap();
            let lines = text.lines().filter_map(|line| line.strip_suffix(" 1").map(str::to_owned));
            lines.map(|line| line.replace("directory_component_status", "")).collect::<Vec<_>>()
        };
        registry.failed("gone");
        let starting = "{component=\"svid\",status=\"starting\"}";
        assert_eq!(ones(), ["{component=\"registry\",status=\"unhealthy\"}", starting]);
        svid.ready();
        let healthy = "{component=\"svid\",status=\"healthy\"}";
        let ready = "directory_ready{component=\"node\"}";
        assert_eq!(ones(), ["{component=\"registry\",status=\"unhealthy\"}", healthy, ready]);
    }
}
