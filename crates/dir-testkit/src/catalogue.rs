//! A catalogue as an organisation would have it, of any size, for benchmarks: every record by its number alone, the
//! same in every build and process. About twelve labels a record; what is popular is as popular as in real
//! taxonomies (Zipf), names come in families with versions, descriptions are prose.
//!
//! [`crate::generate`] makes the odd records that tests want; here are the usual ones.

use crate::generate::{Generator, Numbers};
use dir_core::facts::{ClassFact, LocatorFact, ModuleFact, RecordFacts};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Name and id of skills, the most used first.
const SKILLS: [(&str, u64); 40] = [
    ("natural_language_processing/natural_language_generation/text_completion", 10201),
    ("natural_language_processing/natural_language_generation/summarization", 10202),
    ("natural_language_processing/information_retrieval_and_synthesis/question_answering", 10302),
    ("tool_interaction/api_schema_understanding", 1401),
    ("analytical_skills/coding_skills/text_to_code", 50201),
    ("retrieval_augmented_generation/retrieval_of_information/document_retrieval", 60103),
    ("tool_interaction/workflow_automation", 1402),
    ("natural_language_processing/natural_language_understanding/contextual_comprehension", 10101),
    ("agent_orchestration/task_decomposition", 1001),
    ("natural_language_processing/analytical_reasoning/problem_solving", 10702),
    ("natural_language_processing/text_classification/sentiment_analysis", 10902),
    ("analytical_skills/coding_skills/code_optimization", 50205),
    ("data_engineering/data_transformation_pipeline", 1203),
    ("natural_language_processing/token_classification/named_entity_recognition", 11001),
    ("agent_orchestration/multi_agent_planning", 1003),
    ("natural_language_processing/language_translation", 10204),
    ("retrieval_augmented_generation/document_or_database_question_answering", 602),
    ("tabular_text/tabular_regression", 402),
    ("natural_language_processing/personalization/style_adjustment", 10502),
    ("security_privacy/vulnerability_analysis", 801),
    ("devops_mlops/ci_cd_configuration", 1103),
    ("analytical_skills/mathematical_reasoning/pure_math_operations", 50101),
    ("evaluation_monitoring/quality_evaluation", 1302),
    ("governance_compliance/policy_mapping", 1502),
    ("images_computer_vision/image_classification", 202),
    ("images_computer_vision/object_detection", 206),
    ("audio/audio_classification", 301),
    ("multi_modal/text_to_image", 70402),
    ("data_engineering/schema_inference", 1201),
    ("security_privacy/privacy_risk_assessment", 804),
    ("evaluation_monitoring/anomaly_detection", 1304),
    ("advanced_reasoning_planning/strategic_planning", 1501),
    ("natural_language_processing/ethical_interaction/bias_mitigation", 10801),
    ("audio/audio_to_audio", 302),
    ("images_computer_vision/depth_estimation", 208),
    ("multi_modal/any_to_any", 705),
    ("devops_mlops/model_versioning", 1105),
    ("governance_compliance/audit_trail_summarization", 1503),
    ("tabular_text/tabular_classification", 401),
    ("agent_orchestration/negotiation_resolution", 1005),
];
/// Name and id of domains, the most used first.
const DOMAINS: [(&str, u64); 24] = [
    ("technology/software_engineering", 102),
    ("technology/networking", 103),
    ("finance_and_business/banking", 201),
    ("finance_and_business/customer_relationship_management", 205),
    ("technology/security", 104),
    ("healthcare/telemedicine", 901),
    ("education/e_learning", 403),
    ("retail_and_ecommerce/order_management", 2003),
    ("life_science/biotechnology", 301),
    ("media_and_entertainment/content_creation", 601),
    ("human_resources/recruitment", 1401),
    ("legal/contract_law", 1602),
    ("finance_and_business/investment_services", 203),
    ("transportation/logistics", 1202),
    ("industrial_manufacturing/supply_chain_management", 1303),
    ("energy/energy_management", 701),
    ("telecommunications/iot_connectivity", 1702),
    ("healthcare/medical_technology", 903),
    ("public_services/public_administration", 801),
    ("marketing_and_advertising/market_research", 1504),
    ("life_science/genomics", 302),
    ("agriculture/precision_agriculture", 1105),
    ("real_estate/property_management", 1801),
    ("hospitality_and_tourism/travel_services", 1902),
];
const MODULES: [(&str, u64); 6] = [
    ("integration/mcp", 202),
    ("integration/a2a", 203),
    ("core/language_model/agentskills", 10101),
    ("core/language_model/model", 10201),
    ("observability/evaluation", 301),
    ("runtime/framework", 402),
];
const LOCATORS: [&str; 4] = ["container_image", "source_code", "helm_chart", "python_package"];
const VERBS: [&str; 8] = [
    "Answers questions about",
    "Summarizes",
    "Plans",
    "Reviews",
    "Monitors",
    "Translates",
    "Classifies",
    "Drafts",
];
const TOPICS: [&str; 32] = [
    "invoice",
    "contract",
    "claims",
    "weather",
    "travel",
    "support",
    "payroll",
    "inventory",
    "code",
    "security",
    "meeting",
    "recipe",
    "fraud",
    "genome",
    "fleet",
    "energy",
    "music",
    "tax",
    "legal",
    "hiring",
    "patient",
    "network",
    "budget",
    "catalog",
    "shipment",
    "survey",
    "release",
    "incident",
    "lesson",
    "portfolio",
    "campaign",
    "sensor",
];
const KINDS: [&str; 8] =
    ["assistant", "agent", "planner", "reviewer", "monitor", "analyst", "translator", "copilot"];
