//! The verdict of an external schema server: one request a record, no retry, no cache.

use crate::rules::SetupError;
use async_trait::async_trait;
use dir_core::RecordFacts;
use dir_core::json::Doc;
use dir_core::rules::{RecordRules, RuleError};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url};
use serde::Deserialize;
use std::fmt::{Display, Write};
use std::time::Duration;

/// Longest time for one verdict, connecting included.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Largest answer of a schema server that is read, in bytes.
pub const RESPONSE_MAX: usize = 4 << 20;

/// Rules with an external verdict.
#[derive(Clone)]
pub struct RemoteRules {
    client: Client,
    /// Without a slash at its end.
    base: String,
    /// The same without credentials, for texts.
    public_base: String,
}

impl std::fmt::Debug for RemoteRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteRules").field("base", &self.public_base).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Verdict {
    #[serde(default)]
    errors: Option<Vec<Finding>>,
    #[serde(default)]
    warnings: Option<Vec<Finding>>,
}

#[derive(Deserialize)]
struct Finding {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    attribute_path: Option<String>,
    #[serde(default)]
    constraint: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Finding {
    fn path(&self) -> Option<&str> {
        self.attribute_path.as_deref().filter(|path| !path.is_empty())
    }

    fn error(&self) -> String {
        let message = self.message.as_deref().unwrap_or_default();
        let mut text = match self.path() {
            Some(path) => format!("ERROR: {message} Attribute path: {path}."),
            None => format!("ERROR: Validation Error: {message}"),
        };
        if self.error.as_deref() == Some("constraint_failed")
            && let Some(constraint) = &self.constraint
            && let Ok(constraint) = serde_json::to_string(constraint)
        {
            // Writing into a String cannot fail.
            let _ = write!(text, " Constraint: {constraint}");
        }
        text
    }

    fn warning(&self) -> String {
        let message = self.message.as_deref().unwrap_or_default();
        match self.path() {
            Some(path) => format!("WARNING: {message} Attribute path: {path}."),
            None => format!("WARNING: {message}"),
        }
    }
}

impl RemoteRules {
    /// Rules that ask the server at `schema_url`; without a scheme it is `http`. The process-wide rustls provider
    /// must be installed before.
    pub fn new(schema_url: &str, timeout: Duration) -> Result<Self, SetupError> {
        let base =
            if schema_url.contains("://") { schema_url.to_owned() } else { format!("http://{schema_url}") };
        let base = base.strip_suffix('/').unwrap_or(&base).to_owned();
        let public_base = public(&base).ok_or_else(|| SetupError::BadUrl(redact(schema_url)))?;
        // Proxy variables are environment, which is read by the binaries alone.
        let client = Client::builder().timeout(timeout).no_proxy().build().map_err(SetupError::Client)?;
        Ok(Self { client, base, public_base })
    }

    async fn ask(&self, doc: &Doc, version: &str) -> Result<Verdict, String> {
        let path =
            format!("/api/{}/validate/object/record?missing_recommended=true", percent_encoded(version));
        let url = format!("{}{path}", self.public_base);
        let body = doc.canonical().map_err(|error| format!("failed to marshal record to JSON: {error}"))?;
        let sent = self
            .client
            .post(format!("{}{path}", self.base))
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await;
        let mut response =
            sent.map_err(|error| format!("failed to send POST request to {url}: {}", causes(error)))?;
        if response.status() != reqwest::StatusCode::OK {
            let code = response.status().as_u16();
            return Err(format!("failed to validate record at URL {url}: HTTP {code}"));
        }
        let unreadable =
            |cause: &dyn Display| format!("failed to decode validation response from URL {url}: {cause}");
        let mut answer = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| unreadable(&causes(error)))? {
            if answer.len() + part.len() > RESPONSE_MAX {
                return Err(unreadable(&format!("longer than {RESPONSE_MAX} bytes")));
            }
            answer.extend_from_slice(&part);
        }
        // By way of a map, because a struct would also be read from an array.
        let members: serde_json::Map<_, _> =
            serde_json::from_slice(&answer).map_err(|error| unreadable(&error))?;
        Verdict::deserialize(serde_json::Value::Object(members)).map_err(|error| unreadable(&error))
    }
}

#[async_trait]
impl RecordRules for RemoteRules {
    fn facts(&self, doc: &Doc) -> Result<RecordFacts, RuleError> {
        crate::facts(doc)
    }

    async fn validate(&self, doc: &Doc, facts: &RecordFacts) -> Result<(), RuleError> {
        let verdict = self.ask(doc, &facts.schema_version).await.map_err(|cause| {
            RuleError::Unreachable(format!(
                "failed to validate record: schema URL validation failed: {cause}"
            ))
        })?;
        let errors = verdict.errors.unwrap_or_default();
        if errors.is_empty() {
            return Ok(());
        }
        let warnings = verdict.warnings.unwrap_or_default();
        let texts = errors.iter().map(Finding::error).chain(warnings.iter().map(Finding::warning));
        Err(RuleError::Rejected(texts.collect()))
    }

    fn labels(&self, facts: &RecordFacts) -> Vec<String> {
        facts.labels()
    }
}

/// The URL as it may be shown; `None` when it is not one of a server.
fn public(base: &str) -> Option<String> {
    let url = Url::parse(base).ok()?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return None;
    }
    if url.username().is_empty() && url.password().is_none() {
        return Some(base.to_owned());
    }
    Some(redact(base))
}

/// Takes user name and password out of something that may be a URL.
fn redact(text: &str) -> String {
    let (scheme, rest) =
        text.split_once("://").map_or(("", text), |(_, rest)| (&text[..text.len() - rest.len()], rest));
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host = rest[..authority].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}{}", &rest[host..])
}

/// An error with what lies below it, without the URL, which the text around it names.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut below = std::error::Error::source(&error);
    while let Some(cause) = below {
        // Writing into a String cannot fail.
        let _ = write!(text, ": {cause}");
        below = cause.source();
    }
    text
}

/// Percent-encodes everything but unreserved characters (RFC 3986, section 2.3).
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}
