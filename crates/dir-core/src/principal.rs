//! Who a call is made by: a workload with an identity, a person or job that a trusted gateway speaks for, or nobody.

use crate::identity::{IdError, SpiffeId};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest OIDC principal that is accepted, in bytes.
pub const OIDC_MAX: usize = 1024;
/// Longest role claim that is looked at, in bytes.
pub const CLAIM_MAX: usize = 256;

/// Who a call is made by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Nobody: authentication is off, or there was none.
    Anonymous,
    /// Nobody, over the HTTP gateway: `anonymous:http`.
    Http,
    /// A workload with an SVID.
    Spiffe(SpiffeId),
    /// Somebody whom an OIDC provider knows, as a trusted gateway says: `oidc:<provider>:…`.
    Oidc(OidcPrincipal),
}

impl Principal {
    /// The SPIFFE ID, if there is one.
    pub fn spiffe_id(&self) -> Option<&SpiffeId> {
        match self {
            Principal::Spiffe(id) => Some(id),
            Principal::Anonymous | Principal::Http | Principal::Oidc(_) => None,
        }
    }

    /// Whether it is somebody: whoever pushes a record without an identity does not own it.
    pub fn can_own(&self) -> bool {
        matches!(self, Principal::Spiffe(_) | Principal::Oidc(_))
    }

    /// As audit lines, reports and policies spell it.
    pub fn as_str(&self) -> &str {
        match self {
            Principal::Anonymous => "anonymous",
            Principal::Http => "anonymous:http",
            Principal::Spiffe(id) => id.as_str(),
            Principal::Oidc(who) => who.as_str(),
        }
    }

    /// Reads the principal that a gateway speaks for: `spiffe:spiffe://td/path` or `oidc:<provider>:…`.
    pub fn parse_delegated(text: &str) -> Result<Self, DelegatedError> {
        if let Some(id) = text.strip_prefix("spiffe:").filter(|id| id.starts_with("spiffe://")) {
            let id: SpiffeId = id.parse().map_err(|_bad: IdError| DelegatedError::Spiffe)?;
            return if id.is_root() { Err(DelegatedError::Spiffe) } else { Ok(Principal::Spiffe(id)) };
        }
        if text.starts_with("oidc:") {
            return Ok(Principal::Oidc(text.parse()?));
        }
        Err(DelegatedError::Form)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text names nobody that a gateway can speak for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DelegatedError {
    /// Neither of the two forms.
    #[error("a delegated principal is `spiffe:spiffe://td/path` or `oidc:<provider>:<principal>`")]
    Form,
    /// No SPIFFE ID of a workload.
    #[error("after `spiffe:` comes the SPIFFE ID of a workload")]
    Spiffe,
    /// Not the form of an OIDC principal.
    #[error(
        "an OIDC principal is `oidc:<provider>:<principal>` of visible ASCII without `*`, at most {OIDC_MAX} bytes; \
         the provider has a-z, 0-9, '.', '-' and '_'"
    )]
    Oidc,
}

/// Somebody whom an OIDC provider knows: `oidc:<provider>:<principal>`, `oidc:<provider>:group:<g>` or
/// `oidc:github:repo:<o/r>:workflow:<file>:ref:<ref>[:env:<e>]`. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OidcPrincipal(Arc<str>);

impl OidcPrincipal {
    /// The whole text, `oidc:` included.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OidcPrincipal {
    type Err = DelegatedError;

    fn from_str(text: &str) -> Result<Self, DelegatedError> {
        let parts = text.strip_prefix("oidc:").and_then(|rest| rest.split_once(':'));
        let (provider, who) = parts.ok_or(DelegatedError::Oidc)?;
        let name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        let good = !provider.is_empty()
            && provider.bytes().all(name)
            && !who.is_empty()
            && who.bytes().all(|b| b.is_ascii_graphic() && b != b'*')
            && text.len() <= OIDC_MAX;
        if good { Ok(Self(text.into())) } else { Err(DelegatedError::Oidc) }
    }
}

/// What a token says of the role of its bearer: claims `org`, `project` and `role`. Absent claims are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct RoleClaims {
    /// Claim `org`.
    pub org: String,
    /// Claim `project`.
    pub project: String,
    /// Claim `role`.
    pub role: String,
}

impl RoleClaims {
    /// The three claims; `None` when there is no role, or one of them is no plain name of at most [`CLAIM_MAX`] bytes.
    pub fn new(org: &str, project: &str, role: &str) -> Option<Self> {
        let good = |text: &str| {
            text.len() <= CLAIM_MAX && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b'*'))
        };
        (!role.is_empty() && [org, project, role].into_iter().all(good)).then(|| Self {
            org: org.to_owned(),
            project: project.to_owned(),
            role: role.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k_forms_of_a_delegated_principal() {
        for text in [
            "oidc:google:alice@acme.example",
            "oidc:dex:group:writers",
            "oidc:github:repo:acme/agents:workflow:release.yml:ref:refs/heads/main",
            "oidc:github:repo:acme/agents:workflow:release.yml:ref:refs/heads/main:env:prod",
        ] {
            assert_eq!(Principal::parse_delegated(text).unwrap().as_str(), text);
        }
        let id = Principal::parse_delegated("spiffe:spiffe://acme.example/ns/web").unwrap();
        assert_eq!(id.spiffe_id().unwrap().as_str(), "spiffe://acme.example/ns/web");
        let edge = format!("oidc:x:{}", "a".repeat(OIDC_MAX - 7));
        assert!(Principal::parse_delegated(&edge).is_ok());
        assert_eq!(Principal::parse_delegated(&format!("{edge}a")), Err(DelegatedError::Oidc));
    }

    #[test]
    fn k_what_names_nobody() {
        use DelegatedError::{Form, Oidc, Spiffe};
        for (text, error) in [
            ("", Form),
            ("alice", Form),
            ("anonymous", Form),
            ("anonymous:http", Form),
            ("spiffe://acme.example/w", Form),
            ("OIDC:google:alice", Form),
            ("spiffe:spiffe://acme.example", Spiffe),
            ("spiffe:spiffe://acme.example/a/../b", Spiffe),
            ("oidc:google", Oidc),
            ("oidc::alice", Oidc),
            ("oidc:google:", Oidc),
            ("oidc:Google:alice", Oidc),
            ("oidc:google:al ice", Oidc),
            ("oidc:github:repo:acme/agents:workflow:ci.yml:ref:refs/heads/*", Oidc),
        ] {
            assert_eq!(Principal::parse_delegated(text), Err(error), "{text}");
        }
    }

    #[test]
    fn role_claims_are_plain_names() {
        assert!(RoleClaims::new("acme", "agents", "editor").is_some());
        assert!(RoleClaims::new("", "", "editor").is_some());
        for (org, project, role) in
            [("acme", "agents", ""), ("a/b", "c", "editor"), ("*", "c", "editor"), ("a", "c", "e d")]
        {
            assert_eq!(RoleClaims::new(org, project, role), None);
        }
        let long = "x".repeat(CLAIM_MAX);
        assert!(RoleClaims::new(&long, "", "r").is_some());
        assert!(RoleClaims::new(&format!("{long}x"), "", "r").is_none());
    }
}
