//! The layers of `docs/ARCHITECTURE.md`, proven over `cargo metadata`: who may depend on whom, and which
//! libraries a layer must never touch.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};
use std::collections::{BTreeMap, BTreeSet};

/// Each crate, and the crates of ours that it may depend on (normal dependencies).
const MAY_USE: &[(&str, &[&str])] = &[
    ("dir-core", &[]),
    ("dir-proto", &["dir-core"]),
    ("dir-oasf", &["dir-core"]),
    ("dir-identity", &["dir-core"]),
    ("dir-store", &["dir-core"]),
    ("dir-index", &["dir-core"]),
    ("dir-engine", &["dir-core"]),
    ("dir-api", &["dir-core", "dir-engine", "dir-proto"]),
    ("dir-gateway", &["dir-core", "dir-engine"]),
    ("dir-client", &["dir-core", "dir-identity", "dir-proto"]),
    ("dir-runtime", &["dir-core"]),
    ("dir-testkit", &["dir-core", "dir-identity", "dir-proto"]),
    ("dir-fuzz", &["dir-core", "dir-identity", "dir-proto"]),
    (
        "dir-admin",
        &[
            "dir-client",
            "dir-core",
            "dir-engine",
            "dir-index",
            "dir-oasf",
            "dir-proto",
            "dir-runtime",
            "dir-store",
        ],
    ),
    ("dirctl", &["dir-client", "dir-core", "dir-oasf", "dir-proto", "dir-runtime"]),
];

/// Crates that compose, and may therefore see every adapter.
const COMPOSERS: &[&str] = &["dir-apiserver", "dir-bench", "product-tests"];

/// Libraries that must not appear among a crate's direct dependencies (the "never" column).
const NEVER_DIRECT: &[(&str, &[&str])] = &[
    ("dir-proto", &["tokio", "reqwest", "hyper", "rustls", "sled"]),
    ("dir-identity", &["figment", "sled", "oci-client"]),
    ("dir-store", &["tonic", "prost", "sled", "axum"]),
    ("dir-index", &["tonic", "prost", "oci-client", "reqwest"]),
    ("dir-engine", &["tonic", "prost", "rustls", "oci-client", "reqwest", "sled"]),
    ("dir-api", &["rustls", "tokio-rustls", "oci-client", "sled", "spiffe"]),
    ("dir-gateway", &["oci-client", "sled", "tonic", "spiffe"]),
    ("dir-client", &["sled", "oci-client", "dir-api"]),
    ("dir-runtime", &["tonic", "sled", "oci-client", "rustls", "spiffe"]),
];

/// Libraries that must not be reachable from `dir-core` at all.
const NEVER_UNDER_CORE: &[&str] = &["tokio", "tonic", "rustls", "hyper", "reqwest", "rand"];

/// Libraries that must not be anywhere in the graph: a second crypto provider, or known-vulnerable code.
const NEVER_ANYWHERE: &[&str] = &["aws-lc-sys", "aws-lc-rs", "openssl-sys", "native-tls", "rsa"];

fn metadata() -> Metadata {
    // Only what is built here: the graph of other platforms is neither downloaded nor shipped.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let options = ["--locked".to_owned(), "--filter-platform".to_owned(), platform];
    MetadataCommand::new().other_options(options).exec().expect("cargo metadata answers")
}

/// Direct normal dependencies of each workspace crate, by name.
fn direct(meta: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    meta.workspace_packages()
        .iter()
        .map(|p| {
            let deps = p.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
            (p.name.to_string(), deps.map(|d| d.name.clone()).collect())
        })
        .collect()
}

#[test]
fn crates_depend_in_one_direction() {
    let direct = direct(&metadata());
    let table: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    for (name, deps) in &direct {
        if COMPOSERS.contains(&name.as_str()) {
            continue;
        }
        let allowed = table.get(name.as_str()).unwrap_or_else(|| panic!("{name} has no row in MAY_USE"));
        for dep in deps.iter().filter(|d| direct.contains_key(*d)) {
            assert!(allowed.contains(&dep.as_str()), "{name} must not depend on {dep}");
        }
    }
    for (name, _) in MAY_USE {
        assert!(direct.contains_key(*name), "{name} is in the table and not in the workspace");
    }
}

#[test]
fn nobody_depends_on_test_or_bench_code_in_production() {
    for (name, deps) in &direct(&metadata()) {
        for forbidden in ["dir-testkit", "dir-bench", "product-tests"] {
            let tester = name == "dir-bench" || name == "product-tests";
            assert!(tester || !deps.contains(forbidden), "{name} must not depend on {forbidden}");
        }
    }
}

#[test]
fn the_never_column_holds() {
    let direct = direct(&metadata());
    for (name, never) in NEVER_DIRECT {
        let deps = &direct[*name];
        for library in *never {
            assert!(!deps.contains(*library), "{name} must never touch {library}");
        }
    }
}

#[test]
fn core_reaches_no_runtime_and_no_network() {
    let meta = metadata();
    let resolve = meta.resolve.as_ref().expect("resolved graph");
    let nodes: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|n| (&n.id, n)).collect();
    let core = meta
        .workspace_packages()
        .into_iter()
        .find(|p| p.name.as_str() == "dir-core")
        .expect("core")
        .id
        .clone();
    let mut todo = vec![&core];
    let mut seen = BTreeSet::new();
    while let Some(id) = todo.pop() {
        if !seen.insert(id) {
            continue;
        }
        let normal =
            |d: &&cargo_metadata::NodeDep| d.dep_kinds.iter().any(|k| k.kind == DependencyKind::Normal);
        todo.extend(nodes[id].deps.iter().filter(normal).map(|d| &d.pkg));
    }
    let names: BTreeSet<&str> =
        meta.packages.iter().filter(|p| seen.contains(&p.id)).map(|p| p.name.as_str()).collect();
    assert!(names.contains("sha2"), "the walk found the graph");
    for library in NEVER_UNDER_CORE {
        assert!(!names.contains(library), "dir-core reaches {library}");
    }
}

#[test]
fn one_crypto_provider_in_the_whole_graph() {
    let meta = metadata();
    let resolve = meta.resolve.as_ref().expect("resolved graph");
    let ids: BTreeSet<_> = resolve.nodes.iter().map(|n| &n.id).collect();
    let names: BTreeSet<&str> =
        meta.packages.iter().filter(|p| ids.contains(&p.id)).map(|p| p.name.as_str()).collect();
    assert!(names.contains("ring"), "ring is the provider");
    for library in NEVER_ANYWHERE {
        assert!(!names.contains(library), "{library} is in the dependency graph");
    }
}
