//! Opening a layout directory: ours, somebody else's, or an empty one.

use super::LayoutConfig;
use super::checkpoint::{Checkpoint, Job};
use super::foreign;
use super::frame::{Artifact, Frame, Scanned, scan};
use super::segment::{Dir, Segment, read_file};
use super::state::{Loc, State};
use super::writer::{Command, Writer};
use dir_core::Cid;
use dir_core::oci::{EMPTY_CONFIG_BYTES, INDEX};
use dir_core::store::StoreError;
use parking_lot::RwLock;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc as jobs;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long a lock that is held is tried again.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// Pause between two tries.
const LOCK_LOOK: Duration = Duration::from_millis(10);
/// Changes that wait for the writer before callers wait to hand theirs over.
const QUEUE: usize = 1024;

/// An open directory with its threads running.
pub(super) struct Opened {
    pub(super) dir: Arc<Dir>,
    pub(super) state: Arc<RwLock<State>>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) jobs: jobs::Sender<Job>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) lock: File,
}

/// Opens the directory and starts its threads.
pub(super) fn open(config: &LayoutConfig) -> Result<Opened, StoreError> {
    let dir = Arc::new(Dir::new(&config.path));
    let failed = |what: &str, error: io::Error| StoreError::Unavailable {
        context: format!("{what} {}", config.path.display()),
        source: Box::new(error),
    };
    dir.create().map_err(|e| failed("create the image layout directory", e))?;
    let lock = take_lock(&dir)?;
    let read = (|| {
        skeleton(&dir)?;
        load(&dir, config)
    })();
    let loaded = read.map_err(|e| failed("open the image layout directory", e))?;
    start(dir, config, loaded, lock).map_err(|e| failed("start writing to the image layout directory", e))
}

fn take_lock(dir: &Dir) -> Result<File, StoreError> {
    let path = dir.lock();
    let failed = |error: io::Error| StoreError::Unavailable {
        context: format!("lock {}", path.display()),
        source: Box::new(error),
    };
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match lock_soon(&file) {
        Ok(()) => {
            file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(failed)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            let _ = file.take(32).read_to_string(&mut owner);
            Err(StoreError::Layout(format!(
                "the image layout directory {} is in use by another process (process id {}): stop that one, or \
                 give this one a directory of its own (store.oci.local_dir)",
                dir.root.display(),
                if owner.is_empty() { "unknown" } else { owner.trim() }
            )))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Takes the lock, with a little patience: a process that this one has just forked holds our former lock too, until
/// it runs its own program.
fn lock_soon(file: &File) -> Result<(), TryLockError> {
    let end = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(LOCK_LOOK),
            other => return other,
        }
    }
}

/// What every image layout has.
fn skeleton(dir: &Dir) -> io::Result<()> {
    let marker = dir.root.join("oci-layout");
    match fs::read(&marker) {
        Ok(bytes) => {
            let version: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let version = version.get("imageLayoutVersion").and_then(|v| v.as_str()).unwrap_or("none");
            if version.split('.').next() != Some("1") {
                let text = format!("oci-layout names imageLayoutVersion {version}, which is not 1.x");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            dir.write(&marker, true, |f| f.write_all(br#"{"imageLayoutVersion":"1.0.0"}"#))?;
        }
        Err(e) => return Err(e),
    }
    if !dir.index().exists() {
        let empty = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[]}}"#);
        dir.write(&dir.index(), true, |f| f.write_all(empty.as_bytes()))?;
    }
    let config = Cid::of(EMPTY_CONFIG_BYTES);
    if read_file(&dir.blob(&config), 16).ok().as_deref() != Some(EMPTY_CONFIG_BYTES) {
        dir.write(&dir.blob(&config), true, |f| f.write_all(EMPTY_CONFIG_BYTES))?;
    }
    Ok(())
}

/// What was found.
struct Loaded {
    state: State,
    waiting: Vec<Arc<Segment>>,
    logged: usize,
    dirty: bool,
    next_segment: u64,
}

fn load(dir: &Dir, config: &LayoutConfig) -> io::Result<Loaded> {
    let tags = read_tags(dir)?;
    let mut logged = tags.frames;
    let mut dirty = tags.index.as_ref().is_none_or(|(_, at)| *at < tags.good);
    let ours = tags.index.as_ref().map(|(frame, _)| frame);
    let mut state = State::default();
    if !tags.damaged && ours.is_some_and(|index| foreign::fingerprint(dir).is_ok_and(|now| *index == now)) {
        tags.replay(0, |frame| state.apply(frame, Loc::Files));
    } else {
        state = adopt(dir, config, &tags)?;
        let adopted = RwLock::new(state);
        logged = foreign::write_tags(dir, &adopted)?;
        state = adopted.into_inner();
        // Without a log everything comes from `index.json`, which needs no word of ours then.
        dirty = dirty && tags.frames > 0 || tags.damaged;
    }
    state.pins = foreign::pins(dir, &config.limits, &state.foreign);
    drop(tags);
    let (waiting, next_segment) = replay(dir, &mut state)?;
    Ok(Loaded { state, dirty: dirty || !waiting.is_empty(), waiting, logged, next_segment })
}

/// Somebody else wrote `index.json` (or everything): it is the base, and our later changes go on top.
fn adopt(dir: &Dir, config: &LayoutConfig, tags: &Tags) -> io::Result<State> {
    let (mut state, mut known) = (State::default(), State::default());
    tags.replay(0, |frame| known.apply(frame, Loc::Files));
    for frame in foreign::import(dir, &config.limits, &known)? {
        state.apply(frame, Loc::Files);
    }
    let later = tags.index.as_ref().map_or(0, |(_, end)| *end);
    tags.replay(later, |frame| {
        // With a hole in the log, a removal may be what is missing: the files tell.
        let gone = |artifact: &Artifact| tags.damaged && !dir.blob(&artifact.manifest).exists();
        match &frame {
            Frame::Record(artifact) | Frame::Referrer { artifact, .. } if gone(artifact) => {}
            _ => state.apply(frame, Loc::Files),
        }
    });
    state.pins = foreign::pins(dir, &config.limits, &state.foreign);
    if tags.damaged {
        for frame in foreign::recover(dir, &config.limits, &state)? {
            state.apply(frame, Loc::Files);
        }
    }
    Ok(state)
}

/// The tag log as it was found. Its frames are decoded when they are wanted: together they would be larger than
/// what is made of them.
#[derive(Default)]
struct Tags {
    bytes: Vec<u8>,
    /// Bytes before an unfinished write.
    good: usize,
    frames: usize,
    /// The last word about `index.json`, and where it ends.
    index: Option<(Frame, usize)>,
    /// Frames in the middle are lost.
    damaged: bool,
}

impl Tags {
    /// Hands over the frames from an offset on.
    fn replay(&self, from: usize, mut take: impl FnMut(Frame)) {
        for item in scan(&self.bytes[from..self.good]) {
            if let Scanned::Frame(_, decoded) = item {
                take(decoded.frame);
            }
        }
    }
}

fn read_tags(dir: &Dir) -> io::Result<Tags> {
    let bytes = match fs::read(dir.tags()) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Tags::default()),
        Err(e) => return Err(e),
    };
    let (mut frames, mut index, mut damaged, mut good) = (0, None, false, bytes.len());
    for item in scan(&bytes) {
        match item {
            Scanned::Frame(at, decoded) => {
                frames += 1;
                if matches!(decoded.frame, Frame::Index { .. }) {
                    index = Some((decoded.frame, at + decoded.len));
                }
            }
            Scanned::Gap(from, to) => {
                damaged = true;
                tracing::error!(
                    from,
                    to,
                    "the tag log is damaged; reading the image index and every manifest instead"
                );
            }
            Scanned::Tail(at) => {
                good = at;
                tracing::warn!(
                    bytes = bytes.len() - at,
                    "the tag log ends in an unfinished write; dropping it"
                );
                OpenOptions::new().write(true).open(dir.tags())?.set_len(at as u64)?;
            }
        }
    }
    Ok(Tags { bytes, good, frames, index, damaged })
}

