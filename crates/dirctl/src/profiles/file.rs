//! The file: read leniently, written whole and at once, for its owner only.

use crate::fail::Fail;
use dir_client::settings::Profile;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const CURRENT: &str = "current_context";
const CONTEXTS: &str = "contexts";

/// What a file says, with everything that is not ours in it.
#[derive(Clone, PartialEq)]
pub(crate) struct ProfileFile {
    path: PathBuf,
    document: Map<String, Value>,
}

impl ProfileFile {
    /// Largest file that is read.
    pub(crate) const MAX_BYTES: u64 = 1024 * 1024;

    /// Reads a file; one that is absent says nothing.
    pub(crate) fn load(path: &Path) -> Result<Self, Fail> {
        let mut text = String::new();
        match File::open(path).and_then(|file| file.take(Self::MAX_BYTES + 1).read_to_string(&mut text)) {
            Ok(_) => Self::parse(path, &text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Ok(Self { path: path.to_owned(), document: Map::new() })
            }
            Err(e) => {
                Err(Fail::config(format!("read {}: {e}", path.display()), "make it readable, or remove it"))
            }
        }
    }

    /// Reads the text of a file.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, Fail> {
        let broken = |why: &str| {
            let next = "correct it; it holds current_context, and contexts with one mapping per profile";
            Fail::config(format!("{}: {why}", path.display()), next)
        };
        if text.len() as u64 > Self::MAX_BYTES {
            return Err(broken("larger than 1 MiB"));
        }
        let document = if text.trim().is_empty() {
            Map::new()
        } else {
            // The parser's own words may quote the file, secrets included.
            serde_saphyr::from_str::<Map<String, Value>>(text)
                .map_err(|_quoting| broken("not a YAML mapping"))?
        };
        match document.get(CURRENT) {
            None | Some(Value::Null | Value::String(_)) => {}
            Some(_) => return Err(broken("current_context is no text")),
        }
        match document.get(CONTEXTS) {
            None | Some(Value::Null) => {}
            Some(Value::Object(contexts)) if contexts.values().all(|c| c.is_object() || c.is_null()) => {}
            Some(_) => return Err(broken("contexts is not a mapping of mappings")),
        }
        Ok(Self { path: path.to_owned(), document })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The profile it names as the one to use.
    pub(crate) fn current(&self) -> Option<String> {
        self.document.get(CURRENT).and_then(Value::as_str).filter(|n| !n.is_empty()).map(str::to_owned)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.contexts().map(|contexts| contexts.keys().cloned().collect()).unwrap_or_default()
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.contexts().is_some_and(|contexts| contexts.contains_key(name))
    }

    /// One profile.
    pub(crate) fn profile(&self, name: &str) -> Result<Profile, Fail> {
        let Some(context) = self.contexts().and_then(|contexts| contexts.get(name)) else {
            return Err(self.absent(name));
        };
        let mut values = BTreeMap::new();
        flatten("", context, &mut values);
        Ok(Profile::new(name, values))
    }

    /// The failure to find a profile.
    pub(crate) fn absent(&self, name: &str) -> Fail {
        let names = self.names();
        let next = if names.is_empty() {
            "there is none yet: dirctl profile create NAME ADDRESS".to_owned()
        } else {
            format!("there are: {}", names.join(", "))
        };
        Fail::config(format!("there is no profile {name:?} in {}", self.path.display()), next)
    }

    pub(crate) fn set_current(&mut self, name: Option<&str>) {
        match name {
            Some(name) => self.document.insert(CURRENT.to_owned(), Value::String(name.to_owned())),
            None => self.document.remove(CURRENT),
        };
    }

    /// Adds a profile, or replaces the one of that name.
    pub(crate) fn put(&mut self, name: &str, values: &BTreeMap<&str, String>) {
        let values = values.iter().map(|(k, v)| ((*k).to_owned(), Value::String(v.clone()))).collect();
        self.edit(|contexts| contexts.insert(name.to_owned(), Value::Object(values)));
    }

    /// Takes a profile over from another file, as it is written there.
    pub(crate) fn adopt(&mut self, name: &str, other: &Self) {
        if let Some(value) = other.contexts().and_then(|contexts| contexts.get(name)) {
            self.edit(|contexts| contexts.insert(name.to_owned(), value.clone()));
        }
    }

