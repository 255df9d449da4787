//! The example records: they decode, pass the structural check, and carry the labels they should.

use dir_core::json::Doc;
use dir_core::rules::RecordRules;
use dir_oasf::BuiltinRules;
use std::path::Path;

#[tokio::test]
async fn every_example_is_acceptable() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/records");
    let mut labels = Vec::new();
    let mut versions = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let doc = Doc::parse(&std::fs::read(&path).unwrap()).unwrap();
        let rules = BuiltinRules::new();
        let facts = rules.facts(&doc).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let verdict = rules.validate(&doc, &facts).await;
        assert_eq!(verdict, Ok(()), "{}", path.display());
        labels.extend(rules.labels(&facts));
        versions.push(facts.schema_version);
    }
    assert!(versions.len() >= 7);
    for version in ["0.7.0", "0.8.0", "1.0.0", "1.1.0"] {
        assert!(versions.iter().any(|found| found == version), "no example of {version}");
    }
    for label in [
        "/skills/natural_language_processing/natural_language_generation/text_completion",
        "/domains/life_science/biotechnology",
        "/modules/integration/mcp",
        "/locators/docker_image",
        "/locators/container_image",
    ] {
        assert!(labels.iter().any(|found| found == label), "no example with {label}");
    }
}
