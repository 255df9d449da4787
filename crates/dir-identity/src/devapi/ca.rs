//! Certificates of the shape that SPIRE issues.

use dir_core::{SpiffeId, Timestamp, TrustDomain};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use std::time::Duration;
use time::OffsetDateTime;

/// Certificates start that long before they are made, for clocks that are a little behind.
const BACKDATE: Duration = Duration::from_secs(10);
/// The X.520 attribute serialNumber.
const OID_SERIAL_NUMBER: &[u64] = &[2, 5, 4, 5];

/// A certificate cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("certificate: {0}")]
pub struct MintError(#[from] rcgen::Error);

/// Who signs the leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChainForm {
    /// A self-signed CA; an SVID is its leaf alone.
    #[default]
    SelfSigned,
    /// A CA below an upstream root without SPIFFE ID; an SVID is leaf and intermediate.
    Upstream,
}

/// A CA of a trust domain.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    root: Vec<u8>,
    intermediates: Vec<Vec<u8>>,
    made_at: Timestamp,
    not_after: Timestamp,
}

impl Authority {
    /// Makes a CA whose life begins `now`.
    pub fn new(
        domain: &TrustDomain,
        now: Timestamp,
        ttl: Duration,
        form: ChainForm,
    ) -> Result<Self, MintError> {
        let not_after = plus(now, ttl);
        let params = ca_params(Some(domain), now, not_after)?;
        let key = KeyPair::generate()?;
        let (issuer, root, intermediates) = match form {
            ChainForm::SelfSigned => {
                let issuer = CertifiedIssuer::self_signed(params, key)?;
                let root = issuer.der().to_vec();
                (issuer, root, Vec::new())
            }
            ChainForm::Upstream => {
                let upstream =
                    CertifiedIssuer::self_signed(ca_params(None, now, not_after)?, KeyPair::generate()?)?;
                let issuer = CertifiedIssuer::signed_by(params, key, &upstream)?;
                let intermediate = issuer.der().to_vec();
                (issuer, upstream.der().to_vec(), vec![intermediate])
            }
        };
        Ok(Self { issuer, root, intermediates, made_at: now, not_after })
    }

    /// DER of the root, for the bundle.
    pub fn root(&self) -> &[u8] {
        &self.root
    }

    /// DER of what stands between a leaf and the root.
    pub fn intermediates(&self) -> &[Vec<u8>] {
        &self.intermediates
    }

    /// End of the CA; no leaf lives longer.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    pub(crate) fn made_at(&self) -> Timestamp {
        self.made_at
    }

    /// Signs whatever it is given; returns the certificate's DER.
    pub fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Result<Vec<u8>, MintError> {
        Ok(params.signed_by(key, &self.issuer)?.der().to_vec())
    }

    /// Signs an SVID with a new key. Returns the chain, leaf first, and the key as PKCS#8 DER.
    pub fn issue(
        &self,
        id: &SpiffeId,
        dns_names: &[String],
        now: Timestamp,
        ttl: Duration,
    ) -> Result<(Vec<Vec<u8>>, Vec<u8>), MintError> {
        let key = KeyPair::generate()?;
        let params = svid_params(id, dns_names, now, plus(now, ttl).min(self.not_after))?;
        let mut chain = vec![self.sign(&params, &key)?];
        chain.extend(self.intermediates.iter().cloned());
        Ok((chain, key.serialize_der()))
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// What SPIRE puts into a leaf: DNS names first and the SPIFFE ID last, the first DNS name also as CN.
pub fn svid_params(
    id: &SpiffeId,
    dns_names: &[String],
    now: Timestamp,
    not_after: Timestamp,
) -> Result<CertificateParams, MintError> {
    let mut params = base_params(now, not_after);
    params.distinguished_name = subject("SPIRE");
    if let Some(first) = dns_names.first() {
        params.distinguished_name.push(DnType::CommonName, first.as_str());
    }
    for name in dns_names {
        params.subject_alt_names.push(SanType::DnsName(ia5(name)?));
    }
    params.subject_alt_names.push(SanType::URI(ia5(id.as_str())?));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyAgreement,
    ];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

/// A CA of a trust domain, or an upstream root that names none.
fn ca_params(
    domain: Option<&TrustDomain>,
    now: Timestamp,
    not_after: Timestamp,
) -> Result<CertificateParams, MintError> {
    let mut params = base_params(now, not_after);
    if let Some(domain) = domain {
        params.distinguished_name = subject("SPIFFE");
        let number = rand::random::<u128>().to_string();
        params.distinguished_name.push(DnType::CustomDnType(OID_SERIAL_NUMBER.to_vec()), number);
        params.subject_alt_names.push(SanType::URI(ia5(&format!("spiffe://{domain}"))?));
    } else {
        params.distinguished_name = subject("UPSTREAM");
        params.distinguished_name.push(DnType::CommonName, "development root");
    }
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn base_params(now: Timestamp, not_after: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    // 127 random bits: positive in DER without a byte in front.
    let mut serial = rand::random::<[u8; 16]>();
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = date(Timestamp(now.0 - i64::try_from(BACKDATE.as_millis()).unwrap_or(0)));
    params.not_after = date(not_after);
    params.use_authority_key_identifier_extension = true;
    params
}

fn subject(organization: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CountryName, "US");
    name.push(DnType::OrganizationName, organization);
    name
}

fn ia5(text: &str) -> Result<Ia5String, MintError> {
    Ok(Ia5String::try_from(text)?)
}

fn date(at: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.secs()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

pub(crate) fn plus(now: Timestamp, ttl: Duration) -> Timestamp {
    Timestamp(now.0.saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)))
}
