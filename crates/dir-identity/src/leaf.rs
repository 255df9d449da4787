//! The leaf checks of the X.509-SVID specification, section 4, and the stricter ones of our own.

use crate::inspect::Seen;
use crate::refuse::{Presented, Refusal, RefuseReason};
use dir_core::identity::IdError;
use dir_core::{SpiffeId, Timestamp};
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::Tag;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

/// What the certificate is presented for: a client proves itself with clientAuth, a server with serverAuth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    Client,
    Server,
}

/// What a good leaf says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Its SPIFFE ID.
    pub id: SpiffeId,
    /// Its DNS names, in certificate order.
    pub dns_names: Vec<String>,
    /// Its serial number, lower-case hex.
    pub serial: String,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
}

impl Leaf {
    /// What a client's leaf has to be, apart from its chain and the time.
    pub fn of_client(der: &[u8]) -> Result<Self, Refusal> {
        Self::parse(der, Some(Usage::Client))
    }

    /// Checks everything about a leaf that needs neither a bundle nor the time. With `None` any usage will do.
    pub(crate) fn parse(der: &[u8], usage: Option<Usage>) -> Result<Self, Refusal> {
        let (rest, cert) = X509Certificate::from_der(der)
            .map_err(|e| Refusal::new(RefuseReason::BadChain, format!("the leaf is no certificate: {e}")))?;
        let refuse =
            |reason, detail: String| Err(Refusal::new(reason, detail).with_presented(presented(&cert)));
        if !rest.is_empty() {
            return refuse(RefuseReason::BadChain, "bytes follow the leaf certificate".to_owned());
        }
        let (uris, dns_names) = match names(&cert) {
            Ok(names) => names,
            Err(detail) => return refuse(RefuseReason::BadChain, detail),
        };
        let id = match parse_id(&uris) {
            Ok(id) => id,
            Err((reason, detail)) => return refuse(reason, detail),
        };
        if let Err((reason, detail)) = check_usage(&cert, usage) {
            return refuse(reason, detail);
        }
        Ok(Self {
            id,
            dns_names,
            serial: hex(cert.raw_serial()),
            not_before: Timestamp::from_secs(cert.validity().not_before.timestamp()),
            not_after: Timestamp::from_secs(cert.validity().not_after.timestamp()),
        })
    }

    /// Whether the leaf is valid at `now`; both ends are inclusive, as in RFC 5280.
    pub(crate) fn check_time(&self, now: Timestamp) -> Result<(), Refusal> {
        let late = now.seconds_since(self.not_after);
        if late > 0 {
            return Err(Refusal::new(RefuseReason::Expired, format!("expired {late} seconds ago")));
        }
        let early = self.not_before.seconds_since(now);
        if early > 0 {
            let text = format!("becomes valid in {early} seconds; compare the clocks of both machines");
            return Err(Refusal::new(RefuseReason::NotYetValid, text));
        }
        Ok(())
    }
}

/// What a certificate says of itself, whether good or not. `None` if it cannot be read.
pub(crate) fn describe(der: &[u8]) -> Option<Presented> {
    X509Certificate::from_der(der).ok().map(|(_, cert)| presented(&cert))
}

/// The same with validity and, where there is exactly one, the SPIFFE ID.
pub(crate) fn inspect(der: &[u8]) -> Option<Seen> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let spiffe_id = names(&cert).ok().and_then(|(uris, _)| parse_id(&uris).ok());
    Some(Seen {
        presented: presented(&cert),
        spiffe_id,
        not_before: Timestamp::from_secs(cert.validity().not_before.timestamp()),
        not_after: Timestamp::from_secs(cert.validity().not_after.timestamp()),
        serial: hex(cert.raw_serial()),
    })
}

fn presented(cert: &X509Certificate<'_>) -> Presented {
    let dns_names = names(cert).map(|(_, dns)| dns.into_iter().take(8).collect()).unwrap_or_default();
    Presented { subject: printable(cert.subject()), issuer: printable(cert.issuer()), dns_names }
}

/// Names come from strangers: what could forge a log line is replaced, what is too long is cut.
fn printable(name: &X509Name<'_>) -> String {
    name.to_string().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(256).collect()
}

/// URI names (raw) and DNS names of the SAN extension.
fn names(cert: &X509Certificate<'_>) -> Result<(Vec<Vec<u8>>, Vec<String>), String> {
    let mut uris = Vec::new();
    let mut dns = Vec::new();
    let san = cert.subject_alternative_name().map_err(|e| format!("subject alternative names: {e}"))?;
    for name in san.iter().flat_map(|ext| &ext.value.general_names) {
        match name {
            GeneralName::URI(uri) => uris.push(uri.as_bytes().to_vec()),
            // A URI that is not ASCII is still a URI name: it must count.
            GeneralName::Invalid(Tag(6), bytes) => uris.push(bytes.to_vec()),
            GeneralName::DNSName(name) => dns.push((*name).to_owned()),
            _ => {}
        }
    }
    Ok((uris, dns))
}

