//! Configuration of the registry adapter.

use crate::limits::Limits;
use dir_core::store::StoreError;
use reqwest::Url;
use std::fmt;
use std::time::Duration;
use zeroize::Zeroizing;

/// Default of [`OciConfig::address`].
pub const DEFAULT_REGISTRY_ADDRESS: &str = "127.0.0.1:5555";
/// Default of [`OciConfig::repository`].
pub const DEFAULT_REPOSITORY: &str = "dir";

/// How the directory presents itself to a registry. The memory of a secret is cleared when it is dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Not at all.
    #[default]
    Anonymous,
    /// User name and password: sent as such, or traded for a token when the registry asks for one.
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: Zeroizing<String>,
    },
    /// A bearer token as it is.
    AccessToken(Zeroizing<String>),
    /// A refresh token, traded for access tokens (OAuth 2.0, RFC 6749 section 6).
    RefreshToken(Zeroizing<String>),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Anonymous => f.write_str("Anonymous"),
            Credentials::Basic { username, .. } => write!(f, "Basic({username}, <redacted>)"),
            Credentials::AccessToken(_) => f.write_str("AccessToken(<redacted>)"),
            Credentials::RefreshToken(_) => f.write_str("RefreshToken(<redacted>)"),
        }
    }
}

/// `store.oci.layout`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layout {
    /// What the registry's stamp says. Without one: `single` when the repository holds anything, else `sharded`.
    #[default]
    Auto,
    /// A record and its referrers in `<repository>-<xyz>`, by the first three hex digits of the record's digest.
    Sharded,
    /// Everything in `<repository>`, as other directories do.
    Single,
}

/// Configuration of an [`OciStore`](super::OciStore).
#[derive(Debug, Clone)]
pub struct OciConfig {
    /// `host:port`, or an `http://` or `https://` address without a path. Default `127.0.0.1:5555`.
    pub address: String,
    /// Plain HTTP when the address does not say. Default true.
    pub insecure: bool,
    /// Repository, or the stem of the shards' names. Default `dir`.
    pub repository: String,
    /// Credentials, bound to the address. Default none.
    pub credentials: Credentials,
    /// Layout. Default `auto`.
    pub layout: Layout,
    /// What is stored or read at most.
    pub limits: Limits,
    /// A connection is given up after this long. Default 5 s.
    pub connect_timeout: Duration,
    /// A request is given up when nothing arrives for this long. Default 30 s.
    pub read_timeout: Duration,
    /// Requests of one walk or one listing that run at once. Default 8.
    pub parallel: usize,
}

impl Default for OciConfig {
    fn default() -> Self {
        Self {
            address: DEFAULT_REGISTRY_ADDRESS.to_owned(),
            insecure: true,
            repository: DEFAULT_REPOSITORY.to_owned(),
            credentials: Credentials::default(),
            layout: Layout::default(),
            limits: Limits::default(),
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(30),
            parallel: 8,
        }
    }
}

impl OciConfig {
    /// The address as a base URL.
    pub(super) fn base(&self) -> Result<Url, StoreError> {
        let text = if self.address.contains("://") {
            self.address.clone()
        } else {
            format!("{}://{}", if self.insecure { "http" } else { "https" }, self.address)
        };
        let wrong = |why: &str| StoreError::Layout(format!("{why}; check store.oci.registry_address"));
        // The address is not repeated: it may hold what should have been in auth_config.
        let url = Url::parse(&text).map_err(|e| wrong(&format!("registry address is not valid: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("registry address must use http or https scheme"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("registry address must not hold credentials: use store.oci.auth_config"));
        }
        if url.host_str().is_none_or(str::is_empty) || url.path() != "/" || url.query().is_some() {
            return Err(wrong("registry address must be host:port without a path"));
        }
        Ok(url)
    }

    /// The repository name, if it is one (distribution-spec 1.1, "Pulling manifests").
    pub(super) fn checked_repository(&self) -> Result<&str, StoreError> {
        if is_repository(&self.repository) {
            return Ok(&self.repository);
        }
        Err(StoreError::Layout(format!(
            "{:?} is no repository name: lower-case letters and digits, separated by '.', '_', '-' or '/', at most \
             200 characters; check store.oci.repository_name",
            self.repository
        )))
    }
}

fn is_repository(name: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part = |part: &str| {
        let separators = part.split(alphanumeric).filter(|s| !s.is_empty());
        part.starts_with(alphanumeric)
            && part.ends_with(alphanumeric)
            && separators
                .into_iter()
                .all(|s| s == "." || s == "_" || s == "__" || s.chars().all(|c| c == '-'))
    };
    name.len() <= 200 && name.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(address: &str, insecure: bool) -> Result<String, String> {
        let config = OciConfig { address: address.to_owned(), insecure, ..OciConfig::default() };
        config.base().map(|u| u.to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn the_scheme_is_the_address_s_own_or_follows_insecure() {
        assert_eq!(base("127.0.0.1:5555", true).unwrap(), "http://127.0.0.1:5555/");
        assert_eq!(base("zot.example", false).unwrap(), "https://zot.example/");
        assert_eq!(base("http://zot.example", false).unwrap(), "http://zot.example/");
        assert_eq!(base("https://[::1]:5000/", true).unwrap(), "https://[::1]:5000/");
    }

    #[test]
    fn other_addresses_are_refused_without_repeating_secrets() {
        assert!(
            base("ftp://zot", true)
                .unwrap_err()
                .starts_with("registry address must use http or https scheme")
        );
        for wrong in ["http://user:hunter2@zot", "http://zot/path", "http://zot?x=hunter2", "http://"] {
            let refused = base(wrong, true).unwrap_err();
            assert!(refused.contains("store.oci.registry_address"), "{refused}");
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn repository_names() {
        for good in ["dir", "a/b-c/d__e.f", "a--b", "0"] {
            assert!(is_repository(good), "{good}");
        }
        for bad in ["", "Dir", "-a", "a-", "a//b", "../x", "a..b", "a___b", "a b", "a%2fb", "/a", "a/"] {
            assert!(!is_repository(bad), "{bad}");
        }
        assert!(is_repository(&"a".repeat(200)));
        assert!(!is_repository(&"a".repeat(201)));
    }

    #[test]
    fn credentials_do_not_show() {
        let config = OciConfig {
            credentials: Credentials::Basic {
                username: "ann".into(),
                password: Zeroizing::new("hunter2".into()),
            },
            ..OciConfig::default()
        };
        let shown = format!("{config:?}");
        assert!(shown.contains("ann") && !shown.contains("hunter2"), "{shown}");
        for secret in [
            Credentials::AccessToken(Zeroizing::new("hunter2".into())),
            Credentials::RefreshToken(Zeroizing::new("hunter2".into())),
        ] {
            assert!(!format!("{secret:?}").contains("hunter2"));
        }
    }
}
