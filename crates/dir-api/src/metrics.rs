//! Counters per method, resolved once: a call touches atomics and no label map.

use crate::inflow::InflowMetrics;
use crate::job_metrics::JobCollector;
use crate::status::CODES;
use dir_engine::{Counter, Engine};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Upper bounds of the latency buckets, in seconds.
const LATENCY: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Why a connection is told to go away.
const DRAIN_REASONS: [&str; 8] =
    ["age", "expiry", "first_request", "flood", "idle", "revoked", "shutdown", "stalled"];

/// Counters of one method.
pub(crate) struct MethodMetrics {
    pub(crate) started: IntCounter,
    pub(crate) handled: [IntCounter; CODES.len()],
    pub(crate) received: IntCounter,
    pub(crate) sent: IntCounter,
    pub(crate) seconds: Histogram,
}

/// The families.
pub(crate) struct Metrics {
    started: IntCounterVec,
    handled: IntCounterVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    seconds: HistogramVec,
    /// Connections that serve.
    pub(crate) open: IntGauge,
    /// Connections that were told to go away.
    pub(crate) draining: IntGauge,
    drained: IntCounterVec,
    /// Headers that claimed a delegated principal.
    pub(crate) stripped_delegations: IntCounter,
    pub(crate) inflow: InflowMetrics,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry, engine: &Engine) -> Result<Self, prometheus::Error> {
        let labels = ["grpc_type", "grpc_service", "grpc_method"];
        let with_code = ["grpc_type", "grpc_service", "grpc_method", "grpc_code"];
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            Ok::<_, prometheus::Error>(vec)
        };
        let started =
            counter("grpc_server_started_total", "Total number of RPCs started on the server.", &labels)?;
        let handled = counter(
            "grpc_server_handled_total",
            "Total number of RPCs completed on the server, regardless of success or failure.",
            &with_code,
        )?;
        let received = counter(
            "grpc_server_msg_received_total",
            "Total number of RPC stream messages received on the server.",
            &labels,
        )?;
        let sent = counter(
            "grpc_server_msg_sent_total",
            "Total number of gRPC stream messages sent by the server.",
            &labels,
        )?;
        let opts =
            HistogramOpts::new("grpc_server_handling_seconds", "Duration of RPCs, streams to their end.");
        let seconds = HistogramVec::new(opts.buckets(LATENCY.to_vec()), &labels)?;
        registry.register(Box::new(seconds.clone()))?;
        let connections =
            IntGaugeVec::new(Opts::new("connections", "Connections of the API port by state."), &["state"])?;
        registry.register(Box::new(connections.clone()))?;
        let drained = counter("drained_total", "Connections told to go away, by reason.", &["reason"])?;
        for reason in DRAIN_REASONS {
            drained.with_label_values(&[reason]);
        }
        let stripped = counter(
            "stripped_delegation_headers_total",
            "Calls whose x-auth-principal header was taken away.",
            &["component"],
        )?;
        registry.register(Box::new(EngineCollector::new(engine.clone())?))?;
        registry.register(Box::new(JobCollector::new(engine.clone())?))?;
        Ok(Self {
            started,
            handled,
            received,
            sent,
            seconds,
            open: connections.with_label_values(&["open"]),
            draining: connections.with_label_values(&["draining"]),
            drained,
            stripped_delegations: stripped.with_label_values(&["api"]),
            inflow: InflowMetrics::new(registry)?,
        })
    }

    /// The counters of one method; from here on they are on the page, at 0.
    pub(crate) fn method(&self, kind: &str, service: &str, method: &str) -> MethodMetrics {
        let labels = [kind, service, method];
        MethodMetrics {
            started: self.started.with_label_values(&labels),
            handled: CODES.map(|code| self.handled.with_label_values(&[kind, service, method, code])),
            received: self.received.with_label_values(&labels),
            sent: self.sent.with_label_values(&labels),
            seconds: self.seconds.with_label_values(&labels),
        }
    }

    /// Counts a connection that was told to go away.
    pub(crate) fn drained(&self, reason: &str) {
        self.drained.with_label_values(&[reason]).inc();
    }
}

/// What the engine counts, read when the page is made.
struct EngineCollector {
    engine: Engine,
    events: IntCounterVec,
    work: IntCounterVec,
    kept: IntGaugeVec,
}

impl EngineCollector {
    fn new(engine: Engine) -> Result<Self, prometheus::Error> {
        let opts = Opts::new("directory_engine_total", "What happened inside the engine, by kind.");
        let events = IntCounterVec::new(opts, &["kind"])?;
        let opts = Opts::new(
            "directory_index_work_total",
            "Cost of queries: values compared, values passed over unread, records looked at.",
        );
        let work = IntCounterVec::new(opts, &["kind"])?;
        let opts = Opts::new(
            "directory_index_entries",
            "What the index holds: records, events that watches can replay.",
        );
        Ok(Self { engine, events, work, kept: IntGaugeVec::new(opts, &["kind"])? })
    }
}

impl Collector for EngineCollector {
    fn desc(&self) -> Vec<&Desc> {
        [self.events.desc(), self.work.desc(), self.kept.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let stats = self.engine.stats();
        let raise = |counter: IntCounter, value: u64| counter.inc_by(value.saturating_sub(counter.get()));
        let set = |kind: &str, value: &Counter| raise(self.events.with_label_values(&[kind]), value.get());
        set("cache_hit", &stats.cache_hits);
        set("cache_miss", &stats.cache_misses);
        set("content_mismatch", &stats.corrupt);
        set("search_result_skipped", &stats.search_skipped);
        set("index_repair_queued", &stats.repairs);
        set("rebuild_record_skipped", &stats.rebuild_skipped);
        set("reconcile_run", &stats.reconcile_runs);
        set("reconcile_failed", &stats.reconcile_failed);
        set("reconcile_record_added", &stats.reconcile_added);
        set("reconcile_record_removed", &stats.reconcile_removed);
        set("event_dropped", &stats.losses.events);
        set("event_loss_episode", &stats.losses.episodes);
        let work = self.engine.query_work();
        for (kind, value) in [("values", work.values), ("sketches", work.sketches), ("records", work.records)]
        {
            raise(self.work.with_label_values(&[kind]), value);
        }
        for (kind, value) in [("records", self.engine.indexed()), ("events", self.engine.events_kept())] {
            self.kept.with_label_values(&[kind]).set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        [self.events.collect(), self.work.collect(), self.kept.collect()].concat()
    }
}
