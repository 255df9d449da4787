//! Exit codes, alike for every binary of the product.

use std::fmt;
use std::process::ExitCode;

/// Why the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Done, or stopped in order.
    Ok = 0,
    /// Anything without a code of its own.
    Generic = 1,
    /// Wrong usage.
    Usage = 2,
    /// Registry unreachable.
    Unreachable = 3,
    /// Configuration.
    Config = 4,
    /// A secret is missing.
    Secret = 5,
    /// No SVID in time.
    NoSvid = 6,
    /// TLS or identity does not fit.
    Identity = 7,
    /// Temporary: try again.
    Temporary = 75,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        ExitCode::from(status as u8)
    }
}

/// An end with a code: the text is printed as it is.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub status: Status,
    /// Cause and next step.
    pub text: String,
}

impl Failure {
    /// A failure with a code of its own.
    pub fn new(status: Status, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// The code of an error: its own when a [`Failure`] is among its causes, else 1.
pub fn status_of(error: &anyhow::Error) -> Status {
    error.chain().find_map(|e| e.downcast_ref::<Failure>()).map_or(Status::Generic, |f| f.status)
}
