//! Figures of the door: handshakes beside a bare acceptor, and honest callers beside attackers.

use crate::bench::ReportArgs;
use crate::load::{Call, Outcome};
use crate::process::Running;
use crate::report::{Report, median, spread};
use crate::world::{Store, World};

/// Callers that are looked at while the server is attacked.
const HONEST: [&str; 4] = ["--callers", "8", "--connections", "4"];

/// Full mTLS handshakes, alternating between the product's acceptor and a bare one.
pub(crate) fn handshakes(world: &World, args: &ReportArgs, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("measuring: handshakes");
    let (ours, our_port) = world.door(false)?;
    let (bare, bare_port) = world.door(true)?;
    let (mut rates, mut bare_rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        let beside = world.knock(bare_port, args.millis)?.rate();
        let rate = world.knock(our_port, args.millis)?.rate();
        ratios.push(rate / beside);
        rates.push(rate);
        bare_rates.push(beside);
    }
    drop((ours, bare));
    report.figure("full mTLS handshakes", median(&rates), "1/s", spread(&rates), "");
    report.figure("the same, bare acceptor", median(&bare_rates), "1/s", spread(&bare_rates), "");
    report.figure("handshakes, ratio to the bare acceptor", median(&ratios), "", spread(&ratios), "≥ 0.8");
    Ok(())
}

/// Latency of honest callers on a quiet server, and beside idle connections and attackers.
pub(crate) fn siege(world: &World, args: &ReportArgs, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("measuring: honest callers beside attackers");
    let (server, port) = world.directory("embedded", &Store::Layout)?;
    let millis = args.millis.to_string();
    let honest = || world.measure(Call::Pull, port, &[&HONEST[..], &["--millis", &millis]].concat());
    let quiet = rounds(args.rounds, honest)?;
    let n = args.besiegers_idle.to_string();
    let more = ["--connections", &n, "--callers", &n, "--calls", &n, "--millis", "120000", "--hold"];
    let (idle, line) = Running::holding(&mut world.load(Call::Pull, port, &more)?)?;
    let opened: Outcome = serde_json::from_str(&line)?;
    anyhow::ensure!(opened.errors == 0, "{} idle connections failed", opened.errors);
    let (attackers, _) = Running::holding(&mut world.siege(port, args.besiegers)?)?;
    let besieged = rounds(args.rounds, honest)?;
    drop((attackers, idle));
    let ratios: Vec<f64> =
        quiet.iter().zip(&besieged).map(|(q, b)| f64::from(b.p99_us) / f64::from(q.p99_us.max(1))).collect();
    let p99 = |of: &[Outcome]| median(&of.iter().map(|o| o.p99_us).collect::<Vec<_>>());
    let errors: u64 = besieged.iter().map(|o| o.errors).sum();
    let detail = format!("{}, {} → {} µs, {errors} errors", spread(&ratios), p99(&quiet), p99(&besieged));
    let name = format!("pull p99 beside {n} idle and {} attackers, ratio", args.besiegers);
    report.figure(name, median(&ratios), "", detail, "≤ 3");
    server.terminate()
}

fn rounds(count: u32, each: impl Fn() -> anyhow::Result<Outcome>) -> anyhow::Result<Vec<Outcome>> {
    (0..count).map(|_| each()).collect()
}
