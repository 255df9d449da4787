//! What a running job says, on stderr.

use super::summary::{Found, left};
use crate::commands::mark::Mark;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Lines of progress into a log come this far apart; a terminal gets one line that changes.
const LINES_EVERY: Duration = Duration::from_secs(10);
/// Findings that are told one by one; more are counted.
const FINDINGS_MAX: usize = 1000;

/// How far a job is.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    pub(super) phase: String,
    pub(super) done: u64,
    pub(super) total: Option<u64>,
    /// The total is not known better than that.
    pub(super) at_most: bool,
    pub(super) per_second: f64,
    pub(super) seconds_left: Option<u64>,
    pub(super) mark: String,
}

impl Progress {
    fn line(&self) -> String {
        let Self { phase, done, total, per_second, .. } = self;
        let mut line = match total {
            Some(total) if self.at_most => format!("{phase}: {done} of at most {total}"),
            Some(total) => format!("{phase}: {done} of {total}"),
            None => format!("{phase}: {done}"),
        };
        if *per_second > 0.0 {
            line += &format!(", {per_second:.1}/s");
        }
        if let Some(seconds) = self.seconds_left.filter(|_| total.is_none_or(|total| *done < total)) {
            line += &format!(", {} left", left(seconds));
        }
        line
    }
}

/// Tells a person, or a log.
pub(super) struct Tell {
    terminal: bool,
    phase: String,
    told: Option<Instant>,
    /// How far the job was when nothing was told of it.
    untold: Option<Progress>,
    /// A line on the terminal waits to be replaced.
    open: bool,
    mark: Mark,
    pub(super) findings: Vec<Found>,
    pub(super) more_findings: u64,
}

impl Tell {
    /// Where the job can be taken up again is told to `mark`.
    pub(super) fn new(mark: &Mark) -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            phase: String::new(),
            told: None,
            untold: None,
            open: false,
            mark: mark.clone(),
            findings: Vec::new(),
            more_findings: 0,
        }
    }

    /// Where the job can be taken up again.
    pub(super) fn mark(&self) -> String {
        self.mark.get()
    }

    pub(super) fn progress(&mut self, progress: &Progress) {
        if !progress.mark.is_empty() {
            self.mark.set(&progress.mark);
        }
        let done = progress.total.is_some_and(|total| progress.done >= total && total > 0);
        let due = self.told.is_none_or(|told| told.elapsed() >= LINES_EVERY);
        if !self.terminal && !due && !done && progress.phase == self.phase {
            self.untold = Some(progress.clone());
            return;
        }
        self.untold = None;
        self.phase.clone_from(&progress.phase);
        self.told = Some(Instant::now());
        if self.terminal {
            eprint!("\r\x1b[K{}", progress.line());
            let _ = io::stderr().flush();
            self.open = true;
        } else {
            eprintln!("{}", progress.line());
        }
    }

    pub(super) fn finding(&mut self, found: Found) {
        if self.findings.len() < FINDINGS_MAX {
            self.close();
            eprintln!("{}", found.line());
            self.findings.push(found);
        } else {
            self.more_findings += 1;
        }
    }

    /// The job has ended: how far it came is told, if it was not.
    pub(super) fn end(&mut self) {
        if let Some(progress) = self.untold.take() {
            eprintln!("{}", progress.line());
        }
        self.close();
    }

    /// Leaves the line that changes.
    pub(super) fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            eprintln!();
        }
    }
}

impl Drop for Tell {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_what_is_known() {
        let mut progress = Progress { phase: "move".into(), ..Progress::default() };
        assert_eq!(progress.line(), "move: 0");
        progress.per_second = 3.25;
        (progress.done, progress.total, progress.seconds_left) = (10, Some(30_000), Some(9_228));
        assert_eq!(progress.line(), "move: 10 of 30000, 3.2/s, 2 h 33 min left");
        (progress.done, progress.seconds_left) = (30_000, Some(0));
        assert_eq!(progress.line(), "move: 30000 of 30000, 3.2/s");
        (progress.done, progress.seconds_left, progress.at_most) = (10, Some(9_228), true);
        assert_eq!(progress.line(), "move: 10 of at most 30000, 3.2/s, 2 h 33 min left");
    }
}
