//! `lab`: several organisations on one machine, to see identity and federation work and fail.
//!
//! Each organisation is a trust domain with a CA of its own, a Workload API, an agent, and a `dir-apiserver` process
//! with the configuration that a production server has. Servers learn the partners' bundles from each other's
//! bundle endpoints. Everything lies in one folder and ends with the lab.

mod place;
mod script;
mod tell;
mod traffic;

use crate::cli::Output;
use crate::exit::{Failure, Status};
use anyhow::Context;
use dir_identity::devapi::{DevConfig, DevDomain, DevSvid, DevWorkloadApi};
use dir_runtime::SystemClock;
use place::{Place, agent_id, server_id};
use script::{Command, State};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tell::Tell;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio_util::sync::CancellationToken;
use traffic::{Line, Route};

/// The story that `--story` tells.
const STORY: &str = include_str!("../../../../examples/lab/story.lab");
/// Names of the organisations, in order.
const NAMES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];
/// How long an expected outcome may take to come.
const PATIENCE: Duration = Duration::from_secs(180);
/// Life of a CA, in lives of an SVID.
const CA_LIVES: u32 = 240;

/// What the lab is told.
#[derive(Debug, clap::Args)]
pub(crate) struct LabArgs {
    /// How many organisations, 2 to 4.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=4))]
    domains: u8,
    /// How often every SVID is renewed.
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = positive)]
    rotation: Duration,
    /// How long a partner's bundle stays in force when its endpoint does not answer.
    #[arg(long, default_value = "45s", value_name = "DURATION", value_parser = positive)]
    max_stale: Duration,
    /// Folder of sockets, records, logs; a throw-away one by default.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Reads commands from this file instead of the terminal and ends with it; exit code 1 when one fails.
    #[arg(long, value_name = "FILE", conflicts_with = "story")]
    script: Option<PathBuf>,
    /// Tells the built-in story and ends.
    #[arg(long)]
    story: bool,
    /// Form of the events: human or json (one object a line).
    #[arg(long, short, default_value = "human")]
    output: Output,
}

fn positive(text: &str) -> Result<Duration, String> {
    let duration = crate::config::parse_duration(text)?;
    if duration < Duration::from_secs(1) { Err("must be at least 1s".to_owned()) } else { Ok(duration) }
}

/// Runs the lab until it is told to end, or its script has ended.
pub(crate) fn run(args: &LabArgs) -> anyhow::Result<Status> {
    let text = match &args.script {
        Some(path) => Some(std::fs::read_to_string(path).with_context(|| path.display().to_string())?),
        None => args.story.then(|| STORY.to_owned()),
    };
    let names: Vec<String> = NAMES.iter().take(usize::from(args.domains)).map(ToString::to_string).collect();
    let script = text.map(|t| commands(&t, &names)).transpose()?;
    let (dir, throw_away) = folder(args.dir.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(life(args, &dir, names, script));
    runtime.shutdown_timeout(Duration::from_secs(1));
    if throw_away && outcome.is_ok() {
        let _ = std::fs::remove_dir_all(&dir);
    }
    outcome
}

/// Every line of a script, all read before anything starts.
fn commands(text: &str, names: &[String]) -> anyhow::Result<Vec<(String, Command)>> {
    let mut found = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let parsed = script::parse(line, names)
            .map_err(|e| Failure::new(Status::Usage, format!("line {} of the script: {e}", n + 1)))?;
        found.extend(parsed.map(|command| (line.trim().to_owned(), command)));
    }
    Ok(found)
}

fn folder(given: Option<&Path>) -> anyhow::Result<(PathBuf, bool)> {
    if let Some(dir) = given {
        let dir = std::path::absolute(dir)?;
        std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        return Ok((dir, false));
    }
    // Not the usual temporary directory: paths of sockets must be short.
    for n in 0..1000 {
        let dir = PathBuf::from(format!("/tmp/dir-lab-{}-{n}", std::process::id()));
        match std::fs::create_dir(&dir) {
            Ok(()) => return Ok((dir, true)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| dir.display().to_string()),
        }
    }
    anyhow::bail!("/tmp is full of labs; remove /tmp/dir-lab-*, or give --dir")
}

async fn life(
    args: &LabArgs,
    dir: &Path,
    names: Vec<String>,
    script: Option<Vec<(String, Command)>>,
) -> anyhow::Result<Status> {
    let stop = CancellationToken::new();
    let signals = dir_runtime::Signals::install().context("signals")?;
    let mut lab = tokio::select! {
        lab = Lab::open(args, dir, names, stop.clone()) => lab?,
        () = signals.stop().cancelled() => return Ok(Status::Ok),
    };
    let outcome = tokio::select! {
        done = lab.go_on(script) => done,
        () = signals.stop().cancelled() => Ok(()),
    };
    stop.cancel();
    lab.summary();
    outcome.map(|()| Status::Ok)
}

