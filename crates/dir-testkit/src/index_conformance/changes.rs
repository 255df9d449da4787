//! Checks of what changes do.

use super::{Subject, cid, delete, everything, fill, named, one, put};
use crate::generate::Generator;
use dir_core::facts::{ClassFact, LocatorFact, ModuleFact, RecordFacts};
use dir_core::index::{Change, IndexError, Usage};
use dir_core::query::{Query, QueryKind};
use dir_core::{Cid, EventKind, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A put is a row, a member of the results, an event with labels.
pub async fn a_put_makes_a_row(subject: &Subject) {
    let index = subject.index.as_ref();
    assert!(index.is_empty() && !index.contains(&cid(1)));
    let facts = Arc::new(RecordFacts {
        name: "example.org/agent".into(),
        skills: vec![ClassFact { id: 101, name: "a/b".into() }, ClassFact { id: 7, name: String::new() }],
        locators: vec![LocatorFact { kind: "helm_chart".into(), url: String::new() }],
        ..RecordFacts::default()
    });
    let applied = index.apply(vec![put(1, &facts, 5_000)]).await.unwrap();
    assert!(applied.len() == 1 && applied[0].changed);
    let row = index.row(&cid(1)).await.unwrap().unwrap();
    assert_eq!((row.cid, row.indexed_at, row.usage), (cid(1), Timestamp(5_000), Usage::default()));
    assert_eq!(row.facts, facts);
    assert!(index.contains(&cid(1)) && index.len() == 1);
    assert_eq!(index.row(&cid(2)).await.unwrap(), None);
    assert_eq!(everything(index, &one(QueryKind::SkillId, "101"), 5).await, [cid(1)]);
    let events = index.events(0, 10).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(Some(events[0].seq), applied[0].seq);
    assert_eq!(
        (events[0].cid, events[0].kind, events[0].at),
        (cid(1), EventKind::RecordPushed, Timestamp(5_000))
    );
    assert_eq!(events[0].labels, ["/skills/a/b", "/skills/", "/locators/helm_chart"]);
}

/// The first put decides the row; every put writes its event.
pub async fn a_second_put_leaves_the_row_and_writes_its_event(subject: &Subject) {
    let index = subject.index.as_ref();
    index.apply(vec![put(1, &named("first"), 1)]).await.unwrap();
    let again = index.apply(vec![put(1, &named("second"), 2)]).await.unwrap();
    assert!(!again[0].changed && again[0].seq.is_some());
    let row = index.row(&cid(1)).await.unwrap().unwrap();
    assert_eq!((row.facts.name.as_str(), row.indexed_at), ("first", Timestamp(1)));
    assert_eq!(index.count(&one(QueryKind::Name, "second")).await.unwrap(), 0);
    assert_eq!((index.len(), index.events(0, 9).await.unwrap().len()), (1, 2));
    // Twice in one batch is the same.
    let twice = index.apply(vec![put(2, &named("x"), 3), put(2, &named("y"), 4)]).await.unwrap();
    assert_eq!((twice[0].changed, twice[1].changed), (true, false));
    assert_eq!(index.row(&cid(2)).await.unwrap().unwrap().facts.name, "x");
}

/// After a delete nothing finds the record, until it is put anew.
pub async fn a_delete_takes_everything(subject: &Subject) {
    let index = subject.index.as_ref();
    index.apply(vec![put(1, &named("gone"), 1), put(2, &named("stays"), 2)]).await.unwrap();
    let applied = index.apply(vec![delete(1, 3)]).await.unwrap();
    assert!(applied[0].changed && applied[0].seq.is_some());
    assert!(!index.contains(&cid(1)) && index.len() == 1);
    assert_eq!(index.row(&cid(1)).await.unwrap(), None);
    assert_eq!(index.count(&one(QueryKind::Name, "gone")).await.unwrap(), 0);
    assert_eq!(everything(index, &Query::default(), 5).await, [cid(2)]);
    assert_eq!(index.cids(None, 5).await.unwrap(), [cid(2)]);
    let last = index.events(0, 9).await.unwrap().pop().unwrap();
    assert_eq!((last.kind, last.cid), (EventKind::RecordDeleted, cid(1)));
    assert!(last.labels.is_empty());
    // Once more: nothing is there, the event that was asked for is written.
    let absent = index.apply(vec![delete(1, 4)]).await.unwrap();
    assert!(!absent[0].changed && absent[0].seq.is_some());
    let anew = index.apply(vec![put(1, &named("back"), 9)]).await.unwrap();
    assert!(anew[0].changed);
    assert_eq!(everything(index, &Query::default(), 5).await, [cid(1), cid(2)]);
}

/// Later changes of a batch see the earlier ones.
pub async fn changes_apply_in_their_order(subject: &Subject) {
    let index = subject.index.as_ref();
    let applied = index
        .apply(vec![
            put(1, &named("a"), 1),
            delete(1, 2),
            put(1, &named("b"), 3),
            delete(2, 4),
            put(2, &named("c"), 5),
        ])
        .await
        .unwrap();
    let changed: Vec<bool> = applied.iter().map(|a| a.changed).collect();
    assert_eq!(changed, [true, true, true, false, true]);
    assert!(applied.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    assert_eq!(index.row(&cid(1)).await.unwrap().unwrap().facts.name, "b");
    assert_eq!(index.len(), 2);
    assert_eq!(index.apply(Vec::new()).await.unwrap(), []);
}

/// Sequence numbers rise strictly from 1 or more; pages of events join to the whole log.
pub async fn events_rise_and_page(subject: &Subject) {
    let index = subject.index.as_ref();
    // More than one batch on disk holds.
    let changes: Vec<Change> = (0..333).map(|n| put(n, &named("x"), 1)).collect();
    let applied = index.apply(changes).await.unwrap();
    assert!(applied.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    assert!(applied[0].seq >= Some(1));
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let page = index.events(after, 100).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 100);
        after = last.seq;
        seen.extend(page.iter().map(|event| (Some(event.seq), event.cid)));
    }
    let expected: Vec<_> = applied.iter().zip(0..).map(|(a, n)| (a.seq, cid(n))).collect();
    assert_eq!(seen, expected);
    assert_eq!(index.events(u64::MAX, 5).await.unwrap(), []);
    assert_eq!(index.events(0, 0).await.unwrap(), []);
}

/// The owner of the change that makes a row stays: over further puts, until the record is deleted. A rebuild, which knows
/// no owners, changes none.
pub async fn a_record_belongs_to_whoever_made_its_row(subject: &Subject) {
    let index = subject.index.as_ref();
    let put = |n: u64, owner: Option<&str>| Change::Put {
        cid: cid(n),
        facts: named("x"),
        at: Timestamp(1),
        event: None,
        owner: owner.map(Into::into),
    };
    let delete = |n| Change::Delete { cid: cid(n), at: Timestamp(2), event: None };
    let owner = async |n| index.owner(&cid(n)).await.unwrap().map(|owner| owner.to_string());
    assert_eq!(owner(1).await, None);
    index.apply(vec![put(1, Some("a")), put(1, Some("b")), put(2, None)]).await.unwrap();
    index.apply(vec![put(1, Some("c")), put(1, None), put(2, Some("c"))]).await.unwrap();
    assert_eq!((owner(1).await.as_deref(), owner(2).await), (Some("a"), None));
    index.apply(vec![delete(1)]).await.unwrap();
    assert_eq!(owner(1).await, None);
    index.apply(vec![put(1, Some("d")), delete(2), put(2, Some("d"))]).await.unwrap();
    assert_eq!((owner(1).await.as_deref(), owner(2).await.as_deref()), (Some("d"), Some("d")));
    // More than a batch of them.
    index.apply((10..310).map(|n| put(n, Some("e"))).collect()).await.unwrap();
    assert_eq!((owner(10).await.as_deref(), owner(309).await.as_deref()), (Some("e"), Some("e")));
}

/// A rebuild writes rows without events.
pub async fn no_event_asked_means_none_written(subject: &Subject) {
    let index = subject.index.as_ref();
    let put = Change::Put { cid: cid(1), facts: named("x"), at: Timestamp(1), event: None, owner: None };
    let delete = Change::Delete { cid: cid(1), at: Timestamp(2), event: None };
    let applied = index.apply(vec![put, delete]).await.unwrap();
    assert!(applied.iter().all(|a| a.seq.is_none() && a.changed));
    assert_eq!(index.events(0, 9).await.unwrap(), []);
}

/// Many writers at once: each sees its record as soon as its call has returned, and none is lost.
pub async fn concurrent_changes_are_all_visible(subject: &Subject) {
    let writers = (0..16_u64).map(|writer| {
        let index = subject.index.clone();
        tokio::spawn(async move {
            let mut seqs = Vec::new();
            for n in (0..20).map(|n| writer * 100 + n) {
                let name = format!("agent-{n}");
                seqs.extend(index.apply(vec![put(n, &named(&name), 1)]).await.unwrap()[0].seq);
                assert!(index.contains(&cid(n)));
                let found = index.search(&one(QueryKind::Name, &name), None, 2).await.unwrap();
                assert_eq!(found.cids, [cid(n)]);
            }
            seqs
        })
    });
    let mut seqs = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        seqs.extend(writer.await.unwrap());
    }
    seqs.sort_unstable();
    let logged: Vec<u64> = subject.index.events(0, 1_000).await.unwrap().iter().map(|e| e.seq).collect();
    assert_eq!(logged, seqs);
    assert_eq!((subject.index.len(), seqs.len()), (320, 320));
}

