//! What a registry answers when it does not do what was asked.

use dir_core::store::StoreError;
use serde::Deserialize;
use std::fmt;

/// Longest part of a registry's own words that is passed on.
const MAX_WORDS: usize = 300;

/// Why a request failed. Where it went is in the context of the [`StoreError`](dir_core::store::StoreError) around it.
#[derive(Debug)]
pub(crate) enum RegistryFault {
    /// An answer with an error status; codes and message are the registry's own.
    Status {
        /// HTTP status.
        status: u16,
        /// Error codes of the specification, as sent.
        codes: Vec<String>,
        /// The first message, cut.
        message: String,
    },
    /// No answer.
    Transport(reqwest::Error),
    /// An answer that the specification does not allow.
    Protocol(String),
    /// This status to a listing of referrers, although the registry has the API: what there is stays unknown.
    Unlisted(u16),
}

impl RegistryFault {
    /// From the body of an error answer.
    pub(crate) fn from_answer(status: u16, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<One>,
        }
        #[derive(Deserialize)]
        struct One {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: String,
        }
        let errors = serde_json::from_slice::<Errors>(body).map(|e| e.errors).unwrap_or_default();
        let message = match errors.first() {
            Some(one) => one.message.clone(),
            None => String::from_utf8_lossy(&body[..body.len().min(MAX_WORDS)]).trim().to_owned(),
        };
        let message = message.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect();
        Self::Status { status, codes: errors.into_iter().map(|e| e.code).collect(), message }
    }

    /// Whether the same request may succeed later without anybody changing anything.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            // An unknown blob is uploaded again; a registry that shows blobs late has it by then.
            RegistryFault::Status { status, .. } => {
                matches!(status, 408 | 425 | 429 | 500..=599) || self.is_unknown_blob()
            }
            RegistryFault::Transport(error) => !error.is_builder() && !error.is_redirect(),
            RegistryFault::Protocol(_) | RegistryFault::Unlisted(_) => false,
        }
    }

    /// The fault of an error of the store, if it is one of a registry.
    pub(crate) fn of(error: &StoreError) -> Option<&Self> {
        let StoreError::Unavailable { source, .. } = error else { return None };
        source.downcast_ref()
    }

    /// Whether the registry says of itself that it failed.
    pub(crate) fn is_its_own(&self) -> bool {
        matches!(self, RegistryFault::Status { status: 500..=599, .. })
    }

    /// Whether a manifest was refused because a blob that it names is not there.
    pub(crate) fn is_unknown_blob(&self) -> bool {
        let RegistryFault::Status { status: 400 | 404, codes, .. } = self else { return false };
        codes
            .iter()
            .any(|c| matches!(c.as_str(), "MANIFEST_INVALID" | "MANIFEST_BLOB_UNKNOWN" | "BLOB_UNKNOWN"))
    }

    /// Whether the registry does not offer what was asked.
    pub(crate) fn is_unsupported(&self) -> bool {
        let RegistryFault::Status { status, codes, .. } = self else { return false };
        *status == 405 || codes.iter().any(|c| c == "UNSUPPORTED")
    }
}

impl fmt::Display for RegistryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegistryFault::Status { status, codes, message } => {
                write!(f, "HTTP {status}")?;
                for code in codes {
                    write!(f, " {code}")?;
                }
                if !message.is_empty() {
                    write!(f, " ({message})")?;
                }
                match status {
                    401 => f.write_str("; check store.oci.auth_config"),
                    403 => f.write_str("; these credentials may not do this"),
                    _ => Ok(()),
                }
            }
            RegistryFault::Transport(error) => {
                // The words of the innermost cause say most: "connection refused", not "error sending request".
                write!(f, "{error}")?;
                let mut cause = std::error::Error::source(error);
                while let Some(inner) = cause {
                    if inner.source().is_none() {
                        write!(f, ": {inner}")?;
                    }
                    cause = inner.source();
                }
                Ok(())
            }
            RegistryFault::Protocol(text) => f.write_str(text),
            RegistryFault::Unlisted(status) => write!(
                f,
                "HTTP {status}: the registry cannot say what refers to the records of this repository, because a \
                 manifest in it is missing or damaged; `dir-admin store audit` names it: put its file back, or \
                 delete that record and push it again"
            ),
        }
    }
}

impl std::error::Error for RegistryFault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_s_words_are_cut_and_cleaned() {
        let body = format!(r#"{{"errors":[{{"code":"DENIED","message":"no\nway {}"}}]}}"#, "x".repeat(1000));
        let fault = RegistryFault::from_answer(403, body.as_bytes());
        let text = fault.to_string();
        assert!(text.starts_with("HTTP 403 DENIED (noway xxx"), "{text}");
        assert!(text.len() < 400, "{}", text.len());
        assert!(!fault.is_transient());
        assert!(RegistryFault::from_answer(503, b"busy").is_transient());
    }
}
