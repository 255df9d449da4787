//! `index.json`: writing it for ordinary tools, and reading what they wrote (OCI image-spec 1.1, `image-layout.md`).

use super::frame::{Artifact, Digest, Frame};
use super::segment::{Dir, read_file};
use super::state::State;
use crate::artifact::{Descriptor, KEY_REF_NAME, Manifest, blob_type};
use crate::limits::Limits;
use dir_core::Cid;
use dir_core::oci::{INDEX, KEY_CID, KEY_REFERRER_TYPE, MANIFEST};
use parking_lot::RwLock;
use std::collections::{HashMap, HashSet};
use std::io::{self, BufWriter, Write};
use std::time::UNIX_EPOCH;

/// Indexes within indexes are followed this deep.
const MAX_NESTING: u8 = 4;

/// Size and modification time (nanoseconds) of `index.json`.
pub(super) fn fingerprint(dir: &Dir) -> io::Result<Frame> {
    let meta = std::fs::metadata(dir.index())?;
    let modified = match meta.modified()?.duration_since(UNIX_EPOCH) {
        Ok(after) => i128::try_from(after.as_nanos()).unwrap_or(i128::MAX),
        Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX),
    };
    Ok(Frame::Index { size: meta.len(), modified })
}

/// Frames that are cloned out of a state at a time: nobody who wants to write waits for more.
const FRAMES_PER_TURN: usize = 512;

/// Hands over the frames that make a state from nothing, for everything that is in files. What is removed
/// meanwhile may be among them or not: its removal is in the journal.
fn each_frame(state: &RwLock<State>, mut take: impl FnMut(&Frame) -> io::Result<()>) -> io::Result<()> {
    let cids = state.read().in_files();
    for some in cids.chunks(FRAMES_PER_TURN) {
        let frames: Vec<Frame> = {
            let state = state.read();
            some.iter().flat_map(|cid| state.frames_of(cid)).collect()
        };
        frames.iter().try_for_each(&mut take)?;
    }
    let foreign = state.read().foreign.clone();
    foreign.into_iter().map(Frame::Foreign).try_for_each(|frame| take(&frame))
}

/// Writes `index.json` from a state.
pub(super) fn write_index(dir: &Dir, state: &RwLock<State>) -> io::Result<()> {
    dir.write(&dir.index(), true, |file| {
        let mut out = BufWriter::new(file);
        write!(out, r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":["#)?;
        let mut first = true;
        each_frame(state, |frame| {
            out.write_all(if std::mem::take(&mut first) { b"" } else { b"," })?;
            match frame {
                Frame::Record(artifact) => write_descriptor(&mut out, artifact, artifact.cid.to_string()),
                Frame::Referrer { artifact, tag, .. } => write_descriptor(&mut out, artifact, tag.clone()),
                Frame::Foreign(json) => out.write_all(json),
                // No state is made of these.
                Frame::Unrecord { .. } | Frame::Unreferrer { .. } | Frame::Index { .. } => Ok(()),
            }
        })?;
        out.write_all(b"]}")?;
        out.flush()
    })
}

fn write_descriptor(out: &mut impl Write, artifact: &Artifact, tag: String) -> io::Result<()> {
    let descriptor = Descriptor {
        media_type: MANIFEST.to_owned(),
        digest: artifact.manifest.oci_digest(),
        size: u64::from(artifact.manifest_size),
        artifact_type: Some(MANIFEST.to_owned()),
        annotations: (!tag.is_empty()).then(|| [(KEY_REF_NAME.to_owned(), tag)].into()),
    };
    Ok(serde_json::to_writer(out, &descriptor)?)
}

/// Writes the tag log from nothing; answers how many frames it has.
pub(super) fn write_tags(dir: &Dir, state: &RwLock<State>) -> io::Result<usize> {
    let index = fingerprint(dir)?;
    let mut written = 0;
    dir.write(&dir.tags(), true, |file| {
        let (mut out, mut bytes) = (BufWriter::new(file), Vec::new());
        let mut write = |frame: &Frame| {
            bytes.clear();
            frame.encode(None, &mut bytes);
            written += 1;
            out.write_all(&bytes)
        };
        each_frame(state, &mut write)?;
        write(&index)?;
        out.flush()
    })?;
    Ok(written)
}

/// Reads `index.json` and the manifests that `known` does not have.
pub(super) fn import(dir: &Dir, limits: &Limits, known: &State) -> io::Result<Vec<Frame>> {
    let bytes = std::fs::read(dir.index())?;
    let index: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| {
        io::Error::new(io::ErrorKind::InvalidData, format!("index.json is not an OCI index: {e}"))
    })?;
    let mut import = Import {
        dir,
        limits,
        known: known_manifests(known),
        records: Vec::new(),
        by_manifest: HashMap::new(),
        candidates: Vec::new(),
        foreign: Vec::new(),
    };
    for raw in index.get("manifests").and_then(|m| m.as_array()).unwrap_or(&Vec::new()) {
        import.descriptor(raw);
    }
    Ok(import.finish())
}

