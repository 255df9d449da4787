//! JSON text without a tree: any depth, no recursion.

/// What the canonical form escapes for the sake of browsers, and people read more easily as it is.
const PLAIN: [(&[u8], u8); 3] = [(br"\u003c", b'<'), (br"\u003e", b'>'), (br"\u0026", b'&')];

/// Compact JSON with line breaks and two spaces per level, and `<`, `>` and `&` as themselves: the same document. The
/// input must be valid.
pub(crate) fn pretty(compact: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(compact.len() * 2);
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    let mut fresh = false;
    let mut skip = 0_usize;
    for (at, &byte) in compact.iter().enumerate() {
        if skip > 0 {
            skip -= 1;
            continue;
        }
        if in_string {
            if let (b'\\', false, Some((text, plain))) =
                (byte, escaped, PLAIN.iter().find(|(text, _)| compact[at..].starts_with(text)))
            {
                out.push(*plain);
                skip = text.len() - 1;
                continue;
            }
            out.push(byte);
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        if fresh && !matches!(byte, b']' | b'}') {
            new_line(&mut out, depth);
        }
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if !fresh {
                    new_line(&mut out, depth);
                }
            }
            b'"' => in_string = true,
            _ => {}
        }
        fresh = matches!(byte, b'{' | b'[');
        out.push(byte);
        match byte {
            b',' => new_line(&mut out, depth),
            b':' => out.push(b' '),
            _ => {}
        }
    }
    out
}

fn new_line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    out.resize(out.len() + 2 * depth, b' ');
}

/// The elements of a JSON array as they are written, without looking into them further than brackets and strings.
pub(crate) fn elements(text: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    let trimmed = text.trim_ascii();
    let inner = trimmed
        .strip_prefix(b"[")
        .and_then(|rest| rest.strip_suffix(b"]"))
        .ok_or("the input is not one JSON array")?;
    let mut all = Vec::new();
    let (mut depth, mut in_string, mut escaped, mut start) = (0_usize, false, false, 0);
    for (at, &byte) in inner.iter().enumerate() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1).ok_or("the brackets of the array do not match")?,
            b',' if depth == 0 => {
                all.push(inner[start..at].trim_ascii());
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = inner[start..].trim_ascii();
    if !last.is_empty() || !all.is_empty() {
        all.push(last);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pretty_is_what_serde_prints() {
        for compact in [
            "{}",
            "[]",
            "null",
            r#""a\"b""#,
            r#"{"a":{},"b":[],"c":[1,{"d":"x,y:{z}\\"}],"e":"\\\""}"#,
            r#"[[[]],[{}],""]"#,
            r#"["\\u003c","<a>"]"#,
        ] {
            let value: serde_json::Value = serde_json::from_str(compact).unwrap();
            let expected = serde_json::to_string_pretty(&value).unwrap();
            assert_eq!(String::from_utf8(pretty(compact.as_bytes())).unwrap(), expected);
        }
    }

    #[test]
    fn pretty_shows_what_the_canonical_form_hides() {
        let shown = pretty(br#"["a \u003cb\u003e \u0026 \\u003c \\\u003c"]"#);
        assert_eq!(String::from_utf8(shown).unwrap(), "[\n  \"a <b> & \\\\u003c \\\\<\"\n]");
    }

    #[test]
    fn elements_of_arrays() {
        assert_eq!(elements(b" [ ] "), Ok(vec![]));
        assert_eq!(elements(b"[1]"), Ok(vec![b"1".as_slice()]));
        let text = br#"[{"a":"],["}, [1,2] ,"\"," ]"#;
        let expected: Vec<&[u8]> = vec![br#"{"a":"],["}"#, b"[1,2]", br#""\",""#];
        assert_eq!(elements(text), Ok(expected));
        assert!(elements(b"{}").is_err());
        assert!(elements(b"[}]").is_err());
    }
}
