//! Listeners: they read everything that comes and look at none of it. They share the machine with the server that is
//! measured, so what they cost is not its doing.

use bytes::{Buf, Bytes};
use http::Request;
use http::uri::PathAndQuery;
use http_body_util::BodyExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tonic::body::Body;
use tonic::transport::Channel;
use tower::{Service, ServiceExt};

/// Bytes before each message.
const HEAD: usize = 5;

/// Subscribes `count` times, prints a line when all are live, reads until standard input closes, and prints how many
/// events came.
pub(crate) async fn listen(
    count: usize,
    channels: &[Channel],
    path: &PathAndQuery,
    request: &Bytes,
) -> anyhow::Result<()> {
    let mut readers = tokio::task::JoinSet::new();
    let heard = Arc::new(AtomicU64::new(0));
    for i in 0..count {
        let mut channel = channels[i % channels.len()].clone();
        let response = channel.ready().await?.call(asking(path, request)?).await?;
        anyhow::ensure!(!response.headers().contains_key("grpc-status"), "refused: {:?}", response.headers());
        let heard = heard.clone();
        readers.spawn(read(response.into_body(), heard));
    }
    println!("listening");
    tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin())).await??;
    println!("{}", heard.load(Ordering::Relaxed));
    Ok(())
}

fn asking(path: &PathAndQuery, message: &Bytes) -> anyhow::Result<Request<Body>> {
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len())?.to_be_bytes());
    framed.extend_from_slice(message);
    let body = Body::new(http_body_util::Full::new(Bytes::from(framed)));
    let request =
        Request::post(path.clone()).header("content-type", "application/grpc").header("te", "trailers");
    Ok(request.body(body)?)
}

/// Counts messages by their heads.
async fn read(mut body: Body, count: Arc<AtomicU64>) {
    let (mut head, mut have, mut left) = ([0; HEAD], 0, 0);
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(mut data) = frame.into_data() else { break };
        let mut messages = 0;
        while data.has_remaining() {
            if have < HEAD {
                head[have] = data.get_u8();
                have += 1;
                if have < HEAD {
                    continue;
                }
                let [_, a, b, c, d] = head;
                left = u32::from_be_bytes([a, b, c, d]) as usize;
            }
            let now = left.min(data.remaining());
            data.advance(now);
            left -= now;
            if left == 0 {
                messages += 1;
                have = 0;
            }
        }
        count.fetch_add(messages, Ordering::Relaxed);
    }
}
