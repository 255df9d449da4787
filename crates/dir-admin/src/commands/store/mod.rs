//! `dir-admin store`

mod offline;
mod online;
mod paths;
mod refusal;
mod summary;
mod tell;

use super::failed;
use super::mark::Mark;
use crate::cli::GlobalArgs;
use crate::report::Failure;
use clap::{Args, Subcommand, ValueEnum};
use dir_client::exit;
use std::path::PathBuf;
use summary::Summary;

/// The store of a server: what is in it, what is wrong with it, how it is laid out
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    Audit(AuditArgs),
    Repair(RepairArgs),
    Reshard(ReshardArgs),
    Reindex(ReindexArgs),
}

/// Where the store is: behind a server, or in the directory of a registry that is stopped.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// Work on this data directory of a stopped Zot instead of asking a server
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// In the data directory: the repository, and stem of the shards' names (store.oci.repository_name)
    #[arg(long, value_name = "NAME", default_value = "dir", requires = "data_dir")]
    repository: String,
}

/// The index beside it.
#[derive(Debug, Args)]
pub(crate) struct IndexArgs {
    /// With a data directory: the index of a stopped server (database.embedded.path)
    #[arg(long, value_name = "DIR", requires = "data_dir")]
    index: Option<PathBuf>,
}

const AUDIT_EXAMPLES: &str = "\
Examples:
  dir-admin store audit
  dir-admin store audit --contents --output json
  dir-admin store audit --data-dir /var/lib/zot --index /var/lib/directory/index";

/// Look at everything in the store and compare it with the index; change nothing
///
/// Finds orphans (referrers whose record is gone), lost tags, duplicates and strays (records where the layout does not
/// want them), broken records, and drift between index and store. Exit code 10 when something is wrong. The job runs in
/// the server as long as this command does; one runs at a time.
#[derive(Debug, Args)]
#[command(after_help = AUDIT_EXAMPLES)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    index: IndexArgs,
    /// Read every record and hash it, not only its manifest
    #[arg(long)]
    contents: bool,
    /// Go on where an earlier run got to: the mark that it printed
    #[arg(long, value_name = "MARK")]
    from: Option<String>,
}

const REPAIR_EXAMPLES: &str = "\
Examples:
  dir-admin store repair --dry-run
  dir-admin store repair --yes --restore-lost-tags";

/// Look at everything as audit does, and set right what it finds
///
/// Removes orphans, brings misplaced records home, takes records into the index that it lacks, and rows out of it whose
/// records are gone. Broken records and what belongs to others are only named. Exit code 10 when something is left.
#[derive(Debug, Args)]
#[command(after_help = REPAIR_EXAMPLES)]
#[allow(clippy::struct_excessive_bools)] // flags
pub(crate) struct RepairArgs {
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Needed unless it is a dry run: orphaned referrers and rows without a record go
    #[arg(long, required_unless_present = "dry_run")]
    yes: bool,
    /// Read every record and hash it, not only its manifest
    #[arg(long)]
    contents: bool,
    /// Write the manifest anew of records that the index has, the store has not, and whose content is still there
    /// (somebody else may have deleted them on purpose)
    #[arg(long)]
    restore_lost_tags: bool,
    /// Rows that may go from the index, in hundredths of all rows; more are left and named
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=100))]
    max_removal_percent: u32,
    /// Go on where an earlier run got to: the mark that it printed
    #[arg(long, value_name = "MARK")]
    from: Option<String>,
}

const RESHARD_EXAMPLES: &str = "\
Examples:
  dir-admin store reshard --to sharded --dry-run
  dir-admin store reshard --to sharded --limit 1000
  dir-admin store reshard --to sharded
  dir-admin store reshard --to sharded --data-dir /var/lib/zot --yes";

/// A layout of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layout {
    /// One repository for each of 4,096 parts of the digest space
    Sharded,
    /// Everything in one repository
    Single,
}

impl Layout {
    const fn name(self) -> &'static str {
        match self {
            Layout::Sharded => "sharded",
            Layout::Single => "single",
        }
    }
}

