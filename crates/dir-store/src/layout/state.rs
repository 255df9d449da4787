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

/// A record: what is known of each of them is kept small, and its CID is its key.
#[derive(Debug)]
pub(super) struct RecordEntry {
    pub(super) manifest: Digest,
    manifest_size: u32,
    blob_size: u32,
    /// As the artifact has it; [`NO_TIME`] where it does not say.
    created: i64,
    pub(super) loc: Loc,
    /// Oldest first; most records have none.
    #[allow(clippy::box_collection)] // eight bytes instead of 24
    referrers: Option<Box<Vec<ReferrerEntry>>>,
}

/// `created` of an artifact that does not say.
const NO_TIME: i64 = i64::MIN;

impl RecordEntry {
    fn new(artifact: &Artifact, loc: Loc) -> Self {
        Self {
            manifest: artifact.manifest,
            manifest_size: artifact.manifest_size,
            blob_size: artifact.blob_size,
            created: artifact.created.unwrap_or(NO_TIME),
            loc,
            referrers: None,
        }
    }

    /// The artifact of the record `cid`, whose entry this is.
    pub(super) fn artifact(&self, cid: &Cid) -> Artifact {
        Artifact {
            cid: *cid,
            manifest: self.manifest,
            manifest_size: self.manifest_size,
            blob_size: self.blob_size,
            created: Some(self.created).filter(|created| *created != NO_TIME),
        }
    }

    /// Its referrers, oldest first.
    pub(super) fn referrers(&self) -> &[ReferrerEntry] {
        self.referrers.as_deref().map_or(&[], Vec::as_slice)
    }

    fn referrers_mut(&mut self) -> &mut [ReferrerEntry] {
        self.referrers.as_deref_mut().map_or(&mut [], Vec::as_mut_slice)
    }
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
    /// How many referrers there are.
    referrers: usize,
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
            Frame::Record(artifact) => self.add_record(&artifact, loc),
            Frame::Referrer { subject, artifact, api_type, tag } => {
                let entry = ReferrerEntry { artifact, api_type: api_type.into(), tag: tag.into(), loc };
                self.add_referrer(&subject, entry);
            }
            Frame::Unrecord { cid, .. } => {
                if let Some(entry) = self.records.remove(&cid) {
                    for referrer in entry.referrers() {
                        self.release(referrer.artifact.cid);
                    }
                }
            }
            Frame::Unreferrer { subject, manifest, .. } => {
                let Some(entry) = self.records.get_mut(&subject) else { return };
                let Some(referrers) = &mut entry.referrers else { return };
                let Some(at) = referrers.iter().position(|r| r.artifact.manifest == manifest) else { return };
                let gone = referrers.remove(at);
                if referrers.is_empty() {
                    entry.referrers = None;
                }
                self.release(gone.artifact.cid);
            }
            Frame::Foreign(json) => self.foreign.push(json),
            Frame::Index { .. } => {}
        }
    }

    fn add_record(&mut self, artifact: &Artifact, loc: Loc) {
        match self.records.get_mut(&artifact.cid) {
            Some(entry) => {
                let referrers = entry.referrers.take();
                *entry = RecordEntry { referrers, ..RecordEntry::new(artifact, loc) };
            }
            None => {
                self.records.insert(artifact.cid, RecordEntry::new(artifact, loc));
            }
        }
    }

    fn add_referrer(&mut self, subject: &Cid, referrer: ReferrerEntry) {
        let Some(entry) = self.records.get_mut(subject) else { return };
        let manifest = referrer.artifact.manifest;
        if let Some(same) = entry.referrers_mut().iter_mut().find(|r| r.artifact.manifest == manifest) {
            same.loc = referrer.loc;
        } else {
            *self.referrer_blobs.entry(referrer.artifact.cid).or_default() += 1;
            self.referrers += 1;
            entry.referrers.get_or_insert_default().push(referrer);
        }
    }

    fn release(&mut self, blob: Cid) {
        self.referrers -= 1;
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
            e.manifest == *digest || e.referrers().iter().any(|r| r.artifact.manifest == *digest)
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
            Frame::Record(a) => {
                self.records.get(&a.cid).is_some_and(|e| e.manifest == a.manifest && e.loc.is_in(segment))
            }
            Frame::Referrer { subject, artifact, .. } => self.records.get(subject).is_some_and(|e| {
                e.referrers().iter().any(|r| r.artifact.manifest == artifact.manifest && r.loc.is_in(segment))
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
                    for r in entry.referrers_mut() {
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
        let mut out = vec![entry.manifest, *cid];
        for r in entry.referrers() {
            out.push(r.artifact.manifest);
            out.push(r.artifact.cid);
        }
        Some(out)
    }

    /// How many frames make this state from nothing.
    pub(super) fn live_frames(&self) -> usize {
        self.records.len() + self.referrers + self.foreign.len()
    }

    /// The records that are in files, in order.
    pub(super) fn in_files(&self) -> Vec<Cid> {
        let mut cids: Vec<_> =
            self.records.iter().filter(|(_, e)| e.loc.is_files()).map(|(cid, _)| *cid).collect();
        cids.sort_unstable();
        cids
    }

    /// The frames that make a record from nothing, as far as it is in files.
    pub(super) fn frames_of<'a>(&'a self, cid: &'a Cid) -> impl Iterator<Item = Frame> + 'a {
        let entry = self.records.get(cid).filter(|entry| entry.loc.is_files());
        let referrers = entry.map_or(&[][..], RecordEntry::referrers).iter().filter(|r| r.loc.is_files());
        let referrers = referrers.map(|r| Frame::Referrer {
            subject: *cid,
            artifact: r.artifact.clone(),
            api_type: r.api_type.to_string(),
            tag: r.tag.to_string(),
        });
        entry.map(|entry| Frame::Record(entry.artifact(cid))).into_iter().chain(referrers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred thousand records are thirteen megabytes: a field more is a megabyte more.
    #[test]
    fn a_record_costs_so_many_bytes() {
        assert_eq!(size_of::<(Cid, RecordEntry)>(), 104);
    }
}