/// While other records are deleted and put again, a reader meets each lasting record exactly once, no record
/// twice, and every count between the bounds.
pub async fn readers_meet_each_record_once_while_others_change(subject: &Subject) {
    const LASTING: u64 = 40;
    const PASSING: u64 = 20;
    let index = &subject.index;
    let time = |n: u64| i64::try_from(n).unwrap();
    // Lasting and passing records stand between each other in the order.
    index
        .apply((0..LASTING + PASSING).map(|n| put(n, &named("x"), time(n * 7 % 60))).collect())
        .await
        .unwrap();
    let lasting: BTreeSet<Cid> = (0..LASTING).map(cid).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let readers = (0..3).map(|reader| {
        let (index, lasting, stop) = (index.clone(), lasting.clone(), stop.clone());
        tokio::spawn(async move {
            let mut rounds = 0;
            while !stop.load(Ordering::Acquire) || rounds == 0 {
                let whole = index.search(&one(QueryKind::Name, "x"), None, 1_000).await.unwrap().cids;
                let paged = everything(index.as_ref(), &Query::default(), 5 + reader).await;
                for seen in [whole, paged] {
                    let distinct: BTreeSet<Cid> = seen.iter().copied().collect();
                    assert_eq!(distinct.len(), seen.len(), "a record was met twice");
                    assert!(lasting.is_subset(&distinct), "a lasting record was missed");
                }
                let count = index.count(&one(QueryKind::Name, "*")).await.unwrap();
                assert!(count >= LASTING, "{count}");
                rounds += 1;
                tokio::task::yield_now().await;
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    for round in 0..10 {
        for n in LASTING..LASTING + PASSING {
            index.apply(vec![delete(n, 1), put(n, &named("x"), time(100 + round))]).await.unwrap();
        }
    }
    stop.store(true, Ordering::Release);
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!(index.len(), LASTING + PASSING);
}

/// Nothing is answered after close; closing twice is allowed.
pub async fn a_closed_index_says_so(subject: &Subject) {
    let index = subject.index.as_ref();
    index.apply(vec![put(1, &named("x"), 1)]).await.unwrap();
    index.close().await.unwrap();
    index.close().await.unwrap();
    let closed = [
        index.apply(vec![delete(1, 2)]).await.err(),
        index.row(&cid(1)).await.err(),
        index.search(&Query::default(), None, 1).await.err(),
        index.count(&Query::default()).await.err(),
        index.events(0, 1).await.err(),
        index.cids(None, 1).await.err(),
    ];
    for answer in closed {
        assert!(matches!(answer, Some(IndexError::Closed)), "{answer:?}");
    }
}

/// Facts survive with every member, spelling and order, whatever is in them.
pub async fn facts_come_back_exactly(subject: &Subject) {
    let index = subject.index.as_ref();
    let class = |id, name: &str| ClassFact { id, name: name.to_owned() };
    let odd = RecordFacts {
        name: "Ünï\u{0}cødé \u{1f600}".into(),
        version: "V1".into(),
        schema_version: "1.1.0".into(),
        description: "long ".repeat(2_000),
        created_at: "yesterday".into(),
        previous_cid: cid(9).to_string(),
        authors: Some(vec!["b".into(), "a".into(), "b".into(), String::new()]),
        skills: vec![class(u64::MAX, "z"), class(0, ""), class(u64::MAX, "z"), class(1, "A"), class(1, "a")],
        domains: vec![class(3, "d")],
        modules: vec![
            ModuleFact { id: 5, name: "m".into(), artifact_media_type: "text/plain".into() },
            ModuleFact { id: 5, name: "m".into(), artifact_media_type: String::new() },
        ],
        locators: vec![LocatorFact { kind: String::new(), url: "u".into() }],
        annotations: [("k", "v"), ("", ""), ("K", "v")].map(|(k, v)| (k.into(), v.into())).into(),
    };
    let mut generator = Generator::new(3);
    let mut facts: Vec<RecordFacts> = (0..60).map(|_| generator.facts()).collect();
    facts.extend([
        odd,
        RecordFacts::default(),
        RecordFacts { authors: Some(Vec::new()), ..RecordFacts::default() },
    ]);
    for row in fill(index, facts).await {
        assert_eq!(index.row(&row.cid).await.unwrap(), Some(row));
    }
}
