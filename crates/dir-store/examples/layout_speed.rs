//! How fast the image layout directory is here: durable pushes, pulls, start.
//!
//! `cargo run --profile quick -p dir-store --example layout_speed -- <empty directory> [records] [calls at once]`

use dir_core::store::{Known, Presence, RecordStore};
use dir_core::{Cid, Record, RecordFacts, Timestamp};
use dir_store::{LayoutConfig, LayoutStore};
use futures::{StreamExt, stream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn record(n: usize) -> (Record, RecordFacts) {
    let facts = RecordFacts {
        name: format!("example/agent-{n}"),
        version: "v1.0.0".to_owned(),
        schema_version: "1.0.0".to_owned(),
        ..RecordFacts::default()
    };
    let description = "x".repeat(900);
    let text = format!(
        r#"{{"description":"{description}","name":"{}","schema_version":"1.0.0","version":"v1.0.0"}}"#,
        facts.name
    );
    (Record::from_canonical(text.into()), facts)
}

async fn push(store: &LayoutStore, from: usize, to: usize, at_once: usize) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let mut puts = stream::iter(from..to)
        .map(|n| async move {
            let (record, facts) = record(n);
            store.put(&record, &facts, Timestamp::from_secs(1_767_225_600), Presence::Absent).await
        })
        .buffer_unordered(at_once);
    while let Some(put) = puts.next().await {
        put?;
    }
    Ok(begun.elapsed())
}

async fn pull(store: &LayoutStore, cids: &[Cid], at_once: usize) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let mut gets = stream::iter(cids).map(|cid| store.get(cid, Known::Live)).buffer_unordered(at_once);
    while let Some(got) = gets.next().await {
        got?;
    }
    Ok(begun.elapsed())
}

fn show(what: &str, n: usize, took: Duration) {
    #[allow(clippy::cast_precision_loss)] // A rate to look at.
    let rate = n as f64 / took.as_secs_f64();
    println!("{what:<44} {n:>8} in {took:>10.1?} = {rate:>9.0}/s");
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().ok_or_else(|| anyhow::anyhow!("which directory?"))?);
    let records: usize = args.next().map_or(Ok(10_000), |n| n.parse())?;
    let at_once: usize = args.next().map_or(Ok(64), |n| n.parse())?;
    let config = LayoutConfig::new(&dir);
    let store = LayoutStore::open(&config)?;
    let few = records / 20;
    show("durable pushes, one at a time", few, push(&store, 0, few, 1).await?);
    show(
        &format!("durable pushes, {at_once} at once"),
        records,
        push(&store, few, few + records, at_once).await?,
    );
    let cids: Vec<_> = (0..few + records).map(|n| record(n).0.cid()).collect();
    show(&format!("pulls, {at_once} at once"), cids.len(), pull(&store, &cids, at_once).await?);
    drop(store);
    let begun = Instant::now();
    let store = LayoutStore::open(&config)?;
    show("start after a crash (journal replayed)", store.len(), begun.elapsed());
    let begun = Instant::now();
    store.close().await?;
    show("close (files and index.json written)", store.len(), begun.elapsed());
    drop(store);
    let begun = Instant::now();
    let store = LayoutStore::open(&config)?;
    show("start after close", store.len(), begun.elapsed());
    drop(store);
    std::fs::remove_dir_all(dir.join(".directory"))?;
    let begun = Instant::now();
    let store = LayoutStore::open(&config)?;
    show("start over a directory of others", store.len(), begun.elapsed());
    Ok(())
}
