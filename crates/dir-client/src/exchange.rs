//! One bidirectional stream that answers message by message, in order, kept alive over broken connections.
//!
//! A window of messages is in flight. When the connection breaks, the unanswered ones are sent again on a new one,
//! once without progress; every call that goes through here may be repeated safely. When the server ends the stream because of one
//! message, that message fails and the rest go on in a new stream. Where the cause may have been any of several
//! messages in flight (the transport refuses a message before the ones ahead of it are answered), they are sent
//! again one at a time, so that the failure names the right one.

use crate::again::Again;
use crate::client::{Answers, Client};
use crate::error::{ClientError, Kind};
use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Messages in flight.
pub const WINDOW: usize = 64;
/// Bytes in flight, once there is more than one message.
pub const WINDOW_BYTES: usize = 16 * 1024 * 1024;

/// Longest wait for the end of a stream whose every message is answered.
const LAST_WORD: Duration = Duration::from_secs(2);

/// A stream of requests and their answers. `T` travels with its message and comes back with the answer.
pub(crate) struct Exchange<S, T> {
    client: Client,
    path: &'static str,
    input: S,
    input_done: bool,
    waiting: VecDeque<(T, Bytes)>,
    waiting_bytes: usize,
    open: Option<Open>,
    /// So many of the next messages are sent alone.
    alone: usize,
    again: Again,
    over: bool,
    deadline: Option<Instant>,
}

struct Open {
    requests: Option<mpsc::Sender<Bytes>>,
    answers: Answers,
    sent: usize,
}

/// What woke the exchange up.
enum Woken<T> {
    Answer(Result<Option<Bytes>, Status>),
    Late,
    Input(Option<(T, Bytes)>),
}

