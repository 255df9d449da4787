//! Several caller processes, watched from outside.

use crate::caller::{CallerArgs, Said, Tally};
use crate::wait_until;
use anyhow::Context;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What a caller has said so far.
#[derive(Debug, Default)]
struct Heard {
    /// Serial number and generation of each of its identities.
    holds: BTreeMap<String, (String, u64)>,
    /// Its first failure.
    failed: Option<String>,
    done: Option<Tally>,
}

/// A caller process; killed when dropped.
#[derive(Debug)]
pub struct Caller {
    child: Child,
    heard: Arc<Mutex<Heard>>,
    reader: Option<JoinHandle<()>>,
    identities: usize,
}

impl Caller {
    /// Starts the program `caller` and waits until it holds its identities.
    pub fn start(program: &Path, args: &CallerArgs) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.args(["--address", &args.address, "--server-name", &args.server_name]);
        command.args(["--socket", &args.socket]);
        command.args(["--streams", &args.streams.to_string(), "--unary", &args.unary.to_string()]);
        if let Some(domain) = &args.expect {
            command.args(["--expect", domain]);
        }
        if args.fresh {
            command.arg("--fresh");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let out = child.stdout.take().context("no standard output")?;
        let heard = Arc::<Mutex<Heard>>::default();
        let (told, identities) = (heard.clone(), 1 + usize::from(args.fresh));
        let reader = std::thread::spawn(move || listen(out, &told));
        let mut caller = Self { child, heard, reader: Some(reader), identities };
        caller.wait("a caller with its identities", |heard, count| heard.holds.len() >= count)?;
        Ok(caller)
    }

    fn wait(&mut self, what: &str, so: impl Fn(&Heard, usize) -> bool) -> anyhow::Result<()> {
        let (mut ended, count) = (None, self.identities);
        wait_until(what, || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some() || so(&self.heard.lock().unwrap_or_else(PoisonError::into_inner), count)
        })?;
        anyhow::ensure!(ended.is_none(), "a caller has ended: {ended:?}");
        Ok(())
    }

    /// Waits until each of its identities has the serial number that is the right one at that moment.
    pub fn wait_serial(&mut self, right: impl Fn() -> String) -> anyhow::Result<()> {
        self.wait("a caller with the new SVID", |heard, _| {
            let right = right();
            heard.holds.values().all(|(held, _)| *held == right)
        })
    }

    /// The number of the snapshot of each identity.
    pub fn generations(&self) -> BTreeMap<String, u64> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.holds.iter().map(|(who, (_, generation))| (who.clone(), *generation)).collect()
    }

    /// Waits until each identity is in a later snapshot than `before`.
    pub fn wait_later(&mut self, before: &BTreeMap<String, u64>) -> anyhow::Result<()> {
        self.wait("a caller with a new snapshot", |heard, _| {
            heard.holds.iter().all(|(who, (_, now))| before.get(who).is_some_and(|then| now > then))
        })
    }

    /// Waits until a call or a message of its has failed.
    pub fn wait_failed(&mut self) -> anyhow::Result<()> {
        self.wait("a caller's first failure", |heard, _| heard.failed.is_some())
    }

    /// Stops it and answers what it counted.
    pub fn finish(mut self) -> anyhow::Result<Tally> {
        drop(self.child.stdin.take());
        let mut ended = None;
        wait_until("the end of a caller", || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some()
        })?;
        let status = ended.context("no exit status")?;
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
        let done = self.heard.lock().unwrap_or_else(PoisonError::into_inner).done.take();
        done.with_context(|| format!("a caller ended with {status} and no tally"))
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn listen(out: ChildStdout, heard: &Mutex<Heard>) {
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        match serde_json::from_str(&line) {
            Ok(Said::Holds { serial, generation, who }) => {
                heard.holds.insert(who, (serial, generation));
            }
            Ok(Said::Failed(error)) => heard.failed = Some(error),
            Ok(Said::Done(tally)) => heard.done = Some(tally),
            Err(error) => eprintln!("caller: {error}: {line}"),
        }
    }
}

/// The sum of what several callers counted.
pub fn sum(tallies: impl IntoIterator<Item = Tally>) -> Tally {
    tallies.into_iter().fold(Tally::default(), |mut all, one| {
        all.answered += one.answered;
        all.failed += one.failed;
        all.fresh += one.fresh;
        all.certificates.extend(one.certificates);
        all.errors.extend(one.errors);
        all
    })
}