/// Finds records and referrers whose manifests are in files and nowhere else: what a damaged tag log has lost.
pub(super) fn recover(dir: &Dir, limits: &Limits, state: &State) -> io::Result<Vec<Frame>> {
    let known = known_manifests(state);
    let mut import = Import {
        dir,
        limits,
        known: HashMap::new(),
        records: Vec::new(),
        by_manifest: state.records.iter().map(|(cid, e)| (e.manifest, *cid)).collect(),
        candidates: Vec::new(),
        foreign: Vec::new(),
    };
    for digest in dir.blobs()? {
        if known.contains_key(&digest) || state.records.contains_key(&digest) || state.pins.contains(&digest)
        {
            continue;
        }
        let Some((manifest, size)) = import.manifest(&digest) else { continue };
        // A record's tag is the CID that its manifest names and its content has.
        match manifest.content().filter(|cid| manifest.annotation(KEY_CID) == cid.to_string()) {
            Some(cid) if manifest.is_record() && !state.records.contains_key(&cid) => {
                import.record(digest, &manifest, size, &cid.to_string());
            }
            _ if manifest.subject.is_some() => {
                import.candidates.push((digest, manifest, size, String::new(), Vec::new()));
            }
            _ => {}
        }
    }
    Ok(import.finish())
}

/// The artifacts that are known already, by manifest.
fn known_manifests(known: &State) -> HashMap<Digest, Frame> {
    let mut out = HashMap::new();
    for (cid, entry) in &known.records {
        out.insert(entry.manifest, Frame::Record(entry.artifact(cid)));
        for r in entry.referrers() {
            let frame = Frame::Referrer {
                subject: *cid,
                artifact: r.artifact.clone(),
                api_type: r.api_type.to_string(),
                tag: r.tag.to_string(),
            };
            out.insert(r.artifact.manifest, frame);
        }
    }
    out
}

struct Import<'a> {
    dir: &'a Dir,
    limits: &'a Limits,
    known: HashMap<Digest, Frame>,
    records: Vec<Frame>,
    by_manifest: HashMap<Digest, Cid>,
    /// Manifests with a subject: digest, manifest, its size, tag, raw descriptor.
    candidates: Vec<(Digest, Manifest, u32, String, Vec<u8>)>,
    foreign: Vec<Frame>,
}

