//! Realistic records from a seed: skewed taxonomies, versions in families, near-unique names and descriptions.
//! The same seed gives the same records in every build.

mod queries;

pub use queries::query;

use dir_core::facts::{ClassFact, LocatorFact, ModuleFact, RecordFacts};
use serde_json::{Value, json};

const CATEGORIES: [&str; 12] = [
    "natural_language_processing",
    "retrieval_augmented_generation",
    "computer_vision",
    "agent_orchestration",
    "tool_interaction",
    "analytical_skills",
    "data_engineering",
    "security_privacy",
    "audio",
    "multi_modal",
    "evaluation_monitoring",
    "devops_mlops",
];
const GROUPS: [&str; 6] =
    ["understanding", "generation", "classification", "retrieval", "planning", "analysis"];
const LEAVES: [&str; 8] = [
    "contextual_comprehension",
    "text_completion",
    "problem_solving",
    "summarization",
    "entity_recognition",
    "translation",
    "anomaly_detection",
    "workflow_automation",
];
const INDUSTRIES: [&str; 10] = [
    "life_science",
    "finance_and_business",
    "technology",
    "education",
    "healthcare",
    "retail",
    "transportation",
    "agriculture",
    "energy",
    "media_and_entertainment",
];
const MODULES: [&str; 6] = [
    "integration/mcp",
    "integration/a2a",
    "core/language_model/agentskills",
    "runtime/model",
    "core/llm/model",
    "observability/evaluation",
];
const WORDS: [&str; 24] = [
    "Burger",
    "Invoice",
    "Travel",
    "Research",
    "Support",
    "Weather",
    "Contract",
    "Claims",
    "Inventory",
    "Code",
    "Review",
    "Meeting",
    "Payroll",
    "Tutor",
    "Recipe",
    "Fraud",
    "Genome",
    "Fleet",
    "Energy",
    "Music",
    "Legal",
    "Café",
    "Über",
    "Ωmega",
];
const ORGS: [&str; 8] = [
    "Example Organization",
    "AGNTCY Contributors",
    "Alice <alice@example.com>",
    "Bob & Sons",
    "Müller GmbH",
    "acme-labs",
    "Ada Lovelace",
    "O'Neil \"Shaq\" Labs",
];
const SCHEMAS: [&str; 5] = ["1.0.0", "0.8.0", "0.7.0", "1.1.0", "0.3.1"];

/// A small generator of numbers (SplitMix64) that never changes its sequence.
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    /// Starts at a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..end`; 0 when `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let product = u128::from(self.bits()) * end as u128;
        usize::try_from(product >> 64).unwrap_or(0)
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// An element, every one as likely as the others.
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// An index below `end`, the first ones far more likely: the smallest of three.
    pub fn skewed(&mut self, end: usize) -> usize {
        self.below(end).min(self.below(end)).min(self.below(end))
    }

    /// A rank below `end` (0 when `end` is 0), each about as likely as one over its place: few are used by nearly
    /// everybody, many by nearly nobody.
    pub fn zipf(&mut self, end: u64) -> u64 {
        // Every doubling of the place is as likely as the others. Whole numbers only: the same on every machine.
        loop {
            let octave = 1_u64 << self.below(usize::try_from(end.max(1).ilog2()).unwrap_or(0) + 1);
            let place = octave + u64::try_from(self.below(usize::try_from(octave).unwrap_or(1))).unwrap_or(0);
            if place <= end.max(1) {
                return place - 1;
            }
        }
    }
}

/// A generator of records.
#[derive(Debug, Clone)]
pub struct Generator {
    numbers: Numbers,
    made: u64,
}

impl Generator {
    /// Starts at a seed.
    pub fn new(seed: u64) -> Self {
        Self { numbers: Numbers::new(seed), made: 0 }
    }

    /// The facts of the next record: about twelve labels, a unique name for most.
    pub fn facts(&mut self) -> RecordFacts {
        self.made += 1;
        let (made, n) = (self.made, &mut self.numbers);
        let topic = *n.pick(&WORDS);
        let other = *n.pick(&WORDS);
        let org = ["acme.example", "agntcy.org", "labs.example.com", "localhost:8080"][n.skewed(4)];
        let name = match n.below(10) {
            0 => format!("https://{org}/{}-agent", topic.to_lowercase()),
            1 => format!("{topic}_agent"),
            _ => format!("{org}/{}-{}-{made}", topic.to_lowercase(), other.to_lowercase()),
        };
        let schema_version = SCHEMAS[n.skewed(SCHEMAS.len())].to_owned();
        let dated = !n.one_in(20);
        let created_at = format!(
            "20{}-{:02}-{:02}T{:02}:{:02}:00Z",
            24 + n.below(3),
            1 + n.below(12),
            1 + n.below(28),
            n.below(24),
            n.below(60)
        );
        RecordFacts {
            name,
            version: format!(
                "{}{}.{}.{}",
                if n.one_in(2) { "v" } else { "" },
                n.skewed(4),
                n.below(12),
                n.skewed(6)
            ),
            description: if n.one_in(25) {
                String::new()
            } else {
                format!("Helps teams with {topic} and {other} work; record {made} of the {org} catalogue.")
            },
            created_at: if dated { created_at } else { String::new() },
            previous_cid: String::new(),
            authors: authors(n),
            skills: (0..=n.below(6)).map(|_| skill(n)).collect(),
            domains: (0..n.below(4)).map(|_| domain(n)).collect(),
            modules: (0..n.below(4)).map(|_| module(n, &schema_version)).collect(),
            locators: (0..n.below(3)).map(|_| locator(n, org, made)).collect(),
            annotations: (0..n.below(3)).map(|_| annotation(n)).collect(),
            schema_version,
        }
    }

