//! Who may call what: a policy, compiled once, asked on every call.
//!
//! Rules come from a CSV file ([`Policy::parse_csv`]), as typed native rules ([`Policy::from_rules`]) or are the
//! built-in ones ([`Policy::default_for`]); all of them end in the same compiled form. Nothing is allowed that no
//! rule allows, a deny rule wins over every allow rule, and a method without a permission is denied to everybody.

mod compile;
mod conditions;
mod csv;
mod explain;
mod id_pattern;
mod kinds;
mod lint;
mod method;
mod methods;
mod native;
mod problem;
mod roles;
mod scope;
mod subject;

#[cfg(test)]
mod tests;

pub use conditions::{
    Conditions, LABELS_MAX, Ownership, RECORD_METHODS, RecordTraits, SEARCH_METHODS, label_fits,
};
pub use csv::{POLICY_MAX_BYTES, POLICY_MAX_RULES};
pub use explain::{Asked, Difference, Explanation, Miss};
pub use id_pattern::IdPattern;
pub use methods::{MethodCatalogue, MethodId, MethodSet, PERMISSIONS, Permission};
pub use native::{NativeRule, RuleLimits};
pub use problem::{Fault, PolicyError, Warning, WarningKind};
pub use roles::{Role, RoleBinding};
pub use scope::Narrowed;
pub use subject::{PATTERN_MAX, Subject};

use crate::identity::{Principal, RoleClaims};
use crate::time::Timestamp;
use compile::Index;
use std::sync::Arc;

/// How the method column of a CSV policy is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Matching {
    /// `*`, `/pkg.Svc/*` or one whole method.
    #[default]
    Strict,
    /// Prefixes, and regular expressions found anywhere in the method: for files that were written for this.
    Compat,
}

/// What a rule about a method that no service has is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownMethod {
    /// A fault: the policy is refused.
    #[default]
    Error,
    /// A warning.
    Warn,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleEffect {
    /// It grants.
    Allow,
    /// It refuses, whatever else grants.
    Deny,
}

/// One rule of a policy.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name: the `id` of a native rule, `line-4` of a CSV rule.
    pub id: String,
    /// Line in its file, from 1; `None` for a rule that comes from no file.
    pub line: Option<usize>,
    /// Position in [`Policy::rules`].
    pub number: usize,
    /// What it does.
    pub effect: RuleEffect,
    /// Who it is about: any of these.
    pub subjects: Vec<Subject>,
    /// What it is about.
    pub methods: MethodSet,
    /// The methods as written.
    pub methods_text: String,
    /// From this moment on an allow rule grants nothing.
    pub not_after: Option<Timestamp>,
    /// Limits that belong to the grant, for each caller. The first rule that allows a call gives them.
    pub limits: Option<RuleLimits>,
    /// What it asks of the record that a call names; `None`: nothing.
    pub resources: Option<Conditions>,
    /// What strict and compat matching make of the method column; equal for native rules.
    pub(crate) readings: Readings,
}

/// The two readings of a rule's method column.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readings {
    pub(crate) strict: MethodSet,
    pub(crate) compat: MethodSet,
}

impl Rule {
    /// `line 4` for rules of a file, else the id in quotes.
    pub fn place(&self) -> String {
        self.line.map_or_else(|| format!("\"{}\"", self.id), |line| format!("line {line}"))
    }

    /// Whether it is about this caller.
    pub fn concerns(&self, who: &Principal, claims: Option<&RoleClaims>) -> bool {
        self.subjects.iter().any(|s| match self.effect {
            RuleEffect::Allow => s.matches(who, claims),
            RuleEffect::Deny => s.matches_to_deny(who, claims),
        })
    }

    /// Whether it is about this record of a call that it is about.
    fn concerns_record(&self, who: &Principal, record: &RecordTraits) -> bool {
        self.resources.as_ref().is_none_or(|asked| match self.effect {
            RuleEffect::Allow => asked.hold(who, record),
            RuleEffect::Deny => asked.hold_to_deny(who, record),
        })
    }

    /// Whether its grant has ended.
    pub fn has_ended(&self, now: Timestamp) -> bool {
        self.not_after.is_some_and(|end| now >= end)
    }
}

/// What a decision says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The call goes on.
    Allow,
    /// The call goes on because the policy is in shadow mode; it would be denied.
    WouldDeny,
    /// The call is refused.
    Deny,
    /// Nobody is authenticated; the call is refused.
    Unauthenticated,
}

impl Effect {
    /// As logs and metrics spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Effect::Allow => "allow",
            Effect::WouldDeny => "would_deny",
            Effect::Deny => "deny",
            Effect::Unauthenticated => "unauthenticated",
        }
    }

    /// Whether the call goes on.
    pub const fn goes_on(self) -> bool {
        matches!(self, Effect::Allow | Effect::WouldDeny)
    }
}

