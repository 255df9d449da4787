//! A hash chain over lines of JSON: each line ends with its number and the digest of the line before it, so that a line
//! cannot be changed, removed, added or moved without every later line saying so.
//!
//! The chain proves order and wholeness of what is there. It cannot prove that nothing was cut off at its end, nor that
//! nobody wrote the whole of it anew: for both, a [`Head`] must be known from somewhere else.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use std::fmt;

/// Beginning of what [`Head::link`] appends. A text inside of a JSON line cannot hold it: its quotes are escaped there.
const SEQ: &str = ",\"seq\":";
const PREV: &str = ",\"prev\":\"";
/// Length of a digest in hex.
const HEX: usize = 64;

/// The last line of a chain: its number and its digest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    seq: u64,
    digest: String,
}

impl Head {
    /// The head of a chain that ends with this line; `None` when the line is of no chain.
    pub fn of(line: &[u8]) -> Option<Self> {
        let place = Link::read(line)?;
        Some(Self { seq: place.seq, digest: digest(line) })
    }

    /// Number of the line; 0 before the first.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Makes the JSON object that `out` holds from `start` on the next line of the chain. The line must have members,
    /// and no end of line yet.
    pub fn link(&mut self, out: &mut Vec<u8>, start: usize) {
        out.pop();
        let seq = self.seq + 1;
        out.extend_from_slice(format!("{SEQ}{seq}{PREV}{}\"}}", self.digest).as_bytes());
        *self = Self { seq, digest: digest(&out[start..]) };
    }
}

/// `SEQ:DIGEST`.
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.digest)
    }
}

/// Why a text is no head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not NUMBER:DIGEST, the digest being 64 characters of lower-case hex")]
pub struct NoHead(String);

impl std::str::FromStr for Head {
    type Err = NoHead;

    fn from_str(text: &str) -> Result<Self, NoHead> {
        let wrong = || NoHead(text.to_owned());
        let (seq, digest) = text.split_once(':').ok_or_else(wrong)?;
        let seq = seq.parse().ok().filter(|seq| *seq > 0).ok_or_else(wrong)?;
        if is_digest(digest) { Ok(Self { seq, digest: digest.to_owned() }) } else { Err(wrong()) }
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == HEX && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn digest(line: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(line))
}

/// What a line says of its place.
struct Link<'a> {
    seq: u64,
    prev: &'a str,
}

impl<'a> Link<'a> {
    fn read(line: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?;
        let (_, place) = text.strip_suffix("\"}")?.rsplit_once(SEQ)?;
        let (seq, prev) = place.split_once(PREV)?;
        let seq = seq.parse().ok()?;
        // The first line, and no other, has nothing before it.
        (if seq == 1 { prev.is_empty() } else { is_digest(prev) }).then_some(Self { seq, prev })
    }
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It has no place in a chain.
    #[error("the line is of no chain: it was added, changed or cut off")]
    Foreign,
    /// Lines before it are not there.
    #[error("{count} line(s) before it are missing: {first} to {last}", count = last - first + 1)]
    Missing {
        /// The first that is missing.
        first: u64,
        /// The last.
        last: u64,
    },
    /// The line before it is not the one that was written.
    #[error("line {0} of the chain, before it, was changed")]
    Changed(u64),
    /// It comes late, or again.
    #[error("line {0} of the chain was moved or repeated")]
    Moved(u64),
    /// Another chain begins.
    #[error("a new chain begins: the end of the one before cannot be judged")]
    Restarted,
    /// A line whose digest is known from elsewhere is another one.
    #[error("line {0} of the chain is not the one that was vouched for")]
    NotVouched(u64),
}

/// Follows a chain, line by line.
#[derive(Debug, Clone, Default)]
pub struct Verifier {
    head: Option<Head>,
    first: Option<u64>,
    vouched: Option<Head>,
    met: bool,
}

impl Verifier {
    /// `vouched`: a head that is known from elsewhere.
    pub fn new(vouched: Option<Head>) -> Self {
        Self { vouched, ..Self::default() }
    }

