//! From one message of the Workload API to material that holds: every SVID and every bundle is judged alone, so that
//! one bad part does not take the rest with it.

use crate::bundle::{BundleError, BundleSet, TrustBundle, WORKLOAD_API};
use crate::config::WorkloadConfig;
use crate::error::WaitReason;
use crate::leaf::Leaf;
use crate::proto::{X509SvidEntry, X509SvidResponse};
use crate::refuse::{Refusal, RefuseReason};
use crate::snapshot::{OwnSvid, TlsSnapshot};
use crate::verify::{trusted_bundle, verify_chain};
use dir_core::{SpiffeId, Timestamp, TrustDomain};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::collections::HashSet;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Most SVIDs that are looked at in one message.
pub(crate) const SVIDS_MAX: usize = 100;
/// Most bundles that are taken from one message.
pub(crate) const BUNDLES_MAX: usize = 200;
/// Longest hint, in bytes (SPIFFE Workload API, X509SVID message).
pub(crate) const HINT_MAX: usize = 1024;

/// Why the SVID was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    Hint,
    Hostname,
    First,
}

impl Choice {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Choice::Hint => "it has the configured hint",
            Choice::Hostname => "its DNS names contain a public hostname",
            Choice::First => "it is the first",
        }
    }
}

/// What a message amounts to.
pub(crate) struct Evaluated {
    /// The SVID to use and how it was chosen, or why there is none.
    pub(crate) svid: Result<(OwnSvid, Choice), WaitReason>,
    /// Every usable bundle; for an unreadable one the last good one stays.
    pub(crate) bundles: BundleSet,
    /// Number of SVIDs that would do.
    pub(crate) candidates: usize,
    /// What was wrong with parts of it.
    pub(crate) faults: Vec<String>,
}

/// Judges a message. `last` is the state that unreadable bundles are kept from.
pub(crate) fn evaluate(
    message: &X509SvidResponse,
    last: Option<&TlsSnapshot>,
    config: &WorkloadConfig,
    now: Timestamp,
) -> Evaluated {
    let mut faults = Vec::new();
    let bundles = read_bundles(message, last, &mut faults);
    let mut good = Vec::new();
    let mut first_reason = None;
    let mut hints = HashSet::new();
    for entry in message.svids.iter().take(SVIDS_MAX) {
        // Hints are unique; a later duplicate is an SVID without one. Over-long ones count as none.
        let hint =
            if entry.hint.len() <= HINT_MAX && hints.insert(entry.hint.as_str()) { &entry.hint } else { "" };
        match read_svid(entry, hint, &bundles, now) {
            Ok(svid) => good.push(svid),
            Err(reason) => {
                faults.push(format!("{}: {reason}", entry.spiffe_id));
                first_reason.get_or_insert(reason);
            }
        }
    }
    let candidates = good.len();
    let svid = pick(good, config).ok_or_else(|| first_reason.unwrap_or(WaitReason::NoIdentityIssued));
    Evaluated { svid, bundles, candidates, faults }
}

fn read_bundles(
    message: &X509SvidResponse,
    last: Option<&TlsSnapshot>,
    faults: &mut Vec<String>,
) -> BundleSet {
    let mut bundles = BundleSet::default();
    let federated = message.federated_bundles.iter().map(|(domain, der)| (domain.as_str(), der, false));
    // Own bundles come last: nobody federates us away from ourselves.
    let own = message.svids.iter().take(SVIDS_MAX).map(|s| (s.spiffe_id.as_str(), &s.bundle, true));
    for (name, der, own) in federated.take(BUNDLES_MAX).chain(own) {
        let domain = match domain_of(name) {
            Ok(domain) => domain,
            Err(e) => {
                faults.push(format!("bundle of \"{}\": {e}", name.escape_debug()));
                continue;
            }
        };
        // A foreign bundle may be empty (that domain is trusted no more), our own may not.
        let parsed = match TrustBundle::from_der(&domain, der, WORKLOAD_API) {
            Ok(bundle) if own && bundle.is_empty() => {
                Err(BundleError { trust_domain: domain.clone(), detail: "it is empty".to_owned() })
            }
            parsed => parsed,
        };
        match parsed {
            Ok(bundle) => bundles.insert(Arc::new(bundle)),
            Err(e) => {
                faults.push(e.to_string());
                let kept = last.and_then(|s| s.bundles().get(&domain));
                if let Some(kept) = kept.filter(|b| b.source() == WORKLOAD_API) {
                    bundles.insert(kept.clone());
                }
            }
        }
    }
    bundles
}

