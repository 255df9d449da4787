//! What a page, a count and a change cost among 100,000 records.

// A bench that cannot run stops; criterion's macro writes an undocumented function.
#![allow(clippy::expect_used, missing_docs)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dir_core::index::{Change, RecordIndex};
use dir_core::query::{Filter, Query, QueryKind};
use dir_core::{Cid, EventKind, RecordFacts, Timestamp};
use dir_index::{MemoryIndex, SledConfig, SledIndex};
use dir_testkit::generate::Generator;
use std::hint::black_box;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};

const RECORDS: u64 = 100_000;
const PAGE: usize = 50;

fn put(n: u64, facts: Arc<RecordFacts>) -> Change {
    let at = Timestamp(i64::try_from(n).unwrap_or(i64::MAX));
    Change::Put {
        cid: Cid::of(&n.to_be_bytes()),
        facts,
        at,
        event: Some(EventKind::RecordPushed),
        owner: None,
    }
}

fn populated(runtime: &Runtime) -> MemoryIndex {
    let index = MemoryIndex::new();
    let mut generator = Generator::new(1);
    for n in 0..RECORDS {
        let change = put(n, Arc::new(generator.facts()));
        runtime.block_on(index.apply(vec![change])).expect("an open index");
    }
    index
}

fn query(filters: &[(QueryKind, &str, bool)]) -> Query {
    let filters =
        filters.iter().map(|&(kind, value, negate)| Filter { kind, value: value.to_owned(), negate });
    Query { filters: filters.collect(), ..Query::default() }
}

fn queries() -> Vec<(&'static str, Query)> {
    use QueryKind as K;
    vec![
        ("no filter", query(&[])),
        ("one skill", query(&[(K::SkillName, "audio/planning/summarization", false)])),
        (
            "three filters",
            query(&[
                (K::SkillName, "natural_language_processing/*", false),
                (K::ModuleName, "integration/mcp", false),
                (K::SchemaVersion, "1.0.0", false),
            ]),
        ),
        (
            "three filters, few match",
            query(&[
                (K::SkillId, "120608", false),
                (K::DomainName, "energy/*", false),
                (K::Author, "acme", true),
            ]),
        ),
        ("exact name", query(&[(K::Name, "agntcy.org/music-legal-77", false)])),
        ("name contains", query(&[(K::Name, "*music-legal*", false)])),
        ("description contains", query(&[(K::Description, "*record 7777 of*", false)])),
        ("version at least", query(&[(K::Version, ">=v2.0.0", false)])),
    ]
}

fn searching(c: &mut Criterion) {
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let index = populated(&runtime);
    let mut group = c.benchmark_group("page of 50 of 100,000");
    for (name, query) in queries() {
        group.bench_function(name, |b| {
            b.iter(|| runtime.block_on(index.search(black_box(&query), None, PAGE)).expect("a page"));
        });
    }
    group.finish();
    let mut group = c.benchmark_group("count of 100,000");
    for (name, query) in queries() {
        group.bench_function(name, |b| {
            b.iter(|| runtime.block_on(index.count(black_box(&query))).expect("a count"));
        });
    }
    group.finish();
    let cid = Cid::of(&7_u64.to_be_bytes());
    c.bench_function("row", |b| b.iter(|| runtime.block_on(index.row(black_box(&cid))).expect("a row")));
    c.bench_function("contains", |b| b.iter(|| index.contains(black_box(&cid))));
}

fn applying(c: &mut Criterion) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut generator = Generator::new(2);
    let mut next = 0_u64;
    let mut change = move || {
        next += 1;
        put(next, Arc::new(generator.facts()))
    };
    let mut group = c.benchmark_group("apply");
    group.throughput(Throughput::Elements(1));
    let memory = MemoryIndex::new();
    group.bench_function("memory, one", |b| {
        b.iter_batched(
            || vec![change()],
            |changes| runtime.block_on(memory.apply(changes)).expect("applied"),
            BatchSize::SmallInput,
        );
    });
    let dir = tempfile::tempdir().expect("a directory");
    let sled = Arc::new(SledIndex::open(SledConfig::new(dir.path().join("index"))).expect("an index"));
    group.bench_function("sled, one at a time", |b| {
        b.iter_batched(
            || vec![change()],
            |changes| runtime.block_on(sled.apply(changes)).expect("applied"),
            BatchSize::SmallInput,
        );
    });
    let callers = 64;
    group.throughput(Throughput::Elements(callers));
    group.bench_function("sled, 64 callers of one each", |b| {
        b.iter_batched(
            || (0..callers).map(|_| change()).collect::<Vec<_>>(),
            |changes| {
                runtime.block_on(async {
                    let calls = changes.into_iter().map(|change| {
                        let sled = sled.clone();
                        tokio::spawn(async move { sled.apply(vec![change]).await })
                    });
                    for call in calls.collect::<Vec<_>>() {
                        call.await.expect("no panic").expect("applied");
                    }
                });
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, searching, applying);
criterion_main!(benches);