impl<S, T> Exchange<S, T>
where
    S: Stream<Item = (T, Bytes)> + Unpin,
{
    pub(crate) fn new(client: Client, path: &'static str, input: S) -> Self {
        Self {
            client,
            path,
            input,
            input_done: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            open: None,
            alone: 0,
            again: Again::default(),
            over: false,
            deadline: None,
        }
    }

    /// The next answer, in the order of the input. After an error whose kind is general nothing more is sent and the
    /// exchange is over: what was not answered is in [`Exchange::unanswered`].
    pub(crate) async fn next(&mut self) -> Option<(T, Result<Bytes, ClientError>)> {
        loop {
            if self.over || !self.take_input().await {
                self.leave().await;
                return None;
            }
            if let Err(status) = self.send().await {
                match self.settle(&status) {
                    Some(failed) => return Some(failed),
                    None => continue,
                }
            }
            match self.wait().await {
                Woken::Input(more) => self.accept(more),
                Woken::Late => return self.late(),
                Woken::Answer(Ok(Some(bytes))) => return self.answered(bytes),
                Woken::Answer(Ok(None)) => {
                    let early =
                        Status::unavailable("the server ended the stream before it answered everything");
                    if let Some(failed) = self.settle(&early) {
                        return Some(failed);
                    }
                }
                Woken::Answer(Err(status)) => {
                    if let Some(failed) = self.settle(&status) {
                        return Some(failed);
                    }
                }
            }
        }
    }

    /// Half-closes and takes the server's last word: a stream that is merely dropped counts as cancelled over there.
    async fn leave(&mut self) {
        if let Some(mut open) = self.open.take() {
            open.requests = None;
            // Everything is answered: whatever this says, or that it says nothing, changes no result.
            let _ = tokio::time::timeout(LAST_WORD, open.answers.message()).await;
        }
    }

    /// What was taken from the input and never answered.
    pub(crate) fn unanswered(self) -> impl Iterator<Item = T> {
        self.waiting.into_iter().map(|(token, _)| token)
    }

    /// Fills the window with what is there; waits only when nothing is in flight. False: nothing left to do.
    async fn take_input(&mut self) -> bool {
        while !self.input_done && self.has_room() {
            let more = if self.waiting.is_empty() {
                self.input.next().await
            } else {
                match self.input.next().now_or_never() {
                    Some(more) => more,
                    None => break,
                }
            };
            self.accept(more);
        }
        !self.waiting.is_empty()
    }

    fn has_room(&self) -> bool {
        self.waiting.is_empty() || (self.waiting.len() < WINDOW && self.waiting_bytes < WINDOW_BYTES)
    }

    fn accept(&mut self, more: Option<(T, Bytes)>) {
        match more {
            None => self.input_done = true,
            Some((token, message)) => {
                if self.waiting.is_empty() {
                    self.restart_clock();
                }
                self.waiting_bytes += message.len();
                self.waiting.push_back((token, message));
            }
        }
    }

    fn restart_clock(&mut self) {
        self.deadline = self.client.call_timeout().map(|bound| Instant::now() + bound);
    }

    fn sendable(&self) -> usize {
        if self.alone > 0 { 1.min(self.waiting.len()) } else { self.waiting.len() }
    }

    /// Sends what the window allows, on a new stream if there is none.
    async fn send(&mut self) -> Result<(), Status> {
        let upto = self.sendable();
        if let Some(open) = &mut self.open {
            if let Some(requests) = &open.requests {
                for (_, message) in self.waiting.iter().take(upto).skip(open.sent) {
                    // Room is certain: the channel holds a whole window. A closed one shows in the answers.
                    let _ = requests.try_send(message.clone());
                }
                open.sent = open.sent.max(upto);
            }
        } else {
            let (requests, receiver) = mpsc::channel(WINDOW);
            for (_, message) in self.waiting.iter().take(upto) {
                let _ = requests.try_send(message.clone());
            }
            let opening = self.client.open_stream(self.path, ReceiverStream::new(receiver));
            let answers = match self.deadline {
                Some(at) => tokio::time::timeout_at(at, opening)
                    .await
                    .map_err(|_late| Status::deadline_exceeded(self.client.late_text()))??,
                None => opening.await?,
            };
            self.open = Some(Open { requests: Some(requests), answers, sent: upto });
        }
        let all_sent = self.input_done && upto == self.waiting.len();
        if let (true, Some(open)) = (all_sent, &mut self.open) {
            open.requests = None;
        }
        Ok(())
    }

    async fn wait(&mut self) -> Woken<T> {
        let room = !self.input_done && self.has_room();
        let Some(open) = &mut self.open else {
            return Woken::Answer(Ok(None));
        };
        let late = async {
            match self.deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = open.answers.message() => Woken::Answer(answer),
            more = self.input.next(), if room => Woken::Input(more),
            () = late => Woken::Late,
        }
    }

    fn answered(&mut self, bytes: Bytes) -> Option<(T, Result<Bytes, ClientError>)> {
        if let Some(open) = &mut self.open {
            open.sent = open.sent.saturating_sub(1);
        }
        self.again = Again::default();
        self.restart_clock();
        self.pop().map(|token| (token, Ok(bytes)))
    }

    fn late(&mut self) -> Option<(T, Result<Bytes, ClientError>)> {
        let status = Status::deadline_exceeded(self.client.late_text());
        self.settle(&status)
    }

    fn pop(&mut self) -> Option<T> {
        let (token, message) = self.waiting.pop_front()?;
        self.waiting_bytes -= message.len();
        self.alone = self.alone.saturating_sub(1);
        Some(token)
    }

    /// Decides what a failed stream means: try again (`None`), or a failure of the message that is due.
    fn settle(&mut self, status: &Status) -> Option<(T, Result<Bytes, ClientError>)> {
        let sent = self.open.take().map_or_else(|| self.sendable(), |open| open.sent);
        if self.again.worth(&self.client, status) {
            self.restart_clock();
            return None;
        }
        let error = self.client.explain(self.path, status);
        if error.kind().is_general() {
            self.over = true;
        } else if sent > 1 && self.alone == 0 && matches!(error.kind(), Kind::TooLarge | Kind::Internal) {
            self.alone = sent;
            self.restart_clock();
            return None;
        }
        self.restart_clock();
        self.pop().map(|token| (token, Err(error)))
    }
}
