//! Rate limits: token buckets, asked once when a call or stream opens; messages inside a stream are free.

use crate::{AppError, methods, status};
pub use dir_core::bucket::Rate;
use dir_core::bucket::{Bucket, Buckets, Terms, Wait};
use dir_core::{Principal, TrustDomain};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use std::collections::BTreeMap;
use std::net::IpAddr;
use tokio::time::Instant;
use tonic::Status;

/// What is limited. Of several that fit a call exactly one is asked: the method's, else the caller's, else that of
/// everybody; without any the call goes on. Then that of the trust domain is asked, and for calls that hand out
/// credentials a stricter one.
#[derive(Debug, Clone)]
pub struct RateConfig {
    /// Everybody together, callers without an identity among them.
    pub global: Option<Rate>,
    /// One SPIFFE ID.
    pub per_client: Option<Rate>,
    /// One caller on one method, by full method name (`/agntcy.dir.store.v1.StoreService/Push`). A rate of 0 frees the
    /// method from every limit.
    pub methods: BTreeMap<String, Rate>,
    /// All SPIFFE IDs of one trust domain together.
    pub per_trust_domain: Option<Rate>,
    /// Failed authentications a minute from one address, and calls a minute of one caller that hand out credentials;
    /// 0 is no limit.
    pub auth_per_minute: u32,
    /// Callers that are remembered at once (times the methods with a limit of their own).
    pub callers_max: usize,
}

impl Default for RateConfig {
    fn default() -> Self {
        Self {
            global: None,
            per_client: None,
            methods: BTreeMap::new(),
            per_trust_domain: None,
            auth_per_minute: 60,
            callers_max: 65_536,
        }
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
    global: Option<Bucket>,
    per_client: Option<Terms>,
    /// By number of the method.
    methods: Vec<Own>,
    per_trust_domain: Option<Terms>,
    auth: Option<Terms>,
    /// Methods that hand out credentials, by number.
    credentials: Vec<usize>,
    callers: Buckets,
    limited: [IntCounter; 5],
}

/// A method with a limit that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "rate limit of {0}: the API has no such method; names are those of `grpcurl list`, with a slash in front"
)]
pub struct NoSuchMethod(pub String);

/// The buckets as the metric names them, by the numbers below.
const BUCKETS: [&str; 5] = ["global", "client", "method", "trust_domain", "auth"];
const GLOBAL: usize = 0;
const CLIENT: usize = 1;
const METHOD: usize = 2;
const DOMAIN: usize = 3;
const AUTH: usize = 4;

/// Methods whose answer is a credential.
const CREDENTIALS: [&str; 1] = ["/agntcy.dir.store.v1.SyncService/RequestRegistryCredentials"];

