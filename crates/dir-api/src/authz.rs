//! Authorization: the policy in force, what it says of a connection, and of calls that go on while it changes.

use crate::conn::Shared;
use crate::grant_limits::{GrantLimits, Place, Wanted};
use crate::layers::Call;
use crate::methods;
use crate::records::Asker;
use crate::status;
use arc_swap::{ArcSwap, ArcSwapOption};
use dir_core::identity::RoleClaims;
use dir_core::policy::{
    Cause, Decision, Effect, Grants, MethodId, Narrowed, Policy, RecordTraits, RuleEffect,
};
use dir_core::{Cid, Principal, SpiffeId, Timestamp};
use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Rules that have a label of their own in the metrics, over the life of the process; the others share one.
const RULE_LABELS_MAX: usize = 256;
/// Label of rules beyond.
const OTHER_RULE: &str = "other";

/// The policy in force. Cloning shares it. Until [`Authorization::set`] was called, every call but those for health is
/// refused with INTERNAL `authorization unavailable`.
#[derive(Clone)]
pub struct Authorization(Arc<State>);

struct State {
    active: ArcSwapOption<Active>,
    /// Number of the active policy, for open calls that ask whether it is still the one they were judged by.
    generation: AtomicU64,
    /// Fires when the policy is replaced. Connections hold children, each with a lock of its own.
    replaced: ArcSwap<CancellationToken>,
    /// Held while a policy is replaced; the rule labels given so far.
    labels: Mutex<HashSet<String>>,
    decisions: IntCounterVec,
    unavailable: IntCounter,
    gauge: IntGauge,
    limits: GrantLimits,
}

/// A policy with everything that is worked out once for it.
struct Active {
    policy: Policy,
    generation: u64,
    /// By the number of a method of ours, its number in the policy's catalogue.
    methods: Vec<Option<MethodId>>,
    /// By the number of a rule.
    by_rule: Vec<IntCounter>,
    open: IntCounter,
    anonymous: IntCounter,
    no_rule: IntCounter,
    ended: IntCounter,
    unknown: IntCounter,
    gateway: IntCounter,
}

/// What the policy of some generation says of somebody.
pub(crate) struct Held {
    generation: u64,
    who: Principal,
    claims: Option<RoleClaims>,
    grants: Option<Arc<Grants>>,
}

/// Who asks: the peer or whom its token names, what the token claims, and for whom it speaks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) own: &'a Principal,
    pub(crate) claims: Option<&'a RoleClaims>,
    pub(crate) delegated: Option<&'a Principal>,
}

impl Held {
    /// What the policy says of who asks, and of whom it speaks for.
    fn both(
        conn: &Shared,
        active: &Active,
        asking: Asking<'_>,
    ) -> (Option<Arc<Grants>>, Option<Arc<Grants>>) {
        let own = Self::of(&conn.grants, active, asking.own, asking.claims);
        (own, asking.delegated.and_then(|who| Self::of(&conn.delegated, active, who, None)))
    }

    /// What `place` holds, worked out anew when it is about an older policy or somebody else.
    fn of(
        place: &ArcSwapOption<Held>,
        active: &Active,
        who: &Principal,
        claims: Option<&RoleClaims>,
    ) -> Option<Arc<Grants>> {
        if let Some(held) = place.load().as_deref()
            && held.generation == active.generation
            && held.who == *who
            && held.claims.as_ref() == claims
        {
            return held.grants.clone();
        }
        let grants = active.policy.grants(who, claims);
        let (who, claims) = (who.clone(), claims.cloned());
        let held = Held { generation: active.generation, who, claims, grants: grants.clone() };
        place.store(Some(Arc::new(held)));
        grants
    }
}

/// A call that may go on, under the policy of a generation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permit {
    pub(crate) generation: u64,
    /// When it has to be asked for again.
    pub(crate) until: Option<Timestamp>,
}

