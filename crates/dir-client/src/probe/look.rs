//! A handshake that only looks: with ALPN first, without it where that is refused.

use super::{Endpoint, Met, Sighting, plain};
use crate::tls::ALPN_H2;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, Error, ProtocolVersion, SignatureScheme,
};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

type Chain = Vec<CertificateDer<'static>>;

/// Takes every certificate, and notes it: whoever it belongs to must still prove to hold the key.
#[derive(Debug)]
struct Observer {
    provider: Arc<CryptoProvider>,
    chain: Mutex<Chain>,
}

impl Observer {
    fn chain(&self) -> Chain {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for Observer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let all = std::iter::once(end_entity).chain(intermediates);
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) =
            all.map(|c| c.clone().into_owned()).collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// How a handshake went.
enum Shaken {
    Done(Box<TlsStream<TcpStream>>, Chain),
    /// It broke, with what had been shown until then.
    Broke(io::Error, Chain),
}

pub(super) async fn look(endpoint: &Endpoint) -> Met {
    let first = match shake(endpoint, Some(ALPN_H2)).await {
        Ok(shaken) => shaken,
        Err(met) => return met,
    };
    let (error, chain) = match first {
        Shaken::Done(stream, chain) => return seen(endpoint, &stream, chain, false).await,
        Shaken::Broke(error, chain) => (error, chain),
    };
    if is_alert(&error, AlertDescription::NoApplicationProtocol) {
        return match shake(endpoint, None).await {
            Ok(Shaken::Done(stream, chain)) => seen(endpoint, &stream, chain, true).await,
            Ok(Shaken::Broke(error, chain)) => broke(endpoint, &error, chain).await,
            Err(met) => met,
        };
    }
    broke(endpoint, &error, chain).await
}

/// One connection, one handshake. An error is an answer by itself.
async fn shake(endpoint: &Endpoint, alpn: Option<&[u8]>) -> Result<Shaken, Met> {
    let stream = connect(endpoint).await?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let observer = Arc::new(Observer { provider: Arc::clone(&provider), chain: Mutex::default() });
    let unusable = |e: &dyn std::fmt::Display| Met::Unreachable(e.to_string());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| unusable(&e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&observer) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
    config.enable_sni = endpoint.sni;
    config.resumption = rustls::client::Resumption::disabled();
    let name = ServerName::try_from(endpoint.server_name.clone()).map_err(|e| unusable(&e))?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    match tokio::time::timeout(endpoint.timeout, handshake).await {
        Err(_late) => Err(Met::Timeout),
        Ok(Ok(stream)) => Ok(Shaken::Done(Box::new(stream), observer.chain())),
        Ok(Err(error)) => Ok(Shaken::Broke(error, observer.chain())),
    }
}

pub(super) async fn connect(endpoint: &Endpoint) -> Result<TcpStream, Met> {
    match tokio::time::timeout(endpoint.timeout, TcpStream::connect(endpoint.address)).await {
        Err(_late) => Err(Met::Timeout),
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => Err(Met::Refused),
        Ok(Err(e)) if e.kind() == io::ErrorKind::TimedOut => Err(Met::Timeout),
        Ok(Err(e)) => Err(Met::Unreachable(e.to_string())),
    }
}

async fn seen(endpoint: &Endpoint, stream: &TlsStream<TcpStream>, chain: Chain, refused_h2: bool) -> Met {
    let session = stream.get_ref().1;
    let alpn = session.alpn_protocol().map(|p| String::from_utf8_lossy(p).into_owned());
    let is_svid =
        chain.first().and_then(|leaf| dir_identity::inspect(leaf)).is_some_and(|s| s.spiffe_id.is_some());
    // Whether a proxy knows the host tells why it answered by itself.
    let http_status = if is_svid { None } else { http_status(endpoint).await };
    Met::Tls(Sighting { version: version(session.protocol_version()), alpn, refused_h2, chain, http_status })
}

fn version(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "unknown",
    }
}

async fn http_status(endpoint: &Endpoint) -> Option<u16> {
    match shake(endpoint, None).await {
        Ok(Shaken::Done(mut stream, _)) => plain::http_status(&mut stream, endpoint).await,
        _ => None,
    }
}

/// A handshake that broke: what was shown before counts, then what the server says in plaintext.
async fn broke(endpoint: &Endpoint, error: &io::Error, chain: Chain) -> Met {
    if !chain.is_empty() {
        let (version, alpn) = ("unknown", None);
        return Met::Tls(Sighting { version, alpn, refused_h2: false, chain, http_status: None });
    }
    match crate::tls::within(error) {
        Some(Error::AlertReceived(alert)) => Met::Alert(format!("{alert:?}")),
        Some(Error::PeerIncompatible(why)) => Met::Alert(format!("{why:?}")),
        Some(_) => plain::look(endpoint).await.unwrap_or(Met::NotTls),
        None => plain::look(endpoint).await.unwrap_or(Met::Closed),
    }
}

fn is_alert(error: &io::Error, alert: AlertDescription) -> bool {
    matches!(crate::tls::within(error), Some(Error::AlertReceived(seen)) if *seen == alert)
}