/// The specification keys bundles by `spiffe://<trust domain>`; the bare name is seen as well.
pub(crate) fn domain_of(name: &str) -> Result<TrustDomain, dir_core::identity::IdError> {
    if name.contains("://") {
        name.parse::<SpiffeId>().map(|id| id.trust_domain().clone())
    } else {
        name.parse()
    }
}

fn read_svid(
    entry: &X509SvidEntry,
    hint: &str,
    bundles: &BundleSet,
    now: Timestamp,
) -> Result<OwnSvid, WaitReason> {
    let unusable = |why: String| WaitReason::Unusable(why);
    let parsed = match spiffe::X509Svid::parse_from_der(&entry.x509_svid, &entry.x509_svid_key) {
        Ok(parsed) => parsed,
        // Our own reading of the leaf says more exactly what is wrong with it.
        Err(e) => {
            return Err(match first_certificate(&entry.x509_svid).map(|der| Leaf::parse(der, None)) {
                Some(Err(refusal)) => wait_reason(&refusal),
                _ => unusable(e.to_string()),
            });
        }
    };
    let chain: Vec<CertificateDer<'static>> =
        parsed.cert_chain().iter().map(|c| CertificateDer::from(c.as_bytes().to_vec())).collect();
    let (leaf_der, intermediates) = chain.split_first().ok_or_else(|| unusable("empty chain".to_owned()))?;
    let leaf = Leaf::parse(leaf_der, None).map_err(|r| wait_reason(&r))?;
    if leaf.id.as_str() != entry.spiffe_id {
        return Err(unusable(format!("the leaf is of {}, the entry of {}", leaf.id, entry.spiffe_id)));
    }
    check_own_time(&leaf, now)?;
    let bundle = trusted_bundle(bundles, leaf.id.trust_domain()).map_err(|r| wait_reason(&r))?;
    verify_chain(leaf_der, intermediates, bundle, now, None).map_err(|r| wait_reason(&r))?;
    let key = Zeroizing::new(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(entry.x509_svid_key.to_vec())));
    OwnSvid::new(leaf, chain, &key, hint.to_owned()).map_err(|e| unusable(format!("private key: {e}")))
}

/// Time faults of our own SVID in seconds, for the operator's message.
pub(crate) fn check_own_time(leaf: &Leaf, now: Timestamp) -> Result<(), WaitReason> {
    leaf.check_time(now).map_err(|refusal| match refusal.reason {
        RefuseReason::Expired => WaitReason::Expired(now.seconds_since(leaf.not_after)),
        _ => WaitReason::NotYetValid(leaf.not_before.seconds_since(now)),
    })
}

fn wait_reason(refusal: &Refusal) -> WaitReason {
    match refusal.reason {
        RefuseReason::NoUriSan => WaitReason::NoUriSan,
        _ => WaitReason::Unusable(refusal.to_string()),
    }
}

fn first_certificate(der: &[u8]) -> Option<&[u8]> {
    use x509_parser::prelude::FromDer;
    let (rest, _) = x509_parser::certificate::X509Certificate::from_der(der).ok()?;
    Some(&der[..der.len() - rest.len()])
}

/// Configured hint, then a public hostname among the DNS names, then the first.
fn pick(mut good: Vec<OwnSvid>, config: &WorkloadConfig) -> Option<(OwnSvid, Choice)> {
    if good.is_empty() {
        return None;
    }
    let by_hint = config.svid_hint.as_deref().and_then(|h| good.iter().position(|s| s.hint == h));
    if let Some(at) = by_hint {
        return Some((good.swap_remove(at), Choice::Hint));
    }
    let named = |s: &OwnSvid| config.public_hostnames.iter().any(|h| covers(&s.leaf.dns_names, h));
    if let Some(at) = good.iter().position(named) {
        return Some((good.swap_remove(at), Choice::Hostname));
    }
    Some((good.swap_remove(0), Choice::First))
}

