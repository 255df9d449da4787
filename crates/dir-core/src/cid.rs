//! Content identifiers: `CIDv1`, codec 1, SHA-256, multibase base32 lower case (59 characters).

use crate::class::{Class, Classified};
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// Length of the canonical text of a [`Cid`] in bytes.
pub const CID_TEXT_LEN: usize = 59;

/// Prefix of the binary form: version 1, codec 1, multihash code sha2-256, length 32.
const HEAD: [u8; 4] = [0x01, 0x01, 0x12, 0x20];

/// The identity of a record: the SHA-256 digest of its canonical bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cid([u8; 32]);

/// Why a text is not a canonical CID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CidError {
    /// Not 59 characters, or not starting with `b`, or not lower-case base32.
    #[error("not a CID in the canonical 59-character spelling")]
    Spelling,
    /// Decodes, but is not version 1, codec 1, sha2-256.
    #[error("not a version 1, codec 1, sha2-256 CID")]
    Kind,
}

/// Why a text is not the digest of a blob of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not an OCI digest (image-spec, section "Digests").
    #[error("invalid digest format: {0}")]
    Format(String),
    /// Another algorithm.
    #[error("unsupported digest algorithm {0}, only SHA256 is supported")]
    Algorithm(String),
}

impl Classified for DigestError {
    fn class(&self) -> Class {
        Class::Invalid
    }
}

/// The CID of the blob with this OCI digest. Never to be used with the digest of a manifest: a record's CID is that
/// of its layer.
pub fn digest_to_cid(digest: &str) -> Result<Cid, DigestError> {
    let format = || DigestError::Format(digest.to_owned());
    let (algorithm, encoded) = digest.split_once(':').ok_or_else(format)?;
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let encoded_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"=_-".contains(&byte);
    if !algorithm.split(['+', '.', '_', '-']).all(part)
        || encoded.is_empty()
        || !encoded.bytes().all(encoded_byte)
    {
        return Err(format());
    }
    if algorithm != "sha256" {
        return Err(DigestError::Algorithm(algorithm.to_owned()));
    }
    Cid::from_oci_digest(digest).ok_or_else(format)
}

impl Cid {
    /// The CID of canonical bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The CID with this SHA-256 digest (32 bytes).
    pub const fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The SHA-256 digest (32 bytes).
    pub const fn digest(&self) -> &[u8; 32] {
        &self.0
    }

    /// The OCI spelling of the digest: `sha256:<64 hex digits>`.
    pub fn oci_digest(&self) -> String {
        format!("sha256:{}", HEXLOWER.encode(&self.0))
    }

    /// Parses `sha256:<64 lower-case hex digits>`.
    pub fn from_oci_digest(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:")?;
        let raw = HEXLOWER.decode(hex.as_bytes()).ok()?;
        Some(Self(raw.try_into().ok()?))
    }

    /// The first twelve bits of the digest, 0..4096: the shard of the sharded registry layout.
    pub const fn shard(&self) -> u16 {
        ((self.0[0] as u16) << 4) | ((self.0[1] as u16) >> 4)
    }
}

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut raw = [0_u8; 36];
        raw[..4].copy_from_slice(&HEAD);
        raw[4..].copy_from_slice(&self.0);
        let mut text = [0_u8; CID_TEXT_LEN];
        text[0] = b'b';
        BASE32_NOPAD.encode_mut(&raw, &mut text[1..]);
        text.make_ascii_lowercase();
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cid({self})")
    }
}

impl FromStr for Cid {
    type Err = CidError;

    fn from_str(text: &str) -> Result<Self, CidError> {
        let body = text.as_bytes();
        if body.len() != CID_TEXT_LEN || body[0] != b'b' || body.iter().any(u8::is_ascii_uppercase) {
            return Err(CidError::Spelling);
        }
        let mut upper = [0_u8; CID_TEXT_LEN - 1];
        upper.copy_from_slice(&body[1..]);
        upper.make_ascii_uppercase();
        let mut raw = [0_u8; 36];
        if BASE32_NOPAD.decode_mut(&upper, &mut raw).is_err() {
            return Err(CidError::Spelling);
        }
        if raw[..4] != HEAD {
            return Err(CidError::Kind);
        }
        let mut digest = [0_u8; 32];
        digest.copy_from_slice(&raw[4..]);
        Ok(Self(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_object_has_the_published_cid() {
        let cid = Cid::of(b"{}");
        assert_eq!(cid.to_string(), "baeareicecnx2gvntm6fbcrvnc336qze6st5u7qq7457igegamd3bzkx7ri");
        assert_eq!(cid.to_string().parse(), Ok(cid));
        assert_eq!(Cid::from_oci_digest(&cid.oci_digest()), Some(cid));
        assert_eq!(cid.shard(), 0x441);
    }

    #[test]
    fn other_spellings_are_refused() {
        let text = Cid::of(b"{}").to_string();
        assert_eq!(text.to_uppercase().parse::<Cid>(), Err(CidError::Spelling));
        assert_eq!(text[1..].parse::<Cid>(), Err(CidError::Spelling));
        assert_eq!("".parse::<Cid>(), Err(CidError::Spelling));
        assert_eq!("QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKZABC".parse::<Cid>(), Err(CidError::Spelling));
    }

    #[test]
    fn digests_of_other_kinds_are_told_apart() {
        let cid = Cid::of(b"{}");
        assert_eq!(digest_to_cid(&cid.oci_digest()), Ok(cid));
        let sha512 = format!("sha512:{}", "0".repeat(128));
        assert_eq!(
            digest_to_cid(&sha512).unwrap_err().to_string(),
            "unsupported digest algorithm sha512, only SHA256 is supported"
        );
        let upper = cid.oci_digest().to_uppercase().replace("SHA", "sha");
        for bad in ["", "sha256", "sha256:", ":00", "sha256:00", "sha256:/", "sha256+:00", &upper] {
            let expected = format!("invalid digest format: {bad}");
            assert_eq!(digest_to_cid(bad).unwrap_err().to_string(), expected);
        }
    }
}