impl Authorization {
    /// Without a policy. Puts `authz_decisions_total{decision,rule}` and `policy_generation` on the page.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new("authz_decisions_total", "Authorization decisions by outcome and rule.");
        let decisions = IntCounterVec::new(opts, &["decision", "rule"])?;
        registry.register(Box::new(decisions.clone()))?;
        let opts = Opts::new("policy_generation", "Number of policies taken since the start.");
        let gauge = IntGaugeVec::new(opts, &["component"])?;
        registry.register(Box::new(gauge.clone()))?;
        Ok(Self(Arc::new(State {
            active: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            replaced: ArcSwap::default(),
            labels: Mutex::default(),
            unavailable: decisions.with_label_values(&["unavailable", "none"]),
            decisions,
            limits: GrantLimits::new(registry)?,
            gauge: gauge.with_label_values(&["authz"]),
        })))
    }

    /// Puts a policy in force: for new calls at once; open calls that it does not allow end with PERMISSION_DENIED.
    /// Answers its generation.
    pub fn set(&self, policy: Policy) -> u64 {
        let state = &*self.0;
        let mut labels = state.labels.lock();
        let generation = state.generation.load(Ordering::Relaxed) + 1;
        let active = Active::new(policy, generation, &state.decisions, &mut labels);
        state.active.store(Some(Arc::new(active)));
        state.generation.store(generation, Ordering::Release);
        state.gauge.set(i64::try_from(generation).unwrap_or(i64::MAX));
        state.replaced.swap(Arc::default()).cancel();
        generation
    }

    /// Number of policies that were put in force.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// The policy in force, and its generation.
    pub(crate) fn active(&self) -> Option<(Policy, u64)> {
        self.0.active.load().as_deref().map(|active| (active.policy.clone(), active.generation))
    }

    /// Fires when the policy is replaced.
    pub(crate) fn replaced(&self) -> CancellationToken {
        self.0.replaced.load().child_token()
    }

    /// Whether a call may begin; counted, and logged when it may not. With the places of its stream among those that
    /// rules limit.
    pub(crate) fn admit(&self, call: &Call, path: &str) -> Result<(Permit, Vec<Place>), Status> {
        self.judge(call.conn(), call.asking(), call.number(), path, call.at, |active, decision| {
            active.counter(decision).inc();
            let (effect, rule) = (decision.effect, decision.rule.map(|r| r.id.as_str()));
            let word = if effect.goes_on() { effect.as_str() } else { "deny" };
            call.trail.decided(word, rule, active.generation);
            if !matches!(decision.effect, Effect::Allow) {
                let id = call.peer().principal.spiffe_id();
                tracing::warn!(
                    request_id = call.id.to_str().unwrap_or_default(),
                    spiffe_id = id.map(SpiffeId::as_str),
                    principal = call.delegated().map(Principal::as_str),
                    method = path,
                    decision = decision.effect.as_str(),
                    rule_id = decision.rule.map(|r| r.id.as_str()),
                    policy_generation = active.generation,
                    "not allowed by the policy"
                );
                return Ok(Vec::new());
            }
            self.within_limits(call, path, decision)
        })
    }

    /// Whether the policy in force depends on the records that calls name.
    pub(crate) fn has_conditions(&self) -> bool {
        self.0.active.load().as_deref().is_none_or(|active| active.policy.has_conditions())
    }

    /// Whether a call that goes on may be about this record; counted, and logged when it may not.
    pub(crate) fn admit_record(&self, asker: &Asker, cid: &Cid, record: &RecordTraits) -> Result<(), Status> {
        let active = self.0.active.load();
        let Some(active) = active.as_deref() else { return Err(status::authorization_unavailable()) };
        let (conn, asking) = (&asker.conn, asker.asking());
        let now = conn.app().clock.now();
        let method = active.methods.get(asker.method).copied().flatten();
        let (own, theirs) = Held::both(conn, active, asking);
        let (own, theirs) = (own.as_deref(), theirs.as_deref());
        let decision = match asking.delegated {
            None => active.policy.judge_record(own, method, now, asking.own, record),
            Some(who) => active.policy.judge_record_delegated(theirs, own, method, now, who, record),
        };
        if decision.effect == Effect::Allow {
            return Ok(());
        }
        active.counter(&decision).inc();
        let word = if decision.effect.goes_on() { decision.effect.as_str() } else { "deny" };
        let rule = decision.rule.map(|r| r.id.as_str());
        asker.touched.refused(word, rule, active.generation);
        let path = conn.app().methods.get(asker.method).path.as_str();
        tracing::warn!(
            request_id = asker.request_id.to_str().unwrap_or_default(),
            principal = asker.who().as_str(),
            method = path,
            %cid,
            decision = decision.effect.as_str(),
            rule_id = rule,
            policy_generation = active.generation,
            "the record is not allowed by the policy"
        );
        match decision.effect {
            Effect::Allow | Effect::WouldDeny => Ok(()),
            Effect::Deny => Err(status::not_allowed(path)),
            Effect::Unauthenticated => Err(status::not_authenticated()),
        }
    }

    /// Which records the answer to a call that goes on may show, and the generation of the policy that says so.
    pub(crate) fn narrowed(&self, asker: &Asker) -> Result<(Narrowed, u64), Status> {
        let active = self.0.active.load();
        let Some(active) = active.as_deref() else { return Err(status::authorization_unavailable()) };
        let (conn, asking) = (&asker.conn, asker.asking());
        if asking.delegated.is_none() && conn.app().is_anonymous_discovery(asker.method, asking.own) {
            return Ok((Narrowed::default(), active.generation));
        }
        let now = conn.app().clock.now();
        let method = active.methods.get(asker.method).copied().flatten();
        let (own, theirs) = Held::both(conn, active, asking);
        let (own, theirs) = (own.as_deref(), theirs.as_deref());
        let narrowed = match asking.delegated {
            None => active.policy.narrowed(own, method, now),
            Some(_) => active.policy.narrowed_delegated(theirs, own, method, now),
        };
        Ok((narrowed, active.generation))
    }

    /// The limits of the rules that allow a call: for whom it is made, and who makes it.
    fn within_limits(&self, call: &Call, path: &str, decision: &Decision<'_>) -> Result<Vec<Place>, Status> {
        let mut places = Vec::new();
        let of = [(decision.rule, call.principal()), (decision.gateway, &call.peer().principal)];
        for (rule, who) in of {
            let Some(rule) = rule.filter(|rule| rule.limits.is_some()) else { continue };
            let wanted = Wanted { path, stream: call.method().kind != "unary", now: call.begun };
            places.extend(self.0.limits.admit(rule, who, wanted)?);
        }
        Ok(places)
    }

    /// Whether an open call may go on; counted when it may not.
    pub(crate) fn ask_again(
        &self,
        conn: &Shared,
        asking: Asking<'_>,
        method: usize,
        path: &str,
        now: Timestamp,
    ) -> Result<Permit, Status> {
        self.judge(conn, asking, method, path, now, |active, decision| {
            if !decision.effect.goes_on() {
                active.counter(decision).inc();
            }
            Ok(())
        })
        .map(|(permit, ())| permit)
    }

    fn judge<T: Default>(
        &self,
        conn: &Shared,
        asking: Asking<'_>,
        method: usize,
        path: &str,
        now: Timestamp,
        note: impl FnOnce(&Active, &Decision<'_>) -> Result<T, Status>,
    ) -> Result<(Permit, T), Status> {
        let active = self.0.active.load();
        let Some(active) = active.as_deref() else {
            if conn.app().methods.get(method).open {
                return Ok((Permit { generation: 0, until: None }, T::default()));
            }
            self.0.unavailable.inc();
            return Err(status::authorization_unavailable());
        };
        let (number, method) = (method, active.methods.get(method).copied().flatten());
        let (own, theirs) = Held::both(conn, active, asking);
        let (own, theirs) = (own.as_deref(), theirs.as_deref());
        let decision = match asking.delegated {
            // No rule is about nobody.
            None if conn.app().is_anonymous_discovery(number, asking.own) => {
                Decision { effect: Effect::Allow, cause: Cause::Open, rule: None, gateway: None }
            }
            None => active.policy.judge(own, method, now),
            Some(_) => active.policy.judge_delegated(theirs, own, method, now),
        };
        let noted = note(active, &decision);
        match decision.effect {
            Effect::Allow | Effect::WouldDeny => {
                Ok((Permit { generation: active.generation, until: decision.until() }, noted?))
            }
            Effect::Deny => Err(status::not_allowed(path)),
            Effect::Unauthenticated => Err(status::not_authenticated()),
        }
    }
}

