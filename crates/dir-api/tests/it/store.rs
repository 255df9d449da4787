//! `StoreService`: streaming rules, statuses and texts.

use crate::node::{Node, cid, json, push, record, reference, soon};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

#[tokio::test]
async fn a_record_goes_in_and_comes_out() {
    let node = Node::start().await;
    let cids = push(&node, vec![record("a"), record("b"), record("a")]).await;
    assert_eq!(cids, [cid(&json("a")), cid(&json("b")), cid(&json("a"))]);
    let mut client = node.store_client().await;
    let asked = futures::stream::iter(cids.iter().map(|cid| reference(cid)).collect::<Vec<_>>());
    let records: Vec<_> = client.pull(asked).await.unwrap().into_inner().collect().await;
    assert_eq!(records.len(), 3);
    assert_eq!(records[0].as_ref().unwrap(), &record("a"));
    assert_eq!(records[1].as_ref().unwrap(), &record("b"));
}

#[tokio::test]
async fn each_answer_comes_before_the_next_message() {
    let node = Node::start().await;
    let mut client = node.store_client().await;
    let (send, messages) = mpsc::channel(1);
    let mut answers = soon(client.push(ReceiverStream::new(messages))).await.unwrap().into_inner();
    for name in ["a", "b", "c"] {
        send.send(record(name)).await.unwrap();
        assert_eq!(soon(answers.message()).await.unwrap().unwrap().cid, cid(&json(name)));
    }
    drop(send);
    assert_eq!(soon(answers.message()).await.unwrap(), None);
}
