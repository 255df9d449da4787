//! The store: push, pull, look up, delete.

use crate::client::Client;
use crate::document::Document;
use crate::error::{ClientError, Kind};
use crate::exchange::Exchange;
use bytes::Bytes;
use dir_core::{Cid, Record};
use dir_proto::agntcy::dir::core::v1::{RecordMeta, RecordRef};
use futures::{Stream, StreamExt};
use prost::Message;
use std::pin::Pin;

const PUSH: &str = "/agntcy.dir.store.v1.StoreService/Push";
const PULL: &str = "/agntcy.dir.store.v1.StoreService/Pull";
const LOOKUP: &str = "/agntcy.dir.store.v1.StoreService/Lookup";
const DELETE: &str = "/agntcy.dir.store.v1.StoreService/Delete";

type Requests<T> = Pin<Box<dyn Stream<Item = ((T, Cid), Bytes)> + Send>>;

/// A running push, pull or lookup: answers come in the order of what was asked, each with the token that was given
/// along.
struct Running<T> {
    client: Client,
    exchange: Exchange<Requests<T>, (T, Cid)>,
}

impl<T: Send + 'static> Running<T> {
    fn new(client: &Client, path: &'static str, requests: Requests<T>) -> Self {
        Self { client: client.clone(), exchange: Exchange::new(client.clone(), path, requests) }
    }

    fn of_cids(
        client: &Client,
        path: &'static str,
        cids: impl Stream<Item = (T, Cid)> + Send + 'static,
    ) -> Self {
        let requests = cids.map(|(token, cid)| {
            let message = RecordRef { cid: cid.to_string() }.encode_to_vec();
            ((token, cid), Bytes::from(message))
        });
        Self::new(client, path, Box::pin(requests))
    }

    async fn next(&mut self) -> Option<(T, Cid, Result<Bytes, ClientError>)> {
        let ((token, cid), answer) = self.exchange.next().await?;
        Some((token, cid, answer))
    }
}

/// Answers to [`Client::push`].
pub struct Push<T>(Running<T>);

impl<T: Send + 'static> Push<T> {
    /// The CID under which the next document is stored now. After an error whose kind
    /// [is general](Kind::is_general) nothing more is sent.
    pub async fn next(&mut self) -> Option<(T, Result<Cid, ClientError>)> {
        let (token, expected, answer) = self.0.next().await?;
        let client = &self.0.client;
        let checked = answer.and_then(|bytes| {
            let answer = RecordRef::decode(bytes).map_err(|e| client.garbled(PUSH, &e.to_string()))?;
            if answer.cid == expected.to_string() {
                return Ok(expected);
            }
            let cause = format!("the document hashes to {expected}, the server calls it {}", answer.cid);
            Err(client.fault(Kind::Corrupt, PUSH, cause))
        });
        Some((token, checked))
    }

    /// After the end: the tokens of what was sent and never answered.
    pub fn unanswered(self) -> impl Iterator<Item = T> {
        self.0.exchange.unanswered().map(|(token, _)| token)
    }
}

/// Answers to [`Client::pull`].
pub struct Pull<T>(Running<T>);

impl<T: Send + 'static> Pull<T> {
    /// The next record; its bytes are canonical and hash to the CID that was asked for.
    pub async fn next(&mut self) -> Option<(T, Result<Record, ClientError>)> {
        let (token, cid, answer) = self.0.next().await?;
        let client = &self.0.client;
        let checked = answer.and_then(|bytes| {
            let canonical = crate::document::canonical_of(&bytes).map_err(|e| client.garbled(PULL, &e))?;
            Record::verify(cid, canonical).map_err(|e| client.fault(Kind::Corrupt, PULL, e.to_string()))
        });
        Some((token, checked))
    }

    /// After the end: the tokens of what was sent and never answered.
    pub fn unanswered(self) -> impl Iterator<Item = T> {
        self.0.exchange.unanswered().map(|(token, _)| token)
    }
}

/// Answers to [`Client::lookup`].
pub struct Lookup<T>(Running<T>);

impl<T: Send + 'static> Lookup<T> {
    /// What the server knows of the next record.
    pub async fn next(&mut self) -> Option<(T, Result<RecordMeta, ClientError>)> {
        let (token, _cid, answer) = self.0.next().await?;
        let client = &self.0.client;
        let checked = answer
            .and_then(|bytes| RecordMeta::decode(bytes).map_err(|e| client.garbled(LOOKUP, &e.to_string())));
        Some((token, checked))
    }

    /// After the end: the tokens of what was sent and never answered.
    pub fn unanswered(self) -> impl Iterator<Item = T> {
        self.0.exchange.unanswered().map(|(token, _)| token)
    }
}

impl Client {
    /// Stores documents. Each comes with a token of the caller's (a file name, an index) that its answer carries.
    pub fn push<T: Send + 'static>(
        &self,
        documents: impl Stream<Item = (T, Document)> + Send + 'static,
    ) -> Push<T> {
        let requests = documents.map(|(token, document)| ((token, document.cid()), document.into_message()));
        Push(Running::new(self, PUSH, Box::pin(requests)))
    }

    /// Stores one document.
    pub async fn push_one(&self, document: Document) -> Result<Cid, ClientError> {
        let mut push = self.push(tokio_stream::once(((), document)));
        push.next().await.map_or_else(|| Err(self.no_answer(PUSH)), |((), answer)| answer)
    }

    /// Fetches records by CID, and checks each against its CID.
    pub fn pull<T: Send + 'static>(&self, cids: impl Stream<Item = (T, Cid)> + Send + 'static) -> Pull<T> {
        Pull(Running::of_cids(self, PULL, cids))
    }

    /// Fetches one record.
    pub async fn pull_one(&self, cid: Cid) -> Result<Record, ClientError> {
        let mut pull = self.pull(tokio_stream::once(((), cid)));
        pull.next().await.map_or_else(|| Err(self.no_answer(PULL)), |((), answer)| answer)
    }

    /// Asks for what is known of records without fetching them.
    pub fn lookup<T: Send + 'static>(
        &self,
        cids: impl Stream<Item = (T, Cid)> + Send + 'static,
    ) -> Lookup<T> {
        Lookup(Running::of_cids(self, LOOKUP, cids))
    }

    /// Asks for what is known of one record.
    pub async fn lookup_one(&self, cid: Cid) -> Result<RecordMeta, ClientError> {
        let mut lookup = self.lookup(tokio_stream::once(((), cid)));
        lookup.next().await.map_or_else(|| Err(self.no_answer(LOOKUP)), |((), answer)| answer)
    }

    /// Deletes one record.
    pub async fn delete(&self, cid: Cid) -> Result<(), ClientError> {
        let message = Bytes::from(RecordRef { cid: cid.to_string() }.encode_to_vec());
        let call = || async {
            let requests = tokio_stream::once(message.clone());
            let mut answers = self.open_stream(DELETE, requests).await?;
            while answers.message().await?.is_some() {}
            Ok(())
        };
        self.twice(DELETE, call).await
    }

    fn no_answer(&self, path: &'static str) -> ClientError {
        self.fault(Kind::Disconnected, path, "the server sent no answer".to_owned())
    }
}
