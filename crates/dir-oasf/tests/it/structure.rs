//! The built-in structural check.

use crate::{doc, facts};
use dir_core::rules::RecordRules;
use dir_oasf::{BuiltinRules, Mode, Settings, SetupError};

const GOOD: &str = r#""name":"n","version":"1","description":"d","authors":["a"],
    "created_at":"2026-01-01T00:00:00Z","skills":[{"id":1}]"#;

async fn verdict(version: &str, members: &str) -> Result<(), String> {
    let text = format!("{{\"schema_version\":\"{version}\",{members}}}");
    let rules = BuiltinRules::new();
    rules.validate(&doc(&text), &facts(&text)).await.map_err(|error| error.to_string())
}

async fn with(version: &str, further: &str) -> String {
    let Err(text) = verdict(version, &format!("{GOOD},{further}")).await else { return String::new() };
    text.replace("record validation failed: ", "")
}

#[tokio::test]
async fn required_members_must_be_there() {
    assert_eq!(verdict("1.0.0", GOOD).await, Ok(()));
    assert_eq!(verdict("0.8.0", GOOD).await, Ok(()));
    let all = verdict("1.0.0", r#""name":null,"authors":[]"#).await.unwrap_err();
    assert_eq!(
        all,
        "record validation failed: [ERROR: name must be a string, found null. Attribute path: name. \
         ERROR: required attribute version is missing. Attribute path: version. \
         ERROR: required attribute description is missing. Attribute path: description. \
         ERROR: authors must not be empty. Attribute path: authors. \
         ERROR: required attribute created_at is missing. Attribute path: created_at. \
         ERROR: required attribute skills is missing. Attribute path: skills.]"
    );
}

#[tokio::test]
async fn locators_are_required_by_0_7_and_may_be_empty() {
    assert_eq!(
        verdict("0.7.0", GOOD).await.unwrap_err(),
        "record validation failed: [ERROR: required attribute locators is missing. Attribute path: locators.]"
    );
    assert_eq!(with("0.7.0", r#""locators":[]"#).await, "");
    assert_eq!(with("0.7.0", r#""locators":[{"type":"t","url":"u"}]"#).await, "");
    assert_eq!(
        with("0.7.0", r#""locators":[{"type":"t","urls":["u"]}]"#).await,
        "[ERROR: required attribute url is missing. Attribute path: locators[0].url.]"
    );
    assert_eq!(
        with("1.0.0", r#""locators":[{"urls":["u"]},{"type":"t","urls":[]}]"#).await,
        "[ERROR: required attribute type is missing. Attribute path: locators[0].type. \
         ERROR: urls must not be empty. Attribute path: locators[1].urls.]"
    );
}

#[tokio::test]
async fn skills_domains_and_modules_need_what_names_them() {
    assert_eq!(
        with("1.0.0", r#""domains":[{"name":"d"},{"id":null}]"#).await,
        "[ERROR: at least one of id and name is required. Attribute path: domains[1].]"
    );
    assert_eq!(
        with("1.0.0", r#""modules":[{"name":"m","data":{}},{"data":{}},{"name":"m","artifact":{}}]"#).await,
        "[ERROR: required attribute name is missing. Attribute path: modules[1].name. \
         ERROR: required attribute data is missing. Attribute path: modules[2].data.]"
    );
    assert_eq!(with("1.1.0", r#""modules":[{"name":"m","artifact":{}}]"#).await, "");
    assert_eq!(
        with("1.1.0", r#""modules":[{"name":"m","artifact":null}]"#).await,
        "[ERROR: required attribute data is missing. Attribute path: modules[0].data.]"
    );
}

#[tokio::test]
async fn there_are_no_length_limits() {
    let long = format!("\"annotations\":{{\"a\":\"{}\"}}", "x".repeat(1_500_000));
    assert_eq!(with("1.0.0", &long).await, "");
}

#[tokio::test]
async fn switched_off_everything_that_decodes_is_taken() {
    let text = r#"{"schema_version":"1.0.0"}"#;
    assert_eq!(BuiltinRules::off().validate(&doc(text), &facts(text)).await, Ok(()));
    assert!(BuiltinRules::off().facts(&doc(r#"{"schema_version":"3.0.0"}"#)).is_err());
}

#[test]
fn the_mode_follows_the_settings() {
    let settings = |mode, url: &str| Settings { mode, schema_url: url.to_owned(), ..Settings::default() };
    assert_eq!(settings(None, "").mode(), Mode::Builtin);
    assert_eq!(settings(None, "http://s").mode(), Mode::Remote);
    assert_eq!(settings(Some(Mode::Off), "http://s").mode(), Mode::Off);
    assert!("builtin".parse::<Mode>().is_ok_and(|mode| mode == Mode::Builtin));
    assert!("full".parse::<Mode>().is_err_and(|error| error.to_string().contains("\"full\"")));
    assert!(matches!(settings(Some(Mode::Remote), "").rules().err(), Some(SetupError::NoServer)));
    assert!(settings(None, "").rules().is_ok());
}
