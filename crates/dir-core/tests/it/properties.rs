//! The canonical form against a slow, independent formulation of its rules.

use dir_core::json::{Doc, DocBuilder, Duplicates};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Json {
    Null,
    Bool(bool),
    Number(f64),
    String(String),
    Array(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

/// The rules of the canonical form, one sentence after the other and as plainly as possible.
fn formulated(value: &Json) -> String {
    match value {
        Json::Null => "null".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Number(value) => formulated_number(*value),
        Json::String(text) => formulated_string(text),
        Json::Array(items) => {
            let items: Vec<_> = items.iter().map(formulated).collect();
            format!("[{}]", items.join(","))
        }
        Json::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            let members: Vec<_> = members
                .iter()
                .map(|(key, value)| format!("{}:{}", formulated_string(key), formulated(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
    }
}

fn formulated_string(text: &str) -> String {
    let mut out = "\"".to_owned();
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            other => out.push(other),
        }
    }
    out + "\""
}

/// Tries precisions until one reads back, then sets point and exponent by hand.
fn formulated_number(value: f64) -> String {
    let sign = if value.is_sign_negative() { "-" } else { "" };
    let abs = value.abs();
    let scientific =
        (0..17).map(|digits| format!("{abs:.digits$e}")).find(|text| text.parse() == Ok(abs)).unwrap();
    let (mantissa, exponent) = scientific.split_once('e').unwrap();
    let exponent: i32 = exponent.parse().unwrap();
    let digits = mantissa.replace('.', "");
    let digits = if digits.len() > 1 { digits.trim_end_matches('0') } else { &digits };
    if abs == 0.0 {
        return format!("{sign}0");
    }
    if !(1e-6..1e21).contains(&abs) {
        let point = if digits.len() > 1 { "." } else { "" };
        let exponent = if exponent < 0 { exponent.to_string() } else { format!("+{exponent}") };
        return format!("{sign}{}{point}{}e{exponent}", &digits[..1], &digits[1..]);
    }
    if exponent < 0 {
        let zeros = usize::try_from(-exponent - 1).unwrap();
        return format!("{sign}0.{}{digits}", "0".repeat(zeros));
    }
    let whole = usize::try_from(exponent + 1).unwrap();
    if digits.len() <= whole {
        return format!("{sign}{digits}{}", "0".repeat(whole - digits.len()));
    }
    format!("{sign}{}.{}", &digits[..whole], &digits[whole..])
}

/// Writes JSON text with choices: order of members, whitespace, escapes, number spellings.
struct Scribe<'a> {
    choices: std::iter::Cycle<std::slice::Iter<'a, u8>>,
    out: String,
}

impl Scribe<'_> {
    fn choice(&mut self, of: u8) -> u8 {
        self.choices.next().unwrap() % of
    }

    fn space(&mut self) {
        let space = ["", " ", "\n", "\t\r"][usize::from(self.choice(4))];
        self.out.push_str(space);
    }

    fn value(&mut self, value: &Json) {
        self.space();
        match value {
            Json::Null => self.out.push_str("null"),
            Json::Bool(value) => self.out.push_str(&value.to_string()),
            Json::Number(value) => self.number(*value),
            Json::String(text) => self.string(text),
            Json::Array(items) => {
                self.out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        self.out.push(',');
                    }
                    self.value(item);
                }
                self.space();
                self.out.push(']');
            }
            Json::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                for at in 1..members.len() {
                    let other = usize::from(self.choice(u8::MAX)) % (at + 1);
                    members.swap(at, other);
                }
                self.out.push('{');
                for (at, (key, value)) in members.into_iter().enumerate() {
                    if at > 0 {
                        self.out.push(',');
                    }
                    self.space();
                    self.string(key);
                    self.space();
                    self.out.push(':');
                    self.value(value);
                }
                self.space();
                self.out.push('}');
            }
        }
        self.space();
    }

    /// Spellings of one double: all of them read back as it.
    fn number(&mut self, value: f64) {
        let spelling = match self.choice(6) {
            0 => format!("{value}"),
            1 => format!("{value:e}"),
            2 => format!("{value:E}"),
            3 => format!("{value:.17e}"),
            4 => format!("{value:.25e}"),
            _ => {
                let scientific = format!("{value:e}");
                let (mantissa, exponent) = scientific.split_once('e').unwrap();
                let zero = if mantissa.contains('.') { "00" } else { ".0" };
                let exponent =
                    if exponent.starts_with('-') { exponent.to_owned() } else { format!("+0{exponent}") };
                format!("{mantissa}{zero}e{exponent}")
            }
        };
        self.out.push_str(&spelling);
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for letter in text.chars() {
            let must = letter < ' ' || letter == '"' || letter == '\\';
            match self.choice(4) {
                0 if letter == '/' => self.out.push_str("\\/"),
                choice if must || choice == 0 => {
                    for unit in letter.encode_utf16(&mut [0; 2]) {
                        let escape =
                            if choice % 2 == 0 { format!("\\u{unit:04x}") } else { format!("\\u{unit:04X}") };
                        self.out.push_str(&escape);
                    }
                }
                _ => self.out.push(letter),
            }
        }
        self.out.push('"');
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,20}",
        // Everything that is escaped, its neighbours, and what sorts differently in UTF-16.
        "[\u{0}-\u{22}<>&/\\\\'=\u{7f}\u{2027}-\u{202a}\u{ffee}\u{1f600}a]{0,12}",
    ]
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>().prop_filter("finite", |value| value.is_finite()),
        any::<i64>().prop_map(|value| value.to_string().parse().unwrap()),
        (-1000..1000_i32).prop_map(f64::from),
        // Quarters and eighths beside the limit of whole numbers: two shortest spellings are equally near.
        (1_u64 << 52..1 << 53, 1..4_i32).prop_map(|(mantissa, shift)| {
            f64::from_bits(
                ((1023 + 52 - u64::from(shift.unsigned_abs())) << 52) | (mantissa & ((1 << 52) - 1)),
            )
        }),
        (0..=40_i32, any::<u16>())
            .prop_map(|(exponent, digits)| { format!("{digits}e{}", exponent - 15).parse().unwrap() }),
        Just(-0.0),
        Just(1e21),
        Just(1e-6),
        Just(9_007_199_254_740_992.0),
    ]
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        number().prop_map(Json::Number),
        text().prop_map(Json::String),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Json::Array),
            btree_map(text(), inner, 0..8).prop_map(Json::Object),
        ]
    })
}

