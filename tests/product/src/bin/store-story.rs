//! `make store-story`: the story of `product_tests::store_story` with as many records as wanted, and its times.

use clap::Parser;
use product_tests::store_story::{Plan, run};
use std::time::Duration;

#[derive(Debug, Parser)]
struct Args {
    /// Records in one repository.
    #[arg(long, default_value_t = 30_000)]
    records: u64,
    /// How many of them move online.
    #[arg(long, default_value_t = 1000)]
    online: u64,
    /// No further portion of them begins after so many minutes.
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Let the registry keep equal contents once.
    #[arg(long)]
    dedupe: bool,
}

fn main() -> anyhow::Result<()> {
    let Args { records, online, minutes, dedupe } = Args::parse();
    let dir = tempfile::tempdir()?;
    let plan = Plan { records, online, pulls: 20, longest: Duration::from_secs(60 * minutes), dedupe };
    run(dir.path(), plan, &mut |stage| {
        println!("{:>8.1} s  {}: {}", stage.took.as_secs_f64(), stage.name, stage.result);
    })
}
