//! Bundles of other trust domains, fetched by hand: before there is any trust, a fingerprint that came over another way
//! takes its place.

pub use dir_identity::federation::{
    Bundle, DOCUMENT_MAX, Endpoint, FETCH_LIMIT, FetchError, Once, OnceError, Vouched, root_fingerprint,
};

use crate::error::{ClientError, Kind};
use dir_core::Clock;
use dir_identity::federation::DocumentError;
use std::fmt::Write;
use std::sync::Arc;

/// Fetches a bundle, and judges it as far as anything is known beforehand.
pub async fn fetch(once: &Once, clock: &Arc<dyn Clock>) -> Result<Bundle, ClientError> {
    once.fetch(clock).await.map_err(|error| {
        let (kind, next) = explained(&error);
        let what = format!("fetch the bundle of {} from {}", once.trust_domain, shown(&once.url));
        ClientError::new(kind, what, error.to_string(), next)
    })
}

/// Without what stands before the host: it may be a password.
fn shown(url: &str) -> String {
    match (url.split_once("://"), url.rfind('@')) {
        (Some((scheme, _)), Some(at)) => format!("{scheme}://***{}", &url[at..]),
        _ => url.to_owned(),
    }
}

fn explained(error: &OnceError) -> (Kind, &'static str) {
    let fetch = match error {
        OnceError::Bootstrap(_) => {
            return (Kind::Config, "give a SPIFFE bundle document or roots in PEM with --bootstrap-file");
        }
        OnceError::Fingerprint { .. } => {
            return (
                Kind::WrongIdentity,
                "somebody else may have answered: ask the partner for the fingerprints of today, over a way you trust",
            );
        }
        OnceError::Fetch(error) => error,
    };
    match fetch {
        FetchError::Url { .. } => (Kind::Config, "write https://host:port/path"),
        FetchError::Address { .. } => (Kind::Config, "name the endpoint by its own address"),
        FetchError::Resolve { .. } => (Kind::Dns, ""),
        FetchError::Connect { .. } => (Kind::Refused, "check that the endpoint runs, and its port"),
        FetchError::Timeout(_) => (Kind::Timeout, ""),
        FetchError::Roots(_) => (
            Kind::Config,
            "name roots in PEM with --ca-file, or install those of the machine (ca-certificates)",
        ),
        FetchError::Endpoint(_) => (
            Kind::TlsUntrusted,
            "check --endpoint-id; an endpoint with a certificate of the public kind is asked with --https-web",
        ),
        FetchError::LockedOut(_) => (
            Kind::TlsUntrusted,
            "get the partner's fingerprints of today over a way you trust, and give them with --fingerprint and without \
             --bootstrap-file",
        ),
        FetchError::Status(404) => (Kind::NotFound, "check the path: publishers of this product answer at /"),
        FetchError::Status(500..) => (Kind::Unavailable, ""),
        FetchError::Protocol(_) | FetchError::Status(_) | FetchError::Redirects(_) => {
            (Kind::Protocol, "check host, port and path: this is no bundle endpoint")
        }
        FetchError::Document(DocumentError::OtherDomain { .. }) => {
            (Kind::WrongTrustDomain, "check --trust-domain and the URL")
        }
        FetchError::Document(_) => (Kind::Invalid, "check the path: what answers publishes no SPIFFE bundle"),
        FetchError::NoBundle(_) | FetchError::Sequence { .. } => (Kind::Internal, ""),
    }
}

/// A fingerprint as people write it, as lower-case hex: `sha256:` before it and colons or spaces within do no harm.
pub fn fingerprint(text: &str) -> Result<String, String> {
    let bare = text.trim();
    let bare = bare.strip_prefix("sha256:").or_else(|| bare.strip_prefix("SHA256:")).unwrap_or(bare);
    let hex: String = bare.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
    if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(hex.to_ascii_lowercase());
    }
    Err(format!(
        "{text:?} is no SHA-256 fingerprint: write 64 hex digits, as `openssl x509 -noout -fingerprint -sha256` shows them"
    ))
}

/// The X.509 roots as PEM.
pub fn pem(bundle: &Bundle) -> String {
    let mut text = String::new();
    for der in &bundle.document.x509_roots {
        let body = data_encoding::BASE64.encode(der);
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in body.as_bytes().chunks(64) {
            // Base64 is ASCII.
            let _ = writeln!(text, "{}", String::from_utf8_lossy(line));
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_as_people_write_them() {
        let hex = "0123456789abcdef".repeat(4);
        let pairs: Vec<_> =
            hex.as_bytes().chunks(2).map(|p| String::from_utf8_lossy(p).to_uppercase()).collect();
        for text in
            [hex.clone(), hex.to_uppercase(), format!("sha256:{hex}"), pairs.join(":"), pairs.join(" ")]
        {
            assert_eq!(fingerprint(&text), Ok(hex.clone()));
        }
        for text in
            ["", "sha256:", &hex[1..], &format!("{hex}0"), &hex.replace('0', "g"), &format!("sha1:{hex}")]
        {
            assert!(fingerprint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_are_shown_without_passwords() {
        assert_eq!(shown("https://user:secret@host/x"), "https://***@host/x");
        assert_eq!(shown("https://host/x"), "https://host/x");
    }
}
