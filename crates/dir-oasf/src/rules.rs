//! Who gives the verdict: the modes, and the rules without a server.

use crate::remote::{RemoteRules, TIMEOUT_DEFAULT};
use crate::structure::problems;
use crate::version::Version;
use async_trait::async_trait;
use dir_core::json::Doc;
use dir_core::rules::{RecordRules, RuleError};
use dir_core::{Class, Classified, RecordFacts};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Who judges a record that decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A schema server.
    Remote,
    /// The structural check.
    Builtin,
    /// Nobody.
    Off,
}

impl FromStr for Mode {
    type Err = SetupError;

    fn from_str(text: &str) -> Result<Self, SetupError> {
        match text {
            "remote" => Ok(Mode::Remote),
            "builtin" => Ok(Mode::Builtin),
            "off" => Ok(Mode::Off),
            other => Err(SetupError::UnknownMode(other.to_owned())),
        }
    }
}

/// Why rules cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// None of the modes.
    #[error("oasf_api_validation.mode: unknown mode {0:?}; use remote, builtin or off")]
    UnknownMode(String),
    /// Remote without a server.
    #[error("oasf_api_validation.mode is remote: set oasf_api_validation.schema_url, or use builtin or off")]
    NoServer,
    /// Not a URL of a server.
    #[error("oasf_api_validation.schema_url is not an http or https URL: {0}")]
    BadUrl(String),
    /// The HTTP client could not be made.
    #[error("HTTP client for the schema server: {0}")]
    Client(#[source] reqwest::Error),
}

impl Classified for SetupError {
    fn class(&self) -> Class {
        match self {
            SetupError::Client(_) => Class::Internal,
            _ => Class::Invalid,
        }
    }
}

/// Settings of the rules, as the configuration has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The mode; `None` means remote when there is a server, else builtin.
    pub mode: Option<Mode>,
    /// Base URL of the schema server; empty for none.
    pub schema_url: String,
    /// Longest time for one verdict of the server.
    pub timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { mode: None, schema_url: String::new(), timeout: TIMEOUT_DEFAULT }
    }
}

impl Settings {
    /// The mode in force.
    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or(if self.schema_url.is_empty() { Mode::Builtin } else { Mode::Remote })
    }

    /// The rules in force. For a remote mode a process-wide rustls provider must be installed.
    pub fn rules(&self) -> Result<Arc<dyn RecordRules>, SetupError> {
        Ok(match self.mode() {
            Mode::Remote if self.schema_url.is_empty() => return Err(SetupError::NoServer),
            Mode::Remote => Arc::new(RemoteRules::new(&self.schema_url, self.timeout)?),
            Mode::Builtin => Arc::new(BuiltinRules::new()),
            Mode::Off => Arc::new(BuiltinRules::off()),
        })
    }
}

/// Rules without a server. A record must decode in any case.
#[derive(Debug, Clone, Copy)]
pub struct BuiltinRules {
    check: bool,
}

impl BuiltinRules {
    /// With the structural check.
    pub const fn new() -> Self {
        Self { check: true }
    }

    /// Whatever decodes is accepted.
    pub const fn off() -> Self {
        Self { check: false }
    }
}

impl Default for BuiltinRules {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl RecordRules for BuiltinRules {
    fn facts(&self, doc: &Doc) -> Result<RecordFacts, RuleError> {
        crate::facts(doc)
    }

    async fn validate(&self, doc: &Doc, facts: &RecordFacts) -> Result<(), RuleError> {
        if !self.check {
            return Ok(());
        }
        let version = Version::parse(&facts.schema_version)
            .map_err(|error| RuleError::Rejected(vec![error.to_string()]))?;
        let found = problems(doc, version);
        if found.is_empty() {
            return Ok(());
        }
        Err(RuleError::Rejected(found.into_iter().map(|problem| format!("ERROR: {problem}")).collect()))
    }

    fn labels(&self, facts: &RecordFacts) -> Vec<String> {
        facts.labels()
    }
}
