//! What the lab prints: one line an event, on standard output.

use crate::cli::Output;
use serde_json::json;
use std::io::{self, Write};
use std::time::Instant;

/// The printer. Cloned freely; a line is written whole.
#[derive(Clone, Copy)]
pub(super) struct Tell {
    start: Instant,
    json: bool,
}

impl Tell {
    pub(super) fn new(output: Output) -> Self {
        Self { start: Instant::now(), json: output == Output::Json }
    }

    /// Prints one event: what kind it is, whom it concerns, and a sentence.
    pub(super) fn event(self, kind: &str, who: &str, text: &str) {
        let seconds = self.start.elapsed().as_secs_f64();
        let line = if self.json {
            json!({ "seconds": (seconds * 1000.0).round() / 1000.0, "event": kind, "who": who, "text": text })
                .to_string()
        } else {
            format!("{seconds:8.1} s  {who:<18} {text}")
        };
        // A reader that went away must not end the lab in the middle.
        let _ = writeln!(io::stdout().lock(), "{line}");
    }
}