/// Whether DNS names of a certificate cover a host; `*.` stands for one label.
pub(crate) fn covers(dns_names: &[String], host: &str) -> bool {
    dns_names.iter().any(|name| {
        name.eq_ignore_ascii_case(host)
            || name.strip_prefix("*.").is_some_and(|suffix| {
                host.split_once('.')
                    .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(suffix))
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_one_label() {
        let names = ["api.example".to_owned(), "*.w.example".to_owned()];
        for (host, yes) in [
            ("api.example", true),
            ("API.example", true),
            ("x.w.example", true),
            ("x.y.w.example", false),
            ("w.example", false),
            (".w.example", false),
            ("other", false),
        ] {
            assert_eq!(covers(&names, host), yes, "{host}");
        }
    }

    #[test]
    fn domain_names_in_both_spellings() {
        assert_eq!(domain_of("spiffe://a.example").unwrap().as_str(), "a.example");
        assert_eq!(domain_of("a.example").unwrap().as_str(), "a.example");
        assert!(domain_of("https://a").is_err());
    }

    use crate::devapi::{Authority, ChainForm};
    use proptest::prelude::*;
    use std::sync::LazyLock;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000);

    /// One good SVID with its bundle, and one foreign bundle.
    static GOOD: LazyLock<X509SvidResponse> = LazyLock::new(|| {
        let ttl = Duration::from_secs(3600);
        let ca = Authority::new(&"a.example".parse().unwrap(), NOW, ttl, ChainForm::Upstream).unwrap();
        let id = "spiffe://a.example/w".parse().unwrap();
        let (chain, key) = ca.issue(&id, &[], NOW, ttl).unwrap();
        let entry = X509SvidEntry {
            spiffe_id: id.to_string(),
            x509_svid: chain.concat().into(),
            x509_svid_key: key.into(),
            bundle: ca.root().to_vec().into(),
            hint: String::new(),
        };
        let federated = [("spiffe://b.example".to_owned(), ca.root().to_vec().into())];
        X509SvidResponse { svids: vec![entry], crl: Vec::new(), federated_bundles: federated.into() }
    });

    fn judge(message: &X509SvidResponse) -> Evaluated {
        evaluate(message, None, &WorkloadConfig::default(), NOW)
    }

    fn damage(bytes: &bytes::Bytes, at: usize, bits: u8) -> bytes::Bytes {
        let mut copy = bytes.to_vec();
        let at = at % copy.len();
        copy[at] ^= bits;
        copy.into()
    }

    #[test]
    fn a_good_message_and_its_limits() {
        let good = judge(&GOOD);
        assert!(good.svid.is_ok() && good.faults.is_empty());
        assert_eq!(good.bundles.len(), 2);
        let mut wrong = GOOD.clone();
        wrong.svids[0].spiffe_id = "spiffe://a.example/other".to_owned();
        assert!(matches!(judge(&wrong).svid, Err(WaitReason::Unusable(why)) if why.contains("the entry of")));
        let mut bare = GOOD.clone();
        bare.svids[0].bundle = bytes::Bytes::new();
        assert!(judge(&bare).svid.is_err() && judge(&bare).faults[0].contains("it is empty"));
        let many = |count| X509SvidResponse { svids: vec![GOOD.svids[0].clone(); count], ..GOOD.clone() };
        assert_eq!(judge(&many(SVIDS_MAX)).candidates, SVIDS_MAX);
        assert_eq!(judge(&many(SVIDS_MAX + 1)).candidates, SVIDS_MAX);
    }

    #[test]
    fn hints_are_unique_and_short() {
        let hinted = |hint: String| X509SvidEntry { hint, ..GOOD.svids[0].clone() };
        let (longest, too_long) = ("h".repeat(HINT_MAX), "h".repeat(HINT_MAX + 1));
        for (hint, found) in [(longest, Choice::Hint), (too_long, Choice::First)] {
            let svids = vec![hinted(String::new()), hinted(hint.clone())];
            let message = X509SvidResponse { svids, ..GOOD.clone() };
            let config = WorkloadConfig { svid_hint: Some(hint), ..WorkloadConfig::default() };
            let (_, choice) = evaluate(&message, None, &config, NOW).svid.ok().unwrap();
            assert_eq!(choice, found);
        }
    }

    proptest! {
        #[test]
        fn damage_to_a_foreign_bundle_never_touches_our_svid(at in any::<usize>(), bits in 1u8..) {
            let mut message = GOOD.clone();
            let foreign = message.federated_bundles.get_mut("spiffe://b.example").unwrap();
            *foreign = damage(foreign, at, bits);
            let judged = judge(&message);
            prop_assert!(judged.svid.is_ok());
            prop_assert!(judged.bundles.len() == 2 || judged.faults.len() == 1);
        }

        #[test]
        fn a_damaged_leaf_never_passes(at in any::<usize>(), bits in 1u8..) {
            let mut message = GOOD.clone();
            let chain = &mut message.svids[0].x509_svid;
            *chain = damage(chain, at, bits);
            let judged = judge(&message);
            prop_assert!(judged.svid.is_err(), "a changed chain held");
            prop_assert_eq!(judged.bundles.len(), 2);
        }
    }
}
