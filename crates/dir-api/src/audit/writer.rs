//! The thread behind the audit log.

use super::{Item, OpenAudit};
use prometheus::IntCounter;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// Bytes that are written at once.
const BATCH: usize = 64 * 1024;
/// Time in which lines are gathered before they are written together: a thread that waits for single lines has to be
/// woken for each, by the call that wrote it.
const GATHER: Duration = Duration::from_millis(2);
/// Pause before a write that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

pub(super) struct Writer {
    pub(super) inbox: Receiver<Item>,
    pub(super) open: OpenAudit,
    pub(super) out: Box<dyn Write + Send>,
    pub(super) waiting: Arc<AtomicUsize>,
    /// Whether lines that cannot be written are kept and tried again: the queue fills, and calls are refused.
    pub(super) keep: bool,
    pub(super) written: IntCounter,
    pub(super) dropped: IntCounter,
}

impl Writer {
    /// Writes until every handle is gone.
    pub(super) fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH + 4096);
        while let Ok(first) = self.inbox.recv() {
            if matches!(first, Item::Line(_)) {
                std::thread::sleep(GATHER);
            }
            let (mut next, mut lines) = (Some(first), 0);
            let mut after = None;
            while let Some(item) = next {
                match item {
                    Item::Line(line) => {
                        line.write(&mut batch);
                        lines += 1;
                    }
                    other => after = Some(other),
                }
                let more = batch.len() < BATCH && after.is_none();
                next = if more { self.inbox.try_recv().ok() } else { None };
            }
            self.deliver(&batch, lines);
            batch.clear();
            match after {
                Some(Item::Reopen) => self.reopen(),
                Some(Item::Flush(done)) => {
                    let _ = done.try_send(());
                }
                _ => {}
            }
        }
    }

    fn deliver(&mut self, batch: &[u8], lines: usize) {
        let mut rest = batch;
        let count = u64::try_from(lines).unwrap_or(u64::MAX);
        loop {
            match write(&mut *self.out, &mut rest) {
                Ok(()) => {
                    self.written.inc_by(count);
                    break;
                }
                Err(error) => {
                    tracing::error!(%error, kept = self.keep, lines, "the audit log cannot be written");
                    if !self.keep {
                        self.dropped.inc_by(count);
                        break;
                    }
                    std::thread::sleep(RETRY_PAUSE);
                }
            }
        }
        self.waiting.fetch_sub(lines, Ordering::Relaxed);
    }

    fn reopen(&mut self) {
        match (self.open)() {
            Ok(out) => self.out = out,
            Err(error) => {
                tracing::error!(%error, "the audit log cannot be opened again; the old file is kept");
            }
        }
    }
}

/// Writes what is left and remembers how far it got, so that a retry doubles nothing.
fn write(out: &mut dyn Write, rest: &mut &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => *rest = &rest[n..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    out.flush()
}
