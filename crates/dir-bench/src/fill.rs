//! `dir-bench fill`: a store of any size in seconds.

use clap::{Args, ValueEnum};
use dir_testkit::fill::{Fill, Shape, Tagging, fill};
use std::path::PathBuf;
use std::time::Instant;

/// What is filled.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// A store directory (`store.oci.local_dir`).
    Layout,
    /// The data directory of a stopped Zot, sharded.
    ZotSharded,
    /// The data directory of a stopped Zot, everything in one repository.
    ZotSingle,
}

#[derive(Debug, Args)]
pub(crate) struct FillArgs {
    /// Directory to fill; must be empty or absent.
    #[arg(long)]
    dir: PathBuf,
    /// How many records.
    #[arg(long, default_value_t = 30_000)]
    records: u64,
    /// Where the generator starts: the same seed gives the same bytes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What the directory is.
    #[arg(long, value_enum, default_value = "layout")]
    kind: Kind,
    /// Repository, and stem of the shards' names.
    #[arg(long, default_value = "dir")]
    repository: String,
    /// Attach a public key and a signature to every so many records; 0 to none.
    #[arg(long, default_value_t = 0)]
    referrers_every: u64,
    /// Leave these referrers without tags.
    #[arg(long)]
    untagged: bool,
}

pub(crate) fn run(args: &FillArgs) -> anyhow::Result<()> {
    let shape = match args.kind {
        Kind::Layout => Shape::Layout,
        Kind::ZotSharded => Shape::Sharded,
        Kind::ZotSingle => Shape::Single,
    };
    let order = Fill {
        seed: args.seed,
        repository: args.repository.clone(),
        referrers_every: args.referrers_every,
        tagging: if args.untagged { Tagging::Untagged } else { Tagging::OwnCid },
        ..Fill::new(shape, args.records)
    };
    let begun = Instant::now();
    let filled = fill(&args.dir, &order, |n| eprintln!("{n} records"))?;
    let seconds = begun.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss)] // a rate for people
    let rate = filled.cids.len() as f64 / seconds;
    println!(
        "{} records and {} referrers in {} repositories, {} MiB, in {seconds:.1} s: {rate:.0} records/s",
        filled.cids.len(),
        filled.referrers,
        filled.repositories,
        filled.bytes >> 20
    );
    Ok(())
}
