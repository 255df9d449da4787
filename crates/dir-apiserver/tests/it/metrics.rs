//! The metrics page of the real binary, and everything that is written about it: the reference, the alerts, the dashboard.

use crate::client::{count, pull, push, record, secure};
use crate::node::{Node, get, get_with, until};
use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, Expr, LabelModifier, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tempfile::tempdir;

/// Labels that Prometheus itself puts on every sample.
const SCRAPED: [&str; 2] = ["instance", "job"];

/// One family of the page.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
    /// Values by label.
    values: BTreeMap<String, BTreeSet<String>>,
}

/// Families by name, those of histograms also under the names of their samples.
type Page = BTreeMap<String, Family>;

fn labels_of(sample: &str) -> (&str, Vec<(String, String)>) {
    let (name, rest) = sample.split_once('{').expect(sample);
    let inner = rest.rsplit_once('}').unwrap().0;
    let pairs = inner.split("\",").map(|pair| pair.split_once("=\"").expect(sample));
    (name, pairs.map(|(k, v)| (k.to_owned(), v.trim_end_matches('"').to_owned())).collect())
}

fn read(text: &str) -> Page {
    let mut page = Page::new();
    let (mut family, mut help, mut kind) = (String::new(), String::new(), String::new());
    for line in text.lines() {
        if let Some(told) = line.strip_prefix("# HELP ") {
            let (name, text) = told.split_once(' ').unwrap();
            (family, help) = (name.to_owned(), text.to_owned());
        } else if let Some(told) = line.strip_prefix("# TYPE ") {
            told.rsplit_once(' ').unwrap().1.clone_into(&mut kind);
        } else {
            let (name, labels) = labels_of(line);
            for name in [name, &family] {
                let found = page.entry(name.to_owned()).or_default();
                (found.kind, found.help) = (kind.clone(), help.clone());
                for (label, value) in &labels {
                    found.labels.insert(label.clone());
                    found.values.entry(label.clone()).or_default().insert(value.clone());
                }
            }
        }
    }
    page
}

