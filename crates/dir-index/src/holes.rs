//! A piece of a pattern with `?` in it, found at its leftmost place: in a time that grows with the text times the
//! piece's length over 64, whatever either holds. Comparing at every place would let one query take minutes.

use std::collections::HashMap;

/// Distinct characters for which a piece is kept as bits; with more of them, one of them is rare in any text.
const MAX_BITS_CHARS: usize = 64;
/// Pieces so short are compared at every place.
const SHORT: usize = 16;
const WORD: usize = 64;

/// A piece, compiled.
#[derive(Debug, Clone)]
pub(crate) struct Holes {
    /// The characters, `None` for `?`.
    chars: Vec<Option<char>>,
    way: Way,
}

#[derive(Debug, Clone)]
enum Way {
    /// Compare at every place.
    Compare,
    /// One bit for each character of the piece: which beginnings of it end here (Baeza-Yates and Gonnet, 1992).
    Bits(Bits),
    /// Compare where the character stands that is rarest in the text.
    Rarest(HashMap<char, usize>),
}

/// Which characters may stand at which place of the piece, in words.
#[derive(Debug, Clone)]
struct Bits {
    rows: HashMap<char, Vec<u64>>,
    /// For characters that the piece does not have.
    other: Vec<u64>,
}

impl Holes {
    pub(crate) fn new(piece: &str) -> Self {
        let chars: Vec<Option<char>> = piece.chars().map(|c| (c != '?').then_some(c)).collect();
        let mut places = HashMap::new();
        for (place, c) in chars.iter().enumerate() {
            places.extend(c.map(|c| (c, place)));
        }
        let way = match (chars.len(), places.len()) {
            (0..=SHORT, _) => Way::Compare,
            (_, 0..=MAX_BITS_CHARS) => Way::Bits(Bits::new(&chars, places.into_keys())),
            _ => Way::Rarest(places),
        };
        Self { chars, way }
    }

    /// Characters of the piece.
    pub(crate) fn len(&self) -> u64 {
        self.chars.len() as u64
    }

    /// Where the piece ends when it stands at the start of `text`.
    pub(crate) fn at_start(&self, text: &str) -> Option<usize> {
        let mut have = text.chars();
        let agrees = |want: &Option<char>| have.next().is_some_and(|c| want.is_none_or(|want| want == c));
        self.chars.iter().all(agrees).then(|| text.len() - have.as_str().len())
    }

    /// Whether `text` ends with the piece.
    pub(crate) fn at_end(&self, text: &str) -> bool {
        let mut have = text.chars().rev();
        self.chars.iter().rev().all(|want| have.next().is_some_and(|c| want.is_none_or(|want| want == c)))
    }

    /// Where the piece ends at its leftmost place in `text`.
    pub(crate) fn find_end(&self, text: &str) -> Option<usize> {
        match &self.way {
            Way::Compare => {
                text.char_indices().find_map(|(at, _)| self.at_start(&text[at..]).map(|end| at + end))
            }
            Way::Bits(bits) => bits.find_end(text, self.chars.len()),
            Way::Rarest(places) => self.around_rarest(text, places),
        }
    }

    fn around_rarest(&self, text: &str, places: &HashMap<char, usize>) -> Option<usize> {
        let have: Vec<(usize, char)> = text.char_indices().collect();
        let mut counts: HashMap<char, usize> = places.keys().map(|c| (*c, 0)).collect();
        for (_, c) in &have {
            if let Some(count) = counts.get_mut(c) {
                *count += 1;
            }
        }
        let (rarest, _) = counts.into_iter().min_by_key(|(_, count)| *count)?;
        let before = places[&rarest];
        let agree = |window: &[(usize, char)]| {
            let mut pairs = window.iter().zip(&self.chars);
            pairs.all(|((_, c), want)| want.is_none_or(|want| want == *c))
        };
        for (at, _) in have.iter().enumerate().filter(|(_, (_, c))| *c == rarest) {
            let Some(from) = at.checked_sub(before) else { continue };
            let window = have.get(from..from + self.chars.len())?;
            if agree(window) {
                return window.last().map(|(at, c)| at + c.len_utf8());
            }
        }
        None
    }
}

