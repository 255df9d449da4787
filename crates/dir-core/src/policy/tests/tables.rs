//! F1, F2: every row of the matching tables, in both modes.

use super::*;
use Matching::{Compat, Strict};

/// What a row of the trust domain table says.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Says {
    Match,
    No,
    Fault,
}
use Says::{Fault, Match, No};

fn domain_says(pattern: &str, value: &str, matching: Matching) -> (Says, Vec<WarningKind>) {
    let quoted = pattern.replace('"', "\"\"");
    match load(&format!("p,\"{quoted}\",*\n"), matching) {
        Err(error) => {
            assert_eq!(error.faults[0].line, Some(1), "{error}");
            (Fault, Vec::new())
        }
        Ok(loaded) => {
            let says = if allows(&loaded.policy, value, &format!("{STORE}Pull")) { Match } else { No };
            (says, kinds(&loaded))
        }
    }
}

/// Pattern, the caller's trust domain, strict, compat, warnings in strict, warnings in compat.
type DomainRow = (&'static str, &'static str, Says, Says, &'static [WarningKind], &'static [WarningKind]);

#[rustfmt::skip]
const DOMAIN_COLUMN: &[DomainRow] = {
    use WarningKind::{InferredRegex, LowerCased};
    &[
        ("example.org", "example.org", Match, Match, &[], &[]),
        ("example.org", "example.org.other.tld", No, No, &[], &[]),
        ("example.org", "myexample.org", No, No, &[], &[]),
        ("example.org", "examplexorg", No, No, &[], &[]),
        ("example.org", "sub.example.org", No, No, &[], &[]),
        ("EXAMPLE.org", "example.org", Match, Match, &[LowerCased], &[LowerCased]),
        ("*", "example.org", Match, Match, &[], &[]),
        ("*", "a.b.c", Match, Match, &[], &[]),
        ("*.example.org", "a.example.org", Match, Match, &[], &[]),
        ("*.example.org", "example.org", No, No, &[], &[]),
        ("*.example.org", "a.b.example.org", No, No, &[], &[]),
        ("*.example.org", "a.example.org.other.tld", No, No, &[], &[]),
        ("a.*.org", "a.b.org", Match, Match, &[], &[]),
        ("a.*.org", "a.org", No, No, &[], &[]),
        ("*.Example.org", "a.example.org", Match, Match, &[LowerCased], &[LowerCased]),
        ("ex*mple.org", "example.org", Fault, Fault, &[], &[]),
        (".*", "example.org", Fault, Fault, &[], &[]),
        (r"re:(a|b)\.example\.org", "a.example.org", Match, Match, &[], &[]),
        (r"re:(a|b)\.example\.org", "b.example.org", Match, Match, &[], &[]),
        (r"re:(a|b)\.example\.org", "xa.example.org", No, No, &[], &[]),
        (r"re:(a|b)\.example\.org", "a.example.org.other.tld", No, No, &[], &[]),
        (r"re:a{1,2}\.org", "aa.org", Match, Match, &[], &[]),
        (r"re:a|b", "xb", No, No, &[], &[]),
        (r"re:^a$", "a", Match, Match, &[], &[]),
        (r"re:(?m)a$", "a.org", No, No, &[], &[]),
        // An expression that would close the group which anchors it.
        (r"re:a)|(b", "xb", Fault, Fault, &[], &[]),
        (r"re:(?x)a #", "a.org", Fault, Fault, &[], &[]),
        ("re:", "a", Fault, Fault, &[], &[]),
        (r"(a|b)\.example\.org", "a.example.org", Fault, Match, &[], &[InferredRegex]),
        (r"(a|b)\.example\.org", "a.example.org.other.tld", Fault, No, &[], &[InferredRegex]),
        (r"(a|b)\.example\.org", "xa.example.org", Fault, No, &[], &[InferredRegex]),
        ("a(b", "a", Fault, Fault, &[], &[]),
        ("", "a", Fault, Fault, &[], &[]),
        ("a b", "a", Fault, Fault, &[], &[]),
        ("spiffe://a", "a", Fault, Fault, &[], &[]),
    ]
};

#[test]
fn f2_trust_domain_column() {
    for (pattern, value, in_strict, in_compat, warned, warned_compat) in DOMAIN_COLUMN {
        let (says, warnings) = domain_says(pattern, value, Strict);
        assert_eq!((says, warnings.as_slice()), (*in_strict, *warned), "strict {pattern} {value}");
        let (says, warnings) = domain_says(pattern, value, Compat);
        assert_eq!((says, warnings.as_slice()), (*in_compat, *warned_compat), "compat {pattern} {value}");
    }
}

#[test]
fn a_regular_expression_without_marker_is_named_with_it() {
    let error = load(r"p,(a|b)\.org,*", Strict).unwrap_err().to_string();
    assert!(error.contains(r"write `re:(a|b)\.org`"), "{error}");
}

