//! `dirctl pull`

use super::{Context, Failed, Subject};
use crate::cids::RecordArgs;
use crate::fail::{Fail, Tally};
use crate::output::Format;
use crate::progress::Progress;
use clap::Args;
use dir_core::Record;
use futures::stream;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  dirctl pull CID
  dirctl pull weather-agent:v1.2
  dirctl pull CID --json | jq -r .name
  dirctl search --skill 'natural_language*' | dirctl pull --stdin --output-dir records/";

/// Fetch records, each checked against its CID
///
/// One record is printed as itself, several as a list in JSON and YAML.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PullArgs {
    #[command(flatten)]
    records: RecordArgs,
    /// Write each record to DIR/CID.json, in the bytes its CID is made of, and print the paths
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Print the bytes the CID is made of, one record a line, whatever the output format
    #[arg(long, conflicts_with = "output_dir")]
    raw: bool,
}

pub(crate) async fn run(context: &Context, args: PullArgs) -> Result<u8, Fail> {
    if let Some(dir) = &args.output_dir {
        std::fs::create_dir_all(dir).map_err(|e| Fail::local(dir.display(), e))?;
    }
    let client = context.client().await?;
    let cids = args.records.read(&client, context.talk).await?;
    let progress = Progress::new(Some(cids.len() as u64), "pulling", context.talk);
    let as_list = cids.len() > 1;
    let mut tally = Tally::default();
    let mut records: Vec<Record> = Vec::new();
    let mut paths: Vec<String> = Vec::new();
    let mut failed = None;

    let mut pull = client.pull(stream::iter(cids.into_iter().map(|cid| (cid, cid))));
    while let Some((cid, answer)) = pull.next().await {
        progress.step();
        let done = match (answer, &args.output_dir) {
            (Err(error), _) => Err(Fail::from(error)),
            (Ok(record), Some(dir)) => match save(dir, &record) {
                Ok(path) if context.out.format == Format::Human => Ok(context.out.line(path)?),
                Ok(path) => {
                    paths.push(path);
                    Ok(())
                }
                Err(fail) => Err(fail),
            },
            (Ok(record), None) if args.raw => Ok(context.out.line(record.bytes())?),
            (Ok(record), None) if context.out.format == Format::Human => {
                Ok(context.out.records(&[record.bytes()], false)?)
            }
            (Ok(record), None) => {
                records.push(record);
                Ok(())
            }
        };
        match done {
            Ok(()) => tally.worked(),
            Err(fail) => {
                tally.failed(&fail);
                let told = fail.about(&cid.to_string());
                progress.aside(|| told.tell(context.talk));
                failed = Some((cid, fail));
            }
        }
    }
    drop(progress);
    for _ in pull.unanswered() {
        tally.failed(&Fail::local("pull", "given up"));
    }
    if context.out.format != Format::Human && !args.raw {
        if args.output_dir.is_some() {
            context.out.value(&paths)?;
        } else if !records.is_empty() || as_list {
            let bytes: Vec<&[u8]> = records.iter().map(|r| r.bytes().as_ref()).collect();
            context.out.records(&bytes, as_list)?;
        } else if let Some((cid, error)) = &failed {
            // In the place of the one record that was asked for.
            context.out.value(&Failed { subject: Subject::Cid(cid.to_string()), error })?;
        }
    }
    context.sum_up("pulled", "records", &tally);
    Ok(tally.exit_code())
}

/// Writes a record beside its final name and renames it, so that nobody sees half a file.
///
/// Blocks for the moment of a write: the connection is driven by other threads.
fn save(dir: &Path, record: &Record) -> Result<String, Fail> {
    let path = dir.join(format!("{}.json", record.cid()));
    let part = dir.join(format!(".{}.{}.part", record.cid(), std::process::id()));
    let written = std::fs::write(&part, record.bytes()).and_then(|()| std::fs::rename(&part, &path));
    written.map_err(|e| Fail::local(path.display(), e))?;
    Ok(path.display().to_string())
}
