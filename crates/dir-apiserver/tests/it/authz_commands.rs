//! `authz check`, `explain` and `test`: reports and exit codes.

use crate::node::command;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::tempdir;

const PULL: &str = "/agntcy.dir.store.v1.StoreService/Pull";
const PUSH: &str = "/agntcy.dir.store.v1.StoreService/Push";

/// Exit code, standard output and standard error.
fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let home = tempdir().unwrap();
    let output = command(home.path()).arg("authz").args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn json(args: &[&str]) -> (Option<i32>, Value) {
    let (code, out, err) = run(&[args, &["--output", "json"]].concat());
    (code, serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}")))
}

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/policies").join(name);
    path.canonicalize().unwrap().display().to_string()
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

#[test]
fn check_takes_the_examples() {
    for name in ["organisation.yaml", "organisation.toml", "two-organisations.csv"] {
        let (code, told) = json(&["check", &example(name)]);
        assert_eq!(code, Some(0), "{told:#}");
        assert_eq!(
            (&told["errors"], &told["findings"]),
            (&Value::Array(vec![]), &Value::Array(vec![])),
            "{name}"
        );
        assert!(told["rules"].as_u64().unwrap() >= 4, "{told:#}");
    }
}

#[test]
fn check_finds_everything_at_once() {
    let files = Files::new();
    let broken = files.write("broken.csv", "p,a(b,*\np,acme.example,*\np,acme.example\np,*,/x.Y/Z\n");
    let (code, told) = json(&["check", &broken]);
    assert_eq!(code, Some(4));
    let lines: Vec<_> =
        told["errors"].as_array().unwrap().iter().map(|e| e["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [1, 3, 4]);
    let (code, out, _) = run(&["check", &broken]);
    assert_eq!(code, Some(4));
    assert!(
        out.contains("error: invalid policy rule size")
            && out.ends_with("3 errors, 0 findings, 0 warnings\n"),
        "{out}"
    );
    assert_eq!(json(&["check", &files.write("empty.csv", "# nothing\n")]).0, Some(4));
    assert_eq!(json(&["check", "/nowhere/policy.csv"]).0, Some(4));
}

#[test]
fn check_tells_findings_from_warnings() {
    let files = Files::new();
    let kinds = |told: &Value, list: &str| {
        let list = told[list].as_array().unwrap().iter();
        list.map(|w| (w["kind"].as_str().unwrap().to_owned(), w["line"].as_u64().unwrap()))
            .collect::<Vec<_>>()
    };
    let field = files.write(
        "field.csv",
        &format!("p,Example.org,*\np,*,{PULL}\np,*,{PULL}Referrer\np,*,/agntcy.dir.sync.v1.SyncService/RequestRegistryCredentials\n"),
    );
    let (code, told) = json(&["check", &field]);
    assert_eq!(code, Some(0), "{told:#}");
    assert_eq!(kinds(&told, "warnings"), [("lower_cased".into(), 1), ("legacy_spelling".into(), 4)]);
    let doubtful = files.write("doubtful.csv", &format!("p,*,{PULL}\np,a.example,{PULL}\n"));
    let (code, told) = json(&["check", &doubtful]);
    assert_eq!(code, Some(4));
    assert_eq!(
        kinds(&told, "findings"),
        [("depends_on_matching".into(), 1), ("unreachable".into(), 2), ("depends_on_matching".into(), 2)]
    );
    let (_, told) = json(&["check", &doubtful, "--matching", "compat"]);
    assert_eq!(told["matching"], "compat");
    assert_eq!(kinds(&told, "warnings"), [("admits_more".into(), 1), ("admits_more".into(), 2)]);
    let classes = files.write(
        "classes.yml",
        "version: 1\nrules:\n  - {id: a, effect: allow, principals: [local], methods: ['@read']}\n",
    );
    assert_eq!(json(&["check", &classes]).0, Some(4));
    assert_eq!(json(&["check", &classes, "--trust-domain", "acme.example"]).0, Some(0));
}

#[test]
fn f5_explain_names_the_rule_and_the_nearest() {
    let files = Files::new();
    let policy =
        files.write("policy.csv", &format!("# ours\np,acme.example,*\n\np,partner.example,{PULL}\n"));
    let explain = |subject: &str, method: &str| {
        json(&["explain", "--policy", &policy, "--subject", subject, "--method", method])
    };
    let (code, told) = explain("spiffe://partner.example/w", PULL);
    assert_eq!((code, &told["decision"], &told["rule"]["line"]), (Some(0), &"allow".into(), &4.into()));
    let (code, told) = explain("spiffe://partner2.example/w", PULL);
    assert_eq!((code, &told["decision"]), (Some(1), &"deny".into()));
    assert_eq!(told["nearest"][0]["line"], 4);
    assert_eq!(told["nearest"][0]["difference"], "differs in trust domain");
    let (code, told) = explain("spiffe://partner.example/w", &PUSH[1..]);
    assert_eq!((code, &told["cause"]), (Some(1), &"no rule allows it".into()));
    let (code, told) = explain("spiffe://acme.example/w", "StoreService/Delete");
    assert_eq!((code, &told["method"]), (Some(0), &"/agntcy.dir.store.v1.StoreService/Delete".into()));
    let (code, told) = explain("anonymous", PULL);
    assert_eq!((code, &told["decision"]), (Some(1), &"unauthenticated".into()));
    let (code, told) = explain("spiffe://acme.example/w", "/x.Y/Z");
    assert_eq!((code, &told["cause"]), (Some(1), &"no service of this server has the method".into()));

    let (_, out, _) =
        run(&["explain", "--policy", &policy, "--subject", "spiffe://partner2.example/w", "--method", PULL]);
    assert!(out.contains("nearest rule line 4 differs in trust domain"), "{out}");
    let (code, _, err) =
        run(&["explain", "--policy", &policy, "--subject", "spiffe://acme.example", "--method", PULL]);
    assert_eq!(code, Some(2));
    assert!(err.contains("has a path"), "{err}");
    let (code, _, err) =
        run(&["explain", "--policy", "/nowhere.csv", "--subject", "anonymous", "--method", PULL]);
    assert_eq!(code, Some(4));
    assert!(err.contains("/nowhere.csv"), "{err}");
}

#[test]
fn f5_explain_tells_of_a_record_what_its_owner_and_its_labels_decide() {
    let files = Files::new();
    let search = "/agntcy.dir.search.v1.SearchService/SearchRecords";
    let delete = "/agntcy.dir.store.v1.StoreService/Delete";
    let rule = |id: &str, effect: &str, method: &str, resources: &str| {
        format!(
            "  - {{id: {id}, effect: {effect}, principals: [\"spiffe://acme.example/**\"], methods: [{method}], \
             resources: {resources}}}\n"
        )
    };
    let text = format!(
        "version: 1\nrules:\n{}{}{}",
        rule("own", "allow", delete, "{owner: self}"),
        rule("keep", "deny", delete, "{labels: [/domains/finance/*]}"),
        rule("shown", "allow", search, "{labels: [/domains/technology]}"),
    );
    let policy = files.write("policy.yaml", &text);
    let me = "spiffe://acme.example/w";
    let explain = |method: &str, record: &[&str]| {
        let mut args = vec!["explain", "--policy", &policy, "--subject", me, "--method", method];
        args.extend(record);
        let (code, told) = json(&args);
        (code, told["decision"].clone(), told["rule"]["id"].clone(), told["nearest"][0]["id"].clone())
    };
    let none = serde_json::Value::Null;
    let allowed = |rule: &str| (Some(0), "allow".into(), rule.into(), none.clone());
    assert_eq!(explain(delete, &["--owner", me]), allowed("own"));
    let refused = (Some(1), "deny".into(), none.clone(), "own".into());
    assert_eq!(explain(delete, &["--owner", "spiffe://acme.example/other"]), refused);
    assert_eq!(explain(delete, &["--label", "/skills/a"]), refused, "nobody's");
    let kept = explain(delete, &["--owner", me, "--label", "/skills/a", "--label", "/domains/finance/x"]);
    assert_eq!((kept.0, kept.2), (Some(1), "keep".into()));
    assert_eq!(explain(search, &["--label", "/domains/technology"]), allowed("shown"));
    assert_eq!(explain(search, &["--label", "/domains/art"]).0, Some(1), "a search does not show it");
    assert_eq!(explain(search, &[]), allowed("shown"), "the method alone");
    let (_, told) = json(&["explain", "--policy", &policy, "--subject", me, "--method", search]);
    assert_eq!(
        told["cause"],
        "a rule allows it, for records that meet its conditions, and it shows the records with /domains/technology"
    );
}

#[test]
fn f10_explain_looks_at_another_time() {
    let policy = example("organisation.yaml");
    let at = |time: &str| {
        let subject = "spiffe://partner.example/ns/dir/sa/reader";
        json(&["explain", "--policy", &policy, "--subject", subject, "--method", PULL, "--at", time])
    };
    assert_eq!(at("2031-06-29T23:59:59Z").0, Some(0));
    let (code, told) = at("2031-06-30T00:00:00Z");
    assert_eq!((code, &told["nearest"][0]["difference"]), (Some(1), &"has ended".into()));
}

#[test]
fn test_holds_a_policy_against_its_table() {
    let (code, told) = json(&["test", &example("cases.yaml")]);
    assert_eq!((code, &told["failed"]), (Some(0), &0.into()), "{told:#}");

    let files = Files::new();
    files.write("policy.csv", &format!("p,acme.example,*\np,*,{PULL}\n"));
    let case = |id: &str, method: &str, rest: &str| {
        format!("  - {{subject: 'spiffe://{id}/w', method: {method}, {rest}}}\n")
    };
    let table = format!(
        "policy: policy.csv\ncases:\n{}{}{}",
        case("acme.example", PUSH, "expect: allow, rule: line-1"),
        case("partner.example", PUSH, "expect: allow, name: too much"),
        case("partner.example", PULL, "expect: allow, rule: line-1"),
    );
    let cases = files.write("cases.yaml", &table);
    let (code, out, _) = run(&["test", &cases]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("FAILED  too much\n        expected allow, got deny: no rule allows it\n"), "{out}");
    assert!(out.contains("expected allow by line-1, got allow by line-2"), "{out}");
    assert!(out.ends_with("3 cases, 2 failed\n"), "{out}");
    // Another policy for the same table.
    let everything = files.write("everything.csv", "p,*,*\n");
    assert_eq!(json(&["test", &cases, "--policy", &everything]).1["failed"], 0);

    for broken in
        ["cases: []\n", "cases: [{subject: x, method: y, expect: allow}]\n", "cases: 1\n", "casez: []\n"]
    {
        assert_eq!(run(&["test", &files.write("broken.yaml", broken)]).0, Some(4), "{broken}");
    }
}

#[test]
fn the_configuration_says_what_is_not_said_here() {
    let files = Files::new();
    let policy = files.write("policy.csv", "p,acme.example,/agntcy.dir.*\n");
    let config = files.write(
        "server.config.yml",
        &format!("authz: {{enabled: true, enforcer_policy_file_path: {policy}, method_matching: compat}}\n"),
    );
    let (_, told) = json(&["check", "--config", &config]);
    assert_eq!(
        (&told["file"], &told["matching"], &told["rules"]),
        (&policy.into(), &"compat".into(), &1.into())
    );
}
