//! Requests to one registry (OCI distribution-spec 1.1).
//!
//! `oci-client` trades credentials for tokens here; the requests themselves are our own, because each must be exactly
//! one: it asks `/v2/` before each of its own, has no single-request upload, no delete and no paging of referrers, and
//! takes a missing `Location` for an error.

use super::auth::Authorizer;
use super::config::OciConfig;
use super::error::RegistryFault;
use crate::limits::Limits;
use bytes::{Bytes, BytesMut};
use dir_core::store::StoreError;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// Bytes of an error answer that are looked at.
const MAX_ERROR_BYTES: u64 = 64 << 10;

/// A request.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// What is being done, for errors.
    pub(super) doing: &'static str,
    pub(super) repository: &'a str,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) content_type: Option<&'static str>,
    pub(super) accept: Option<&'static str>,
    pub(super) body: Option<Bytes>,
    /// Largest answer.
    pub(super) limit: u64,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Something about the registry that is learnt once.
#[derive(Debug, Default)]
pub(super) struct Learnt(AtomicU8);

impl Learnt {
    pub(super) fn get(&self) -> Option<bool> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            n => Some(n == 1),
        }
    }

    /// What is known already stays.
    pub(super) fn settle(&self, value: bool) {
        let value = if value { 1 } else { 2 };
        let _ = self.0.compare_exchange(0, value, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(super) fn set(&self, value: bool) {
        self.0.store(if value { 1 } else { 2 }, Ordering::Relaxed);
    }
}

/// One registry.
pub(super) struct Registry {
    pub(super) base: Url,
    /// `host:port`, for errors.
    pub(super) name: String,
    client: reqwest::Client,
    auth: Authorizer,
    pub(super) limits: Limits,
    read_timeout: Duration,
    /// Whether a blob can be uploaded in one request.
    pub(super) single_upload: Learnt,
    /// Whether it has the referrers API: decided once, and not by what one repository answers.
    pub(super) referrers_api: Learnt,
    /// Whether it mounts blobs of other repositories.
    pub(super) mounts: Learnt,
    /// Whether a manifest that is deleted takes its tags with it.
    pub(super) drops_tags: Learnt,
}

impl Registry {
    pub(super) fn new(config: &OciConfig) -> Result<Self, StoreError> {
        // Both HTTP clients ask for the process's provider; a library that finds none brings the one we use.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let base = config.base()?;
        let client = reqwest::Client::builder()
            .user_agent(concat!("directory/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(config.connect_timeout)
            .read_timeout(config.read_timeout)
            .tcp_nodelay(true)
            .pool_max_idle_per_host(64)
            .build()
            .map_err(|e| StoreError::Unavailable {
                context: "set up HTTP".to_owned(),
                source: Box::new(e),
            })?;
        let host = base.host_str().unwrap_or_default();
        let name = base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let auth = Authorizer::new(config, &base, &name, client.clone())?;
        Ok(Self {
            base,
            name,
            client,
            auth,
            limits: config.limits,
            read_timeout: config.read_timeout,
            single_upload: Learnt::default(),
            referrers_api: Learnt::default(),
            mounts: Learnt::default(),
            drops_tags: Learnt::default(),
        })
    }

    /// The URL of `path` under `/v2/<repository>/`. Repository names are checked when configured, and everything else
    /// in a path is a digest or a tag of ours.
    pub(super) fn url(&self, repository: &str, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{repository}/{path}"));
        url
    }

    /// Where an error happened.
    pub(super) fn context(&self, call_doing: &str, repository: &str) -> String {
        format!("{call_doing} at registry {}, repository {repository}", self.name)
    }

    /// The error of an answer that was not hoped for.
    pub(super) fn fault(&self, doing: &str, repository: &str, fault: RegistryFault) -> StoreError {
        let context = self.context(doing, repository);
        match fault {
            RegistryFault::Transport(e) if e.is_timeout() => {
                StoreError::Timeout { context, limit: self.read_timeout }
            }
            fault => StoreError::Unavailable { context, source: Box::new(fault) },
        }
    }

    /// Sends a request with the credentials it needs.
    pub(super) async fn send(&self, call: Call<'_>) -> Result<Answer, StoreError> {
        // Credentials go to the configured origin only, wherever a `Location` or `Link` points.
        let ours = call.url.origin() == self.base.origin();
        let writes = !matches!(call.method, Method::GET | Method::HEAD);
        let mut renewed = false;
        loop {
            let header = if ours { self.auth.header(call.repository, writes) } else { None };
            let answer = self.once(&call, header.as_ref()).await?;
            if answer.status != 401 || renewed || !ours {
                return Ok(answer);
            }
            renewed = true;
            let challenge = answer.headers.get(reqwest::header::WWW_AUTHENTICATE);
            match self.auth.renew(challenge, call.repository, writes).await {
                Ok(true) => {}
                Ok(false) => return Ok(answer),
                Err(fault) => {
                    return Err(self.fault("get a token to", call.repository, fault));
                }
            }
        }
    }

    async fn once(&self, call: &Call<'_>, authorization: Option<&HeaderValue>) -> Result<Answer, StoreError> {
        let mut request = self.client.request(call.method.clone(), call.url.clone());
        if let Some(value) = authorization {
            request = request.header(reqwest::header::AUTHORIZATION, value);
        }
        if let Some(value) = call.content_type {
            request = request.header(reqwest::header::CONTENT_TYPE, value);
        }
        if let Some(value) = call.accept {
            request = request.header(reqwest::header::ACCEPT, value);
        }
        if let Some(body) = &call.body {
            request = request.body(body.clone());
        } else if writes_length(&call.method) {
            request = request.header(reqwest::header::CONTENT_LENGTH, 0);
        }
        let broken = |e: reqwest::Error| {
            self.fault(call.doing, call.repository, RegistryFault::Transport(e.without_url()))
        };
        let response = request.send().await.map_err(broken)?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let limit = if status < 300 { call.limit } else { MAX_ERROR_BYTES };
        let body = if call.method == Method::HEAD {
            Bytes::new()
        } else {
            self.body(call, response, limit, status >= 300).await?
        };
        Ok(Answer { status, headers, body })
    }

    /// Reads at most `limit` bytes; a longer body is cut when it is an error's, else an error.
    async fn body(
        &self,
        call: &Call<'_>,
        mut response: reqwest::Response,
        limit: u64,
        cut: bool,
    ) -> Result<Bytes, StoreError> {
        let too_large = |size: u64| StoreError::TooLarge {
            what: format!("answer of {} to {}", self.name, call.doing),
            size,
            limit,
        };
        let announced = response.content_length().unwrap_or_default();
        if announced > limit && !cut {
            return Err(too_large(announced));
        }
        let mut body = BytesMut::with_capacity(usize::try_from(announced.min(limit)).unwrap_or_default());
        loop {
            let chunk = response.chunk().await.map_err(|e| {
                self.fault(call.doing, call.repository, RegistryFault::Transport(e.without_url()))
            })?;
            let Some(chunk) = chunk else { return Ok(body.freeze()) };
            let size = (body.len() + chunk.len()) as u64;
            if size > limit {
                if cut {
                    return Ok(body.freeze());
                }
                return Err(too_large(size));
            }
            body.extend_from_slice(&chunk);
        }
    }
}

fn writes_length(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT)
}

impl Answer {
    /// The fault that this answer is.
    pub(super) fn fault(&self) -> RegistryFault {
        RegistryFault::from_answer(self.status, &self.body)
    }

    /// A header as text, empty when absent.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
}
