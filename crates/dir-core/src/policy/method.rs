//! The method column, in its two readings.

use super::methods::{MethodCatalogue, MethodSet, Permission};
use super::subject::{PATTERN_MAX, last_line};
use super::{Matching, Readings};
use regex::RegexBuilder;

/// A spelling that older charts shipped: no such package exists, so it grants nothing and is no fault.
pub(crate) const DEAD_SPELLING: &str = "/agntcy.dir.sync.v1.SyncService/RequestRegistryCredentials";
/// What is meant by it.
pub(crate) const LIVING_SPELLING: &str = "/agntcy.dir.store.v1.SyncService/RequestRegistryCredentials";

const FORMS: &str = "write `/pkg.Service/Method`, `/pkg.Service/*` or `*`";

/// A method pattern that was understood.
#[derive(Debug, Clone)]
pub(crate) struct MethodPattern {
    /// The methods it admits, in the reading that was asked for.
    pub(crate) methods: MethodSet,
    pub(crate) readings: Readings,
    /// Admitted beyond the text of the pattern (compat only).
    pub(crate) beyond: MethodSet,
    /// Text after a `*`, which says nothing (compat only).
    pub(crate) after_star: Option<String>,
}

/// Why a pattern is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is none.
    Malformed(String),
    /// It is one, and no service has such a method.
    Unknown(String),
}

impl MethodPattern {
    pub(crate) fn parse(
        text: &str,
        matching: Matching,
        catalogue: &MethodCatalogue,
    ) -> Result<Self, Refused> {
        if text.len() > PATTERN_MAX {
            let why = format!("the method pattern has more than {PATTERN_MAX} bytes");
            return Err(Refused::Malformed(why));
        }
        let strict = strict(text, catalogue);
        let compat = compat(text, catalogue);
        let readings = Readings {
            strict: strict.as_ref().ok().cloned().unwrap_or_default(),
            compat: compat.as_ref().ok().map(|c| c.methods.clone()).unwrap_or_default(),
        };
        let found = match matching {
            Matching::Strict => Self {
                methods: strict.map_err(Refused::Malformed)?,
                readings,
                beyond: MethodSet::default(),
                after_star: None,
            },
            Matching::Compat => Self { readings, ..compat.map_err(Refused::Malformed)? },
        };
        if found.methods.is_empty() {
            return Err(Refused::Unknown(unknown(text, catalogue)));
        }
        Ok(found)
    }
}

fn unknown(text: &str, catalogue: &MethodCatalogue) -> String {
    let near = catalogue.nearest(text).map_or_else(String::new, |n| format!("; did you mean {n}?"));
    format!("no service of this server has the method \"{text}\"{near}")
}

/// One whole method, all of one service, or everything. Groups are for native rules.
pub(crate) fn strict(text: &str, catalogue: &MethodCatalogue) -> Result<MethodSet, String> {
    if text == "*" {
        return Ok(catalogue.all());
    }
    if text.starts_with('@') {
        return Err(format!("method pattern \"{text}\": groups are for native (YAML) policies; {FORMS}"));
    }
    let Some((service, method)) = text.strip_prefix('/').and_then(|t| t.split_once('/')) else {
        return Err(format!("method pattern \"{text}\" names no service and method; {FORMS}"));
    };
    let name = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_'))
    };
    if !name(service) || !(name(method) || method == "*") {
        return Err(format!("method pattern \"{text}\": only a trailing `/*` is a wildcard; {FORMS}"));
    }
    if method == "*" {
        let prefix = &text[..=service.len() + 1];
        return Ok(catalogue.select(|path| path.starts_with(prefix)));
    }
    Ok(catalogue.select(|path| path == text))
}

/// The text before the first `*` is a prefix (without `*`: the whole method), or the pattern as a regular expression is
/// found anywhere in the method.
fn compat(text: &str, catalogue: &MethodCatalogue) -> Result<MethodPattern, String> {
    let (prefix, star) = text.split_once('*').map_or((text, None), |(prefix, rest)| (prefix, Some(rest)));
    let literal =
        catalogue.select(|path| if star.is_some() { path.starts_with(prefix) } else { path == text });
    let mut methods = literal.clone();
    // A leading `*` repeats nothing and is no regular expression; as a prefix it is everything already.
    if !text.starts_with('*') {
        let regex = RegexBuilder::new(text)
            .size_limit(1 << 20)
            .build()
            .map_err(|why| format!("\"{text}\" is no regular expression: {}", last_line(&why.to_string())))?;
        methods.extend(&catalogue.select(|path| regex.is_match(path)));
    }
    let beyond = methods.without(&literal);
    let after_star = star.filter(|rest| !rest.is_empty()).map(str::to_owned);
    Ok(MethodPattern { methods, readings: Readings::default(), beyond, after_star })
}

/// A method of a native rule: the strict forms and the groups.
pub(crate) fn native(text: &str, catalogue: &MethodCatalogue) -> Result<MethodSet, Refused> {
    if text.starts_with('@') {
        let group = Permission::of_group(text).ok_or_else(|| {
            Refused::Malformed(format!("there is no group \"{text}\"; there are @read, @write and @admin"))
        })?;
        return Ok(catalogue.group(group));
    }
    let methods = strict(text, catalogue).map_err(Refused::Malformed)?;
    if methods.is_empty() { Err(Refused::Unknown(unknown(text, catalogue))) } else { Ok(methods) }
}
