//! gRPC message framing: one byte of flags, four of length, then the message. Counting only, nothing is copied.

/// Bytes before each message.
pub(crate) const HEAD: usize = 5;

/// Follows the messages of one direction of a call through chunks that are cut anywhere.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    head: [u8; HEAD],
    have: usize,
    left: usize,
}

/// A message that is longer than allowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong {
    /// How long it says it is.
    pub(crate) size: usize,
    /// Bytes of the chunk that come before it.
    pub(crate) before: usize,
    /// Messages that end in those.
    pub(crate) ended: u64,
}

impl Scan {
    /// Bytes that have come of a message that has not ended.
    pub(crate) fn unfinished(&self) -> usize {
        if self.have < HEAD {
            return self.have;
        }
        let [_, a, b, c, d] = self.head;
        HEAD + (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(self.left)
    }

    /// Takes in a chunk; answers how many messages ended in it. Refuses a message by its head alone.
    pub(crate) fn feed(&mut self, mut chunk: &[u8], limit: usize) -> Result<u64, TooLong> {
        let total = chunk.len();
        let mut ended = 0;
        while !chunk.is_empty() {
            if self.have < HEAD {
                let take = chunk.len().min(HEAD - self.have);
                let (now, rest) = chunk.split_at(take);
                self.head[self.have..self.have + take].copy_from_slice(now);
                self.have += take;
                chunk = rest;
                if self.have < HEAD {
                    break;
                }
                let [_, a, b, c, d] = self.head;
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                if self.left > limit {
                    let before = (total - chunk.len()).saturating_sub(HEAD);
                    return Err(TooLong { size: self.left, before, ended });
                }
            }
            let take = chunk.len().min(self.left);
            chunk = &chunk[take..];
            self.left -= take;
            if self.left == 0 {
                ended += 1;
                self.have = 0;
            }
        }
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: u32) -> Vec<u8> {
        let mut out = vec![0];
        out.extend_from_slice(&len.to_be_bytes());
        out.resize(HEAD + len as usize, 7);
        out
    }

    #[test]
    fn messages_count_once_however_they_are_cut() {
        let all = [message(0), message(3), message(1000), message(0)].concat();
        for size in [1, 2, 4, 5, 6, 7, 500, all.len()] {
            let mut scan = Scan::default();
            let ended: u64 = all.chunks(size).map(|c| scan.feed(c, 1000).unwrap()).sum();
            assert_eq!(ended, 4, "chunks of {size}");
        }
    }

    #[test]
    fn what_has_come_of_a_message_is_known_until_it_ends() {
        let mut scan = Scan::default();
        for (chunk, unfinished) in
            [(&message(9)[..3], 3), (&message(9)[3..5], 5), (&message(9)[5..7], 7), (&message(9)[7..], 0)]
        {
            scan.feed(chunk, 9).unwrap();
            assert_eq!(scan.unfinished(), unfinished);
        }
        scan.feed(&[message(0), message(9)[..6].to_vec()].concat(), 9).unwrap();
        assert_eq!(scan.unfinished(), 6);
    }

    #[test]
    fn the_limit_is_the_longest_allowed() {
        assert_eq!(Scan::default().feed(&message(8), 8), Ok(1));
        let refused = |before, ended| Err(TooLong { size: 9, before, ended });
        assert_eq!(Scan::default().feed(&message(9)[..HEAD], 8), refused(0, 0));
        // What comes before it in the same chunk is not lost.
        assert_eq!(Scan::default().feed(&[message(8), message(9)].concat(), 8), refused(13, 1));
        let mut scan = Scan::default();
        assert_eq!(scan.feed(&message(9)[..3], 8), Ok(0));
        assert_eq!(scan.feed(&message(9)[3..], 8), refused(0, 0));
    }
}
