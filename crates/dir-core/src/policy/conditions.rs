//! Conditions of a rule over the records that a call is about: whose they are, and what they are labelled with.

use super::subject::PATTERN_MAX;
use crate::identity::Principal;

/// Methods that name the records they are about, one a message: the rules about them can have conditions.
pub const RECORD_METHODS: [&str; 3] = [
    "/agntcy.dir.store.v1.StoreService/Pull",
    "/agntcy.dir.store.v1.StoreService/Lookup",
    "/agntcy.dir.store.v1.StoreService/Delete",
];

/// Methods whose answers a policy narrows: a rule with labels may be about them as well, and then says which records
/// the answer may show.
pub const SEARCH_METHODS: [&str; 4] = [
    "/agntcy.dir.search.v1.SearchService/SearchCIDs",
    "/agntcy.dir.search.v1.SearchService/SearchRecords",
    "/agntcy.dir.search.v1.SearchService/CountRecords",
    "/agntcy.dir.search.v1.SearchService/ListRecordSummaries",
];

/// Most labels of one rule.
pub const LABELS_MAX: usize = 64;

/// Whose a record is, seen from whoever calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// The caller pushed it first.
    Own,
    /// Somebody else did, or nobody knows who. For deny rules.
    Other,
}

/// What a rule asks of a record: all of it must be so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    /// Whose it is.
    pub owner: Option<Ownership>,
    /// One of its labels is one of these, or lies below one that ends with `/*`; empty: whatever its labels are.
    pub labels: Vec<String>,
}

/// What is known of a record that a call names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordTraits {
    /// Who pushed it first, as [`Principal::as_str`] spells it; `None`: nobody knows.
    pub owner: Option<String>,
    /// Its labels; `None` where the index does not know it (yet).
    pub labels: Option<Vec<String>>,
}

impl Conditions {
    /// What is wrong with them, if anything is.
    pub(super) fn fault(&self, denies: bool, methods: &[String], limited: bool) -> Option<String> {
        let text = match self {
            Self { owner: None, labels } if labels.is_empty() => {
                "resources has at least one of `owner` and `labels`".to_owned()
            }
            Self { owner: Some(Ownership::Other), .. } if !denies => {
                "`owner: other` is for deny rules: what nobody is known to own would be everybody's"
                    .to_owned()
            }
            _ if limited => "a rule with `resources` has no `limits`: give them in a rule without".to_owned(),
            Self { labels, .. } if labels.len() > LABELS_MAX => {
                format!("a rule has at most {LABELS_MAX} labels")
            }
            _ => {
                let methods = method_fault(methods, self.owner.is_some());
                return methods.or_else(|| self.labels.iter().find_map(|l| label_fault(l)));
            }
        };
        Some(text)
    }

    /// Whether an allow rule is about this record.
    pub(super) fn hold(&self, who: &Principal, record: &RecordTraits) -> bool {
        let owner = match self.owner {
            None => true,
            Some(Ownership::Own) => owns(who, record),
            Some(Ownership::Other) => !owns(who, record),
        };
        owner && (self.labels.is_empty() || record.labels.as_ref().is_some_and(|of| self.labelled(of)))
    }

    /// Whether a deny rule is about this record: of what is not known, the worst is assumed.
    pub(super) fn hold_to_deny(&self, who: &Principal, record: &RecordTraits) -> bool {
        let owner = match self.owner {
            None => true,
            Some(Ownership::Own) => owns(who, record),
            Some(Ownership::Other) => !owns(who, record),
        };
        owner && (self.labels.is_empty() || record.labels.as_ref().is_none_or(|of| self.labelled(of)))
    }

    fn labelled(&self, of: &[String]) -> bool {
        self.labels.iter().any(|wanted| of.iter().any(|label| label_fits(wanted, label)))
    }
}

/// Whether a label is the one that a rule names, or lies below it.
pub fn label_fits(wanted: &str, label: &str) -> bool {
    match wanted.strip_suffix('*') {
        // What is left ends with a slash: only whole words match.
        Some(above) => label.len() > above.len() && label.starts_with(above),
        None => label == wanted,
    }
}

/// Nobody without an identity owns anything.
fn owns(who: &Principal, record: &RecordTraits) -> bool {
    who.can_own() && record.owner.as_deref() == Some(who.as_str())
}

fn method_fault(methods: &[String], owner: bool) -> Option<String> {
    let searches = |method: &String| SEARCH_METHODS.contains(&method.as_str());
    let other = methods.iter().find(|m| !RECORD_METHODS.contains(&m.as_str()) && !searches(m));
    if let Some(other) = other {
        let known = RECORD_METHODS.into_iter().chain(SEARCH_METHODS).collect::<Vec<_>>().join(", ");
        return Some(format!(
            "`resources` is for methods that are about records, {known}: {other} is none of them"
        ));
    }
    let search = methods.iter().find(|method| owner && searches(method))?;
    Some(format!("searches are narrowed by `labels` only: give {search} a rule without `owner`"))
}