    /// Judges the next line, given without its end. After a fault the chain is followed from this line on.
    pub fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let place = Link::read(line).ok_or(Fault::Foreign)?;
        let judged = self.place(&place);
        let head = Head { seq: place.seq, digest: digest(line) };
        self.first.get_or_insert(place.seq);
        let vouched = self.vouch(&head);
        self.head = Some(head);
        judged.and(vouched)
    }

    fn place(&self, link: &Link<'_>) -> Result<(), Fault> {
        let Some(head) = &self.head else { return Ok(()) };
        match head.seq + 1 {
            next if link.seq == next && link.prev == head.digest => Ok(()),
            next if link.seq == next => Err(Fault::Changed(head.seq)),
            next if link.seq > next => Err(Fault::Missing { first: next, last: link.seq - 1 }),
            _ if link.seq == 1 => Err(Fault::Restarted),
            _ => Err(Fault::Moved(link.seq)),
        }
    }

    fn vouch(&mut self, head: &Head) -> Result<(), Fault> {
        match &self.vouched {
            Some(vouched) if vouched.seq == head.seq => {
                self.met = true;
                if vouched.digest == head.digest { Ok(()) } else { Err(Fault::NotVouched(head.seq)) }
            }
            _ => Ok(()),
        }
    }

    /// Number of the first line that was seen.
    pub fn first(&self) -> Option<u64> {
        self.first
    }

    /// The last line that was seen.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// The line that was vouched for, when it did not come: the chain was cut off before it.
    pub fn missed(&self) -> Option<&Head> {
        self.vouched.as_ref().filter(|_| !self.met)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(count: u32) -> Vec<Vec<u8>> {
        let mut head = Head::default();
        let line = |n| {
            let mut line = format!("{{\"n\":{n},\"text\":\"a \\\",\\\"seq\\\":9\"}}").into_bytes();
            head.link(&mut line, 0);
            line
        };
        (0..count).map(line).collect()
    }

    fn faults(lines: &[Vec<u8>]) -> Vec<Fault> {
        let mut verifier = Verifier::default();
        lines.iter().filter_map(|line| verifier.line(line).err()).collect()
    }

    #[test]
    fn o4_a_whole_chain_is_whole_and_every_change_is_seen() {
        let whole = chain(5);
        assert_eq!(faults(&whole), []);
        assert_eq!(faults(&whole[2..]), [], "a chain may be read from any line on");
        let mut removed = whole.clone();
        removed.remove(2);
        assert_eq!(faults(&removed), [Fault::Missing { first: 3, last: 3 }]);
        let mut changed = whole.clone();
        changed[1] =
            String::from_utf8(changed[1].clone()).unwrap().replace("\"n\":1", "\"n\":7").into_bytes();
        assert_eq!(faults(&changed), [Fault::Changed(2)]);
        let mut swapped = whole.clone();
        swapped.swap(1, 2);
        assert_eq!(faults(&swapped)[0], Fault::Missing { first: 2, last: 2 });
        assert_eq!(faults(&swapped)[1], Fault::Moved(2));
        let mut added = whole.clone();
        added.insert(1, b"{\"n\":8}".to_vec());
        assert_eq!(faults(&added), [Fault::Foreign]);
        let mut twice = whole.clone();
        twice.extend(chain(1));
        assert_eq!(faults(&twice), [Fault::Restarted]);
    }

    #[test]
    fn o4_a_known_head_shows_what_was_cut_off_or_written_anew() {
        let whole = chain(4);
        let known = Head::of(&whole[3]).unwrap();
        assert_eq!(known.to_string().parse(), Ok(known.clone()));
        let mut verifier = Verifier::new(Some(known.clone()));
        assert!(whole.iter().all(|line| verifier.line(line).is_ok()));
        assert_eq!((verifier.missed(), verifier.first(), verifier.head()), (None, Some(1), Some(&known)));
        let mut cut = Verifier::new(Some(known.clone()));
        assert!(whole[..3].iter().all(|line| cut.line(line).is_ok()));
        assert_eq!(cut.missed(), Some(&known));
        let mut other = Head { seq: 3, digest: "0".repeat(64) };
        let mut forged = b"{\"n\":0}".to_vec();
        other.link(&mut forged, 0);
        assert_eq!(Verifier::new(Some(known)).line(&forged), Err(Fault::NotVouched(4)));
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for text in
            ["", "1", "x:00", "0:00", &format!("1:{}", "g".repeat(64)), &format!("0:{}", "a".repeat(64))]
        {
            assert!(text.parse::<Head>().is_err(), "{text}");
        }
        for line in [
            &b""[..],
            b"{}",
            b"{\"a\":1,\"seq\":2,\"prev\":\"\"}",
            b"{\"a\":1,\"seq\":x,\"prev\":\"\"}",
            &[0xff],
        ] {
            assert_eq!(Head::of(line), None);
        }
    }
}
