//! Processes killed in the middle of their work: nothing acknowledged is lost, nothing is half there.
//!
//! A test binary of its own: between fork and exec a child holds the file locks of its parent, which would
//! disturb the tests that open and close indexes meanwhile.

// Helpers of tests are test code as well.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use dir_core::index::RecordIndex;
use dir_core::{Cid, EventKind};
use dir_index::{SledConfig, SledIndex};
use dir_testkit::generate::{Generator, Numbers};
use dir_testkit::index_conformance::{cid, delete, put};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const DIRECTORY: &str = "INDEX_CRASH_DIRECTORY";
const FIRST: &str = "INDEX_CRASH_FIRST";
/// Kills of one test run.
const ROUNDS: u64 = 50;
/// Kills of one directory: enough for its files to grow through several recoveries.
const ROUNDS_A_DIRECTORY: u64 = 10;
/// Record numbers that one process may use.
const NUMBERS_A_ROUND: u64 = 1_000_000;
const TASKS: u8 = 8;

/// The test is its own child: with a directory in its environment it writes until it is killed.
#[test]
fn killed_writers_lose_nothing_acknowledged() {
    if let Ok(directory) = std::env::var(DIRECTORY) {
        let first = std::env::var(FIRST).unwrap().parse().unwrap();
        write_for_ever(Path::new(&directory), first);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut numbers = Numbers::new(53);
    let mut acknowledged = 0;
    for _ in 0..ROUNDS / ROUNDS_A_DIRECTORY {
        let dir = tempfile::tempdir().unwrap();
        let mut acks = Acks::default();
        for round in 0..ROUNDS_A_DIRECTORY {
            // Some are killed while they open, most somewhere in their stream of changes.
            let after = numbers.below(120);
            kill_after(dir.path(), round * NUMBERS_A_ROUND, after, &mut acks);
            runtime.block_on(verify(dir.path(), &acks));
        }
        acknowledged += acks.put.len();
    }
    assert!(acknowledged > 500, "only {acknowledged} changes were acknowledged");
}

/// What children said was done.
#[derive(Default)]
struct Acks {
    put: BTreeSet<u64>,
    deleted: BTreeSet<u64>,
}

fn kill_after(dir: &Path, first: u64, acks_wanted: usize, acks: &mut Acks) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["killed_writers_lose_nothing_acknowledged", "--exact", "--nocapture"])
        .env(DIRECTORY, dir)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut note = |line: &str| match line.split_once(' ') {
        Some(("put", n)) => acks.put.insert(n.parse().unwrap()),
        Some(("deleted", n)) => acks.deleted.insert(n.parse().unwrap()),
        _ => false,
    };
    let mut seen = 0;
    while seen < acks_wanted {
        let line = lines.next().expect("the child stopped by itself").unwrap();
        seen += usize::from(note(&line));
    }
    child.kill().unwrap();
    // What it had said before it died counts as well; its last line may be cut.
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    let whole = rest.len().saturating_sub(1);
    for line in &rest[..whole] {
        note(line);
    }
    child.wait().unwrap();
}

async fn verify(dir: &Path, acks: &Acks) {
    let index = SledIndex::open(SledConfig::new(dir.join("index"))).unwrap();
    let events = index.events(0, usize::MAX).await.unwrap();
    assert!(events.iter().map(|e| e.seq).eq(1..=events.len() as u64), "the log has gaps");
    // The rows are exactly what the log says: each change is there with its event, or not at all.
    let mut live: BTreeMap<Cid, Vec<String>> = BTreeMap::new();
    let mut logged = BTreeSet::new();
    for event in events {
        logged.insert((event.cid, event.kind == EventKind::RecordDeleted));
        if event.kind == EventKind::RecordDeleted {
            assert!(live.remove(&event.cid).is_some());
        } else {
            assert!(live.insert(event.cid, event.labels).is_none());
        }
    }
    assert_eq!(index.cids(None, usize::MAX).await.unwrap(), live.keys().copied().collect::<Vec<_>>());
    for (cid, labels) in live {
        assert_eq!(index.row(&cid).await.unwrap().unwrap().facts.labels(), labels);
    }
    for n in &acks.put {
        assert!(logged.contains(&(cid(*n), false)), "the put of {n} was acknowledged and is lost");
    }
    for n in &acks.deleted {
        assert!(logged.contains(&(cid(*n), true)), "the delete of {n} was acknowledged and is lost");
    }
}

/// Puts and deletes from several tasks; a line on standard output for each that was acknowledged.
fn write_for_ever(dir: &Path, first: u64) -> ! {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let index = Arc::new(SledIndex::open(SledConfig::new(dir.join("index"))).unwrap());
        let tasks = (0..TASKS).map(|task| {
            let index = index.clone();
            tokio::spawn(async move {
                let from = first + u64::from(task);
                let mut generator = Generator::new(from);
                for n in (from..first + NUMBERS_A_ROUND).step_by(TASKS.into()) {
                    let facts = Arc::new(generator.facts());
                    index.apply(vec![put(n, &facts, 1)]).await.unwrap();
                    say(&format!("put {n}\n"));
                    if n % 5 == 0 {
                        index.apply(vec![delete(n, 2)]).await.unwrap();
                        say(&format!("deleted {n}\n"));
                    }
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
    unreachable!("killed long before");
}

/// One write per line: what the parent reads was said as a whole.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).unwrap();
}