    /// Removes a profile; one that was in use is in use no longer.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        if self.current().as_deref() == Some(name) {
            self.set_current(None);
        }
        self.edit(|contexts| contexts.remove(name)).is_some()
    }

    fn contexts(&self) -> Option<&Map<String, Value>> {
        self.document.get(CONTEXTS).and_then(Value::as_object)
    }

    fn edit<T>(&mut self, edit: impl FnOnce(&mut Map<String, Value>) -> T) -> T {
        let mut contexts = match self.document.remove(CONTEXTS) {
            Some(Value::Object(contexts)) => contexts,
            _ => Map::new(),
        };
        let done = edit(&mut contexts);
        self.document.insert(CONTEXTS.to_owned(), Value::Object(contexts));
        done
    }

    /// Changes the file under a lock, so that two programs do not undo each other's change.
    pub(crate) fn change<T>(
        path: &Path,
        change: impl FnOnce(&mut Self) -> Result<T, Fail>,
    ) -> Result<T, Fail> {
        let failed = |e: io::Error| {
            let next = "check the rights on this file and its directory";
            Fail::config(format!("write {}: {e}", path.display()), next)
        };
        let dir = path.parent().unwrap_or(Path::new("/"));
        private_dir(dir).map_err(failed)?;
        let lock = private_file(&dir.join(".config.lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        // A link stays a link: what it leads to is replaced.
        let mut file = Self::load(&fs::canonicalize(path).unwrap_or_else(|_absent| path.to_owned()))?;
        let before = file.document.clone();
        let done = change(&mut file)?;
        if file.document != before {
            file.replace().map_err(failed)?;
        }
        Ok(done)
    }

    /// Beside the old file first, on the disk, then in its place: nobody ever reads half a file.
    fn replace(&self) -> io::Result<()> {
        let text = serde_saphyr::to_string(&self.document).map_err(io::Error::other)?;
        let part = self.path.with_file_name(format!(".config.{}.part", std::process::id()));
        let written = private_file(&part).and_then(|mut file| {
            file.set_len(0)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        let done = written.and_then(|()| fs::rename(&part, &self.path));
        if done.is_err() {
            // What is left of a failed attempt may hold secrets.
            let _ = fs::remove_file(&part);
        }
        done
    }
}

fn private_dir(dir: &Path) -> io::Result<()> {
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => fs::set_permissions(dir, fs::Permissions::from_mode(0o700)),
    }
}

fn private_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Scalars by key; what is nested is named by its way, so that `tls: {server_name: a}` is `tls_server_name`.
fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    let text = match value {
        Value::Null => return,
        Value::Object(map) => {
            for (key, value) in map {
                let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}_{key}") };
                flatten(&key, value, into);
            }
            return;
        }
        Value::Array(items) => items.iter().map(scalar).collect::<Vec<_>>().join(","),
        other => scalar(other),
    };
    into.insert(prefix.to_owned(), text);
}

fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
current_context: prod
theme: dark
contexts:
  prod:
    server_address: grpcs://api.example.org
    tls:
      server_name: api
    tls_skip_verify: false
    oidc_scopes: [openid, email]
  empty:
";

    fn parse(text: &str) -> Result<ProfileFile, Fail> {
        ProfileFile::parse(Path::new("/c.yaml"), text)
    }

    #[test]
    fn what_other_clients_write_is_read() {
        let file = parse(TEXT).unwrap();
        assert_eq!(file.current().as_deref(), Some("prod"));
        assert_eq!(file.names(), ["empty", "prod"]);
        let prod = file.profile("prod").unwrap();
        assert_eq!(prod.get("tls_server_name"), Some("api"));
        assert_eq!(prod.get("oidc_scopes"), Some("openid,email"));
        assert_eq!(prod.get("tls_skip_verify"), Some("false"));
        assert_eq!(file.profile("empty").unwrap().get("server_address"), None);
        let absent = file.profile("x").unwrap_err();
        assert!(absent.code == 4 && absent.next.contains("empty, prod"), "{absent:?}");
    }

    #[test]
    fn broken_files_are_told_without_quoting_them() {
        for text in [
            "[s3cret]",
            "s3cret",
            "contexts: s3cret",
            "contexts: {a: s3cret}",
            "current_context: [s3cret]",
            "contexts: {a: {auth_token: s3cret}",
            "\t- s3cret: :",
        ] {
            let fail = parse(text).err().unwrap_or_else(|| panic!("{text}"));
            assert!(fail.code == 4 && !fail.message.contains("s3cret"), "{text}: {fail:?}");
        }
        assert!(parse(&" ".repeat(1024 * 1024 + 1)).is_err());
        assert!(parse(&format!("a: {}", "x".repeat(1024 * 1024 - 3))).is_ok(), "1 MiB exactly");
        assert!(parse("").unwrap().names().is_empty());
    }

    #[test]
    fn a_change_keeps_the_rest_and_the_rights() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/dirctl/config.yaml");
        let values = BTreeMap::from([("server_address", "h:1".to_owned())]);
        ProfileFile::change(&path, |file| {
            file.put("a", &values);
            Ok(())
        })
        .unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));

        fs::write(&path, TEXT).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        ProfileFile::change(&path, |file| {
            assert!(file.remove("empty") && !file.remove("empty"));
            file.put("a", &values);
            Ok(())
        })
        .unwrap();
        assert_eq!(mode(&path), 0o600);
        let file = ProfileFile::load(&path).unwrap();
        assert_eq!(
            (file.names(), file.current()),
            (vec!["a".to_owned(), "prod".into()], Some("prod".into()))
        );
        assert_eq!(file.profile("prod").unwrap().get("tls_server_name"), Some("api"));
        assert!(fs::read_to_string(&path).unwrap().contains("theme: dark"));
        let left: Vec<_> =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "the file and its lock: {left:?}");
    }

    #[test]
    fn changes_at_once_all_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        std::thread::scope(|scope| {
            for n in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    ProfileFile::change(path, |file| {
                        file.put(&format!("p{n}"), &BTreeMap::new());
                        Ok(())
                    })
                });
            }
        });
        assert_eq!(ProfileFile::load(&path).unwrap().names().len(), 8);
    }

    #[test]
    fn a_link_stays_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real/own.yaml"), dir.path().join("config.yaml"));
        fs::create_dir(real.parent().unwrap()).unwrap();
        fs::write(&real, TEXT).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        ProfileFile::change(&link, |file| {
            file.set_current(None);
            Ok(())
        })
        .unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(ProfileFile::load(&real).unwrap().current(), None);
    }
}
