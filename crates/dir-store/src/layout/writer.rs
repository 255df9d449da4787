//! The one writer of the journal: a thread that takes changes in order, writes as many as wait, makes them
//! durable with one flush, and only then shows and acknowledges them.

use super::checkpoint::Job;
use super::frame::{Artifact, Digest, Frame};
use super::segment::{Dir, Segment};
use super::state::{Loc, State};
use bytes::Bytes;
use dir_core::Cid;
use dir_core::store::StoreError;
use parking_lot::RwLock;
use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc as jobs;
use tokio::sync::{mpsc, oneshot};

/// A change is written together with at most this many others,
const BATCH_COMMANDS: usize = 1024;
/// or with at most about this many bytes of others.
const BATCH_BYTES: usize = 8 << 20;

/// A change that is asked for.
#[derive(Debug)]
pub(super) enum Change {
    /// Store a record.
    Record { artifact: Artifact, manifest: Bytes, blob: Bytes },
    /// Store a referrer to the record `subject`, whose manifest is `subject_manifest`.
    Referrer {
        subject: Cid,
        subject_manifest: Digest,
        artifact: Artifact,
        api_type: String,
        manifest: Bytes,
        blob: Bytes,
    },
    /// Remove a record and its referrers.
    Unrecord(Cid),
    /// Remove a referrer by its manifest.
    Unreferrer { subject: Cid, manifest: Digest },
    /// Hand everything written so far to the checkpoint.
    Seal,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was made, durably.
    Done,
    /// It was so before.
    Unchanged,
    /// There is no such record.
    NoSubject,
    /// The subject was replaced in between: ask again.
    Moved,
}

/// A change and who waits for it.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) change: Change,
    pub(super) reply: Reply,
}

/// The state of the thread.
pub(super) struct Writer {
    pub(super) dir: Arc<Dir>,
    pub(super) state: Arc<RwLock<State>>,
    pub(super) segment: Arc<Segment>,
    /// Good bytes in the segment.
    pub(super) len: u64,
    pub(super) segment_bytes: u64,
    pub(super) jobs: jobs::Sender<Job>,
}

/// Manifest and blob.
type Content = (Bytes, Bytes);
/// Who waits for a change.
type Reply = oneshot::Sender<Result<Outcome, StoreError>>;

/// Changes written together.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Frame, offset of its content in `bytes`, who waits.
    frames: Vec<(Frame, usize, Reply)>,
    /// Records that the batch changes: what is asked about them next must see the change.
    touched: HashSet<Cid>,
}

impl Writer {
    /// Runs until every sender is gone.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut batch = Batch::default();
        while let Some(first) = commands.blocking_recv() {
            self.take(first, &mut batch);
            while batch.frames.len() < BATCH_COMMANDS && batch.bytes.len() < BATCH_BYTES {
                let Ok(next) = commands.try_recv() else { break };
                self.take(next, &mut batch);
            }
            self.commit(&mut batch);
            if self.len >= self.segment_bytes
                && let Err(error) = self.rotate()
            {
                tracing::error!(%error, "cannot start a new journal segment; going on with the old one");
            }
        }
    }

    fn take(&mut self, command: Command, batch: &mut Batch) {
        let Command { change, reply } = command;
        let subject = match &change {
            Change::Record { artifact, .. } => artifact.cid,
            Change::Referrer { subject, .. } | Change::Unreferrer { subject, .. } => *subject,
            Change::Unrecord(cid) => *cid,
            Change::Seal => {
                self.commit(batch);
                let sealed = if self.len > 0 { self.rotate() } else { Ok(()) };
                let _ = reply.send(sealed.map(|()| Outcome::Done).map_err(|e| unavailable(&e)));
                return;
            }
        };
        if batch.touched.contains(&subject) {
            self.commit(batch);
        }
        match self.judge(change) {
            Ok((frame, content)) => {
                let start = batch.bytes.len();
                let content = content.as_ref().map(|(m, b)| (m.as_ref(), b.as_ref()));
                let content_at = frame.encode(content, &mut batch.bytes);
                batch.frames.push((frame, start + content_at, reply));
                batch.touched.insert(subject);
            }
            Err(outcome) => {
                let _ = reply.send(Ok(outcome));
            }
        }
    }

    /// The frame for a change, or why there is none.
    fn judge(&self, change: Change) -> Result<(Frame, Option<Content>), Outcome> {
        let state = self.state.read();
        match change {
            Change::Record { artifact, manifest, blob } => {
                if state.records.contains_key(&artifact.cid) {
                    return Err(Outcome::Unchanged);
                }
                Ok((Frame::Record(artifact), Some((manifest, blob))))
            }
            Change::Referrer { subject, subject_manifest, artifact, api_type, manifest, blob } => {
                let entry = state.records.get(&subject).ok_or(Outcome::NoSubject)?;
                if entry.manifest != subject_manifest {
                    return Err(Outcome::Moved);
                }
                if entry.referrers().iter().any(|r| r.artifact.cid == artifact.cid) {
                    return Err(Outcome::Unchanged);
                }
                let frame = Frame::Referrer { subject, artifact, api_type, tag: String::new() };
                Ok((frame, Some((manifest, blob))))
            }
            Change::Unrecord(cid) => {
                let garbage = state.garbage_of_record(&cid).ok_or(Outcome::Unchanged)?;
                Ok((Frame::Unrecord { cid, garbage }, None))
            }
            Change::Unreferrer { subject, manifest } => {
                let entry = state.records.get(&subject).ok_or(Outcome::NoSubject)?;
                let found = entry.referrers().iter().find(|r| r.artifact.manifest == manifest);
                let garbage = vec![manifest, found.ok_or(Outcome::Unchanged)?.artifact.cid];
                Ok((Frame::Unreferrer { subject, manifest, garbage }, None))
            }
            Change::Seal => Err(Outcome::Unchanged),
        }
    }

    /// Makes the batch durable, shows it, acknowledges it.
    fn commit(&mut self, batch: &mut Batch) {
        let Batch { bytes, frames, .. } = std::mem::take(batch);
        if frames.is_empty() {
            return;
        }
        if let Err(error) = self.append(&bytes) {
            for (_, _, reply) in frames {
                let _ = reply.send(Err(unavailable(&error)));
            }
            self.abandon();
            return;
        }
        let base = self.len;
        self.len += bytes.len() as u64;
        let mut replies = Vec::with_capacity(frames.len());
        {
            let mut state = self.state.write();
            for (frame, content_at, reply) in frames {
                let loc = Loc::Journal(Arc::clone(&self.segment), base + content_at as u64);
                state.apply(frame, loc);
                replies.push(reply);
            }
        }
        for reply in replies {
            let _ = reply.send(Ok(Outcome::Done));
        }
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut file = &self.segment.file;
        file.write_all(bytes)?;
        file.sync_data()
    }

    /// After a failed write nothing is known about the end of the segment: cut it off and go on in a new one.
    fn abandon(&mut self) {
        if let Err(error) = self.segment.file.set_len(self.len) {
            tracing::error!(%error, segment = %self.segment.path.display(), "cannot cut off a failed journal write");
        }
        if let Err(error) = self.rotate() {
            tracing::error!(%error, "cannot start a new journal segment after a failed write");
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let next = Arc::new(self.dir.new_segment(self.segment.id + 1)?);
        let sealed = std::mem::replace(&mut self.segment, next);
        self.len = 0;
        // The other end goes away only when the store is being dropped; the segment is replayed then.
        let _ = self.jobs.send(Job::Segment(sealed));
        Ok(())
    }
}

