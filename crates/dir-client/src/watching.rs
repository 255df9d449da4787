//! Changes of a server, followed over broken connections.

use crate::client::{Answers, Client};
use crate::error::{ClientError, Kind};
use dir_proto::directory::watch::v1::{WatchRequest, WatchResponse};
use std::time::Duration;
use tonic::{Code, Status};

const WATCH: &str = "/directory.watch.v1.WatchService/Watch";
/// The trailer by which a server says where to go on.
const SINCE: &str = "directory-watch-since";
/// First and longest pause before another attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A running watch. After a broken connection it goes on behind the last message it handed out.
pub struct Watch {
    client: Client,
    request: WatchRequest,
    answers: Option<Answers>,
    pause: Duration,
    /// What a server that refused the cursor takes instead.
    resume: Option<u64>,
    /// Whether anything was ever answered: before, a failure is the caller's, later it is waited out.
    began: bool,
}

impl Client {
    /// Changes after `request.since`, or from now on; 0 is from the oldest change that is kept. No call timeout applies: nothing may happen for long.
    pub fn watch(&self, request: WatchRequest) -> Watch {
        Watch { client: self.clone(), request, answers: None, pause: FIRST_PAUSE, resume: None, began: false }
    }
}

impl Watch {
    /// The cursor behind the last message.
    pub const fn cursor(&self) -> Option<u64> {
        self.request.since
    }

    /// After an error: the cursor to go on with once the records are listed, when the server refused the one it got.
    pub const fn resume(&self) -> Option<u64> {
        self.resume
    }

    /// The next change or bookmark. Waits out connections that break and servers that restart; what no waiting helps
    /// against is an error, and the end. `told` hears of every wait.
    pub async fn next(
        &mut self,
        mut told: impl FnMut(&ClientError, Duration),
    ) -> Result<WatchResponse, ClientError> {
        loop {
            let status = match self.once().await {
                Ok(message) => return Ok(message),
                Err(status) => status,
            };
            self.answers = None;
            let expired = (status.code() == Code::OutOfRange).then(|| said_since(&status)).flatten();
            // A server that does not know 0 names its oldest cursor, which is what 0 asks for.
            if let (Some(0), Some(oldest @ 1..)) = (self.request.since, expired) {
                self.request.since = Some(oldest);
                continue;
            }
            let error = self.client.explain(WATCH, &status);
            // A token that is refused is forgotten here: the next attempt shows another one.
            let broke = self.client.is_break(&status);
            if !self.may_go_on(&status, &error, broke) {
                self.resume = expired;
                return Err(match expired {
                    Some(since) => with_resume(&error, since),
                    None => error,
                });
            }
            told(&error, self.pause);
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn once(&mut self) -> Result<WatchResponse, Status> {
        let mut answers = match self.answers.take() {
            Some(answers) => answers,
            None => self.client.open_listen(WATCH, &self.request).await?,
        };
        let early = || Status::unavailable("the server ended the watch");
        let bytes = answers.message().await?.ok_or_else(early)?;
        self.answers = Some(answers);
        let message: WatchResponse = prost::Message::decode(bytes)
            .map_err(|e| Status::unimplemented(format!("the answer does not decode: {e}")))?;
        self.request.since = Some(message.seq);
        self.pause = FIRST_PAUSE;
        self.began = true;
        Ok(message)
    }

    /// A server that cuts a slow reader off says where it stopped: nothing is lost by going on there. A cursor that the
    /// server cannot go on from is the caller's business.
    fn may_go_on(&self, status: &Status, error: &ClientError, broke: bool) -> bool {
        match status.code() {
            Code::Aborted => true,
            _ if !self.began => false,
            // The end of the certificate or token with which the stream was opened, say.
            _ if broke => true,
            _ => matches!(
                error.kind(),
                Kind::Disconnected
                    | Kind::Unavailable
                    | Kind::Refused
                    | Kind::Unreachable
                    | Kind::Timeout
                    | Kind::Dns
                    | Kind::RateLimited
                    | Kind::Cancelled
            ),
        }
    }
}

fn said_since(status: &Status) -> Option<u64> {
    status.metadata().get(SINCE)?.to_str().ok()?.parse().ok()
}

fn with_resume(error: &ClientError, since: u64) -> ClientError {
    let next = format!("changes were missed: list what is there, then go on with --since {since}");
    ClientError::new(Kind::Precondition, error.what(), error.cause(), next)
}
