//! The conversion of the store's layout.

use super::{JobNews, Listening, Pace, Patience};
use crate::{Engine, EngineError, Op};
use dir_core::maintenance::{Reshard, Spread};
use futures::StreamExt;
use std::collections::BTreeSet;

/// What a conversion did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReshardReport {
    /// Records that are where they belong now. In a dry run: that would be moved.
    pub moved: u64,
    /// Referrers that went with them.
    pub referrers: u64,
    /// Records that cannot be moved and stay where they are.
    pub left: u64,
    /// Nothing is left to do. Otherwise the limit came first, and another run goes on.
    pub done: bool,
    /// Duration in milliseconds.
    pub millis: u64,
    /// Records that are still to be looked at, when the limit came first.
    pub remaining: u64,
}

impl Engine {
    /// Moves every record to where the layout `to` wants it, while everybody is served. `limit` ends it after so many
    /// records; the next run goes on.
    pub async fn reshard_store(
        &self,
        to: Spread,
        dry_run: bool,
        limit: Option<u64>,
        listening: &Listening,
    ) -> Result<ReshardReport, EngineError> {
        let op = Op::Reshard;
        let _turn = self.turn(op)?;
        let maintenance = self.maintenance(op)?;
        let clock = &self.0.deps.clock;
        let begun = clock.now();
        tracing::info!(%to, dry_run, limit, "store job started: reshard");
        let mut report = ReshardReport::default();
        let mut left = BTreeSet::new();
        let mut patience = Patience::new(op, None);
        let mut pace = Pace::new(op, "move", clock.now());
        'tries: loop {
            let mut steps = maintenance.reshard(to, dry_run);
            let mut looked = 0;
            while let Some(step) = steps.next().await {
                match step {
                    Ok(Reshard::Total(total)) => {
                        looked = 0;
                        pace.total = Some(pace.done + total);
                        pace.tell(clock.now(), listening).await?;
                    }
                    Ok(Reshard::Passed) => {
                        looked += 1;
                        pace.step(1, clock.now(), listening).await?;
                    }
                    Ok(Reshard::Moved(_, referrers)) => {
                        looked += 1;
                        patience.failures = 0;
                        report.moved += 1;
                        report.referrers += referrers;
                        pace.step(1, clock.now(), listening).await?;
                    }
                    Ok(Reshard::Left(finding)) => {
                        looked += 1;
                        pace.step(1, clock.now(), listening).await?;
                        // Another pass sees it again.
                        if left.insert((finding.place.clone(), finding.tag.clone())) {
                            listening.tell(op, JobNews::Finding(finding)).await?;
                        }
                    }
                    Ok(Reshard::Done) => {
                        report.done = true;
                        break 'tries;
                    }
                    Err(error) => {
                        drop(steps);
                        // What was looked at in this try is looked at again, or gone.
                        pace.done = pace.done.saturating_sub(looked).max(report.moved);
                        patience.wait(error).await?;
                        continue 'tries;
                    }
                }
                if limit.is_some_and(|limit| report.moved >= limit) {
                    break 'tries;
                }
            }
            break;
        }
        pace.tell(clock.now(), listening).await?;
        report.left = left.len() as u64;
        report.remaining =
            if report.done { 0 } else { pace.total.unwrap_or_default().saturating_sub(pace.done) };
        report.millis = u64::try_from(clock.now().0.saturating_sub(begun.0)).unwrap_or_default();
        tracing::info!(%to, moved = report.moved, left = report.left, done = report.done, "store job finished: reshard");
        Ok(report)
    }
}
