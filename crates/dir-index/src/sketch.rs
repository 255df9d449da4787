//! A few bits of every text of a dictionary that tell most texts without a piece of text from those that may have
//! it: what stands between the stars of a pattern is looked for in the candidates alone.
//!
//! Every run of three bytes of the folded text sets one bit of the text's sketch. A text that contains a piece has
//! all bits of the piece. Made when a dictionary is first read by such a pattern: fields that nobody searches so
//! cost nothing.

/// Bytes of a run.
const RUN: usize = 3;
/// Runs for which a sketch has a word of 64 bits: about half of the bits are set then.
const RUNS_PER_WORD: usize = 48;
/// Words of a sketch at most, as a power of two: longer texts are candidates more often.
const MAX_WORDS_LOG: u32 = 7;

/// The sketches of a dictionary, by the id of the text.
#[derive(Debug, Default)]
pub(crate) struct Sketches {
    words: Vec<u64>,
    /// Where the words of a text begin, and how many there are, as a power of two.
    spans: Vec<(u32, u8)>,
}

/// The runs that a matching text must have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Runs(Vec<u32>);

fn hash(run: &[u8]) -> u32 {
    let value = run.iter().fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte));
    let mixed = value.wrapping_mul(0x9e37_79b1);
    mixed ^ (mixed >> 15)
}

impl Runs {
    /// Adds the runs of a piece of folded text.
    pub(crate) fn of_piece(&mut self, piece: &str) {
        self.0.extend(piece.as_bytes().windows(RUN).map(hash));
    }

    /// Whether every text has them.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Sketches {
    /// Notes the folded text of an id, which replaces what the id had.
    pub(crate) fn set(&mut self, id: u32, folded: &str) {
        let runs = folded.len().saturating_sub(RUN - 1);
        let log = runs.div_ceil(RUNS_PER_WORD).max(1).next_power_of_two().ilog2().min(MAX_WORDS_LOG);
        let from = self.words.len();
        self.words.resize(from + (1 << log), 0);
        for run in folded.as_bytes().windows(RUN) {
            let bit = place(hash(run), log);
            self.words[from + bit / 64] |= 1 << (bit % 64);
        }
        let id = id as usize;
        if self.spans.len() <= id {
            self.spans.resize(id + 1, (0, 0));
        }
        self.spans[id] = (u32::try_from(from).unwrap_or(u32::MAX), u8::try_from(log).unwrap_or(0));
    }

    /// Whether a text may have all of the runs.
    pub(crate) fn may_have(&self, id: u32, runs: &Runs) -> bool {
        let (from, log) = self.spans[id as usize];
        runs.0.iter().all(|&run| {
            let bit = place(run, u32::from(log));
            self.words[from as usize + bit / 64] & (1 << (bit % 64)) != 0
        })
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(crate) fn heap(&self) -> usize {
        self.words.capacity() * 8 + self.spans.capacity() * size_of::<(u32, u8)>()
    }

    /// Words that no text has any more are more than those that texts have.
    pub(crate) fn is_wasteful(&self) -> bool {
        let used: usize = self.spans.iter().map(|(_, log)| 1_usize << log).sum();
        self.words.len() > 2 * used + 1024
    }
}

/// The bit of a run in a sketch of so many words.
fn place(run: u32, log: u32) -> usize {
    (run & ((64 << log) - 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(piece: &str) -> Runs {
        let mut runs = Runs::default();
        runs.of_piece(piece);
        runs
    }

    #[test]
    fn a_text_with_the_piece_is_always_a_candidate_and_most_others_are_not() {
        let mut sketches = Sketches::default();
        let text = |n: u32| format!("org{}.example.com/{}-agent-{n}", n % 97, n.wrapping_mul(2_654_435_761));
        for n in 0..2000 {
            sketches.set(n, &text(n));
        }
        let mut strangers = 0;
        for n in 0..2000 {
            let whole = text(n);
            assert!(sketches.may_have(n, &runs(&whole)) && sketches.may_have(n, &runs(&whole[5..9])));
            strangers += usize::from(sketches.may_have(n, &runs("summarizer")));
        }
        assert!(strangers < 40, "{strangers} of 2000");
        assert!(runs("ab").is_empty());
    }

    #[test]
    fn any_length_has_a_sketch_and_an_id_has_its_last_text() {
        let mut sketches = Sketches::default();
        for text in ["", "a", "ab", "abc", &"xyz".repeat(100_000)] {
            sketches.set(0, text);
            assert!(sketches.may_have(0, &runs(text)));
        }
        sketches.set(0, "abc");
        assert!(!sketches.may_have(0, &runs("xyz")));
        assert!(!sketches.is_wasteful());
        (0..2000).for_each(|_| sketches.set(0, "abc"));
        assert!(sketches.is_wasteful());
    }
}
