//! Streams that break, end early, fail for one message, or never answer.

use crate::fake::{Fake, Say, stored};
use bytes::Bytes;
use dir_client::wire::{WatchRequest, WatchResponse};
use dir_client::{Client, ClientConfig, ClientError, Document, Kind, Source, WINDOW};
use dir_core::Cid;
use dir_runtime::SystemClock;
use futures::stream;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

async fn client(address: &str, timeout: Duration) -> Client {
    let config = ClientConfig {
        server_addr: address.to_owned(),
        server_addr_source: Source::Flag("--server-addr"),
        call_timeout: Some(timeout),
        ..ClientConfig::default()
    };
    Client::new(config, Arc::new(SystemClock)).await.unwrap()
}

fn document(number: usize) -> Document {
    Document::from_json(format!("{{\"name\":\"{number}\"}}").as_bytes()).unwrap()
}

fn is(message: &Bytes, number: usize) -> bool {
    let doc = dir_proto::wire::decode_record(message).unwrap().unwrap();
    doc.canonical().unwrap() == format!("{{\"name\":\"{number}\"}}")
}

const LONG: Duration = Duration::from_secs(30);

/// Pushes so many documents; every answer in order, and the tokens that were never answered.
async fn push(fake: &Fake, count: usize, timeout: Duration) -> (Vec<Result<Cid, ClientError>>, Vec<usize>) {
    let client = client(&fake.address, timeout).await;
    let mut push = client.push(stream::iter((0..count).map(|n| (n, document(n)))));
    let mut answers = Vec::new();
    while let Some((token, answer)) = push.next().await {
        assert_eq!(token, answers.len(), "answers come in order");
        answers.push(answer);
    }
    (answers, push.unanswered().collect())
}

fn all_stored(answers: &[Result<Cid, ClientError>]) -> bool {
    answers.iter().enumerate().all(|(n, answer)| answer.as_ref().is_ok_and(|cid| *cid == document(n).cid()))
}

#[tokio::test]
async fn many_go_over_one_stream() {
    let fake = Fake::start(|_, _, message| stored(message)).await;
    let (answers, rest) = push(&fake, 3 * WINDOW + 1, LONG).await;
    assert_eq!((answers.len(), rest.len()), (3 * WINDOW + 1, 0));
    assert!(all_stored(&answers));
    assert_eq!((fake.streams(), fake.half_closed()), (1, 1), "ended, not cancelled");
}

fn refused(since: u64) -> Say {
    let mut trailers = tonic::metadata::MetadataMap::new();
    trailers.insert("directory-watch-since", since.into());
    Say::End(Status::with_metadata(tonic::Code::OutOfRange, "cursor has expired", trailers))
}

#[tokio::test]
async fn a_watch_from_the_oldest_change_works_on_servers_that_do_not_know_it() {
    let fake = Fake::start(|_, _, message| {
        let since = WatchRequest::decode(message.clone()).unwrap().since;
        let seq = since.unwrap() + 1;
        let told = WatchResponse { seq, ..WatchResponse::default() };
        if since == Some(41) { Say::Answer(told.encode_to_vec().into()) } else { refused(41) }
    })
    .await;
    let client = client(&fake.address, LONG).await;
    let from = |since| WatchRequest { since: Some(since), ..WatchRequest::default() };
    let mut watch = client.watch(from(0));
    assert_eq!(watch.next(|_, _| ()).await.unwrap().seq, 42);
    assert_eq!((watch.cursor(), watch.resume(), fake.streams()), (Some(42), None, 2));
    // Who asks for what comes after a change is told that it is gone.
    let mut watch = client.watch(from(7));
    let error = watch.next(|_, _| ()).await.unwrap_err();
    assert_eq!((error.kind(), watch.resume()), (Kind::Precondition, Some(41)));
    assert!(error.next_step().ends_with("go on with --since 41"), "{error:?}");
    // Not for ever, with a server that refuses everything.
    let fake = Fake::start(|_, _, _| refused(0)).await;
    let mut watch = self::client(&fake.address, LONG).await.watch(from(0));
    assert_eq!(watch.next(|_, _| ()).await.unwrap_err().kind(), Kind::Precondition);
}

#[tokio::test]
async fn nothing_to_push_needs_no_server() {
    let nobody = Fake::start(|_, _, message| stored(message)).await;
    let (answers, _) = push(&nobody, 0, LONG).await;
    assert!(answers.is_empty());
    assert_eq!(nobody.streams(), 0);
}

#[tokio::test]
async fn a_broken_stream_goes_on_where_it_stopped() {
    let fake = Fake::start(|stream, number, message| match (stream, number) {
        (0, 5) => Say::End(Status::unavailable("draining")),
        (1, 5) => Say::Leave,
        _ => stored(message),
    })
    .await;
    let (answers, _) = push(&fake, 20, LONG).await;
    assert_eq!(answers.len(), 20);
    assert!(all_stored(&answers));
    assert_eq!(fake.streams(), 3);
}

