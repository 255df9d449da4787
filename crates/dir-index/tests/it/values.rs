//! Distinct values, against the records themselves.

use dir_core::index::{Change, IndexError, RecordIndex};
use dir_core::query::QueryKind;
use dir_core::{Cid, RecordFacts, Timestamp};
use dir_index::{MemoryConfig, MemoryIndex};
use dir_testkit::generate::Generator;
use std::collections::BTreeSet;
use std::sync::Arc;

fn naive(kind: QueryKind, records: &[RecordFacts]) -> Vec<String> {
    let mut found = BTreeSet::new();
    for facts in records {
        match kind {
            QueryKind::SkillName => found.extend(facts.skills.iter().map(|s| s.name.clone())),
            QueryKind::DomainName => found.extend(facts.domains.iter().map(|s| s.name.clone())),
            QueryKind::ModuleName => found.extend(facts.modules.iter().map(|s| s.name.clone())),
            QueryKind::Author => found.extend(facts.authors.iter().flatten().cloned()),
            _ => found.extend([facts.schema_version.clone()]),
        }
    }
    found.into_iter().filter(|text| !text.is_empty()).collect()
}

#[tokio::test]
async fn values_are_those_of_the_live_records() {
    const KINDS: [QueryKind; 5] = [
        QueryKind::SkillName,
        QueryKind::DomainName,
        QueryKind::ModuleName,
        QueryKind::Author,
        QueryKind::SchemaVersion,
    ];
    for seed in 0..20_u64 {
        // Small chunks: a value stands in several of them.
        let config = MemoryConfig { chunk_records: 7, ..MemoryConfig::default() };
        let index = MemoryIndex::with_config(&config);
        let mut generator = Generator::new(seed);
        let mut records: Vec<RecordFacts> = (0..40).map(|_| generator.facts()).collect();
        let cid = |n: usize| Cid::of(&n.to_be_bytes());
        for (n, facts) in records.iter().enumerate() {
            let facts = Arc::new(facts.clone());
            let at = Timestamp(i64::try_from(n).unwrap());
            index
                .apply(vec![Change::Put { cid: cid(n), facts, at, event: None, owner: None }])
                .await
                .unwrap();
        }
        for kind in KINDS {
            assert_eq!(index.values(kind).await.unwrap(), naive(kind, &records), "{kind:?} of seed {seed}");
        }
        for n in (20..40).rev() {
            let change = Change::Delete { cid: cid(n), at: Timestamp(99), event: None };
            index.apply(vec![change]).await.unwrap();
            records.pop();
        }
        for kind in KINDS {
            assert_eq!(index.values(kind).await.unwrap(), naive(kind, &records), "{kind:?} after deletes");
        }
        let refused = index.values(QueryKind::Version).await;
        assert!(matches!(refused, Err(IndexError::Query(_))));
    }
}
