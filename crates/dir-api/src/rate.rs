//! Rate limits: token buckets, asked once when a call or stream opens; messages inside a stream are free.
//!
//! A bucket is kept as one number, the instant at which it is full again (the generic cell rate algorithm): taking a
//! token moves it by one interval. A bucket that is full again is the same as one that was never used, so forgetting
//! idle callers loses nothing.

use crate::{AppError, methods, status};
use dir_core::Principal;
use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;

/// Parts of the table of callers, each with a lock of its own.
const SHARDS: usize = 64;

/// A rate: calls a second, and calls at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Calls a second; 0 is no limit.
    pub rps: f64,
    /// Calls at once; 0 together with a rate denies every call.
    pub burst: u32,
}

/// What is limited. Of several that fit a call exactly one is asked: the method's, else the caller's, else that of
/// everybody; without any the call goes on.
#[derive(Debug, Clone)]
pub struct RateConfig {
    /// Everybody together, callers without an identity among them.
    pub global: Option<Rate>,
    /// One SPIFFE ID.
    pub per_client: Option<Rate>,
    /// One caller on one method, by full method name (`/agntcy.dir.store.v1.StoreService/Push`). A rate of 0 frees the
    /// method from every limit.
    pub methods: BTreeMap<String, Rate>,
    /// Callers that are remembered at once (times the methods with a limit of their own).
    pub callers_max: usize,
}

impl Default for RateConfig {
    fn default() -> Self {
        Self { global: None, per_client: None, methods: BTreeMap::new(), callers_max: 65_536 }
    }
}

/// A rate in the terms of a bucket, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Terms {
    /// Between two tokens.
    interval: u64,
    /// From empty to full.
    span: u64,
}

/// A call that has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Until there is a token.
    For(Duration),
    /// For ever: the bucket holds none.
    Never,
}

impl Terms {
    /// `None` is no limit.
    fn of(rate: Rate) -> Option<Self> {
        if rate.rps.is_nan() || rate.rps <= 0.0 {
            return None;
        }
        // Nobody waits for longer than a day for a token.
        let interval = Duration::try_from_secs_f64(1.0 / rate.rps).unwrap_or(Duration::MAX);
        let interval = interval.min(Duration::from_secs(24 * 3600)).as_nanos();
        let interval = u64::try_from(interval).unwrap_or(u64::MAX).max(1);
        Some(Self { interval, span: interval.saturating_mul(u64::from(rate.burst)) })
    }

    /// Takes a token from a bucket that is full again at `full_at`; answers when it then is.
    fn take(self, full_at: u64, now: u64) -> Result<u64, Wait> {
        if self.span == 0 {
            return Err(Wait::Never);
        }
        let next = full_at.max(now).saturating_add(self.interval);
        match (next - now).checked_sub(self.span) {
            None | Some(0) => Ok(next),
            Some(early) => Err(Wait::For(Duration::from_nanos(early))),
        }
    }
}

/// One bucket for everybody: without a lock.
#[derive(Debug)]
struct Global {
    terms: Terms,
    full_at: AtomicU64,
}

impl Global {
    fn take(&self, now: u64) -> Result<(), Wait> {
        let mut wait = Wait::Never;
        let taken = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            self.terms.take(full_at, now).map_err(|refused| wait = refused).ok()
        });
        if taken.is_ok() { Ok(()) } else { Err(wait) }
    }
}

/// A caller's bucket.
#[derive(Debug, Clone, Copy)]
struct Held {
    full_at: u64,
    used_at: u64,
}

/// Buckets by caller (and method). A key is 64 bits of a keyed hash: two callers that share one by chance share a
/// bucket, and nobody can aim at it.
#[derive(Debug)]
struct Callers {
    shards: Vec<Mutex<HashMap<u64, Held>>>,
    shard_max: usize,
}

impl Callers {
    fn new(max: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            shard_max: max.div_ceil(SHARDS).max(1),
        }
    }

    fn take(&self, key: u64, terms: Terms, now: u64) -> Result<(), Wait> {
        let shard = usize::try_from(key >> 32).unwrap_or_default() % SHARDS;
        let mut held = self.shards[shard].lock();
        if let Some(bucket) = held.get_mut(&key) {
            bucket.used_at = now;
            bucket.full_at = terms.take(bucket.full_at, now)?;
            return Ok(());
        }
        let full_at = terms.take(now, now)?;
        if held.len() >= self.shard_max {
            make_room(&mut held, now);
        }
        held.insert(key, Held { full_at, used_at: now });
        Ok(())
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

/// Forgets every bucket that is full again, else the one that was not used for longest.
fn make_room(held: &mut HashMap<u64, Held>, now: u64) {
    let before = held.len();
    held.retain(|_, bucket| bucket.full_at > now);
    if held.len() == before
        && let Some(oldest) = held.iter().min_by_key(|(_, bucket)| bucket.used_at).map(|(key, _)| *key)
    {
        held.remove(&oldest);
    }
}

/// What a method says of itself.
#[derive(Debug, Clone, Copy)]
enum Own {
    Nothing,
    Unlimited,
    Limit(Terms),
}

/// The limits in force.
pub(crate) struct Limiter {
    begun: Instant,
    hash: RandomState,
    global: Option<Global>,
    per_client: Option<Terms>,
    /// By number of the method.
    methods: Vec<Own>,
    callers: Callers,
    limited: [IntCounter; 3],
}

/// A method with a limit that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "rate limit of {0}: the API has no such method; names are those of `grpcurl list`, with a slash in front"
)]
pub struct NoSuchMethod(pub String);

