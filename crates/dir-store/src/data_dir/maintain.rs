//! Looking after a registry's directory.

use super::repo::{Entry, Repo};
use super::{DataDirStore, State, chunks, reshard};
use crate::artifact::Manifest;
use crate::oci::stamp::STAMP_TAG;
use async_trait::async_trait;
use dir_core::maintenance::{
    Arrangement, Depth, Finding, Inspected, Reshard, Spread, StoreMaintenance, Trouble,
};
use dir_core::oci::KEY_REFERRER_TYPE;
use dir_core::store::{BoxStream, StoreError, WalkMark};
use dir_core::{Cid, RecordFacts, Timestamp};
use futures::stream;

#[async_trait]
impl StoreMaintenance for DataDirStore {
    async fn arrangement(&self) -> Result<Arrangement, StoreError> {
        let placed = self.state.lock().placed;
        Ok(Arrangement { now: placed.now.into(), leaving: placed.leaving.map(Spread::from) })
    }

    async fn recognised(&self) -> Result<bool, StoreError> {
        // Whoever named the directory means this one; it was looked at when it was opened.
        Ok(true)
    }

    fn names(&self) -> BoxStream<'_, Result<Vec<Cid>, StoreError>> {
        let plan = self.plan(None);
        Box::pin(stream::iter(plan.into_iter().map(|(_, tags)| Ok(tags))))
    }

    fn inspect(&self, depth: Depth, from: Option<WalkMark>) -> BoxStream<'_, Result<Inspected, StoreError>> {
        let behind = match from.as_ref().map(|WalkMark(text)| (text, text.strip_prefix(super::MARK))) {
            None => String::new(),
            Some((_, Some(name))) => name.to_owned(),
            Some((text, None)) => {
                let why = format!(
                    "mark {text:?} is not of a registry's data directory: begin at the start, without a mark"
                );
                return Box::pin(stream::iter([Err(StoreError::Layout(why))]));
            }
        };
        let state = self.state.lock();
        let repos = state.repos.values().filter(|repo| repo.name > behind);
        let plan = repos.map(|repo| (repo.name.clone(), repo.entries.clone())).collect();
        drop(state);
        let work = move |repo: &str, entries: &[Entry]| {
            let state = self.state.lock();
            let look = |entry: &Entry| match state.repos.get(repo) {
                Some(repo) => self.entry(&state, repo, entry, depth),
                None => Ok(None),
            };
            entries.iter().filter_map(|entry| look(entry).transpose()).collect()
        };
        chunks(plan, work, |mark| Ok(Inspected::Mark(mark)))
    }

    async fn repair(&self, _finding: &Finding) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn restore(&self, _cid: &Cid, _facts: &RecordFacts, _at: Timestamp) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn reshard(
        &self,
        to: Spread,
        dry_run: bool,
        _ages: &[Cid],
    ) -> BoxStream<'_, Result<Reshard, StoreError>> {
        reshard::reshard(self, to, dry_run)
    }
}

impl DataDirStore {
    /// One entry of `index.json`; `None` for the stamp.
    fn entry(
        &self,
        state: &State,
        repo: &Repo,
        entry: &Entry,
        depth: Depth,
    ) -> Result<Option<Inspected>, StoreError> {
        let found = |trouble, cid, detail: &str| {
            Ok(Some(Inspected::Finding(Finding {
                trouble,
                place: repo.name.clone(),
                tag: entry.tag.clone(),
                manifest: entry.digest.oci_digest(),
                cid,
                detail: detail.to_owned(),
            })))
        };
        if entry.tag == STAMP_TAG {
            return Ok(None);
        }
        let cid = entry.tag.parse::<Cid>().ok();
        let manifest = match repo.examine(&entry.digest, &entry.tag, &self.config.limits)? {
            Ok(manifest) => manifest,
            Err(why) => return found(Trouble::Broken, cid, &why),
        };
        if let Some(subject) = &manifest.subject {
            let ours = !manifest.annotation(KEY_REFERRER_TYPE).is_empty();
            let there = Cid::from_oci_digest(&subject.digest)
                .is_none_or(|digest| state.listed.contains(&(repo.name.clone(), digest)));
            if ours && !there {
                return found(
                    Trouble::Orphan,
                    None,
                    &format!("it refers to {}, which is gone", subject.digest),
                );
            }
            return Ok(Some(Inspected::Referrer));
        }
        let Some(cid) = cid.filter(|_| manifest.is_record()) else {
            return found(Trouble::Foreign, None, "neither a record nor a referrer");
        };
        let homes = state.placed.homes(self.stem(), &cid);
        if !homes.contains(&repo.name) {
            let held = state.records.get(&cid).into_iter().flatten().any(|(name, _)| homes.contains(name));
            let home = &homes[0];
            return if held {
                found(
                    Trouble::Duplicate,
                    Some(cid),
                    &format!("the record is in {home} too, where it belongs"),
                )
            } else {
                found(
                    Trouble::Stray,
                    Some(cid),
                    &format!("the record belongs in {home}, where nobody finds it"),
                )
            };
        }
        match self.broken(repo, &cid, &manifest, depth)? {
            Some(why) => found(Trouble::Broken, Some(cid), &why),
            None => Ok(Some(Inspected::Record(cid))),
        }
    }

    /// Why the content of a record is not what its tag says.
    fn broken(
        &self,
        repo: &Repo,
        cid: &Cid,
        manifest: &Manifest,
        depth: Depth,
    ) -> Result<Option<String>, StoreError> {
        if let Err(error) = manifest.check_record_layer(cid) {
            return Ok(Some(error.to_string()));
        }
        let missing = || Some("its content is missing".to_owned());
        if depth == Depth::Manifests {
            return Ok(if repo.has_blob(cid) { None } else { missing() });
        }
        Ok(match repo.bytes(cid, self.config.limits.max_blob_bytes)? {
            Some(bytes) if Cid::of(&bytes) == *cid => None,
            Some(_) => Some("its content does not hash to its CID".to_owned()),
            None => missing(),
        })
    }
}
