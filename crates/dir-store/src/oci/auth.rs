//! Credentials: what goes into `Authorization`, and tokens for registries that want them.

use super::config::{Credentials, OciConfig};
use super::error::RegistryFault;
use data_encoding::BASE64;
use dir_core::store::StoreError;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};
use parking_lot::RwLock;
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use std::collections::HashMap;
use zeroize::Zeroizing;

/// Chooses the `Authorization` of each request.
pub(super) struct Authorizer {
    credentials: Credentials,
    /// What is sent when no token has been asked for.
    fixed: Option<HeaderValue>,
    /// Tokens by repository and whether they may write.
    tokens: RwLock<HashMap<(String, bool), HeaderValue>>,
    oci: oci_client::Client,
    http: reqwest::Client,
    registry: String,
}

impl Authorizer {
    pub(super) fn new(
        config: &OciConfig,
        base: &Url,
        registry: &str,
        http: reqwest::Client,
    ) -> Result<Self, StoreError> {
        let protocol = if base.scheme() == "http" { ClientProtocol::Http } else { ClientProtocol::Https };
        let fixed = match &config.credentials {
            Credentials::Basic { username, password } => {
                let pair = Zeroizing::new(format!("{username}:{}", password.as_str()));
                let pair = Zeroizing::new(BASE64.encode(pair.as_bytes()));
                Some(secret(&Zeroizing::new(format!("Basic {}", pair.as_str())))?)
            }
            Credentials::AccessToken(token) => {
                Some(secret(&Zeroizing::new(format!("Bearer {}", token.as_str())))?)
            }
            Credentials::Anonymous | Credentials::RefreshToken(_) => None,
        };
        let oci = oci_client::Client::new(ClientConfig {
            protocol,
            connect_timeout: Some(config.connect_timeout),
            read_timeout: Some(config.read_timeout),
            ..ClientConfig::default()
        });
        Ok(Self {
            credentials: config.credentials.clone(),
            fixed,
            tokens: RwLock::default(),
            oci,
            http,
            registry: registry.to_owned(),
        })
    }

    /// The header for a request.
    pub(super) fn header(&self, repository: &str, writes: bool) -> Option<HeaderValue> {
        let tokens = self.tokens.read();
        if tokens.is_empty() {
            return self.fixed.clone();
        }
        tokens.get(&(repository.to_owned(), writes)).cloned().or_else(|| self.fixed.clone())
    }

    /// After a 401: a new token, when the challenge asks for one. `false`: these credentials are refused.
    pub(super) async fn renew(
        &self,
        challenge: Option<&HeaderValue>,
        repository: &str,
        writes: bool,
    ) -> Result<bool, RegistryFault> {
        let Some(challenge) = challenge.and_then(|c| c.to_str().ok()).and_then(Challenge::parse) else {
            return Ok(false);
        };
        let token = match &self.credentials {
            Credentials::AccessToken(_) => return Ok(false),
            Credentials::RefreshToken(refresh) => {
                self.refresh(&challenge, refresh, repository, writes).await?
            }
            Credentials::Anonymous => self.trade(&RegistryAuth::Anonymous, repository, writes).await?,
            Credentials::Basic { username, password } => {
                self.trade(&RegistryAuth::Basic(username.clone(), password.to_string()), repository, writes)
                    .await?
            }
        };
        let Some(token) = token.map(Zeroizing::new) else { return Ok(false) };
        let value = secret(&Zeroizing::new(format!("Bearer {}", token.as_str())))
            .map_err(|e| RegistryFault::Protocol(e.to_string()))?;
        self.tokens.write().insert((repository.to_owned(), writes), value);
        Ok(true)
    }

    async fn trade(
        &self,
        auth: &RegistryAuth,
        repository: &str,
        writes: bool,
    ) -> Result<Option<String>, RegistryFault> {
        let reference =
            Reference::with_tag(self.registry.clone(), repository.to_owned(), "latest".to_owned());
        let operation = if writes { RegistryOperation::Push } else { RegistryOperation::Pull };
        match self.oci.auth(&reference, auth, operation).await {
            Ok(token) => Ok(token),
            Err(OciDistributionError::AuthenticationFailure(_)) => Ok(None),
            Err(OciDistributionError::RequestError(e)) => Err(RegistryFault::Transport(e.without_url())),
            // Its other texts may repeat what the token service said, which is not for a log.
            Err(_) => Err(RegistryFault::Protocol("the token service gave no usable answer".to_owned())),
        }
    }

    /// Trades a refresh token, which `oci-client` cannot (distribution: token/oauth).
    async fn refresh(
        &self,
        challenge: &Challenge,
        refresh: &str,
        repository: &str,
        writes: bool,
    ) -> Result<Option<String>, RegistryFault> {
        #[derive(Deserialize)]
        struct Granted {
            #[serde(default)]
            access_token: String,
            #[serde(default)]
            token: String,
        }
        let Ok(realm) = Url::parse(&challenge.realm) else {
            return Err(RegistryFault::Protocol("the registry names no token service".to_owned()));
        };
        let scope = format!("repository:{repository}:{}", if writes { "pull,push,delete" } else { "pull" });
        // Url knows how to write a form; only its query is used.
        let mut form = realm.clone();
        form.set_query(None);
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", &challenge.service)
            .append_pair("client_id", "directory")
            .append_pair("scope", &scope)
            .append_pair("refresh_token", refresh);
        let body = form.query().unwrap_or_default().to_owned();
        let request =
            self.http.post(realm).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
        let answer = request.send().await.map_err(|e| RegistryFault::Transport(e.without_url()))?;
        if !answer.status().is_success() {
            return Ok(None);
        }
        let granted: Granted = answer.json().await.map_err(|e| RegistryFault::Transport(e.without_url()))?;
        let token = if granted.access_token.is_empty() { granted.token } else { granted.access_token };
        Ok((!token.is_empty()).then_some(token))
    }
}

/// A header value that does not show in logs.
fn secret(text: &str) -> Result<HeaderValue, StoreError> {
    let mut value = HeaderValue::from_str(text).map_err(|_hidden| {
        StoreError::Layout(
            "registry credentials hold characters that HTTP cannot carry; check store.oci.auth_config".into(),
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A `Bearer` challenge (RFC 6750 section 3).
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    realm: String,
    service: String,
}

impl Challenge {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let value = |name: &str| {
            let start = rest.find(&format!("{name}=\""))? + name.len() + 2;
            let end = rest[start..].find('"')?;
            Some(rest[start..start + end].to_owned())
        };
        Some(Self { realm: value("realm")?, service: value("service").unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let parsed = Challenge::parse(r#"Bearer realm="https://a/token",service="s",scope="x""#);
        assert_eq!(parsed, Some(Challenge { realm: "https://a/token".into(), service: "s".into() }));
        assert_eq!(Challenge::parse(r#"Basic realm="x""#), None);
        assert_eq!(Challenge::parse("Bearer"), None);
    }
}
