//! Frames of the journal and of the tag log: what changed, with or without the content, under a checksum.
//!
//! ```text
//! "DjF1" | kind u8 | content u8 | 0 u16 | payload length u32 | CRC-32 of the 8 bytes before and the payload | payload
//! ```
//! Integers are little-endian. The payload is the frame's fields and, with content, manifest and blob.

use bytes::{Buf, BufMut};
use dir_core::Cid;

/// SHA-256 of a blob or manifest.
pub(super) type Digest = Cid;

const MAGIC: &[u8; 4] = b"DjF1";
/// Bytes before the payload.
pub(super) const HEAD: usize = 16;
/// `created` of an artifact that does not say.
const NO_TIME: i64 = i64::MIN;

/// An artifact: a manifest and its one blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Artifact {
    /// CID of the blob.
    pub(super) cid: Cid,
    pub(super) manifest: Digest,
    pub(super) manifest_size: u32,
    pub(super) blob_size: u32,
    /// Milliseconds since the epoch.
    pub(super) created: Option<i64>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// A record, tagged with its CID.
    Record(Artifact),
    /// A referrer of `subject`. `tag` is empty for those written here.
    Referrer { subject: Cid, artifact: Artifact, api_type: String, tag: String },
    /// A record is gone; `garbage` are the digests that went with it.
    Unrecord { cid: Cid, garbage: Vec<Digest> },
    /// A referrer is gone.
    Unreferrer { subject: Cid, manifest: Digest, garbage: Vec<Digest> },
    /// A descriptor of `index.json` that is neither record nor referrer, kept as it was (JSON).
    Foreign(Vec<u8>),
    /// `index.json` was written, or found, with this size and modification time (nanoseconds).
    Index { size: u64, modified: i128 },
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Torn {
    /// No frame starts here, or it is damaged.
    Damaged,
    /// The bytes end inside the frame.
    Short,
}

/// A decoded frame and where its content is.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) frame: Frame,
    /// Offset of the content within the decoded bytes (manifest first), when there is content.
    pub(super) content: Option<usize>,
    /// Bytes of the whole frame.
    pub(super) len: usize,
}

impl Frame {
    fn kind(&self) -> u8 {
        match self {
            Frame::Record(_) => 1,
            Frame::Referrer { .. } => 2,
            Frame::Unrecord { .. } => 3,
            Frame::Unreferrer { .. } => 4,
            Frame::Foreign(_) => 5,
            Frame::Index { .. } => 6,
        }
    }

    /// Appends the frame to `out`; answers the offset of the content from the frame's start.
    pub(super) fn encode(&self, content: Option<(&[u8], &[u8])>, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.put_slice(MAGIC);
        out.put_u8(self.kind());
        out.put_u8(u8::from(content.is_some()));
        out.put_u16_le(0);
        out.put_u64_le(0);
        match self {
            Frame::Record(a) => put_artifact(out, a),
            Frame::Referrer { subject, artifact, api_type, tag } => {
                out.put_slice(subject.digest());
                put_artifact(out, artifact);
                put_text(out, api_type.as_bytes());
                put_text(out, tag.as_bytes());
            }
            Frame::Unrecord { cid, garbage } => {
                out.put_slice(cid.digest());
                put_digests(out, garbage);
            }
            Frame::Unreferrer { subject, manifest, garbage } => {
                out.put_slice(subject.digest());
                out.put_slice(manifest.digest());
                put_digests(out, garbage);
            }
            Frame::Foreign(json) => put_text(out, json),
            Frame::Index { size, modified } => {
                out.put_u64_le(*size);
                out.put_i128_le(*modified);
            }
        }
        let content_at = out.len() - start;
        if let Some((manifest, blob)) = content {
            out.put_slice(manifest);
            out.put_slice(blob);
        }
        let payload = u32::try_from(out.len() - start - HEAD).unwrap_or(u32::MAX);
        out[start + 8..start + 12].copy_from_slice(&payload.to_le_bytes());
        let crc = checksum(&out[start + 4..start + 12], &out[start + HEAD..]);
        out[start + 12..start + HEAD].copy_from_slice(&crc.to_le_bytes());
        content_at
    }