const GIVEN: [&str; 24] = [
    "Ada", "Alice", "Bob", "Carol", "Chen", "Diego", "Elif", "Emma", "Farid", "Grace", "Hana", "Ivan",
    "Jana", "Karim", "Lena", "Luca", "Maria", "Noah", "Olga", "Priya", "Ravi", "Sofia", "Tom", "Yuki",
];
const FAMILY: [&str; 24] = [
    "Baker", "Costa", "Dupont", "Eriksen", "Fischer", "Garcia", "Haddad", "Ito", "Jansen", "Khan", "Lopez",
    "Müller", "Novak", "Okafor", "Patel", "Rossi", "Sato", "Silva", "Smith", "Tanaka", "Ueda", "Weber",
    "Yilmaz", "Zhang",
];
/// Records that share five families: three of eight are later versions of another.
const GROUP: u64 = 8;

/// A catalogue of records.
#[derive(Debug, Clone, Copy)]
pub struct Catalogue {
    seed: u64,
    records: u64,
}

impl Catalogue {
    /// The catalogue of a seed that has (or is meant to have) `records` records: the number of organisations and
    /// people grows with it.
    pub fn new(seed: u64, records: u64) -> Self {
        Self { seed, records: records.max(1) }
    }

    /// The facts of record number `n`.
    pub fn facts(&self, n: u64) -> RecordFacts {
        // What a family has in common, then what this version has of its own.
        let family = match n % GROUP {
            5..GROUP => n - n % GROUP + n % 3,
            _ => n,
        };
        let (mut shared, mut own) = (self.numbers(family), self.numbers(!n));
        let n = &mut shared;
        let org = self.organisation(n);
        let (topic, kind) = (*n.pick(&TOPICS), *n.pick(&KINDS));
        let (skills, domains) = (distinct(n, &SKILLS, 4), distinct(n, &DOMAINS, 3));
        let modules = distinct(n, &MODULES, 2);
        let label = |class: &str| class.rsplit('/').next().unwrap_or_default().replace('_', " ");
        let description = format!(
            "{} {topic} documents for teams in {}. Skilled in {} and {}; works beside people, explains every answer \
             and hands over to a colleague when it is not sure. Maintained by {org} as {topic}-{kind}-{family}.",
            n.pick(&VERBS),
            label(&domains[0].name),
            label(&skills[0].name),
            label(&skills[1].name),
        );
        let authors = (0..=n.below(2)).map(|_| self.person(n, &org)).collect();
        let name = format!("{org}/{topic}-{kind}-{family}");
        let own = &mut own;
        let schema_version = ["1.0.0", "0.8.0", "0.7.0"][own.skewed(3)].to_owned();
        let modern = schema_version.starts_with("1.");
        let locators = (0..3).map(|at| locator(at, modern, &name, own)).collect();
        RecordFacts {
            version: format!("v{}.{}.{}", own.skewed(4), own.below(12), own.skewed(6)),
            created_at: format!(
                "20{}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
                24 + own.below(3),
                1 + own.below(12),
                1 + own.below(28),
                own.below(24),
                own.below(60),
                own.below(60)
            ),
            annotations: self.annotations(n),
            modules: modules
                .into_iter()
                .map(|c| ModuleFact { id: c.id, name: c.name, artifact_media_type: String::new() })
                .collect(),
            authors: Some(authors),
            previous_cid: String::new(),
            name,
            schema_version,
            description,
            skills,
            domains,
            locators,
        }
    }

