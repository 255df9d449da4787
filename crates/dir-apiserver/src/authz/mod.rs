//! The policy file: from a path to a compiled policy, at the start and whenever the file changes.

mod native;
pub(crate) mod reload;

use crate::config::keys::{Authz, MethodMatching, Reaction};
use dir_core::TrustDomain;
use dir_core::policy::{Fault, Loaded, Matching, POLICY_MAX_BYTES, PolicyError, UnknownMethod};
use dir_core::{Policy, policy};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// How a policy file is read.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) matching: Matching,
    pub(crate) unknown: UnknownMethod,
    /// The own trust domain, when it is known: native rules may speak of `local` and `federated`.
    pub(crate) own: Option<TrustDomain>,
    pub(crate) shadow: bool,
}

/// Why a policy file gives no policy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It holds no policy.
    #[error("{0}")]
    Policy(#[from] PolicyError),
}

impl ReadError {
    /// The faults, one by one.
    pub(crate) fn faults(self) -> Vec<Fault> {
        match self {
            ReadError::Policy(error) => error.faults,
            ReadError::Io(_) => vec![Fault { line: None, rule: None, text: self.to_string() }],
        }
    }
}

impl Source {
    /// As the configuration says.
    pub(crate) fn configured(authz: &Authz, own: Option<TrustDomain>) -> Self {
        Self {
            path: authz.enforcer_policy_file_path.clone(),
            matching: match authz.method_matching {
                MethodMatching::Strict => Matching::Strict,
                MethodMatching::Compat => Matching::Compat,
            },
            unknown: match authz.unknown_method {
                Reaction::Error => UnknownMethod::Error,
                Reaction::Warn => UnknownMethod::Warn,
            },
            own,
            shadow: !authz.enforce,
        }
    }

    /// How the file's native rules are written; `None` when it holds others.
    pub(crate) fn native(&self) -> Option<native::Form> {
        let extension = self.path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "yaml" | "yml" => Some(native::Form::Yaml),
            "toml" => Some(native::Form::Toml),
            _ => None,
        }
    }

    /// The text of the file.
    pub(crate) fn text(&self) -> Result<String, ReadError> {
        read_bounded(&self.path)
    }

    /// The policy in a text.
    pub(crate) fn parse(&self, text: &str) -> Result<Loaded, ReadError> {
        let catalogue = dir_api::method_catalogue();
        let mut loaded = if let Some(form) = self.native() {
            let native::Native { rules, roles } = native::read(text, form)?;
            Policy::from_native(rules, &roles, self.own.as_ref(), &catalogue, self.unknown)?
        } else {
            Policy::parse_csv(text, self.matching, &catalogue, self.unknown)?
        };
        loaded.policy = loaded.policy.shadow(self.shadow);
        Ok(loaded)
    }

    /// Reads the file.
    pub(crate) fn read(&self) -> Result<Loaded, ReadError> {
        self.parse(&self.text()?)
    }
}

/// A file of at most the size of a policy; a byte more is read, so that the policy itself says that it is too large.
pub(crate) fn read_bounded(path: &Path) -> Result<String, ReadError> {
    let mut text = String::new();
    let most = u64::try_from(POLICY_MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(most).read_to_string(&mut text)?;
    Ok(text)
}

/// `strict` or `compat`, for reports.
pub(crate) const fn matching_name(matching: Matching) -> &'static str {
    match matching {
        policy::Matching::Strict => "strict",
        policy::Matching::Compat => "compat",
    }
}
