//! Rules, arranged so that a call does not walk through them.

use super::subject::Subject;
use super::{Cell, Compiled, Grants, MethodCatalogue, MethodId, Policy, Rule, RuleEffect};
use crate::identity::{Principal, RoleClaims, SpiffeId, TrustDomain};
use std::collections::HashMap;
use std::sync::Arc;

/// Rules by the trust domain of the caller.
#[derive(Debug)]
pub(crate) struct Index {
    /// Every trust domain that a rule names.
    named: HashMap<TrustDomain, Bucket>,
    /// All others.
    strangers: Bucket,
    /// Rules that are about somebody for more than his SPIFFE ID.
    kinds: Vec<usize>,
}

/// The rules that can be about a caller of some trust domain.
#[derive(Debug)]
struct Bucket {
    rules: Vec<usize>,
    /// What they say, when they say the same of all these callers.
    alike: Option<Arc<Grants>>,
}

impl Policy {
    pub(crate) fn compile(rules: Vec<Rule>, catalogue: &MethodCatalogue) -> Self {
        let index = Index::new(&rules, catalogue);
        let has_conditions = rules.iter().any(|rule| rule.resources.is_some());
        let compiled = Compiled { rules, has_conditions, catalogue: catalogue.clone(), index };
        Self { compiled: Arc::new(compiled), enforce: true }
    }
}

impl Index {
    fn new(rules: &[Rule], catalogue: &MethodCatalogue) -> Self {
        // Rules that are about one named trust domain each stay out of everybody else's bucket.
        let domains: Vec<&TrustDomain> =
            rules.iter().flat_map(|r| &r.subjects).filter_map(|s| s.named_domain()).collect();
        let mut named = HashMap::with_capacity(domains.len());
        let wide: Vec<usize> = numbers(rules, |r| r.subjects.iter().any(|s| !s.is_exact()));
        let mut narrow: HashMap<&TrustDomain, Vec<usize>> = HashMap::new();
        for (number, rule) in rules.iter().enumerate() {
            for domain in rule.subjects.iter().filter_map(|s| s.named_domain()) {
                narrow.entry(domain).or_default().push(number);
            }
        }
        for domain in domains {
            if !named.contains_key(domain) {
                let about = |at: &usize| rules[*at].subjects.iter().any(|s| s.matches_domain(domain));
                let own = narrow.get(domain).into_iter().flatten();
                let mut found: Vec<usize> = own.chain(&wide).copied().filter(about).collect();
                found.sort_unstable();
                found.dedup();
                named.insert(domain.clone(), Bucket::of_domain(found, domain, rules, catalogue));
            }
        }
        let kinds = numbers(rules, |r| r.subjects.iter().any(|s| !s.is_about_ids()));
        Self { named, strangers: Bucket::of_strangers(wide, rules, catalogue), kinds }
    }

    /// `None` for a caller without identity.
    pub(crate) fn grants(
        &self,
        rules: &[Rule],
        catalogue: &MethodCatalogue,
        who: &Principal,
        claims: Option<&RoleClaims>,
    ) -> Option<Arc<Grants>> {
        let concerned = |at: &usize| rules[*at].concerns(who, claims);
        let mut about: Vec<usize> = match who {
            Principal::Anonymous => return None,
            Principal::Http | Principal::Oidc(_) => Vec::new(),
            Principal::Spiffe(id) if claims.is_none() => return Some(self.of_id(rules, catalogue, id)),
            Principal::Spiffe(id) => self.bucket(id).rules.clone(),
        };
        about.extend(&self.kinds);
        about.retain(concerned);
        about.sort_unstable();
        about.dedup();
        Some(Arc::new(grants(about.into_iter(), rules, catalogue)))
    }

    fn bucket(&self, id: &SpiffeId) -> &Bucket {
        self.named.get(id.trust_domain()).unwrap_or(&self.strangers)
    }

    fn of_id(&self, rules: &[Rule], catalogue: &MethodCatalogue, id: &SpiffeId) -> Arc<Grants> {
        let bucket = self.bucket(id);
        if let Some(alike) = &bucket.alike {
            return alike.clone();
        }
        let about = bucket.rules.iter().copied();
        let about = about.filter(|at| rules[*at].subjects.iter().any(|s| s.matches_id(id)));
        Arc::new(grants(about, rules, catalogue))
    }
}

fn numbers(rules: &[Rule], wanted: impl Fn(&Rule) -> bool) -> Vec<usize> {
    rules.iter().enumerate().filter(|(_, r)| wanted(r)).map(|(at, _)| at).collect()
}

impl Bucket {
    fn of_domain(
        found: Vec<usize>,
        domain: &TrustDomain,
        rules: &[Rule],
        catalogue: &MethodCatalogue,
    ) -> Self {
        let whole = |at: &usize| {
            rules[*at].subjects.iter().any(|s| s.matches_domain(domain) && s.is_about_every_path())
        };
        let alike =
            found.iter().all(whole).then(|| Arc::new(grants(found.iter().copied(), rules, catalogue)));
        Self { rules: found, alike }
    }

    fn of_strangers(found: Vec<usize>, rules: &[Rule], catalogue: &MethodCatalogue) -> Self {
        let uniform = |at: &usize| rules[*at].subjects.iter().all(Subject::is_uniform_for_strangers);
        let alike =
            found.iter().all(uniform).then(|| Arc::new(grants(found.iter().copied(), rules, catalogue)));
        Self { rules: found, alike }
    }
}

/// What rules say of one method: the first that denies it whatever the record is, those that deny it for some
/// records, and those that allow it.
#[derive(Debug, Clone, Default)]
struct Said {
    deny: Option<usize>,
    deny_some: Vec<usize>,
    allow: Vec<usize>,
}

/// What rules say that are all about one caller, in their order.
fn grants(about: impl Iterator<Item = usize>, rules: &[Rule], catalogue: &MethodCatalogue) -> Grants {
    let mut cells: Vec<Said> = vec![Said::default(); catalogue.len()];
    for number in about {
        let rule = &rules[number];
        for method in rule.methods.iter().map(MethodId::number) {
            let Some(said) = cells.get_mut(method) else { continue };
            let last = |r: &usize| rules[*r].not_after.is_none() && rules[*r].resources.is_none();
            match rule.effect {
                RuleEffect::Deny if rule.resources.is_some() => said.deny_some.push(number),
                RuleEffect::Deny => said.deny = said.deny.or(Some(number)),
                // Behind a rule without end and condition nothing is ever asked.
                RuleEffect::Allow if said.allow.last().is_some_and(last) => {}
                RuleEffect::Allow => said.allow.push(number),
            }
        }
    }
    let by_record =
        |said: &Said| !said.deny_some.is_empty() || said.allow.iter().any(|r| rules[*r].resources.is_some());
    let cell = |said: Said| match (said.deny, said.allow.as_slice()) {
        (Some(deny), _) => Cell::Deny(deny),
        (None, allow) if by_record(&said) => {
            Cell::ByRecord { deny: said.deny_some.as_slice().into(), allow: allow.into() }
        }
        (None, []) => Cell::Nothing,
        (None, [only]) if rules[*only].not_after.is_none() => Cell::Allow(*only),
        (None, _) => Cell::Until(said.allow.into_boxed_slice()),
    };
    Grants { cells: cells.into_iter().map(cell).collect() }
}
