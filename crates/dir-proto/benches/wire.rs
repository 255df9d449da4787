//! Records to and from message bytes, beside the generated types.

#![allow(missing_docs)] // the macros of criterion
#![allow(clippy::unwrap_used)] // a benchmark that cannot go on is a failed one

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dir_core::json::Doc;
use dir_proto::agntcy::dir::core::v1::Record;
use dir_proto::wire::{decode_record, doc_from_struct, encode_record, encode_record_from_canonical};
use prost::Message;
use std::hint::black_box;

fn wire(c: &mut Criterion) {
    let examples: [(&str, &[u8]); 2] = [
        ("2kB", include_bytes!("../../../examples/records/record_100.json")),
        ("8kB", include_bytes!("../../../examples/records/directory-record.json")),
    ];
    for (name, input) in examples {
        let doc = Doc::parse(input).unwrap();
        let canonical = doc.canonical().unwrap();
        let message = encode_record(&doc).unwrap();
        let generated = Record::decode(&message[..]).unwrap();
        let mut group = c.benchmark_group("wire");
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_function(BenchmarkId::new("decode", name), |b| {
            b.iter(|| decode_record(black_box(&message)));
        });
        group.bench_function(BenchmarkId::new("decode-canonical", name), |b| {
            b.iter(|| decode_record(black_box(&message)).unwrap().unwrap().canonical());
        });
        group.bench_function(BenchmarkId::new("generated-decode-canonical", name), |b| {
            b.iter(|| {
                let record = Record::decode(black_box(&message[..])).unwrap();
                doc_from_struct(&record.data.unwrap()).unwrap().canonical()
            });
        });
        group.bench_function(BenchmarkId::new("encode", name), |b| b.iter(|| encode_record(black_box(&doc))));
        group.bench_function(BenchmarkId::new("encode-from-canonical", name), |b| {
            b.iter(|| encode_record_from_canonical(black_box(&canonical)));
        });
        group.bench_function(BenchmarkId::new("generated-encode", name), |b| {
            b.iter(|| black_box(&generated).encode_to_vec());
        });
        group.finish();
    }
}

criterion_group!(benches, wire);
criterion_main!(benches);