    /// Decodes the frame at the start of `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, Torn> {
        let head = bytes.get(..HEAD).ok_or(Torn::Short)?;
        if &head[..4] != MAGIC {
            return Err(Torn::Damaged);
        }
        let (kind, has_content) = (head[4], head[5] == 1);
        let mut numbers = &head[8..];
        let (len, crc) = (numbers.get_u32_le() as usize, numbers.get_u32_le());
        let payload = bytes.get(HEAD..HEAD + len).ok_or(Torn::Short)?;
        if checksum(&head[4..12], payload) != crc {
            return Err(Torn::Damaged);
        }
        let mut rest = payload;
        let frame = decode_payload(kind, &mut rest).ok_or(Torn::Damaged)?;
        let content = has_content.then_some(HEAD + payload.len() - rest.len());
        Ok(Decoded { frame, content, len: HEAD + len })
    }
}

fn decode_payload(kind: u8, rest: &mut &[u8]) -> Option<Frame> {
    Some(match kind {
        1 => Frame::Record(get_artifact(rest)?),
        2 => Frame::Referrer {
            subject: get_digest(rest)?,
            artifact: get_artifact(rest)?,
            api_type: String::from_utf8(get_text(rest)?).ok()?,
            tag: String::from_utf8(get_text(rest)?).ok()?,
        },
        3 => Frame::Unrecord { cid: get_digest(rest)?, garbage: get_digests(rest)? },
        4 => Frame::Unreferrer {
            subject: get_digest(rest)?,
            manifest: get_digest(rest)?,
            garbage: get_digests(rest)?,
        },
        5 => Frame::Foreign(get_text(rest)?),
        6 => Frame::Index { size: rest.try_get_u64_le().ok()?, modified: rest.try_get_i128_le().ok()? },
        _ => return None,
    })
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(head);
    crc.update(payload);
    crc.finalize()
}

fn put_artifact(out: &mut Vec<u8>, a: &Artifact) {
    out.put_slice(a.cid.digest());
    out.put_slice(a.manifest.digest());
    out.put_u32_le(a.manifest_size);
    out.put_u32_le(a.blob_size);
    out.put_i64_le(a.created.unwrap_or(NO_TIME));
}

fn get_artifact(rest: &mut &[u8]) -> Option<Artifact> {
    Some(Artifact {
        cid: get_digest(rest)?,
        manifest: get_digest(rest)?,
        manifest_size: rest.try_get_u32_le().ok()?,
        blob_size: rest.try_get_u32_le().ok()?,
        created: Some(rest.try_get_i64_le().ok()?).filter(|t| *t != NO_TIME),
    })
}

fn get_digest(rest: &mut &[u8]) -> Option<Digest> {
    let mut raw = [0; 32];
    rest.try_copy_to_slice(&mut raw).ok()?;
    Some(Cid::from_digest(raw))
}

fn put_digests(out: &mut Vec<u8>, digests: &[Digest]) {
    out.put_u32_le(u32::try_from(digests.len()).unwrap_or(u32::MAX));
    for d in digests {
        out.put_slice(d.digest());
    }
}

fn get_digests(rest: &mut &[u8]) -> Option<Vec<Digest>> {
    let n = rest.try_get_u32_le().ok()? as usize;
    if rest.len() < n.checked_mul(32)? {
        return None;
    }
    (0..n).map(|_| get_digest(rest)).collect()
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.put_u32_le(u32::try_from(text.len()).unwrap_or(u32::MAX));
    out.put_slice(text);
}

fn get_text(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let n = rest.try_get_u32_le().ok()? as usize;
    let (text, tail) = rest.split_at_checked(n)?;
    *rest = tail;
    Some(text.to_vec())
}

/// What a scan over a log meets.
#[derive(Debug)]
pub(super) enum Scanned {
    /// A frame at this offset.
    Frame(usize, Decoded),
    /// Damaged bytes between good frames: from, to.
    Gap(usize, usize),
    /// Nothing good follows this offset: a write that was cut off.
    Tail(usize),
}

