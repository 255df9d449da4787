//! What is refused, with its line and its text; limits at their edges; what a review of a policy finds.

use super::*;
use RuleEffect::{Allow, Deny};

fn faults(text: &str) -> Vec<String> {
    load(text, Matching::Strict).unwrap_err().faults.iter().map(ToString::to_string).collect()
}

#[test]
fn lines_that_are_no_rules() {
    for (line, wanted) in [
        ("p,a.example", "invalid policy rule size: expected 2 columns"),
        ("p", "invalid policy rule size"),
        ("p,a.example,*,allow", "invalid policy rule size"),
        ("g,alice,admin", "\"g\" lines assign roles"),
        ("g2,alice,admin", "\"g2\" lines assign roles"),
        ("q,a.example,*", "a line of a policy is `p,"),
        ("p,\"a.example,*", "a quote is opened and not closed"),
        ("p,a.example,* # everything", "only a trailing `/*` is a wildcard"),
    ] {
        // A method with a remark behind it is taken apart like any other.
        let found = faults(&format!("p,ok.example,*\n\n{line}\n"));
        assert_eq!(found.len(), 1, "{found:?}");
        let wanted_start = if line.contains('#') { "method pattern" } else { wanted };
        assert!(found[0].starts_with(wanted_start), "{line}: {}", found[0]);
        assert!(found[0].ends_with("(line 3)"), "{line}: {}", found[0]);
    }
}

#[test]
fn every_fault_is_told_at_once() {
    let found = faults("p,a(b,*\np,a.example,*\np,a.example,/x.Y/Z\np,b\n");
    let lines: Vec<bool> = ["(line 1)", "(line 3)", "(line 4)"]
        .iter()
        .zip(&found)
        .map(|(line, text)| text.ends_with(line))
        .collect();
    assert_eq!(lines, [true; 3], "{found:?}");
}

#[test]
fn a_policy_that_allows_nothing_is_refused() {
    let dead = "p,*,/agntcy.dir.sync.v1.SyncService/RequestRegistryCredentials\n";
    for text in ["", "\n\n", "# p,a.example,*\n", dead] {
        assert!(faults(text)[0].contains("the policy allows nothing"), "{text}");
    }
    let deny = native(vec![rule("r", Deny, &["local"], &["*"])]).unwrap_err();
    assert!(deny.to_string().contains("the policy allows nothing"), "{deny}");
}

#[test]
fn comments_blank_lines_and_line_ends() {
    let loaded =
        load("\u{feff}# c\r\n\r\n   # d\r\n\tp ,\ta.example , * \r\np,a.example,*\r\n", Matching::Strict)
            .unwrap();
    assert_eq!(loaded.policy.rules().len(), 1);
    assert_eq!(kinds(&loaded), [WarningKind::Duplicate]);
    assert!(allows(&loaded.policy, "a.example", &format!("{STORE}Pull")));
}

#[test]
fn limits_at_their_edges() {
    let lines = |n: usize| (0..n).map(|i| format!("p,d{i}.example,*")).collect::<Vec<_>>().join("\n");
    assert_eq!(strict(&lines(POLICY_MAX_RULES)).rules().len(), POLICY_MAX_RULES);
    assert!(faults(&lines(POLICY_MAX_RULES + 1))[0].contains("at most 10000 are taken"));

    let head = "p,a.example,*\n#";
    let exactly = format!("{head}{}", "x".repeat(POLICY_MAX_BYTES - head.len()));
    assert_eq!(strict(&exactly).rules().len(), 1);
    assert!(faults(&format!("{exactly}x"))[0].contains("at most 1048576 are taken"));

    let regex = |n: usize| format!("p,re:{},*\n", "a".repeat(n - 3));
    assert_eq!(strict(&regex(PATTERN_MAX)).rules().len(), 1);
    assert!(faults(&regex(PATTERN_MAX + 1))[0].contains("more than 2048 bytes"));
    let method = format!("p,a.example,/{}\n", "a".repeat(PATTERN_MAX));
    assert!(faults(&method)[0].contains("more than 2048 bytes"));
    // An expression that would grow beyond its bound is a fault of the file, at load.
    assert!(faults("p,re:((a{100}){100}){100},*\n")[0].contains("size limit"));
}

