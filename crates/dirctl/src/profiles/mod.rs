//! Profiles: named settings in `$XDG_CONFIG_HOME/dirctl/config.yaml`. Other clients of this API call them contexts and
//! write the same file.

mod file;

pub(crate) use file::ProfileFile;

use crate::fail::Fail;
use dir_client::settings::Profile;
use std::path::PathBuf;

/// Names the profile when no flag does.
pub(crate) const ENV: &str = "DIRECTORY_CLIENT_CONTEXT";
/// Longest name.
const NAME_MAX: usize = 64;

/// Where profiles are kept: below `XDG_CONFIG_HOME` if that is an absolute path, else below `HOME/.config`.
pub(crate) fn path(env: &impl Fn(&str) -> Option<String>) -> Result<PathBuf, Fail> {
    let absolute = |name: &str| env(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let base = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    base.map(|base| base.join("dirctl").join("config.yaml")).ok_or_else(|| {
        let message = "there is no place for profiles: neither HOME nor XDG_CONFIG_HOME is an absolute path";
        Fail::config(message, "set one of them")
    })
}

/// The name of the profile that is in force, if one is: by flag, by environment, by the file itself.
pub(crate) fn chosen(
    flag: Option<&str>,
    env: &impl Fn(&str) -> Option<String>,
    file: &ProfileFile,
) -> Option<String> {
    let named = flag.map(str::to_owned).or_else(|| env(ENV).filter(|v| !v.is_empty()));
    named.or_else(|| file.current()).filter(|name| !name.is_empty())
}

/// The profile in force. A name that leads nowhere is an error; that there is no file is none.
pub(crate) fn in_force(
    flag: Option<&str>,
    env: &impl Fn(&str) -> Option<String>,
) -> Result<Option<Profile>, Fail> {
    let named = flag.is_some_and(|f| !f.is_empty()) || env(ENV).is_some_and(|v| !v.is_empty());
    let path = match path(env) {
        Ok(path) => path,
        // Without a home nobody has profiles; that matters only to those who name one.
        Err(_none) if !named => return Ok(None),
        Err(fail) => return Err(fail),
    };
    let file = ProfileFile::load(&path)?;
    chosen(flag, env, &file).map(|name| file.profile(&name)).transpose()
}

/// Whether this may be the name of a new profile: something every shell and every YAML reader takes as it is.
pub(crate) fn check_name(name: &str) -> Result<(), Fail> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let good = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(plain)
        && name.len() <= NAME_MAX;
    if good {
        return Ok(());
    }
    let next = "use up to 64 letters, digits, dots, dashes and underscores, a letter or digit first";
    Err(Fail::usage(format!("{name:?} is no name of a profile"), next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_profiles_are() {
        let at = |vars: &[(&str, &str)]| {
            path(&|name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
        };
        assert_eq!(at(&[("HOME", "/h")]).unwrap(), PathBuf::from("/h/.config/dirctl/config.yaml"));
        let both = at(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]);
        assert_eq!(both.unwrap(), PathBuf::from("/x/dirctl/config.yaml"));
        // The XDG specification: a relative path is ignored.
        let relative = at(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "x")]);
        assert_eq!(relative.unwrap(), PathBuf::from("/h/.config/dirctl/config.yaml"));
        assert_eq!(at(&[]).unwrap_err().code, 4);
        assert!(in_force(None, &|_: &str| None).unwrap().is_none());
        assert!(in_force(Some("a"), &|_: &str| None).is_err());
    }

    #[test]
    fn names() {
        for name in ["a", "prod", "eu-west.1_b", "7", &"x".repeat(64)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "-a", ".a", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert_eq!(check_name(name).unwrap_err().code, 2, "{name}");
        }
    }
}
