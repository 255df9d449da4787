//! mTLS from PEM files, and what TLS failures mean to a person.

use crate::config::TlsFiles;
use crate::error::{ClientError, Kind};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;

/// What every connection offers: gRPC needs HTTP/2.
pub(crate) const ALPN_H2: &[u8] = b"h2";

/// A client configuration from the three files. TLS 1.2 is allowed here: the server is somebody else's choice.
pub(crate) fn from_files(files: &TlsFiles) -> Result<ClientConfig, ClientError> {
    let ca = needed(files.ca.as_deref(), "authority (CA)", "--tls-ca-file")?;
    let cert = needed(files.cert.as_deref(), "client certificate", "--tls-cert-file")?;
    let key = needed(files.key.as_deref(), "client key", "--tls-key-file")?;

    let mut roots = RootCertStore::empty();
    for authority in certificates(ca)? {
        roots.add(authority).map_err(|e| bad_file(ca, &e.to_string()))?;
    }
    let chain = certificates(cert)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| bad_file(key, &e.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| bad_file(cert, &e.to_string()))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|e| bad_file(cert, &e.to_string()))?;
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

fn needed<'a>(path: Option<&'a Path>, what: &str, flag: &str) -> Result<&'a Path, ClientError> {
    path.ok_or_else(|| {
        ClientError::new(
            Kind::Config,
            "auth mode tls",
            format!("no {what} file is named"),
            format!("name it with {flag}; the mode needs --tls-ca-file, --tls-cert-file and --tls-key-file"),
        )
    })
}

fn bad_file(path: &Path, cause: &str) -> ClientError {
    ClientError::new(
        Kind::Config,
        format!("read {}", path.display()),
        cause,
        "the file must be readable and hold PEM blocks of the right kind",
    )
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let blocks = CertificateDer::pem_file_iter(path).map_err(|e| bad_file(path, &e.to_string()))?;
    let all: Vec<_> = blocks.collect::<Result<_, _>>().map_err(|e| bad_file(path, &e.to_string()))?;
    if all.is_empty() { Err(bad_file(path, "it holds no certificate")) } else { Ok(all) }
}

/// What a failed handshake (or an alert after it) means: kind, cause and, where a better one than the kind's own
/// is known, the next step.
pub(crate) fn explain(error: &rustls::Error) -> (Kind, String, &'static str) {
    use rustls::{AlertDescription, Error};
    match error {
        Error::InvalidCertificate(problem) => explain_certificate(problem),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => (
            Kind::Protocol,
            "the server does not answer in TLS".to_owned(),
            "it probably serves plaintext: check the port, or use --auth-mode insecure on a trusted network",
        ),
        Error::NoApplicationProtocol | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => (
            Kind::Protocol,
            "the other end speaks TLS but not HTTP/2, so it is no directory server".to_owned(),
            "a proxy probably answers instead of the server: check its SSL passthrough and that it routes this name",
        ),
        Error::AlertReceived(alert) => (Kind::TlsRefused, format!("the server refused: {alert:?}"), ""),
        Error::PeerIncompatible(_) => (
            Kind::Protocol,
            format!("client and server share no TLS version or cipher suite: {error}"),
            "the client needs TLS 1.3",
        ),
        other => (Kind::TlsUntrusted, other.to_string(), ""),
    }
}

fn explain_certificate(problem: &CertificateError) -> (Kind, String, &'static str) {
    match problem {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            (Kind::TlsName, problem.to_string(), "")
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => (
            Kind::TlsUntrusted,
            format!("the server's certificate is outside its validity: {problem}"),
            "compare the clocks of client and server, and check that the server's certificate is being renewed",
        ),
        other => (Kind::TlsUntrusted, format!("the server's certificate is not trusted: {other}"), ""),
    }
}

/// The TLS error inside an IO error, if that is what it is.
pub(crate) fn within(error: &std::io::Error) -> Option<&rustls::Error> {
    let mut at: Option<&(dyn std::error::Error + 'static)> = error.get_ref().map(|e| e as _);
    while let Some(e) = at {
        if let Some(tls) = e.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        at = e.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{AlertDescription, Error, InvalidMessage};

    #[test]
    fn kinds_of_tls_failures() {
        for (error, kind) in [
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), Kind::TlsUntrusted),
            (Error::InvalidCertificate(CertificateError::Expired), Kind::TlsUntrusted),
            (Error::InvalidCertificate(CertificateError::NotValidForName), Kind::TlsName),
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), Kind::Protocol),
            (Error::AlertReceived(AlertDescription::NoApplicationProtocol), Kind::Protocol),
            (Error::AlertReceived(AlertDescription::CertificateExpired), Kind::TlsRefused),
        ] {
            let (found, cause, _) = explain(&error);
            assert_eq!(found, kind, "{error}");
            assert!(!cause.is_empty());
            let io = std::io::Error::new(std::io::ErrorKind::InvalidData, error.clone());
            assert_eq!(within(&io), Some(&error));
        }
    }

    #[test]
    fn all_three_files_are_needed_and_must_hold_pem() {
        let none = from_files(&TlsFiles::default()).unwrap_err();
        assert_eq!(none.kind(), Kind::Config);
        assert!(none.next_step().contains("--tls-ca-file"), "{none}");

        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty.pem");
        std::fs::write(&empty, "not PEM\n").unwrap();
        let files = TlsFiles { ca: Some(empty.clone()), cert: Some(empty.clone()), key: Some(empty) };
        let error = from_files(&files).unwrap_err();
        assert!(error.what().contains("empty.pem"), "{error}");
        let files = TlsFiles { ca: Some(dir.path().join("absent")), ..files };
        assert!(from_files(&files).unwrap_err().what().contains("absent"));
    }
}
