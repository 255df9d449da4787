//! What the layout holds, in memory: one entry a record, with its referrers.

use super::frame::{Artifact, Digest, Frame};
use super::segment::Segment;
use dir_core::store::StoredReferrer;
use dir_core::{Cid, Timestamp};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Where the content of an artifact is read from.
#[derive(Debug, Clone)]
pub(super) enum Loc {
    /// `blobs/sha256/<hex>`.
    Files,
    /// The journal, at this offset: the manifest, then the blob.
    Journal(Arc<Segment>, u64),
}

impl Loc {
    fn is_in(&self, segment: &Arc<Segment>) -> bool {
        matches!(self, Loc::Journal(s, _) if Arc::ptr_eq(s, segment))
    }

    /// Whether ordinary tools can read it already.
    pub(super) fn is_files(&self) -> bool {
        matches!(self, Loc::Files)
    }
}

/// A record.
#[derive(Debug)]
pub(super) struct RecordEntry {
    pub(super) artifact: Artifact,
    pub(super) loc: Loc,
    /// Oldest first.
    pub(super) referrers: Vec<ReferrerEntry>,
}

/// A referrer.
#[derive(Debug, Clone)]
pub(super) struct ReferrerEntry {
    pub(super) artifact: Artifact,
    pub(super) api_type: Arc<str>,
    /// Its tag in a directory that others wrote, else empty.
    pub(super) tag: Box<str>,
    pub(super) loc: Loc,
}

impl ReferrerEntry {
    pub(super) fn stored(&self) -> StoredReferrer {
        StoredReferrer {
            cid: self.artifact.cid,
            api_type: self.api_type.to_string(),
            manifest_digest: self.artifact.manifest.oci_digest(),
            created: self.artifact.created.map(Timestamp),
        }
    }
}

/// Everything in the layout.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) records: HashMap<Cid, RecordEntry>,
    /// How many referrers have this blob.
    referrer_blobs: HashMap<Cid, u32>,
    /// Descriptors of others, as JSON, in the order found.
    pub(super) foreign: Vec<Vec<u8>>,
    /// Digests that what others wrote refers to.
    pub(super) pins: HashSet<Digest>,
}

impl State {
    /// Applies a change. Repeating one changes nothing.
    pub(super) fn apply(&mut self, frame: Frame, loc: Loc) {
        match frame {
            Frame::Record(artifact) => self.add_record(artifact, loc),
            Frame::Referrer { subject, artifact, api_type, tag } => {
                let entry = ReferrerEntry { artifact, api_type: api_type.into(), tag: tag.into(), loc };
                self.add_referrer(&subject, entry);
            }
            Frame::Unrecord { cid, .. } => {
                if let Some(entry) = self.records.remove(&cid) {
                    for referrer in &entry.referrers {
                        self.release(referrer.artifact.cid);
                    }
                }
            }
            Frame::Unreferrer { subject, manifest, .. } => {
                let Some(entry) = self.records.get_mut(&subject) else { return };
                let Some(at) = entry.referrers.iter().position(|r| r.artifact.manifest == manifest) else {
                    return;
                };
                let gone = entry.referrers.remove(at);
                self.release(gone.artifact.cid);
            }
            Frame::Foreign(json) => self.foreign.push(json),
            Frame::Index { .. } => {}
        }
    }

    fn add_record(&mut self, artifact: Artifact, loc: Loc) {
        match self.records.get_mut(&artifact.cid) {
            Some(entry) if entry.artifact.manifest == artifact.manifest => entry.loc = loc,
            Some(entry) => {
                entry.artifact = artifact;
                entry.loc = loc;
            }
            None => {
                self.records.insert(artifact.cid, RecordEntry { artifact, loc, referrers: Vec::new() });
            }
        }
    }

