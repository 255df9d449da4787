//! The declared validation rules (`buf.validate`) are those of the table, written in its notation.

use super::pool;
use prost_reflect::{DescriptorPool, DynamicMessage, Value};
use std::collections::BTreeSet;

const TABLE: &str = include_str!("../data/validation-rules.txt");

fn scalar(value: &Value) -> String {
    match value {
        Value::Bool(b) => b.to_string(),
        Value::I32(n) => n.to_string(),
        Value::I64(n) => n.to_string(),
        Value::U32(n) => n.to_string(),
        Value::U64(n) => n.to_string(),
        Value::String(s) => {
            format!("\"{}\"", s.replace('\\', "\\\\").replace('"', "\\\"").replace('\'', "\\'"))
        }
        other => panic!("a rule of a kind that the table does not know: {other:?}"),
    }
}

fn entry(name: &str, value: &Value, out: &mut Vec<String>) {
    match value {
        Value::List(items) => items.iter().for_each(|item| entry(name, item, out)),
        Value::Message(m) => out.push(format!("{name} {{ {} }}", text(m))),
        value => out.push(format!("{name}: {}", scalar(value))),
    }
}

/// Protobuf text format on one line, members by number.
fn text(message: &DynamicMessage) -> String {
    let mut members: Vec<(u32, String, Value)> =
        message.fields().map(|(f, v)| (f.number(), f.name().to_owned(), v.clone())).collect();
    members
        .extend(message.extensions().map(|(x, v)| (x.number(), format!("[{}]", x.full_name()), v.clone())));
    members.sort_by_key(|(number, ..)| *number);
    let mut out = Vec::new();
    for (_, name, value) in &members {
        entry(name, value, &mut out);
    }
    out.join(" ")
}

/// The value of extension `name` in `options`, if it is set.
fn rule(pool: &DescriptorPool, options: &DynamicMessage, name: &str) -> Option<String> {
    let extension = pool.get_extension_by_name(name).expect("a rule extension");
    options.has_extension(&extension).then(|| match options.get_extension(&extension).as_ref() {
        Value::Message(m) => text(m),
        other => panic!("{name} is a message, not {other:?}"),
    })
}

fn rules() -> BTreeSet<String> {
    let pool = pool();
    let mut found = BTreeSet::new();
    for message in pool.all_messages().filter(|m| m.full_name().starts_with("agntcy.")) {
        for f in message.fields() {
            if let Some(text) = rule(&pool, &f.options(), "buf.validate.field") {
                found.insert(format!("field   {} {text}", f.full_name()));
            }
        }
        for o in message.oneofs().filter(|o| !o.is_synthetic()) {
            if let Some(text) = rule(&pool, &o.options(), "buf.validate.oneof") {
                found.insert(format!("oneof   {} {text}", o.full_name()));
            }
        }
        assert_eq!(rule(&pool, &message.options(), "buf.validate.message"), None, "{}", message.full_name());
    }
    for x in pool.all_extensions().filter(|x| x.full_name().starts_with("agntcy.")) {
        if let Some(text) = rule(&pool, &x.options(), "buf.validate.predefined") {
            found.insert(format!("predefined {} {text}", x.full_name()));
        }
    }
    found
}

#[test]
fn declared_rules_are_those_of_the_table() {
    let table: BTreeSet<String> = TABLE.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect();
    let ours = rules();
    let missing: Vec<_> = table.difference(&ours).collect();
    let extra: Vec<_> = ours.difference(&table).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing: {missing:#?}\nextra: {extra:#?}");
}

/// The rules that the server enforces by hand, written out once more: a change of the protos must be noticed here.
#[test]
fn rules_of_the_referrer_requests() {
    let ours = rules();
    let of = |message: &str| -> Vec<&str> {
        let prefix = format!("field   {message}.");
        ours.iter().filter_map(|l| l.strip_prefix(&prefix)).collect()
    };
    let a_type = "string { [agntcy.dir.core.v1.is_referrer_type]: true }";
    let a_cid = "cid string { [agntcy.dir.core.v1.is_cid]: true } required: true";
    assert_eq!(of("agntcy.dir.core.v1.RecordRef"), [a_cid]);
    assert_eq!(of("agntcy.dir.core.v1.ReferrerRef"), [a_cid]);
    assert_eq!(
        of("agntcy.dir.store.v1.PushReferrerRequest"),
        ["record_ref required: true".to_owned(), format!("type {a_type} required: true")]
    );
    assert_eq!(
        of("agntcy.dir.store.v1.PullReferrerRequest"),
        ["record_ref required: true".to_owned(), format!("referrer_type {a_type}")]
    );
    assert_eq!(
        of("agntcy.dir.store.v1.DeleteReferrerRequest"),
        ["record required: true".to_owned(), format!("referrer_type {a_type}")]
    );
}