fn label_fault(label: &str) -> Option<String> {
    let body = label.strip_suffix("/*").unwrap_or(label);
    if !label.starts_with('/') || body.len() < 2 || body.contains('*') || label.len() > PATTERN_MAX {
        return Some(format!(
            "label {:?}: write /skills/NAME, /domains/NAME, /modules/NAME or /locators/TYPE; `/*` at the end is \
             everything below",
            label.chars().take(64).collect::<String>()
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traits(owner: Option<&str>, labels: Option<&[&str]>) -> RecordTraits {
        let labels = labels.map(|l| l.iter().map(|l| (*l).to_owned()).collect());
        RecordTraits { owner: owner.map(str::to_owned), labels }
    }

    fn conditions(owner: Option<Ownership>, labels: &[&str]) -> Conditions {
        Conditions { owner, labels: labels.iter().map(|l| (*l).to_owned()).collect() }
    }

    #[test]
    fn whose_a_record_is() {
        let a = Principal::Spiffe("spiffe://a.example/w".parse().unwrap());
        let (own, other) = (conditions(Some(Ownership::Own), &[]), conditions(Some(Ownership::Other), &[]));
        for (owner, mine) in
            [(Some("spiffe://a.example/w"), true), (Some("spiffe://a.example/w2"), false), (None, false)]
        {
            let record = traits(owner, None);
            assert_eq!(own.hold(&a, &record), mine, "{owner:?}");
            assert_eq!(other.hold_to_deny(&a, &record), !mine, "{owner:?}");
        }
        for nobody in [Principal::Anonymous, Principal::Http] {
            assert!(!own.hold(&nobody, &traits(Some(nobody.as_str()), None)), "{nobody}");
        }
    }

    #[test]
    fn labels_in_whole_words_and_unknown_ones_never_in_favour() {
        let who = Principal::Spiffe("spiffe://a.example/w".parse().unwrap());
        for (wanted, label, holds) in [
            ("/skills/a/b", "/skills/a/b", true),
            ("/skills/a", "/skills/a/b", false),
            ("/skills/a/*", "/skills/a/b", true),
            ("/skills/a/*", "/skills/a/b/c", true),
            ("/skills/a/*", "/skills/a", false),
            ("/skills/a/*", "/skills/a/", false),
            ("/skills/a/*", "/skills/ab/c", false),
            ("/skills/*", "/domains/a", false),
        ] {
            let record = traits(None, Some(&["/modules/x", label]));
            assert_eq!(conditions(None, &[wanted]).hold(&who, &record), holds, "{wanted} {label}");
            assert_eq!(conditions(None, &[wanted]).hold_to_deny(&who, &record), holds, "{wanted} {label}");
        }
        let unknown = traits(None, None);
        assert!(!conditions(None, &["/skills/a"]).hold(&who, &unknown));
        assert!(conditions(None, &["/skills/a"]).hold_to_deny(&who, &unknown));
        let both = conditions(Some(Ownership::Own), &["/skills/a"]);
        assert!(!both.hold(&who, &traits(Some("spiffe://a.example/w"), Some(&["/skills/b"]))));
        assert!(both.hold(&who, &traits(Some("spiffe://a.example/w"), Some(&["/skills/a"]))));
    }

    #[test]
    fn what_is_no_condition() {
        let delete = [RECORD_METHODS[2].to_owned()];
        let good = conditions(Some(Ownership::Own), &["/skills/a/*"]);
        assert_eq!(good.fault(false, &delete, false), None);
        assert!(good.fault(false, &delete, true).unwrap().contains("no `limits`"));
        for methods in
            ["@write", "/agntcy.dir.store.v1.StoreService/*", "/agntcy.dir.store.v1.StoreService/Push"]
        {
            let text = good.fault(false, &[methods.to_owned()], false).unwrap();
            assert!(text.contains("is none of them"), "{text}");
        }
        assert!(conditions(None, &[]).fault(true, &delete, false).is_some());
        let other = conditions(Some(Ownership::Other), &[]);
        assert!(other.fault(false, &delete, false).is_some() && other.fault(true, &delete, false).is_none());
        for label in ["skills/a", "/", "/*", "", "/skills/*/a", "/skills/a*"] {
            assert!(conditions(None, &[label]).fault(true, &delete, false).is_some(), "{label}");
        }
        let search = SEARCH_METHODS.map(str::to_owned);
        assert_eq!(conditions(None, &["/skills/a"]).fault(false, &search, false), None);
        let text = good.fault(false, &search, false).unwrap();
        assert!(text.contains("narrowed by `labels` only") && text.contains("SearchCIDs"), "{text}");
        let many = Conditions { owner: None, labels: vec!["/skills/a".to_owned(); LABELS_MAX + 1] };
        assert!(many.fault(true, &delete, false).unwrap().contains("at most 64"));
    }
}
