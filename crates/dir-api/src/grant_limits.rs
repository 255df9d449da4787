//! Limits that come with a grant: what a rule of the policy gives each of its callers, calls a second and open streams.
//! They outlive the policy that named them: taking it anew gives nobody a full bucket.

use crate::status;
use dir_core::Principal;
use dir_core::bucket::{Buckets, Rate, Terms};
use dir_core::policy::Rule;
use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::time::Instant;
use tonic::Status;

/// Callers (times rules with a rate) that are remembered at once.
const CALLERS_MAX: usize = 65_536;

/// By rule and caller, the streams that are open.
type Open = Arc<Mutex<HashMap<(String, Principal), u32>>>;

pub(crate) struct GrantLimits {
    begun: Instant,
    callers: Buckets,
    open: Open,
    limited: [IntCounter; 2],
}

/// A call as its limits see it.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) path: &'a str,
    pub(crate) stream: bool,
    pub(crate) now: Instant,
}

/// The place of an open stream among those of its caller.
#[derive(Debug)]
pub(crate) struct Place {
    open: Open,
    key: (String, Principal),
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
    }
}

impl GrantLimits {
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new("grant_limited_total", "Calls refused by a limit of the rule that allows them.");
        let limited = IntCounterVec::new(opts, &["limit"])?;
        registry.register(Box::new(limited.clone()))?;
        Ok(Self {
            begun: Instant::now(),
            callers: Buckets::new(CALLERS_MAX),
            open: Open::default(),
            limited: ["rate", "streams"].map(|limit| limited.with_label_values(&[limit])),
        })
    }

    /// Whether the limits of a rule let a call of `who` go on; the place is held for as long as it is open.
    pub(crate) fn admit(
        &self,
        rule: &Rule,
        who: &Principal,
        wanted: Wanted<'_>,
    ) -> Result<Option<Place>, Status> {
        let Some(limits) = rule.limits else { return Ok(None) };
        // Streams first: a refused one costs no token.
        let place = match limits.max_streams.filter(|_| wanted.stream) {
            Some(most) => Some(self.sit(rule, who, most).ok_or_else(|| {
                self.limited[1].inc();
                status::too_many_streams(wanted.path, most)
            })?),
            None => None,
        };
        let terms = limits.rate().and_then(|(rps, burst)| Terms::of(Rate { rps: f64::from(rps), burst }));
        if let Some(terms) = terms {
            let now = wanted.now.saturating_duration_since(self.begun).as_nanos();
            let now = u64::try_from(now).unwrap_or(u64::MAX);
            self.callers.take((rule.id.as_str(), who), terms, now).map_err(|wait| {
                self.limited[0].inc();
                status::rate_limited(wanted.path, wait)
            })?;
        }
        Ok(place)
    }

    fn sit(&self, rule: &Rule, who: &Principal, most: u32) -> Option<Place> {
        let key = (rule.id.clone(), who.clone());
        let mut open = self.open.lock();
        let count = open.entry(key.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place { open: self.open.clone(), key })
    }
}
