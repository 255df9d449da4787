//! One operand of a filter: a plain text or a wildcard pattern, compared by folded characters.
//!
//! `*` stands for any run of characters, `?` for exactly one; neither can be escaped, and everything else,
//! `%`, `_` and `\` included, stands for itself.

use crate::fold::fold;
use crate::holes::Holes;
use crate::sketch::Runs;
use memchr::memmem::Finder;

/// Bytes of an operand with wildcards; beyond, it matches nothing.
pub const MAX_WILDCARD_BYTES: usize = 50_000;

/// A compiled operand.
#[derive(Debug, Clone)]
pub(crate) enum Pattern {
    /// No wildcard: the folded text itself.
    Exact(String),
    /// Text, then anything: `abc*`.
    Prefix(String),
    /// Anything else.
    Glob(Glob),
    /// Too long.
    Nothing,
}

/// A pattern cut at its `*`s. Matching takes each piece at its leftmost place: linear in the text, and for pieces with
/// `?` a word of bits for every 64 of their characters.
#[derive(Debug, Clone)]
pub(crate) struct Glob {
    /// Pieces between the stars; with stars at an end the first or last piece is empty.
    pieces: Vec<Piece>,
    /// Characters that a matching text has at least.
    min_chars: usize,
    /// What every matching text contains.
    pub(crate) runs: Runs,
}

#[derive(Debug, Clone)]
struct Piece {
    text: String,
    finder: Search,
}

#[derive(Debug, Clone)]
enum Search {
    /// Without `?`.
    Plain(Finder<'static>),
    Holes(Holes),
}

impl Pattern {
    /// Compiles an operand.
    pub(crate) fn new(operand: &str) -> Self {
        let folded = fold(operand);
        if !folded.contains(['*', '?']) {
            return Self::Exact(folded);
        }
        if operand.len() > MAX_WILDCARD_BYTES {
            return Self::Nothing;
        }
        if let Some(prefix) = folded.strip_suffix('*')
            && !prefix.contains(['*', '?'])
        {
            return Self::Prefix(prefix.to_owned());
        }
        let mut pieces: Vec<Piece> = folded.split('*').map(Piece::new).collect();
        // `a**b` is `a*b`: empty pieces in the middle say nothing.
        let last = pieces.len() - 1;
        let mut at = 0;
        pieces.retain(|piece| {
            let keep = at == 0 || at == last || !piece.text.is_empty();
            at += 1;
            keep
        });
        let min_chars = pieces.iter().map(|p| p.text.chars().count()).sum();
        let mut runs = Runs::default();
        pieces.iter().flat_map(|piece| piece.text.split('?')).for_each(|plain| runs.of_piece(plain));
        Self::Glob(Glob { pieces, min_chars, runs })
    }

    /// Whether a folded text matches.
    pub(crate) fn matches(&self, folded: &str) -> bool {
        match self {
            Self::Exact(text) => text == folded,
            Self::Prefix(prefix) => folded.starts_with(prefix.as_str()),
            Self::Glob(glob) => glob.matches(folded),
            Self::Nothing => false,
        }
    }

    /// Characters of its pieces with `?`.
    pub(crate) fn holes(&self) -> u64 {
        match self {
            Self::Glob(glob) => glob.pieces.iter().map(Piece::holes).sum(),
            Self::Exact(_) | Self::Prefix(_) | Self::Nothing => 0,
        }
    }

    /// What asking it costs at most for each byte of the texts that it reads, in words.
    pub(crate) fn weight(&self) -> u64 {
        if matches!(self, Self::Glob(_)) { 1 + self.holes() / 64 } else { 0 }
    }
}

impl Glob {
    fn matches(&self, folded: &str) -> bool {
        // Bytes are at least as many as characters: this refuses most short texts without counting.
        if folded.len() < self.min_chars {
            return false;
        }
        let [first, rest @ ..] = self.pieces.as_slice() else { return false };
        let Some(end) = first.at_start(folded) else { return false };
        let [middle @ .., last] = rest else { return end == folded.len() };
        let mut text = &folded[end..];
        for piece in middle {
            let Some(end) = piece.find_end(text) else { return false };
            text = &text[end..];
        }
        last.at_end(text)
    }
}

impl Piece {
    fn new(text: &str) -> Self {
        let finder = if text.contains('?') {
            Search::Holes(Holes::new(text))
        } else {
            Search::Plain(Finder::new(text).into_owned())
        };
        Self { text: text.to_owned(), finder }
    }

    fn holes(&self) -> u64 {
        match &self.finder {
            Search::Plain(_) => 0,
            Search::Holes(holes) => holes.len(),
        }
    }

    /// Where the piece ends when it stands at the start of `text`.
    fn at_start(&self, text: &str) -> Option<usize> {
        match &self.finder {
            Search::Plain(_) => text.starts_with(self.text.as_str()).then_some(self.text.len()),
            Search::Holes(holes) => holes.at_start(text),
        }
    }

    /// Where the piece ends at its leftmost place in `text`.
    fn find_end(&self, text: &str) -> Option<usize> {
        match &self.finder {
            // Both sides are whole UTF-8: a place where the bytes agree is a character boundary.
            Search::Plain(finder) => finder.find(text.as_bytes()).map(|at| at + self.text.len()),
            Search::Holes(holes) => holes.find_end(text),
        }
    }

    /// Whether `text` ends with the piece.
    fn at_end(&self, text: &str) -> bool {
        match &self.finder {
            Search::Plain(_) => text.ends_with(self.text.as_str()),
            Search::Holes(holes) => holes.at_end(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The textbook definition, by recursion.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['*', rest @ ..] => (0..=text.len()).any(|skip| naive(rest, &text[skip..])),
            ['?', rest @ ..] => !text.is_empty() && naive(rest, &text[1..]),
            [c, rest @ ..] => text.first() == Some(c) && naive(rest, &text[1..]),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn equals_the_textbook(pattern in "[abä*?]{0,7}", text in "[abä]{0,8}") {
            let p: Vec<char> = pattern.chars().collect();
            let t: Vec<char> = text.chars().collect();
            prop_assert_eq!(Pattern::new(&pattern).matches(&text), naive(&p, &t), "{} on {}", pattern, text);
        }
    }

    #[test]
    fn many_stars_do_not_explode() {
        let pattern = Pattern::new(&format!("{}b", "*a".repeat(500)));
        assert!(!pattern.matches(&"a".repeat(10_000)));
    }

    #[test]
    fn an_operand_may_be_so_long_and_no_longer() {
        let text = "x".repeat(60_000);
        assert!(Pattern::new(&text).matches(&text), "without wildcards any length goes");
        for wild in ["*", "?*", "x*x"] {
            let at = format!("{}{wild}", "x".repeat(MAX_WILDCARD_BYTES - wild.len()));
            assert!(Pattern::new(&at).matches(&text), "{wild}");
            assert!(!Pattern::new(&format!("x{at}")).matches(&text), "{wild}");
        }
    }
}
