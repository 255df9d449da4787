//! `make soak`: a thousand rotations of leaves and CAs under load. Ends with 1 when a single call failed.

use clap::Parser;
use product_tests::rotation::{Plan, run};
use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    product_tests::init();
    let plan = Plan::parse();
    let dir = tempfile::Builder::new().prefix("soak").tempdir_in("/tmp")?;
    let outcome = run(dir.path(), &product_tests::our("caller")?, &plan)?;
    println!("{outcome}");
    Ok(if outcome.tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
