//! TLS from files, and what TLS failures mean to a person.

use crate::config::TlsFiles;
use crate::error::{ClientError, Kind};
use data_encoding::BASE64;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

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
    warn_of_readers(key);
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| bad_file(key, &e.to_string()))?;
    let shown = shown(chain, &Zeroizing::new(key)).map_err(|e| bad_file(cert, &e.to_string()))?;
    Ok(finished(builder()?.with_root_certificates(roots).with_client_cert_resolver(shown)))
}

/// A client configuration for servers with certificates as on the web: public roots, or those of a file instead. No
/// certificate of ours.
pub(crate) fn web(ca: Option<&Path>) -> Result<ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    if let Some(ca) = ca {
        for authority in certificates(ca)? {
            roots.add(authority).map_err(|e| bad_file(ca, &e.to_string()))?;
        }
    } else {
        let found = rustls_native_certs::load_native_certs();
        let (taken, _unusable) = roots.add_parsable_certificates(found.certs);
        if taken == 0 {
            let next =
                "install the roots of the machine (package ca-certificates), or name some with --tls-ca-file";
            let cause = "this machine has no public roots";
            return Err(ClientError::new(Kind::Config, "auth mode jwt-tls", cause, next));
        }
    }
    Ok(finished(builder()?.with_root_certificates(roots).with_no_client_auth()))
}

/// A client configuration from a file as SPIRE's helpers write it: a list whose first entry has the chain, the key and
/// the roots, in base64.
pub(crate) fn from_token_file(path: Option<&Path>) -> Result<ClientConfig, ClientError> {
    if let Some(path) = path {
        warn_of_readers(path);
    }
    let TokenParts { chain, key, roots } = token_parts(path)?;
    let bad = |cause: String| bad_token(path.unwrap_or_else(|| Path::new("")), cause);
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root).map_err(|e| bad(format!("root_cas: {e}")))?;
    }
    let shown = shown(chain, &key).map_err(|e| bad(e.to_string()))?;
    Ok(finished(builder()?.with_root_certificates(store).with_client_cert_resolver(shown)))
}

fn bad_token(path: &Path, cause: String) -> ClientError {
    let next = "it must hold [{\"x509_svid\": [base64 DER, …], \"private_key\": base64 PKCS#8, \"root_cas\": [base64 DER, …]}]";
    ClientError::new(Kind::Config, format!("read {}", path.display()), cause, next)
}

/// What such a file holds. Has no `Debug`: it holds a key.
pub(crate) struct TokenParts {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    key: Zeroizing<PrivateKeyDer<'static>>,
    pub(crate) roots: Vec<CertificateDer<'static>>,
}

/// Reads such a file.
pub(crate) fn token_parts(path: Option<&Path>) -> Result<TokenParts, ClientError> {
    let path = path.ok_or_else(|| {
        let next = "name it with --spiffe-token or DIRECTORY_CLIENT_SPIFFE_TOKEN";
        ClientError::new(Kind::Config, "auth mode token", "no token file is named", next)
    })?;
    let bad = |cause: String| bad_token(path, cause);
    let text = Zeroizing::new(std::fs::read(path).map_err(|e| bad(e.to_string()))?);
    // Without the parser's words: they could quote the key.
    let entries: Vec<TokenEntry> = serde_json::from_slice(&text).map_err(|e| {
        bad(format!("it is not of the right form (line {}, column {})", e.line(), e.column()))
    })?;
    let entry = entries.into_iter().next().ok_or_else(|| bad("the list is empty".to_owned()))?;
    let decoded = |what: &str, list: &[String]| {
        let all: Option<Vec<_>> = list.iter().map(|text| BASE64.decode(text.as_bytes()).ok()).collect();
        let all = all.filter(|all| !all.is_empty()).ok_or_else(|| bad(format!("{what} holds no base64")))?;
        Ok(all.into_iter().map(CertificateDer::from).collect::<Vec<_>>())
    };
    let roots = decoded("root_cas", &entry.root_cas)?;
    let chain = decoded("x509_svid", &entry.x509_svid)?;
    let key = BASE64.decode(entry.private_key.as_bytes()).ok();
    let key = key.ok_or_else(|| bad("private_key is no base64".to_owned()))?;
    Ok(TokenParts { chain, key: Zeroizing::new(PrivateKeyDer::Pkcs8(key.into())), roots })
}

/// What the server is shown. The key's own memory is cleared by the caller; what signs with it keeps a form of its own.
fn shown(
    chain: Vec<CertificateDer<'static>>,
    key: &Zeroizing<PrivateKeyDer<'static>>,
) -> Result<Arc<SingleCertAndKey>, rustls::Error> {
    let certified = CertifiedKey::new(chain, rustls::crypto::ring::sign::any_supported_type(key)?);
    match certified.keys_match() {
        // Some kinds of key do not tell: the handshake will.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(error) => return Err(error),
    }
    Ok(Arc::new(SingleCertAndKey::from(certified)))
}

/// Says that a private key is for everybody of this machine or of a group to read.
fn warn_of_readers(path: &Path) {
    let Ok(meta) = std::fs::metadata(path) else { return };
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o044 != 0 {
        let path = path.display();
        tracing::warn!("the private key in {path} can be read by others (mode {mode:o}): chmod 600 {path}");
    }
}

/// The entry of such a file. Has no `Debug`: it holds a key.
#[derive(serde::Deserialize)]
struct TokenEntry {
    x509_svid: Vec<String>,
    private_key: Zeroizing<String>,
    root_cas: Vec<String>,
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, ClientError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| ClientError::new(Kind::Internal, "TLS", e.to_string(), ""))
}

fn finished(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config
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

pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
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