fn parse_id(uris: &[Vec<u8>]) -> Result<SpiffeId, (RefuseReason, String)> {
    let uri = match uris {
        [] => {
            return Err((RefuseReason::NoUriSan, "certificate contains no URI SAN".to_owned()));
        }
        [uri] => uri,
        many => {
            return Err((
                RefuseReason::MultipleUriSan,
                format!("certificate contains {} URI SANs, exactly one is allowed", many.len()),
            ));
        }
    };
    let not_spiffe = |why: String| (RefuseReason::NoUriSan, format!("the URI SAN is no SPIFFE ID: {why}"));
    if uri.len() > dir_core::identity::SPIFFE_ID_MAX {
        return Err((RefuseReason::IdTooLong, IdError::TooLong.to_string()));
    }
    let text = std::str::from_utf8(uri).map_err(|e| not_spiffe(e.to_string()))?;
    let id: SpiffeId = text.parse().map_err(|e: IdError| not_spiffe(e.to_string()))?;
    if id.is_root() {
        return Err((RefuseReason::RootPathId, format!("{id} names a trust domain, not a workload")));
    }
    Ok(id)
}

fn check_usage(cert: &X509Certificate<'_>, usage: Option<Usage>) -> Result<(), (RefuseReason, String)> {
    let bad = |e: x509_parser::error::X509Error| (RefuseReason::BadChain, format!("leaf extensions: {e}"));
    if cert.basic_constraints().map_err(bad)?.is_some_and(|c| c.value.ca) {
        return Err((RefuseReason::LeafIsCa, "the leaf is a CA certificate".to_owned()));
    }
    let key_usage = |text: &str| (RefuseReason::LeafKeyUsage, text.to_owned());
    let Some(usages) = cert.key_usage().map_err(bad)? else {
        return Err(key_usage("the leaf has no KeyUsage; digitalSignature is needed"));
    };
    if usages.value.key_cert_sign() || usages.value.crl_sign() {
        return Err(key_usage("the leaf's KeyUsage allows signing certificates or CRLs"));
    }
    if !usages.value.digital_signature() {
        return Err(key_usage("the leaf's KeyUsage lacks digitalSignature"));
    }
    if let (Some(usage), Some(eku)) = (usage, cert.extended_key_usage().map_err(bad)?) {
        let (ok, name) = match usage {
            Usage::Client => (eku.value.client_auth, "clientAuth"),
            Usage::Server => (eku.value.server_auth, "serverAuth"),
        };
        if !ok {
            return Err((RefuseReason::LeafEku, format!("the leaf's extended key usage lacks {name}")));
        }
    }
    Ok(())
}

/// Serial number without the sign byte that DER may put in front.
fn hex(bytes: &[u8]) -> String {
    let start = bytes.iter().position(|b| *b != 0).unwrap_or(0);
    data_encoding::HEXLOWER.encode(&bytes[start..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devapi::{Authority, ChainForm};
    use proptest::prelude::*;
    use std::sync::LazyLock;
    use std::time::Duration;

    static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let (now, ttl) = (Timestamp::from_secs(1_000_000), Duration::from_secs(3600));
        let ca = Authority::new(&"a.example".parse().unwrap(), now, ttl, ChainForm::SelfSigned).unwrap();
        let id = "spiffe://a.example/w".parse().unwrap();
        ca.issue(&id, &["h.example".to_owned()], now, ttl).unwrap().0.remove(0)
    });

    #[test]
    fn a_good_leaf_and_the_edges_of_its_life() {
        let leaf = Leaf::parse(&GOOD, Some(Usage::Client)).unwrap();
        assert_eq!(leaf.dns_names, ["h.example"]);
        let at = |secs| leaf.check_time(Timestamp::from_secs(secs)).map_err(|r| r.reason);
        assert_eq!(at(1_003_600), Ok(()));
        assert_eq!(at(1_003_601), Err(RefuseReason::Expired));
        assert_eq!(at(999_990), Ok(()));
        assert_eq!(at(999_989), Err(RefuseReason::NotYetValid));
    }

    proptest! {
        // The signature is not checked here, so damage may go unnoticed; it must never panic.
        #[test]
        fn damaged_leaves_never_panic(at in 0usize..600, bits in 1u8.., cut in 0usize..600) {
            let mut der = GOOD.clone();
            let at = at % der.len();
            der[at] ^= bits;
            let _ = Leaf::parse(&der, Some(Usage::Server));
            let _ = describe(&der);
            der.truncate(cut);
            prop_assert!(Leaf::parse(&der, None).is_err() || der.len() == GOOD.len());
        }

        #[test]
        fn any_bytes_get_an_answer(der in proptest::collection::vec(any::<u8>(), 0..256)) {
            prop_assert_eq!(Leaf::parse(&der, None).unwrap_err().reason, RefuseReason::BadChain);
        }
    }
}
