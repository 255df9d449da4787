//! Records to push, and what is asked for: from the catalogue of the test kit, so that every process of a run knows
//! the same records by their numbers.

use bytes::Bytes;
use dir_core::json::Doc;
use dir_core::query::QueryKind;
use dir_testkit::catalogue::Catalogue;

/// The catalogue of a run. Later runs push records of their own.
fn catalogue(run: u64, scale: u64) -> Catalogue {
    Catalogue::new(run + 1, scale)
}

/// The encoded `Record` message of record number `n` of run `run`, in a catalogue of `scale` records.
pub(crate) fn message(run: u64, scale: u64, n: u64) -> anyhow::Result<Bytes> {
    let doc = Doc::parse(catalogue(run, scale).json(n).to_string().as_bytes())?;
    Ok(dir_proto::wire::encode_record(&doc)?)
}

/// The name of record number `n` of the first run.
pub(crate) fn name(scale: u64, n: u64) -> String {
    catalogue(0, scale).facts(n).name
}

/// A filter of a search.
pub(crate) type Asked = (QueryKind, &'static str);

/// Searches with three filters, fifty results and more at any size: what a catalogue page asks for.
pub(crate) const SEARCHES: [[Asked; 3]; 4] = [
    [
        (QueryKind::SkillName, "natural_language_processing/natural_language_generation/text_completion"),
        (QueryKind::DomainName, "technology/networking"),
        (QueryKind::ModuleName, "integration/mcp"),
    ],
    [
        (QueryKind::SkillId, "50201"),
        (QueryKind::DomainName, "technology/*"),
        (QueryKind::SchemaVersion, "1.0.0"),
    ],
    [
        (QueryKind::SkillName, "Tool_Interaction/*"),
        (QueryKind::Annotation, "region:eu-west"),
        (QueryKind::ModuleName, "integration/a2a"),
    ],
    [
        (QueryKind::SkillName, "*summarization"),
        (QueryKind::DomainId, "201"),
        (QueryKind::Annotation, "tier:bronze"),
    ],
];

/// Searches whose value stands in the middle of texts that are nearly all different.
pub(crate) const INSIDE: [[Asked; 3]; 2] = [
    [
        (QueryKind::Author, "fischer"),
        (QueryKind::DomainName, "technology/networking"),
        (QueryKind::ModuleName, "integration/mcp"),
    ],
    [
        (QueryKind::Name, "*invoice-assistant*"),
        (QueryKind::Description, "*networking*"),
        (QueryKind::ModuleName, "integration/mcp"),
    ],
];

/// A count with many hits: about every second record.
pub(crate) const COUNT: [Asked; 1] = [(QueryKind::DomainName, "technology/networking")];