/// Move every record to where another layout wants it, while everybody is served
///
/// Only a registry has layouts. May be stopped at any moment, by either side: the next run goes on with what is left.
/// Exit code 10 when a limit ended it, or records are left that cannot be moved.
///
/// With --data-dir the registry is stopped, and its directory is converted without a request: repositories of the new
/// layout are made of hard links (copies across file systems), tags and referrers included, and served after the
/// registry's next start. Refused when a registry can be seen to run over the directory.
#[derive(Debug, Args)]
#[command(after_help = RESHARD_EXAMPLES)]
pub(crate) struct ReshardArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The layout that is wanted
    #[arg(long, value_enum, value_name = "LAYOUT")]
    to: Layout,
    /// Only say what would be moved
    #[arg(long)]
    dry_run: bool,
    /// End after so many records; the next run goes on
    #[arg(long, value_name = "RECORDS", conflicts_with = "data_dir", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Needed with --data-dir unless it is a dry run: the registry is stopped, on whatever machine it runs
    #[arg(long)]
    yes: bool,
}

const REINDEX_EXAMPLES: &str = "\
Examples:
  dir-admin store reindex --data-dir /var/lib/zot --index /var/lib/directory/index";

/// Make a server's index from the data directory of a stopped registry
///
/// What takes hours through a registry with very many records in one repository takes seconds. Registry and server are
/// stopped. An index that is not there yet appears when it is whole; one that is there gets what it lacks. Exit code 10
/// when records had to be left out.
#[derive(Debug, Args)]
#[command(after_help = REINDEX_EXAMPLES)]
pub(crate) struct ReindexArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    index: IndexArgs,
}

impl StoreCommand {
    /// Its name in reports.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            StoreCommand::Audit(_) => "store audit",
            StoreCommand::Repair(_) => "store repair",
            StoreCommand::Reshard(_) => "store reshard",
            StoreCommand::Reindex(_) => "store reindex",
        }
    }
}

pub(crate) async fn run(global: &GlobalArgs, command: StoreCommand, mark: &Mark) -> u8 {
    let what = command.name();
    let outcome = match command {
        StoreCommand::Audit(args) => audit(global, args, mark).await,
        StoreCommand::Repair(args) => online::repair(global, args, mark).await,
        StoreCommand::Reshard(args) => reshard(global, args, mark).await,
        StoreCommand::Reindex(args) => reindex(&args, mark).await,
    };
    match outcome {
        Ok(summary) => {
            super::print(&summary.text(global.output));
            if summary.is_good() { exit::OK } else { exit::PARTIAL }
        }
        Err(failure) => failed(global, what, &failure),
    }
}

async fn audit(global: &GlobalArgs, args: AuditArgs, mark: &Mark) -> Result<Summary, Failure> {
    match &args.place.data_dir {
        Some(dir) => offline::audit(&args, dir, mark).await,
        None => online::audit(global, args, mark).await,
    }
}

async fn reshard(global: &GlobalArgs, args: ReshardArgs, mark: &Mark) -> Result<Summary, Failure> {
    match &args.place.data_dir {
        Some(_) if !args.yes && !args.dry_run => {
            let next = "give --yes when it is stopped, or --dry-run";
            Err(usage("a registry that runs over the directory would lose what is written meanwhile", next))
        }
        Some(dir) => offline::reshard(&args, dir, mark).await,
        None => online::reshard(global, args, mark).await,
    }
}

async fn reindex(args: &ReindexArgs, mark: &Mark) -> Result<Summary, Failure> {
    match (&args.place.data_dir, &args.index.index) {
        (Some(dir), Some(index)) => offline::reindex(&args.place, dir, index, mark).await,
        _ => Err(usage(
            "reindex needs --data-dir and --index",
            "a server that runs compares and repairs by itself",
        )),
    }
}

fn usage(message: &str, next: &str) -> Failure {
    Failure::new("usage", message.to_owned(), next.to_owned(), exit::USAGE)
}
