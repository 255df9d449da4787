//! A mutating driver without coverage: small, deterministic, and quick enough for every test run.

/// Longest input that a mutation makes, in bytes.
const LONGEST: usize = 64 * 1024;
/// Bytes that parsers tend to trip over.
const INTERESTING: [u8; 16] =
    [0, 1, 0x7f, 0x80, 0xff, b'"', b'\\', b'/', b'.', b'*', b'{', b'[', b',', b'\n', b'\r', b'%'];

/// Numbers from a seed, the same on every machine (xorshift64*).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice that begin with this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// A number below `end`; 0 when that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % end).unwrap_or_default()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// One to five changes to an input; `others` are inputs to borrow from.
pub fn mutate(input: &[u8], others: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=dice.below(5) {
        change(&mut bytes, others, dice);
    }
    bytes.truncate(LONGEST);
    bytes
}

fn change(bytes: &mut Vec<u8>, others: &[Vec<u8>], dice: &mut Dice) {
    let at = dice.below(bytes.len());
    let end = (at + 1 + dice.below(32)).min(bytes.len());
    match dice.below(8) {
        0 | 1 if bytes.is_empty() => {}
        0 => bytes[at] ^= 1 << dice.below(8),
        1 => bytes[at] = INTERESTING[dice.below(INTERESTING.len())],
        2 => bytes.insert(at, dice.byte()),
        3 => drop(bytes.drain(at.min(end)..end)),
        4 => {
            let piece = bytes.get(at..end).unwrap_or_default().to_vec();
            let times = 1 + dice.below(40);
            bytes.splice(at..at, piece.repeat(times));
        }
        5 => bytes.truncate(at),
        6 => {
            let new = dice.byte();
            bytes[at.min(end)..end].fill(new);
        }
        _ => {
            let Some(other) = others.get(dice.below(others.len())) else { return };
            let from = dice.below(other.len());
            let to = (from + 1 + dice.below(64)).min(other.len());
            bytes.splice(at..at, other[from.min(to)..to].iter().copied());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs_and_another_makes_others() {
        let others = [b"spiffe://example.org/a".to_vec(), b"PROXY TCP4".to_vec()];
        let run = |seed| {
            let mut dice = Dice::new(seed);
            (0..200).map(|_| mutate(&others[0], &others, &mut dice)).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        let distinct: std::collections::BTreeSet<_> = run(3).into_iter().collect();
        assert!(distinct.len() > 150, "{}", distinct.len());
    }

    #[test]
    fn an_empty_input_is_no_trouble() {
        let mut dice = Dice::new(7);
        for _ in 0..1000 {
            drop(mutate(b"", &[], &mut dice));
        }
    }
}
