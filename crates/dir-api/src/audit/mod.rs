//! The audit log: one JSON line a unary call, two a stream, one a handshake, one a security event. Calls hand over small
//! values and never wait: a thread of its own makes the lines and writes them. What cannot be written is counted, or the
//! call is refused, as configured; nothing is lost silently: the log itself says how many lines are missing.

mod event;
mod line;
mod touched;
mod trail;
mod writer;

pub use event::SecurityEvent;
pub(crate) use touched::Touched;
pub(crate) use trail::{Counts, Trail, finished, opened};

use dir_core::chain::Head;
use dir_core::{Clock, Peer, Timestamp};
use line::Line;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
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
    /// Whether each line holds the digest of the one before it ([`dir_core::chain`]).
    pub hash_chain: bool,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { queue: 8192, when_full: WhenFull::Drop, hash_chain: false }
    }
}

/// A place for lines.
pub trait AuditSink: io::Write + Send {
    /// Whether the place is not the one any more that opening it would give: a log rotation has renamed its file.
    fn moved(&mut self) -> bool {
        false
    }

    /// The last whole line that is there, without its end: a chain goes on from it.
    fn last_line(&mut self) -> Option<Vec<u8>> {
        None
    }

    /// Takes back the last bytes that were written, the beginning of a line that cannot be finished. Answers whether
    /// it could.
    fn take_back(&mut self, _bytes: usize) -> bool {
        false
    }
}

/// Opens the place where lines go; called again at [`Audit::reopen`].
pub type OpenAudit = Box<dyn FnMut() -> io::Result<Box<dyn AuditSink>> + Send>;

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
    clock: Arc<dyn Clock>,
    dropped: IntCounter,
    refused: IntCounter,
    lost: Arc<Lost>,
}

/// What is missing in the log and not told there yet.
#[derive(Debug, Default)]
struct Lost {
    lines: AtomicU64,
    calls: AtomicU64,
}

impl Lost {
    /// Lines and calls; `None` when nothing is missing.
    fn take(&self) -> Option<[u64; 2]> {
        let lost = [&self.lines, &self.calls].map(|count| count.swap(0, Ordering::Relaxed));
        (lost != [0, 0]).then_some(lost)
    }

    fn add(&self, [lines, calls]: [u64; 2]) {
        self.lines.fetch_add(lines, Ordering::Relaxed);
        self.calls.fetch_add(calls, Ordering::Relaxed);
    }
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

/// Lines that wait, read when the page is made.
struct Waiting {
    lines: Arc<AtomicUsize>,
    gauge: IntGaugeVec,
}

impl Waiting {
    fn new(lines: Arc<AtomicUsize>) -> Result<Self, prometheus::Error> {
        let opts = Opts::new("audit_queue_lines", "Audit lines that wait for the writer.");
        Ok(Self { lines, gauge: IntGaugeVec::new(opts, &["component"])? })
    }
}

impl Collector for Waiting {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let lines = i64::try_from(self.lines.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        self.gauge.with_label_values(&["audit"]).set(lines);
        self.gauge.collect()
    }
}

impl Audit {
    /// Opens the place and starts the writer.
    pub fn start(
        config: AuditConfig,
        mut open: OpenAudit,
        clock: Arc<dyn Clock>,
        registry: &Registry,
    ) -> Result<Self, AuditError> {
        let opts = Opts::new(
            "audit_lines_total",
            "Audit lines: written, dropped because the queue was full or the write failed; calls refused for want of room.",
        );
        let lines = IntCounterVec::new(opts, &["result"])?;
        registry.register(Box::new(lines.clone()))?;
        let counter = |result: &str| lines.with_label_values(&[result]);
        let mut out = open().map_err(AuditError::Open)?;
        let end = || out.last_line().and_then(|line| Head::of(&line)).unwrap_or_default();
        let chain = config.hash_chain.then(end);
        let (queue, inbox) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        registry.register(Box::new(Waiting::new(waiting.clone())?))?;
        let lost = Arc::new(Lost::default());
        let writer = writer::Writer {
            inbox,
            open,
            out,
            torn: false,
            failing: false,
            chain,
            clock: clock.clone(),
            lost: lost.clone(),
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
            clock,
            dropped: counter("dropped"),
            refused: counter("refused"),
            lost,
        })))
    }

    /// Whether a call may begin.
    pub(crate) fn admit(&self) -> Result<(), Status> {
        let state = &*self.0;
        if state.config.when_full == WhenFull::Refuse
            && state.waiting.load(Ordering::Relaxed) >= state.config.queue
        {
            state.refused.inc();
            state.lost.add([0, 1]);
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
            state.lost.add([1, 0]);
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

    /// A peer has proven who it is. Connections come also while calls are refused: their lines are not kept then.
    pub(crate) fn authenticated(&self, peer: &Arc<Peer>) {
        if peer.principal.spiffe_id().is_some() {
            self.take(Line::Authenticated(peer.clone()), self.0.config.queue, false);
        }
    }

    /// Something of importance has happened.
    pub fn event(&self, event: SecurityEvent) {
        self.take(Line::Event(self.0.clock.now(), event), usize::MAX, true);
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