    fn add_referrer(&mut self, subject: &Cid, referrer: ReferrerEntry) {
        let Some(entry) = self.records.get_mut(subject) else { return };
        let same = entry.referrers.iter_mut().find(|r| r.artifact.manifest == referrer.artifact.manifest);
        if let Some(same) = same {
            same.loc = referrer.loc;
        } else {
            *self.referrer_blobs.entry(referrer.artifact.cid).or_default() += 1;
            entry.referrers.push(referrer);
        }
    }

    fn release(&mut self, blob: Cid) {
        if let Some(n) = self.referrer_blobs.get_mut(&blob) {
            *n -= 1;
            if *n == 0 {
                self.referrer_blobs.remove(&blob);
            }
        }
    }

    /// Whether a file with this digest must stay. `subject` is the record that it belonged to.
    pub(super) fn is_live(&self, digest: &Digest, subject: &Cid) -> bool {
        let of_subject = self.records.get(subject).is_some_and(|e| {
            e.artifact.manifest == *digest || e.referrers.iter().any(|r| r.artifact.manifest == *digest)
        });
        of_subject
            || self.records.contains_key(digest)
            || self.referrer_blobs.contains_key(digest)
            || self.pins.contains(digest)
            || *digest == Cid::of(dir_core::oci::EMPTY_CONFIG_BYTES)
    }

    /// The artifact that `frame` put there, if it is still there and still read from `segment`.
    pub(super) fn is_current(&self, frame: &Frame, segment: &Arc<Segment>) -> bool {
        match frame {
            Frame::Record(a) => self
                .records
                .get(&a.cid)
                .is_some_and(|e| e.artifact.manifest == a.manifest && e.loc.is_in(segment)),
            Frame::Referrer { subject, artifact, .. } => self.records.get(subject).is_some_and(|e| {
                e.referrers.iter().any(|r| r.artifact.manifest == artifact.manifest && r.loc.is_in(segment))
            }),
            _ => false,
        }
    }

    /// What was read from `segment` is read from files from now on.
    pub(super) fn settle(&mut self, frames: &[Frame], segment: &Arc<Segment>) {
        for frame in frames {
            let (subject, manifest) = match frame {
                Frame::Record(a) => (&a.cid, None),
                Frame::Referrer { subject, artifact, .. } => (subject, Some(artifact.manifest)),
                _ => continue,
            };
            let Some(entry) = self.records.get_mut(subject) else { continue };
            match manifest {
                None if entry.loc.is_in(segment) => entry.loc = Loc::Files,
                None => {}
                Some(manifest) => {
                    for r in &mut entry.referrers {
                        if r.artifact.manifest == manifest && r.loc.is_in(segment) {
                            r.loc = Loc::Files;
                        }
                    }
                }
            }
        }
    }

    /// The digests that leave with a record.
    pub(super) fn garbage_of_record(&self, cid: &Cid) -> Option<Vec<Digest>> {
        let entry = self.records.get(cid)?;
        let mut out = vec![entry.artifact.manifest, *cid];
        for r in &entry.referrers {
            out.push(r.artifact.manifest);
            out.push(r.artifact.cid);
        }
        Some(out)
    }

    /// The frames that make this state from nothing, for everything that is in files.
    pub(super) fn frames(&self) -> Vec<Frame> {
        let mut cids: Vec<_> =
            self.records.iter().filter(|(_, e)| e.loc.is_files()).map(|(c, _)| *c).collect();
        cids.sort_unstable();
        let mut out = Vec::with_capacity(cids.len());
        for cid in cids {
            let Some(entry) = self.records.get(&cid) else { continue };
            out.push(Frame::Record(entry.artifact.clone()));
            for r in entry.referrers.iter().filter(|r| r.loc.is_files()) {
                out.push(Frame::Referrer {
                    subject: cid,
                    artifact: r.artifact.clone(),
                    api_type: r.api_type.to_string(),
                    tag: r.tag.to_string(),
                });
            }
        }
        out.extend(self.foreign.iter().cloned().map(Frame::Foreign));
        out
    }
}
