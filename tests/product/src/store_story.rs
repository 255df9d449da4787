//! A registry that somebody filled with everything in one repository: adopted, served, converted, compared.
//!
//! Over HTTP each read of such a registry is slow, so that the index is made from its directory, and most of it is
//! converted there, with the registry stopped.

use crate::our;
use crate::proc::{Ran, run as finish};
use crate::server::{Auth, Records, Server};
use crate::zot::Zot;
use anyhow::{Context, ensure};
use dir_testkit::fill::{Fill, Filled, Shape, fill};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// What is told.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Records in the one repository.
    pub records: u64,
    /// How many of them move while everybody is served, in portions.
    pub online: u64,
    /// No portion begins after this long.
    pub longest: Duration,
    /// Whether the registry keeps equal contents once.
    pub dedupe: bool,
    /// Records that are pulled after each start.
    pub pulls: usize,
}

/// Records that one command moves online: the next one goes on.
const PORTION: u64 = 50;

/// One stage of the story.
#[derive(Debug, Clone)]
pub struct Stage {
    /// What was done.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
    /// What came of it, on one line.
    pub result: String,
}

/// A story under way.
struct Story<'a> {
    dir: PathBuf,
    plan: Plan,
    tell: &'a mut dyn FnMut(&Stage),
}

/// Tells the story below `dir`, which must be empty; `tell` hears of every stage as it ends.
pub fn run(dir: &Path, plan: Plan, tell: &mut dyn FnMut(&Stage)) -> anyhow::Result<()> {
    let mut story = Story { dir: dir.to_owned(), plan, tell };
    let filled = story.fill()?;
    story.refused_while_running()?;
    story.offline("index made from the directory", &["reindex"], &["--index", "INDEX"], |json| {
        ensure!(json["records"] == filled.cids.len(), "{json}");
        Ok(format!("{} records", json["records"]))
    })?;
    let (zot, server) = story.start("single")?;
    story.served(&server, &filled)?;
    story.online(&server)?;
    story.served(&server, &filled)?;
    stop(zot, server)?;
    let args = ["reshard", "--to", "sharded"];
    story.offline("the rest resharded in the directory", &args, &["--yes"], |json| {
        ensure!(json["done"] == true && json["left"] == 0, "{json}");
        Ok(format!("{} records and {} referrers", json["moved"], json["referrers"]))
    })?;
    story.offline(
        "directory and index compared",
        &["audit", "--contents"],
        &["--index", "INDEX"],
        |json| clean(json, &filled),
    )?;
    let (zot, server) = story.start("sharded")?;
    story.served(&server, &filled)?;
    story.timed("audit through the server", |story| {
        clean(&story.asked(&server, &["store", "audit"])?, &filled)
    })?;
    stop(zot, server)
}

/// Nothing is wrong, nothing is missing. Through a server only referrers with tags are counted.
fn clean(json: &Value, filled: &Filled) -> anyhow::Result<String> {
    let whole = json["records"] == filled.cids.len();
    let nothing = json["troubles"].as_object().is_some_and(serde_json::Map::is_empty);
    let agrees = json["drift"]["rows"] == filled.cids.len()
        && json["drift"]["missing_in_index"] == 0
        && json["drift"]["missing_in_store"] == 0;
    ensure!(whole && nothing && agrees && json["status"] == "ok", "{json}");
    Ok(format!("{} records, {} referrers, nothing found", json["records"], json["referrers"]))
}

fn stop(zot: Zot, server: Server) -> anyhow::Result<()> {
    ensure!(server.stop()? == Some(0), "the server ends in order");
    drop(zot);
    Ok(())
}

/// `dir-admin` without a server.
fn admin(args: &[&str]) -> anyhow::Result<Ran> {
    let mut command = Command::new(our("dir-admin")?);
    finish(command.env_clear().args(args).args(["--output", "json"]))
}