impl Bits {
    fn new(chars: &[Option<char>], distinct: impl Iterator<Item = char>) -> Self {
        let row = |own: Option<char>| {
            let mut row = vec![0; chars.len().div_ceil(WORD)];
            for (place, want) in chars.iter().enumerate() {
                if want.is_none() || *want == own {
                    row[place / WORD] |= 1 << (place % WORD);
                }
            }
            row
        };
        Self { rows: distinct.map(|c| (c, row(Some(c)))).collect(), other: row(None) }
    }

    fn find_end(&self, text: &str, chars: usize) -> Option<usize> {
        let mut state = vec![0_u64; self.other.len()];
        let (last, top) = ((chars - 1) / WORD, 1 << ((chars - 1) % WORD));
        for (at, c) in text.char_indices() {
            let row = self.rows.get(&c).unwrap_or(&self.other);
            let mut carry = 1;
            for (word, may) in state.iter_mut().zip(row) {
                let out = *word >> (WORD - 1);
                *word = ((*word << 1) | carry) & may;
                carry = out;
            }
            if state[last] & top != 0 {
                return Some(at + c.len_utf8());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn way(holes: &Holes) -> &'static str {
        match holes.way {
            Way::Compare => "compare",
            Way::Bits(_) => "bits",
            Way::Rarest(_) => "rarest",
        }
    }

    /// Every way finds what comparing finds.
    fn same(piece: &str, text: &str) -> &'static str {
        let holes = Holes::new(piece);
        let plain = Holes { chars: holes.chars.clone(), way: Way::Compare };
        assert_eq!(holes.find_end(text), plain.find_end(text), "{piece} in {text}");
        let bits = Bits::new(&holes.chars, holes.chars.iter().copied().flatten());
        assert_eq!(bits.find_end(text, holes.chars.len()), plain.find_end(text), "{piece} in {text}");
        way(&holes)
    }

    proptest! {
        #[test]
        fn a_piece_is_found_where_it_stands_first(
            before in "[ab?ä]{0,90}",
            piece in "[abä?]{0,8}\\?[abä?]{0,140}",
            filling in "[abä]{150}",
            after in "[ab]{0,5}",
        ) {
            // With its holes filled the piece is in the text, and perhaps before.
            let mut filling = filling.chars();
            let filled: String =
                piece.chars().map(|c| if c == '?' { filling.next().unwrap_or('a') } else { c }).collect();
            same(&piece, &format!("{before}{filled}{after}"));
            same(&piece, &format!("{before}{after}"));
        }

        #[test]
        fn many_characters_are_looked_for_at_the_rarest(shift in 0_u32..40, cut in 0_usize..300, hole in 0_usize..100) {
            let letters: Vec<char> =
                (0..100).filter_map(|n| char::from_u32(0x4e00 + n)).collect();
            let piece: String = letters.iter().enumerate().map(|(n, c)| if n == hole { '?' } else { *c }).collect();
            let text: String =
                letters.iter().cycle().skip(shift as usize).take(cut).chain(&letters[..50]).collect();
            prop_assert_eq!(same(&piece, &text), "rarest");
        }
    }

    #[test]
    fn long_pieces_do_not_stop_the_world() {
        // Every place of the text agrees with almost all of the piece: comparing takes 10^10 steps.
        let piece = format!("{}b?b", "a?".repeat(24_000));
        let text = "a".repeat(400_000);
        let holes = Holes::new(&piece);
        assert_eq!(way(&holes), "bits");
        assert_eq!(holes.find_end(&text), None);
        assert_eq!(holes.find_end(&format!("{text}bab")), Some(400_003));
    }
}
