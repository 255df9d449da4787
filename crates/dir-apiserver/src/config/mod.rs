//! Configuration: one list of keys, four sources, one rank (flag, variable, file, default), all problems at once.

mod duration;
mod env;
mod file;
pub mod keys;
pub mod layers;
pub mod leaf;
mod listen;
mod networks;
mod partners;
mod production;
pub mod reference;
mod secret;
pub mod section;
mod suggest;
#[cfg(test)]
mod tests;
mod validate;

use keys::{Config, Profile};
use layers::{Entry, Layers, Problem, Reader, Severity, Source, idle_keys};
use leaf::Raw;
use section::{Key, Section};
use std::fmt;
use std::path::{Path, PathBuf};
use zeroize::Zeroize;

pub use duration::{format as format_duration, parse as parse_duration};
pub use listen::Listen;
pub use production::public_name_problem;
pub use secret::{HIDDEN, Secret};

/// Beginning of every environment variable.
pub const ENV_PREFIX: &str = "DIRECTORY_SERVER_";
/// The file that is read when none is named; it may be absent.
pub const DEFAULT_FILE: &str = "/etc/agntcy/dir/server.config.yml";

/// What a configuration is made of. The binary fills it in; nothing below reads the process. `Debug` shows no value:
/// any of them may be a credential.
#[derive(Clone, Default)]
pub struct Inputs {
    /// The file named on the command line; it must exist.
    pub file: Option<PathBuf>,
    /// The environment.
    pub vars: Vec<(String, String)>,
    /// Values that a flag such as `--dev` stands for: key, value, flag.
    pub presets: Vec<(String, String, String)>,
    /// Values given by flags: key, value, flag.
    pub flags: Vec<(String, String, String)>,
    /// Home directory of the user.
    pub home: String,
}

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags: Vec<_> =
            self.presets.iter().chain(&self.flags).map(|(key, _, flag)| (key, flag)).collect();
        f.debug_struct("Inputs").field("file", &self.file).field("flags", &flags).finish_non_exhaustive()
    }
}

impl Inputs {
    /// Clears the memory of every value, once a configuration is made of them.
    pub fn clear(&mut self) {
        self.vars.iter_mut().for_each(|(_, value)| value.zeroize());
        self.flags.iter_mut().for_each(|(_, value, _)| value.zeroize());
    }
}

/// A configuration with the origin of each value.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Typed values.
    pub config: Config,
    /// Every key with value and source, in the order of the reference.
    pub entries: Vec<Entry>,
    /// Everything found wrong or worth saying.
    pub problems: Vec<Problem>,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// Home directory of the user, for places that have no key.
    pub home: String,
}

impl Loaded {
    /// The findings that refuse the start.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|p| p.severity == Severity::Error)
    }

    /// The findings that are said in the log.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|p| p.severity == Severity::Warning)
    }

    /// Where the value of a key comes from.
    pub fn source(&self, key: &str) -> &Source {
        self.entries.iter().find(|e| e.key == key).map_or(&Source::Default, |e| &e.source)
    }
}

/// Every key, in the order of the reference.
pub fn all_keys() -> Vec<Key> {
    let mut keys = Vec::new();
    Config::keys("", &mut keys);
    keys
}

/// Reads, ranks, types and judges a configuration. `profile` overrides the configured one for judging only.
pub fn load(inputs: &Inputs, profile: Option<Profile>) -> Loaded {
    let keys = all_keys();
    let mut layers = Layers::default();
    let file = inputs.file.clone().or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|f| f.exists()));
    let mut problems = Vec::new();
    if let Some(path) = &file {
        problems.append(&mut file::read(path, &keys, &mut layers));
    }
    problems.append(&mut env::read(&inputs.vars, &keys, &mut layers));
    set_all(&inputs.presets, &keys, &mut layers, Source::Preset, &mut problems);
    set_all(&inputs.flags, &keys, &mut layers, Source::Flag, &mut problems);

    let (config, entries, mut unread) = read(&layers, &inputs.home);
    let (_, standard, _) = read(&Layers::default(), &inputs.home);
    problems.append(&mut unread);
    problems.append(&mut idle_keys(&keys, &entries, &standard));
    let mut loaded = Loaded { config, entries, problems: Vec::new(), file, home: inputs.home.clone() };
    // What an unreadable file would have said is unknown: nothing is said to be missing because of that.
    let unread = loaded.file.as_ref().map(|path| path.display().to_string());
    if problems.iter().any(|problem| Some(&problem.key) == unread.as_ref()) {
        loaded.problems = problems;
        return loaded;
    }
    problems.append(&mut validate::check(&loaded));
    problems.extend(secret::exposed(&loaded, &keys));
    if profile.unwrap_or(loaded.config.profile) == Profile::Production {
        problems.append(&mut production::check(&loaded, &keys));
    }
    loaded.problems = problems;
    loaded
}

fn read(layers: &Layers, home: &str) -> (Config, Vec<Entry>, Vec<Problem>) {
    let mut reader = Reader::new(layers, home);
    let config = Config::read("", &mut reader);
    let (entries, problems) = reader.finish();
    (config, entries, problems)
}

fn set_all(
    values: &[(String, String, String)],
    keys: &[Key],
    layers: &mut Layers,
    source: fn(String) -> Source,
    problems: &mut Vec<Problem>,
) {
    for (key, value, flag) in values {
        if keys.iter().any(|k| k.path == *key) {
            layers.set(key, Raw::Text(value.clone()), source(flag.clone()));
        } else {
            problems.push(file::unknown(key, keys, &format!("in {flag}")));
        }
    }
}

/// The nearest key to a misspelt one.
pub fn nearest_key<'a>(wrong: &str, keys: &'a [Key]) -> Option<&'a str> {
    suggest::nearest(wrong, keys.iter().map(|k| k.path.as_str()))
}

/// Whether a path is given.
pub fn given(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}
