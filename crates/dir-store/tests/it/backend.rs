//! The registry adapter under the conformance suite, whatever registry is behind it.

use async_trait::async_trait;
use bytes::Bytes;
use dir_core::Cid;
use dir_core::oci::{EMPTY_CONFIG_BYTES, INDEX, MANIFEST};
use dir_core::store::RecordStore;
use dir_store::{Layout, OciConfig, OciStore};
use dir_testkit::store_conformance::{Backend, Plant};
use serde_json::Value;
use std::sync::Arc;

/// Changes the bytes of a blob in a repository, past the registry.
pub(crate) type Corrupt = Arc<dyn Fn(&str, &Cid) -> bool + Send + Sync>;

/// A store on a registry.
pub(crate) struct OciBackend<G> {
    pub(crate) config: OciConfig,
    pub(crate) store: Arc<OciStore>,
    corrupt: Corrupt,
    http: reqwest::Client,
    /// What keeps the registry alive.
    pub(crate) registry: G,
}

/// The repository of a record.
pub(crate) fn repository(config: &OciConfig, of: &Cid) -> String {
    match config.layout {
        Layout::Single => config.repository.clone(),
        _ => format!("{}-{}", config.repository, &of.oci_digest()["sha256:".len()..][..3]),
    }
}

impl<G> OciBackend<G> {
    pub(crate) fn new(config: OciConfig, registry: G, corrupt: Corrupt) -> Self {
        let store = Arc::new(OciStore::new(&config).unwrap());
        Self { config, store, corrupt, http: crate::process::http(), registry }
    }

    fn url(&self, repository: &str, path: &str) -> String {
        format!("http://{}/v2/{repository}/{path}", self.config.address)
    }

    async fn upload(&self, repository: &str, blob: Bytes) {
        let digest = Cid::of(&blob).oci_digest();
        let opened = self.http.post(self.url(repository, "blobs/uploads/")).send().await.unwrap();
        let location = opened.headers()["location"].to_str().unwrap().to_owned();
        let base = reqwest::Url::parse(&format!("http://{}/", self.config.address)).unwrap();
        let mut url = base.join(&location).unwrap();
        url.query_pairs_mut().append_pair("digest", &digest);
        let put = self.http.put(url).header("content-type", "application/octet-stream").body(blob);
        let put = put.send().await.unwrap();
        assert!(put.status().is_success(), "{put:?}");
    }

    async fn put_manifest(&self, repository: &str, reference: &str, media_type: &str, bytes: Bytes) {
        let url = self.url(repository, &format!("manifests/{reference}"));
        let put = self.http.put(url).header("content-type", media_type).body(bytes).send().await.unwrap();
        assert!(put.status().is_success(), "{:?} {}", put.status(), put.text().await.unwrap());
    }

    /// What clients of a registry without the referrers API do.
    async fn list(&self, repository: &str, manifest: &Bytes) {
        let parsed: Value = serde_json::from_slice(manifest).unwrap();
        let Some(subject) = parsed["subject"]["digest"].as_str() else { return };
        let api = self.http.get(self.url(repository, &format!("referrers/{subject}"))).send().await.unwrap();
        if api.status() == 200 {
            return;
        }
        let tag = subject.replace(':', "-");
        let url = self.url(repository, &format!("manifests/{tag}"));
        let old = self.http.get(url).header("accept", INDEX).send().await.unwrap();
        let mut index = match old.status().as_u16() {
            200 => old.json().await.unwrap(),
            _ => serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] }),
        };
        index["manifests"].as_array_mut().unwrap().push(serde_json::json!({
            "mediaType": MANIFEST,
            "digest": Cid::of(manifest).oci_digest(),
            "size": manifest.len(),
            "artifactType": parsed["artifactType"],
        }));
        self.put_manifest(repository, &tag, INDEX, index.to_string().into()).await;
    }
}

#[async_trait]
impl<G: Send + Sync> Backend for OciBackend<G> {
    fn store(&self) -> Arc<dyn RecordStore> {
        self.store.clone()
    }

    async fn reopen(&mut self) -> bool {
        self.store.close().await.unwrap();
        self.store = Arc::new(OciStore::new(&self.config).unwrap());
        true
    }

    async fn corrupt(&mut self, of: &Cid, blob: &Cid) -> bool {
        (self.corrupt)(&repository(&self.config, of), blob)
    }

    async fn has_blob(&self, of: &Cid, blob: &Cid) -> Option<bool> {
        let path = format!("blobs/{}", blob.oci_digest());
        let answer = self.http.head(self.url(&repository(&self.config, of), &path)).send().await.unwrap();
        Some(answer.status() == 200)
    }

    async fn plant(&mut self, of: &Cid, plant: Plant) -> bool {
        let repository = repository(&self.config, of);
        for blob in plant.blobs.iter().chain([&Bytes::from_static(EMPTY_CONFIG_BYTES)]) {
            self.upload(&repository, blob.clone()).await;
        }
        let digest = Cid::of(&plant.manifest).oci_digest();
        let reference = plant.tag.as_deref().unwrap_or(&digest);
        self.put_manifest(&repository, reference, MANIFEST, plant.manifest.clone()).await;
        self.list(&repository, &plant.manifest).await;
        true
    }
}
