//! The facts of a record as ids of texts, and back.

use super::Chunk;
use crate::plan::{PairField, TextField};
use dir_core::facts::{ClassFact, LocatorFact, ModuleFact, RecordFacts};
use std::borrow::Cow;

impl Chunk {
    /// Interns the facts of a record, whose slot is the next one. [`Chunk::facts`] and [`Chunk::forget`] read the ids
    /// in the same order.
    pub(super) fn intern(&mut self, slot: u32, facts: &RecordFacts) {
        let mut ids = Vec::with_capacity(
            12 + 2
                * (facts.skills.len() + facts.domains.len() + facts.locators.len() + facts.annotations.len())
                + 3 * facts.modules.len(),
        );
        for (field, text) in single_texts(facts) {
            ids.push(self.texts[field as usize].add(text, slot));
        }
        ids.push(self.other.add(&facts.previous_cid, slot));
        let authors = &mut self.texts[TextField::Author as usize];
        match facts.authors.as_deref() {
            None => ids.push(0),
            Some([]) => ids.extend([1, authors.add("", slot)]),
            Some(list) => {
                ids.push(2 + count(list.len()));
                ids.extend(list.iter().map(|author| authors.add(author, slot)));
            }
        }
        let mut pair = |field: PairField, left: &str, right: &str, ids: &mut Vec<u32>| {
            let (left, right) = self.pairs[field as usize].add(left, right, slot);
            ids.extend([left, right]);
        };
        for (field, classes) in [(PairField::Skill, &facts.skills), (PairField::Domain, &facts.domains)] {
            ids.push(count(classes.len()));
            for class in classes {
                pair(field, &class.id.to_string(), &class.name, &mut ids);
            }
        }
        ids.push(count(facts.locators.len()));
        for locator in &facts.locators {
            pair(PairField::Locator, &locator.kind, &locator.url, &mut ids);
        }
        ids.push(count(facts.annotations.len()));
        for (key, value) in &facts.annotations {
            pair(PairField::Annotation, key, value, &mut ids);
        }
        ids.push(count(facts.modules.len()));
        for module in &facts.modules {
            pair(PairField::Module, &module.id.to_string(), &module.name, &mut ids);
        }
        ids.extend(facts.modules.iter().map(|m| self.other.add(&m.artifact_media_type, slot)));
        self.ids.push(&ids);
    }

    pub(super) fn facts(&self, slot: u32) -> RecordFacts {
        let mut ids = self.ids.get(slot);
        let mut next = || ids.next().unwrap_or_default();
        let text = |field: TextField, id: u32| self.texts[field as usize].text(id).into_owned();
        let mut facts = RecordFacts {
            name: text(TextField::Name, next()),
            version: text(TextField::Version, next()),
            schema_version: text(TextField::SchemaVersion, next()),
            description: text(TextField::Description, next()),
            created_at: text(TextField::CreatedAt, next()),
            previous_cid: self.other.text(next()).into_owned(),
            ..RecordFacts::default()
        };
        facts.authors = match next() {
            0 => None,
            1 => {
                next();
                Some(Vec::new())
            }
            n => Some((2..n).map(|_| text(TextField::Author, next())).collect()),
        };
        let mut pairs = |field: PairField| -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
            let pairs = &self.pairs[field as usize];
            (0..next()).map(|_| (pairs.left.text(next()), pairs.right.text(next()))).collect()
        };
        let class = |(id, name): (Cow<'_, str>, Cow<'_, str>)| ClassFact {
            id: id.parse().unwrap_or(0),
            name: name.into_owned(),
        };
        facts.skills = pairs(PairField::Skill).into_iter().map(class).collect();
        facts.domains = pairs(PairField::Domain).into_iter().map(class).collect();
        facts.locators = pairs(PairField::Locator)
            .into_iter()
            .map(|(kind, url)| LocatorFact { kind: kind.into_owned(), url: url.into_owned() })
            .collect();
        facts.annotations = pairs(PairField::Annotation)
            .into_iter()
            .map(|(key, value)| (key.into_owned(), value.into_owned()))
            .collect();
        let modules = pairs(PairField::Module);
        facts.modules = modules
            .into_iter()
            .map(|module| {
                let ClassFact { id, name } = class(module);
                ModuleFact { id, name, artifact_media_type: self.other.text(next()).into_owned() }
            })
            .collect();
        facts
    }

    pub(super) fn forget(&mut self, slot: u32) {
        let ids: Vec<u32> = self.ids.get(slot).collect();
        let mut ids = ids.into_iter();
        let mut next = || ids.next().unwrap_or_default();
        for dict in &mut self.texts[..TextField::Author as usize] {
            dict.remove(next(), slot);
        }
        self.other.remove(next(), slot);
        let authors = match next() {
            n @ (0 | 1) => n,
            n => n - 2,
        };
        for _ in 0..authors {
            self.texts[TextField::Author as usize].remove(next(), slot);
        }
        let mut modules = 0;
        for field in [
            PairField::Skill,
            PairField::Domain,
            PairField::Locator,
            PairField::Annotation,
            PairField::Module,
        ] {
            let rows = next();
            for _ in 0..rows {
                self.pairs[field as usize].remove((next(), next()), slot);
            }
            modules = rows;
        }
        for _ in 0..modules {
            self.other.remove(next(), slot);
        }
    }
}

/// The fields with exactly one text, in the order of [`TextField`].
fn single_texts(facts: &RecordFacts) -> [(TextField, &str); 5] {
    [
        (TextField::Name, &facts.name),
        (TextField::Version, &facts.version),
        (TextField::SchemaVersion, &facts.schema_version),
        (TextField::Description, &facts.description),
        (TextField::CreatedAt, &facts.created_at),
    ]
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
