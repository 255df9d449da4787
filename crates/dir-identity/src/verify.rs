//! The one place where a chain is judged, and the two rustls verifiers that ask it.
//!
//! A chain is verified against the bundle of the leaf's own trust domain and no other: with all roots in one store
//! a federated partner could sign identities of ours.

use crate::bundle::{BundleSet, Trust, TrustBundle};
use crate::connector::ServerCheck;
use crate::leaf::{self, Leaf, Usage};
use crate::refuse::{ChainFault, Refusal, RefuseReason};
use dir_core::{Timestamp, TrustDomain};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, LazyLock};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// The crypto provider of the product. Named here and used explicitly everywhere in this crate.
pub(crate) static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

/// A peer whose chain held.
#[derive(Debug, Clone)]
pub(crate) struct VerifiedPeer {
    pub(crate) leaf: Leaf,
    pub(crate) chain: Arc<[CertificateDer<'static>]>,
    /// The bundle it was verified against.
    pub(crate) bundle_digest: [u8; 32],
}

tokio::task_local! {
    // rustls builds one verifier for many connections and gives it no connection context. A handshake runs inside
    // one task, so a task-local carries the exact verdict out, and the certificate is parsed only once.
    static VERDICT: RefCell<Option<Result<VerifiedPeer, Refusal>>>;
}

/// Runs a handshake and returns what the verifier said in it, if it was asked.
pub(crate) async fn with_verdict<F: Future>(f: F) -> (F::Output, Option<Result<VerifiedPeer, Refusal>>) {
    VERDICT
        .scope(RefCell::new(None), async {
            let output = f.await;
            (output, VERDICT.with(|v| v.borrow_mut().take()))
        })
        .await
}

fn record(verdict: &Result<VerifiedPeer, Refusal>) {
    // Outside of `with_verdict` nobody asks for the verdict; rustls still gets it.
    let _ = VERDICT.try_with(|v| *v.borrow_mut() = Some(verdict.clone()));
}

/// The leaf, its time, its trust domain, its chain: in this order, so that the reason is the most telling one.
pub(crate) fn verify_svid(
    leaf_der: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    bundles: &BundleSet,
    now: Timestamp,
    usage: Option<Usage>,
) -> Result<(Leaf, Arc<TrustBundle>), Refusal> {
    let leaf = Leaf::parse(leaf_der, usage)?;
    let present = |r: Refusal| match leaf::describe(leaf_der) {
        Some(p) if r.presented.is_none() => r.with_presented(p),
        _ => r,
    };
    leaf.check_time(now).map_err(present)?;
    let bundle = trusted_bundle(bundles, leaf.id.trust_domain()).map_err(present)?;
    verify_chain(leaf_der, intermediates, bundle, now, usage).map_err(present)?;
    Ok((leaf, bundle.clone()))
}

pub(crate) fn trusted_bundle<'b>(
    bundles: &'b BundleSet,
    domain: &TrustDomain,
) -> Result<&'b Arc<TrustBundle>, Refusal> {
    match bundles.get(domain) {
        Some(bundle) if !bundle.is_empty() => Ok(bundle),
        _ => Err(Refusal::new(
            RefuseReason::UnknownTrustDomain,
            format!("no bundle for trust domain {domain}"),
        )),
    }
}

/// Whether the chain leads to a root of this bundle that is itself valid now.
pub(crate) fn verify_chain(
    leaf_der: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    bundle: &TrustBundle,
    now: Timestamp,
    usage: Option<Usage>,
) -> Result<(), Refusal> {
    let leaf = EndEntityCert::try_from(leaf_der).map_err(|e| bad_chain(&e))?;
    let secs = u64::try_from(now.secs()).unwrap_or(0);
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs));
    let algs = PROVIDER.signature_verification_algorithms.all;
    let path = |path: &VerifiedPath<'_>| check_path(path, bundle, now);
    let build = |usage: KeyUsage| {
        leaf.verify_for_usage(algs, &bundle.anchors, intermediates, time, usage, None, Some(&path))
            .map(|_| ())
    };
    match usage {
        Some(Usage::Client) => build(KeyUsage::client_auth()),
        Some(Usage::Server) => build(KeyUsage::server_auth()),
        None => build(KeyUsage::server_auth()).or_else(|_| build(KeyUsage::client_auth())),
    }
    .map_err(|e| bad_chain(&e))
}

