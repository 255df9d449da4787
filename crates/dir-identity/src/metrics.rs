//! Counters and gauges of identity. Every sample has a label; none carries a full SPIFFE ID.

use crate::identity::Shared;
use crate::refuse::RefuseReason;
use dir_core::TrustDomain;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use std::sync::{Arc, Weak};

/// Metrics of one identity and of the acceptors that serve with it.
#[derive(Clone)]
pub(crate) struct IdentityMetrics {
    rotations: IntCounterVec,
    faults: IntCounterVec,
    rejected: IntCounterVec,
    handshake_failures: IntCounterVec,
    pub(crate) handshakes: IntCounterVec,
    pub(crate) connections: IntGaugeVec,
    pub(crate) foreign_sni: IntCounterVec,
    pub(crate) revoked: IntCounterVec,
    pub(crate) revocation_seconds: HistogramVec,
}

/// Options that this file makes are always valid; a mistake is found by the first test that runs.
macro_rules! metric {
    ($kind:ident, $name:literal, $help:literal, [$($label:literal),+]) => {
        $kind::new(Opts::new($name, $help).into(), &[$($label),+]).unwrap_or_else(|e| unreachable!("{e}"))
    };
}

impl IdentityMetrics {
    pub(crate) fn new() -> Self {
        let revocation = HistogramOpts::new(
            "revocation_to_close_seconds",
            "Time from the bundle update that withdrew trust to the end of the connection.",
        )
        .buckets(vec![0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0]);
        let metrics = Self {
            rotations: metric!(
                IntCounterVec,
                "svid_rotations_total",
                "X509-SVIDs obtained after the first.",
                ["trust_domain"]
            ),
            faults: metric!(
                IntCounterVec,
                "identity_update_faults_total",
                "Unusable SVIDs and bundles within updates of the Workload API.",
                ["component"]
            ),
            rejected: metric!(
                IntCounterVec,
                "identity_updates_rejected_total",
                "Updates of the Workload API without a usable SVID, by reason.",
                ["reason"]
            ),
            handshake_failures: metric!(
                IntCounterVec,
                "handshake_failures_total",
                "Connections refused at the door or in the TLS handshake, by reason.",
                ["reason"]
            ),
            handshakes: metric!(
                IntCounterVec,
                "handshakes_total",
                "Completed TLS handshakes, by trust domain of the peer.",
                ["trust_domain"]
            ),
            connections: metric!(IntGaugeVec, "connections", "Connections of the API listener.", ["state"]),
            foreign_sni: metric!(
                IntCounterVec,
                "sni_not_in_svid_total",
                "Handshakes that named a host absent from our X509-SVID.",
                ["component"]
            ),
            revoked: metric!(
                IntCounterVec,
                "revoked_connections_total",
                "Connections whose peer lost our trust while connected.",
                ["trust_domain"]
            ),
            revocation_seconds: HistogramVec::new(revocation, &["component"])
                .unwrap_or_else(|e| unreachable!("{e}")),
        };
        for reason in RefuseReason::ALL {
            metrics.handshake_failures.with_label_values(&[reason.as_str()]);
        }
        for state in ["handshake", "open"] {
            metrics.connections.with_label_values(&[state]);
        }
        for reason in ["svid", "tls", "withdrawn"] {
            metrics.rejected.with_label_values(&[reason]);
        }
        metrics
    }

    pub(crate) fn register(&self, registry: &Registry) {
        register(registry, Box::new(self.rotations.clone()));
        register(registry, Box::new(self.faults.clone()));
        register(registry, Box::new(self.rejected.clone()));
    }

    pub(crate) fn register_acceptor(&self, registry: &Registry) {
        register(registry, Box::new(self.handshake_failures.clone()));
        register(registry, Box::new(self.handshakes.clone()));
        register(registry, Box::new(self.connections.clone()));
        register(registry, Box::new(self.foreign_sni.clone()));
        register(registry, Box::new(self.revoked.clone()));
        register(registry, Box::new(self.revocation_seconds.clone()));
    }

