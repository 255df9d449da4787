//! Token buckets over a time that is a parameter.
//!
//! A bucket is kept as one number, the instant at which it is full again (the generic cell rate algorithm): taking a
//! token moves it by one interval. A bucket that is full again is the same as one that was never used, so forgetting
//! idle ones loses nothing. Instants are nanoseconds from any fixed beginning.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Parts of a table of buckets, each with a lock of its own.
const SHARDS: usize = 64;

/// A rate: tokens a second, and tokens at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Tokens a second; 0 is no limit.
    pub rps: f64,
    /// Tokens at once; 0 together with a rate denies everything.
    pub burst: u32,
}

impl Rate {
    /// So many a minute, all of them at once if need be.
    pub fn per_minute(many: u32) -> Self {
        Self { rps: f64::from(many) / 60.0, burst: many }
    }
}

/// A rate in the terms of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Between two tokens.
    interval: u64,
    /// From empty to full.
    span: u64,
}

/// No token: how long to wait for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until there is a token.
    For(Duration),
    /// For ever: the bucket holds none.
    Never,
}

impl Terms {
    /// `None` is no limit.
    pub fn of(rate: Rate) -> Option<Self> {
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
pub struct Bucket {
    terms: Terms,
    full_at: AtomicU64,
}

impl Bucket {
    /// A full one.
    pub const fn new(terms: Terms) -> Self {
        Self { terms, full_at: AtomicU64::new(0) }
    }

    /// Takes a token.
    pub fn take(&self, now: u64) -> Result<(), Wait> {
        let mut wait = Wait::Never;
        let taken = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            self.terms.take(full_at, now).map_err(|refused| wait = refused).ok()
        });
        if taken.is_ok() { Ok(()) } else { Err(wait) }
    }
}

#[derive(Debug, Clone, Copy)]
struct Held {
    full_at: u64,
    used_at: u64,
}

/// Many buckets, each by a key; those that are idle are forgotten when there is no more room. A key is kept as 64 bits
/// of a keyed hash: two that share one by chance share a bucket, and nobody can aim at it.
#[derive(Debug)]
pub struct Buckets {
    hash: RandomState,
    shards: Vec<Mutex<HashMap<u64, Held>>>,
    shard_max: usize,
}

impl Buckets {
    /// Room for about `max` buckets.
    pub fn new(max: usize) -> Self {
        Self {
            hash: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            shard_max: max.div_ceil(SHARDS).max(1),
        }
    }

    /// Takes a token from the bucket of `key`, which is full when it is new.
    pub fn take(&self, key: impl Hash, terms: Terms, now: u64) -> Result<(), Wait> {
        let key = self.hash.hash_one(key);
        let shard = usize::try_from(key >> 32).unwrap_or_default() % SHARDS;
        let mut held = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
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

    /// Buckets that are remembered.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn g_a_hundred_thousand_ids_fit_and_a_noisy_one_is_not_forgotten() {
        let buckets = Buckets::new(4096);
        let terms = Terms::of(Rate { rps: 0.001, burst: 2 }).unwrap();
        let mut now = SECOND;
        assert_eq!((buckets.take("noisy", terms, now), buckets.take("noisy", terms, now)), (Ok(()), Ok(())));
        for n in 0..100_000 {
            now += 1000;
            assert_eq!(buckets.take(format!("agent-{n}"), terms, now), Ok(()));
            assert!(buckets.take("noisy", terms, now).is_err(), "was forgotten at {n}");
        }
        assert!(buckets.len() <= 4096, "{}", buckets.len());
        // An hour later all are full again: whoever needs room finds it.
        let before = buckets.len();
        for n in 0..1000 {
            buckets.take(format!("late-{n}"), terms, now + 3600 * SECOND).unwrap();
        }
        assert!(buckets.len() < before / 2, "{}", buckets.len());
    }

    #[test]
    fn g_sixty_a_minute() {
        let bucket = Bucket::new(Terms::of(Rate::per_minute(60)).unwrap());
        assert!((0..60).all(|_| bucket.take(SECOND).is_ok()));
        assert_eq!(bucket.take(SECOND), Err(Wait::For(Duration::from_secs(1))));
        assert_eq!(bucket.take(2 * SECOND), Ok(()));
        assert!(bucket.take(2 * SECOND).is_err());
    }
}
