//! The conversion of a stopped registry's directory, killed for real, and run again.

use dir_core::store::{Known, RecordStore};
use dir_store::{DataDirConfig, DataDirStore, Limits};
use dir_testkit::fill::{Fill, Filled, Shape, fill};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const RECORDS: u64 = 600;

/// `dir-admin store reshard` on a directory.
fn reshard(dir: &Path, to: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dir-admin"));
    let dir = dir.display().to_string();
    command.env_clear().args([
        "store",
        "reshard",
        "--to",
        to,
        "--yes",
        "--output",
        "json",
        "--data-dir",
        &dir,
    ]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn repositories(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

/// Kills the command when `now` says so; answers whether it was still at work.
fn kill_when(mut command: Child, now: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while !now() && command.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(120), "it does not get on");
        std::thread::sleep(Duration::from_micros(200));
    }
    let at_work = command.try_wait().unwrap().is_none();
    let _ = command.kill();
    command.wait().unwrap();
    at_work
}

async fn whole(dir: &Path, filled: &Filled) -> (&'static str, bool) {
    let config = DataDirConfig { root: dir.to_owned(), repository: "dir".into(), limits: Limits::default() };
    let store = DataDirStore::open(config).unwrap();
    for cid in &filled.cids {
        assert_eq!(store.get(cid, Known::Unknown).await.unwrap().cid(), *cid);
    }
    store.layout()
}

fn done(ran: &Output) -> Value {
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let json: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((&json["done"], &json["left"]), (&true.into(), &0.into()), "{json}");
    json
}

fn audit(dir: &Path) -> (Option<i32>, Value) {
    let ran = Command::new(env!("CARGO_BIN_EXE_dir-admin"))
        .env_clear()
        .args(["store", "audit", "--contents", "--output", "json", "--data-dir", &dir.display().to_string()])
        .output()
        .unwrap();
    (ran.status.code(), serde_json::from_slice(&ran.stdout).unwrap())
}

#[tokio::test]
async fn an_offline_conversion_that_is_killed_loses_nothing_and_is_completed_by_the_next() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("zot");
    let order = Fill { referrers_every: 10, ..Fill::new(Shape::Single, RECORDS) };
    let filled = fill(&dir, &order, |_| ()).unwrap();
    let mut killed = 0;
    // At its beginning, in the middle, and with nearly all repositories made.
    for shards in [2, 100, 400] {
        let command = reshard(&dir, "sharded").spawn().unwrap();
        killed += usize::from(kill_when(command, || repositories(&dir) > shards));
        let (layout, unfinished) = whole(&dir, &filled).await;
        assert!(layout == "sharded" || !unfinished, "before the stamp it is as it was: {layout}");
        // What is in both places is one record, and that it is so is said.
        let (code, json) = audit(&dir);
        assert_eq!(
            (code, &json["records"]),
            (Some(if unfinished { 10 } else { 0 }), &RECORDS.into()),
            "{json}"
        );
        assert_eq!(json["converting"] == "sharded", unfinished, "{json}");
    }
    assert!(killed > 0, "no command was killed at work");
    done(&reshard(&dir, "sharded").output().unwrap());
    assert_eq!(whole(&dir, &filled).await, ("sharded", false));
    // And back, killed when the first repository has gone.
    let made = repositories(&dir);
    let command = reshard(&dir, "single").spawn().unwrap();
    kill_when(command, || repositories(&dir) < made);
    whole(&dir, &filled).await;
    done(&reshard(&dir, "single").output().unwrap());
    assert_eq!(whole(&dir, &filled).await, ("single", false));
    let (code, json) = audit(&dir);
    assert_eq!((code, &json["clean"]), (Some(0), &true.into()), "{json}");
    assert_eq!((&json["records"], &json["referrers"]), (&RECORDS.into(), &filled.referrers.into()), "{json}");
    assert!(json["troubles"].as_object().is_some_and(serde_json::Map::is_empty), "{json}");
}
