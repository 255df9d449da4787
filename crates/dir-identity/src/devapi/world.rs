//! Trust domains with their CAs, and the sockets that hand out identities signed by them.

use super::ca::{Authority, ChainForm};
use super::jwt::JwtKey;
use super::{DevDomain, DevError};
use dir_core::{Clock, SpiffeId, Timestamp, TrustDomain};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// Life of a JWT-SVID unless it is set, in milliseconds.
const JWT_TTL_MS: u64 = 300_000;

/// One SVID as it is handed out. `Debug` never shows the key.
#[derive(Clone, PartialEq, Eq)]
pub struct MaterialSvid {
    /// Its SPIFFE ID.
    pub spiffe_id: String,
    /// DER of leaf and intermediates.
    pub chain: Vec<Vec<u8>>,
    /// PKCS#8 DER.
    pub key: Vec<u8>,
    /// Concatenated DER of the roots of its trust domain.
    pub bundle: Vec<u8>,
    /// Its hint.
    pub hint: String,
}

impl fmt::Debug for MaterialSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaterialSvid")
            .field("spiffe_id", &self.spiffe_id)
            .field("hint", &self.hint)
            .finish_non_exhaustive()
    }
}

/// One full state of the X.509 side.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Material {
    /// The SVIDs; the first is the default.
    pub svids: Vec<MaterialSvid>,
    /// Foreign bundles by `spiffe://<trust domain>`, concatenated DER.
    pub federated: BTreeMap<String, Vec<u8>>,
}

/// What X.509 calls are answered with.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Material, true or not.
    Material(Arc<Material>),
    /// PermissionDenied `no identity issued`.
    Deny,
    /// Unavailable with this text.
    Unavailable(String),
    /// An open stream on which nothing comes.
    Silent,
}

/// A trust domain: its CAs, oldest first, and the keys of its JWT-SVIDs, likewise.
struct Domain {
    cas: Vec<Arc<Authority>>,
    jwt: Vec<Arc<JwtKey>>,
}

impl Domain {
    fn bundle(&self) -> Vec<u8> {
        self.cas.iter().flat_map(|ca| ca.root().iter().copied()).collect()
    }
}

/// Every trust domain, shared by all sockets.
pub(crate) struct World {
    clock: Arc<dyn Clock>,
    ca_ttl: Duration,
    form: ChainForm,
    domains: Mutex<BTreeMap<TrustDomain, Domain>>,
    endpoints: Mutex<Vec<Weak<Endpoint>>>,
}

/// What one socket hands out.
pub(crate) struct Endpoint {
    domains: Mutex<Vec<DevDomain>>,
    svid_ttl: Duration,
    /// Life of a JWT-SVID, in milliseconds.
    jwt_ttl: AtomicU64,
    state: Mutex<EndpointState>,
    answer: watch::Sender<Answer>,
}

#[derive(Default)]
struct EndpointState {
    material: Arc<Material>,
    overridden: Option<Answer>,
}

impl Endpoint {
    pub(crate) fn jwt_ttl(&self) -> Duration {
        Duration::from_millis(self.jwt_ttl.load(Ordering::Relaxed))
    }

