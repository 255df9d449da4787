//! JWT-SVIDs of our own: fetched from the Workload API for one audience, and kept until they are half way through.

use crate::config::{StartupWait, parse_endpoint};
use crate::error::{EndpointError, WaitReason};
use crate::federation::json;
use crate::feed::{MESSAGE_MAX, from_status, from_transport, jittered};
use crate::proto::{FETCH_JWT_SVID, JwtSvidRequest, JwtSvidResponse, SECURITY_HEADER};
use data_encoding::BASE64URL_NOPAD as B64;
use dir_core::{Class, Classified, Clock, SpiffeId, Timestamp};
use parking_lot::Mutex;
use spiffe::transport::Endpoint;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use zeroize::Zeroizing;

/// A token is not used any more so long before its end: it has to arrive, and clocks differ.
const LAST_USE: Duration = Duration::from_secs(5);
/// How long a new token is waited for while the old one is still good.
const RENEWAL_LIMIT: Duration = Duration::from_secs(2);
/// Pause after a renewal that failed while the old token is still good.
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);

/// A token to show. `Debug` never shows it; the memory is cleared with its last copy.
#[derive(Clone)]
pub struct JwtSvid {
    token: Arc<Zeroizing<String>>,
    id: SpiffeId,
    expires: Timestamp,
}

impl JwtSvid {
    /// The token itself, JWS compact form: a secret.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Whom it speaks for.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Its end.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }
}

impl fmt::Debug for JwtSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtSvid")
            .field("id", &self.id)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no JWT-SVID: {reason}")]
pub struct JwtSvidError {
    /// What was wrong.
    pub reason: WaitReason,
}

impl Classified for JwtSvidError {
    fn class(&self) -> Class {
        Class::Unavailable
    }
}

/// Where tokens for one audience come from.
pub struct JwtSource {
    endpoint: Endpoint,
    audience: String,
    /// Which identity; `None` takes the first.
    id: Option<SpiffeId>,
    clock: Arc<dyn Clock>,
    held: Mutex<Option<Held>>,
    /// One fetch at a time.
    fetching: tokio::sync::Mutex<()>,
}

struct Held {
    svid: JwtSvid,
    /// From then on a new one is fetched.
    renew_at: Timestamp,
    /// Not before then.
    retry_at: Option<Instant>,
}

impl JwtSource {
    /// A source for an audience. Asks nobody yet.
    pub fn new(
        socket: &str,
        audience: String,
        id: Option<SpiffeId>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, EndpointError> {
        let endpoint = parse_endpoint(socket)?;
        let (held, fetching) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Self { endpoint, audience, id, clock, held, fetching })
    }

