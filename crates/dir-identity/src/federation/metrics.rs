//! Gauges and counters of federation, by trust domain.

use crate::metrics::register;
use dir_core::{Timestamp, TrustDomain};
use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry};

/// Metrics of one manager.
#[derive(Clone)]
pub(super) struct FederationMetrics {
    sequence: IntGaugeVec,
    last_success: GaugeVec,
    fetches: IntCounterVec,
    failures: IntGaugeVec,
    locked_out: IntGaugeVec,
    stale: IntGaugeVec,
}

/// Metrics of the endpoint that publishes our own bundle.
#[derive(Clone)]
pub(super) struct PublishMetrics {
    published: IntGaugeVec,
    requests: IntCounterVec,
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGaugeVec {
    let gauge =
        IntGaugeVec::new(Opts::new(name, help), &["trust_domain"]).unwrap_or_else(|e| unreachable!("{e}"));
    register(registry, Box::new(gauge.clone()));
    gauge
}

fn counter(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let counter = IntCounterVec::new(Opts::new(name, help), labels).unwrap_or_else(|e| unreachable!("{e}"));
    register(registry, Box::new(counter.clone()));
    counter
}

impl PublishMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let requests = counter(
            registry,
            "federation_bundle_requests_total",
            "Requests for our own bundle, by HTTP status.",
            &["code"],
        );
        requests.with_label_values(&["200"]);
        let published = gauge(
            registry,
            "federation_published_sequence",
            "Sequence number of our own bundle as published.",
        );
        Self { published, requests }
    }

    pub(super) fn published(&self, domain: &TrustDomain, sequence: u64) {
        let label = [domain.as_str()];
        self.published.with_label_values(&label).set(i64::try_from(sequence).unwrap_or(i64::MAX));
    }

    pub(super) fn answered(&self, code: u16) {
        self.requests.with_label_values(&[&code.to_string()]).inc();
    }
}

impl FederationMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let last = Opts::new(
            "federation_last_success_timestamp_seconds",
            "When a partner's bundle was last fetched, Unix time.",
        );
        let last_success = GaugeVec::new(last, &["trust_domain"]).unwrap_or_else(|e| unreachable!("{e}"));
        register(registry, Box::new(last_success.clone()));
        Self {
            sequence: gauge(
                registry,
                "bundle_sequence",
                "Sequence number of the bundle last fetched from a partner.",
            ),
            last_success,
            fetches: counter(
                registry,
                "federation_fetches_total",
                "Fetches of partners' bundles, by result.",
                &["trust_domain", "result"],
            ),
            failures: gauge(registry, "federation_failures", "Failed fetches since the last good one."),
            locked_out: gauge(
                registry,
                "federation_locked_out",
                "1 while a partner's endpoint cannot be verified with any bundle held: a new one must be given.",
            ),
            stale: gauge(
                registry,
                "federation_stale",
                "1 while a partner is not trusted because its bundle is older than max_stale.",
            ),
        }
    }

    pub(super) fn fetched(&self, domain: &TrustDomain, result: &str, failures: u32, locked_out: bool) {
        let label = [domain.as_str()];
        self.fetches.with_label_values(&[domain.as_str(), result]).inc();
        self.failures.with_label_values(&label).set(failures.into());
        self.locked_out.with_label_values(&label).set(locked_out.into());
    }

    /// The samples of a partner begin at 0.
    pub(super) fn expect(&self, domain: &TrustDomain) {
        let label = [domain.as_str()];
        for gauge in [&self.failures, &self.locked_out, &self.stale] {
            gauge.with_label_values(&label);
        }
        self.fetches.with_label_values(&[domain.as_str(), "ok"]);
    }

    #[allow(clippy::cast_precision_loss)] // Seconds since 1970 are exact in an f64.
    pub(super) fn held(&self, domain: &TrustDomain, sequence: Option<u64>, at: Timestamp) {
        let label = [domain.as_str()];
        self.last_success.with_label_values(&label).set(at.secs() as f64);
        if let Some(sequence) = sequence {
            self.sequence.with_label_values(&label).set(i64::try_from(sequence).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn stale(&self, domain: &TrustDomain, stale: bool) {
        self.stale.with_label_values(&[domain.as_str()]).set(stale.into());
    }

    /// Drops the samples of a former partner; absent ones are no error.
    pub(super) fn forget(&self, domain: &TrustDomain) {
        let label = [domain.as_str()];
        for gauge in [&self.sequence, &self.failures, &self.locked_out, &self.stale] {
            let _ = gauge.remove_label_values(&label);
        }
        let _ = self.last_success.remove_label_values(&label);
    }
}
