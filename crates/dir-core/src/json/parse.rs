//! Strict JSON text (RFC 8259) to a document.

use super::build::{BuildError, DocBuilder, Duplicates};
use super::{Doc, number};
use crate::class::{Class, Classified};

/// Why a text is not an acceptable JSON document, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid JSON at byte {at}: {fault}")]
pub struct JsonError {
    /// Offset in bytes from the start of the text. For a duplicate member name: the end of its object.
    pub at: usize,
    /// What is wrong there.
    pub fault: JsonFault,
}

/// What can be wrong with JSON text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// Not UTF-8.
    #[error("not UTF-8")]
    Utf8,
    /// The text ends too early.
    #[error("the text ends too early")]
    End,
    /// Something else was expected.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A control character inside a string.
    #[error("control character in a string: write it as an escape")]
    Control,
    /// An unknown escape.
    #[error("unknown escape in a string")]
    Escape,
    /// Half of a surrogate pair.
    #[error("escape for a lone UTF-16 surrogate")]
    Surrogate,
    /// Not a JSON number.
    #[error("malformed number")]
    Number,
    /// A number that a double cannot hold.
    #[error("number outside the range of an IEEE-754 double")]
    Range,
    /// Text after the value.
    #[error("text after the end of the value")]
    Trailing,
    /// Limits and duplicate names.
    #[error(transparent)]
    Build(BuildError),
}

impl Classified for JsonError {
    fn class(&self) -> Class {
        Class::Invalid
    }
}

struct Parser<'a> {
    text: &'a str,
    input: &'a [u8],
    at: usize,
    out: DocBuilder,
}

pub(super) fn parse(input: &[u8]) -> Result<Doc, JsonError> {
    let text = match std::str::from_utf8(input) {
        Ok(text) => text,
        Err(error) => return Err(JsonError { at: error.valid_up_to(), fault: JsonFault::Utf8 }),
    };
    let out = DocBuilder::with_capacity(Duplicates::Refuse, input.len());
    let mut parser = Parser { text, input, at: 0, out };
    loop {
        let opened = parser.value()?;
        if !opened && parser.after_value()? {
            break;
        }
    }
    parser.space();
    if parser.at < input.len() {
        return Err(parser.fault(JsonFault::Trailing));
    }
    let at = parser.at;
    parser.out.finish().map_err(|error| JsonError { at, fault: JsonFault::Build(error) })
}

