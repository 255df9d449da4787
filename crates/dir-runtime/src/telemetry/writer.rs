//! The writer behind the log: callers hand over whole lines and never wait for a disk or a pipe.

use super::TelemetryError;
use parking_lot::Mutex;
use prometheus::IntCounter;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait for the writer; more are dropped and counted.
pub const QUEUE_LINES: usize = 8192;
/// Time in which lines are gathered before they are written together. A thread that waits for single lines has to be
/// woken for each, by the call that wrote it: that cost more than the lines themselves.
const GATHER: Duration = Duration::from_millis(2);
/// Longest wait for the queue to empty at the end of the process.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Lines held before they go to standard output, in bytes.
const HELD_MAX: usize = 64 * 1024;

/// Standard output for several writers of lines: what was written up to a flush stays together, so that no line gets
/// into the middle of another one. A flush belongs at the end of a line.
#[derive(Debug, Default)]
pub struct StandardOutput {
    held: Vec<u8>,
}

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= HELD_MAX && self.held.ends_with(b"\n") {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        // One lock from the first byte to the last: a pipe takes a part at a time.
        let mut out = io::stdout().lock();
        let done = out.write_all(&self.held).and_then(|()| out.flush());
        self.held.clear();
        done
    }
}

enum Message {
    Line(Vec<u8>),
    Reopen,
    Flush(SyncSender<()>),
}

/// Handle to the log writer. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Writer {
    queue: SyncSender<Message>,
    dropped: Arc<Mutex<Option<IntCounter>>>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

fn open(path: &Path) -> io::Result<Box<dyn Write + Send>> {
    let file: File = OpenOptions::new().create(true).append(true).mode(0o640).open(path)?;
    Ok(Box::new(BufWriter::new(file)))
}

impl Writer {
    /// Starts the thread. `None` writes to standard output.
    pub(super) fn start(file: Option<PathBuf>) -> Result<Self, TelemetryError> {
        let out: Box<dyn Write + Send> = match &file {
            None => Box::new(StandardOutput::default()),
            Some(path) => open(path).map_err(|source| TelemetryError::File { path: path.clone(), source })?,
        };
        let (queue, inbox) = sync_channel(QUEUE_LINES);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || run(&inbox, out, file.as_deref()))
            .map_err(TelemetryError::Thread)?;
        Ok(Self { queue, dropped: Arc::default() })
    }

    pub(super) fn count_drops(&self, counter: IntCounter) {
        *self.dropped.lock() = Some(counter);
    }

    /// Opens the log file again, after it was renamed by a log rotation. Without a file: nothing.
    pub fn reopen(&self) {
        // A full queue means that the writer is behind; the next reload does it.
        let _ = self.queue.try_send(Message::Reopen);
    }

    /// Writes out everything queued so far, for at most two seconds. Answers whether all of it was written.
    pub fn close(&self) -> bool {
        let (done, wait) = sync_channel(1);
        self.queue.send(Message::Flush(done)).is_ok() && wait.recv_timeout(CLOSE_LIMIT).is_ok()
    }
}

/// Writes until every handle is gone. Errors of the sink are not errors of the process: lines are lost, and
/// there is no place left to say so.
fn run(inbox: &Receiver<Message>, mut out: Box<dyn Write + Send>, file: Option<&Path>) {
    while let Ok(first) = inbox.recv() {
        if matches!(first, Message::Line(_)) {
            std::thread::sleep(GATHER);
        }
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Line(line) => {
                    let _ = out.write_all(&line);
                }
                Message::Reopen => {
                    let _ = out.flush();
                    if let Some(Ok(fresh)) = file.map(open) {
                        out = fresh;
                    }
                }
                Message::Flush(done) => {
                    let _ = out.flush();
                    let _ = done.try_send(());
                }
            }
            next = inbox.try_recv().ok();
        }
        let _ = out.flush();
    }
}

impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        (&*self).write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for &Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Message::Line(line.to_vec()))
            && let Some(counter) = &*self.dropped.lock()
        {
            counter.inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = &'a Writer;

    fn make_writer(&'a self) -> &'a Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_reach_the_file_and_its_successor() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("log"), dir.path().join("log.1"));
        let mut writer = Writer::start(Some(path.clone())).unwrap();
        writer.write_all(b"one\n").unwrap();
        assert!(writer.close());
        std::fs::rename(&path, &moved).unwrap();
        writer.reopen();
        writer.write_all(b"two\n").unwrap();
        assert!(writer.close());
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (queue, inbox) = sync_channel(QUEUE_LINES);
        let mut writer = Writer { queue, dropped: Arc::default() };
        let counter = IntCounter::new("dropped", "dropped").unwrap();
        writer.count_drops(counter.clone());
        for _ in 0..QUEUE_LINES {
            writer.write_all(b"x").unwrap();
        }
        assert_eq!(counter.get(), 0);
        writer.write_all(b"x").unwrap();
        assert_eq!(counter.get(), 1);
        drop(inbox);
    }

    #[test]
    fn an_impossible_file_is_named() {
        let error = Writer::start(Some(PathBuf::from("/proc/nowhere/log"))).unwrap_err();
        assert!(error.to_string().contains("/proc/nowhere/log"), "{error}");
    }
}
