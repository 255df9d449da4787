//! What the jobs over index and store tell, read when the page is made.

use dir_engine::{Engine, RebuildState};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntGaugeVec, Opts};

/// The families of rebuild and comparison.
pub(crate) struct JobCollector {
    engine: Engine,
    state: IntGaugeVec,
    rebuild: IntGaugeVec,
    rate: GaugeVec,
    drift: IntGaugeVec,
    held: IntGaugeVec,
    compared: GaugeVec,
}

impl JobCollector {
    pub(crate) fn new(engine: Engine) -> Result<Self, prometheus::Error> {
        let ints = |name: &str, help: &str, label: &str| IntGaugeVec::new(Opts::new(name, help), &[label]);
        let floats = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &["component"]);
        Ok(Self {
            engine,
            state: ints("directory_index_state", "1 for the state that the index is in.", "state")?,
            rebuild: ints("directory_rebuild_records", "Records of the last or running rebuild.", "state")?,
            rate: floats(
                "directory_rebuild_records_per_second",
                "Mean rate of the last or running rebuild.",
            )?,
            drift: ints(
                "directory_index_drift",
                "Records that the last complete comparison of index and store found in only one of them.",
                "missing_in",
            )?,
            held: ints(
                "directory_index_removals_held",
                "1 when so many records are gone from the store that their rows were left in the index.",
                "component",
            )?,
            compared: floats(
                "directory_index_compared_timestamp_seconds",
                "When index and store were last compared completely; 0 when never.",
            )?,
        })
    }
}

impl Collector for JobCollector {
    fn desc(&self) -> Vec<&Desc> {
        let ints =
            [&self.state, &self.rebuild, &self.drift, &self.held].into_iter().flat_map(Collector::desc);
        ints.chain([&self.rate, &self.compared].into_iter().flat_map(Collector::desc)).collect()
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_wrap)] // gauges
    fn collect(&self) -> Vec<MetricFamily> {
        let status = self.engine.rebuild_status();
        for (name, state) in [
            ("ready", RebuildState::Ready),
            ("pending", RebuildState::Pending),
            ("rebuilding", RebuildState::Rebuilding),
            ("failed", RebuildState::Failed),
        ] {
            self.state.with_label_values(&[name]).set(i64::from(status.state == state));
        }
        for (name, count) in [("walked", status.walked), ("added", status.added), ("skipped", status.skipped)]
        {
            self.rebuild.with_label_values(&[name]).set(count as i64);
        }
        let rate = if status.started_at.is_some() { status.records_per_second } else { 0.0 };
        self.rate.with_label_values(&["index"]).set(rate);
        let compared = self.engine.reconcile_status();
        let last = compared.last.unwrap_or_default();
        // What was set right is no drift any more.
        let open = |found: u64, fixed: u64| found.saturating_sub(fixed) as i64;
        self.drift.with_label_values(&["index"]).set(open(last.missing_in_index, last.added));
        self.drift.with_label_values(&["store"]).set(open(last.missing_in_store, last.removed));
        self.held.with_label_values(&["index"]).set(i64::from(last.held));
        let at = compared.last_success.map_or(0.0, |at| at.0 as f64 / 1000.0);
        self.compared.with_label_values(&["index"]).set(at);
        let mut all = self.state.collect();
        for family in [self.rebuild.collect(), self.rate.collect(), self.drift.collect(), self.held.collect()]
        {
            all.extend(family);
        }
        all.extend(self.compared.collect());
        all
    }
}
