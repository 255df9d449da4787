//! What goes with every call: a JWT-SVID, in the modes that prove a caller by one. It only ever travels inside TLS.

use crate::config::ClientConfig;
use crate::error::{ClientError, Kind};
use crate::spiffe::Spiffe;
use dir_core::{Clock, SpiffeId, Timestamp};
use dir_identity::{JwtSource, JwtSvid, JwtSvidError, StartupWait};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// First and longest pause between two attempts to get a token.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How servers say that a token does not convince them, and that a stream has outlived it.
const REFUSED: [&str; 2] = ["invalid or expired token", "identity expired"];

/// What is known of the token that a client shows. The token itself is no part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFacts {
    /// Whom it speaks for.
    pub id: SpiffeId,
    /// Whom it is meant for.
    pub audience: String,
    /// Its end.
    pub expires: Timestamp,
    /// Whether it holds by the JWT bundles of the own Workload API, or why not; `None` where none are at hand.
    pub judged: Option<Result<(), String>>,
}

/// Tokens for the audience of one server.
pub(crate) struct Credentials {
    source: JwtSource,
    audience: String,
    clock: Arc<dyn Clock>,
    what: String,
    /// The one that was shown last.
    shown: Mutex<Option<JwtSvid>>,
}

impl Credentials {
    /// Waits for the first token, where the auth mode needs one.
    pub(crate) async fn obtain(
        config: &ClientConfig,
        own: Option<SpiffeId>,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<Self>, ClientError> {
        if !config.auth_mode.shows_token() {
            return Ok(None);
        }
        let mode = format!("auth mode {}", config.auth_mode);
        let audience = config.jwt_audience.clone().filter(|a| !a.is_empty()).ok_or_else(|| {
            let next = "name the audience that the server expects with --jwt-audience or DIRECTORY_CLIENT_JWT_AUDIENCE";
            ClientError::new(Kind::Config, mode.as_str(), "no JWT audience is named", next)
        })?;
        let socket = crate::spiffe::socket(config)?;
        let what = format!("get a JWT-SVID for {audience} from {socket}");
        let source = JwtSource::new(socket, audience.clone(), own, clock.clone())
            .map_err(|e| ClientError::new(Kind::Config, what.as_str(), e.to_string(), ""))?;
        let wait = StartupWait { initial: FIRST_PAUSE, max: LONGEST_PAUSE, total: config.identity_timeout };
        let credentials = Self { source, audience, clock, what, shown: Mutex::default() };
        credentials.source.ready(&wait).await.map_err(|e| credentials.missing(&e))?;
        Ok(Some(credentials))
    }

    fn missing(&self, error: &JwtSvidError) -> ClientError {
        ClientError::new(Kind::NoSvid, self.what.as_str(), error.reason.to_string(), "")
    }

    /// What the token of this moment is.
    pub(crate) async fn facts(&self, spiffe: Option<&Spiffe>) -> Result<TokenFacts, ClientError> {
        let svid = self.source.token().await.map_err(|e| self.missing(&e))?;
        let judged = match spiffe {
            Some(spiffe) => Some(spiffe.judge_token(svid.token(), &self.audience, self.clock.now()).await),
            None => None,
        };
        let (id, expires) = (svid.id().clone(), svid.expires());
        Ok(TokenFacts { id, audience: self.audience.clone(), expires, judged })
    }

    /// Puts a token into the headers of a call.
    pub(crate) async fn put(&self, metadata: &mut MetadataMap) -> Result<(), Status> {
        let svid = match self.source.token().await {
            Ok(svid) => svid,
            Err(error) => return Err(Status::from_error(Box::new(self.missing(&error)))),
        };
        let mut value =
            MetadataValue::try_from(format!("Bearer {}", svid.token())).map_err(|_not_ascii| {
                let cause = "the Workload API sent a token that is no header value";
                Status::from_error(Box::new(ClientError::new(Kind::Internal, self.what.as_str(), cause, "")))
            })?;
        // Kept out of header compression tables, and of debug output.
        value.set_sensitive(true);
        metadata.insert("authorization", value);
        *self.shown.lock() = Some(svid);
        Ok(())
    }

    /// Whether the server did not take the token, or takes it no longer; the next call then shows another one.
    pub(crate) fn refused(&self, status: &Status) -> bool {
        let refused = status.code() == Code::Unauthenticated && REFUSED.contains(&status.message());
        if let Some(shown) = self.shown.lock().take_if(|_| refused) {
            self.source.forget(&shown);
        }
        refused
    }
}
