//! The text of a status as the header that carries it. Texts repeat what clients sent, which may be as long as a
//! message; headers may not: a client that finds its limit passed (8 KB with some) loses code and text together, and
//! takes a permanent refusal for a broken connection.

use http::HeaderValue;
use std::borrow::Cow;

/// Header and trailer with the text of a status.
pub(crate) const GRPC_MESSAGE: &str = "grpc-message";
/// Longest text of a status, in bytes as they are sent. With the other trailers it stays below 8 KB.
pub(crate) const TEXT_MAX: usize = 4096;

/// What a byte takes in the header: one byte, or three when it is escaped.
const fn cost(byte: u8) -> usize {
    if matches!(byte, b' '..=b'~') && byte != b'%' { 1 } else { 3 }
}

fn cost_of(text: &str) -> usize {
    text.bytes().map(cost).sum()
}

/// A text that takes `most` bytes at most as a header. One that takes more keeps its beginning and its end, where the
/// cause often is.
pub(crate) fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    if cost_of(text) <= most {
        return Cow::Borrowed(text);
    }
    let mark = |left_out: usize| format!(" ... [{left_out} characters left out] ... ");
    let all = text.chars().count();
    // No number of characters left out has more digits than that of all.
    let room = most.saturating_sub(cost_of(&mark(all)));
    let head: usize = fitting(text.chars(), room / 2);
    let tail: usize = fitting(text[head..].chars().rev(), room - room / 2);
    let (begin, end) = (&text[..head], &text[text.len() - tail..]);
    let left_out = all - begin.chars().count() - end.chars().count();
    Cow::Owned([begin, &mark(left_out), end].concat())
}

/// Bytes of the characters that have room.
fn fitting(characters: impl Iterator<Item = char>, room: usize) -> usize {
    let mut taken = 0;
    let mut buffer = [0; 4];
    let sizes = characters.map(|c| {
        let text = c.encode_utf8(&mut buffer);
        (text.len(), cost_of(text))
    });
    sizes
        .take_while(|(_, cost)| {
            taken += cost;
            taken <= room
        })
        .map(|(bytes, _)| bytes)
        .sum()
}

/// A text as a header, shortened if need be.
pub(crate) fn header(text: &[u8]) -> HeaderValue {
    let shortened = match text.iter().copied().map(cost).sum::<usize>() {
        ..=TEXT_MAX => Cow::Borrowed(text),
        _ => Cow::Owned(shortened(&String::from_utf8_lossy(text), TEXT_MAX).into_owned().into_bytes()),
    };
    let mut spelled = Vec::with_capacity(TEXT_MAX.min(shortened.len() * 3));
    for &byte in shortened.as_ref() {
        if cost(byte) == 1 {
            spelled.push(byte);
        } else {
            let digit = |n: u8| b"0123456789ABCDEF"[usize::from(n)];
            spelled.extend([b'%', digit(byte >> 4), digit(byte & 0xf)]);
        }
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(spelled))
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{bound, message_of, trailers};
    use http::HeaderMap;
    use tonic::Status;

    const PATTERN: &str = " characters left out] ... ";

    /// What a client reads.
    fn read(header: &HeaderValue) -> String {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", HeaderValue::from_static("5"));
        headers.insert(GRPC_MESSAGE, header.clone());
        message_of(&headers)
    }

    #[test]
    fn up_to_the_limit_a_text_is_untouched() {
        for (character, cost) in [("x", 1), (" ", 1), ("%", 3), ("\n", 3), ("ä", 6), ("€", 9), ("🦀", 12)]
        {
            let fits = format!("{}{}", "-".repeat(TEXT_MAX % cost), character.repeat(TEXT_MAX / cost));
            assert_eq!(shortened(&fits, TEXT_MAX), fits);
            let sent = header(fits.as_bytes());
            assert_eq!((sent.len(), read(&sent)), (TEXT_MAX, fits.clone()), "{character:?}");
            let sent = header(format!("{fits}-").as_bytes());
            assert!(
                sent.len() <= TEXT_MAX && sent.len() > TEXT_MAX - 2 * cost - 4,
                "{} {character:?}",
                sent.len()
            );
            assert!(read(&sent).contains(PATTERN));
        }
        assert_eq!(shortened("", 0), "");
    }

    #[test]
    fn beyond_it_beginning_and_end_stay_and_the_rest_is_counted() {
        for filler in ["x", "%", "€", "🦀"] {
            let text = format!("no record found with name \"{}\": the cause", filler.repeat(20_000));
            let cut = shortened(&text, TEXT_MAX);
            assert!(
                cut.starts_with("no record found with name \"") && cut.ends_with("\": the cause"),
                "{cut}"
            );
            let (begin, rest) = cut.split_once(" ... [").unwrap();
            let (count, end) = rest.split_once(PATTERN).unwrap();
            assert_eq!(
                begin.chars().count() + count.parse::<usize>().unwrap() + end.chars().count(),
                text.chars().count()
            );
            assert!(text.starts_with(begin) && text.ends_with(end));
            assert_eq!(read(&header(text.as_bytes())), cut);
        }
        // Each edge of a character, at either side of what is left out.
        for n in 0..24 {
            let text = format!("{}{}{}", "x".repeat(n), "🦀".repeat(2000), "y".repeat(n / 2));
            assert!(header(text.as_bytes()).len() <= TEXT_MAX);
        }
        assert!(header(&vec![0xff; 20_000]).len() <= TEXT_MAX, "what is no text");
    }

    #[test]
    fn a_text_that_is_long_by_its_spelling_alone_is_spelled_shorter() {
        for (text, whole) in [(" ".repeat(TEXT_MAX), true), (" ".repeat(TEXT_MAX + 1), false)] {
            let mut headers = trailers(&Status::not_found(text.clone()));
            assert_eq!(headers[GRPC_MESSAGE].len(), text.len() * 3, "as tonic spells it");
            bound(&mut headers);
            assert!(headers[GRPC_MESSAGE].len() <= TEXT_MAX);
            assert_eq!(read(&headers[GRPC_MESSAGE]) == text, whole);
        }
        let short = "a { b } ?";
        let mut headers = trailers(&Status::not_found(short));
        let before = headers.clone();
        bound(&mut headers);
        assert_eq!(headers, before);
    }
}
