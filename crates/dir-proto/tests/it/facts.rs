//! One line is one fact: message, field, enum value, RPC, extension. The table must be met exactly.

use super::pool;
use prost_reflect::{
    Cardinality, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, ServiceDescriptor,
};
use std::collections::BTreeSet;

const TABLE: &str = include_str!("../data/wire-facts.txt");

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Message(m) => m.full_name().to_owned(),
        Kind::Enum(e) => format!("enum:{}", e.full_name()),
        Kind::Double => "double".into(),
        Kind::Float => "float".into(),
        Kind::Int32 => "int32".into(),
        Kind::Int64 => "int64".into(),
        Kind::Uint32 => "uint32".into(),
        Kind::Uint64 => "uint64".into(),
        Kind::Sint32 => "sint32".into(),
        Kind::Sint64 => "sint64".into(),
        Kind::Fixed32 => "fixed32".into(),
        Kind::Fixed64 => "fixed64".into(),
        Kind::Sfixed32 => "sfixed32".into(),
        Kind::Sfixed64 => "sfixed64".into(),
        Kind::Bool => "bool".into(),
        Kind::String => "string".into(),
        Kind::Bytes => "bytes".into(),
    }
}

fn field(f: &FieldDescriptor) -> String {
    let (kind_text, label) = if f.is_map() {
        let Kind::Message(entry) = f.kind() else { panic!("a map has an entry message") };
        let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        (format!("map<{},{}>", kind(&key.kind()), kind(&value.kind())), "map".to_owned())
    } else {
        let label = match (f.cardinality(), f.containing_oneof()) {
            (Cardinality::Repeated, _) => "repeated".to_owned(),
            (_, Some(oneof)) if !oneof.is_synthetic() => format!("oneof({})", oneof.name()),
            (_, Some(_)) => "optional".to_owned(),
            (_, None) => "singular".to_owned(),
        };
        (kind(&f.kind()), label)
    };
    let deprecated =
        if f.field_descriptor_proto().options.as_ref().is_some_and(prost_types::FieldOptions::deprecated) {
            " deprecated"
        } else {
            ""
        };
    format!("field   {} = {} {kind_text} {label}{deprecated}", f.full_name(), f.number())
}

fn message(m: &MessageDescriptor, facts: &mut Vec<String>) {
    facts.push(format!("message {}", m.full_name()));
    facts.extend(m.fields().map(|f| field(&f)));
    facts.extend(m.child_enums().flat_map(|e| enumeration(&e)));
    for child in m.child_messages().filter(|c| !c.is_map_entry()) {
        message(&child, facts);
    }
}

fn enumeration(e: &EnumDescriptor) -> Vec<String> {
    let mut facts = vec![format!("enum    {}", e.full_name())];
    facts.extend(e.values().map(|v| format!("value   {}.{} = {}", e.full_name(), v.name(), v.number())));
    facts
}

fn service(s: &ServiceDescriptor) -> Vec<String> {
    let stream = |on: bool| if on { "stream " } else { "" };
    let mut facts = vec![format!("service {}", s.full_name())];
    facts.extend(s.methods().map(|m| {
        format!(
            "rpc     /{}/{} ({}{}) -> ({}{})",
            s.full_name(),
            m.name(),
            stream(m.is_client_streaming()),
            m.input().full_name(),
            stream(m.is_server_streaming()),
            m.output().full_name(),
        )
    }));
    facts
}

/// Every fact of the packages `agntcy.*`, in the notation of the table.
fn facts() -> Vec<String> {
    let mut facts = Vec::new();
    for file in pool().files().filter(|f| f.package_name().starts_with("agntcy.")) {
        for m in file.messages() {
            message(&m, &mut facts);
        }
        facts.extend(file.enums().flat_map(|e| enumeration(&e)));
        facts.extend(file.services().flat_map(|s| service(&s)));
        facts.extend(file.extensions().map(|x| {
            format!(
                "extension {} = {} extends {} {}",
                x.full_name(),
                x.number(),
                x.containing_message().full_name(),
                kind(&x.kind())
            )
        }));
    }
    facts
}

#[test]
fn the_api_is_the_union_of_v1_7_and_v1_8_and_nothing_else() {
    let ours: BTreeSet<String> = facts().into_iter().collect();
    let table: BTreeSet<String> = TABLE.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect();
    let missing: Vec<_> = table.difference(&ours).collect();
    let extra: Vec<_> = ours.difference(&table).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing: {missing:#?}\nextra: {extra:#?}");
    assert_eq!(table.len(), 747, "the table itself was cut");
}

#[test]
fn methods_are_those_of_the_table_and_of_our_own_services() {
    let ours: BTreeSet<String> = dir_proto::methods()
        .iter()
        .filter(|m| m.service.starts_with("agntcy."))
        .map(dir_proto::Method::path)
        .collect();
    let table: BTreeSet<String> = TABLE
        .lines()
        .filter(|l| l.starts_with("rpc "))
        .filter_map(|l| l.split_whitespace().nth(1).map(str::to_owned))
        .collect();
    assert_eq!(ours, table);

    let of = |path: &str| {
        let m = dir_proto::methods().iter().find(|m| m.path() == path).expect("listed");
        (m.client_streaming, m.server_streaming)
    };
    assert_eq!(of("/agntcy.dir.store.v1.StoreService/Push"), (true, true));
    assert_eq!(of("/agntcy.dir.store.v1.StoreService/Delete"), (true, false));
    assert_eq!(of("/agntcy.dir.search.v1.SearchService/SearchCIDs"), (false, true));
    assert_eq!(of("/directory.admin.v1.AdminService/GetIdentity"), (false, false));
}

#[test]
fn the_http_mapping_of_the_catalog_is_declared() {
    let pool = pool();
    let http = pool.get_extension_by_name("google.api.http").expect("google.api.http");
    let service = pool.get_service_by_name("agntcy.dir.catalog.v1.AIFinderService").expect("catalog");
    let mapping: Vec<String> = service
        .methods()
        .map(|m| {
            let rule = m.options().get_extension(&http).into_owned();
            let rule = rule.as_message().expect("a rule").clone();
            let (verb, path) = ["get", "post"]
                .into_iter()
                .find_map(|v| {
                    rule.has_field_by_name(v)
                        .then(|| (v, rule.get_field_by_name(v).expect("path").into_owned()))
                })
                .expect("a path");
            format!("{} {verb} {}", m.name(), path.as_str().expect("text"))
        })
        .collect();
    assert_eq!(
        mapping,
        [
            "ListAgents get /v1/agents",
            "GetAgent get /v1/agents/{cid}",
            "ExportAgent get /v1/agents/{cid}/export",
            "GetWellKnownCatalog get /.well-known/ai-catalog.json",
            "ListTags get /v1/tags",
            "ExtractTaxonomy post /v1/extract",
            "SearchAgents post /v1/search",
        ]
    );
}
