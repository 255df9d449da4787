//! A bar on stderr for work that takes long; only on terminals.

use crate::output::Talk;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};

/// From so many things on, progress is shown.
const WORTH_SHOWING: u64 = 50;

/// A bar, or nothing.
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// A bar over so many things; `None`: nobody knows how many.
    pub(crate) fn new(total: Option<u64>, what: &'static str, talk: Talk) -> Self {
        let worth = total.is_none_or(|n| n >= WORTH_SHOWING);
        // On one terminal, results and a bar would overwrite each other.
        let free = io::stderr().is_terminal() && !io::stdout().is_terminal();
        if talk.is_quiet() || !worth || !free {
            return Self(None);
        }
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::no_length(),
        };
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template("{msg} {pos}/{len} {wide_bar} {per_sec} eta {eta}") {
            bar.set_style(style);
        }
        bar.set_message(what);
        Self(Some(bar))
    }

    /// One more is done.
    pub(crate) fn step(&self) {
        if let Some(bar) = &self.0 {
            bar.inc(1);
        }
    }

    /// Says something without tearing the bar.
    pub(crate) fn aside(&self, say: impl FnOnce()) {
        match &self.0 {
            Some(bar) => bar.suspend(say),
            None => say(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