    /// Waits for the first token, as patiently as `wait` says.
    pub async fn ready(&self, wait: &StartupWait) -> Result<(), JwtSvidError> {
        let end = Instant::now() + wait.total;
        let mut pause = wait.initial;
        loop {
            let Err(error) = self.token().await else { return Ok(()) };
            let hopeless = matches!(error.reason, WaitReason::NotServed(_));
            if hopeless || (!wait.total.is_zero() && Instant::now() + pause >= end) {
                return Err(error);
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = pause.saturating_mul(2).min(wait.max);
        }
    }

    /// A token that is good for a while. The one at hand, until it is half way through its life; then a new one, or
    /// the old one as long as it is good and there is no other.
    pub async fn token(&self) -> Result<JwtSvid, JwtSvidError> {
        if let Some(fresh) = self.at_hand(false) {
            return Ok(fresh);
        }
        if let Some(usable) = self.at_hand(true) {
            // Somebody else is at it already.
            let Ok(_alone) = self.fetching.try_lock() else { return Ok(usable) };
            return Ok(match tokio::time::timeout(RENEWAL_LIMIT, self.fetch()).await {
                Ok(Ok(fresh)) => fresh,
                _ => self.renewal_failed(usable),
            });
        }
        let _alone = self.fetching.lock().await;
        match self.at_hand(false) {
            Some(fresh) => Ok(fresh),
            None => self.fetch().await,
        }
    }

    /// Forgets a token that a server has refused.
    pub fn forget(&self, refused: &JwtSvid) {
        let mut held = self.held.lock();
        if held.as_ref().is_some_and(|held| Arc::ptr_eq(&held.svid.token, &refused.token)) {
            *held = None;
        }
    }

    /// The token at hand; with `late`, also one that should be renewed.
    fn at_hand(&self, late: bool) -> Option<JwtSvid> {
        let held = self.held.lock();
        let (held, now) = (held.as_ref()?, self.clock.now());
        let paused = held.retry_at.is_some_and(|at| Instant::now() < at);
        let last_use = i64::try_from(LAST_USE.as_millis()).unwrap_or_default();
        let usable = now.0 + last_use < held.svid.expires.0;
        (usable && (late || paused || now < held.renew_at)).then(|| held.svid.clone())
    }

    fn renewal_failed(&self, usable: JwtSvid) -> JwtSvid {
        if let Some(held) = self.held.lock().as_mut() {
            held.retry_at = Some(Instant::now() + RENEWAL_PAUSE);
        }
        usable
    }

    async fn fetch(&self) -> Result<JwtSvid, JwtSvidError> {
        let fail = |reason| JwtSvidError { reason };
        let message = self.ask().await.map_err(fail)?;
        let unusable = |why: &str| fail(WaitReason::Unusable(why.to_owned()));
        let entry = message.svids.into_iter().next().ok_or_else(|| fail(WaitReason::NoIdentityIssued))?;
        let id: SpiffeId = entry.spiffe_id.parse().map_err(|_e| unusable("its SPIFFE ID is none"))?;
        if self.id.as_ref().is_some_and(|wanted| *wanted != id) {
            return Err(unusable("it is of another identity than asked for"));
        }
        let expires = expiry(&entry.svid).ok_or_else(|| unusable("its end cannot be read"))?;
        let now = self.clock.now();
        if expires <= now {
            return Err(fail(WaitReason::Expired(now.seconds_since(expires))));
        }
        let svid = JwtSvid { token: Arc::new(Zeroizing::new(entry.svid)), id, expires };
        let renew_at = Timestamp(now.0 + (expires.0 - now.0) / 2);
        *self.held.lock() = Some(Held { svid: svid.clone(), renew_at, retry_at: None });
        Ok(svid)
    }

    async fn ask(&self) -> Result<JwtSvidResponse, WaitReason> {
        let channel = spiffe::transport::connect(&self.endpoint).await.map_err(|e| from_transport(&e))?;
        let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(MESSAGE_MAX);
        grpc.ready().await.map_err(|e| WaitReason::Connection(e.to_string()))?;
        let mut request = tonic::Request::new(JwtSvidRequest {
            audience: vec![self.audience.clone()],
            spiffe_id: self.id.as_ref().map(ToString::to_string).unwrap_or_default(),
        });
        request.metadata_mut().insert(SECURITY_HEADER, MetadataValue::from_static("true"));
        let codec = tonic_prost::ProstCodec::<JwtSvidRequest, JwtSvidResponse>::default();
        let path = PathAndQuery::from_static(FETCH_JWT_SVID);
        let answer = grpc.unary(request, path, codec).await.map_err(|s| from_status(&s).0)?;
        Ok(answer.into_inner())
    }
}

impl fmt::Debug for JwtSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtSource").field("audience", &self.audience).finish_non_exhaustive()
    }
}

/// The end of a token, which its issuer vouches for: we only carry it.
#[allow(clippy::cast_possible_truncation)] // A time beyond the range saturates.
fn expiry(token: &str) -> Option<Timestamp> {
    let claims = B64.decode(token.split('.').nth(1)?.as_bytes()).ok()?;
    let exp = json::parse(&claims).ok()?.get("exp")?.as_f64()?;
    Some(Timestamp((exp * 1000.0) as i64))
}