/// Everything that runs.
struct Lab {
    names: Vec<String>,
    places: Vec<Place>,
    lines: Vec<Line>,
    tell: Tell,
    max_stale: Duration,
    /// Failed calls at the last `mark`.
    marked: u64,
}

impl Lab {
    async fn open(
        args: &LabArgs,
        dir: &Path,
        names: Vec<String>,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let tell = Tell::new(args.output);
        tell.event("lab", "lab", &format!("everything of this lab lies in {}", dir.display()));
        let domains: Vec<String> = names.iter().map(|n| format!("{n}.lab")).collect();
        let mut places: Vec<Place> = Vec::new();
        for (name, domain) in names.iter().zip(&domains) {
            let home = dir.join(name);
            let apis = workload_apis(&home, domain, &domains, args.rotation, places.first()).await?;
            let mut place = Place::new((name.clone(), domain.clone()), home, apis, tell)?;
            place.admitted.extend(domains.iter().filter(|d| *d != domain).cloned());
            places.push(place);
        }
        for (n, place) in places.iter().enumerate() {
            let others = places.iter().enumerate().filter(|(m, _)| *m != n);
            let cards: Vec<_> = others.map(|(_, p)| p.card()).collect::<Result<_, _>>()?;
            place.write_policy()?;
            place.write_config(&cards, args.max_stale)?;
        }
        for place in &mut places {
            place.launch()?;
        }
        for place in &mut places {
            place.ready().await?;
        }
        let mut lab = Self { names, places, lines: Vec::new(), tell, max_stale: args.max_stale, marked: 0 };
        lab.begin_traffic(&stop).await?;
        Ok(lab)
    }

    async fn begin_traffic(&mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        for to in &self.places {
            let document = traffic::record(&to.name)?;
            let cid = document.cid();
            traffic::client(to, to).await?.push_one(document).await?;
            for from in &self.places {
                let route = Route { from: from.name.clone(), to: to.name.clone() };
                let client = traffic::client(from, to).await?;
                self.lines.push(Line::begin(route, client, cid, self.tell, stop.clone()));
            }
        }
        Ok(())
    }

    /// The script, or the terminal.
    async fn go_on(&mut self, script: Option<Vec<(String, Command)>>) -> anyhow::Result<()> {
        if let Some(script) = script {
            for (line, command) in script {
                self.tell.event("command", "lab", &format!("> {line}"));
                if !self.obey(&command).await.with_context(|| line.clone())? {
                    break;
                }
            }
            return Ok(());
        }
        eprintln!("Commands, one a line:\n{}\n", script::HELP);
        let mut input = BufReader::new(tokio::io::stdin()).lines();
        while let Some(line) = input.next_line().await? {
            match script::parse(&line, &self.names) {
                Ok(Some(command)) => match self.obey(&command).await {
                    Ok(true) => {}
                    Ok(false) => return Ok(()),
                    Err(error) => eprintln!("{error:#}"),
                },
                Ok(None) => {}
                Err(error) => eprintln!("{error}"),
            }
        }
        // Nothing to read from: it runs until it is stopped.
        std::future::pending().await
    }

    /// Does one thing. `false` ends the lab.
    async fn obey(&mut self, command: &Command) -> anyhow::Result<bool> {
        match *command {
            Command::Kill(a) => self.places[a].kill(),
            Command::Start(a) => {
                self.places[a].launch()?;
                self.places[a].ready().await?;
            }
            Command::Expire(a) => self.expire(a),
            Command::Revoke(a) => self.revoke(a, true),
            Command::Restore(a) => self.revoke(a, false),
            Command::Rotate(a) => {
                self.places[a].server.rotate();
                self.places[a].agent.rotate();
            }
            Command::RotateCa(a) => self.rotate_ca(a).await?,
            Command::Forbid(from, to) => self.admit(from, to, false)?,
            Command::Allow(from, to) => self.admit(from, to, true)?,
            Command::Expect(from, to, state) => self.expect(from, to, state).await?,
            Command::ExpectPush(from, to, state) => {
                let found = self.line(from, to).push().await?;
                anyhow::ensure!(found == state, "the push is {}", found.name());
            }
            Command::Rotations(a, n) => self.rotations(a, n).await?,
            Command::Mark => self.marked = self.failed(),
            Command::NoFailures => {
                let failed = self.failed() - self.marked;
                anyhow::ensure!(failed == 0, "{failed} calls failed");
                self.tell.event("calls", "lab", "no call failed");
            }
            Command::Wait(time) => tokio::time::sleep(time).await,
            Command::Status => self.summary(),
            Command::Help => eprintln!("{}", script::HELP),
            Command::Quit => return Ok(false),
        }
        Ok(true)
    }

    fn line(&self, from: usize, to: usize) -> &Line {
        // Begun in this order.
        &self.lines[to * self.places.len() + from]
    }

    fn failed(&self) -> u64 {
        self.lines.iter().map(|l| l.counts.failed.load(Ordering::Relaxed)).sum()
    }

