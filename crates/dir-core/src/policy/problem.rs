//! What is wrong with a policy, and what its author should know.

use crate::class::{Class, Classified};
use std::fmt;

/// One fault of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line in the file, from 1.
    pub line: Option<usize>,
    /// Id of the rule, for native rules.
    pub rule: Option<String>,
    /// Cause and next step.
    pub text: String,
}

impl Fault {
    pub(crate) fn at(line: usize, text: impl Into<String>) -> Self {
        Self { line: Some(line), rule: None, text: text.into() }
    }

    pub(crate) fn whole(text: impl Into<String>) -> Self {
        Self { line: None, rule: None, text: text.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match (&self.rule, self.line) {
            (Some(rule), Some(line)) => write!(f, " (rule \"{rule}\", line {line})"),
            (Some(rule), None) => write!(f, " (rule \"{rule}\")"),
            (None, Some(line)) => write!(f, " (line {line})"),
            (None, None) => Ok(()),
        }
    }
}

/// Why a policy is refused: every fault, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// At least one.
    pub faults: Vec<Fault>,
}

impl From<Fault> for PolicyError {
    fn from(fault: Fault) -> Self {
        Self { faults: vec![fault] }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.faults.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyError {}

impl Classified for PolicyError {
    fn class(&self) -> Class {
        Class::Invalid
    }
}

/// What a warning is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WarningKind {
    /// A trust domain was written with capitals.
    LowerCased,
    /// The rule was there before.
    Duplicate,
    /// The dead spelling of `RequestRegistryCredentials`.
    LegacySpelling,
    /// Compat: a trust domain pattern was taken as a regular expression.
    InferredRegex,
    /// Compat: text after a `*` says nothing.
    TextAfterStar,
    /// Compat: the rule admits methods beyond its text.
    AdmitsMore,
    /// No service has the method.
    UnknownMethod,
    /// Another rule decides everything this one is about.
    Unreachable,
    /// Strict and compat matching make different policies of the rule.
    DependsOnMatching,
}

impl WarningKind {
    /// Whether a check of the policy fails for it; the others are good to know.
    pub const fn is_finding(self) -> bool {
        matches!(
            self,
            WarningKind::UnknownMethod
                | WarningKind::Unreachable
                | WarningKind::DependsOnMatching
                | WarningKind::InferredRegex
        )
    }

    /// As reports spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            WarningKind::LowerCased => "lower_cased",
            WarningKind::Duplicate => "duplicate",
            WarningKind::LegacySpelling => "legacy_spelling",
            WarningKind::InferredRegex => "inferred_regex",
            WarningKind::TextAfterStar => "text_after_star",
            WarningKind::AdmitsMore => "admits_more",
            WarningKind::UnknownMethod => "unknown_method",
            WarningKind::Unreachable => "unreachable",
            WarningKind::DependsOnMatching => "depends_on_matching",
        }
    }
}

/// Something that does not stop a policy from being used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What it is about.
    pub kind: WarningKind,
    /// Where.
    pub at: Fault,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.fmt(f)
    }
}