impl Parser<'_> {
    fn fault(&self, fault: JsonFault) -> JsonError {
        let fault = if self.at >= self.input.len() && matches!(fault, JsonFault::Expected(_)) {
            JsonFault::End
        } else {
            fault
        };
        JsonError { at: self.at, fault }
    }

    fn built(&self, result: Result<(), BuildError>) -> Result<(), JsonError> {
        result.map_err(|error| JsonError { at: self.at, fault: JsonFault::Build(error) })
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Reads one value, or the opening of a container that has children (then the answer is true).
    fn value(&mut self) -> Result<bool, JsonError> {
        self.space();
        match self.peek() {
            Some(b'{') => {
                let begun = self.out.object_begin();
                self.built(begun)?;
                self.at += 1;
                self.space();
                if self.peek() == Some(b'}') {
                    return Ok(false);
                }
                self.name()?;
                Ok(true)
            }
            Some(b'[') => {
                let begun = self.out.array_begin();
                self.built(begun)?;
                self.at += 1;
                self.space();
                Ok(self.peek() != Some(b']'))
            }
            Some(b'"') => {
                let start = self.string()?;
                let written = self.out.string_written(start);
                self.built(written).map(|()| false)
            }
            Some(b'-' | b'0'..=b'9') => {
                let value = self.number()?;
                let written = self.out.number(value);
                self.built(written).map(|()| false)
            }
            Some(b't') => self.literal("true", |out| out.bool(true)),
            Some(b'f') => self.literal("false", |out| out.bool(false)),
            Some(b'n') => self.literal("null", DocBuilder::null),
            _ => Err(self.fault(JsonFault::Expected("a value"))),
        }
    }

    /// Closes what ends here and steps over a comma. True when the outermost value is complete.
    fn after_value(&mut self) -> Result<bool, JsonError> {
        while self.out.depth() > 0 {
            self.space();
            match (self.out.in_object(), self.peek()) {
                (true, Some(b'}')) => {
                    let ended = self.out.object_end();
                    self.built(ended)?;
                    self.at += 1;
                }
                (false, Some(b']')) => {
                    let ended = self.out.array_end();
                    self.built(ended)?;
                    self.at += 1;
                }
                (object, Some(b',')) => {
                    self.at += 1;
                    if object {
                        self.space();
                        self.name()?;
                    }
                    return Ok(false);
                }
                (true, _) => return Err(self.fault(JsonFault::Expected("`,` or `}`"))),
                (false, _) => return Err(self.fault(JsonFault::Expected("`,` or `]`"))),
            }
        }
        Ok(true)
    }

    /// A member name and its colon.
    fn name(&mut self) -> Result<(), JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.fault(JsonFault::Expected("a member name in double quotes")));
        }
        let start = self.string()?;
        let written = self.out.key_written(start);
        self.built(written)?;
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.fault(JsonFault::Expected("`:`")));
        }
        self.at += 1;
        Ok(())
    }

    fn literal(
        &mut self,
        word: &'static str,
        emit: impl FnOnce(&mut DocBuilder) -> Result<(), BuildError>,
    ) -> Result<bool, JsonError> {
        if !self.input[self.at..].starts_with(word.as_bytes()) {
            return Err(self.fault(JsonFault::Expected("a value")));
        }
        self.at += word.len();
        let written = emit(&mut self.out);
        self.built(written).map(|()| false)
    }

    fn number(&mut self) -> Result<f64, JsonError> {
        match number::scan(&self.input[self.at..]) {
            Ok((value, _)) if !value.is_finite() => Err(self.fault(JsonFault::Range)),
            Ok((value, len)) => {
                self.at += len;
                Ok(value)
            }
            Err(len) => {
                self.at += len;
                Err(self.fault(JsonFault::Number))
            }
        }
    }

    /// Reads a string into the text buffer; answers where it starts there.
    fn string(&mut self) -> Result<usize, JsonError> {
        self.at += 1;
        let start = self.out.text_mut().len();
        loop {
            let run = self.at;
            while let Some(&byte) = self.input.get(self.at)
                && byte != b'"'
                && byte != b'\\'
                && byte >= 0x20
            {
                self.at += 1;
            }
            let text = self.text;
            self.out.text_mut().push_str(&text[run..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(start);
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(self.fault(JsonFault::Control)),
                None => return Err(self.fault(JsonFault::End)),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let plain = match self.input.get(self.at + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            Some(_) => return Err(self.fault(JsonFault::Escape)),
            None => return Err(self.fault(JsonFault::End)),
        };
        self.out.text_mut().push(plain);
        self.at += 2;
        Ok(())
    }

    /// `\uXXXX`, or two of them for a code point beyond the BMP.
    fn unicode(&mut self) -> Result<(), JsonError> {
        let first = self.hex(self.at)?;
        let mut point = first;
        let mut len = 6;
        if (0xD800..0xDC00).contains(&first) {
            if self.input.get(self.at + 6..self.at + 8) != Some(b"\\u") {
                return Err(self.fault(JsonFault::Surrogate));
            }
            let second = self.hex(self.at + 6)?;
            if !(0xDC00..0xE000).contains(&second) {
                return Err(self.fault(JsonFault::Surrogate));
            }
            point = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
            len = 12;
        }
        let Some(character) = char::from_u32(point) else { return Err(self.fault(JsonFault::Surrogate)) };
        self.out.text_mut().push(character);
        self.at += len;
        Ok(())
    }

    /// The four hex digits of the `\u` escape that starts at `at`.
    fn hex(&self, at: usize) -> Result<u32, JsonError> {
        let Some(digits) = self.input.get(at + 2..at + 6) else {
            return Err(JsonError { at, fault: JsonFault::End });
        };
        digits.iter().try_fold(0_u32, |value, &digit| {
            let Some(low) = char::from(digit).to_digit(16) else {
                return Err(JsonError { at, fault: JsonFault::Escape });
            };
            Ok(value << 4 | low)
        })
    }
}
