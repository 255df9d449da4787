//! `dirctl info`

use super::{Context, Failed, Subject};
use crate::cids::RecordArgs;
use crate::fail::{Fail, Tally};
use crate::output::Format;
use clap::Args;
use futures::stream;
use serde::Serialize;
use std::collections::BTreeMap;

const EXAMPLES: &str = "\
Examples:
  dirctl info CID
  dirctl info weather-agent:v1.2
  dirctl search --name 'weather*' | dirctl info --stdin --json";

/// Show what the server knows of records, without fetching them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    records: RecordArgs,
}

#[derive(Serialize)]
struct Info {
    cid: String,
    schema_version: String,
    created_at: String,
    annotations: BTreeMap<String, String>,
}

impl Info {
    fn lines(&self) -> String {
        let mut text = format!("cid:             {}\n", self.cid);
        for (name, value) in [("schema version", &self.schema_version), ("created at", &self.created_at)] {
            if !value.is_empty() {
                text.push_str(&format!("{:<16} {value}\n", format!("{name}:")));
            }
        }
        for (name, value) in &self.annotations {
            text.push_str(&format!("{:<16} {value}\n", format!("{name}:")));
        }
        text
    }
}

pub(crate) async fn run(context: &Context, args: InfoArgs) -> Result<u8, Fail> {
    let client = context.client().await?;
    let cids = args.records.read(&client, context.talk).await?;
    let one = cids.len() == 1;
    let mut tally = Tally::default();
    let mut rows = Vec::new();

    let mut lookup = client.lookup(stream::iter(cids.into_iter().map(|cid| (cid, cid))));
    while let Some((cid, answer)) = lookup.next().await {
        match answer {
            Ok(meta) => {
                let info = Info {
                    cid: meta.cid,
                    schema_version: meta.schema_version,
                    created_at: meta.created_at,
                    annotations: meta.annotations,
                };
                if context.out.format == Format::Human {
                    let gap = if tally.done > 0 { "\n" } else { "" };
                    context.out.line(format!("{gap}{}", info.lines().trim_end()))?;
                } else {
                    rows.push(serde_json::to_value(info).map_err(|e| Fail::local("output", e))?);
                }
                tally.worked();
            }
            Err(error) => {
                let fail = Fail::from(error);
                let told = fail.about(&cid.to_string());
                told.tell(context.talk);
                tally.failed(&fail);
                let row = Failed { subject: Subject::Cid(cid.to_string()), error: &fail };
                rows.push(serde_json::to_value(row).map_err(|e| Fail::local("output", e))?);
            }
        }
    }
    for _ in lookup.unanswered() {
        tally.failed(&Fail::local("info", "given up"));
    }
    if context.out.format != Format::Human {
        match rows.as_slice() {
            [row] if one => context.out.value(row)?,
            rows => context.out.value(&rows)?,
        }
    }
    context.sum_up("found", "records", &tally);
    Ok(tally.exit_code())
}