    pub(crate) fn rotated(&self, domain: &TrustDomain) {
        self.rotations.with_label_values(&[domain.as_str()]).inc();
    }

    pub(crate) fn update_fault(&self) {
        self.faults.with_label_values(&["workload_api"]).inc();
    }

    pub(crate) fn update_rejected(&self, reason: &str) {
        self.rejected.with_label_values(&[reason]).inc();
    }

    pub(crate) fn refused(&self, reason: RefuseReason) {
        self.handshake_failures.with_label_values(&[reason.as_str()]).inc();
    }
}

/// A second identity (or a second listener of one) in the same registry shares the page of the first.
pub(crate) fn register(registry: &Registry, collector: Box<dyn Collector>) {
    if let Err(error) = registry.register(collector) {
        tracing::debug!(%error, "metrics are registered already");
    }
}

/// Gauges that are computed when somebody looks.
pub(crate) struct IdentityCollector {
    shared: Weak<Shared>,
    expiry: GaugeVec,
    not_after: GaugeVec,
    bundle_count: GaugeVec,
    bundle_age: GaugeVec,
    bundle_expiry: GaugeVec,
}

impl IdentityCollector {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::downgrade(shared),
            expiry: metric!(
                GaugeVec,
                "svid_expiry_seconds",
                "Seconds to the end of our X509-SVID.",
                ["trust_domain"]
            ),
            not_after: metric!(
                GaugeVec,
                "svid_not_after_timestamp_seconds",
                "End of our X509-SVID, Unix time.",
                ["trust_domain"]
            ),
            bundle_count: metric!(
                GaugeVec,
                "bundle_count",
                "Trust bundles held, empty ones included.",
                ["component"]
            ),
            bundle_age: metric!(
                GaugeVec,
                "bundle_age_seconds",
                "Seconds since the content of a bundle was last received.",
                ["trust_domain"]
            ),
            bundle_expiry: metric!(
                GaugeVec,
                "bundle_earliest_expiry_timestamp_seconds",
                "Earliest end among the roots of a bundle, Unix time.",
                ["trust_domain"]
            ),
        }
    }

    #[allow(clippy::cast_precision_loss)] // Seconds since 1970 are exact in an f64.
    fn fill(&self, shared: &Shared) {
        let snapshot = shared.current.load();
        let now = shared.clock.now();
        let leaf = snapshot.leaf();
        let own = [leaf.id.trust_domain().as_str()];
        self.expiry.with_label_values(&own).set(leaf.not_after.seconds_since(now) as f64);
        self.not_after.with_label_values(&own).set(leaf.not_after.secs() as f64);
        self.bundle_count.with_label_values(&["identity"]).set(snapshot.bundles().len() as f64);
        self.bundle_age.reset();
        self.bundle_expiry.reset();
        let received = shared.received.lock();
        for bundle in snapshot.bundles().iter() {
            let domain = [bundle.trust_domain().as_str()];
            if let Some(at) = received.get(bundle.trust_domain()) {
                self.bundle_age.with_label_values(&domain).set(now.seconds_since(*at) as f64);
            }
            if let Some((_, end)) = bundle.validity.iter().min_by_key(|(_, end)| *end) {
                self.bundle_expiry.with_label_values(&domain).set(end.secs() as f64);
            }
        }
    }

    fn gauges(&self) -> [&GaugeVec; 5] {
        [&self.expiry, &self.not_after, &self.bundle_count, &self.bundle_age, &self.bundle_expiry]
    }
}

impl Collector for IdentityCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(shared) = self.shared.upgrade() else { return Vec::new() };
        self.fill(&shared);
        self.gauges()
            .into_iter()
            .flat_map(Collector::collect)
            .filter(|f| !f.get_metric().is_empty())
            .collect()
    }
}