    /// A record as JSON whose decoded facts are `facts`, as the schema version it names.
    pub fn record_json(facts: &RecordFacts) -> Value {
        let modern = facts.schema_version.starts_with("1.");
        let class = |c: &ClassFact| match c.id {
            0 => json!({"name": c.name}),
            id => json!({"name": c.name, "id": id}),
        };
        let module = |m: &ModuleFact| {
            let mut value = json!({"name": m.name, "data": {"about": m.name}});
            if m.id != 0 {
                value["id"] = m.id.into();
            }
            if !m.artifact_media_type.is_empty() {
                value["artifact"] = json!({"media_type": m.artifact_media_type});
            }
            value
        };
        let locator = |l: &LocatorFact| {
            if modern {
                json!({"type": l.kind, "urls": [l.url]})
            } else {
                json!({"type": l.kind, "url": l.url})
            }
        };
        let mut record = json!({
            "name": facts.name,
            "version": facts.version,
            "schema_version": facts.schema_version,
            "description": facts.description,
            "skills": facts.skills.iter().map(class).collect::<Vec<_>>(),
            "domains": facts.domains.iter().map(class).collect::<Vec<_>>(),
            "modules": facts.modules.iter().map(module).collect::<Vec<_>>(),
            "locators": facts.locators.iter().map(locator).collect::<Vec<_>>(),
            "annotations": facts.annotations,
        });
        if let Some(authors) = &facts.authors {
            record["authors"] = json!(authors);
        }
        if !facts.created_at.is_empty() {
            record["created_at"] = facts.created_at.clone().into();
        }
        record
    }
}

fn authors(n: &mut Numbers) -> Option<Vec<String>> {
    match n.below(12) {
        0 => None,
        1 => Some(Vec::new()),
        2 => Some(vec![(*n.pick(&ORGS)).to_owned(), (*n.pick(&ORGS)).to_owned()]),
        _ => Some(vec![ORGS[n.skewed(ORGS.len())].to_owned()]),
    }
}

fn skill(n: &mut Numbers) -> ClassFact {
    let (category, group, leaf) =
        (n.skewed(CATEGORIES.len()), n.skewed(GROUPS.len()), n.skewed(LEAVES.len()));
    let id = (category as u64 + 1) * 10_000 + (group as u64 + 1) * 100 + leaf as u64 + 1;
    match n.below(20) {
        0 => ClassFact { id, name: String::new() },
        1 => ClassFact { id: 0, name: format!("{}/{}", CATEGORIES[category], GROUPS[group]) },
        _ => ClassFact { id, name: format!("{}/{}/{}", CATEGORIES[category], GROUPS[group], LEAVES[leaf]) },
    }
}

fn domain(n: &mut Numbers) -> ClassFact {
    let (industry, leaf) = (n.skewed(INDUSTRIES.len()), n.skewed(GROUPS.len()));
    ClassFact {
        id: (industry as u64 + 1) * 100 + leaf as u64,
        name: format!("{}/{}", INDUSTRIES[industry], GROUPS[leaf]),
    }
}

fn module(n: &mut Numbers, schema: &str) -> ModuleFact {
    let which = n.skewed(MODULES.len());
    let artifact = schema.starts_with("1.1") && n.one_in(2);
    ModuleFact {
        id: if n.one_in(3) { 0 } else { 200 + which as u64 },
        name: MODULES[which].to_owned(),
        artifact_media_type: if artifact { "application/agent-skills+md".to_owned() } else { String::new() },
    }
}

fn locator(n: &mut Numbers, org: &str, made: u64) -> LocatorFact {
    let kind = *n.pick(&["container_image", "docker_image", "source_code", "helm_chart", "python_package"]);
    let url = match n.below(8) {
        0 => String::new(),
        1 => format!("https://ghcr.io/{org}/shared"),
        2 => format!("docker://{org}/a_b%20c\\{}", made % 7),
        _ => format!("https://ghcr.io/{org}/agent-{made}"),
    };
    LocatorFact { kind: kind.to_owned(), url }
}

fn annotation(n: &mut Numbers) -> (String, String) {
    let key = *n.pick(&["team", "tier", "region", "cost-center", "Owner", "", "agntcy.dir/owner"]);
    let value = *n.pick(&["gold", "silver", "eu-west", "42", "", "did:web:acme.example", "GOLD"]);
    (key.to_owned(), value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_records() {
        let make = || {
            let mut generator = Generator::new(7);
            (0..50).map(|_| generator.facts()).collect::<Vec<_>>()
        };
        assert_eq!(make(), make());
        let other = Generator::new(8).facts();
        assert_ne!(make()[0], other);
    }

    #[test]
    fn json_has_the_members_of_its_schema_version() {
        let mut generator = Generator::new(1);
        let modern = std::iter::repeat_with(|| generator.facts())
            .find(|f| f.schema_version.starts_with("1.") && !f.locators.is_empty())
            .unwrap();
        let json = Generator::record_json(&modern);
        assert_eq!(json["name"], modern.name.as_str());
        assert_eq!(json["locators"][0]["urls"][0], modern.locators[0].url.as_str());
    }
}