    pub(crate) fn set_jwt_ttl(&self, ttl: Duration) {
        self.jwt_ttl.store(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn answers(&self) -> watch::Receiver<Answer> {
        self.answer.subscribe()
    }

    pub(crate) fn material(&self) -> Arc<Material> {
        self.state.lock().material.clone()
    }

    pub(crate) fn override_answer(&self, answer: Option<Answer>) {
        let mut state = self.state.lock();
        state.overridden = answer;
        self.push(&state);
    }

    fn set(&self, material: Material) {
        let mut state = self.state.lock();
        state.material = Arc::new(material);
        self.push(&state);
    }

    fn push(&self, state: &EndpointState) {
        let honest = || Answer::Material(state.material.clone());
        self.answer.send_replace(state.overridden.clone().unwrap_or_else(honest));
    }

    /// Identities of this socket, with their hints.
    pub(crate) fn identities(&self) -> Vec<(SpiffeId, String)> {
        let domains = self.domains.lock();
        let svids = domains.iter().flat_map(|d| &d.svids);
        svids.filter_map(|s| Some((s.spiffe_id.parse().ok()?, s.hint.clone()))).collect()
    }
}

impl World {
    pub(crate) fn new(clock: Arc<dyn Clock>, ca_ttl: Duration, form: ChainForm) -> Arc<Self> {
        Arc::new(Self { clock, ca_ttl, form, domains: Mutex::default(), endpoints: Mutex::default() })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Adds a socket: makes CAs for domains that are new, and issues its SVIDs.
    pub(crate) fn add_endpoint(
        &self,
        domains: Vec<DevDomain>,
        svid_ttl: Duration,
    ) -> Result<Arc<Endpoint>, DevError> {
        check(&domains)?;
        for domain in &domains {
            self.add_domain(&parse_domain(&domain.name)?)?;
        }
        let (answer, _) = watch::channel(Answer::Silent);
        let endpoint = Arc::new(Endpoint {
            domains: Mutex::new(domains),
            svid_ttl,
            jwt_ttl: AtomicU64::new(JWT_TTL_MS),
            state: Mutex::default(),
            answer,
        });
        self.rotate(&endpoint)?;
        self.endpoints.lock().push(Arc::downgrade(&endpoint));
        Ok(endpoint)
    }

    fn add_domain(&self, name: &TrustDomain) -> Result<(), DevError> {
        let mut domains = self.domains.lock();
        if !domains.contains_key(name) {
            let ca = Authority::new(name, self.now(), self.ca_ttl, self.form)?;
            let jwt = Arc::new(JwtKey::generate()?);
            domains.insert(name.clone(), Domain { cas: vec![Arc::new(ca)], jwt: vec![jwt] });
        }
        Ok(())
    }

    /// Issues every SVID of a socket anew.
    pub(crate) fn rotate(&self, endpoint: &Endpoint) -> Result<(), DevError> {
        let now = self.now();
        let mut issued = Vec::new();
        for svid in endpoint.domains.lock().iter().flat_map(|d| &d.svids) {
            let id = parse_id(&svid.spiffe_id)?;
            let Some(ca) = self.authority(id.trust_domain().as_str()) else { continue };
            let (chain, key) = ca.issue(&id, &svid.dns_names, now, endpoint.svid_ttl)?;
            let spiffe_id = id.to_string();
            issued.push(MaterialSvid { spiffe_id, chain, key, bundle: Vec::new(), hint: svid.hint.clone() });
        }
        self.publish(endpoint, issued);
        Ok(())
    }

    /// Puts the bundles of this moment beside the SVIDs and pushes both.
    fn publish(&self, endpoint: &Endpoint, mut svids: Vec<MaterialSvid>) {
        let federated = {
            let known = self.domains.lock();
            let bundle = |name: &str| Some(known.get(&parse_domain(name).ok()?)?.bundle());
            for svid in &mut svids {
                let domain = parse_id(&svid.spiffe_id).map(|id| id.trust_domain().to_string());
                svid.bundle = domain.ok().and_then(|d| bundle(&d)).unwrap_or_default();
            }
            let listed = endpoint.domains.lock();
            let partners = listed.iter().filter(|d| !d.svids.is_empty()).flat_map(|d| &d.federates_with);
            partners
                .filter_map(|p| Some((format!("spiffe://{}", p.to_ascii_lowercase()), bundle(p)?)))
                .collect()
        };
        endpoint.set(Material { svids, federated });
    }

    fn republish_all(&self) {
        let endpoints: Vec<_> = self.endpoints.lock().iter().filter_map(Weak::upgrade).collect();
        for endpoint in endpoints {
            self.publish(&endpoint, endpoint.material().svids.clone());
        }
    }

    /// A new CA beside the old ones that does not sign yet.
    pub(crate) fn announce_ca(&self, name: &str) -> bool {
        let now = self.now();
        let Ok(name) = parse_domain(name) else { return false };
        {
            let mut domains = self.domains.lock();
            let Some(domain) = domains.get_mut(&name) else { return false };
            match Authority::new(&name, now, self.ca_ttl, self.form) {
                // The last one signs.
                Ok(ca) => domain.cas.insert(domain.cas.len().saturating_sub(1), Arc::new(ca)),
                Err(error) => {
                    tracing::error!(%error, "development CA could not be announced");
                    return false;
                }
            }
        }
        self.republish_all();
        true
    }

    /// Lets the CA sign that was announced last.
    pub(crate) fn activate_ca(&self, name: &str) -> bool {
        let Ok(name) = parse_domain(name) else { return false };
        let mut domains = self.domains.lock();
        let Some(domain) = domains.get_mut(&name) else { return false };
        let count = domain.cas.len();
        if count < 2 {
            return false;
        }
        domain.cas.swap(count - 2, count - 1);
        true
    }

    /// A new CA beside the old ones; expired ones leave the bundle.
    pub(crate) fn rotate_ca(&self, name: &str) -> bool {
        let now = self.now();
        let Ok(name) = parse_domain(name) else { return false };
        {
            let mut domains = self.domains.lock();
            let Some(domain) = domains.get_mut(&name) else { return false };
            match Authority::new(&name, now, self.ca_ttl, self.form) {
                Ok(ca) => domain.cas.push(Arc::new(ca)),
                Err(error) => {
                    tracing::error!(%error, "development CA could not be renewed");
                    return false;
                }
            }
            domain.cas.retain(|ca| ca.not_after() > now);
        }
        self.republish_all();
        true
    }

    /// New CAs for the domains whose newest one is half way through its life.
    pub(crate) fn rotate_aged_cas(&self) {
        let now = self.now();
        let half = i64::try_from(self.ca_ttl.as_secs() / 2).unwrap_or(i64::MAX);
        let aged: Vec<String> = {
            let domains = self.domains.lock();
            let old = |d: &Domain| d.cas.last().is_some_and(|ca| now.seconds_since(ca.made_at()) >= half);
            domains.iter().filter(|(_, d)| old(d)).map(|(name, _)| name.to_string()).collect()
        };
        for name in aged {
            self.rotate_ca(&name);
        }
    }

    pub(crate) fn retire_cas(&self, name: &str) -> bool {
        let Ok(name) = parse_domain(name) else { return false };
        {
            let mut domains = self.domains.lock();
            let Some(domain) = domains.get_mut(&name) else { return false };
            let newest = domain.cas.len().saturating_sub(1);
            domain.cas.drain(..newest);
        }
        self.republish_all();
        true
    }

    pub(crate) fn federate(&self, endpoint: &Endpoint, name: &str, with: &[&str]) {
        for domain in endpoint.domains.lock().iter_mut().filter(|d| d.name.eq_ignore_ascii_case(name)) {
            domain.federates_with = with.iter().map(|w| (*w).to_owned()).collect();
        }
        self.publish(endpoint, endpoint.material().svids.clone());
    }

    pub(crate) fn authority(&self, name: &str) -> Option<Arc<Authority>> {
        self.domains.lock().get(&parse_domain(name).ok()?)?.cas.last().cloned()
    }

    /// The keys of JWT-SVIDs, oldest first; the newest one signs.
    pub(crate) fn jwt_keys(&self, name: &TrustDomain) -> Option<Vec<Arc<JwtKey>>> {
        Some(self.domains.lock().get(name)?.jwt.clone())
    }

    /// Another key for JWT-SVIDs, in place of the present ones (`keep` false) or beside them.
    pub(crate) fn rotate_jwt_key(&self, name: &str, keep: bool) -> bool {
        let (Ok(name), Ok(key)) = (parse_domain(name), JwtKey::generate()) else { return false };
        {
            let mut domains = self.domains.lock();
            let Some(domain) = domains.get_mut(&name) else { return false };
            if !keep {
                domain.jwt.clear();
            }
            domain.jwt.push(Arc::new(key));
        }
        self.republish_all();
        true
    }

    /// The trust domains whose bundles a socket may see: those of its SVIDs and their partners.
    pub(crate) fn visible_domains(endpoint: &Endpoint) -> Vec<TrustDomain> {
        let domains = endpoint.domains.lock();
        let with_svids = domains.iter().filter(|d| !d.svids.is_empty());
        let names = with_svids.flat_map(|d| std::iter::once(&d.name).chain(&d.federates_with));
        let mut visible: Vec<TrustDomain> = names.filter_map(|n| n.parse().ok()).collect();
        visible.sort();
        visible.dedup();
        visible
    }
}

fn check(domains: &[DevDomain]) -> Result<(), DevError> {
    for domain in domains {
        let name = parse_domain(&domain.name)?;
        for partner in &domain.federates_with {
            parse_domain(partner)?;
        }
        for svid in &domain.svids {
            let id = parse_id(&svid.spiffe_id)?;
            if *id.trust_domain() != name || id.is_root() {
                return Err(DevError::Config(format!("{id} is no workload of trust domain {name}")));
            }
        }
    }
    if domains.is_empty() {
        return Err(DevError::Config("no trust domain is configured".to_owned()));
    }
    Ok(())
}

fn parse_domain(name: &str) -> Result<TrustDomain, DevError> {
    name.parse().map_err(|source| DevError::Name { name: name.to_owned(), source })
}

fn parse_id(name: &str) -> Result<SpiffeId, DevError> {
    name.parse().map_err(|source| DevError::Name { name: name.to_owned(), source })
}
