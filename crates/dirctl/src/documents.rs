//! Documents from files, folders and stdin.

use crate::fail::Fail;
use clap::{Args, ValueEnum};
use dir_client::Document;
use futures::stream::{self, BoxStream, StreamExt};
use std::path::{Path, PathBuf};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

/// Largest input that is read as a whole, in bytes: room for the largest document any server takes, and for arrays.
const INPUT_MAX: u64 = 256 * 1024 * 1024;

/// How documents lie in files and on stdin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layout {
    /// One JSON document
    Json,
    /// One JSON document a line
    Ndjson,
    /// One JSON array of documents
    Array,
}

/// Which documents.
#[derive(Debug, Clone, Args)]
pub(crate) struct DocumentArgs {
    /// Files, folders (every *.json in them and below) or "-" for stdin
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// How documents lie in each file and on stdin
    #[arg(long, value_enum, default_value = "json")]
    input: Layout,
}

/// A document and where it was found, or why there is none.
pub(crate) struct Item {
    pub(crate) source: String,
    pub(crate) document: Result<Document, Fail>,
}

impl DocumentArgs {
    /// The inputs in order, folders expanded. Missing paths are found out before anything is sent.
    pub(crate) fn inputs(&self) -> Result<Vec<PathBuf>, Fail> {
        let mut files = Vec::new();
        for path in &self.paths {
            if path.is_dir() {
                let before = files.len();
                walk(path, &mut files)?;
                if files.len() == before {
                    let next = "name files, or a folder that holds some";
                    return Err(Fail::usage(format!("{}: no *.json in this folder", path.display()), next));
                }
            } else if path.as_os_str() == "-" || path.exists() {
                files.push(path.clone());
            } else {
                return Err(Fail::usage(format!("{}: no such file or folder", path.display()), ""));
            }
        }
        Ok(files)
    }

    /// How many documents there are, where that is known beforehand.
    pub(crate) fn count(&self, inputs: &[PathBuf]) -> Option<u64> {
        (self.input == Layout::Json).then_some(inputs.len() as u64)
    }

    /// The documents, read one after the other.
    pub(crate) fn read(&self, inputs: Vec<PathBuf>) -> BoxStream<'static, Item> {
        let layout = self.input;
        stream::iter(inputs).then(move |path| open(path, layout)).flatten().boxed()
    }
}

/// Every `*.json` below, in order of names. Links to folders are not followed: they may form circles.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Fail> {
    let failed = |e: std::io::Error| Fail::local(folder.display(), e);
    let mut entries: Vec<_> =
        std::fs::read_dir(folder).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_type().map_err(failed)?.is_dir() {
            walk(&path, files)?;
        } else if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
            files.push(path);
        }
    }
    Ok(())
}

async fn open(path: PathBuf, layout: Layout) -> BoxStream<'static, Item> {
    let name = if path.as_os_str() == "-" { "stdin".to_owned() } else { path.display().to_string() };
    if layout == Layout::Json && path.is_file() {
        let document = regular(&path, &name).and_then(|bytes| parse(&name, &bytes));
        return one(Item { source: name, document });
    }
    let input: Box<dyn AsyncRead + Send + Unpin> = if path.as_os_str() == "-" {
        Box::new(tokio::io::stdin())
    } else {
        match tokio::fs::File::open(&path).await {
            Ok(file) => Box::new(file),
            Err(error) => return one(Item { document: Err(Fail::local(&name, error)), source: name }),
        }
    };
    match layout {
        Layout::Ndjson => lines(name, input),
        Layout::Json => {
            let document = whole(input, &name).await.and_then(|bytes| parse(&name, &bytes));
            one(Item { source: name, document })
        }
        Layout::Array => match whole(input, &name).await {
            Ok(bytes) => array(&name, &bytes),
            Err(fail) => one(Item { source: name, document: Err(fail) }),
        },
    }
}

fn one(item: Item) -> BoxStream<'static, Item> {
    stream::iter([item]).boxed()
}

fn parse(source: &str, bytes: &[u8]) -> Result<Document, Fail> {
    Document::from_json(bytes).map_err(|e| Fail::document(source, e))
}

/// A regular file, read at once: that is many times faster than by way of a thread pool, and cannot wait for anybody.
fn regular(path: &Path, name: &str) -> Result<Vec<u8>, Fail> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| Fail::local(name, e))?;
    file.take(INPUT_MAX + 1).read_to_end(&mut bytes).map_err(|e| Fail::local(name, e))?;
    bounded(bytes, name)
}

