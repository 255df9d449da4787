//! Parse, canonical form and CID of records of three sizes.

#![allow(missing_docs)] // the macros of criterion
#![allow(clippy::unwrap_used)] // a benchmark that cannot go on is a failed one

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dir_core::json::Doc;
use dir_core::{Cid, Record};
use std::hint::black_box;

/// A published 0.8 kB record, a real 8 kB one that is half a base64 text, and 1 MB of them in one.
fn inputs() -> Vec<(&'static str, Vec<u8>)> {
    let vectors = Doc::parse(include_bytes!("../tests/data/vectors.json")).unwrap();
    let small = vectors.get("records").unwrap().items().last().unwrap();
    let small = small.get("input_json").unwrap().as_str().unwrap().as_bytes().to_vec();
    let real = include_bytes!("../../../examples/records/directory-record.json").to_vec();
    let mut large = b"{\"all\":[".to_vec();
    while large.len() < 1 << 20 {
        large.extend_from_slice(&small);
        large.push(b',');
    }
    large.extend_from_slice(b"null]}");
    vec![("0.8kB", small), ("8kB", real), ("1MB", large)]
}

fn canonical(c: &mut Criterion) {
    for (name, input) in inputs() {
        let doc = Doc::parse(&input).unwrap();
        let bytes = doc.canonical().unwrap();
        let mut group = c.benchmark_group("record");
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("parse", name), |b| b.iter(|| Doc::parse(black_box(&input))));
        group.bench_function(BenchmarkId::new("parse-canonical", name), |b| {
            b.iter(|| Doc::parse(black_box(&bytes)));
        });
        group.bench_function(BenchmarkId::new("canonical", name), |b| b.iter(|| black_box(&doc).canonical()));
        group.bench_function(BenchmarkId::new("cid", name), |b| b.iter(|| Cid::of(black_box(&bytes))));
        group.bench_function(BenchmarkId::new("json-to-record", name), |b| {
            b.iter(|| Record::from_doc(&Doc::parse(black_box(&input)).unwrap()));
        });
        group.finish();
    }
}

criterion_group!(benches, canonical);
criterion_main!(benches);
