//! CIDs from arguments and stdin.

use crate::fail::Fail;
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
    fn empty_and_malformed_lists_are_errors() {
        for text in ["", " \n ", "[]", "[1]", "[\"x\"]", "x"] {
            assert_eq!(parse_text(text).unwrap_err().code, 2, "{text:?}");
        }
    }
}