impl Import<'_> {
    fn descriptor(&mut self, raw: &serde_json::Value) {
        let json = raw.to_string().into_bytes();
        let Ok(descriptor) = serde_json::from_value::<Descriptor>(raw.clone()) else {
            self.foreign.push(Frame::Foreign(json));
            return;
        };
        let tag = descriptor.annotation(KEY_REF_NAME).to_owned();
        let Some(digest) = Cid::from_oci_digest(&descriptor.digest) else {
            self.foreign.push(Frame::Foreign(json));
            return;
        };
        if let Some(frame) = self.known.get(&digest).cloned() {
            return self.add_known(digest, frame, &tag);
        }
        let Some((manifest, size)) = self.manifest(&digest) else {
            self.foreign.push(Frame::Foreign(json));
            return;
        };
        if manifest.is_record() && tag.parse::<Cid>().is_ok() {
            self.record(digest, &manifest, size, &tag);
        } else if manifest.subject.is_some() {
            self.candidates.push((digest, manifest, size, tag, json));
        } else if is_fallback_tag(&tag) {
            // The referrers tag schema: what it lists stands for itself here, so that the tag is not needed.
            for listed in manifest.manifests.unwrap_or_default() {
                if let Some(digest) = Cid::from_oci_digest(&listed.digest)
                    && let Some((manifest, size)) = self.manifest(&digest)
                    && manifest.subject.is_some()
                {
                    let json = serde_json::to_vec(&listed).unwrap_or_default();
                    self.candidates.push((digest, manifest, size, String::new(), json));
                }
            }
        } else {
            self.foreign.push(Frame::Foreign(json));
        }
    }

    fn add_known(&mut self, digest: Digest, frame: Frame, tag: &str) {
        match frame {
            Frame::Record(artifact) => {
                // The same manifest may be there again under a tag that is no CID: the record is what counts.
                let first = tag == artifact.cid.to_string()
                    && self.by_manifest.insert(digest, artifact.cid).is_none();
                self.records.extend(first.then_some(Frame::Record(artifact)));
            }
            Frame::Referrer { artifact, .. } => {
                if let Some((manifest, size)) = self.manifest(&artifact.manifest) {
                    self.candidates.push((digest, manifest, size, tag.to_owned(), Vec::new()));
                }
            }
            _ => {}
        }
    }

    fn manifest(&self, digest: &Digest) -> Option<(Manifest, u32)> {
        let bytes = read_file(&self.dir.blob(digest), self.limits.max_manifest_bytes).ok()?;
        if Cid::of(&bytes) != *digest {
            return None;
        }
        Some((Manifest::parse(&bytes, "index entry").ok()?, u32::try_from(bytes.len()).ok()?))
    }

    fn record(&mut self, digest: Digest, manifest: &Manifest, size: u32, tag: &str) {
        let Ok(cid) = tag.parse::<Cid>() else { return };
        let layer = manifest.layers.as_deref().unwrap_or_default().first();
        let artifact = Artifact {
            cid,
            manifest: digest,
            manifest_size: size,
            blob_size: layer.and_then(|l| u32::try_from(l.size).ok()).unwrap_or_default(),
            created: manifest.created().map(|t| t.0),
        };
        if self.by_manifest.insert(digest, cid).is_none() {
            self.records.push(Frame::Record(artifact));
        }
    }

    fn finish(mut self) -> Vec<Frame> {
        let candidates = std::mem::take(&mut self.candidates);
        let mut referrers = Vec::new();
        let mut seen = HashSet::new();
        for (digest, manifest, size, tag, json) in candidates {
            match self.referrer(digest, &manifest, size, &tag) {
                Some(frame) if seen.insert(digest) => referrers.push((manifest.created(), frame)),
                Some(_) => {}
                None if json.is_empty() => {}
                None => self.foreign.push(Frame::Foreign(json)),
            }
        }
        referrers.sort_by_key(|(created, _)| *created);
        let mut out = self.records;
        out.extend(referrers.into_iter().map(|(_, frame)| frame));
        out.extend(self.foreign);
        out
    }

    fn referrer(&self, digest: Digest, manifest: &Manifest, size: u32, tag: &str) -> Option<Frame> {
        let subject = Cid::from_oci_digest(&manifest.subject.as_ref()?.digest)?;
        let subject = *self.by_manifest.get(&subject)?;
        let cid = manifest.content()?;
        let layer = manifest.layers.as_deref()?.first()?;
        let api_type = match manifest.annotation(KEY_REFERRER_TYPE) {
            "" => blob_type(&read_file(&self.dir.blob(&cid), self.limits.max_blob_bytes).ok()?)?,
            named => named.to_owned(),
        };
        let artifact = Artifact {
            cid,
            manifest: digest,
            manifest_size: size,
            blob_size: u32::try_from(layer.size).ok()?,
            created: manifest.created().map(|t| t.0),
        };
        Some(Frame::Referrer { subject, artifact, api_type, tag: tag.to_owned() })
    }
}

/// `sha256-<64 hex digits>`: the referrers tag schema of the distribution specification.
fn is_fallback_tag(tag: &str) -> bool {
    tag.strip_prefix("sha256-").is_some_and(|hex| Cid::from_oci_digest(&format!("sha256:{hex}")).is_some())
}

/// Everything that the descriptors of others refer to.
pub(super) fn pins(dir: &Dir, limits: &Limits, foreign: &[Vec<u8>]) -> HashSet<Digest> {
    let mut out = HashSet::new();
    for json in foreign {
        if let Ok(descriptor) = serde_json::from_slice::<Descriptor>(json) {
            pin(dir, limits, &descriptor, MAX_NESTING, &mut out);
        }
    }
    out
}

fn pin(dir: &Dir, limits: &Limits, descriptor: &Descriptor, depth: u8, out: &mut HashSet<Digest>) {
    let Some(digest) = Cid::from_oci_digest(&descriptor.digest) else { return };
    if !out.insert(digest) || depth == 0 {
        return;
    }
    let Ok(bytes) = read_file(&dir.blob(&digest), limits.max_manifest_bytes) else { return };
    let Ok(manifest) = Manifest::parse(&bytes, "index entry") else { return };
    for blob in manifest.config.iter().chain(manifest.layers.iter().flatten()) {
        out.extend(Cid::from_oci_digest(&blob.digest));
    }
    for nested in manifest.manifests.iter().flatten() {
        pin(dir, limits, nested, depth - 1, out);
    }
}
