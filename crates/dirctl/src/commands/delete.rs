//! `dirctl delete`

use super::{Context, Failed, Subject};
use crate::cids::CidArgs;
use crate::fail::{Fail, Tally};
use crate::output::Format;
use crate::progress::Progress;
use clap::Args;
use dir_client::exit;
use dir_core::Cid;
use futures::{StreamExt, stream};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// Deletions under way at once.
const AT_ONCE: usize = 8;
/// So many CIDs are named in the question.
const NAMED: usize = 5;

const EXAMPLES: &str = "\
Examples:
  dirctl delete CID
  dirctl search --name 'test-*' --output json | dirctl delete --stdin";

/// Delete records, and print the CIDs of those deleted
///
/// On a terminal it asks first.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    cids: CidArgs,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Serialize)]
struct Deleted {
    cid: String,
    deleted: bool,
}

pub(crate) async fn run(context: &Context, args: DeleteArgs) -> Result<u8, Fail> {
    let cids = args.cids.read()?;
    let client = context.client().await?;
    let interactive = io::stdin().is_terminal() && io::stderr().is_terminal();
    if interactive && !args.yes && !args.cids.is_piped() && !confirmed(&cids, &client.target())? {
        context.talk.note("nothing was deleted");
        return Ok(exit::GENERIC);
    }

    let progress = Progress::new(Some(cids.len() as u64), "deleting", context.talk);
    let mut tally = Tally::default();
    let mut rows = Vec::new();
    let mut answers = stream::iter(cids)
        .map(|cid| {
            let client = client.clone();
            async move { (cid, client.delete(cid).await) }
        })
        .buffered(AT_ONCE);
    while let Some((cid, answer)) = answers.next().await {
        progress.step();
        let row = match answer {
            Ok(()) => {
                tally.worked();
                if context.out.format == Format::Human {
                    context.out.line(cid.to_string())?;
                }
                serde_json::to_value(Deleted { cid: cid.to_string(), deleted: true })
            }
            Err(error) => {
                let general = error.kind().is_general();
                let fail = Fail::from(error);
                let told = fail.about(&cid.to_string());
                progress.aside(|| told.tell(context.talk));
                tally.failed(&fail);
                if general {
                    break;
                }
                serde_json::to_value(Failed { subject: Subject::Cid(cid.to_string()), error: &fail })
            }
        };
        rows.push(row.map_err(|e| Fail::local("output", e))?);
    }
    drop(progress);
    if context.out.format != Format::Human {
        context.out.value(&rows)?;
    }
    context.sum_up("deleted", "records", &tally);
    Ok(tally.exit_code())
}

fn confirmed(cids: &[Cid], target: &str) -> Result<bool, Fail> {
    let mut stderr = io::stderr().lock();
    let mut ask = || -> io::Result<String> {
        writeln!(stderr, "To be deleted from {target}:")?;
        for cid in cids.iter().take(NAMED) {
            writeln!(stderr, "  {cid}")?;
        }
        if cids.len() > NAMED {
            writeln!(stderr, "  and {} more", cids.len() - NAMED)?;
        }
        write!(stderr, "Delete {}? [y/N] ", if cids.len() == 1 { "it" } else { "them" })?;
        stderr.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|e| Fail::local("terminal", e))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
