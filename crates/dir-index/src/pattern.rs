//! One operand of a filter: a plain text or a wildcard pattern, compared by folded characters.
//!
//! `*` stands for any run of characters, `?` for exactly one; neither can be escaped, and everything else,
//! `%`, `_` and `\` included, stands for itself.

use crate::fold::fold;
use crate::sketch::Runs;
use memchr::memmem::Finder;

/// A compiled operand.
#[derive(Debug, Clone)]
pub(crate) enum Pattern {
    /// No wildcard: the folded text itself.
    Exact(String),
    /// Text, then anything: `abc*`.
    Prefix(String),
    /// Anything else.
    Glob(Glob),
}

/// A pattern cut at its `*`s. Matching takes each piece at its leftmost place: linear in the text for pieces
/// without `?`.
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
    /// Finds the text; none when it has `?`, for then it is compared character by character.
    finder: Option<Finder<'static>>,
}

impl Pattern {
    /// Compiles an operand.
    pub(crate) fn new(operand: &str) -> Self {
        let folded = fold(operand);
        if !folded.contains(['*', '?']) {
            return Self::Exact(folded);
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
        }
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
        let finder = (!text.contains('?')).then(|| Finder::new(text).into_owned());
        Self { text: text.to_owned(), finder }
    }

    /// Where the piece ends when it stands at the start of `text`.
    fn at_start(&self, text: &str) -> Option<usize> {
        if self.finder.is_some() {
            return text.starts_with(self.text.as_str()).then_some(self.text.len());
        }
        let mut chars = text.char_indices();
        for want in self.text.chars() {
            let (_, have) = chars.next()?;
            if want != '?' && want != have {
                return None;
            }
        }
        Some(chars.offset())
    }

    /// Where the piece ends at its leftmost place in `text`.
    fn find_end(&self, text: &str) -> Option<usize> {
        if let Some(finder) = &self.finder {
            // Both sides are whole UTF-8: a place where the bytes agree is a character boundary.
            return finder.find(text.as_bytes()).map(|at| at + self.text.len());
        }
        text.char_indices().find_map(|(at, _)| self.at_start(&text[at..]).map(|end| at + end))
    }

    /// Whether `text` ends with the piece.
    fn at_end(&self, text: &str) -> bool {
        if self.finder.is_some() {
            return text.ends_with(self.text.as_str());
        }
        let mut have = text.chars().rev();
        self.text.chars().rev().all(|want| have.next().is_some_and(|c| want == '?' || want == c))
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
}
