//! Processes that are killed while they write an image layout directory.

use crate::layout::read_as_a_tool;
use dir_core::Cid;
use dir_core::store::{Known, Presence, RecordStore};
use dir_store::{LayoutConfig, LayoutStore};
use dir_testkit::store_conformance::{at, sample, sample_referrer};
use futures::{StreamExt, stream};
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Where the process to be killed writes, and from which record on.
const DIR: &str = "DIRECTORY_CRASH_TEST_DIR";
const FROM: &str = "DIRECTORY_CRASH_TEST_FROM";
/// Processes that are killed.
const ROUNDS: usize = 20;
/// Records that a process that is not killed writes.
const ENOUGH: usize = 20_000;
/// Calls at once.
const AT_ONCE: usize = 24;

fn config(path: &Path) -> LayoutConfig {
    // Small segments: kills fall into writing, into the turn to a new segment and into the work behind.
    LayoutConfig { segment_bytes: 64 << 10, ..LayoutConfig::new(path) }
}

/// Writes, and says on its output what it is told is durable: `put`, `ref` and `del`, and `deleting` before the last.
async fn write(path: &Path, from: usize, to: usize) {
    let store = LayoutStore::open(&config(path)).unwrap();
    let say = |what: &str, n: usize| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "crash-test {what} {n}").and_then(|()| out.flush()).unwrap();
    };
    let work = stream::iter(from..to).map(|n| {
        let (store, say) = (&store, &say);
        async move {
            let (record, facts) = sample(n);
            store.put(&record, &facts, at(0), Presence::Absent).await.unwrap();
            say("put", n);
            if n.is_multiple_of(3) {
                let referrer = sample_referrer(&record.cid(), "x");
                store.put_referrer(&record.cid(), &referrer, at(1)).await.unwrap();
                say("ref", n);
            }
            if n.is_multiple_of(5) {
                say("deleting", n);
                assert!(store.delete(&record.cid()).await.unwrap());
                say("del", n);
            }
        }
    });
    work.buffer_unordered(AT_ONCE).collect::<()>().await;
}

/// The process that is killed. By itself it writes a little, and what it wrote is there.
#[tokio::test]
async fn the_process_that_is_killed() {
    if let (Some(dir), Ok(from)) = (std::env::var_os(DIR), std::env::var(FROM)) {
        return write(dir.as_ref(), from.parse().unwrap(), ENOUGH).await;
    }
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 0, 10).await;
    assert_eq!(LayoutStore::open(&config(dir.path())).unwrap().len(), 8);
}

/// What was said of each record.
type Said = BTreeMap<usize, BTreeSet<String>>;

/// Lets a process write, kills it after about `lines` of its answers, and takes down what it said.
fn kill_one(dir: &Path, from: usize, lines: usize, said: &mut Said) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::the_process_that_is_killed", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(FROM, from.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut seen = 0;
    let mut line = String::new();
    let mut killed = false;
    // After the kill, what was said before it is still in the pipe.
    while out.read_line(&mut line).unwrap() > 0 {
        // A line that was cut off was not said.
        let whole = line.ends_with('\n');
        if let Some((what, n)) = line.trim().strip_prefix("crash-test ").and_then(|l| l.split_once(' '))
            && whole
        {
            said.entry(n.parse().unwrap()).or_default().insert(what.to_owned());
            seen += 1;
        }
        line.clear();
        if seen >= lines && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    assert!(killed, "the process ended by itself after {seen} answers");
    child.wait().unwrap();
}

async fn check(dir: &Path, said: &Said) {
    let store = LayoutStore::open(&config(dir)).unwrap();
    for (n, said) in said {
        let (record, _) = sample(*n);
        let cid = record.cid();
        if said.contains("del") {
            assert_eq!(store.resolve(&cid).await.unwrap(), None, "record {n} was deleted");
        } else if said.contains("put") && !said.contains("deleting") {
            assert_eq!(store.get(&cid, Known::Unknown).await.unwrap(), record, "record {n} was stored");
            assert!(store.resolve(&cid).await.unwrap().is_some());
            if said.contains("ref") {
                let listed = store.referrers(&cid).await.unwrap();
                assert_eq!(listed.len(), 1, "record {n} has a referrer");
                let bytes = store.referrer_bytes(&cid, &listed[0]).await.unwrap();
                assert_eq!(Cid::of(&bytes), listed[0].cid);
            }
        }
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut said = Said::new();
    for round in 0..ROUNDS {
        let from = said.keys().next_back().map_or(0, |n| n + 2 * AT_ONCE);
        let lines = rand::rng().random_range(1..800);
        eprintln!("round {round}: from record {from}, killed after {lines} answers");
        kill_one(dir.path(), from, lines, &mut said);
        // Every second time the next process finds what the killed one left, and nobody looked in between.
        if round % 2 == 1 {
            check(dir.path(), &said).await;
        }
    }
    assert!(said.len() > ROUNDS, "{} records", said.len());
    check(dir.path(), &said).await;
    let store = LayoutStore::open(&config(dir.path())).unwrap();
    let records = store.len();
    store.close().await.unwrap();
    let tagged = read_as_a_tool(dir.path()).into_values().flatten().count();
    assert_eq!(tagged, records);
}