fn bounded(bytes: Vec<u8>, name: &str) -> Result<Vec<u8>, Fail> {
    if bytes.len() as u64 <= INPUT_MAX {
        return Ok(bytes);
    }
    let cause = format!("larger than {INPUT_MAX} bytes; use --input ndjson for many documents");
    Err(Fail::document(name, cause))
}

async fn whole(input: impl AsyncRead + Unpin, name: &str) -> Result<Vec<u8>, Fail> {
    let mut bytes = Vec::new();
    input.take(INPUT_MAX + 1).read_to_end(&mut bytes).await.map_err(|e| Fail::local(name, e))?;
    bounded(bytes, name)
}

fn array(name: &str, bytes: &[u8]) -> BoxStream<'static, Item> {
    match crate::json::elements(bytes) {
        Err(cause) => one(Item { source: name.to_owned(), document: Err(Fail::document(name, cause)) }),
        Ok(elements) => {
            let numbered = elements.into_iter().enumerate().map(|(at, text)| {
                let source = format!("{name}[{at}]");
                Item { document: parse(&source, text), source }
            });
            stream::iter(numbered.collect::<Vec<_>>()).boxed()
        }
    }
}

/// Line by line, so that a pipe can go on for ever. Empty lines are skipped.
fn lines(name: String, input: impl AsyncRead + Send + Unpin + 'static) -> BoxStream<'static, Item> {
    let start = (BufReader::new(input), name, 0_usize, false);
    stream::unfold(start, |(mut reader, name, mut number, over)| async move {
        if over {
            return None;
        }
        loop {
            let mut line = Vec::new();
            let source = |number: usize| format!("{name}:{number}");
            match (&mut reader).take(INPUT_MAX).read_until(b'\n', &mut line).await {
                Ok(0) => return None,
                Ok(_) => {
                    number += 1;
                    let text = line.trim_ascii();
                    if text.is_empty() {
                        continue;
                    }
                    let source = source(number);
                    let item = Item { document: parse(&source, text), source };
                    return Some((item, (reader, name, number, false)));
                }
                Err(error) => {
                    let item = Item { document: Err(Fail::local(&name, error)), source: source(number + 1) };
                    return Some((item, (reader, name, number, true)));
                }
            }
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(args: &DocumentArgs) -> Vec<(String, bool)> {
        let items = args.read(args.inputs().unwrap());
        items.map(|item| (item.source, item.document.is_ok())).collect().await
    }

    #[tokio::test]
    async fn folders_are_read_in_order_and_in_depth() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("b")).unwrap();
        for (name, text) in [("c.json", "{}"), ("a.JSON", "{"), ("b/x.json", "{}"), ("readme.md", "{}")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let args = DocumentArgs { paths: vec![dir.path().to_owned()], input: Layout::Json };
        assert_eq!(args.count(&args.inputs().unwrap()), Some(3));
        let found: Vec<_> = read(&args)
            .await
            .into_iter()
            .map(|(source, ok)| (source.rsplit('/').next().unwrap().to_owned(), ok))
            .collect();
        assert_eq!(found, [("a.JSON".into(), false), ("x.json".into(), true), ("c.json".into(), true)]);
    }

    #[tokio::test]
    async fn many_documents_in_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("all");
        let args = |input| DocumentArgs { paths: vec![file.clone()], input };
        std::fs::write(&file, "{}\n\n{\"a\":1}\r\nnope\n{}").unwrap();
        let found: Vec<bool> = read(&args(Layout::Ndjson)).await.into_iter().map(|(_, ok)| ok).collect();
        assert_eq!(found, [true, true, false, true]);
        std::fs::write(&file, "[{}, {\"a\":\",\"}, nope]").unwrap();
        let found: Vec<bool> = read(&args(Layout::Array)).await.into_iter().map(|(_, ok)| ok).collect();
        assert_eq!(found, [true, true, false]);
        std::fs::write(&file, "{}").unwrap();
        assert_eq!(read(&args(Layout::Array)).await.len(), 1);
    }

    #[test]
    fn inputs_have_a_limit() {
        // Untouched zeroes: address space, not memory.
        assert!(bounded(vec![0; 256 << 20], "x").is_ok());
        let fail = bounded(vec![0; (256 << 20) + 1], "x").unwrap_err();
        assert!(fail.message.starts_with("x: larger than 268435456 bytes"), "{fail:?}");
    }

    #[test]
    fn what_is_missing_is_said_first() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().join("absent.json"), dir.path().to_owned()] {
            let args = DocumentArgs { paths: vec![path], input: Layout::Json };
            assert_eq!(args.inputs().unwrap_err().code, 2);
        }
    }
}