/// A node with every part switched on that this build has, after calls of each sort.
async fn busy(home: &Path) -> Node {
    let policy = home.join("policy.csv");
    std::fs::write(&policy, "p,dev.directory.internal,*\n").unwrap();
    let config = home.join("server.config.yml");
    let text = format!(
        "authz: {{enabled: true, enforcer_policy_file_path: {}}}\n\
         ratelimit: {{enabled: true, global_rps: 10000, global_burst: 10000}}\n\
         federation:\n\
         \x20 trust_domains: [{{name: partner.example, url: 'https://127.0.0.1:9/bundle'}}]\n\
         \x20 bundle_endpoint: {{enabled: true, listen_address: '127.0.0.1:0'}}\n",
        policy.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut node = Node::start(home, &["--embedded-identity", "--config", config.to_str().unwrap()]);
    let socket = format!("unix://{}", home.join(".dir/workload.sock").display());
    let channel = secure(node.grpc(), &socket).await;
    let cids = push(&channel, vec![record("one")]).await.unwrap();
    pull(&channel, &cids).await.unwrap();
    count(&channel, "one").await;
    node
}

fn page_of(node: &mut Node) -> Page {
    read(&get(node.ops(), "/metrics").unwrap().1)
}

fn at_root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// What an expression asks of the page.
#[derive(Default)]
struct Asked {
    selectors: Vec<VectorSelector>,
    /// Labels that an aggregation keeps.
    grouped: BTreeSet<String>,
}

impl ExprVisitor for Asked {
    type Error = String;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, String> {
        match expr {
            Expr::VectorSelector(selector) => self.selectors.push(selector.clone()),
            Expr::MatrixSelector(range) => self.selectors.push(range.vs.clone()),
            Expr::Aggregate(sum) => {
                if let Some(LabelModifier::Include(labels)) = &sum.modifier {
                    self.grouped.extend(labels.labels.iter().cloned());
                }
            }
            _ => {}
        }
        Ok(true)
    }
}

fn known(matcher: &Matcher, family: &Family) -> Result<(), String> {
    let name = &matcher.name;
    if SCRAPED.contains(&name.as_str()) {
        return Ok(());
    }
    let values = family.values.get(name).ok_or_else(|| format!("no label {name}"))?;
    let missing = match &matcher.op {
        MatchOp::Equal => vec![matcher.value.as_str()],
        // A pattern stands for words and beginnings of words.
        MatchOp::Re(_) => matcher.value.split('|').collect(),
        // What is left out need not be there.
        MatchOp::NotEqual | MatchOp::NotRe(_) => Vec::new(),
    };
    for value in missing {
        let there = match value.strip_suffix(".*") {
            Some(beginning) => values.iter().any(|v| v.starts_with(beginning)),
            None => values.contains(value),
        };
        if !there {
            return Err(format!("no sample has {name}={value:?}"));
        }
    }
    Ok(())
}

/// Judges an expression by the page; answers the labels that its result can have.
fn judge(expr: &str, page: &Page) -> Result<BTreeSet<String>, String> {
    let parsed = parser::parse(expr)?;
    let mut asked = Asked::default();
    walk_expr(&mut asked, &parsed)?;
    if asked.selectors.is_empty() {
        return Err("it asks for no metric".to_owned());
    }
    let mut labels = BTreeSet::from(SCRAPED.map(str::to_owned));
    for selector in &asked.selectors {
        let name = selector.name.as_deref().ok_or("a selector without a name")?;
        let family = page.get(name).ok_or_else(|| format!("no metric {name}"))?;
        for matcher in &selector.matchers.matchers {
            known(matcher, family).map_err(|fault| format!("{name}: {fault}"))?;
        }
        labels.extend(family.labels.iter().cloned());
    }
    match asked.grouped.iter().find(|label| !labels.contains(*label)) {
        Some(label) => Err(format!("it groups by {label}, which nothing has")),
        None if asked.grouped.is_empty() => Ok(labels),
        None => Ok(asked.grouped),
    }
}

fn alerts() -> Vec<Value> {
    let text = std::fs::read_to_string(at_root("deploy/observability/alerts.yaml")).unwrap();
    let file: Value = serde_saphyr::from_str(&text).unwrap();
    let groups = file["groups"].as_array().unwrap().iter();
    groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

fn panels() -> Vec<(String, String, String)> {
    let text = std::fs::read_to_string(at_root("deploy/observability/dashboard.json")).unwrap();
    let board: Value = serde_json::from_str(&text).unwrap();
    let mut found = Vec::new();
    for panel in board["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            found.push((text(&panel["title"]), text(&target["expr"]), text(&target["legendFormat"])));
        }
    }
    found
}

/// The words in `text` that follow `before`, up to a space or a brace.
fn named<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    let parts = text.split(before).skip(1);
    parts.map(|rest| rest.split([' ', '}']).next().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_alert_and_every_panel_is_about_this_page() {
    let home = tempdir().unwrap();
    let mut node = busy(home.path()).await;
    let mut page = page_of(&mut node);
    // Comes with the first failed fetch, and with what only another store has.
    until("the partner has been asked", || {
        page = page_of(&mut node);
        page.get("federation_fetches_total").filter(|f| f.values["result"].len() > 1).map(|_| ())
    });
    let mut faults = Vec::new();
    let alerts = alerts();
    for alert in &alerts {
        let (name, expr) = (alert["alert"].as_str().unwrap(), alert["expr"].as_str().unwrap());
        match judge(expr, &page) {
            Err(fault) => faults.push(format!("alert {name}: {fault}")),
            Ok(labels) => {
                for label in named(alert["annotations"]["summary"].as_str().unwrap(), "$labels.") {
                    if !labels.contains(label) {
                        faults.push(format!("alert {name}: the summary names the label {label}"));
                    }
                }
            }
        }
    }
    let panels = panels();
    for (title, expr, legend) in &panels {
        let expr = expr.replace("$__rate_interval", "5m").replace("$__range", "1h");
        match judge(&expr, &page) {
            Err(fault) => faults.push(format!("panel {title}: {fault}")),
            Ok(labels) => {
                for label in named(legend, "{{").into_iter().filter(|label| !labels.contains(*label)) {
                    faults.push(format!("panel {title}: the legend names the label {label}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(alerts.len() >= 20 && panels.len() >= 30);
}

#[test]
fn the_judge_of_expressions_can_say_no() {
    let page = read("# HELP a_total A.\n# TYPE a_total counter\na_total{b=\"c\"} 1\n");
    assert!(judge("sum by (b, instance) (rate(a_total{b=\"c\"}[5m])) > 1", &page).is_ok());
    for wrong in [
        "sum(",
        "1 > 0",
        "x_total",
        "a_total{d=\"c\"}",
        "a_total{b=\"d\"}",
        "a_total{b=~\"c|d\"}",
        "sum by (d) (a_total)",
        "rate(a_total)",
    ] {
        assert!(judge(wrong, &page).is_err(), "{wrong}");
    }
}

/// `docs/reference/metrics.md`.
fn reference(page: &Page) -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         <!-- Made from the page of a real server by `UPDATE_DOCS=1 cargo test -p dir-apiserver --test it metrics`; a test\n\
         fails when it differs. -->\n\n\
         `GET /metrics` on the ops port (`metrics.address`), in the Prometheus text format, or in OpenMetrics 1.0.0 for a scraper\n\
         that asks for it (`Accept: application/openmetrics-text`). Every sample has at least one label. No label holds a SPIFFE\n\
         ID, an address or anything else that callers choose: a page does not grow with its callers. Of trust domains and of\n\
         policy rules, 256 have a label of their own over the life of the process; those beyond share the label `other`.\n\n\
         Alerts and a dashboard over these metrics are in `deploy/observability`; what to do about an alert is in the\n\
         [runbook](../operations/runbooks/alerts.md). Families of a part that is switched off are absent.\n\n\
         | metric | type | labels | |\n|---|---|---|---|\n",
    );
    for (name, family) in page {
        let part_of_histogram = ["_bucket", "_sum", "_count"].iter().any(|end| {
            name.strip_suffix(end).is_some_and(|of| page.get(of).is_some_and(|f| f.kind == "histogram"))
        });
        if part_of_histogram {
            continue;
        }
        let labels = family.labels.iter().filter(|label| *label != "le");
        let labels: Vec<_> = labels.map(|label| format!("`{label}`")).collect();
        text += &format!("| `{name}` | {} | {} | {} |\n", family.kind, labels.join(", "), family.help);
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_of_metrics_is_what_the_page_says() {
    let home = tempdir().unwrap();
    let mut node = busy(home.path()).await;
    let mut page = page_of(&mut node);
    // What only a node with tokens has.
    let home = tempdir().unwrap();
    let jwt = ["--embedded-identity", "--set", "authn.mode=jwt", "--set", "authn.audiences=dir"];
    let mut node = Node::start(home.path(), &jwt);
    for (name, family) in page_of(&mut node) {
        page.entry(name).or_insert(family);
    }
    let wanted = reference(&page);
    let path = at_root("docs/reference/metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let differs: Vec<_> = wanted.lines().filter(|line| !found.contains(*line)).collect();
    assert!(
        found == wanted,
        "{} differs; run UPDATE_DOCS=1 cargo test -p dir-apiserver --test it metrics: {differs:#?}",
        path.display()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn open_metrics_for_those_who_ask() {
    let home = tempdir().unwrap();
    let mut node = busy(home.path()).await;
    let ops = node.ops();
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let (head, text) = get_with(ops, "/metrics", &format!("accept: {accept}\r\n")).unwrap();
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(text.ends_with("# EOF\n"));
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.rsplit_once(' ').unwrap();
        assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
        assert!(!name.ends_with("_total"), "{line}");
        if kind == "counter" {
            assert!(text.contains(&format!("\n{name}_total{{")), "{line}");
        }
    }
    let (head, text) = get_with(ops, "/metrics", "").unwrap();
    assert!(head.contains("content-type: text/plain; version=0.0.4") && !text.contains("# EOF"), "{head}");
}
