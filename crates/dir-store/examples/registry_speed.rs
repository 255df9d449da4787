//! How fast a registry is through the adapter: pushes and pulls of new records.
//!
//! `cargo run --profile quick -p dir-store --example registry_speed -- <host:port> <sharded|single> [records] [at once]`

use dir_core::store::{Known, Presence, RecordStore};
use dir_core::{Record, RecordFacts, Timestamp};
use dir_store::{Layout, OciConfig, OciStore};
use futures::{StreamExt, TryStreamExt, stream};
use std::time::Instant;

fn record(n: usize) -> (Record, RecordFacts) {
    let facts =
        RecordFacts { name: format!("agent-{n}"), schema_version: "1.0.0".into(), ..RecordFacts::default() };
    let description = "x".repeat(900);
    let text =
        format!(r#"{{"description":"{description}","name":"{}","schema_version":"1.0.0"}}"#, facts.name);
    (Record::from_canonical(text.into()), facts)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let address = args.next().ok_or_else(|| anyhow::anyhow!("which registry?"))?;
    let layout = match args.next().as_deref() {
        Some("single") => Layout::Single,
        _ => Layout::Sharded,
    };
    let records: usize = args.next().map_or(Ok(2_000), |n| n.parse())?;
    let at_once: usize = args.next().map_or(Ok(16), |n| n.parse())?;
    let store = OciStore::new(&OciConfig { address, layout, ..OciConfig::default() })?;
    store.ping().await?;
    let (store, at) = (&store, Timestamp::from_secs(1_767_225_600));

    let begun = Instant::now();
    let puts = stream::iter(0..records).map(|n| async move {
        let (record, facts) = record(n);
        store.put(&record, &facts, at, Presence::Absent).await?;
        Ok::<_, anyhow::Error>(record.cid())
    });
    let cids: Vec<_> = puts.buffer_unordered(at_once).try_collect().await?;
    println!("{records} pushes in {:?}", begun.elapsed());

    let begun = Instant::now();
    let gets = stream::iter(&cids).map(|cid| store.get(cid, Known::Live)).buffer_unordered(at_once);
    let _: Vec<_> = gets.try_collect().await?;
    println!("{records} pulls in {:?}", begun.elapsed());

    let begun = Instant::now();
    let walked = store.walk(None).try_fold(0, |n, _| async move { Ok(n + 1) }).await?;
    println!("a walk over {walked} items in {:?}", begun.elapsed());
    Ok(())
}
