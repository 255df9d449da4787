//! An orderly end: named steps, one after the other, inside one deadline.
//!
//! A step that takes longer than its own limit, or than what is left, is given up and the next one starts: a
//! hanging backend must not keep the index from being flushed.

use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Runs the steps of a drain. Make it when the drain begins: its deadline counts from there.
#[derive(Debug)]
pub struct Drain {
    deadline: Instant,
    given_up: Vec<&'static str>,
}

impl Drain {
    /// A drain that is over after `total`.
    pub fn within(total: Duration) -> Self {
        Self { deadline: Instant::now() + total, given_up: Vec::new() }
    }

    /// What is left of the deadline.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Runs one step, for at most `limit` and never beyond the deadline. Answers what the step answered, or
    /// `None` when it was given up.
    pub async fn step<T>(
        &mut self,
        name: &'static str,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let began = Instant::now();
        let until = self.deadline.min(began + limit);
        let outcome = timeout_at(until, work).await.ok();
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if outcome.is_some() {
            tracing::info!(step = name, ms, "drain step done");
        } else {
            tracing::warn!(step = name, ms, "drain step given up");
            self.given_up.push(name);
        }
        outcome
    }

    /// The steps that were given up, in order.
    pub fn given_up(&self) -> &[&'static str] {
        &self.given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hanging_step_does_not_stop_the_next() {
        let mut drain = Drain::within(Duration::from_secs(10));
        let hung = drain.step("store", Duration::from_secs(3), std::future::pending::<()>()).await;
        assert!(hung.is_none());
        assert_eq!(drain.left(), Duration::from_secs(7));
        assert_eq!(drain.step("index", Duration::from_secs(60), async { 7 }).await, Some(7));
        assert_eq!(drain.given_up(), ["store"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_is_shared() {
        let began = Instant::now();
        let mut drain = Drain::within(Duration::from_secs(5));
        for name in ["a", "b", "c"] {
            drain.step(name, Duration::from_secs(4), std::future::pending::<()>()).await;
        }
        assert_eq!(began.elapsed(), Duration::from_secs(5));
        assert_eq!(drain.given_up(), ["a", "b", "c"]);
    }
}
