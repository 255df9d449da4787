//! A Workload API that misbehaves on command, around the development Workload API of `dir-identity`.

use dir_core::{Clock, SpiffeId, Timestamp};
use dir_identity::devapi::{Answer, DevConfig, DevError, DevWorkloadApi, Material, MintError, svid_params};
use rcgen::{CertificateParams, KeyPair};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// A chain and its key, for clients that present what they should not.
#[derive(Clone)]
pub struct Minted {
    /// DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// PKCS#8 DER.
    pub key: Vec<u8>,
}

/// The development Workload API with faults. Everything that it does honestly (`rotate`, `rotate_ca`, `retire_cas`,
/// `federate`, `vanish`, `appear`, …) is reached by dereferencing.
pub struct FaultyWorkload {
    api: DevWorkloadApi,
    clock: Arc<dyn Clock>,
}

impl FaultyWorkload {
    /// Serves at once.
    pub async fn start(config: DevConfig, clock: Arc<dyn Clock>) -> Result<Self, DevError> {
        let faulty = Self::late(config, clock)?;
        faulty.appear().await?;
        Ok(faulty)
    }

    /// A late start: serves only from `appear` on, as an agent or CSI driver that comes after the workload.
    pub fn late(config: DevConfig, clock: Arc<dyn Clock>) -> Result<Self, DevError> {
        Ok(Self { api: DevWorkloadApi::prepare(config, clock.clone())?, clock })
    }

    /// The registration entry is gone: streams end with PermissionDenied, new calls get it at once.
    pub fn deny(&self) {
        self.api.override_answer(Some(Answer::Deny));
    }

    /// The agent cannot attest the workload.
    pub fn fail_attestation(&self) {
        self.api.override_answer(Some(Answer::Unavailable("workload attestation failed".to_owned())));
    }

    /// Calls are taken, nothing is sent any more.
    pub fn stall(&self) {
        self.api.override_answer(Some(Answer::Silent));
    }

    /// Back to the truth.
    pub fn recover(&self) {
        self.api.override_answer(None);
    }

    /// Pushes the present state with a change made to it.
    pub fn tamper(&self, change: impl FnOnce(&mut Material)) {
        let mut material = (*self.api.material()).clone();
        change(&mut material);
        self.api.override_answer(Some(Answer::Material(Arc::new(material))));
    }

    /// Every SVID is garbage.
    pub fn garbage_svids(&self) {
        self.tamper(|material| {
            for svid in &mut material.svids {
                svid.chain = vec![b"no certificate".to_vec()];
            }
        });
    }

    /// The bundle of one foreign trust domain is garbage; the rest of the update is sound.
    pub fn garbage_bundle(&self, trust_domain: &str) {
        self.tamper(|material| {
            material.federated.insert(format!("spiffe://{trust_domain}"), b"no certificate".to_vec());
        });
    }

    /// The keys of all SVIDs are those of strangers.
    pub fn foreign_keys(&self) -> Result<(), MintError> {
        let stranger = KeyPair::generate()?.serialize_der();
        self.tamper(|material| {
            for svid in &mut material.svids {
                svid.key.clone_from(&stranger);
            }
        });
        Ok(())
    }

    /// A certificate signed by the newest CA of a trust domain: the shape of a good SVID for `id`, changed at will.
    /// `None` if the domain is not served here.
    pub fn mint(
        &self,
        trust_domain: &str,
        id: &SpiffeId,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Option<Result<Minted, MintError>> {
        let authority = self.api.authority(trust_domain)?;
        let minted = || {
            let key = KeyPair::generate()?;
            let mut params =
                svid_params(id, &[], self.clock.now(), self.in_future(Duration::from_secs(3600)))?;
            change(&mut params);
            let mut chain = vec![authority.sign(&params, &key)?];
            chain.extend(authority.intermediates().iter().cloned());
            Ok(Minted { chain, key: key.serialize_der() })
        };
        Some(minted())
    }

    fn in_future(&self, by: Duration) -> Timestamp {
        Timestamp(self.clock.now().0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl Deref for FaultyWorkload {
    type Target = DevWorkloadApi;

    fn deref(&self) -> &DevWorkloadApi {
        &self.api
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dir_identity::devapi::{DevDomain, DevSvid};
    use dir_identity::{Identity, StartupWait, WorkloadConfig};
    use std::time::{SystemTime, UNIX_EPOCH};

    struct SystemClock;

    impl Clock for SystemClock {
        fn now(&self) -> Timestamp {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            Timestamp(i64::try_from(since.as_millis()).unwrap())
        }
    }

    type Fault = fn(&FaultyWorkload);

    const ID: &str = "spiffe://a.example/w";

    fn faulty(dir: &tempfile::TempDir) -> FaultyWorkload {
        let svid = DevSvid { spiffe_id: ID.to_owned(), ..DevSvid::default() };
        let own = DevDomain {
            name: "a.example".to_owned(),
            svids: vec![svid],
            federates_with: vec!["b.example".to_owned()],
        };
        let partner = DevDomain { name: "b.example".to_owned(), ..DevDomain::default() };
        let hour = Duration::from_secs(3600);
        let config = DevConfig {
            socket: dir.path().join("s"),
            trust_domains: vec![own, partner],
            svid_ttl: hour,
            ca_ttl: hour,
        };
        FaultyWorkload::late(config, Arc::new(SystemClock)).unwrap()
    }

    async fn obtain(faulty: &FaultyWorkload, total: Duration) -> Result<Identity, String> {
        let pause = Duration::from_millis(10);
        let config = WorkloadConfig {
            socket: faulty.socket_uri(),
            startup_wait: StartupWait { initial: pause, max: pause, total },
            ..WorkloadConfig::default()
        };
        let registry = prometheus::Registry::new();
        Identity::obtain(config, Arc::new(SystemClock), &registry).await.map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn every_fault_is_seen_and_passes() {
        let dir = tempfile::tempdir().unwrap();
        let agent = faulty(&dir);
        let (short, long) = (Duration::from_millis(200), Duration::from_secs(20));
        assert!(obtain(&agent, short).await.unwrap_err().contains("socket absent"));
        agent.appear().await.unwrap();
        let rows: [(Fault, &str); 5] = [
            (FaultyWorkload::deny, "no identity issued"),
            (FaultyWorkload::fail_attestation, "workload attestation failed"),
            (FaultyWorkload::stall, "sent nothing"),
            (FaultyWorkload::garbage_svids, "SVID unusable"),
            (|f| f.foreign_keys().unwrap(), "private key"),
        ];
        for (fault, text) in rows {
            fault(&agent);
            let error = obtain(&agent, short).await.unwrap_err();
            assert!(error.contains(text), "{error}");
        }
        agent.garbage_bundle("b.example");
        let identity = obtain(&agent, long).await.unwrap();
        assert_eq!(identity.snapshot().bundles().len(), 1);
        agent.recover();
        assert_eq!(obtain(&agent, long).await.unwrap().snapshot().bundles().len(), 2);
        agent.vanish().await;
        assert!(obtain(&agent, short).await.unwrap_err().contains("socket absent"));
    }

    #[tokio::test]
    async fn odd_certificates_are_minted() {
        let dir = tempfile::tempdir().unwrap();
        let faulty = faulty(&dir);
        let id: SpiffeId = ID.parse().unwrap();
        let minted = faulty.mint("a.example", &id, |params| params.key_usages.clear()).unwrap().unwrap();
        assert_eq!(minted.chain.len(), 1);
        assert!(faulty.mint("unknown.example", &id, |_| {}).is_none());
    }
}
