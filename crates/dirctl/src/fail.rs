//! How a command ends when it does not end well.

use crate::output::Talk;
use dir_client::settings::SettingError;
use dir_client::{ClientError, exit};
use serde::Serialize;
use std::fmt::Display;
use std::io;

/// A failure, ready to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Fail {
    /// Stable name for scripts.
    pub(crate) kind: &'static str,
    /// What and why.
    pub(crate) message: String,
    /// What to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) next: String,
    #[serde(skip)]
    pub(crate) code: u8,
    /// It is about the connection or the caller, not about one of the things the command works on.
    #[serde(skip)]
    pub(crate) general: bool,
}

impl Fail {
    /// The command line makes no sense.
    pub(crate) fn usage(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self { kind: "usage", message: message.into(), next: next.into(), code: exit::USAGE, general: true }
    }

    /// A setting, or a file of settings, is wrong.
    pub(crate) fn config(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self { kind: "config", message: message.into(), next: next.into(), code: exit::CONFIG, general: true }
    }

    /// A file or stream of this machine.
    pub(crate) fn local(what: impl Display, cause: impl Display) -> Self {
        Self {
            kind: "local",
            message: format!("{what}: {cause}"),
            next: String::new(),
            code: exit::GENERIC,
            general: false,
        }
    }

    /// A document that is no record.
    pub(crate) fn document(source: &str, cause: impl Display) -> Self {
        Self {
            kind: "document",
            message: format!("{source}: {cause}"),
            next: "correct the document; nothing of it was sent".to_owned(),
            code: exit::CONFIG,
            general: false,
        }
    }

    /// Nobody reads our output any more: end without a word, as `head` expects.
    fn quiet() -> Self {
        Self {
            kind: "broken-pipe",
            message: String::new(),
            next: String::new(),
            code: exit::OK,
            general: true,
        }
    }

    /// The same, naming what it is about unless it is about none in particular or names it already.
    pub(crate) fn about(&self, subject: &str) -> Self {
        let mut told = self.clone();
        if !self.general && !self.message.starts_with(subject) {
            told.message = format!("{subject}: {}", self.message);
        }
        told
    }

    /// Says it on stderr.
    pub(crate) fn tell(&self, talk: Talk) {
        if self.message.is_empty() {
            return;
        }
        talk.error(&self.message);
        if !self.next.is_empty() {
            talk.hint(&self.next);
        }
    }
}

impl From<ClientError> for Fail {
    fn from(error: ClientError) -> Self {
        Self {
            kind: error.kind().name(),
            message: error.to_string(),
            next: error.next_step().to_owned(),
            code: error.exit_code(),
            general: error.kind().is_general(),
        }
    }
}

impl From<SettingError> for Fail {
    fn from(error: SettingError) -> Self {
        Self {
            kind: if error.is_usage { "usage" } else { "config" },
            code: error.exit_code(),
            message: error.message,
            next: error.next,
            general: true,
        }
    }
}

/// Writing to stdout failed.
impl From<io::Error> for Fail {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::quiet() } else { Self::local("write", error) }
    }
}

/// Counts of a command over many things, and the exit code they make.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// So many worked.
    pub(crate) done: usize,
    /// So many did not.
    pub(crate) failed: usize,
    /// A failure was general: the rest was not tried.
    pub(crate) stopped: bool,
    first_code: Option<u8>,
}

impl Tally {
    pub(crate) fn worked(&mut self) {
        self.done += 1;
    }

    pub(crate) fn failed(&mut self, fail: &Fail) {
        self.failed += 1;
        self.stopped |= fail.general;
        self.first_code.get_or_insert(fail.code);
    }

    /// 0 when all worked, 10 when some did, the code of the first failure when none did.
    pub(crate) fn exit_code(&self) -> u8 {
        match (self.done, self.first_code) {
            (_, None) => exit::OK,
            (0, Some(code)) => code,
            (_, Some(_)) => exit::PARTIAL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_of_many() {
        let fail = Fail::document("a.json", "no");
        let mut tally = Tally::default();
        assert_eq!(tally.exit_code(), 0);
        tally.failed(&fail);
        tally.failed(&Fail::usage("x", ""));
        assert_eq!(tally.exit_code(), exit::CONFIG);
        tally.worked();
        assert_eq!(tally.exit_code(), exit::PARTIAL);
    }
}
