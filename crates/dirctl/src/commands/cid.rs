//! `dirctl cid`

use super::{Context, Failed, Subject};
use crate::documents::DocumentArgs;
use crate::fail::{Fail, Tally};
use crate::output::Format;
use clap::Args;
use futures::StreamExt;
use serde::Serialize;

const EXAMPLES: &str = "\
Examples:
  dirctl cid agent.json
  cat agent.json | dirctl cid -";

/// Compute the CIDs that documents would be stored under, without a server
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CidFileArgs {
    #[command(flatten)]
    documents: DocumentArgs,
}

#[derive(Serialize)]
struct Computed {
    source: String,
    cid: String,
}

pub(crate) async fn run(context: &Context, args: CidFileArgs) -> Result<u8, Fail> {
    let mut items = args.documents.read(args.documents.inputs()?);
    let mut tally = Tally::default();
    let mut rows = Vec::new();
    while let Some(item) = items.next().await {
        let row = match item.document {
            Ok(document) => {
                tally.worked();
                if context.out.format == Format::Human {
                    context.out.line(document.cid().to_string())?;
                }
                serde_json::to_value(Computed { source: item.source, cid: document.cid().to_string() })
            }
            Err(fail) => {
                fail.tell(context.talk);
                tally.failed(&fail);
                serde_json::to_value(Failed { subject: Subject::Source(item.source), error: &fail })
            }
        };
        rows.push(row.map_err(|e| Fail::local("output", e))?);
    }
    if context.out.format != Format::Human {
        context.out.value(&rows)?;
    }
    Ok(tally.exit_code())
}
