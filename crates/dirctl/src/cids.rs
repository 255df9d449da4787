//! CIDs from arguments and stdin.

use crate::fail::Fail;
use crate::output::Talk;
use dir_client::{Client, Kind, Named};
use dir_core::Cid;
use std::collections::HashSet;
use std::io::Read;

/// Most bytes of a list of CIDs on stdin: a million of them.
const STDIN_MAX: u64 = 64 * 1024 * 1024;

/// CIDs to work on.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct CidArgs {
    /// CIDs of records (59 characters, "baearei…")
    #[arg(value_name = "CID")]
    cids: Vec<String>,
    /// Read CIDs from stdin: one a line, or one JSON array of strings
    #[arg(long)]
    stdin: bool,
}

impl CidArgs {
    /// The CIDs, each once, in the order given. None at all is an error.
    pub(crate) fn read(&self) -> Result<Vec<Cid>, Fail> {
        if self.stdin {
            let mut text = String::new();
            let read = std::io::stdin().lock().take(STDIN_MAX).read_to_string(&mut text);
            read.map_err(|e| Fail::local("stdin", e))?;
            parse_text(&text)
        } else {
            parse(self.cids.iter().map(String::as_str))
        }
    }

    pub(crate) fn is_piped(&self) -> bool {
        self.stdin
    }
}

fn parse_text(text: &str) -> Result<Vec<Cid>, Fail> {
    let cids = if text.trim_start().starts_with('[') {
        let list: Vec<String> = serde_json::from_str(text)
            .map_err(|e| Fail::usage(format!("stdin: not a JSON array of strings: {e}"), ""))?;
        parse(list.iter().map(String::as_str))?
    } else {
        parse(text.lines().map(str::trim).filter(|line| !line.is_empty()))?
    };
    if cids.is_empty() {
        return Err(Fail::usage("stdin: no CID", "pipe CIDs in, one a line or as one JSON array"));
    }
    Ok(cids)
}

fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<Cid>, Fail> {
    let mut seen = HashSet::new();
    let mut cids = Vec::new();
    for text in texts {
        let cid: Cid = text.parse().map_err(|e| {
            let next = "this command takes CIDs; find one with: dirctl search --name NAME";
            Fail::usage(format!("{text:?}: {e}"), next)
        })?;
        if seen.insert(cid) {
            cids.push(cid);
        }
    }
    Ok(cids)
}

/// A record as people write it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reference {
    Cid(Cid),
    /// A name, and a version if one is written.
    Name(String, Option<String>),
}

impl Reference {
    /// A CID, `name` or `name:version`. A colon before a slash belongs to the name, as in `https://example.org/agent`.
    fn parse(text: &str) -> Self {
        if let Ok(cid) = text.parse() {
            return Self::Cid(cid);
        }
        match text.rsplit_once(':') {
            Some((name, version)) if !name.is_empty() && !version.is_empty() && !version.contains('/') => {
                Self::Name(name.to_owned(), Some(version.to_owned()))
            }
            _ => Self::Name(text.to_owned(), None),
        }
    }
}

/// Records to read.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct RecordArgs {
    /// Records: a CID, NAME for the newest record of that name, or NAME:VERSION
    #[arg(value_name = "RECORD", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    records: Vec<String>,
    /// Read CIDs from stdin: one a line, or one JSON array of strings
    #[arg(long)]
    stdin: bool,
}

impl RecordArgs {
    /// Their CIDs, each once, in the order given. Names are asked for; one that is unknown is an error.
    pub(crate) async fn read(&self, client: &Client, talk: Talk) -> Result<Vec<Cid>, Fail> {
        if self.stdin {
            return CidArgs { cids: Vec::new(), stdin: true }.read();
        }
        let mut cids = Vec::new();
        for text in &self.records {
            let cid = match Reference::parse(text) {
                Reference::Cid(cid) => cid,
                Reference::Name(name, version) => {
                    newest(client, talk, text, &name, version.as_deref()).await?
                }
            };
            if !cids.contains(&cid) {
                cids.push(cid);
            }
        }
        Ok(cids)
    }
}

/// The newest record of a name.
async fn newest(
    client: &Client,
    talk: Talk,
    text: &str,
    name: &str,
    version: Option<&str>,
) -> Result<Cid, Fail> {
    let found = client.resolve(name, version).await.map_err(|error| {
        let is_absent = error.kind() == Kind::NotFound;
        let fail = Fail::from(error).about(text);
        let next = "it is no CID, and no name of a record; find one with: dirctl search --name '*NAME*'";
        if is_absent { Fail { next: next.to_owned(), ..fail } } else { fail }
    })?;
    let Some(first) = found.first() else {
        return Err(Fail::local(text, "the server named no record"));
    };
    if found.len() > 1 {
        let Named { name, version, cid } = first;
        talk.note(&format!(
            "{text}: the newest of {} records is taken: {name}:{version}, {cid}",
            found.len()
        ));
    }
    Ok(first.cid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_in_both_forms() {
        let (a, b) = (Cid::of(b"a"), Cid::of(b"b"));
        assert_eq!(parse_text(&format!("{a}\n\n  {b}\n{a}\n")).unwrap(), [a, b]);
        assert_eq!(parse_text(&format!(" [\"{b}\", \"{a}\"]")).unwrap(), [b, a]);
    }

    #[test]
    fn records_are_named_in_three_ways() {
        let cid = Cid::of(b"a");
        assert_eq!(Reference::parse(&cid.to_string()), Reference::Cid(cid));
        let name =
            |name: &str, version: Option<&str>| Reference::Name(name.into(), version.map(str::to_owned));
        for (text, expected) in [
            ("weather", name("weather", None)),
            ("weather:v1.2", name("weather", Some("v1.2"))),
            ("https://example.org/weather", name("https://example.org/weather", None)),
            ("https://example.org/weather:v1", name("https://example.org/weather", Some("v1"))),
            ("example.org:8080/weather", name("example.org:8080/weather", None)),
            ("weather:", name("weather:", None)),
            (":v1", name(":v1", None)),
        ] {
            assert_eq!(Reference::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn empty_and_malformed_lists_are_errors() {
        for text in ["", " \n ", "[]", "[1]", "[\"x\"]", "x"] {
            assert_eq!(parse_text(text).unwrap_err().code, 2, "{text:?}");
        }
    }
}