/// Why a decision is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The method needs no identity.
    Open,
    /// The method needs an identity, whichever it is.
    Identity,
    /// There is no identity.
    Anonymous,
    /// A rule decided.
    Rule,
    /// No rule allows it.
    NoRule,
    /// The rules that allowed it have ended.
    Ended,
    /// Rules allow the call, and none of them allows it for this record.
    Record,
    /// The caller that a gateway speaks for is allowed, the gateway itself is not.
    Gateway,
    /// No permission is known for the method.
    UnknownMethod,
}

/// The answer to "may this caller call this method now".
#[derive(Debug, Clone, Copy)]
pub struct Decision<'p> {
    /// What happens.
    pub effect: Effect,
    /// Why.
    pub cause: Cause,
    /// The rule that decided, if one did.
    pub rule: Option<&'p Rule>,
    /// For a delegated call that goes on: the rule by which the gateway itself may make it.
    pub gateway: Option<&'p Rule>,
}

impl Decision<'_> {
    /// Why, in words.
    pub fn reason(&self) -> &'static str {
        match (self.cause, self.rule.map(|r| r.effect)) {
            (Cause::Open, _) => "the method needs no identity",
            (Cause::Identity, _) => "the method needs an identity, whichever it is",
            (Cause::Anonymous, _) => "nobody is authenticated",
            (Cause::Rule, Some(RuleEffect::Deny)) => "a deny rule wins over every allow rule",
            (Cause::Rule, _) if self.rule.is_some_and(|rule| rule.resources.is_some()) => {
                "a rule allows it, for records that meet its conditions"
            }
            (Cause::Rule, _) => "a rule allows it",
            (Cause::Record, _) => "no rule allows it for this record",
            (Cause::NoRule, _) => "no rule allows it",
            (Cause::Ended, _) => "the rules that allowed it have ended",
            (Cause::UnknownMethod, _) => "no service of this server has the method",
            (Cause::Gateway, _) => "the gateway that calls for somebody may not call it itself",
        }
    }

    /// Until when an allowed call may go on; `None` is for ever.
    pub fn until(&self) -> Option<Timestamp> {
        let granting = [self.rule, self.gateway].into_iter().flatten();
        granting.filter(|r| r.effect == RuleEffect::Allow).filter_map(|r| r.not_after).min()
    }
}

/// What is decided of one method for one caller.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Cell {
    Nothing,
    Deny(usize),
    Allow(usize),
    /// Rules with an end, in the order in which they are tried; the last one may be without.
    Until(Box<[usize]>),
    /// Some of the rules depend on the record: those that may deny, and those that may allow, in order.
    ByRecord {
        deny: Box<[usize]>,
        allow: Box<[usize]>,
    },
}

/// Everything a policy says of one caller. Computed once for a connection, then asked by method number.
#[derive(Debug, PartialEq, Eq)]
pub struct Grants {
    cells: Box<[Cell]>,
}

/// A policy that was read without fault.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The policy.
    pub policy: Policy,
    /// What its author should know.
    pub warnings: Vec<Warning>,
}

/// A compiled policy. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Policy {
    compiled: Arc<Compiled>,
    enforce: bool,
}

#[derive(Debug)]
struct Compiled {
    rules: Vec<Rule>,
    has_conditions: bool,
    catalogue: MethodCatalogue,
    index: Index,
}

impl Policy {
    /// Decides and reports, and refuses nothing that the rules refuse (missing identity is still refused).
    pub fn shadow(mut self, shadow: bool) -> Self {
        self.enforce = !shadow;
        self
    }

    /// Whether denials are only reported.
    pub fn is_shadow(&self) -> bool {
        !self.enforce
    }

    /// Whether some rule depends on the record that a call names: then [`Policy::judge_record`] is asked for each.
    pub fn has_conditions(&self) -> bool {
        self.compiled.has_conditions
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.compiled.rules
    }

    /// The methods it was compiled for.
    pub fn catalogue(&self) -> &MethodCatalogue {
        &self.compiled.catalogue
    }