/// Whose bucket.
#[derive(Hash)]
enum Key<'a> {
    Client(&'a str),
    Method(usize, Option<&'a str>),
    Domain(&'a TrustDomain),
    Credentials(Option<&'a str>),
    Address(IpAddr),
}

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
        let gives = |(number, path): (usize, &String)| CREDENTIALS.contains(&path.as_str()).then_some(number);
        let opts =
            Opts::new("rate_limited_total", "Calls refused by a rate limit, by the bucket that was empty.");
        let limited = IntCounterVec::new(opts, &["bucket"])?;
        registry.register(Box::new(limited.clone()))?;
        Ok(Self {
            begun: Instant::now(),
            global: config.global.and_then(Terms::of).map(Bucket::new),
            per_client: config.per_client.and_then(Terms::of),
            methods: by_number,
            per_trust_domain: config.per_trust_domain.and_then(Terms::of),
            auth: Terms::of(Rate::per_minute(config.auth_per_minute)),
            credentials: known.iter().enumerate().filter_map(gives).collect(),
            callers: Buckets::new(config.callers_max),
            limited: BUCKETS.map(|bucket| limited.with_label_values(&[bucket])),
        })
    }

    /// Whether a call that opens at `now` goes on. `peer` is whose connection it is, `principal` for whom it is made.
    pub(crate) fn admit(
        &self,
        peer: &Principal,
        principal: &Principal,
        method: usize,
        path: &str,
        now: Instant,
    ) -> Result<(), Status> {
        self.take(peer, principal, method, now).map_err(|refused| self.refuse(refused, path))
    }

    /// An authentication has failed. Answers with a refusal of its own when too many did from this address. Callers
    /// whose authentication succeeds are never asked: behind one address there may be many of them.
    pub(crate) fn failed(&self, address: IpAddr, path: &str, now: Instant) -> Result<(), Status> {
        let Some(terms) = self.auth else { return Ok(()) };
        let taken = self.callers.take(Key::Address(address.to_canonical()), terms, self.nanos(now));
        taken.map_err(|wait| self.refuse((AUTH, wait), path))
    }

    fn refuse(&self, (bucket, wait): (usize, Wait), path: &str) -> Status {
        self.limited[bucket].inc();
        status::rate_limited(path, wait)
    }

    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.begun).as_nanos()).unwrap_or(u64::MAX)
    }

    fn take(
        &self,
        peer: &Principal,
        principal: &Principal,
        method: usize,
        now: Instant,
    ) -> Result<(), (usize, Wait)> {
        let now = self.nanos(now);
        // Callers without an identity are one caller.
        let id = match principal {
            Principal::Anonymous | Principal::Http => None,
            Principal::Spiffe(_) | Principal::Oidc(_) => Some(principal.as_str()),
        };
        let callers =
            |key: Key<'_>, terms, bucket| self.callers.take(key, terms, now).map_err(|wait| (bucket, wait));
        match (self.methods.get(method).copied().unwrap_or(Own::Nothing), self.per_client, id) {
            (Own::Unlimited, ..) => return Ok(()),
            (Own::Limit(terms), _, id) => callers(Key::Method(method, id), terms, METHOD)?,
            (Own::Nothing, Some(terms), Some(id)) => callers(Key::Client(id), terms, CLIENT)?,
            (Own::Nothing, ..) => {
                if let Some(global) = &self.global {
                    global.take(now).map_err(|wait| (GLOBAL, wait))?;
                }
            }
        }
        if let (Some(terms), Some(id)) = (self.per_trust_domain, peer.spiffe_id()) {
            callers(Key::Domain(id.trust_domain()), terms, DOMAIN)?;
        }
        match self.auth {
            Some(terms) if self.credentials.contains(&method) => callers(Key::Credentials(id), terms, AUTH),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn limiter(config: &RateConfig) -> Limiter {
        Limiter::new(config, &Registry::new()).unwrap()
    }

    fn id(name: &str) -> Principal {
        Principal::Spiffe(format!("spiffe://acme.example/{name}").parse().unwrap())
    }

    fn take(limiter: &Limiter, who: &Principal, method: usize, now: Instant) -> Result<(), (usize, Wait)> {
        limiter.take(who, who, method, now)
    }

    const ONE: usize = 1;
    const TWO: usize = 2;

    const fn rate(rps: f64, burst: u32) -> Rate {
        Rate { rps, burst }
    }

    /// How many of 10,000 calls at one instant go on.
    fn burst(limiter: &Limiter, who: &Principal, method: usize, now: Instant) -> usize {
        (0..10_000).take_while(|_| take(limiter, who, method, now).is_ok()).count()
    }

    #[test]
    fn g_fifty_and_five_hundred_a_second_on_a_fake_clock() {
        for (rps, size) in [(50.0, 100), (500.0, 1000)] {
            let limiter = limiter(&RateConfig { global: Some(rate(rps, size)), ..RateConfig::default() });
            let t = limiter.begun;
            let token = Duration::from_secs_f64(1.0 / rps);
            assert_eq!(burst(&limiter, &Principal::Anonymous, ONE, t), size as usize);
            let refused = take(&limiter, &Principal::Anonymous, ONE, t);
            assert_eq!(refused, Err((GLOBAL, Wait::For(token))), "the wait is one token");
            let before = t + token - Duration::from_nanos(1);
            assert_eq!(
                take(&limiter, &Principal::Anonymous, ONE, before),
                Err((GLOBAL, Wait::For(Duration::from_nanos(1))))
            );
            assert_eq!(burst(&limiter, &id("a"), ONE, t + token), 1, "one token came back, for anybody");
            // Never more than the burst, however long nobody called.
            assert_eq!(burst(&limiter, &id("a"), ONE, t + Duration::from_secs(3600)), size as usize);
        }
    }

    #[test]
    fn g_a_noisy_caller_takes_nothing_from_another() {
        let limiter = limiter(&RateConfig {
            global: Some(rate(1.0, 1)),
            per_client: Some(rate(10.0, 20)),
            ..RateConfig::default()
        });
        let t = limiter.begun;
        assert_eq!(burst(&limiter, &id("noisy"), ONE, t), 20);
        assert_eq!(take(&limiter, &id("noisy"), TWO, t).unwrap_err().0, CLIENT, "methods share the bucket");
        assert_eq!(burst(&limiter, &id("quiet"), ONE, t), 20);
        assert_eq!(burst(&limiter, &Principal::Anonymous, ONE, t), 1, "without identity: the global one");
        assert_eq!(take(&limiter, &Principal::Anonymous, ONE, t).unwrap_err().0, GLOBAL);
    }

    #[test]
    fn g_a_method_has_a_bucket_for_each_caller_and_nothing_else_is_asked() {
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
            assert_eq!(take(&limiter, &who, push, t).unwrap_err().0, METHOD);
            assert_eq!(burst(&limiter, &who, health, t), 10_000, "a rate of 0 is no limit");
        }
        let lookup = find("/agntcy.dir.store.v1.StoreService/Lookup");
        assert_eq!(burst(&limiter, &id("a"), lookup, t), 2, "other methods: the caller's bucket, untouched");
    }

    #[test]
    fn g_a_burst_of_zero_denies_and_a_rate_of_zero_does_not() {
        let denied = limiter(&RateConfig { global: Some(rate(5.0, 0)), ..RateConfig::default() });
        let late = denied.begun + Duration::from_secs(100);
        assert_eq!(take(&denied, &id("a"), ONE, late), Err((GLOBAL, Wait::Never)));
        let free = limiter(&RateConfig { global: Some(rate(0.0, 0)), ..RateConfig::default() });
        assert_eq!(burst(&free, &id("a"), ONE, late), 10_000);
        assert_eq!(burst(&limiter(&RateConfig::default()), &id("a"), ONE, late), 10_000);
    }

    #[test]
    fn g_a_hundred_thousand_callers_fit_in_the_table_and_a_noisy_one_stays() {
        let config =
            RateConfig { per_client: Some(rate(0.001, 2)), callers_max: 4096, ..RateConfig::default() };
        let limiter = limiter(&config);
        let noisy = id("noisy");
        let mut now = limiter.begun;
        assert_eq!(burst(&limiter, &noisy, ONE, now), 2);
        for n in 0..100_000 {
            now += Duration::from_micros(1);
            assert_eq!(take(&limiter, &id(&format!("agent-{n}")), ONE, now), Ok(()));
            assert!(take(&limiter, &noisy, ONE, now).is_err(), "was forgotten at {n}");
        }
        assert!(limiter.callers.len() <= 4096, "{}", limiter.callers.len());
        // An hour later all but the newest are full again: the next caller that needs room finds it.
        let before = limiter.callers.len();
        for n in 0..1000 {
            take(&limiter, &id(&format!("late-{n}")), ONE, now + Duration::from_secs(3600)).unwrap();
        }
        assert!(limiter.callers.len() < before / 2, "{}", limiter.callers.len());
    }

    #[test]
    fn g_a_limit_for_a_method_that_does_not_exist_is_refused() {
        let methods = [("/a.B/C".to_owned(), Rate { rps: 1.0, burst: 1 })].into();
        let config = RateConfig { methods, ..RateConfig::default() };
        let made = Limiter::new(&config, &Registry::new());
        assert!(made.err().unwrap().to_string().contains("/a.B/C"));
    }

    #[test]
    fn g_a_trust_domain_has_a_bucket_for_all_its_callers() {
        let limiter = limiter(&RateConfig {
            per_client: Some(rate(10.0, 20)),
            per_trust_domain: Some(rate(1.0, 30)),
            ..RateConfig::default()
        });
        let t = limiter.begun;
        assert_eq!(burst(&limiter, &id("a"), ONE, t), 20);
        assert_eq!(burst(&limiter, &id("b"), ONE, t), 10, "what a left of the 30 of acme.example");
        assert_eq!(take(&limiter, &id("c"), ONE, t).unwrap_err().0, DOMAIN);
        let other = Principal::Spiffe("spiffe://other.example/a".parse().unwrap());
        assert_eq!(burst(&limiter, &other, ONE, t), 20);
        // Whom a gateway speaks for counts for the trust domain of the gateway.
        let alice = Principal::parse_delegated("oidc:google:alice").unwrap();
        assert_eq!(limiter.take(&id("gateway"), &alice, ONE, t).unwrap_err().0, DOMAIN);
        assert_eq!(limiter.take(&other, &alice, ONE, t), Ok(()));
    }

    #[test]
    fn g_authentication_failures_sixty_a_minute_from_one_address() {
        let limiter = limiter(&RateConfig::default());
        let (t, path) = (limiter.begun, "/a.B/C");
        let here: IpAddr = "192.0.2.1".parse().unwrap();
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        let failed = |from: IpAddr, now| limiter.failed(from, path, now).is_ok();
        assert_eq!((0..100).take_while(|_| failed(here, t)).count(), 60);
        assert!(!failed(mapped, t), "the same address, otherwise written");
        assert!(failed("192.0.2.2".parse().unwrap(), t));
        assert!(failed(here, t + Duration::from_secs(1)) && !failed(here, t + Duration::from_secs(1)));
        let free = super::tests::limiter(&RateConfig { auth_per_minute: 0, ..RateConfig::default() });
        assert!((0..1000).all(|_| free.failed(here, path, t).is_ok()));
    }

    #[test]
    fn g_credentials_sixty_a_minute_for_one_caller() {
        let limiter = limiter(&RateConfig::default());
        let t = limiter.begun;
        let method = 1 + methods::paths().position(|known| known == CREDENTIALS[0]).unwrap();
        assert_eq!(burst(&limiter, &id("a"), method, t), 60);
        assert_eq!(take(&limiter, &id("a"), method, t).unwrap_err().0, AUTH);
        assert_eq!(burst(&limiter, &id("a"), ONE, t), 10_000, "other methods are free");
        assert_eq!(burst(&limiter, &id("b"), method, t), 60);
    }
}
