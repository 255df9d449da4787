//! `dirctl watch`

use super::Context;
use crate::fail::Fail;
use crate::numbers;
use clap::Args;
use dir_client::{ClientError, Watch, exit, wire};
use dir_core::Cid;
use serde::Serialize;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  dirctl watch
  dirctl watch --since 0 --type pushed --label /skills/
  dirctl watch --cursor-file /var/lib/indexer/cursor | ./indexer";

/// Follow the changes of a server, one JSON object a line
///
/// The lines are JSON whatever the output format. Goes on by itself after a broken connection or a restart of the server, with nothing missing and nothing twice. With
/// --cursor-file it also goes on where the last run ended: the file is written behind each line, so a line may come twice
/// after a crash, and none is missing.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WatchArgs {
    /// Begin behind this change; 0: with the oldest that is kept [default: from now on]
    #[arg(long, value_name = "SEQ", value_parser = numbers::long, allow_negative_numbers = true)]
    since: Option<u64>,
    /// Keep the cursor in this file, and begin there if it exists
    #[arg(long, value_name = "FILE", conflicts_with = "since")]
    cursor_file: Option<PathBuf>,
    /// Only these: pushed, deleted. Taken too, though this version of the server makes none of them yet: published,
    /// unpublished, sync-created, sync-completed, sync-failed, signed, public-key-uploaded
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_type)]
    types: Vec<wire::EventType>,
    /// Only changes with a label that contains one of these texts
    #[arg(long = "label", value_name = "TEXT")]
    labels: Vec<String>,
    /// Only changes of these records
    #[arg(long = "cid", value_name = "CID")]
    cids: Vec<String>,
    /// Also tell when there is nothing to tell
    #[arg(long)]
    bookmarks: bool,
    /// End when everything that has happened until now is told
    #[arg(long)]
    once: bool,
}

const TYPES: [(&str, wire::EventType); 9] = [
    ("pushed", wire::EventType::RecordPushed),
    ("deleted", wire::EventType::RecordDeleted),
    ("published", wire::EventType::RecordPublished),
    ("unpublished", wire::EventType::RecordUnpublished),
    ("sync-created", wire::EventType::SyncCreated),
    ("sync-completed", wire::EventType::SyncCompleted),
    ("sync-failed", wire::EventType::SyncFailed),
    ("signed", wire::EventType::RecordSigned),
    ("public-key-uploaded", wire::EventType::PublicKeyUploaded),
];

fn parse_type(text: &str) -> Result<wire::EventType, String> {
    TYPES.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind).ok_or_else(|| {
        let names: Vec<_> = TYPES.iter().map(|(name, _)| *name).collect();
        format!("there are {}", names.join(", "))
    })
}

#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    labels: &'a [String],
}

fn line(message: &wire::WatchResponse) -> Line<'_> {
    match &message.kind {
        Some(wire::WatchKind::Event(event)) => {
            let kind = event.r#type();
            let name = TYPES.iter().find(|(_, k)| *k == kind).map_or("unknown", |(name, _)| *name);
            Line {
                seq: message.seq,
                r#type: name,
                cid: Some(&event.resource_id),
                at: event.timestamp.as_ref().and_then(wire::time).map(|at| at.to_string()),
                labels: &event.labels,
            }
        }
        Some(wire::WatchKind::Bookmark(_)) | None => {
            Line { seq: message.seq, r#type: "bookmark", cid: None, at: None, labels: &[] }
        }
    }
}

pub(crate) async fn run(context: &Context, args: WatchArgs) -> Result<u8, Fail> {
    let since = match &args.cursor_file {
        Some(path) => read_cursor(path)?,
        None => args.since,
    };
    for text in &args.cids {
        text.parse::<Cid>().map_err(|e| {
            let next = "--cid takes CIDs; find one with: dirctl search --name NAME";
            Fail::usage(format!("--cid {text:?}: {e}"), next)
        })?;
    }
    let client = context.client().await?;
    let request = wire::WatchRequest {
        since,
        event_types: args.types.iter().map(|kind| *kind as i32).collect(),
        label_filters: args.labels,
        cid_filters: args.cids,
    };
    let mut watch: Watch = client.watch(request);
    loop {
        let talk = context.talk;
        let told = watch.next(|error, pause| {
            talk.note(&format!("{error}; going on in {} ms", pause.as_millis()));
        });
        let message = match told.await {
            Ok(message) => message,
            Err(error) => return Err(ended(error, watch.resume(), args.cursor_file.as_deref())),
        };
        let bookmark = !matches!(message.kind, Some(wire::WatchKind::Event(_)));
        if !bookmark || args.bookmarks {
            let text = serde_json::to_string(&line(&message)).map_err(|e| Fail::local("output", e))?;
            context.out.line(text)?;
        }
        if let Some(path) = &args.cursor_file {
            write_cursor(path, message.seq).map_err(|e| Fail::local(path.display(), e))?;
        }
        if bookmark && args.once {
            return Ok(exit::OK);
        }
    }
}

/// With a file of cursors, what to do is to be done there.
fn ended(error: ClientError, resume: Option<u64>, file: Option<&Path>) -> Fail {
    let fail = Fail::from(error);
    match (resume, file) {
        (Some(since), Some(file)) => {
            let file = file.display();
            let next = format!(
                "changes were missed: list what is there, then write {since} into {file}, or remove it to begin from \
                 now on"
            );
            Fail { next, ..fail }
        }
        _ => fail,
    }
}

/// `None` for a file that is not there yet.
fn read_cursor(path: &Path) -> Result<Option<u64>, Fail> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Fail::local(path.display(), e)),
    };
    text.trim().parse().map(Some).map_err(|_digits| {
        let next = "it holds one number; remove it to begin from now on";
        Fail::config(format!("{}: no cursor in it", path.display()), next)
    })
}

/// Beside it first, then in its place.
fn write_cursor(path: &Path, seq: u64) -> io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    fs::write(&part, format!("{seq}\n"))?;
    fs::rename(&part, path)
}
