//! Holds the committed code in `src/gen` against a fresh generation from `/proto`.
//!
//! `cargo test -p dir-proto` fails when they differ; `DIR_PROTO_UPDATE=1 cargo test -p dir-proto --test gen`
//! rewrites the committed files. The build itself needs neither protoc nor a build script.

#![allow(clippy::expect_used, clippy::panic, reason = "a test helper that cannot go on is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Packages whose code is committed. Others (`buf.validate`, annotations) are only read for their options.
const KEPT: &[&str] = &["agntcy.", "directory.", "google.api."];

fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn proto_root() -> PathBuf {
    crate_dir().join("../../proto").canonicalize().expect("the folder /proto exists")
}

/// Every `.proto` below `dir`, as paths relative to `root`, sorted.
fn proto_files(root: &Path, dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("readable folder") {
        let path = entry.expect("readable entry").path();
        if path.is_dir() {
            proto_files(root, &path, found);
        } else if path.extension().is_some_and(|e| e == "proto") {
            found.push(path.strip_prefix(root).expect("below root").to_path_buf());
        }
    }
    found.sort();
}

/// File name to content, generated from scratch.
fn generate() -> BTreeMap<String, Vec<u8>> {
    let root = proto_root();
    let mut files = Vec::new();
    proto_files(&root, &root, &mut files);

    let mut compiler = protox::Compiler::new([&root]).expect("include path");
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&files).unwrap_or_else(|e| panic!("{e:?}"));

    let out = tempfile::tempdir().expect("temp dir");
    let mut config = tonic_prost_build::Config::new();
    // Maps in key order: the same message always encodes to the same bytes.
    config.btree_map(["."]).bytes(["."]);
    tonic_prost_build::configure()
        .out_dir(out.path())
        .build_transport(true)
        .emit_rerun_if_changed(false)
        .compile_fds_with_config(compiler.file_descriptor_set(), config)
        .expect("code generation");

    let mut generated = BTreeMap::new();
    for entry in fs::read_dir(out.path()).expect("generated folder") {
        let path = entry.expect("entry").path();
        let name = path.file_name().expect("file").to_string_lossy().into_owned();
        if KEPT.iter().any(|prefix| name.starts_with(prefix)) {
            generated.insert(name, fs::read(&path).expect("generated file"));
        }
    }

    // Encoded by protox, not by prost types, which would drop the validation options; without comments.
    let mut compiler = protox::Compiler::new([&root]).expect("include path");
    compiler.include_imports(true).include_source_info(false);
    compiler.open_files(&files).unwrap_or_else(|e| panic!("{e:?}"));
    generated.insert("descriptor.bin".into(), compiler.encode_file_descriptor_set());
    generated
}

fn committed(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = fs::read_dir(dir) else { return BTreeMap::new() };
    entries
        .map(|e| e.expect("entry").path())
        .map(|p| (p.file_name().expect("file").to_string_lossy().into_owned(), fs::read(&p).expect("file")))
        .collect()
}

#[test]
fn committed_code_is_what_the_protos_say() {
    let dir = crate_dir().join("src/gen");
    let fresh = generate();
    if std::env::var_os("DIR_PROTO_UPDATE").is_some() {
        fs::create_dir_all(&dir).expect("src/gen");
        for stale in committed(&dir).keys().filter(|name| !fresh.contains_key(*name)) {
            fs::remove_file(dir.join(stale)).expect("stale file removed");
        }
        for (name, content) in &fresh {
            fs::write(dir.join(name), content).expect("written");
        }
        return;
    }
    let committed = committed(&dir);
    let names = |m: &BTreeMap<String, Vec<u8>>| m.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&fresh), "{HOW}");
    for (name, content) in &fresh {
        assert!(committed[name] == *content, "src/gen/{name} does not follow /proto; {HOW}");
    }
}

const HOW: &str = "run `DIR_PROTO_UPDATE=1 cargo test -p dir-proto --test gen` and commit the result";