    /// Record number `n` as JSON.
    pub fn json(&self, n: u64) -> Value {
        let mut record = Generator::record_json(&self.facts(n));
        if let Some(modules) = record["modules"].as_array_mut() {
            for module in modules {
                module["data"] =
                    json!({ "transport": "streamable-http", "port": 8080, "tools": ["search", "fetch"] });
            }
        }
        record
    }

    fn numbers(&self, n: u64) -> Numbers {
        // The first number of a neighbouring seed is as far away as any other.
        Numbers::new(Numbers::new(self.seed ^ n.wrapping_mul(0x2545_f491_4f6c_dd1d)).bits())
    }

    /// One organisation for a hundred records; the largest has a tenth of them.
    fn organisation(&self, n: &mut Numbers) -> String {
        let which = n.zipf(8 + self.records / 100);
        format!("{}{which}.example.com", TOPICS[usize::try_from(which).unwrap_or(0) % TOPICS.len()])
    }

    /// One author for ten records.
    fn person(&self, n: &mut Numbers, org: &str) -> String {
        let who = usize::try_from(n.zipf(16 + self.records / 10)).unwrap_or(0);
        let (given, family) = (GIVEN[who % GIVEN.len()], FAMILY[who / GIVEN.len() % FAMILY.len()]);
        format!("{given} {family} <{}{who}@{org}>", given.to_lowercase())
    }

    fn annotations(&self, n: &mut Numbers) -> BTreeMap<String, String> {
        let team = format!("team-{}", n.zipf(8 + self.records / 500));
        let tier = ["bronze", "silver", "gold"][n.skewed(3)];
        let region = ["eu-west", "us-east", "ap-south", "eu-north", "us-west"][n.skewed(5)];
        [("team", team.as_str()), ("tier", tier), ("region", region)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }
}

/// So many different classes, the first of the list the likeliest.
fn distinct(n: &mut Numbers, list: &[(&str, u64)], many: usize) -> Vec<ClassFact> {
    let mut taken = Vec::with_capacity(many);
    while taken.len() < many.min(list.len()) {
        let at = usize::try_from(n.zipf(list.len() as u64)).unwrap_or(0);
        if !taken.contains(&at) {
            taken.push(at);
        }
    }
    taken.into_iter().map(|at| ClassFact { name: list[at].0.to_owned(), id: list[at].1 }).collect()
}

fn locator(at: usize, modern: bool, name: &str, own: &mut Numbers) -> LocatorFact {
    let kind = match (at, modern) {
        (0, false) => "docker_image",
        (0, true) => "container_image",
        _ => LOCATORS[1 + (at + own.below(2)) % 3],
    };
    LocatorFact { kind: kind.to_owned(), url: format!("https://artifacts.example.com/{kind}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    #[test]
    fn a_record_is_its_number_and_has_twelve_labels() {
        let catalogue = Catalogue::new(1, 1000);
        let mut all = HashSet::new();
        for n in 0..1000 {
            let facts = catalogue.facts(n);
            assert_eq!(facts, catalogue.facts(n));
            assert_eq!(facts.labels().len(), 12, "{facts:?}");
            assert!(all.insert(catalogue.json(n).to_string()), "record {n} is another again");
        }
        assert_ne!(catalogue.facts(5), Catalogue::new(2, 1000).facts(5));
        let size: usize = all.iter().map(String::len).sum::<usize>() / all.len();
        assert!((1000..2500).contains(&size), "{size} bytes on average");
    }

    #[test]
    fn what_is_popular_is_popular_and_names_have_versions() {
        let catalogue = Catalogue::new(1, 4000);
        let (mut skills, mut names, mut orgs) = (HashMap::new(), HashSet::new(), HashMap::new());
        for facts in (0..4000).map(|n| catalogue.facts(n)) {
            for skill in &facts.skills {
                *skills.entry(skill.name.clone()).or_insert(0) += 1;
            }
            *orgs.entry(facts.name.split('/').next().unwrap_or_default().to_owned()).or_insert(0) += 1;
            names.insert(facts.name);
        }
        assert_eq!(names.len(), 4000 * 5 / 8);
        let (first, last) = (skills[SKILLS[0].0], skills[SKILLS[SKILLS.len() - 1].0]);
        assert!(first > 1500 && last > 20 && first > 10 * last, "{first} and {last} of 4000");
        assert!(orgs.len() > 20 && orgs.values().max() > Some(&200), "{orgs:?}");
    }
}
