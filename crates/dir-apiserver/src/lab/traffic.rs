//! The agents of the lab: each calls every server all the time, over mTLS, and tells when the outcome changes.

use super::place::Place;
use super::script::State;
use super::tell::Tell;
use dir_client::{AuthMode, Client, ClientConfig, ClientError, Document, ExpectedServer, Kind};
use dir_core::Cid;
use dir_runtime::SystemClock;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Pause between two calls of one agent to one server.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest wait for an answer.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// Who calls whom.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) from: String,
    pub(super) to: String,
}

/// The calls of one agent to one server.
pub(super) struct Line {
    pub(super) route: Route,
    client: Client,
    /// The last outcome; `None` before the first.
    pub(super) state: watch::Receiver<Option<State>>,
    pub(super) counts: Arc<Counts>,
}

/// Calls so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) good: AtomicU64,
    pub(super) failed: AtomicU64,
}

/// A client of `to`'s server with the identity of `from`'s agent.
pub(super) async fn client(from: &Place, to: &Place) -> Result<Client, ClientError> {
    let domain = to.domain.parse().map(ExpectedServer::TrustDomain).unwrap_or_default();
    let config = ClientConfig {
        server_addr: format!("localhost:{}", to.ports.grpc),
        auth_mode: AuthMode::X509,
        spiffe_socket: Some(from.agent.socket_uri()),
        expected_server: domain,
        connect_timeout: CALL_LIMIT,
        call_timeout: Some(CALL_LIMIT),
        ..ClientConfig::default()
    };
    Client::new(config, Arc::new(SystemClock)).await
}

/// The record of an organisation.
pub(super) fn record(name: &str) -> anyhow::Result<Document> {
    let record = json!({
        "schema_version": "0.7.0",
        "name": format!("{name}.lab/greeter"),
        "version": "1.0.0",
        "description": "An agent of the lab.",
        "authors": [name],
        "created_at": "2026-01-01T00:00:00Z",
        "skills": [{ "name": "natural_language_processing/natural_language_generation/text_completion",
                     "id": 10201 }],
        "locators": [{ "type": "docker_image", "url": format!("https://{name}.lab/greeter") }],
    });
    Ok(Document::from_json(record.to_string().as_bytes())?)
}

impl Line {
    /// Begins to call.
    pub(super) fn begin(route: Route, client: Client, cid: Cid, tell: Tell, stop: CancellationToken) -> Self {
        let (outcomes, state) = watch::channel(None);
        let counts = Arc::<Counts>::default();
        let caller =
            Caller { route: route.clone(), client: client.clone(), cid, tell, counts: counts.clone() };
        tokio::spawn(async move { stop.run_until_cancelled(caller.call(outcomes)).await });
        Self { route, client, state, counts }
    }

    /// One push; its outcome.
    pub(super) async fn push(&self) -> anyhow::Result<State> {
        let pushed = self.client.push_one(record(&format!("{}-of-{}", self.route.to, self.route.from))?);
        Ok(pushed.await.map_or_else(|e| judge(&e), |_cid| State::Ok))
    }
}

struct Caller {
    route: Route,
    client: Client,
    cid: Cid,
    tell: Tell,
    counts: Arc<Counts>,
}

impl Caller {
    async fn call(self, outcomes: watch::Sender<Option<State>>) {
        let who = format!("{} -> {}", self.route.from, self.route.to);
        loop {
            let (state, why) = match self.client.pull_one(self.cid).await {
                Ok(_record) => (State::Ok, String::new()),
                Err(error) => (judge(&error), format!(": {}", error.cause())),
            };
            let count = if state == State::Ok { &self.counts.good } else { &self.counts.failed };
            count.fetch_add(1, Ordering::Relaxed);
            if outcomes.send_replace(Some(state)) != Some(state) {
                self.tell.event("calls", &who, &format!("calls are {}{why}", state.name()));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn judge(error: &ClientError) -> State {
    match error.kind() {
        Kind::Denied => State::Denied,
        Kind::NoSvid => State::NoIdentity,
        Kind::TlsRefused
        | Kind::TlsUntrusted
        | Kind::WrongTrustDomain
        | Kind::WrongIdentity
        | Kind::NoUriSan
        | Kind::Unauthenticated => State::Untrusted,
        Kind::Refused | Kind::Unreachable | Kind::Timeout | Kind::Disconnected | Kind::Unavailable => {
            State::Down
        }
        _ => State::Failed,
    }
}
