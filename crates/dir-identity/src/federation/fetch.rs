//! One GET of a bundle: every address is looked at before it is dialled, every redirect is a new beginning.

use super::address;
use super::config::Endpoint;
use super::document::{DOCUMENT_MAX, DocumentError};
use super::error::FetchError;
use crate::bundle::{BundleSet, Trust, TrustBundle};
use crate::connector::ServerCheck;
use crate::refuse::{ChainFault, Refusal, RefuseReason};
use crate::snapshot::ClockTime;
use crate::verify::{PROVIDER, SpiffeServerVerifier, with_verdict};
use bytes::Bytes;
use dir_core::{Clock, SpiffeId};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;
use url::{Host, Url};

/// Most redirects that are followed.
pub(super) const REDIRECTS_MAX: usize = 3;
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// How one fetch is made.
pub(super) struct Fetch<'a> {
    /// Whom to believe.
    pub(super) tls: Arc<ClientConfig>,
    /// Redirects that are followed; for `https_spiffe` none.
    pub(super) redirects: usize,
    pub(super) url: &'a Url,
    pub(super) allow_link_local: bool,
}

/// What may be dialled at all.
pub(super) fn check_url(url: &Url) -> Result<(), FetchError> {
    let reason = if url.scheme() != "https" {
        "only https is allowed"
    } else if !url.username().is_empty() || url.password().is_some() {
        "a user or password has no place in it"
    } else if url.host().is_none() {
        "it names no host"
    } else {
        return Ok(());
    };
    let mut shown = url.clone();
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    Err(FetchError::Url { url: shown.to_string(), reason })
}

impl Fetch<'_> {
    /// The document as it was sent.
    pub(super) async fn run(&self) -> Result<Vec<u8>, FetchError> {
        let mut url = self.url.clone();
        for _ in 0..=self.redirects {
            check_url(&url)?;
            let response = self.get(&url).await?;
            let status = response.0.status();
            if status == StatusCode::OK {
                return body(response.0).await;
            }
            url = match redirect(&response.0) {
                Some(target) if self.redirects > 0 => url.join(target).map_err(|_reason| {
                    FetchError::Protocol("a redirect leads to something that is no URL".to_owned())
                })?,
                _ => return Err(FetchError::Status(status.as_u16())),
            };
        }
        Err(FetchError::Redirects(self.redirects))
    }

    async fn get(&self, url: &Url) -> Result<(Response<Incoming>, AbortOnDropHandle<()>), FetchError> {
        let protocol = |e: hyper::Error| FetchError::Protocol(chain(&e));
        let tls = self.connect(url).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(protocol)?;
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            // What goes wrong here is seen by whoever reads the response.
            let _ = connection.await;
        }));
        let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let request = Request::get(&url[url::Position::BeforePath..url::Position::AfterQuery])
            .header(header::HOST, host)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, "directory-federation")
            .body(Empty::<Bytes>::new())
            .map_err(|e| FetchError::Protocol(e.to_string()))?;
        let response = sender.send_request(request).await.map_err(protocol)?;
        Ok((response, driver))
    }

    async fn connect(&self, url: &Url) -> Result<TlsStream<TcpStream>, FetchError> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let (addresses, name) = self.resolve(url, &host).await?;
        let mut tcp = Err(FetchError::Resolve { host: host.clone(), detail: "it has no address".to_owned() });
        for address in addresses {
            tcp = TcpStream::connect(address).await.map_err(|e| FetchError::Connect {
                host: format!("{host} ({address})"),
                detail: e.to_string(),
            });
            if tcp.is_ok() {
                break;
            }
        }
        let (result, verdict) = with_verdict(TlsConnector::from(self.tls.clone()).connect(name, tcp?)).await;
        match (result, verdict) {
            (Ok(stream), _) => Ok(stream),
            (Err(_), Some(Err(refusal))) => Err(refused(&refusal)),
            (Err(error), _) => Err(tls_error(&error)),
        }
    }

    /// Every address of the host, none of them forbidden: a name with one good and one bad address is a trick.
    async fn resolve(
        &self,
        url: &Url,
        host: &str,
    ) -> Result<(Vec<SocketAddr>, ServerName<'static>), FetchError> {
        let port = url.port_or_known_default().unwrap_or(443);
        let addresses = match url.host() {
            Some(Host::Ipv4(ip)) => vec![SocketAddr::from((ip, port))],
            Some(Host::Ipv6(ip)) => vec![SocketAddr::from((ip, port))],
            _ => tokio::net::lookup_host((host, port))
                .await
                .map_err(|e| FetchError::Resolve { host: host.to_owned(), detail: e.to_string() })?
                .collect(),
        };
        if let Some(bad) = addresses.iter().find(|a| !self.allow_link_local && !address::allowed(a.ip())) {
            return Err(FetchError::Address { host: host.to_owned(), ip: bad.ip() });
        }
        let name = match url.host() {
            Some(Host::Ipv4(ip)) => ServerName::from(IpAddr::from(ip)),
            Some(Host::Ipv6(ip)) => ServerName::from(IpAddr::from(ip)),
            _ => ServerName::try_from(host.to_owned())
                .map_err(|e| FetchError::Resolve { host: host.to_owned(), detail: e.to_string() })?,
        };
        Ok((addresses, name))
    }
}