    /// Decides one call. `method` is the path of the request, `/pkg.Svc/Method`.
    pub fn decide(&self, principal: &Principal, method: &str, now: Timestamp) -> Decision<'_> {
        let method = self.compiled.catalogue.find(method);
        self.judge(self.grants(principal, None).as_deref(), method, now)
    }

    /// Everything the policy says of a caller, and of what its token claims; `None` without identity.
    pub fn grants(&self, who: &Principal, claims: Option<&RoleClaims>) -> Option<Arc<Grants>> {
        self.compiled.index.grants(&self.compiled.rules, &self.compiled.catalogue, who, claims)
    }

    /// Decides a call that a gateway makes for somebody: both must be allowed to make it.
    pub fn judge_delegated(
        &self,
        principal: Option<&Grants>,
        gateway: Option<&Grants>,
        method: Option<MethodId>,
        now: Timestamp,
    ) -> Decision<'_> {
        let decided = self.judge(principal, method, now);
        if decided.effect != Effect::Allow || decided.cause == Cause::Open {
            return decided;
        }
        let own = self.judge(gateway, method, now);
        match own.effect {
            Effect::Allow => Decision { gateway: own.rule, ..decided },
            _ => Decision { cause: Cause::Gateway, ..own },
        }
    }

    /// Decides with what [`Policy::grants`] of this policy has said; `None` is a caller without identity, or a method that
    /// nobody knows.
    pub fn judge(&self, grants: Option<&Grants>, method: Option<MethodId>, now: Timestamp) -> Decision<'_> {
        let refuse = |effect, cause| Decision { effect, cause, rule: None, gateway: None };
        let permission = method.and_then(|m| self.compiled.catalogue.permission(m));
        if permission == Some(Permission::Open) {
            return refuse(Effect::Allow, Cause::Open);
        }
        let Some(grants) = grants else {
            return refuse(Effect::Unauthenticated, Cause::Anonymous);
        };
        let (Some(method), Some(permission)) = (method, permission) else {
            return refuse(self.denial(), Cause::UnknownMethod);
        };
        match grants.cells.get(method.number()) {
            Some(Cell::Deny(rule)) => self.by(*rule, self.denial()),
            _ if permission == Permission::Identity => refuse(Effect::Allow, Cause::Identity),
            Some(Cell::Allow(rule)) => self.by(*rule, Effect::Allow),
            // Of what depends on the record it is asked later.
            Some(Cell::Until(rules) | Cell::ByRecord { allow: rules, .. }) => {
                let open = rules.iter().find(|r| !self.compiled.rules[**r].has_ended(now));
                open.map_or_else(
                    || refuse(self.denial(), Self::nothing(rules)),
                    |rule| self.by(*rule, Effect::Allow),
                )
            }
            Some(Cell::Nothing) | None => refuse(self.denial(), Cause::NoRule),
        }
    }

    /// Decides about one record of a call that may go on. `who` calls, or is called for.
    pub fn judge_record(
        &self,
        grants: Option<&Grants>,
        method: Option<MethodId>,
        now: Timestamp,
        who: &Principal,
        record: &RecordTraits,
    ) -> Decision<'_> {
        let cell = grants.zip(method).and_then(|(grants, method)| grants.cells.get(method.number()));
        let Some(Cell::ByRecord { deny, allow }) = cell else {
            return self.judge(grants, method, now);
        };
        let rules = &self.compiled.rules;
        if let Some(rule) = deny.iter().find(|rule| rules[**rule].concerns_record(who, record)) {
            return self.by(*rule, self.denial());
        }
        let mut open = allow.iter().filter(|rule| !rules[**rule].has_ended(now)).peekable();
        let cause = if open.peek().is_some() { Cause::Record } else { Self::nothing(allow) };
        match open.find(|rule| rules[**rule].concerns_record(who, record)) {
            Some(rule) => self.by(*rule, Effect::Allow),
            None => Decision { effect: self.denial(), cause, rule: None, gateway: None },
        }
    }

    /// The same for a call that a gateway makes for somebody: the record is to be his, not the gateway's.
    pub fn judge_record_delegated(
        &self,
        principal: Option<&Grants>,
        gateway: Option<&Grants>,
        method: Option<MethodId>,
        now: Timestamp,
        who: &Principal,
        record: &RecordTraits,
    ) -> Decision<'_> {
        let decided = self.judge_record(principal, method, now, who, record);
        if decided.effect != Effect::Allow || decided.cause == Cause::Open {
            return decided;
        }
        let own = self.judge_record(gateway, method, now, who, record);
        match own.effect {
            Effect::Allow => Decision { gateway: own.rule, ..decided },
            _ => Decision { cause: Cause::Gateway, ..own },
        }
    }

    /// Why rules of which none is in force allow nothing.
    fn nothing(allow: &[usize]) -> Cause {
        if allow.is_empty() { Cause::NoRule } else { Cause::Ended }
    }

    fn denial(&self) -> Effect {
        if self.enforce { Effect::Deny } else { Effect::WouldDeny }
    }

    fn by(&self, rule: usize, effect: Effect) -> Decision<'_> {
        Decision { effect, cause: Cause::Rule, rule: Some(&self.compiled.rules[rule]), gateway: None }
    }
}
