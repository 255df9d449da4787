//! What a record is taken for, and which members are of a wrong type.

use crate::{doc, facts};
use dir_core::facts::{ClassFact, LocatorFact, ModuleFact};
use dir_core::{Class, Classified};
use std::collections::BTreeMap;

/// The whole text of the refusal.
fn refusal(text: &str) -> String {
    let error = dir_oasf::facts(&doc(text)).unwrap_err();
    assert_eq!(error.class(), Class::Invalid);
    error.to_string()
}

/// A record of a version with these further members.
fn record(version: &str, members: &str) -> String {
    format!("{{\"schema_version\":\"{version}\",{members}}}")
}

#[test]
fn the_schema_version_decides_first() {
    let refused = |cause: &str| format!("record validation failed: [{cause}]");
    assert_eq!(refusal("{}"), refused("schema_version field is missing"));
    assert_eq!(refusal(r#"{"Schema_Version":"1.0.0"}"#), refused("schema_version field is missing"));
    assert_eq!(
        refusal(r#"{"schema_version":"2.0.0","name":5}"#),
        refused("unsupported OASF version: 2.0.0 (major version 2 not supported)")
    );
    // No string counts as the empty one.
    for value in ["5", "null", "{}"] {
        assert_eq!(
            refusal(&format!("{{\"schema_version\":{value}}}")),
            refused("invalid version format:  (expected exactly 3 parts: major.minor.patch)")
        );
    }
    assert_eq!(refusal("[]"), refused("a record must be a JSON object"));
    assert_eq!(facts(r#"{"schema_version":"1.0.0-rc1"}"#).schema_version, "1.0.0-rc1");
}

#[test]
fn wrong_types_fail_the_whole_record() {
    let cases = [
        ("1.0.0", r#""name":5"#, "name must be a string, found a number"),
        ("1.0.0", r#""Description":{}"#, "description must be a string, found an object"),
        ("1.0.0", r#""authors":"x""#, "authors must be an array, found a string"),
        ("1.0.0", r#""authors":["x",1]"#, "authors[1] must be a string, found a number"),
        ("1.0.0", r#""annotations":[]"#, "annotations must be an object, found an array"),
        ("1.0.0", r#""annotations":{"k":1}"#, "annotations.k must be a string, found a number"),
        ("1.0.0", r#""skills":{}"#, "skills must be an array, found an object"),
        ("1.0.0", r#""skills":[1]"#, "skills[0] must be an object, found a number"),
        (
            "1.0.0",
            r#""skills":[{},{"id":"201"}]"#,
            "skills[1].id must be a whole number from 0 to 4294967295, found a string",
        ),
        (
            "1.0.0",
            r#""skills":[{"annotations":{"a":true}}]"#,
            "skills[0].annotations.a must be a string, found a boolean",
        ),
        ("1.0.0", r#""modules":[{"data":[]}]"#, "modules[0].data must be an object, found an array"),
        (
            "1.0.0",
            r#""modules":[{"artifact":{"data":"!"}}]"#,
            "modules[0].artifact.data must be standard base64, found a string",
        ),
        (
            "1.1.0",
            r#""modules":[{"artifact":{"size":"1"}}]"#,
            "modules[0].artifact.size must be a whole number from 0 to 18446744073709551615, found a string",
        ),
        ("1.0.0", r#""locators":[{"urls":"u"}]"#, "locators[0].urls must be an array, found a string"),
        ("0.8.0", r#""locators":[{"url":[]}]"#, "locators[0].url must be a string, found an array"),
        (
            "0.7.0",
            r#""locators":[{"size":"1"}]"#,
            "locators[0].size must be a whole number from 0 to 18446744073709551615, found a string",
        ),
        ("0.7.0", r#""signature":"s""#, "signature must be an object, found a string"),
        ("0.8.0", r#""previous_record_cid":1"#, "previous_record_cid must be a string, found a number"),
    ];
    for (version, members, cause) in cases {
        assert_eq!(refusal(&record(version, members)), format!("record validation failed: [{cause}]"));
    }
}

#[test]
fn ids_have_their_edges() {
    let of = |id: &str| dir_oasf::facts(&doc(&record("1.0.0", &format!("\"domains\":[{{\"id\":{id}}}]"))));
    for (id, value) in [("0", 0), ("1e3", 1000), ("4294967295", 4_294_967_295), ("5.0", 5), ("null", 0)] {
        assert_eq!(of(id).unwrap().domains, [ClassFact { id: value, name: String::new() }], "{id}");
    }
    for id in ["-0", "-1", "0.5", "4294967296", "1e21", "true"] {
        assert!(of(id).is_err(), "{id}");
    }
    let of = |size: &str| {
        dir_oasf::facts(&doc(&record(
            "1.1.0",
            &format!("\"modules\":[{{\"artifact\":{{\"size\":{size}}}}}]"),
        )))
    };
    // The largest double below 2^64, and 2^64.
    assert!(of("18446744073709549568").is_ok());
    assert!(of("18446744073709551616").is_err());
}

#[test]
fn null_and_unknown_members_change_nothing() {
    let all = facts(&record(
        "1.0.0",
        r#""name":null,"authors":[null,"x"],"annotations":{"a":null},"skills":[null,{"name":null}],
           "modules":[{"name":"m","data":null,"artifact":null}],"locators":[{"urls":[null,"second"]}],
           "domains":null,"signature":5,"previous_record_cid":5,"whatever":{"x":[1]}"#,
    ));
    assert_eq!(all.name, "");
    assert_eq!(all.authors, Some(vec![String::new(), "x".to_owned()]));
    assert_eq!(all.annotations, BTreeMap::from([("a".to_owned(), String::new())]));
    assert_eq!(all.skills, [ClassFact::default(), ClassFact::default()]);
    assert_eq!(all.modules, [ModuleFact { name: "m".to_owned(), ..ModuleFact::default() }]);
    assert_eq!(all.locators, [LocatorFact::default()]);
    assert!(all.domains.is_empty() && all.previous_cid.is_empty());
    assert_eq!(facts(&record("1.0.0", r#""authors":null"#)).authors, None);
}

#[test]
fn names_match_without_regard_to_case() {
    let all = facts(&record(
        "0.8.0",
        r#""NAME":"n","Version":"v","SKILLS":[{"Name":"a","ID":7}],"loCators":[{"TYPE":"t","URL":"u"}],
           "Previous_Record_CID":"p","Annotations":{"Key":"1"},"annotations":{"key":"2"}"#,
    ));
    assert_eq!((all.name.as_str(), all.version.as_str(), all.previous_cid.as_str()), ("n", "v", "p"));
    assert_eq!(all.skills, [ClassFact { id: 7, name: "a".to_owned() }]);
    assert_eq!(all.locators, [LocatorFact { kind: "t".to_owned(), url: "u".to_owned() }]);
    assert_eq!(all.annotations.len(), 2);
    // Of two spellings the one that sorts later wins, and a null does not undo it.
    assert_eq!(facts(&record("1.0.0", r#""NAME":"first","name":"second""#)).name, "second");
    assert_eq!(facts(&record("1.0.0", r#""NAME":"first","name":null"#)).name, "first");
    // Letters beyond ASCII that fold into it: long s and the Kelvin sign.
    let folded = facts(&record("1.0.0", "\"\u{17f}\u{212a}ill\u{17f}\":[{\"name\":\"x\"}]"));
    assert_eq!(folded.skills.len(), 1);
}

#[test]
fn each_version_has_its_own_members() {
    let text = r#""locators":[{"type":"t","url":"one","urls":["two","three"]}],"previous_record_cid":"p",
        "modules":[{"id":3,"name":"m","artifact":{"media_type":"a/b","data":"YQ==\n"}}]"#;
    for version in ["0.7.0", "0.8.0"] {
        let all = facts(&record(version, text));
        assert_eq!((all.locators[0].url.as_str(), all.previous_cid.as_str()), ("one", "p"));
        assert_eq!(all.modules[0].artifact_media_type, "");
    }
    let all = facts(&record("1.1.0", text));
    assert_eq!((all.locators[0].url.as_str(), all.previous_cid.as_str()), ("two", ""));
    assert_eq!(
        all.modules,
        [ModuleFact { id: 3, name: "m".to_owned(), artifact_media_type: "a/b".to_owned() }]
    );
    // Annotations of a skill are known to 0.7 and 1.x only.
    let skill = r#""skills":[{"annotations":5}]"#;
    assert!(dir_oasf::facts(&doc(&record("0.8.0", skill))).is_ok());
    assert!(dir_oasf::facts(&doc(&record("0.7.0", skill))).is_err());
}