#[test]
fn native_rules_that_are_none() {
    let fault = |rules: Vec<NativeRule>| native(rules).unwrap_err().to_string();
    let one = |r: NativeRule| fault(vec![rule("ok", Allow, &["local"], &["*"]), r]);
    let who = |principal: &str| one(rule("r", Allow, &[principal], &["@read"]));
    assert!(who("spiffe://a.example/ns/ci-*").contains("one whole segment"));
    assert!(who("spiffe://a.example/**/x").contains("only at its end"));
    assert!(who("spiffe://a.example").contains("a path must follow"));
    assert!(who("spiffe://a.example/").contains("no empty"));
    assert!(who("spiffe://a.example/a/../b").contains("no empty, `.` or `..`"));
    assert!(who("spiffe://re:a/**").contains("CSV"));
    assert!(who("spiffe://a*.example/**").contains("one whole label"));
    assert!(who("a.example").contains("starts with spiffe://"));
    assert!(who("oidc:github").contains("`oidc:<provider>:<principal>`"));
    assert!(who("oidc:google:*").contains("only within a branch"));
    assert!(who("anonymous").contains("`anonymous:http`"));
    assert!(one(rule("r", Allow, &["local"], &["@all"])).contains("there is no group \"@all\""));
    assert!(one(rule("r", Allow, &["local"], &["/x.Y/Z"])).contains("no service of this server"));
    assert!(one(rule("r", Allow, &[], &["@read"])).contains("at least one principal"));
    assert!(one(rule("r", Allow, &["local"], &[])).contains("one method"));
    assert!(one(rule("ok", Allow, &["local"], &["@read"])).contains("rule 1 has this id already"));
    assert!(one(rule("a b", Allow, &["local"], &["@read"])).contains("an id has 1 to 64"));
    assert!(one(rule(&"x".repeat(65), Allow, &["local"], &["@read"])).contains("an id has 1 to 64"));
    let limits = |rps, burst, max_streams| {
        let limits = Some(RuleLimits { rps, burst, max_streams });
        one(NativeRule { limits, ..rule("r", Allow, &["spiffe://a.example/w"], &["@read"]) })
    };
    assert!(limits(None, None, None).contains("at least one of"));
    assert!(limits(Some(0), None, None).contains("write a deny rule"));
    assert!(limits(None, None, Some(0)).contains("write a deny rule"));
    assert!(limits(None, Some(5), None).contains("`burst` needs `rps`"));
    assert!(limits(Some(6), Some(5), None).contains("burst 5 is below the rate 6"));
    let limited = Some(RuleLimits { rps: Some(1), burst: None, max_streams: None });
    let denied = NativeRule { limits: limited, ..rule("r", Deny, &["local"], &["@read"]) };
    assert!(one(denied).contains("limits are for allow rules"));
    let ends = NativeRule { not_after: Some(NOW), ..rule("r", Deny, &["local"], &["@read"]) };
    assert!(one(ends).contains("not_after is for allow rules"));
    let without = Policy::from_rules(
        vec![rule("r", Allow, &["federated"], &["@read"])],
        None,
        &catalogue(),
        UnknownMethod::Error,
    );
    assert!(without.unwrap_err().to_string().contains("own trust domain"));
}

#[test]
fn rules_that_decide_nothing_are_found() {
    let unreachable = |text: &str| {
        let loaded = load(text, Matching::Strict).unwrap();
        let of_kind = loaded.warnings.iter().filter(|w| w.kind == WarningKind::Unreachable);
        of_kind.filter_map(|w| w.at.line).collect::<Vec<_>>()
    };
    let pull = format!("{STORE}Pull");
    assert_eq!(unreachable(&format!("p,a.example,*\np,*,{pull}\n")), [0; 0]);
    assert_eq!(unreachable(&format!("p,a.example,{pull}\np,a.example,*\n")), [1]);
    assert_eq!(unreachable(&format!("p,a.example,{STORE}*\np,a.example,{pull}\n")), [2]);
    assert_eq!(unreachable(&format!("p,*.example,{pull}\np,*,{pull}\np,a.example,{pull}\n")), [1, 3]);
    assert_eq!(unreachable("p,re:a|b,*\np,a,*\np,c,*\n"), [2]);
    assert_eq!(unreachable("p,a.example,*\np,*,/grpc.health.v1.Health/Check\n"), [2]);
    let denied = native(vec![
        rule("all", Allow, &["spiffe://acme.example/ns/x/**"], &["*"]),
        rule("none", Deny, &["local"], &["*"]),
        rule("late", Allow, &["federated"], &["@read"]),
    ])
    .unwrap();
    assert_eq!(kinds(&denied), [WarningKind::Unreachable]);
    assert!(denied.warnings[0].to_string().contains("\"none\" decides all of it"), "{:?}", denied.warnings);
}

#[test]
fn what_compat_would_add_is_told_unless_it_is_granted_anyway() {
    let text = |more: &str| format!("p,a.example,{STORE}Pull\n{more}");
    let lines = |more: &str| {
        let loaded = load(&text(more), Matching::Strict).unwrap();
        let of_kind = loaded.warnings.iter().filter(|w| w.kind == WarningKind::DependsOnMatching);
        of_kind.map(ToString::to_string).collect::<Vec<_>>()
    };
    let told = lines("");
    assert_eq!(told.len(), 1);
    assert!(told[0].contains(&format!("admits {STORE}PullReferrer under `compat`")), "{told:?}");
    assert_eq!(lines(&format!("p,*,{STORE}PullReferrer\n")), [""; 0]);
    assert_eq!(lines(&format!("p,b.example,{STORE}PullReferrer\n")).len(), 1);
}

#[test]
fn the_permission_table_has_no_method_twice() {
    let mut paths: Vec<String> = PERMISSIONS
        .iter()
        .flat_map(|(service, methods)| methods.iter().map(move |(m, _)| format!("{service}/{m}")))
        .collect();
    let all = paths.len();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), all);
    assert_eq!(catalogue().len(), all);
}

#[test]
fn a_limited_rule_counts_before_a_wider_one_and_not_behind_it() {
    let limits = Some(RuleLimits { rps: Some(1), burst: None, max_streams: None });
    let limited = NativeRule { limits, ..rule("limited", Allow, &["spiffe://acme.example/ci"], &["@read"]) };
    let wide = rule("wide", Allow, &["local"], &["@read", "@write"]);
    let first = native(vec![limited.clone(), wide.clone()]).unwrap();
    assert_eq!(kinds(&first), []);
    let ci = caller("spiffe://acme.example/ci");
    let rule =
        |loaded: &Loaded| loaded.policy.decide(&ci, &format!("{STORE}Pull"), NOW).rule.unwrap().id.clone();
    assert_eq!(rule(&first), "limited");
    let behind = native(vec![wide, limited]).unwrap();
    assert_eq!((rule(&behind).as_str(), kinds(&behind)), ("wide", vec![WarningKind::Unreachable]));
}