/// What the chain builder leaves open: every intermediate may sign certificates, and the root has not expired.
/// (Expired roots stay in bundles for a while.)
fn check_path(path: &VerifiedPath<'_>, bundle: &TrustBundle, now: Timestamp) -> Result<(), webpki::Error> {
    for cert in path.intermediate_certificates() {
        let der = cert.der();
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|_asn1| webpki::Error::BadDer)?;
        let usage = parsed.key_usage().map_err(|_asn1| webpki::Error::MalformedExtensions)?;
        if !usage.is_some_and(|u| u.value.key_cert_sign()) {
            return Err(webpki::Error::EndEntityUsedAsCa);
        }
    }
    let anchor = path.anchor();
    let valid = bundle
        .anchors
        .iter()
        .zip(&bundle.validity)
        .any(|(a, (start, end))| a == anchor && *start <= now && now <= *end);
    if valid { Ok(()) } else { Err(webpki::Error::UnknownIssuer) }
}

fn bad_chain(error: &webpki::Error) -> Refusal {
    let kind = match error {
        webpki::Error::UnknownIssuer => ChainFault::UnknownIssuer,
        webpki::Error::InvalidSignatureForPublicKey => ChainFault::BadSignature,
        _ => ChainFault::Other,
    };
    let mut refusal = Refusal::new(
        RefuseReason::BadChain,
        format!("the chain does not hold against the bundle: {error:?}"),
    );
    refusal.chain = kind;
    refusal
}

fn timestamp(now: UnixTime) -> Timestamp {
    Timestamp::from_secs(i64::try_from(now.as_secs()).unwrap_or(i64::MAX / 1000))
}

fn judge(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    bundles: &BundleSet,
    now: UnixTime,
    usage: Usage,
    allowed: impl FnOnce(&Leaf) -> Result<(), Refusal>,
) -> Result<(), rustls::Error> {
    let verdict = verify_svid(end_entity, intermediates, bundles, timestamp(now), Some(usage)).and_then(
        |(leaf, bundle)| {
            allowed(&leaf)?;
            let chain = std::iter::once(end_entity).chain(intermediates).map(|c| c.clone().into_owned());
            Ok(VerifiedPeer { leaf, chain: chain.collect(), bundle_digest: bundle.digest() })
        },
    );
    record(&verdict);
    verdict.map(|_| ()).map_err(|refusal| refusal.to_rustls())
}

/// Server side: every client must show an SVID of a trust domain whose bundle we hold. Which of them may do what
/// is the policy's business.
pub(crate) struct SpiffeClientVerifier {
    pub(crate) trust: Trust,
}

/// Client side: the server must show an SVID that the check allows. Host names prove nothing here.
pub(crate) struct SpiffeServerVerifier {
    pub(crate) trust: Trust,
    pub(crate) check: ServerCheck,
    pub(crate) own: TrustDomain,
}

impl fmt::Debug for SpiffeClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SpiffeClientVerifier")
    }
}

impl fmt::Debug for SpiffeServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SpiffeServerVerifier")
    }
}

impl ClientCertVerifier for SpiffeClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        judge(end_entity, intermediates, &self.trust.now(), now, Usage::Client, |_| Ok(()))
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &PROVIDER.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &PROVIDER.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for SpiffeServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        judge(end_entity, intermediates, &self.trust.now(), now, Usage::Server, |leaf| {
            self.check.allows(&leaf.id, &self.own)
        })
        .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &PROVIDER.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &PROVIDER.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}