/// Every frame of a log, going on behind damaged places.
pub(super) fn scan(bytes: &[u8]) -> impl Iterator<Item = Scanned> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= bytes.len() {
            return None;
        }
        if let Ok(decoded) = Frame::decode(&bytes[at..]) {
            let here = at;
            at += decoded.len;
            return Some(Scanned::Frame(here, decoded));
        }
        let here = at;
        at = resync(bytes, at + 1).unwrap_or(bytes.len());
        Some(if at < bytes.len() { Scanned::Gap(here, at) } else { Scanned::Tail(here) })
    })
}

/// The next offset from `from` on at which a good frame starts.
fn resync(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = bytes.get(at..)?.windows(4).position(|w| w == MAGIC) {
        at += found;
        if Frame::decode(&bytes[at..]).is_ok() {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn artifact(n: u8) -> Artifact {
        Artifact {
            cid: Cid::of(&[n]),
            manifest: Cid::of(&[n, n]),
            manifest_size: 700,
            blob_size: u32::from(n),
            created: n.is_multiple_of(2).then_some(i64::from(n)),
        }
    }

    fn frames() -> Vec<Frame> {
        vec![
            Frame::Record(artifact(1)),
            Frame::Referrer {
                subject: Cid::of(b"s"),
                artifact: artifact(2),
                api_type: "agntcy.dir.sign.v1.Signature".into(),
                tag: String::new(),
            },
            Frame::Unrecord { cid: Cid::of(b"x"), garbage: vec![Cid::of(b"y"), Cid::of(b"z")] },
            Frame::Unreferrer { subject: Cid::of(b"s"), manifest: Cid::of(b"m"), garbage: vec![] },
            Frame::Foreign(b"{}".to_vec()),
            Frame::Index { size: 9, modified: -7 },
        ]
    }

    #[test]
    fn every_kind_survives_the_round_trip_with_its_content() {
        for frame in frames() {
            let mut out = b"before".to_vec();
            let content_at = frame.encode(Some((b"manifest", b"blob")), &mut out);
            let decoded = Frame::decode(&out[6..]).unwrap();
            assert_eq!(decoded.frame, frame);
            assert_eq!(decoded.content, Some(content_at));
            assert_eq!(&out[6 + content_at..], b"manifestblob");
            assert_eq!(decoded.len, out.len() - 6);
        }
    }

    #[test]
    fn a_scan_goes_on_behind_damage_and_names_the_tail() {
        let mut log = Vec::new();
        let mut starts = Vec::new();
        for frame in frames() {
            starts.push(log.len());
            frame.encode(None, &mut log);
        }
        log[starts[1] + 20] ^= 1;
        let end = log.len();
        log.extend_from_slice(&{
            let mut cut = Vec::new();
            frames()[0].encode(None, &mut cut);
            cut.truncate(30);
            cut
        });
        let seen: Vec<_> = scan(&log).collect();
        assert!(matches!(seen[0], Scanned::Frame(0, _)));
        assert!(matches!(seen[1], Scanned::Gap(from, to) if from == starts[1] && to == starts[2]));
        assert!(matches!(seen.last(), Some(Scanned::Tail(at)) if *at == end));
        assert_eq!(seen.iter().filter(|s| matches!(s, Scanned::Frame(..))).count(), frames().len() - 1);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_scan_fail(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let covered: usize = scan(&bytes).map(|s| match s {
                Scanned::Frame(_, d) => d.len,
                Scanned::Gap(from, to) => to - from,
                Scanned::Tail(at) => bytes.len() - at,
            }).sum();
            prop_assert_eq!(covered, bytes.len());
        }

        #[test]
        fn a_flipped_bit_is_never_read_as_a_frame(n in 0_usize..6, bit in 0_usize..4000) {
            let mut log = Vec::new();
            frames()[n].encode(Some((b"manifest", b"blob")), &mut log);
            let bit = bit % (log.len() * 8);
            // The reserved half word is outside the checksum's meaning but inside its range.
            log[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Frame::decode(&log).is_err());
        }
    }
}