/// Whether a method pattern is taken, and which of the warnings it gives.
fn method_says(pattern: &str, method: &str, matching: Matching) -> (Says, Vec<WarningKind>) {
    // The first line keeps a policy whose pattern grants nothing from being empty.
    match load(&format!("p,other.example,*\np,a.example,{pattern}\n"), matching) {
        Err(error) => {
            assert_eq!(error.faults[0].line, Some(2), "{error}");
            (Fault, Vec::new())
        }
        Ok(loaded) => {
            let says = if allows(&loaded.policy, "a.example", method) { Match } else { No };
            (says, kinds(&loaded))
        }
    }
}

/// Pattern, method, strict, compat, warnings in strict, warnings in compat.
type MethodRow = (&'static str, &'static str, Says, Says, &'static [WarningKind], &'static [WarningKind]);

#[rustfmt::skip]
const METHOD_COLUMN: &[MethodRow] = {
    use WarningKind::{AdmitsMore, DependsOnMatching, TextAfterStar};
    &[
        ("*", "/agntcy.dir.store.v1.StoreService/Pull", Match, Match, &[], &[]),
        ("*", "/agntcy.dir.store.v1.SyncService/CreateSync", Match, Match, &[], &[]),
        ("/agntcy.dir.store.v1.StoreService/Pull", "/agntcy.dir.store.v1.StoreService/Pull", Match, Match, &[DependsOnMatching], &[AdmitsMore, DependsOnMatching]),
        ("/agntcy.dir.store.v1.StoreService/Pull", "/agntcy.dir.store.v1.StoreService/PullReferrer", No, Match, &[DependsOnMatching], &[AdmitsMore, DependsOnMatching]),
        ("/agntcy.dir.store.v1.StoreService/Push", "/agntcy.dir.store.v1.StoreService/PushReferrer", No, Match, &[DependsOnMatching], &[AdmitsMore, DependsOnMatching]),
        ("/agntcy.dir.store.v1.StoreService/Delete", "/agntcy.dir.store.v1.StoreService/DeleteReferrer", No, Match, &[DependsOnMatching], &[AdmitsMore, DependsOnMatching]),
        ("/agntcy.dir.routing.v1.RoutingService/Publish", "/agntcy.dir.routing.v1.RoutingService/Unpublish", No, No, &[], &[]),
        ("/agntcy.dir.routing.v1.RoutingService/Publish", "/agntcy.dir.routing.v1.RoutingService/Publish", Match, Match, &[], &[]),
        ("/agntcy.dir.store.v1.StoreService/*", "/agntcy.dir.store.v1.StoreService/DeleteReferrer", Match, Match, &[], &[]),
        ("/agntcy.dir.store.v1.StoreService/*", "/agntcy.dir.store.v1.SyncService/GetSync", No, No, &[], &[]),
        ("/agntcy.dir.*", "/agntcy.dir.store.v1.SyncService/GetSync", Fault, Match, &[], &[DependsOnMatching]),
        ("/agntcy.dir.*", "/grpc.health.v1.Health/List", Fault, No, &[], &[DependsOnMatching]),
        ("/agntcy.dir.store.v1.StoreService/Pull*", "/agntcy.dir.store.v1.StoreService/PullReferrer", Fault, Match, &[], &[DependsOnMatching]),
        ("/agntcy.dir.store.v1.StoreService/Pull*", "/agntcy.dir.store.v1.StoreService/Push", Fault, No, &[], &[DependsOnMatching]),
        ("/agntcy.dir.store.v1.StoreService/*/x", "/agntcy.dir.store.v1.StoreService/Push", Fault, Match, &[], &[TextAfterStar, DependsOnMatching]),
        ("*x", "/agntcy.dir.store.v1.StoreService/Push", Fault, Match, &[], &[TextAfterStar, DependsOnMatching]),
        ("/agntcy.dir.store.v1.StoreService/Pul", "/agntcy.dir.store.v1.StoreService/Pull", Fault, Match, &[], &[AdmitsMore, DependsOnMatching]),
        ("/agntcy.dir.store.v1.StoreService/", "/agntcy.dir.store.v1.StoreService/Pull", Fault, Match, &[], &[AdmitsMore, DependsOnMatching]),
        ("agntcy.dir.store.v1.StoreService/Pull", "/agntcy.dir.store.v1.StoreService/Pull", Fault, Match, &[], &[AdmitsMore, DependsOnMatching]),
        ("/agntcy.dir.nothing.v1.Service/*", "/agntcy.dir.store.v1.StoreService/Pull", Fault, Fault, &[], &[]),
        ("/agntcy.dir.store.v1.StoreService/Pulll", "/agntcy.dir.store.v1.StoreService/Pull", Fault, Fault, &[], &[]),
        ("/a(b", "/agntcy.dir.store.v1.StoreService/Pull", Fault, Fault, &[], &[]),
        ("@read", "/agntcy.dir.store.v1.StoreService/Pull", Fault, Fault, &[], &[]),
        ("re:/agntcy.*/Pull", "/agntcy.dir.store.v1.StoreService/Pull", Fault, Fault, &[], &[]),
    ]
};

