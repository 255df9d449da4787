//! What the index and the OCI manifest keep about a record: its labels, taken from the decoded OASF object.

use std::collections::BTreeMap;

/// A skill or a domain: taxonomy id and name (both as the record has them; id 0 when absent).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClassFact {
    /// Taxonomy id.
    pub id: u64,
    /// Taxonomy name, empty when absent.
    pub name: String,
}

/// A module of a record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModuleFact {
    /// Taxonomy id, 0 when absent.
    pub id: u64,
    /// Module name, empty when absent.
    pub name: String,
    /// OASF 1.x `artifact.media_type`, else empty.
    pub artifact_media_type: String,
}

/// A locator of a record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocatorFact {
    /// Locator type, empty when absent.
    pub kind: String,
    /// `url` (OASF 0.x) or the first of `urls` (1.x); empty when absent.
    pub url: String,
}

/// Everything the directory knows about a record besides its bytes. Texts are exactly the record's own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordFacts {
    /// `name`, empty when absent.
    pub name: String,
    /// `version`, empty when absent.
    pub version: String,
    /// `schema_version` (always three dot-separated parts).
    pub schema_version: String,
    /// `description`, empty when absent.
    pub description: String,
    /// `created_at`, verbatim, empty when absent.
    pub created_at: String,
    /// `previous_record_cid` (OASF 0.7 and 0.8 only), empty when absent.
    pub previous_cid: String,
    /// `authors`; `None` when the member is absent or null.
    pub authors: Option<Vec<String>>,
    /// `skills`.
    pub skills: Vec<ClassFact>,
    /// `domains`.
    pub domains: Vec<ClassFact>,
    /// `modules`.
    pub modules: Vec<ModuleFact>,
    /// `locators`.
    pub locators: Vec<LocatorFact>,
    /// Record-level `annotations`.
    pub annotations: BTreeMap<String, String>,
}

impl RecordFacts {
    /// Labels for events and routing: all skills, then domains, modules and locators, each in record order,
    /// duplicates kept, nothing normalised (`/skills/<name>`, `/domains/<name>`, `/modules/<name>`,
    /// `/locators/<type>`). A skill with only an id yields `/skills/`.
    pub fn labels(&self) -> Vec<String> {
        let skills = self.skills.iter().map(|s| format!("/skills/{}", s.name));
        let domains = self.domains.iter().map(|d| format!("/domains/{}", d.name));
        let modules = self.modules.iter().map(|m| format!("/modules/{}", m.name));
        let locators = self.locators.iter().map(|l| format!("/locators/{}", l.kind));
        skills.chain(domains).chain(modules).chain(locators).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_in_record_order_with_duplicates() {
        let class = |id, name: &str| ClassFact { id, name: name.to_owned() };
        let facts = RecordFacts {
            skills: vec![class(1, "b/y"), class(7, ""), class(1, "b/y")],
            domains: vec![class(2, "a")],
            modules: vec![ModuleFact { name: "integration/mcp".into(), ..ModuleFact::default() }],
            locators: vec![LocatorFact { kind: "docker_image".into(), url: "https://x".into() }],
            ..RecordFacts::default()
        };
        let expected = [
            "/skills/b/y",
            "/skills/",
            "/skills/b/y",
            "/domains/a",
            "/modules/integration/mcp",
            "/locators/docker_image",
        ];
        assert_eq!(facts.labels(), expected);
    }
}
