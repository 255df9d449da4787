//! One coherent state: our SVID and every bundle as they arrived together, with the TLS configurations made of them.

use crate::bundle::{BundleSet, Trust};
use crate::connector::ServerCheck;
use crate::error::IdentityError;
use crate::leaf::Leaf;
use crate::verify::{PROVIDER, SpiffeClientVerifier, SpiffeServerVerifier};
use dir_core::{Clock, Timestamp};
use rustls::client::Resumption;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The protocol that every handshake must agree on.
pub(crate) const ALPN_H2: &[u8] = b"h2";

static TLS13_ONLY: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
static TLS12_TOO: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// An SVID of ours that passed every check. The key stays inside.
#[derive(Clone)]
pub(crate) struct OwnSvid {
    pub(crate) leaf: Leaf,
    pub(crate) certified: Arc<CertifiedKey>,
    pub(crate) hint: String,
}

impl OwnSvid {
    /// Fails unless the key is one we can sign with and belongs to the leaf.
    pub(crate) fn new(
        leaf: Leaf,
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'static>,
        hint: String,
    ) -> Result<Self, rustls::Error> {
        // The provider's own loader takes the key and drops it as it is; the caller's is cleared.
        let signer = rustls::crypto::ring::sign::any_supported_type(key)?;
        let certified = CertifiedKey::new(chain, signer);
        certified.keys_match()?;
        Ok(Self { leaf, certified: Arc::new(certified), hint })
    }

    pub(crate) fn same_as(&self, other: &OwnSvid) -> bool {
        self.certified.cert == other.certified.cert
    }
}

/// The material of one moment. Handshakes read it; nothing in it ever changes.
pub struct TlsSnapshot {
    generation: u64,
    svid: OwnSvid,
    bundles: BundleSet,
    server13: Arc<ServerConfig>,
    server12: Arc<ServerConfig>,
    open13: Arc<ServerConfig>,
    open12: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    trust: Trust,
    clock: Arc<dyn Clock>,
}

impl TlsSnapshot {
    pub(crate) fn build(
        generation: u64,
        svid: OwnSvid,
        bundles: BundleSet,
        trust: &Trust,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, IdentityError> {
        let server13 = server_config(TLS13_ONLY, &svid, Some(trust), clock)?;
        let server12 = server_config(TLS12_TOO, &svid, Some(trust), clock)?;
        let open13 = server_config(TLS13_ONLY, &svid, None, clock)?;
        let open12 = server_config(TLS12_TOO, &svid, None, clock)?;
        let client = client_config(&svid, trust, ServerCheck::default(), true, clock)?;
        let (trust, clock) = (trust.clone(), clock.clone());
        Ok(Self { generation, svid, bundles, server13, server12, open13, open12, client, trust, clock })
    }

    /// Number of this snapshot, counted from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What our leaf says.
    pub fn leaf(&self) -> &Leaf {
        &self.svid.leaf
    }

    /// Our chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.svid.certified.cert
    }

    /// Every bundle held.
    pub fn bundles(&self) -> &BundleSet {
        &self.bundles
    }

    /// Whether our SVID is valid now.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.svid.leaf.check_time(now).is_ok()
    }

    /// For accepting: client certificate mandatory, ALPN `h2`, no tickets, no resumption, no early data, TLS 1.3.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.server13.clone()
    }

    /// The same with TLS 1.2 allowed as well.
    pub fn server_config_tls12(&self) -> Arc<ServerConfig> {
        self.server12.clone()
    }

    /// For accepting callers who prove themselves later: as [`TlsSnapshot::server_config`], but no client certificate is
    /// asked for.
    pub fn open_config(&self) -> Arc<ServerConfig> {
        self.open13.clone()
    }

    /// The same with TLS 1.2 allowed as well.
    pub fn open_config_tls12(&self) -> Arc<ServerConfig> {
        self.open12.clone()
    }

    /// For dialling servers of our own trust domain.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.client.clone()
    }

    /// For dialling servers that the check allows.
    pub fn client_config_for(&self, check: ServerCheck) -> Result<Arc<ClientConfig>, IdentityError> {
        client_config(&self.svid, &self.trust, check, true, &self.clock)
    }

    /// The same, without showing our certificate.
    pub(crate) fn anonymous_client_config(
        &self,
        check: ServerCheck,
    ) -> Result<Arc<ClientConfig>, IdentityError> {
        client_config(&self.svid, &self.trust, check, false, &self.clock)
    }

    /// For publishing our bundle: our SVID, no client certificate, HTTP/1.1.
    pub(crate) fn endpoint_config(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let time = Arc::new(ClockTime(self.clock.clone()));
        let mut config = ServerConfig::builder_with_details(PROVIDER.clone(), time)
            .with_protocol_versions(TLS12_TOO)
            .map_err(|e| IdentityError::Tls(e.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(self.svid.certified.clone())));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    pub(crate) fn svid(&self) -> &OwnSvid {
        &self.svid
    }
}

impl fmt::Debug for TlsSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSnapshot")
            .field("generation", &self.generation)
            .field("id", &self.svid.leaf.id)
            .field("serial", &self.svid.leaf.serial)
            .field("bundles", &self.bundles.len())
            .finish_non_exhaustive()
    }
}

/// rustls asks this for the time, so that tests and production agree on one clock.
pub(crate) struct ClockTime(pub(crate) Arc<dyn Clock>);

impl fmt::Debug for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClockTime")
    }
}

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let secs = u64::try_from(self.0.now().secs()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(secs)))
    }
}

/// With `trust`, the client has to prove an identity that it knows; without, none is asked for.
fn server_config(
    versions: &'static [&'static SupportedProtocolVersion],
    svid: &OwnSvid,
    trust: Option<&Trust>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<ServerConfig>, IdentityError> {
    let verifier: Arc<dyn ClientCertVerifier> = match trust {
        Some(trust) => Arc::new(SpiffeClientVerifier { trust: trust.clone() }),
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let mut config = ServerConfig::builder_with_details(PROVIDER.clone(), Arc::new(ClockTime(clock.clone())))
        .with_protocol_versions(versions)
        .map_err(|e| IdentityError::Tls(e.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(svid.certified.clone())));
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    // A resumed session would skip the verifier, and with it every withdrawal of trust.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

fn client_config(
    svid: &OwnSvid,
    trust: &Trust,
    check: ServerCheck,
    shown: bool,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<ClientConfig>, IdentityError> {
    let own = svid.leaf.id.trust_domain().clone();
    let verifier = Arc::new(SpiffeServerVerifier { trust: trust.clone(), check, own });
    let builder = ClientConfig::builder_with_details(PROVIDER.clone(), Arc::new(ClockTime(clock.clone())))
        .with_protocol_versions(TLS13_ONLY)
        .map_err(|e| IdentityError::Tls(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = if shown {
        builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(svid.certified.clone())))
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = true;
    Ok(Arc::new(config))
}