/// Replays the journal; its segments are put into files behind the caller's back.
fn replay(dir: &Dir, state: &mut State) -> io::Result<(Vec<Arc<Segment>>, u64)> {
    let mut waiting = Vec::new();
    let mut next = 1;
    for (id, path) in dir.segments()? {
        next = id + 1;
        let file = OpenOptions::new().read(true).append(true).open(&path)?;
        let segment = Arc::new(Segment { id, path, file });
        let bytes = fs::read(&segment.path)?;
        for item in scan(&bytes) {
            match item {
                Scanned::Frame(at, decoded) => {
                    let content = (at + decoded.content.unwrap_or_default()) as u64;
                    state.apply(decoded.frame, Loc::Journal(Arc::clone(&segment), content));
                }
                Scanned::Gap(from, to) => {
                    tracing::error!(from, to, segment = %segment.path.display(), "the journal is damaged: records are lost");
                }
                Scanned::Tail(at) => {
                    let bytes = bytes.len() - at;
                    tracing::warn!(bytes, segment = %segment.path.display(), "dropping an unfinished journal write");
                    segment.file.set_len(at as u64)?;
                }
            }
        }
        waiting.push(segment);
    }
    Ok((waiting, next))
}

fn start(dir: Arc<Dir>, config: &LayoutConfig, loaded: Loaded, lock: File) -> io::Result<Opened> {
    let state = Arc::new(RwLock::new(loaded.state));
    let stop = Arc::new(AtomicBool::new(false));
    let (job_sender, job_receiver) = jobs::channel();
    let (commands, receiver) = mpsc::channel(QUEUE);
    let writer = Writer {
        segment: Arc::new(dir.new_segment(loaded.next_segment)?),
        dir: Arc::clone(&dir),
        state: Arc::clone(&state),
        len: 0,
        segment_bytes: config.segment_bytes,
        jobs: job_sender.clone(),
    };
    let checkpoint = Checkpoint {
        dir: Arc::clone(&dir),
        state: Arc::clone(&state),
        stop: Arc::clone(&stop),
        waiting: loaded.waiting,
        logged: loaded.logged,
        dirty: loaded.dirty,
    };
    let threads = vec![
        std::thread::Builder::new().name("store-journal".to_owned()).spawn(move || writer.run(receiver))?,
        std::thread::Builder::new()
            .name("store-layout".to_owned())
            .spawn(move || checkpoint.run(&job_receiver))?,
    ];
    Ok(Opened { dir, state, commands, jobs: job_sender, stop, threads, lock })
}
