//! Every service, RPC, message, field, enum and value of `/proto` says what it is.

use prost_reflect::prost_types::FileDescriptorProto;
use std::collections::BTreeSet;
use std::path::Path;

/// Tags of `google/protobuf/descriptor.proto` on the way to a declaration.
mod tag {
    pub(super) const MESSAGE: i32 = 4;
    pub(super) const ENUM: i32 = 5;
    pub(super) const SERVICE: i32 = 6;
    pub(super) const FIELD: i32 = 2;
    pub(super) const NESTED: i32 = 3;
    pub(super) const NESTED_ENUM: i32 = 4;
    pub(super) const VALUE: i32 = 2;
    pub(super) const METHOD: i32 = 2;
}

fn index(at: usize) -> i32 {
    i32::try_from(at).expect("few declarations")
}

fn enumeration(
    path: &[i32],
    e: &prost_reflect::prost_types::EnumDescriptorProto,
    out: &mut Vec<(Vec<i32>, String)>,
) {
    out.push((path.to_vec(), e.name().to_owned()));
    for (at, v) in e.value.iter().enumerate() {
        out.push(([path, &[tag::VALUE, index(at)]].concat(), v.name().to_owned()));
    }
}

fn message(path: &[i32], m: &prost_reflect::prost_types::DescriptorProto, out: &mut Vec<(Vec<i32>, String)>) {
    if m.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry) {
        return;
    }
    out.push((path.to_vec(), m.name().to_owned()));
    for (at, f) in m.field.iter().enumerate() {
        out.push(([path, &[tag::FIELD, index(at)]].concat(), format!("{}.{}", m.name(), f.name())));
    }
    for (at, e) in m.enum_type.iter().enumerate() {
        enumeration(&[path, &[tag::NESTED_ENUM, index(at)]].concat(), e, out);
    }
    for (at, n) in m.nested_type.iter().enumerate() {
        message(&[path, &[tag::NESTED, index(at)]].concat(), n, out);
    }
}

/// Declarations of a file with their source paths.
fn declarations(file: &FileDescriptorProto) -> Vec<(Vec<i32>, String)> {
    let mut out = Vec::new();
    for (at, m) in file.message_type.iter().enumerate() {
        message(&[tag::MESSAGE, index(at)], m, &mut out);
    }
    for (at, e) in file.enum_type.iter().enumerate() {
        enumeration(&[tag::ENUM, index(at)], e, &mut out);
    }
    for (at, s) in file.service.iter().enumerate() {
        out.push((vec![tag::SERVICE, index(at)], s.name().to_owned()));
        for (m_at, m) in s.method.iter().enumerate() {
            let path = vec![tag::SERVICE, index(at), tag::METHOD, index(m_at)];
            out.push((path, format!("{}.{}", s.name(), m.name())));
        }
    }
    out
}

#[test]
fn everything_is_commented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto").canonicalize().expect("/proto");
    let set = dir_proto::file_descriptor_set();
    let names: Vec<&str> = set
        .file
        .iter()
        .filter(|f| f.package().starts_with("agntcy.") || f.package().starts_with("directory."))
        .map(FileDescriptorProto::name)
        .collect();
    let mut compiler = protox::Compiler::new([&root]).expect("include path");
    compiler.include_source_info(true).open_files(&names).unwrap_or_else(|e| panic!("{e:?}"));

    let (mut seen, mut bare) = (0, Vec::new());
    for file in compiler.file_descriptor_set().file.iter().filter(|f| names.contains(&f.name())) {
        let info = file.source_code_info.as_ref().expect("source info");
        let commented: BTreeSet<&[i32]> = info
            .location
            .iter()
            .filter(|l| !l.leading_comments().trim().is_empty())
            .map(|l| l.path.as_slice())
            .collect();
        for (path, name) in declarations(file) {
            seen += 1;
            if !commented.contains(path.as_slice()) {
                bare.push(format!("{}: {name}", file.name()));
            }
        }
    }
    assert!(bare.is_empty(), "without a comment: {bare:#?}");
    assert!(seen > 700, "only {seen} declarations were looked at");
}