    async fn expect(&self, from: usize, to: usize, wanted: State) -> anyhow::Result<()> {
        let mut state = self.line(from, to).state.clone();
        let came = state.wait_for(|s| *s == Some(wanted));
        if tokio::time::timeout(PATIENCE, came).await.is_err() {
            let found = state.borrow().map_or("not made", State::name);
            anyhow::bail!("after {} s the calls are {found}", PATIENCE.as_secs());
        }
        Ok(())
    }

    fn expire(&mut self, a: usize) {
        if self.places[a].runs() {
            self.places[a].kill();
        }
        let text = format!(
            "its bundle is renewed nowhere now: too old for partners within {} s",
            self.max_stale.as_secs()
        );
        self.tell.event("bundle", &self.places[a].name, &text);
    }

    fn revoke(&self, a: usize, taken: bool) {
        let place = &self.places[a];
        place.agent.override_answer(taken.then_some(dir_identity::devapi::Answer::Deny));
        let text = if taken {
            "its agent has no registration entry any more"
        } else {
            "its agent is registered again"
        };
        self.tell.event("svid", &place.name, text);
    }

    /// As a careful CA does it: the new one is in the bundle first, and signs when every partner has seen it.
    async fn rotate_ca(&self, a: usize) -> anyhow::Result<()> {
        let Place { name, domain, server, .. } = &self.places[a];
        let seen = |place: &Place| place.keys.lock().get(domain).copied().unwrap_or_default();
        let before: Vec<(&Place, u64)> = self.places.iter().map(|p| (p, seen(p))).collect();
        server.announce_ca(domain);
        self.tell.event("ca", name, "a new CA is in the bundle; partners fetch it within half a minute");
        let end = Instant::now() + PATIENCE;
        while before.iter().any(|(p, n)| p.runs() && p.domain != *domain && seen(p) <= *n) {
            anyhow::ensure!(
                Instant::now() < end,
                "a partner did not fetch it within {} s",
                PATIENCE.as_secs()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        server.activate_ca(domain);
        self.tell.event("ca", name, "every partner has it: it signs from the next rotation on");
        Ok(())
    }

    fn admit(&mut self, from: usize, to: usize, allowed: bool) -> anyhow::Result<()> {
        let domain = self.places[from].domain.clone();
        let place = &mut self.places[to];
        if allowed {
            place.admitted.insert(domain);
        } else {
            place.admitted.remove(&domain);
        }
        place.write_policy()?;
        self.tell.event("policy", &self.places[to].name, "policy file replaced");
        Ok(())
    }

    async fn rotations(&self, a: usize, n: u64) -> anyhow::Result<()> {
        let taken = &self.places[a].svids;
        let (wanted, end) = (taken.load(Ordering::Relaxed) + n, Instant::now() + PATIENCE);
        while taken.load(Ordering::Relaxed) < wanted {
            anyhow::ensure!(Instant::now() < end, "not within {} s", PATIENCE.as_secs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn summary(&self) {
        for line in &self.lines {
            let state = line.state.borrow().map_or("not made yet", State::name);
            let (good, failed) = (&line.counts.good, &line.counts.failed);
            let (good, failed) = (good.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
            let who = format!("{} -> {}", line.route.from, line.route.to);
            self.tell.event("status", &who, &format!("{state}; {good} calls answered, {failed} not"));
        }
    }
}

/// The two sockets of an organisation: its server's, and its agent's, which also trusts the partners.
async fn workload_apis(
    home: &Path,
    domain: &str,
    all: &[String],
    rotation: Duration,
    first: Option<&Place>,
) -> anyhow::Result<(DevWorkloadApi, DevWorkloadApi)> {
    let svid_ttl = rotation * 2;
    let config = |socket: &str, spiffe_id: String, dns: &[&str], trusted: Vec<String>| {
        let dns_names = dns.iter().map(ToString::to_string).collect();
        let svid = DevSvid { spiffe_id, dns_names, hint: String::new() };
        let own = DevDomain { name: domain.to_owned(), svids: vec![svid], federates_with: trusted.clone() };
        // The other domains are here with their bundles only.
        let foreign = trusted.into_iter().map(|name| DevDomain { name, ..DevDomain::default() });
        let trust_domains = std::iter::once(own).chain(foreign).collect();
        DevConfig { socket: home.join(socket), trust_domains, svid_ttl, ca_ttl: svid_ttl * CA_LIVES }
    };
    let server = config("server.sock", server_id(domain), &["localhost"], Vec::new());
    let partners = all.iter().filter(|d| *d != domain).cloned().collect();
    let agent = config("agent.sock", agent_id(domain), &[], partners);
    let server = match first {
        Some(first) => first.server.beside(server).await?,
        None => DevWorkloadApi::start(server, Arc::new(SystemClock)).await?,
    };
    let agent = server.beside(agent).await?;
    Ok((server, agent))
}