impl Story<'_> {
    fn timed<R>(
        &mut self,
        name: &'static str,
        stage: impl FnOnce(&Self) -> anyhow::Result<R>,
    ) -> anyhow::Result<R>
    where
        R: Told,
    {
        let begun = Instant::now();
        let told = stage(self).context(name)?;
        (self.tell)(&Stage { name, took: begun.elapsed(), result: told.line() });
        Ok(told)
    }

    fn zot_dir(&self) -> PathBuf {
        self.dir.join("zot")
    }

    fn fill(&mut self) -> anyhow::Result<Filled> {
        // The server looks at each of their tags when it first compares, which is slow in a large repository.
        let referrers_every = (self.plan.records / 100).max(20);
        let order = Fill { referrers_every, ..Fill::new(Shape::Single, self.plan.records) };
        self.timed("filled", |story| Ok(fill(&story.zot_dir(), &order, |_| ())?))
    }

    /// A directory that a registry serves is left alone.
    fn refused_while_running(&mut self) -> anyhow::Result<()> {
        self.timed("refused while the registry runs", |story| {
            let _zot = Zot::start_with(&story.dir, story.plan.dedupe)?;
            let dir = story.zot_dir().display().to_string();
            let ran = admin(&["store", "reshard", "--to", "sharded", "--yes", "--data-dir", &dir])?;
            ensure!(
                ran.status.code() == Some(4) && ran.stdout.contains("stop the registry first"),
                "{ran:?}"
            );
            Ok("exit code 4".to_owned())
        })?;
        Ok(())
    }

    /// A job on the directory.
    fn offline(
        &mut self,
        name: &'static str,
        what: &[&str],
        more: &[&str],
        check: impl FnOnce(&Value) -> anyhow::Result<String>,
    ) -> anyhow::Result<()> {
        self.timed(name, |story| {
            let (dir, index) = (story.zot_dir().display().to_string(), story.dir.join("index"));
            let index = index.display().to_string();
            let more: Vec<&str> =
                more.iter().map(|arg| if *arg == "INDEX" { &index } else { *arg }).collect();
            let ran = admin(&[&["store"], what, &["--data-dir", &dir], &more].concat())?;
            check(&serde_json::from_str(&ran.good()?)?)
        })?;
        Ok(())
    }

    fn start(&mut self, layout: &'static str) -> anyhow::Result<(Zot, Server)> {
        let begun = Instant::now();
        let zot = Zot::start_with(&self.dir, self.plan.dedupe)?;
        let up = begun.elapsed();
        let server = Server::start(&self.dir, &Auth::Insecure, &Records::Registry(zot.address()))?;
        let result = format!("registry after {:.1} s, layout {layout}", up.as_secs_f64());
        let output = server.proc.output();
        ensure!(!output.contains("index rebuild started"), "the index is whole: {output}");
        (self.tell)(&Stage { name: "registry and server ready", took: begun.elapsed(), result });
        Ok((zot, server))
    }

    fn client(&self, program: &str, server: &Server, args: &[&str]) -> anyhow::Result<Ran> {
        let mut command = Command::new(our(program)?);
        command.env_clear().env("HOME", &self.dir).args(args);
        command.env("DIRECTORY_CLIENT_SERVER_ADDRESS", format!("127.0.0.1:{}", server.port));
        command.env("DIRECTORY_CLIENT_TIMEOUT", "5m");
        finish(command.env("DIRECTORY_CLIENT_AUTH_MODE", "insecure"))
    }

    /// What `dir-admin` answers, whatever its exit code.
    fn asked(&self, server: &Server, args: &[&str]) -> anyhow::Result<Value> {
        let ran = self.client("dir-admin", server, &[args, &["--output", "json"]].concat())?;
        serde_json::from_str(&ran.stdout).with_context(|| format!("{ran:?}"))
    }

    /// Search knows everything, and pulls come back.
    fn served(&mut self, server: &Server, filled: &Filled) -> anyhow::Result<()> {
        let all = filled.cids.len().to_string();
        self.timed("all of them counted by a search", |story| {
            let count = story.client("dirctl", server, &["search", "--count"])?.good()?;
            ensure!(count.trim() == all, "{count:?} of {all}");
            Ok(count.trim().to_owned())
        })?;
        let pulls = self.plan.pulls;
        let step = (filled.cids.len() / pulls.max(1)).max(1);
        self.timed("some of them pulled", |story| {
            for cid in filled.cids.iter().step_by(step).take(pulls) {
                story.client("dirctl", server, &["pull", &cid.to_string()])?.good()?;
            }
            Ok(format!("{pulls} records"))
        })?;
        Ok(())
    }

    /// Moves the first records while everybody is served, in portions, each by a command of its own.
    fn online(&mut self, server: &Server) -> anyhow::Result<()> {
        self.timed("the first resharded online", |story| {
            let (begun, wanted) = (Instant::now(), story.plan.online);
            let (mut moved, mut last) = (0, String::new());
            while moved < wanted && begun.elapsed() < story.plan.longest {
                let (more, line) = story.portion(server, PORTION.min(wanted - moved))?;
                moved += more;
                last = line;
            }
            #[allow(clippy::cast_precision_loss)] // a rate for people
            let rate = moved as f64 / begun.elapsed().as_secs_f64();
            Ok(format!("{moved} of {wanted}, {rate:.2}/s; at the end {last}"))
        })?;
        Ok(())
    }

    fn portion(&self, server: &Server, limit: u64) -> anyhow::Result<(u64, String)> {
        let limit_text = limit.to_string();
        let args = ["store", "reshard", "--to", "sharded", "--limit", &limit_text, "--output", "json"];
        let ran = self.client("dir-admin", server, &args)?;
        ensure!(ran.status.code() == Some(10), "there is more to do: {ran:?}");
        let json: Value = serde_json::from_str(&ran.stdout)?;
        let moved = json["moved"].as_u64().unwrap_or_default();
        ensure!(moved >= limit && json["done"] == false, "{json}");
        let last = ran.stderr.lines().rfind(|line| line.starts_with("move: ")).unwrap_or_default();
        ensure!(last.contains("/s, ") && last.ends_with(" left"), "rate and time left: {:?}", ran.stderr);
        Ok((moved, last.to_owned()))
    }
}

/// What came of a stage, on one line.
trait Told {
    fn line(&self) -> String;
}

impl Told for String {
    fn line(&self) -> String {
        self.clone()
    }
}

impl Told for Filled {
    fn line(&self) -> String {
        let mib = self.bytes >> 20;
        format!("{} records, {} referrers, {mib} MiB", self.cids.len(), self.referrers)
    }
}