#[tokio::test]
async fn without_progress_it_is_tried_once_more_and_no_further() {
    let fake = Fake::start(|_, number, message| match number {
        0..3 => stored(message),
        _ => Say::End(Status::unavailable("draining")),
    })
    .await;
    // Stream 0 stores 3, breaks; stream 1 stores 3 more, breaks; and so on: there is always progress.
    let (answers, _) = push(&fake, 8, LONG).await;
    assert!(all_stored(&answers) && answers.len() == 8);

    let dead = Fake::start(|_, _, _| Say::End(Status::unavailable("draining"))).await;
    let (answers, rest) = push(&dead, 8, LONG).await;
    assert_eq!(answers.len(), 1, "a general failure ends it");
    assert_eq!(answers[0].as_ref().unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(rest, (1..8).collect::<Vec<_>>());
    assert_eq!(dead.streams(), 2);
}

#[tokio::test]
async fn one_bad_document_does_not_stop_the_others() {
    let fake = Fake::start(|_, _, message| {
        if is(message, 4) {
            Say::End(Status::invalid_argument("record validation failed"))
        } else {
            stored(message)
        }
    })
    .await;
    let (answers, _) = push(&fake, 10, LONG).await;
    assert_eq!(answers.len(), 10);
    for (number, answer) in answers.iter().enumerate() {
        match answer {
            Ok(cid) => assert_eq!(*cid, document(number).cid()),
            Err(error) => assert_eq!((number, error.kind()), (4, Kind::Invalid)),
        }
    }
    let error = answers[4].as_ref().unwrap_err().to_string();
    assert_eq!(error, format!("Push to {} (from --server-addr): record validation failed", fake.address));
}

#[tokio::test]
async fn errors_with_long_texts_are_no_breaks() {
    for size in [40_000, 100_000, 1_000_000] {
        let fake = Fake::refusing(Status::invalid_argument("x".repeat(size))).await;
        let (answers, rest) = push(&fake, 1, LONG).await;
        let error = answers[0].as_ref().unwrap_err();
        let kind = if size < 64 * 1024 { Kind::Invalid } else { Kind::Internal };
        assert_eq!((error.kind(), rest.len()), (kind, 0), "{size}: {:.300}", error.cause());
        assert!(!error.next_step().contains("try again"), "{error:?}");
        // Neither are they something that a watch waits out.
        let calls = || fake.shown.lock().unwrap().len();
        let before = calls();
        let mut watch = client(&fake.address, LONG).await.watch(WatchRequest::default());
        assert_eq!(watch.next(|_, _| ()).await.unwrap_err().kind(), kind);
        assert_eq!(calls(), before + 1);
    }
}

#[tokio::test]
async fn a_failure_that_overtakes_answers_names_the_right_document() {
    // The transport refuses document 4 as soon as it arrives, before anything ahead of it is answered.
    let fake = Fake::start(|stream, _, message| match (stream, is(message, 4)) {
        (_, true) => Say::End(Status::out_of_range("decoded message length too large")),
        (0, false) if is(message, 0) => Say::End(Status::out_of_range("decoded message length too large")),
        _ => stored(message),
    })
    .await;
    let (answers, _) = push(&fake, 10, LONG).await;
    let failed: Vec<_> = answers.iter().enumerate().filter(|(_, a)| a.is_err()).map(|(n, _)| n).collect();
    assert_eq!(failed, [4]);
    assert_eq!(answers[4].as_ref().unwrap_err().kind(), Kind::TooLarge);
}

#[tokio::test]
async fn a_general_failure_ends_everything() {
    let fake = Fake::start(|_, _, message| {
        if is(message, 2) { Say::End(Status::permission_denied("not allowed")) } else { stored(message) }
    })
    .await;
    let (answers, rest) = push(&fake, 5, LONG).await;
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[2].as_ref().unwrap_err().kind(), Kind::Denied);
    assert_eq!(rest, [3, 4]);
}

#[tokio::test]
async fn a_server_that_never_answers_is_left() {
    let fake = Fake::start(|_, _, _| Say::Hang).await;
    let (answers, _) = push(&fake, 2, Duration::from_millis(200)).await;
    assert_eq!(answers.len(), 1);
    let error = answers[0].as_ref().unwrap_err();
    assert_eq!((error.kind(), error.cause()), (Kind::Timeout, "no answer within 200 ms"));
}

#[tokio::test]
async fn another_cid_than_ours_is_corrupt() {
    let fake = Fake::start(|_, _, _| {
        let other = dir_proto::agntcy::dir::core::v1::RecordRef { cid: Cid::of(b"{}").to_string() };
        Say::Answer(prost::Message::encode_to_vec(&other).into())
    })
    .await;
    let (answers, _) = push(&fake, 1, LONG).await;
    assert_eq!(answers[0].as_ref().unwrap_err().kind(), Kind::Corrupt);
}

#[tokio::test]
async fn a_record_that_is_not_what_was_asked_for_is_corrupt() {
    let fake = Fake::start(|_, _, _| {
        let doc = dir_core::json::Doc::parse(b"{\"name\":\"other\"}").unwrap();
        Say::Answer(dir_proto::wire::encode_record(&doc).unwrap())
    })
    .await;
    let client = client(&fake.address, LONG).await;
    let error = client.pull_one(document(0).cid()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    let own = Cid::of(b"{\"name\":\"other\"}");
    assert_eq!(client.pull_one(own).await.unwrap().bytes().as_ref(), b"{\"name\":\"other\"}");
}
