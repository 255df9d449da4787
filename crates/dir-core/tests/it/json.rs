//! Strictness and limits of the JSON parser.

use dir_core::json::{BuildError, Doc, DocBuilder, Duplicates, JSON_DEPTH_MAX, JsonFault, Kind};

fn canonical(text: &str) -> String {
    String::from_utf8(Doc::parse(text.as_bytes()).unwrap().canonical().unwrap().to_vec()).unwrap()
}

#[test]
fn malformed_text_is_refused_where_it_is_wrong() {
    let cases: &[(&[u8], usize, &str)] = &[
        (b"", 0, "ends too early"),
        (b" ", 1, "ends too early"),
        (b"{", 1, "ends too early"),
        (b"[1", 2, "ends too early"),
        (b"\"a", 2, "ends too early"),
        (b"\"\\u12", 1, "ends too early"),
        (b"{a:1}", 1, "member name"),
        (b"{\"a\" 1}", 5, "expected `:`"),
        (b"{\"a\":1,}", 7, "member name"),
        (b"[1,]", 3, "expected a value"),
        (b"[1 2]", 3, "expected `,` or `]`"),
        (b"{\"a\":1]", 6, "expected `,` or `}`"),
        (b"nul", 0, "expected a value"),
        (b"{} x", 3, "after the end"),
        (b"01", 0, "malformed number"),
        (b"-", 1, "malformed number"),
        (b"1.", 2, "malformed number"),
        (b"1e+", 3, "malformed number"),
        (b"+1", 0, "expected a value"),
        (b"[1e400]", 1, "outside the range"),
        (b"\"a\nb\"", 2, "control character"),
        (b"\"\\x\"", 1, "unknown escape"),
        (b"\"\\u00g0\"", 1, "unknown escape"),
        (b"\"\\udc00\"", 1, "lone UTF-16 surrogate"),
        (b"\"\\ud800\\u0041\"", 1, "lone UTF-16 surrogate"),
        (b"\"\xff\"", 1, "not UTF-8"),
        (b"\xef\xbb\xbf{}", 0, "expected a value"),
        (b"{\"a\":{\"b\":1,\"c\":2,\"b\":3}}", 23, "duplicate member name \"b\""),
    ];
    for (input, at, part) in cases {
        let error = Doc::parse(input).expect_err(&String::from_utf8_lossy(input));
        assert!(error.to_string().contains(part), "{error} for {}", String::from_utf8_lossy(input));
        assert_eq!(error.at, *at, "{error} for {}", String::from_utf8_lossy(input));
    }
}

#[test]
fn what_is_odd_but_fine_is_taken() {
    assert_eq!(canonical(" [ 1e-400 , -0 , \"\\ud83d\\ude00\" , [ ] , { } ] "), "[0,-0,\"\u{1f600}\",[],{}]");
    assert_eq!(canonical("\"\\u0041\\/\""), "\"A/\"");
    assert_eq!(canonical("true"), "true");
    assert_eq!(canonical("{\"b\":[],\"\":0,\"a\":\"{\"}"), "{\"\":0,\"a\":\"{\",\"b\":[]}");
}

#[test]
fn the_nodes_say_what_they_are() {
    let doc = Doc::parse(b"{\"s\":\"x\",\"n\":1.5,\"t\":true,\"z\":null,\"l\":[1,2],\"o\":{}}").unwrap();
    let root = doc.root();
    assert_eq!(root.get("s").unwrap().as_str(), Some("x"));
    assert_eq!(root.get("n").unwrap().as_f64(), Some(1.5));
    assert_eq!(root.get("t").unwrap().as_bool(), Some(true));
    assert!(root.get("z").unwrap().is_null());
    assert_eq!(root.get("l").unwrap().items().len(), 2);
    assert!(root.get("o").unwrap().is_empty());
    assert_eq!(root.get("o").unwrap().kind(), Kind::Object);
    assert!(root.get("missing").is_none() && root.get("l").unwrap().get("s").is_none());
    let names: Vec<_> = root.members().map(|(name, _)| name).collect();
    assert_eq!(names, ["l", "n", "o", "s", "t", "z"]);
}

#[test]
fn depth_has_its_limit() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |levels: usize| {
            let inner = if open == "[" { "" } else { "1" };
            format!("{}{inner}{}", open.repeat(levels), close.repeat(levels))
        };
        let text = nested(JSON_DEPTH_MAX);
        assert_eq!(canonical(&text), text);
        let error = Doc::parse(nested(JSON_DEPTH_MAX + 1).as_bytes()).unwrap_err();
        assert_eq!(error.fault, JsonFault::Build(BuildError::Depth));
        assert_eq!(error.at, JSON_DEPTH_MAX * open.len());
    }
}

#[test]
fn a_builder_keeps_the_last_value_when_told() {
    let mut builder = DocBuilder::new(Duplicates::LastWins);
    builder.object_begin().unwrap();
    for value in [1.0, 2.0, 3.0] {
        builder.key("a").unwrap();
        builder.number(value).unwrap();
        builder.key("b").unwrap();
        builder.array_begin().unwrap();
        builder.number(value).unwrap();
        builder.array_end().unwrap();
    }
    builder.object_end().unwrap();
    assert_eq!(builder.finish().unwrap().canonical().unwrap(), &b"{\"a\":3,\"b\":[3]}"[..]);
}

#[test]
fn a_builder_takes_a_value_back() {
    let mut builder = DocBuilder::new(Duplicates::Refuse);
    builder.object_begin().unwrap();
    builder.key("a").unwrap();
    builder.object_begin().unwrap();
    builder.object_end().unwrap();
    builder.discard_last().unwrap();
    assert!(builder.discard_last().is_err());
    builder.bool(true).unwrap();
    builder.object_end().unwrap();
    assert_eq!(builder.finish().unwrap().canonical().unwrap(), &b"{\"a\":true}"[..]);
}

#[test]
fn a_builder_refuses_events_out_of_order() {
    let order = |result: Result<(), BuildError>| assert!(matches!(result, Err(BuildError::Order(_))));
    let mut builder = DocBuilder::new(Duplicates::Refuse);
    order(builder.key("a"));
    order(builder.array_end());
    builder.object_begin().unwrap();
    order(builder.null());
    order(builder.array_end());
    let mut builder = DocBuilder::new(Duplicates::Refuse);
    builder.null().unwrap();
    order(builder.null());
    assert!(DocBuilder::new(Duplicates::Refuse).finish().is_err());
}

#[test]
fn what_has_no_canonical_form() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut builder = DocBuilder::new(Duplicates::Refuse);
        builder.number(value).unwrap();
        assert!(builder.finish().unwrap().canonical().is_err());
    }
    assert!(dir_core::Record::from_doc(&Doc::parse(b"[]").unwrap()).is_err());
}
