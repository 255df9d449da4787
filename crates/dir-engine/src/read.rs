//! Pull and lookup.

use crate::{Engine, EngineError, Notice, Op};
use bytes::Bytes;
use dir_core::index::Row;
use dir_core::oci;
use dir_core::store::{Known, StoreError};
use dir_core::{Cid, EventKind, Record, RecordFacts};
use std::collections::BTreeMap;
use std::error::Error;

/// What a lookup answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// `schema_version`; `0.7.0` when the store does not say.
    pub schema_version: String,
    /// `created_at` of the record, verbatim; empty when it has none.
    pub created_at: String,
    /// `name`, `version`, `oasf-version` and `previous-cid` when not empty, then the record's own annotations,
    /// which win.
    pub annotations: BTreeMap<String, String>,
}

/// The schema version of a manifest that names none.
const SCHEMA_FALLBACK: &str = "0.7.0";

impl Engine {
    /// The CID that a client named. Any text that is not a CID in the canonical spelling names no record, and
    /// nobody is asked.
    pub fn name(op: Op, text: &str) -> Result<Cid, EngineError> {
        if text.is_empty() {
            return Err(EngineError::CidRequired);
        }
        text.parse().ok().ok_or_else(|| EngineError::NotFound(op, text.to_owned()))
    }

    /// A record as the message that is sent, from memory, when it is there. The client asked for it.
    pub fn pull_cached(&self, cid: &Cid) -> Option<Bytes> {
        if self.0.events.wanted(EventKind::RecordPulled) {
            // Somebody wants to hear of it, labels included: take the long way.
            return None;
        }
        let hit = self.cached(cid)?;
        self.0.usage.pulled(cid);
        Some(hit)
    }

    /// A record as the message that is sent, when it is in memory.
    pub(crate) fn cached(&self, cid: &Cid) -> Option<Bytes> {
        let hit = self.0.cache.get(cid)?;
        self.0.stats.cache_hits.inc();
        Some(hit)
    }

    /// A record as the message that is sent. `encode` makes it from verified bytes.
    pub async fn pull<E>(
        &self,
        cid: &Cid,
        encode: impl Fn(&Record) -> Result<Bytes, E>,
    ) -> Result<Bytes, EngineError>
    where
        E: Error + Send + Sync + 'static,
    {
        let message = self.read(Op::Pull, cid, encode).await?;
        self.0.usage.pulled(cid);
        if self.0.events.wanted(EventKind::RecordPulled) {
            self.emit_pulled(*cid).await;
        }
        Ok(message)
    }

    /// As [`Engine::pull`], without telling anybody.
    pub(crate) async fn read<E>(
        &self,
        op: Op,
        cid: &Cid,
        encode: impl Fn(&Record) -> Result<Bytes, E>,
    ) -> Result<Bytes, EngineError>
    where
        E: Error + Send + Sync + 'static,
    {
        if let Some(hit) = self.cached(cid) {
            return Ok(hit);
        }
        self.0.stats.cache_misses.inc();
        let ticket = self.0.cache.ticket(cid);
        let record = self.fetch(op, cid).await?;
        let message = encode(&record).map_err(|e| EngineError::Encode(op, cid.to_string(), Box::new(e)))?;
        self.0.cache.insert(ticket, *cid, &message);
        Ok(message)
    }

    async fn fetch(&self, op: Op, cid: &Cid) -> Result<Record, EngineError> {
        let known = if self.0.deps.index.contains(cid) { Known::Live } else { Known::Unknown };
        self.0.deps.store.get(cid, known).await.map_err(|e| {
            if matches!(e, StoreError::Corrupt(_)) {
                self.0.stats.corrupt.inc();
                tracing::error!(%cid, error = %e, "stored content does not match its CID");
            }
            EngineError::store(op, cid, e)
        })
    }

    async fn emit_pulled(&self, cid: Cid) {
        let row = self.0.deps.index.row(&cid).await.ok().flatten();
        let labels = row.map(|row| self.0.deps.rules.labels(&row.facts)).unwrap_or_default();
        let at = self.0.deps.clock.now();
        let labels = labels.into();
        self.0.events.emit(Notice { seq: None, at, kind: EventKind::RecordPulled, cid, labels });
    }

    /// Labels of a record: from the index, else from the manifest in the store.
    pub async fn lookup(&self, cid: &Cid) -> Result<Meta, EngineError> {
        let meta = self.meta(cid).await?;
        self.0.usage.looked_up(cid);
        Ok(meta)
    }

    async fn meta(&self, cid: &Cid) -> Result<Meta, EngineError> {
        if let Some(row) = self.row(cid).await {
            return Ok(Meta::from_facts(&row.facts));
        }
        let stored = self.0.deps.store.resolve(cid).await;
        match stored.map_err(|e| EngineError::store(Op::Lookup, cid, e))? {
            Some(stored) => {
                // A tag is somebody's word. It counts when the bytes behind it hash to the CID.
                self.fetch(Op::Lookup, cid).await?;
                Ok(Meta::from_annotations(&stored.annotations))
            }
            None => Err(EngineError::NotFound(Op::Lookup, cid.to_string())),
        }
    }

    /// The row, when the index has it and can be read. A damaged index does not hide what the store knows.
    async fn row(&self, cid: &Cid) -> Option<Row> {
        if !self.0.deps.index.contains(cid) {
            return None;
        }
        self.0.deps.index.row(cid).await.unwrap_or_else(|error| {
            tracing::warn!(%cid, %error, "index row not readable; asking the store");
            None
        })
    }
}

impl Meta {
    fn from_facts(facts: &RecordFacts) -> Self {
        let standard = [
            ("name", &facts.name),
            ("version", &facts.version),
            ("oasf-version", &facts.schema_version),
            ("previous-cid", &facts.previous_cid),
        ];
        let own = facts.annotations.iter().map(|(key, value)| (key.as_str(), value));
        Self::assemble(standard.into_iter(), own, &facts.schema_version, &facts.created_at)
    }

    fn from_annotations(all: &BTreeMap<String, String>) -> Self {
        let empty = String::new();
        let at = |key: &str| all.get(key).unwrap_or(&empty);
        let standard = [
            ("name", at(oci::KEY_NAME)),
            ("version", at(oci::KEY_VERSION)),
            ("oasf-version", at(oci::KEY_OASF_VERSION)),
            ("previous-cid", at(oci::KEY_PREVIOUS_CID)),
        ];
        let own = all.iter().filter_map(|(key, value)| Some((key.strip_prefix(oci::CUSTOM_PREFIX)?, value)));
        Self::assemble(standard.into_iter(), own, at(oci::KEY_SCHEMA_VERSION), at(oci::KEY_CREATED_AT))
    }

    fn assemble<'a>(
        standard: impl Iterator<Item = (&'a str, &'a String)>,
        own: impl Iterator<Item = (&'a str, &'a String)>,
        schema_version: &str,
        created_at: &str,
    ) -> Self {
        let standard = standard.filter(|(_, value)| !value.is_empty());
        let annotations = standard.chain(own).map(|(key, value)| (key.to_owned(), value.clone())).collect();
        let schema_version = if schema_version.is_empty() { SCHEMA_FALLBACK } else { schema_version };
        Self { schema_version: schema_version.to_owned(), created_at: created_at.to_owned(), annotations }
    }
}
