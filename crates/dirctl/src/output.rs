//! stdout is data, stderr is talk.

use crate::fail::Fail;
use clap::ValueEnum;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For reading.
    Human,
    /// One JSON document, indented.
    Json,
    /// One YAML document.
    Yaml,
}

/// Where data goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    pub(crate) format: Format,
    /// The command writes a stream of lines, each a JSON document.
    pub(crate) streams: bool,
}

impl Out {
    /// Writes one line at once.
    #[allow(clippy::unused_self)] // all data goes through the same hand
    pub(crate) fn line(self, text: impl AsRef<[u8]>) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_ref())?;
        stdout.write_all(b"\n")?;
        stdout.flush()
    }

    /// Writes a value as one document of the chosen format; for people as JSON, so callers write their own lines.
    pub(crate) fn value(self, value: &impl Serialize) -> io::Result<()> {
        let text = match self.format {
            Format::Yaml => serde_saphyr::to_string(value).map_err(io::Error::other)?,
            Format::Json | Format::Human => serde_json::to_string_pretty(value).map_err(io::Error::other)?,
        };
        self.line(text.trim_end())
    }

    /// A command's failure as a document of its own, for programs that read the output. People read stderr.
    pub(crate) fn failure(self, fail: &Fail) {
        #[derive(Serialize)]
        struct Document<'a> {
            error: &'a Fail,
        }
        if self.format != Format::Human && !fail.message.is_empty() {
            // The exit code says that it failed, whoever reads or does not read this.
            let _ = if self.streams {
                serde_json::to_string(&Document { error: fail })
                    .map_err(io::Error::other)
                    .and_then(|t| self.line(t))
            } else {
                self.value(&Document { error: fail })
            };
        }
    }

    /// Records, given in canonical form. One is written as itself, several (or `as_list`) as a list.
    pub(crate) fn records(self, records: &[&[u8]], as_list: bool) -> io::Result<()> {
        let list = as_list || records.len() != 1;
        match self.format {
            Format::Human => {
                for record in records {
                    self.line(crate::json::pretty(record))?;
                }
                Ok(())
            }
            Format::Json => self.line(crate::json::pretty(&joined(records, list))),
            Format::Yaml => self.line(yaml(&joined(records, list)).trim_end()),
        }
    }
}

fn joined(records: &[&[u8]], list: bool) -> Vec<u8> {
    let body = records.join(&b',');
    if list { [b"[".as_slice(), &body, b"]"].concat() } else { body }
}

/// JSON as YAML in block style. What is nested deeper than serde_json reads (128 levels) stays JSON, which is YAML.
fn yaml(json: &[u8]) -> String {
    serde_json::from_slice::<serde_json::Value>(json)
        .ok()
        .and_then(|value| serde_saphyr::to_string(&value).ok())
        .unwrap_or_else(|| String::from_utf8_lossy(json).into_owned())
}

/// What is said on stderr.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Talk {
    quiet: bool,
    colour: bool,
}

impl Talk {
    /// Colours only for terminals, and never with `NO_COLOR` (no-color.org).
    pub(crate) fn new(quiet: bool, no_color: bool) -> Self {
        Self { quiet, colour: !no_color && io::stderr().is_terminal() }
    }

    /// Whether only errors are said.
    pub(crate) fn is_quiet(self) -> bool {
        self.quiet
    }

    /// A remark; not said when quiet.
    pub(crate) fn note(self, text: &str) {
        if !self.quiet {
            self.say(text);
        }
    }

    /// An error; always said.
    pub(crate) fn error(self, text: &str) {
        let label = if self.colour { "\u{1b}[1;31merror:\u{1b}[0m" } else { "error:" };
        self.say(&format!("{label} {text}"));
    }

    /// What to do about it.
    pub(crate) fn hint(self, text: &str) {
        let label = if self.colour { "\u{1b}[1mnext:\u{1b}[0m" } else { "next:" };
        self.say(&format!("  {label} {text}"));
    }

    // A closed stderr must not end a command that works.
    #[allow(clippy::unused_self)]
    fn say(self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_records() {
        assert_eq!(joined(&[b"{}"], false), b"{}");
        assert_eq!(joined(&[b"{}", b"[1]"], true), b"[{},[1]]");
        assert_eq!(joined(&[], true), b"[]");
    }

    #[test]
    fn yaml_of_any_depth_is_yaml() {
        assert_eq!(yaml(br#"{"a":[1,"x"]}"#).trim_end(), "a:\n- 1\n- x");
        let deep = [b"[".repeat(3000), b"]".repeat(3000)].concat();
        assert_eq!(yaml(&deep).as_bytes(), deep);
    }
}
