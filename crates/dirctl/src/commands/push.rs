//! `dirctl push`

use super::{Context, Failed, Subject};
use crate::documents::{DocumentArgs, Item};
use crate::fail::{Fail, Tally};
use crate::output::Format;
use crate::progress::Progress;
use clap::Args;
use dir_core::Cid;
use futures::{Stream, StreamExt, future};
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};

const EXAMPLES: &str = "\
Examples:
  dirctl push agent.json
  dirctl push records/
  jq -c '.[]' agents.json | dirctl push - --input ndjson
  dirctl push records/ --json | jq -r '.[].cid'";

/// Store records, and print their CIDs
///
/// Documents that are no records, and records that the server refuses, are told on stderr; the others are stored all
/// the same (exit code 10). Storing a record again changes nothing.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PushArgs {
    #[command(flatten)]
    documents: DocumentArgs,
}

#[derive(Serialize)]
struct Pushed {
    source: String,
    cid: String,
}

/// What became of each document: its number, its source.
type Outcome = (usize, String, Result<Cid, Fail>);

pub(crate) async fn run(context: &Context, args: PushArgs) -> Result<u8, Fail> {
    let inputs = args.documents.inputs()?;
    let progress = Progress::new(args.documents.count(&inputs), "pushing", context.talk);
    let client = context.client().await?;

    let unread = Arc::new(Mutex::new(Vec::new()));
    let documents = readable(args.documents.read(inputs), Arc::clone(&unread));
    let take_unread = || std::mem::take(&mut *unread.lock().unwrap_or_else(PoisonError::into_inner));
    let mut push = client.push(documents);
    let mut report = Report { context, progress, tally: Tally::default(), outcomes: Vec::new() };
    let mut last = None;
    while let Some(((number, source), answer)) = push.next().await {
        for (number, source, fail) in take_unread() {
            report.add((number, source, Err(fail)))?;
        }
        let answer = answer.map_err(Fail::from);
        last = answer.as_ref().err().cloned();
        report.add((number, source, answer))?;
    }
    for (number, source, fail) in take_unread() {
        report.add((number, source, Err(fail)))?;
    }
    if let Some(fail) = last {
        for (number, source) in push.unanswered() {
            let message = "not stored: the connection was given up before".to_owned();
            report.count((number, source, Err(Fail { message, next: String::new(), ..fail.clone() })));
        }
    }
    report.finish()
}

/// Numbers the documents and sets aside what cannot be read.
fn readable(
    items: impl Stream<Item = Item> + Send + 'static,
    unread: Arc<Mutex<Vec<(usize, String, Fail)>>>,
) -> impl Stream<Item = ((usize, String), dir_client::Document)> + Send + 'static {
    items.enumerate().filter_map(move |(number, item)| {
        future::ready(match item.document {
            Ok(document) => Some(((number, item.source), document)),
            Err(fail) => {
                unread.lock().unwrap_or_else(PoisonError::into_inner).push((number, item.source, fail));
                None
            }
        })
    })
}

struct Report<'a> {
    context: &'a Context,
    progress: Progress,
    tally: Tally,
    outcomes: Vec<Outcome>,
}

impl Report<'_> {
    /// Counts an outcome and tells it at once.
    fn add(&mut self, outcome: Outcome) -> Result<(), Fail> {
        let (_, source, result) = &outcome;
        match result {
            Ok(cid) if self.context.out.format == Format::Human => self.context.out.line(cid.to_string())?,
            Ok(_) => {}
            Err(fail) => {
                self.progress.aside(|| fail.about(source).tell(self.context.talk));
            }
        }
        self.count(outcome);
        Ok(())
    }

    fn count(&mut self, outcome: Outcome) {
        match &outcome.2 {
            Ok(_) => self.tally.worked(),
            Err(fail) => self.tally.failed(fail),
        }
        self.progress.step();
        if self.context.out.format != Format::Human {
            self.outcomes.push(outcome);
        }
    }

    fn finish(mut self) -> Result<u8, Fail> {
        drop(self.progress);
        if self.context.out.format != Format::Human {
            self.outcomes.sort_by_key(|(number, ..)| *number);
            let rows: Vec<serde_json::Value> = self
                .outcomes
                .iter()
                .map(row)
                .collect::<Result<_, _>>()
                .map_err(|e| Fail::local("output", e))?;
            self.context.out.value(&rows)?;
        }
        self.context.sum_up("stored", "documents", &self.tally);
        Ok(self.tally.exit_code())
    }
}

fn row((_, source, result): &Outcome) -> serde_json::Result<serde_json::Value> {
    match result {
        Ok(cid) => serde_json::to_value(Pushed { source: source.clone(), cid: cid.to_string() }),
        Err(error) => serde_json::to_value(Failed { subject: Subject::Source(source.clone()), error }),
    }
}
