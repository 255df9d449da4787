//! Texts of clients inside messages.

/// A client's text inside a message, as Go quotes it: clients know the texts in this form. What is printed stays, the rest
/// is escaped.
pub(crate) fn quoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\0'..='\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            _ if is_printed(c) => out.push(c),
            ..='\u{ffff}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out
}

/// Whether a character is a letter, mark, number, sign or symbol. The escapes of the standard library know; those of a
/// text, after its first character, leave marks as they are.
fn is_printed(c: char) -> bool {
    let mut text = [b'-'; 5];
    let end = 1 + c.encode_utf8(&mut text[1..]).len();
    str::from_utf8(&text[..end]).is_ok_and(|text| text.escape_debug().eq(text.chars()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_as_go_does_it() {
        // What `strconv.Quote` prints, without the quotes around it.
        for (text, expected) in [
            ("", ""),
            ("plain 1.0 ~'`", "plain 1.0 ~'`"),
            ("\"\\", r#"\"\\"#),
            ("\u{7}\u{8}\u{c}\n\r\t\u{b}", r"\a\b\f\n\r\t\v"),
            ("\0\u{1}\u{1b}\u{1f}\u{7f}", r"\x00\x01\x1b\x1f\x7f"),
            ("\u{80}\u{85}\u{9f}", r"\u0080\u0085\u009f"),
            // Blanks that are not the blank, what only steers, and what is nothing.
            (
                "\u{a0}\u{ad}\u{200b}\u{2028}\u{3000}\u{feff}\u{ffff}",
                r"\u00a0\u00ad\u200b\u2028\u3000\ufeff\uffff",
            ),
            ("\u{e000}\u{e0001}\u{10ffff}", r"\ue000\U000e0001\U0010ffff"),
            ("äß€漢🦀\u{fffd}", "äß€漢🦀\u{fffd}"),
            ("e\u{301}\u{301}", "e\u{301}\u{301}"),
        ] {
            assert_eq!(quoted(text), expected, "{text:?}");
        }
    }
}
