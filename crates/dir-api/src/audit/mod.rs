//! The audit log: one JSON line a unary call, two a stream, one a refused handshake. Calls hand over small values and
//! never wait: a thread of its own makes the lines and writes them. What cannot be written is counted, or the call is
//! refused, as configured; nothing is lost silently.

mod line;
mod trail;
mod writer;

pub(crate) use trail::{Counts, Trail, finished, opened};

use dir_core::Timestamp;
use line::Line;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::time::Duration;
use tonic::Status;

/// Longest wait for the queue to empty at the end of the process.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// What happens to a call when the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// Its lines are dropped and counted.
    #[default]
    Drop,
    /// It is refused with UNAVAILABLE. A call that was let in always gets its lines.
    Refuse,
}

/// Limits of the audit log.
#[derive(Debug, Clone, Copy)]
pub struct AuditConfig {
    /// Lines that may wait for the writer. Refused handshakes take at most half of it.
    pub queue: usize,
    /// What happens beyond.
    pub when_full: WhenFull,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { queue: 8192, when_full: WhenFull::Drop }
    }
}

/// Opens the place where lines go; called again at [`Audit::reopen`].
pub type OpenAudit = Box<dyn FnMut() -> io::Result<Box<dyn io::Write + Send>> + Send>;

/// A handshake that was refused.
#[derive(Debug, Clone)]
pub struct RefusedHandshake {
    /// When.
    pub at: Timestamp,
    /// Address of the TCP peer.
    pub addr: SocketAddr,
    /// Address behind the proxy, where it is known.
    pub real_addr: Option<SocketAddr>,
    /// One word of a closed set.
    pub reason: &'static str,
    /// Issuer of the certificate that was presented, as it calls itself.
    pub issuer: Option<String>,
    /// Its subject.
    pub subject: Option<String>,
}

/// The audit log. Cloning shares it.
#[derive(Clone)]
pub struct Audit(Arc<State>);

struct State {
    config: AuditConfig,
    queue: Sender<Item>,
    waiting: Arc<AtomicUsize>,
    dropped: IntCounter,
    refused: IntCounter,
}

/// What the writer is told.
enum Item {
    Line(Box<Line>),
    Reopen,
    Flush(std::sync::mpsc::SyncSender<()>),
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").field("config", &self.0.config).finish_non_exhaustive()
    }
}

/// Why there is no audit log.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The place for the lines cannot be opened.
    #[error("cannot open the audit log: {0}")]
    Open(#[source] io::Error),
    /// No thread can be had.
    #[error("cannot start the audit writer: {0}")]
    Thread(#[source] io::Error),
    /// The registry has a metric of the same name already.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl Audit {
    /// Opens the place and starts the writer.
    pub fn start(config: AuditConfig, mut open: OpenAudit, registry: &Registry) -> Result<Self, AuditError> {
        let opts = Opts::new(
            "audit_lines_total",
            "Audit lines: written, dropped because the queue was full or the write failed; calls refused for want of room.",
        );
        let lines = IntCounterVec::new(opts, &["result"])?;
        registry.register(Box::new(lines.clone()))?;
        let counter = |result: &str| lines.with_label_values(&[result]);
        let out = open().map_err(AuditError::Open)?;
        let (queue, inbox) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let writer = writer::Writer {
            inbox,
            open,
            out,
            waiting: waiting.clone(),
            keep: config.when_full == WhenFull::Refuse,
            written: counter("written"),
            dropped: counter("dropped"),
        };
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run())
            .map_err(AuditError::Thread)?;
        Ok(Self(Arc::new(State {
            config,
            queue,
            waiting,
            dropped: counter("dropped"),
            refused: counter("refused"),
        })))
    }

    /// Whether a call may begin.
    pub(crate) fn admit(&self) -> Result<(), Status> {
        let state = &*self.0;
        if state.config.when_full == WhenFull::Refuse
            && state.waiting.load(Ordering::Relaxed) >= state.config.queue
        {
            state.refused.inc();
            return Err(crate::status::audit_full());
        }
        Ok(())
    }

    /// Takes a line. Those of calls that were let in are kept when calls are refused instead: they are no more than
    /// there are calls.
    fn take(&self, line: Line, room: usize, kept: bool) {
        let state = &*self.0;
        if state.waiting.fetch_add(1, Ordering::Relaxed) >= room && !kept {
            state.waiting.fetch_sub(1, Ordering::Relaxed);
            state.dropped.inc();
        } else if state.queue.send(Item::Line(Box::new(line))).is_err() {
            state.dropped.inc();
        }
    }

    fn call(&self, line: Line) {
        self.take(line, self.0.config.queue, self.0.config.when_full == WhenFull::Refuse);
    }

    /// A handshake was refused. Whoever makes many of them cannot crowd out the lines of calls.
    pub fn refused_handshake(&self, refused: RefusedHandshake) {
        self.take(Line::Handshake(refused), self.0.config.queue / 2, false);
    }

    /// Opens the place again, after its file was renamed by a log rotation.
    pub fn reopen(&self) {
        let _ = self.0.queue.send(Item::Reopen);
    }

    /// Writes out what is queued, for at most two seconds. Answers whether all of it was written. Blocks.
    pub fn close(&self) -> bool {
        let (done, wait) = sync_channel(1);
        self.0.queue.send(Item::Flush(done)).is_ok() && wait.recv_timeout(CLOSE_LIMIT).is_ok()
    }
}