#[test]
fn f2_method_column() {
    for (pattern, method, in_strict, in_compat, warned, warned_compat) in METHOD_COLUMN {
        let (says, warnings) = method_says(pattern, method, Strict);
        assert_eq!((says, warnings.as_slice()), (*in_strict, *warned), "strict {pattern} {method}");
        let (says, warnings) = method_says(pattern, method, Compat);
        assert_eq!((says, warnings.as_slice()), (*in_compat, *warned_compat), "compat {pattern} {method}");
    }
}

#[test]
fn f8_an_unknown_method_is_a_fault_or_a_warning() {
    let text = format!("p,a.example,*\np,b.example,{STORE}Pulll\n");
    let error = load(&text, Strict).unwrap_err();
    assert_eq!(error.faults.len(), 1);
    assert!(error.to_string().contains("did you mean /agntcy.dir.store.v1.StoreService/Pull?"), "{error}");
    let loaded = Policy::parse_csv(&text, Strict, &catalogue(), UnknownMethod::Warn).unwrap();
    assert_eq!(kinds(&loaded), [WarningKind::UnknownMethod]);
    assert_eq!(loaded.policy.rules().len(), 1);
}

#[test]
fn f8_the_dead_spelling_is_warned_of_and_grants_nothing() {
    let dead = "/agntcy.dir.sync.v1.SyncService/RequestRegistryCredentials";
    for matching in [Strict, Compat] {
        let loaded = load(&format!("p,a.example,{STORE}Lookup\np,*,{dead}\n"), matching).unwrap();
        assert_eq!(kinds(&loaded), [WarningKind::LegacySpelling]);
        assert!(loaded.warnings[0].to_string().contains(&format!("{SYNC}RequestRegistryCredentials")));
        for method in [dead, &format!("{SYNC}RequestRegistryCredentials")] {
            assert!(!allows(&loaded.policy, "a.example", method));
        }
    }
}

/// The five lines that charts in the field carry.
const FIELD: &str = "p,example.org,*
p,*,/agntcy.dir.store.v1.StoreService/Pull
p,*,/agntcy.dir.store.v1.StoreService/PullReferrer
p,*,/agntcy.dir.store.v1.StoreService/Lookup
p,*,/agntcy.dir.sync.v1.SyncService/RequestRegistryCredentials
";

#[test]
fn f1_six_callers_and_eleven_methods() {
    let methods = [
        format!("{STORE}Push"),
        format!("{STORE}Pull"),
        format!("{STORE}PullReferrer"),
        format!("{STORE}Lookup"),
        format!("{STORE}Delete"),
        format!("{SYNC}CreateSync"),
        format!("{SYNC}ListSyncs"),
        format!("{SYNC}GetSync"),
        format!("{SYNC}DeleteSync"),
        format!("{SYNC}RequestRegistryCredentials"),
        format!("{ROUTING}Publish"),
    ];
    let callers = [
        ("example.org", "11111111111"),
        ("dir.com", "01110000000"),
        ("other.example", "01110000000"),
        ("sub.example.org", "01110000000"),
        ("example.org.evil.tld", "01110000000"),
        ("myexample.org", "01110000000"),
    ];
    for matching in [Strict, Compat] {
        let loaded = load(FIELD, matching).unwrap();
        assert!(loaded.warnings.iter().all(|w| !w.kind.is_finding()), "{:?}", loaded.warnings);
        for (id, granted) in callers {
            for (method, granted) in methods.iter().zip(granted.chars()) {
                assert_eq!(allows(&loaded.policy, id, method), granted == '1', "{matching:?} {id} {method}");
            }
        }
    }
}

#[test]
fn f15_the_default_policy_says_what_the_field_says() {
    let ours = Policy::default_for(&domain("example.org"), &catalogue());
    let field = strict(FIELD);
    for (_, method) in catalogue().iter() {
        for id in ["example.org", "partner.example"] {
            let (a, b) = (ours.decide(&caller(id), method, NOW), field.decide(&caller(id), method, NOW));
            assert_eq!(a.effect, b.effect, "{id} {method}");
        }
    }
    let credentials = format!("{SYNC}RequestRegistryCredentials");
    assert!(!allows(&ours, "partner.example", &credentials));
    assert!(allows(&ours, "example.org", &credentials));
}
