//! How the tree of keys is declared: a section lists its keys once, with type, default and help. The struct,
//! the environment names, the reference page and `config explain` all come from that one list.

use super::layers::Reader;

/// What is special about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// The value is a credential: shown as `***`, and a `_FILE` variable names a file that holds it.
    Secret,
    /// Too structured for a variable: set it in the file.
    FileOnly,
    /// The part it switches on does not exist in this build.
    Absent,
    /// Belongs to a part that does not exist in this build: parsed, validated, and otherwise unused.
    Inert,
    /// Carried by existing files and without effect in any version.
    NoEffect,
    /// Taken over at SIGHUP, without a restart.
    Reload,
}

/// One key.
#[derive(Debug, Clone)]
pub struct Key {
    /// Full path, such as `connection.keepalive.time`.
    pub path: String,
    /// Type in words.
    pub kind: String,
    /// Default as one would write it.
    pub default: &'static str,
    /// One sentence or two.
    pub help: String,
    /// What is special about it.
    pub flags: Vec<Flag>,
}

impl Key {
    /// Whether a flag is set.
    pub fn has(&self, flag: Flag) -> bool {
        self.flags.contains(&flag)
    }

    /// The environment variable of the key.
    pub fn env(&self) -> String {
        format!("{}{}", super::ENV_PREFIX, self.path.replace(['.', '-'], "_").to_ascii_uppercase())
    }
}

/// A group of keys.
pub trait Section: Sized {
    /// Appends every key below `path`.
    fn keys(path: &str, out: &mut Vec<Key>);
    /// Takes every value below `path`; errors are collected by the reader.
    fn read(path: &str, from: &mut Reader<'_>) -> Self;
}

/// `path.name`, or `name` at the root. Raw identifiers lose their prefix.
pub fn join(path: &str, name: &str) -> String {
    let name = name.strip_prefix("r#").unwrap_or(name);
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Lines of a doc comment as one text.
pub fn help(lines: &[&str]) -> String {
    lines.iter().map(|l| l.trim()).collect::<Vec<_>>().join(" ")
}

/// Declares a section. `name: Type = "default" [Flags]` is a key, `name: Type` a section below.
macro_rules! section {
    ($(#[doc = $about:literal])+ $name:ident {
        $($(#[doc = $help:literal])+ $field:ident: $ty:ty $(= $default:literal $([$($flag:ident),+])?)?,)*
    }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone)]
        pub struct $name { $($(#[doc = $help])+ pub $field: $ty,)* }

        impl $crate::config::section::Section for $name {
            fn keys(path: &str, out: &mut Vec<$crate::config::section::Key>) {
                $($crate::config::section::section!(@key path out [$($help),+] $field $ty; $($default $($($flag)+)?)?);)*
            }

            fn read(path: &str, from: &mut $crate::config::layers::Reader<'_>) -> Self {
                Self { $($field: $crate::config::section::section!(@read path from $field $ty; $($default)?),)* }
            }
        }
    };
    (@key $path:ident $out:ident [$($help:literal),+] $field:ident $ty:ty; ) => {
        <$ty as $crate::config::section::Section>::keys(
            &$crate::config::section::join($path, stringify!($field)), $out)
    };
    (@key $path:ident $out:ident [$($help:literal),+] $field:ident $ty:ty; $default:literal $($flag:ident)*) => {
        $out.push($crate::config::section::Key {
            path: $crate::config::section::join($path, stringify!($field)),
            kind: <$ty as $crate::config::leaf::Leaf>::kind(),
            default: $default,
            help: $crate::config::section::help(&[$($help),+]),
            flags: vec![$($crate::config::section::Flag::$flag),*],
        })
    };
    (@read $path:ident $from:ident $field:ident $ty:ty; ) => {
        <$ty as $crate::config::section::Section>::read(
            &$crate::config::section::join($path, stringify!($field)), $from)
    };
    (@read $path:ident $from:ident $field:ident $ty:ty; $default:literal) => {
        $from.leaf::<$ty>(&$crate::config::section::join($path, stringify!($field)), $default)
    };
}
pub(crate) use section;
