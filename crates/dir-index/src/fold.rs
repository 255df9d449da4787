//! Case folding: one rule for operands and for stored texts, the same on every backend.
//!
//! A character folds to one character, so that `?` keeps meaning "one character": Unicode lower case, the first
//! character of it where that has several (only U+0130), and final sigma like any other sigma. This matches at
//! least what an operand lowered by full Unicode rules finds in a column lowered by ASCII rules.

use std::cmp::Ordering;

/// One character, folded.
pub(crate) fn fold_char(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    match c.to_lowercase().next().unwrap_or(c) {
        'ς' => 'σ',
        lower => lower,
    }
}

/// A text, folded.
pub(crate) fn fold(text: &str) -> String {
    let mut out = String::new();
    fold_into(text, &mut out);
    out
}

/// Folds into a buffer that is kept between calls.
pub(crate) fn fold_into(text: &str, out: &mut String) {
    out.clear();
    if text.is_ascii() {
        out.push_str(text);
        out.make_ascii_lowercase();
    } else {
        out.extend(text.chars().map(fold_char));
    }
}

/// Order of folded texts, without building them.
pub(crate) fn cmp_folded(a: &str, b: &str) -> Ordering {
    let (ab, bb) = (a.as_bytes(), b.as_bytes());
    for (i, (&x, &y)) in ab.iter().zip(bb).enumerate() {
        if !(x.is_ascii() && y.is_ascii()) {
            // Everything before `i` was ASCII in both, so `i` is a character boundary in both.
            return a[i..].chars().map(fold_char).cmp(b[i..].chars().map(fold_char));
        }
        let order = x.to_ascii_lowercase().cmp(&y.to_ascii_lowercase());
        if order != Ordering::Equal {
            return order;
        }
    }
    ab.len().cmp(&bb.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn folding_is_by_character() {
        assert_eq!(fold("ÄÖ Straße"), "äö straße");
        assert_eq!(fold("İstanbul"), "istanbul");
        assert_eq!(fold("ΟΔΟΣ"), fold("οδος"));
        assert_eq!(fold("\u{212a}elvin"), "kelvin");
    }

    proptest! {
        #[test]
        fn order_is_that_of_folded_texts(a in "[a-cA-CäÄσςΣ]{0,6}", b in "[a-cA-CäÄσςΣ]{0,6}") {
            prop_assert_eq!(cmp_folded(&a, &b), fold(&a).cmp(&fold(&b)));
        }

        #[test]
        fn folding_twice_changes_nothing(a in any::<String>()) {
            prop_assert_eq!(fold(&fold(&a)), fold(&a));
            prop_assert_eq!(fold(&a).chars().count(), a.chars().count());
        }
    }
}
