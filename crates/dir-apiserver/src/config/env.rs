//! The environment: names are made from the list of keys, because splitting a name at `_` cannot tell
//! `max_recv_msg_size` from a path.

use super::layers::{Layers, Problem, Source};
use super::leaf::Raw;
use super::secret::{EXPOSED, others_may_read};
use super::section::{Flag, Key};
use super::{ENV_PREFIX, suggest};
use std::path::Path;
use zeroize::Zeroizing;

/// Variables of existing charts that nothing ever read.
const LEGACY: [&str; 2] = ["DIRECTORY_SERVER_AUTHZ_SOCKET_PATH", "DIRECTORY_SERVER_AUTHZ_TRUST_DOMAIN"];
/// Beginning of the variables of the background tasks; most of these come with a later build.
const RECONCILER_PREFIX: &str = "RECONCILER_";
/// Suffix of the variable that names a file holding a secret.
const FILE_SUFFIX: &str = "_FILE";

/// Reads every `DIRECTORY_SERVER_*` variable of `vars` into `layers`. A variable set to the empty string counts.
pub(super) fn read(vars: &[(String, String)], keys: &[Key], layers: &mut Layers) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, value) in vars.iter().filter(|(name, _)| name.starts_with(ENV_PREFIX)) {
        if let Some(key) = keys.iter().find(|k| k.env() == *name) {
            layers.set(&key.path, Raw::Text(value.clone()), Source::Env(name.clone()));
        } else if let Some(key) = secret_file(name, keys) {
            if vars.iter().any(|(other, _)| *other == key.env()) {
                problems.push(Problem::error(
                    &key.path,
                    format!("{} and {name} are both set; keep one", key.env()),
                ));
                continue;
            }
            match std::fs::read_to_string(value) {
                Ok(text) => {
                    let text = Zeroizing::new(text);
                    let line = text.trim_end_matches(['\r', '\n']).to_owned();
                    layers.set(&key.path, Raw::Text(line), Source::Env(name.clone()));
                    if others_may_read(Path::new(value)) {
                        problems.push(Problem::warning(value, EXPOSED));
                    }
                }
                Err(error) => {
                    let text = format!("{name}: cannot read {value}: {error}");
                    problems.push(Problem::missing_secret(&key.path, text));
                }
            }
        } else if LEGACY.contains(&name.as_str()) {
            problems.push(Problem::warning(name, format!("ignored legacy variable {name}")));
        } else if !is_service_link(name) {
            problems.push(unknown(name, keys));
        }
    }
    problems.extend(reconciler(vars, keys, layers));
    problems
}

/// `RECONCILER_*` variables of existing deployments stand for the keys of the same names below `reconciler`.
fn reconciler(vars: &[(String, String)], keys: &[Key], layers: &mut Layers) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut others = false;
    for (name, value) in vars.iter().filter(|(name, _)| name.starts_with(RECONCILER_PREFIX)) {
        let ours = format!("{ENV_PREFIX}{name}");
        let Some(key) = keys.iter().find(|k| k.env() == ours) else {
            others = true;
            continue;
        };
        if vars.iter().any(|(other, _)| *other == ours) {
            problems.push(Problem::error(&key.path, format!("{ours} and {name} are both set; keep one")));
        } else {
            layers.set(&key.path, Raw::Text(value.clone()), Source::Env(name.clone()));
        }
    }
    if others {
        let name = format!("{RECONCILER_PREFIX}*");
        let text = format!("not available in this build: {name}, but for {RECONCILER_PREFIX}INDEXER_*");
        problems.push(Problem::warning(&name, text));
    }
    problems
}

fn secret_file<'a>(name: &str, keys: &'a [Key]) -> Option<&'a Key> {
    let base = name.strip_suffix(FILE_SUFFIX)?;
    keys.iter().find(|k| k.has(Flag::Secret) && k.env() == base)
}

/// Kubernetes gives every pod variables named after services; one called `directory-server…` lands on our prefix.
fn is_service_link(name: &str) -> bool {
    let port =
        |at: usize| name[at..].starts_with(|c: char| c.is_ascii_digit() || c == '_') || at == name.len();
    name.ends_with("_SERVICE_HOST")
        || ["_SERVICE_PORT", "_PORT"]
            .iter()
            .any(|mark| name.find(mark).is_some_and(|at| port(at + mark.len())))
        || name == "DIRECTORY_SERVER_PORT"
        || name
            .strip_prefix("DIRECTORY_SERVER_PORT_")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn unknown(name: &str, keys: &[Key]) -> Problem {
    // What all of them begin with makes none of them nearer.
    let known: Vec<String> = keys.iter().map(Key::env).collect();
    let own = |name: &'_ str| name.strip_prefix(ENV_PREFIX).map(str::to_owned).unwrap_or_default();
    let owns: Vec<String> = known.iter().map(|name| own(name)).collect();
    let hint = match suggest::nearest(&own(name), owns.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {ENV_PREFIX}{near}?"),
        None => "`dir-apiserver config env` lists every variable".to_owned(),
    };
    Problem::error(name, format!("unknown variable; {hint}"))
}

#[cfg(test)]
mod tests {
    use super::is_service_link;

    #[test]
    fn service_links_are_not_ours() {
        for name in [
            "DIRECTORY_SERVER_SERVICE_HOST",
            "DIRECTORY_SERVER_SERVICE_PORT",
            "DIRECTORY_SERVER_SERVICE_PORT_GRPC",
            "DIRECTORY_SERVER_PORT",
            "DIRECTORY_SERVER_PORT_8888_TCP_ADDR",
            "DIRECTORY_SERVER_ZOT_PORT_5000_TCP",
        ] {
            assert!(is_service_link(name), "{name}");
        }
        for name in ["DIRECTORY_SERVER_AUTHN_ENABELD", "DIRECTORY_SERVER_PORTAL", "DIRECTORY_SERVER_LISTEN"] {
            assert!(!is_service_link(name), "{name}");
        }
    }
}