/// The buckets as the metric names them, by the numbers below.
const BUCKETS: [&str; 3] = ["global", "client", "method"];
const GLOBAL: usize = 0;
const CLIENT: usize = 1;
const METHOD: usize = 2;

impl Limiter {
    pub(crate) fn new(config: &RateConfig, registry: &Registry) -> Result<Self, AppError> {
        // Number 0 is every path that is no method.
        let known: Vec<_> = std::iter::once(String::new()).chain(methods::paths()).collect();
        if let Some(path) = config.methods.keys().find(|path| path.is_empty() || !known.contains(path)) {
            return Err(NoSuchMethod(path.clone()).into());
        }
        let own = |path: &String| match config.methods.get(path) {
            None => Own::Nothing,
            Some(rate) => Terms::of(*rate).map_or(Own::Unlimited, Own::Limit),
        };
        let by_number = known.iter().map(own).collect();
        let opts =
            Opts::new("rate_limited_total", "Calls refused by a rate limit, by the bucket that was empty.");
        let limited = IntCounterVec::new(opts, &["bucket"])?;
        registry.register(Box::new(limited.clone()))?;
        let global = config.global.and_then(Terms::of);
        Ok(Self {
            begun: Instant::now(),
            hash: RandomState::new(),
            global: global.map(|terms| Global { terms, full_at: AtomicU64::new(0) }),
            per_client: config.per_client.and_then(Terms::of),
            methods: by_number,
            callers: Callers::new(config.callers_max),
            limited: BUCKETS.map(|bucket| limited.with_label_values(&[bucket])),
        })
    }

    /// Whether a call that opens at `now` goes on.
    pub(crate) fn admit(
        &self,
        principal: &Principal,
        method: usize,
        path: &str,
        now: Instant,
    ) -> Result<(), Status> {
        self.take(principal, method, now).map_err(|(bucket, wait)| {
            self.limited[bucket].inc();
            status::rate_limited(path, wait)
        })
    }