fn unavailable(error: &io::Error) -> StoreError {
    StoreError::Unavailable {
        context: "write to the journal of the image layout".to_owned(),
        source: Box::new(io::Error::new(error.kind(), error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn put(n: u8) -> (Command, oneshot::Receiver<Result<Outcome, StoreError>>) {
        let (manifest, blob) = (Bytes::from(vec![n; 3]), Bytes::from(vec![n; 5]));
        let artifact = Artifact {
            cid: Cid::of(&blob),
            manifest: Cid::of(&manifest),
            manifest_size: 3,
            blob_size: 5,
            created: None,
        };
        let (reply, answer) = oneshot::channel();
        (Command { change: Change::Record { artifact, manifest, blob }, reply }, answer)
    }

    #[test]
    fn a_write_that_fails_is_told_to_everybody_and_the_next_one_goes_elsewhere() {
        let root = tempfile::tempdir().unwrap();
        let dir = Arc::new(Dir::new(root.path()));
        dir.create().unwrap();
        let state = Arc::new(RwLock::new(State::default()));
        // A segment that cannot be written: it is open for reading only.
        let good = dir.new_segment(1).unwrap();
        let segment = Arc::new(Segment { id: 1, file: File::open(&good.path).unwrap(), path: good.path });
        let (jobs, sealed) = jobs::channel();
        let writer = Writer { dir, state: Arc::clone(&state), segment, len: 0, segment_bytes: 1 << 20, jobs };
        let (commands, receiver) = mpsc::channel(8);
        let thread = {
            // Both wait before the writer starts, so that they are one batch.
            let answers: Vec<_> = [1, 2]
                .map(|n| {
                    let (command, answer) = put(n);
                    commands.try_send(command).unwrap();
                    answer
                })
                .into();
            let thread = std::thread::spawn(move || writer.run(receiver));
            for answer in answers {
                let failed = answer.blocking_recv().unwrap().unwrap_err();
                assert!(
                    failed.to_string().starts_with("write to the journal of the image layout"),
                    "{failed}"
                );
            }
            thread
        };
        assert!(state.read().records.is_empty(), "what is not durable is not shown");
        let (command, answer) = put(1);
        commands.try_send(command).unwrap();
        assert_eq!(answer.blocking_recv().unwrap().unwrap(), Outcome::Done);
        drop(commands);
        thread.join().unwrap();
        assert_eq!(state.read().records.len(), 1);
        assert!(matches!(sealed.try_recv(), Ok(Job::Segment(s)) if s.id == 1));
    }
}