fn redirect(response: &Response<Incoming>) -> Option<&str> {
    let moved = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = response.headers().get(header::LOCATION)?;
    location.to_str().ok().filter(|_| moved)
}

async fn body(response: Response<Incoming>) -> Result<Vec<u8>, FetchError> {
    match Limited::new(response.into_body(), DOCUMENT_MAX).collect().await {
        Ok(whole) => Ok(whole.to_bytes().to_vec()),
        Err(e) if e.is::<LengthLimitError>() => Err(DocumentError::TooLong.into()),
        Err(e) => Err(FetchError::Protocol(chain(e.as_ref()))),
    }
}

fn refused(refusal: &Refusal) -> FetchError {
    match (refusal.reason, &refusal.chain) {
        (RefuseReason::BadChain, ChainFault::UnknownIssuer | ChainFault::BadSignature) => {
            FetchError::LockedOut(refusal.to_string())
        }
        _ => FetchError::Endpoint(refusal.to_string()),
    }
}

fn tls_error(error: &std::io::Error) -> FetchError {
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(e @ rustls::Error::InvalidCertificate(_)) => FetchError::Endpoint(e.to_string()),
        _ => FetchError::Protocol(error.to_string()),
    }
}

/// An error with its causes; hyper's own texts name none.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// For `https_spiffe`: exactly this workload, by the roots of this bundle.
pub(super) fn spiffe_tls(
    bundle: &Arc<TrustBundle>,
    id: &SpiffeId,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<ClientConfig>, FetchError> {
    let mut bundles = BundleSet::default();
    bundles.insert(bundle.clone());
    let verifier = SpiffeServerVerifier {
        trust: Trust::new(bundles),
        check: ServerCheck::Exact(id.clone()),
        own: id.trust_domain().clone(),
    };
    let config = ClientConfig::builder_with_details(PROVIDER.clone(), Arc::new(ClockTime(clock.clone())))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| FetchError::Protocol(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(finish(config))
}

/// For a look at an endpoint of which nothing is known yet: what comes over it is not to be believed before it was
/// compared with something that is.
pub(super) fn blind_tls(clock: &Arc<dyn Clock>) -> Result<Arc<ClientConfig>, FetchError> {
    let config = ClientConfig::builder_with_details(PROVIDER.clone(), Arc::new(ClockTime(clock.clone())))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| FetchError::Protocol(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Blind))
        .with_no_client_auth();
    Ok(finish(config))
}

/// Takes every certificate.
#[derive(Debug)]
struct Blind;

impl ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
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

/// For `https_web`: the roots of `ca_file`, or those of this machine. Reads files.
pub(super) fn web_tls(
    ca_file: Option<&Path>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<ClientConfig>, FetchError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        let fault = |e: &dyn std::fmt::Display| FetchError::Roots(format!("{}: {e}", path.display()));
        for cert in CertificateDer::pem_file_iter(path).map_err(|e| fault(&e))? {
            roots.add(cert.map_err(|e| fault(&e))?).map_err(|e| fault(&e))?;
        }
    } else {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::debug!(%error, "part of the machine's roots cannot be read");
        }
        roots.add_parsable_certificates(found.certs);
    }
    if roots.is_empty() {
        let place = ca_file.map_or("this machine".to_owned(), |p| p.display().to_string());
        return Err(FetchError::Roots(format!("{place} has none")));
    }
    let config = ClientConfig::builder_with_details(PROVIDER.clone(), Arc::new(ClockTime(clock.clone())))
        .with_safe_default_protocol_versions()
        .map_err(|e| FetchError::Protocol(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(finish(config))
}

fn finish(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Arc::new(config)
}

impl Endpoint {
    /// Redirects that are followed.
    pub(super) fn redirects(&self) -> usize {
        match self {
            Self::HttpsWeb { .. } => REDIRECTS_MAX,
            Self::HttpsSpiffe { .. } => 0,
        }
    }
}