impl Active {
    fn new(policy: Policy, generation: u64, decisions: &IntCounterVec, labels: &mut HashSet<String>) -> Self {
        let denial = if policy.is_shadow() { Effect::WouldDeny } else { Effect::Deny };
        let count = |effect: Effect, rule: &str| decisions.with_label_values(&[effect.as_str(), rule]);
        let by_rule = policy
            .rules()
            .iter()
            .map(|rule| {
                let known = labels.contains(&rule.id)
                    || (labels.len() < RULE_LABELS_MAX && labels.insert(rule.id.clone()));
                let effect = if rule.effect == RuleEffect::Allow { Effect::Allow } else { denial };
                count(effect, if known { &rule.id } else { OTHER_RULE })
            })
            .collect();
        let find = |path: String| policy.catalogue().find(&path);
        Self {
            methods: std::iter::once(None).chain(methods::paths().map(find)).collect(),
            generation,
            by_rule,
            open: count(Effect::Allow, "open"),
            anonymous: count(Effect::Unauthenticated, "none"),
            no_rule: count(denial, "none"),
            ended: count(denial, "ended"),
            unknown: count(denial, "unknown_method"),
            gateway: count(denial, "gateway"),
            policy,
        }
    }

    fn counter(&self, decision: &Decision<'_>) -> &IntCounter {
        match (decision.cause, decision.rule) {
            (Cause::Rule, Some(rule)) => self.by_rule.get(rule.number).unwrap_or(&self.no_rule),
            (Cause::Open | Cause::Identity, _) => &self.open,
            (Cause::Anonymous, _) => &self.anonymous,
            (Cause::Ended, _) => &self.ended,
            (Cause::UnknownMethod, _) => &self.unknown,
            (Cause::Gateway, _) => &self.gateway,
            (Cause::NoRule | Cause::Record | Cause::Rule, _) => &self.no_rule,
        }
    }
}
