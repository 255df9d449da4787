//! Records to push: realistic enough in shape, unique by number, about one KiB each.

use bytes::Bytes;
use dir_core::json::Doc;
use serde_json::json;

const SKILLS: &[(&str, u32)] = &[
    ("natural_language_processing/text_completion", 10201),
    ("natural_language_processing/summarization", 10202),
    ("analytical_skills/coding_skills/text_to_code", 50201),
    ("retrieval_augmented_generation/document_or_database_question_answering", 601),
    ("tool_interaction/api_schema_understanding", 1401),
];
const DOMAINS: &[(&str, u32)] = &[
    ("technology/networking", 103),
    ("finance_and_business/banking", 201),
    ("healthcare/telemedicine", 901),
];

/// The skill, domain and author that a three-filter search of the benchmark asks for.
pub(crate) const SEARCH: [(i32, &str); 3] =
    [(4, "natural_language_processing/text_completion"), (8, "technology/networking"), (10, "Team 0")];

/// The encoded `Record` message of record number `n` of run `run`.
pub(crate) fn message(run: u64, n: u64) -> anyhow::Result<Bytes> {
    let skill = SKILLS[usize::try_from(n)? % SKILLS.len()];
    let other = SKILLS[usize::try_from(n / 7)? % SKILLS.len()];
    let domain = DOMAINS[usize::try_from(n / 3)? % DOMAINS.len()];
    let record = json!({
        "name": format!("bench.example.org/run-{run}/agent-{n}"),
        "version": format!("v1.{}.{}", n % 10, n % 7),
        "schema_version": "1.0.0",
        "description": format!("Agent {n} of benchmark run {run}. {}", "It answers questions about orders. ".repeat(8)),
        "authors": [format!("Team {} <team@example.org>", n % 20), "Example Organization"],
        "created_at": "2025-06-01T08:30:00Z",
        "skills": [{ "name": skill.0, "id": skill.1 }, { "name": other.0, "id": other.1 }],
        "domains": [{ "name": domain.0, "id": domain.1 }],
        "locators": [{ "type": "container_image", "urls": [format!("https://registry.example.org/agents/{n}")] }],
        "modules": [{ "name": "integration/mcp", "data": { "transport": "http", "port": 8080 } }],
        "annotations": { "team": format!("team-{}", n % 20), "tier": if n.is_multiple_of(3) { "gold" } else { "silver" } }
    });
    let doc = Doc::parse(record.to_string().as_bytes())?;
    Ok(dir_proto::wire::encode_record(&doc)?)
}
