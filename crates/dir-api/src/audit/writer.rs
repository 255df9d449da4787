//! The thread behind the audit log.

use super::line::{Line, LostJson};
use super::{AuditSink, Item, Lost, OpenAudit};
use dir_core::Clock;
use dir_core::chain::Head;
use prometheus::IntCounter;
use std::io::{self, ErrorKind};
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
    pub(super) out: Box<dyn AuditSink>,
    /// A line was begun that will not be finished.
    pub(super) torn: bool,
    /// The last write has failed.
    pub(super) failing: bool,
    /// The end of the chain, where there is one.
    pub(super) chain: Option<Head>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) waiting: Arc<AtomicUsize>,
    pub(super) lost: Arc<Lost>,
    /// Whether lines that cannot be written are kept and tried again: the queue fills, and calls are refused.
    pub(super) keep: bool,
    pub(super) written: IntCounter,
    pub(super) dropped: IntCounter,
}

/// Lines that are written together.
#[derive(Default)]
struct Batch {
    text: Vec<u8>,
    lines: usize,
    /// The end of the chain before them.
    before: Option<Head>,
    /// What the first of them tells of lines that are missing.
    lost: Option<[u64; 2]>,
}

impl Writer {
    /// Writes until every handle is gone.
    pub(super) fn run(mut self) {
        let mut batch = Batch { text: Vec::with_capacity(BATCH + 4096), ..Batch::default() };
        while let Ok(first) = self.inbox.recv() {
            if matches!(first, Item::Line(_)) {
                std::thread::sleep(GATHER);
            }
            if self.out.moved() {
                self.reopen();
            }
            self.begin(&mut batch);
            let (mut next, mut after) = (Some(first), None);
            while let Some(item) = next {
                match item {
                    Item::Line(line) => {
                        line.write(&mut batch.text, self.chain.as_mut());
                        batch.lines += 1;
                    }
                    other => after = Some(other),
                }
                let more = batch.text.len() < BATCH && after.is_none();
                next = if more { self.inbox.try_recv().ok() } else { None };
            }
            self.deliver(&batch);
            if !self.failing && self.waiting.load(Ordering::Relaxed) == 0 {
                // Perhaps nothing follows that would tell what was lost while the queue was full.
                self.begin(&mut batch);
                self.deliver(&batch);
            }
            match after {
                Some(Item::Reopen) => self.reopen(),
                Some(Item::Flush(done)) => {
                    self.say_head("audit log written out");
                    let _ = done.try_send(());
                }
                _ => {}
            }
        }
    }

    /// An empty batch, or one that begins with what is missing.
    fn begin(&mut self, batch: &mut Batch) {
        batch.text.clear();
        (batch.lines, batch.before, batch.lost) = (0, self.chain.clone(), self.lost.take());
        if let Some(lost) = batch.lost {
            let line = Line::Lost(LostJson::new(self.clock.now(), lost));
            line.write(&mut batch.text, self.chain.as_mut());
        }
    }

    fn deliver(&mut self, batch: &Batch) {
        if batch.text.is_empty() {
            return;
        }
        let mut done = 0;
        while let Err(error) = self.write(&batch.text, &mut done) {
            if !std::mem::replace(&mut self.failing, true) {
                tracing::error!(%error, kept = self.keep, "the audit log cannot be written");
            }
            if !self.keep {
                return self.give_up(batch, done);
            }
            std::thread::sleep(RETRY_PAUSE);
        }
        if std::mem::take(&mut self.failing) {
            tracing::warn!("the audit log is written again");
        }
        self.written.inc_by(count(batch.lines));
        self.waiting.fetch_sub(batch.lines, Ordering::Relaxed);
    }

    /// Writes what is left and remembers how far it got, so that a retry doubles nothing.
    fn write(&mut self, text: &[u8], done: &mut usize) -> io::Result<()> {
        if self.torn && !text.is_empty() {
            some(&mut *self.out, b"\n")?;
            self.torn = false;
        }
        while *done < text.len() {
            *done += some(&mut *self.out, &text[*done..])?;
        }
        self.out.flush()
    }

    /// Leaves whole lines behind, and remembers what is missing.
    fn give_up(&mut self, batch: &Batch, done: usize) {
        let whole = batch.text[..done].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if done > whole && !self.out.take_back(done - whole) {
            self.torn = true;
        }
        let mut there: Vec<_> = batch.text[..whole].split(|byte| *byte == b'\n').collect();
        // What follows the last end of line is no line.
        there.pop();
        if self.chain.is_some() {
            self.chain = there.last().map_or(batch.before.clone(), |line| Head::of(line));
        }
        let told = usize::from(batch.lost.is_some());
        if there.is_empty() {
            self.lost.add(batch.lost.unwrap_or_default());
        }
        let written = there.len().saturating_sub(told);
        let missing = count(batch.lines - written);
        self.lost.add([missing, 0]);
        self.dropped.inc_by(missing);
        self.written.inc_by(count(written));
        self.waiting.fetch_sub(batch.lines, Ordering::Relaxed);
    }

    fn reopen(&mut self) {
        match (self.open)() {
            Ok(out) => {
                (self.out, self.torn) = (out, false);
                self.say_head("audit log opened anew");
            }
            Err(error) => {
                tracing::error!(%error, "the audit log cannot be opened again; the old file is kept");
            }
        }
    }

    /// Whoever keeps the log of the process apart from the audit log can tell later that the latter is whole.
    fn say_head(&self, message: &'static str) {
        if let Some(head) = self.chain.as_ref().filter(|head| head.seq() > 0) {
            tracing::info!(%head, "{message}");
        }
    }
}

/// At least one byte.
fn some(out: &mut dyn AuditSink, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match out.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            written => return written,
        }
    }
}

fn count(lines: usize) -> u64 {
    u64::try_from(lines).unwrap_or(u64::MAX)
}