    fn take(&self, principal: &Principal, method: usize, now: Instant) -> Result<(), (usize, Wait)> {
        let now = u64::try_from(now.saturating_duration_since(self.begun).as_nanos()).unwrap_or(u64::MAX);
        // Callers without an identity are one caller.
        let id = match principal {
            Principal::Anonymous | Principal::Http => None,
            Principal::Spiffe(_) | Principal::Oidc(_) => Some(principal.as_str()),
        };
        match (self.methods.get(method).copied().unwrap_or(Own::Nothing), self.per_client, id) {
            (Own::Unlimited, ..) => Ok(()),
            (Own::Limit(terms), _, id) => {
                let key = self.hash.hash_one((method, id));
                self.callers.take(key, terms, now).map_err(|wait| (METHOD, wait))
            }
            (Own::Nothing, Some(terms), Some(id)) => {
                let key = self.hash.hash_one((0_usize, id));
                self.callers.take(key, terms, now).map_err(|wait| (CLIENT, wait))
            }
            (Own::Nothing, ..) => match &self.global {
                Some(global) => global.take(now).map_err(|wait| (GLOBAL, wait)),
                None => Ok(()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(config: &RateConfig) -> Limiter {
        Limiter::new(config, &Registry::new()).unwrap()
    }

    fn id(name: &str) -> Principal {
        Principal::Spiffe(format!("spiffe://acme.example/{name}").parse().unwrap())
    }

    const ONE: usize = 1;
    const TWO: usize = 2;

    const fn rate(rps: f64, burst: u32) -> Rate {
        Rate { rps, burst }
    }

    /// How many of 10,000 calls at one instant go on.
    fn burst(limiter: &Limiter, who: &Principal, method: usize, now: Instant) -> usize {
        (0..10_000).take_while(|_| limiter.take(who, method, now).is_ok()).count()
    }

    #[test]
    fn a_burst_then_the_rate_exactly() {
        for (rps, size) in [(50.0, 100), (500.0, 1000)] {
            let limiter = limiter(&RateConfig { global: Some(rate(rps, size)), ..RateConfig::default() });
            let t = limiter.begun;
            let token = Duration::from_secs_f64(1.0 / rps);
            assert_eq!(burst(&limiter, &Principal::Anonymous, ONE, t), size as usize);
            let refused = limiter.take(&Principal::Anonymous, ONE, t);
            assert_eq!(refused, Err((GLOBAL, Wait::For(token))), "the wait is one token");
            let before = t + token - Duration::from_nanos(1);
            assert_eq!(
                limiter.take(&Principal::Anonymous, ONE, before),
                Err((GLOBAL, Wait::For(Duration::from_nanos(1))))
            );
            assert_eq!(burst(&limiter, &id("a"), ONE, t + token), 1, "one token came back, for anybody");
            // Never more than the burst, however long nobody called.
            assert_eq!(burst(&limiter, &id("a"), ONE, t + Duration::from_secs(3600)), size as usize);
        }
    }

    #[test]
    fn a_noisy_caller_takes_nothing_from_another() {
        let limiter = limiter(&RateConfig {
            global: Some(rate(1.0, 1)),
            per_client: Some(rate(10.0, 20)),
            ..RateConfig::default()
        });
        let t = limiter.begun;
        assert_eq!(burst(&limiter, &id("noisy"), ONE, t), 20);
        assert_eq!(limiter.take(&id("noisy"), TWO, t).unwrap_err().0, CLIENT, "methods share the bucket");
        assert_eq!(burst(&limiter, &id("quiet"), ONE, t), 20);
        assert_eq!(burst(&limiter, &Principal::Anonymous, ONE, t), 1, "without identity: the global one");
        assert_eq!(limiter.take(&Principal::Anonymous, ONE, t).unwrap_err().0, GLOBAL);
    }

    #[test]
    fn a_method_has_a_bucket_for_each_caller_and_nothing_else_is_asked() {
        let push = "/agntcy.dir.store.v1.StoreService/Push";
        let health = "/grpc.health.v1.Health/Check";
        let methods = [(push, 5.0, 5), (health, 0.0, 0)];
        let limiter = limiter(&RateConfig {
            global: Some(rate(1.0, 1)),
            per_client: Some(rate(1.0, 2)),
            methods: methods.map(|(m, rps, burst)| (m.to_owned(), Rate { rps, burst })).into(),
            ..RateConfig::default()
        });
        let find = |path: &str| 1 + methods::paths().position(|known| known == path).unwrap();
        let (push, health, t) = (find(push), find(health), limiter.begun);
        for who in [id("a"), id("b"), Principal::Anonymous] {
            assert_eq!(burst(&limiter, &who, push, t), 5);
            assert_eq!(limiter.take(&who, push, t).unwrap_err().0, METHOD);
            assert_eq!(burst(&limiter, &who, health, t), 10_000, "a rate of 0 is no limit");
        }
        let lookup = find("/agntcy.dir.store.v1.StoreService/Lookup");
        assert_eq!(burst(&limiter, &id("a"), lookup, t), 2, "other methods: the caller's bucket, untouched");
    }

    #[test]
    fn a_burst_of_zero_denies_and_a_rate_of_zero_does_not() {
        let denied = limiter(&RateConfig { global: Some(rate(5.0, 0)), ..RateConfig::default() });
        let late = denied.begun + Duration::from_secs(100);
        assert_eq!(denied.take(&id("a"), ONE, late), Err((GLOBAL, Wait::Never)));
        let free = limiter(&RateConfig { global: Some(rate(0.0, 0)), ..RateConfig::default() });
        assert_eq!(burst(&free, &id("a"), ONE, late), 10_000);
        assert_eq!(burst(&limiter(&RateConfig::default()), &id("a"), ONE, late), 10_000);
    }

    #[test]
    fn a_hundred_thousand_callers_fit_in_the_table_and_a_noisy_one_stays() {
        let config =
            RateConfig { per_client: Some(rate(0.001, 2)), callers_max: 4096, ..RateConfig::default() };
        let limiter = limiter(&config);
        let noisy = id("noisy");
        let mut now = limiter.begun;
        assert_eq!(burst(&limiter, &noisy, ONE, now), 2);
        for n in 0..100_000 {
            now += Duration::from_micros(1);
            assert_eq!(limiter.take(&id(&format!("agent-{n}")), ONE, now), Ok(()));
            assert!(limiter.take(&noisy, ONE, now).is_err(), "was forgotten at {n}");
        }
        assert!(limiter.callers.len() <= 4096, "{}", limiter.callers.len());
        // An hour later all but the newest are full again: the next caller that needs room finds it.
        let before = limiter.callers.len();
        for n in 0..1000 {
            limiter.take(&id(&format!("late-{n}")), ONE, now + Duration::from_secs(3600)).unwrap();
        }
        assert!(limiter.callers.len() < before / 2, "{}", limiter.callers.len());
    }

    #[test]
    fn a_limit_for_a_method_that_does_not_exist_is_refused() {
        let methods = [("/a.B/C".to_owned(), Rate { rps: 1.0, burst: 1 })].into();
        let config = RateConfig { methods, ..RateConfig::default() };
        let made = Limiter::new(&config, &Registry::new());
        assert!(made.err().unwrap().to_string().contains("/a.B/C"));
    }
}
