//! Counters and gauges of identity. Every sample has a label; none carries a full SPIFFE ID.

use crate::identity::Shared;
use crate::refuse::RefuseReason;
use dir_core::TrustDomain;
use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use std::collections::HashSet;
use std::sync::{Arc, Weak};

/// Metrics of one identity and of the acceptors that serve with it.
#[derive(Clone)]
pub(crate) struct IdentityMetrics {
    rotations: IntCounterVec,
    faults: IntCounterVec,
    rejected: IntCounterVec,
    handshake_failures: IntCounterVec,
    handshakes: IntCounterVec,
    pub(crate) shaking: IntGaugeVec,
    peers: IntGaugeVec,
    pub(crate) foreign_sni: IntCounterVec,
    revoked: IntCounterVec,
    pub(crate) revocation_seconds: HistogramVec,
    /// The trust domains that have a label of their own.
    domains: Arc<Mutex<HashSet<String>>>,
}

/// Trust domains that have a label of their own, over the life of the process; the others share one.
pub(crate) const DOMAIN_LABELS_MAX: usize = 256;
/// Label of trust domains beyond.
const OTHER_DOMAIN: &str = "other";
/// Label of peers that have none.
const NO_DOMAIN: &str = "none";

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
            shaking: metric!(
                IntGaugeVec,
                "handshakes_in_progress",
                "TLS handshakes that have begun and not ended.",
                ["component"]
            ),
            peers: metric!(
                IntGaugeVec,
                "peer_connections",
                "Connections of authenticated peers, by trust domain.",
                ["trust_domain"]
            ),
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
            domains: Arc::default(),
        };
        metrics.begin();
        metrics
    }

    /// What is counted is on the page before it happens: an increase can be seen only from a sample that is there.
    fn begin(&self) {
        for reason in RefuseReason::ALL {
            self.handshake_failures.with_label_values(&[reason.as_str()]);
        }
        self.shaking.with_label_values(&["acceptor"]);
        self.foreign_sni.with_label_values(&["acceptor"]);
        self.revocation_seconds.with_label_values(&["acceptor"]);
        self.faults.with_label_values(&["workload_api"]);
        for reason in ["svid", "tls", "withdrawn"] {
            self.rejected.with_label_values(&[reason]);
        }
    }

    pub(crate) fn register(&self, registry: &Registry) {
        register(registry, Box::new(self.rotations.clone()));
        register(registry, Box::new(self.faults.clone()));
        register(registry, Box::new(self.rejected.clone()));
    }

    pub(crate) fn register_acceptor(&self, registry: &Registry) {
        register(registry, Box::new(self.handshake_failures.clone()));
        register(registry, Box::new(self.handshakes.clone()));
        register(registry, Box::new(self.shaking.clone()));
        register(registry, Box::new(self.peers.clone()));
        register(registry, Box::new(self.foreign_sni.clone()));
        register(registry, Box::new(self.revoked.clone()));
        register(registry, Box::new(self.revocation_seconds.clone()));
    }

    /// Our own trust domain is known: its samples begin at 0.
    pub(crate) fn belongs_to(&self, own: &TrustDomain) {
        let label = [self.label(own)];
        self.rotations.with_label_values(&label);
        self.handshakes.with_label_values(&label);
        self.revoked.with_label_values(&label);
        self.peers.with_label_values(&label);
    }

    /// Who federates comes and goes; the page must not grow with it.
    fn label<'a>(&self, domain: &'a TrustDomain) -> &'a str {
        let mut known = self.domains.lock();
        if known.contains(domain.as_str()) {
            return domain.as_str();
        }
        if known.len() < DOMAIN_LABELS_MAX {
            known.insert(domain.as_str().to_owned());
            return domain.as_str();
        }
        OTHER_DOMAIN
    }

    pub(crate) fn rotated(&self, domain: &TrustDomain) {
        self.rotations.with_label_values(&[self.label(domain)]).inc();
    }

    /// A peer is connected; the answer tells how many of its trust domain are.
    pub(crate) fn connected(&self, domain: &TrustDomain) -> IntGauge {
        let label = [self.label(domain)];
        self.handshakes.with_label_values(&label).inc();
        self.peers.with_label_values(&label)
    }

    /// Tells how many peers without an identity are connected.
    pub(crate) fn anonymous(&self) -> IntGauge {
        self.peers.with_label_values(&[NO_DOMAIN])
    }

    /// A handshake without a client certificate is done; the answer tells how many peers without an identity are
    /// connected.
    pub(crate) fn admitted_anybody(&self) -> IntGauge {
        self.handshakes.with_label_values(&[NO_DOMAIN]).inc();
        self.anonymous()
    }

    pub(crate) fn revoked(&self, domain: &TrustDomain) {
        self.revoked.with_label_values(&[self.label(domain)]).inc();
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
    lifetime: GaugeVec,
    bundle_count: GaugeVec,
    bundle_age: GaugeVec,
    bundle_expiry: GaugeVec,
    bundle_last: GaugeVec,
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
            lifetime: metric!(
                GaugeVec,
                "svid_lifetime_seconds",
                "Seconds from the beginning to the end of our X509-SVID.",
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
            bundle_last: metric!(
                GaugeVec,
                "bundle_last_expiry_timestamp_seconds",
                "Latest end among the roots of a bundle, Unix time: nobody of the trust domain is trusted after it.",
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
        self.lifetime.with_label_values(&own).set(leaf.not_after.seconds_since(leaf.not_before) as f64);
        self.bundle_count.with_label_values(&["identity"]).set(snapshot.bundles().len() as f64);
        self.bundle_age.reset();
        self.bundle_expiry.reset();
        self.bundle_last.reset();
        let received = shared.received.lock();
        for bundle in snapshot.bundles().iter() {
            let domain = [bundle.trust_domain().as_str()];
            if let Some(at) = received.get(bundle.trust_domain()) {
                self.bundle_age.with_label_values(&domain).set(now.seconds_since(*at) as f64);
            }
            if let Some((_, end)) = bundle.validity.iter().min_by_key(|(_, end)| *end) {
                self.bundle_expiry.with_label_values(&domain).set(end.secs() as f64);
            }
            if let Some(end) = bundle.validity.iter().map(|(_, end)| *end).max() {
                self.bundle_last.with_label_values(&domain).set(end.secs() as f64);
            }
        }
    }

    fn gauges(&self) -> [&GaugeVec; 7] {
        [
            &self.expiry,
            &self.not_after,
            &self.lifetime,
            &self.bundle_count,
            &self.bundle_age,
            &self.bundle_expiry,
            &self.bundle_last,
        ]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_trust_domains_do_not_grow_the_page() {
        let (registry, metrics) = (Registry::new(), IdentityMetrics::new());
        metrics.register(&registry);
        metrics.register_acceptor(&registry);
        let lines =
            || prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap().lines().count();
        for number in 0..10_000 {
            let domain: TrustDomain = format!("d{number}.example").parse().unwrap();
            metrics.connected(&domain).inc();
            metrics.revoked(&domain);
            metrics.rotated(&domain);
            if number == DOMAIN_LABELS_MAX {
                assert_eq!(metrics.label(&domain), OTHER_DOMAIN);
                assert_eq!(metrics.label(&"d0.example".parse().unwrap()), "d0.example");
            }
        }
        let most = 4 * (DOMAIN_LABELS_MAX + 1);
        assert!(lines() < most + 100, "{} lines", lines());
        assert_eq!(metrics.peers.with_label_values(&[OTHER_DOMAIN]).get(), 10_000 - 256);
    }
}
