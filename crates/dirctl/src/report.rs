//! A list of checks, each with what was found and what to do.

use crate::output::{Format, Out};
use serde::Serialize;
use std::io;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Ok,
    /// Works, and deserves a look.
    Warning,
    Fault,
    /// Could not be made, or makes no sense here.
    Skipped,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) state: State,
    /// What was found.
    pub(crate) detail: String,
    /// What to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) next: String,
    /// What the program would end with if this were the only fault.
    #[serde(skip)]
    pub(crate) code: u8,
}

impl Check {
    fn new(name: &'static str, state: State, detail: impl Into<String>) -> Self {
        Self { name, state, detail: detail.into(), next: String::new(), code: 0 }
    }

    pub(crate) fn good(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, State::Ok, detail)
    }

    pub(crate) fn skipped(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, State::Skipped, detail)
    }

    pub(crate) fn warning(name: &'static str, detail: impl Into<String>, next: impl Into<String>) -> Self {
        Self { next: next.into(), ..Self::new(name, State::Warning, detail) }
    }

    pub(crate) fn fault(
        name: &'static str,
        code: u8,
        detail: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self { next: next.into(), code, ..Self::new(name, State::Fault, detail) }
    }

    fn line(&self) -> String {
        let mark = match self.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Fault => "FAULT",
            State::Skipped => "-",
        };
        let next =
            if self.next.is_empty() { String::new() } else { format!("\n{:<22} next: {}", "", self.next) };
        format!("{:<12} {mark:<9} {}{next}", self.name, self.detail)
    }
}

/// The code of the first fault.
pub(crate) fn exit_code(checks: &[Check]) -> u8 {
    checks.iter().find(|check| check.state == State::Fault).map_or(0, |check| check.code)
}

impl Out {
    /// The checks for reading, or the document for programs.
    pub(crate) fn report(self, checks: &[Check], document: &impl Serialize) -> io::Result<()> {
        if self.format != Format::Human {
            return self.value(document);
        }
        checks.iter().try_for_each(|check| self.line(check.line()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_fault_decides() {
        let checks = [
            Check::good("a", "x"),
            Check::warning("b", "x", "y"),
            Check::fault("c", 6, "x", "y"),
            Check::fault("d", 3, "x", "y"),
        ];
        assert_eq!((exit_code(&checks), exit_code(&checks[..2]), exit_code(&[])), (6, 0, 0));
        assert_eq!(checks[2].line(), format!("{:<12} FAULT     x\n{:<22} next: y", "c", ""));
    }
}
