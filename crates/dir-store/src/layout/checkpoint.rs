//! The second thread: turns sealed journal segments into blob files and entries of the tag log, and writes
//! `index.json` when the store is closed. Nobody waits for it but `close`.

use super::foreign;
use super::frame::{Frame, Scanned, scan};
use super::segment::{Dir, Segment, sync_dir};
use super::state::State;
use parking_lot::RwLock;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use tokio::sync::oneshot;

/// The tag log is written anew when it holds this many frames more than twice what is live.
const SLACK_FRAMES: usize = 10_000;

/// Work for the thread.
#[derive(Debug)]
pub(super) enum Job {
    /// A segment that nobody writes to any more.
    Segment(Arc<Segment>),
    /// Everything up to here into files, and `index.json`.
    Finish(oneshot::Sender<io::Result<()>>),
}

/// The state of the thread.
pub(super) struct Checkpoint {
    pub(super) dir: Arc<Dir>,
    pub(super) state: Arc<RwLock<State>>,
    /// Set when the store is being dropped: what is left is replayed at the next start.
    pub(super) stop: Arc<AtomicBool>,
    /// Sealed segments that are not in files yet, oldest first.
    pub(super) waiting: Vec<Arc<Segment>>,
    /// Frames in the tag log.
    pub(super) logged: usize,
    /// Whether `index.json` is behind.
    pub(super) dirty: bool,
}

impl Checkpoint {
    /// Runs until every sender is gone, or until told to stop.
    pub(super) fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        if let Err(error) = self.drain() {
            tracing::error!(%error, "cannot write the journal of the last run into the image layout; keeping it");
        }
        while let Ok(job) = jobs.recv() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            match job {
                Job::Segment(segment) => {
                    self.waiting.push(segment);
                    if let Err(error) = self.drain() {
                        tracing::error!(%error, "cannot write a journal segment into the image layout; keeping it");
                    }
                }
                Job::Finish(reply) => {
                    let _ = reply.send(self.finish());
                }
            }
        }
    }

    fn drain(&mut self) -> io::Result<()> {
        while let Some(segment) = self.waiting.first().cloned() {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.settle(&segment)?;
            self.waiting.remove(0);
        }
        let live = self.state.read().live_frames();
        if self.logged > 2 * live + SLACK_FRAMES { self.rewrite() } else { Ok(()) }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.drain()?;
        if self.dirty { self.rewrite() } else { Ok(()) }
    }

    /// One segment into files. Every step may be repeated after a crash.
    fn settle(&mut self, segment: &Arc<Segment>) -> io::Result<()> {
        let bytes = fs::read(&segment.path)?;
        let mut frames = Vec::new();
        for item in scan(&bytes) {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let Scanned::Frame(at, decoded) = item else { continue };
            self.materialise(
                &decoded.frame,
                decoded.content.map(|c| &bytes[at + c..at + decoded.len]),
                segment,
            )?;
            frames.push(decoded.frame);
        }
        self.dir.sync_all()?;
        let mut log = Vec::new();
        for frame in &frames {
            frame.encode(None, &mut log);
        }
        let mut tags = OpenOptions::new().append(true).open(self.dir.tags())?;
        tags.write_all(&log)?;
        tags.sync_data()?;
        self.logged += frames.len();
        self.dirty |= !frames.is_empty();
        self.state.write().settle(&frames, segment);
        fs::remove_file(&segment.path)?;
        sync_dir(self.dir.own())
    }

    fn materialise(&self, frame: &Frame, content: Option<&[u8]>, segment: &Arc<Segment>) -> io::Result<()> {
        let (artifact, content) = match (frame, content) {
            (Frame::Record(artifact) | Frame::Referrer { artifact, .. }, Some(content)) => {
                (artifact, content)
            }
            (Frame::Unrecord { cid, garbage }, _) => return self.remove(garbage, cid),
            (Frame::Unreferrer { subject, garbage, .. }, _) => return self.remove(garbage, subject),
            _ => return Ok(()),
        };
        // What was removed or replaced since needs no file.
        if !self.state.read().is_current(frame, segment) {
            return Ok(());
        }
        let (manifest, blob) = content.split_at(content.len().min(artifact.manifest_size as usize));
        self.dir.write_blob(&artifact.cid, blob)?;
        self.dir.write_blob(&artifact.manifest, manifest)
    }

    fn remove(&self, garbage: &[super::frame::Digest], subject: &dir_core::Cid) -> io::Result<()> {
        for digest in garbage {
            let live = self.state.read().is_live(digest, subject);
            if !live {
                self.dir.remove_blob(digest)?;
            }
        }
        Ok(())
    }

    /// Writes `index.json`, then the tag log from nothing.
    fn rewrite(&mut self) -> io::Result<()> {
        foreign::write_index(&self.dir, &self.state)?;
        self.logged = foreign::write_tags(&self.dir, &self.state)?;
        self.dirty = false;
        Ok(())
    }
}