fn canonical(text: &[u8]) -> String {
    let bytes = Doc::parse(text).unwrap().canonical().unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

proptest! {
    #[test]
    fn any_spelling_has_the_formulated_form(value in json(), choices in vec(any::<u8>(), 1..64)) {
        let mut scribe = Scribe { choices: choices.iter().cycle(), out: String::new() };
        scribe.value(&value);
        prop_assert_eq!(canonical(scribe.out.as_bytes()), formulated(&value));
    }

    #[test]
    fn the_form_is_its_own_form(value in json()) {
        let once = formulated(&value);
        prop_assert_eq!(canonical(once.as_bytes()), once);
    }

    #[test]
    fn numbers_read_back_as_they_were(value in number()) {
        let printed = formulated_number(value);
        prop_assert_eq!(canonical(printed.as_bytes()), &printed[..]);
        let doc = Doc::parse(printed.as_bytes()).unwrap();
        prop_assert_eq!(doc.root().as_f64().unwrap().to_bits(), value.to_bits());
    }

    #[test]
    fn of_equal_names_the_last_stays(members in vec(("[ab]{0,2}", any::<bool>()), 0..12)) {
        let mut out = DocBuilder::new(Duplicates::LastWins);
        out.object_begin().unwrap();
        let mut kept = BTreeMap::new();
        for (key, value) in members {
            out.key(&key).unwrap();
            out.bool(value).unwrap();
            kept.insert(key, Json::Bool(value));
        }
        out.object_end().unwrap();
        let bytes = out.finish().unwrap().canonical().unwrap();
        prop_assert_eq!(String::from_utf8(bytes.to_vec()).unwrap(), formulated(&Json::Object(kept)));
    }

    #[test]
    fn any_text_is_answered(text in "[\\[\\]{}:,\"\\\\u0-9a-fDd8eE+.tn -]{0,40}") {
        if let Ok(doc) = Doc::parse(text.as_bytes()) {
            let bytes = doc.canonical().unwrap();
            prop_assert_eq!(canonical(&bytes), String::from_utf8(bytes.to_vec()).unwrap());
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..60)) {
        if let Err(error) = Doc::parse(&bytes) {
            prop_assert!(error.at <= bytes.len());
        }
    }
}
