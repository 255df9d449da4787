//! A record as the types of its schema version: labels, or the first member of a wrong type.
//!
//! Member names match without regard to case, unknown members are ignored, `null` leaves the zero value. Where two
//! spellings of one name meet, the one that sorts later by its bytes wins.

use crate::member::{At, WrongType, base64, id, items, known, members, set_string, size, string};
use crate::version::{Schema, Version};
use dir_core::RecordFacts;
use dir_core::facts::{ClassFact, LocatorFact, ModuleFact};
use dir_core::json::{Doc, Kind, Node};
use dir_core::rules::RuleError;
use std::collections::BTreeMap;

/// Member names of a record, all versions together.
const RECORD: &[&str] = &[
    "name",
    "version",
    "schema_version",
    "description",
    "authors",
    "annotations",
    "created_at",
    "locators",
    "skills",
    "domains",
    "modules",
    "signature",
    "previous_record_cid",
];

/// Decodes a record as the schema version it names.
///
/// `schema_version` itself is read with exact case; a value that is no string counts as empty.
pub fn facts(doc: &Doc) -> Result<RecordFacts, RuleError> {
    let reject = |cause: String| RuleError::Rejected(vec![cause]);
    if doc.root().kind() != Kind::Object {
        return Err(reject("a record must be a JSON object".to_owned()));
    }
    let Some(member) = doc.get("schema_version") else {
        return Err(reject("schema_version field is missing".to_owned()));
    };
    let text = member.as_str().unwrap_or_default();
    let version = Version::parse(text).map_err(|error| reject(error.to_string()))?;
    let mut facts = RecordFacts::default();
    for (name, node) in doc.root().members() {
        if let Some(name) = known(name, RECORD) {
            top(version.schema, At::top(name), name, node, &mut facts)
                .map_err(|error| reject(error.to_string()))?;
        }
    }
    // What decides how a record is read is what it is filed under.
    text.clone_into(&mut facts.schema_version);
    Ok(facts)
}

fn top(
    schema: Schema,
    at: At<'_>,
    name: &str,
    node: Node<'_>,
    facts: &mut RecordFacts,
) -> Result<(), WrongType> {
    match name {
        "name" => set_string(at, node, &mut facts.name),
        "version" => set_string(at, node, &mut facts.version),
        "schema_version" => string(at, node).map(drop),
        "description" => set_string(at, node, &mut facts.description),
        "created_at" => set_string(at, node, &mut facts.created_at),
        "annotations" => annotations(at, node, &mut facts.annotations),
        "authors" => {
            if let Some(all) = strings(at, node)? {
                facts.authors = Some(all);
            }
            Ok(())
        }
        "skills" => list(at, node, &mut facts.skills, |at, node| class(schema, at, node)),
        "domains" => list(at, node, &mut facts.domains, |at, node| class(schema, at, node)),
        "modules" => list(at, node, &mut facts.modules, |at, node| module(schema, at, node)),
        "locators" => list(at, node, &mut facts.locators, |at, node| locator(schema, at, node)),
        "previous_record_cid" if schema != Schema::V1 => set_string(at, node, &mut facts.previous_cid),
        "signature" if schema == Schema::V0_7 => members(at, node).map(drop),
        _ => Ok(()),
    }
}

fn list<T>(
    at: At<'_>,
    node: Node<'_>,
    target: &mut Vec<T>,
    read: impl Fn(At<'_>, Node<'_>) -> Result<T, WrongType>,
) -> Result<(), WrongType> {
    if let Some(items) = items(at, node)? {
        *target =
            items.enumerate().map(|(index, item)| read(at.item(index), item)).collect::<Result<_, _>>()?;
    }
    Ok(())
}

/// An array of strings; a null among them is the empty one.
fn strings(at: At<'_>, node: Node<'_>) -> Result<Option<Vec<String>>, WrongType> {
    let Some(items) = items(at, node)? else { return Ok(None) };
    items
        .enumerate()
        .map(|(index, item)| Ok(string(at.item(index), item)?.unwrap_or_default().to_owned()))
        .collect::<Result<_, _>>()
        .map(Some)
}

/// A map of strings; a null among them is the empty one.
fn annotations(at: At<'_>, node: Node<'_>, target: &mut BTreeMap<String, String>) -> Result<(), WrongType> {
    for (key, value) in members(at, node)? {
        let text = string(at.member(key), value)?.unwrap_or_default();
        target.insert(key.to_owned(), text.to_owned());
    }
    Ok(())
}

/// A skill or a domain. OASF 0.8 knows no annotations there.
fn class(schema: Schema, at: At<'_>, node: Node<'_>) -> Result<ClassFact, WrongType> {
    let mut fact = ClassFact::default();
    for (name, value) in members(at, node)? {
        let Some(name) = known(name, &["name", "id", "annotations"]) else { continue };
        let at = at.member(name);
        match name {
            "name" => set_string(at, value, &mut fact.name)?,
            "id" => fact.id = id(at, value)?.unwrap_or(fact.id),
            _ if schema != Schema::V0_8 => annotations(at, value, &mut BTreeMap::new())?,
            _ => {}
        }
    }
    Ok(fact)
}

fn module(schema: Schema, at: At<'_>, node: Node<'_>) -> Result<ModuleFact, WrongType> {
    let mut fact = ModuleFact::default();
    for (name, value) in members(at, node)? {
        let Some(name) = known(name, &["name", "id", "annotations", "data", "artifact"]) else { continue };
        let at = at.member(name);
        match name {
            "name" => set_string(at, value, &mut fact.name)?,
            "id" => fact.id = id(at, value)?.unwrap_or(fact.id),
            "annotations" => annotations(at, value, &mut BTreeMap::new())?,
            "data" => drop(members(at, value)?),
            _ if schema == Schema::V1 => artifact(at, value, &mut fact.artifact_media_type)?,
            _ => {}
        }
    }
    Ok(fact)
}

fn artifact(at: At<'_>, node: Node<'_>, media_type: &mut String) -> Result<(), WrongType> {
    const NAMES: &[&str] = &["media_type", "artifact_type", "size", "digest", "urls", "data"];
    for (name, value) in members(at, node)? {
        let Some(name) = known(name, NAMES) else { continue };
        let at = at.member(name);
        match name {
            "media_type" => set_string(at, value, media_type)?,
            "size" => drop(size(at, value)?),
            "urls" => drop(strings(at, value)?),
            "data" => base64(at, value)?,
            _ => drop(string(at, value)?),
        }
    }
    Ok(())
}

/// OASF 0.x has one `url`, 1.x has `urls`, of which the first counts.
fn locator(schema: Schema, at: At<'_>, node: Node<'_>) -> Result<LocatorFact, WrongType> {
    let names: &[&str] = match schema {
        Schema::V1 => &["type", "urls", "annotations"],
        _ => &["type", "url", "annotations", "size", "digest"],
    };
    let mut fact = LocatorFact::default();
    for (name, value) in members(at, node)? {
        let Some(name) = known(name, names) else { continue };
        let at = at.member(name);
        match name {
            "type" => set_string(at, value, &mut fact.kind)?,
            "url" => set_string(at, value, &mut fact.url)?,
            "urls" => {
                if let Some(urls) = strings(at, value)? {
                    fact.url = urls.into_iter().next().unwrap_or_default();
                }
            }
            "annotations" => annotations(at, value, &mut BTreeMap::new())?,
            "size" => drop(size(at, value)?),
            _ => drop(string(at, value)?),
        }
    }
    Ok(fact)
}
