//! Servers that are not there, or not what they should be.

use dir_client::{AuthMode, Client, ClientConfig, ClientError, Kind, Source};
use dir_runtime::SystemClock;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

async fn health(address: &str) -> ClientError {
    let config = ClientConfig {
        server_addr: address.to_owned(),
        server_addr_source: Source::Env("DIRECTORY_CLIENT_SERVER_ADDRESS"),
        connect_timeout: Duration::from_secs(5),
        ..ClientConfig::default()
    };
    match Client::new(config, Arc::new(SystemClock)).await {
        Ok(client) => client.health("").await.unwrap_err(),
        Err(error) => error,
    }
}

/// A server that reads the first bytes, answers with these and closes.
async fn answering(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = [0; 16];
            let _ = stream.read(&mut seen).await;
            let _ = stream.write_all(bytes).await;
        }
    });
    address
}

#[tokio::test]
async fn refused_names_target_origin_and_next_step() {
    // Bound and never listening: refused for as long as it is kept.
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = held.local_addr().unwrap().to_string();
    let error = health(&address).await;
    assert_eq!(error.kind(), Kind::Refused);
    assert_eq!(
        error.to_string(),
        format!("connect to {address} (from $DIRECTORY_CLIENT_SERVER_ADDRESS): connection refused")
    );
    assert!(error.next_step().contains("listens"), "{}", error.next_step());
}

#[tokio::test]
async fn unknown_names_and_absent_sockets() {
    // Longer than a label may be: no resolver is asked.
    let host = format!("{}.invalid", "x".repeat(64));
    let error = health(&format!("{host}:1")).await;
    assert_eq!(error.kind(), Kind::Dns);
    assert!(error.cause().contains(&format!("{host} does not resolve")), "{error}");
    let error = health("unix:///nowhere/dir.sock").await;
    assert_eq!((error.kind(), error.cause()), (Kind::Unreachable, "there is no such socket"));
}

#[tokio::test]
async fn a_tls_server_met_in_plaintext() {
    // A fatal alert, as TLS servers answer what is no ClientHello.
    let error = health(&answering(&[21, 3, 3, 0, 2, 2, 50]).await).await;
    assert_eq!(error.kind(), Kind::Protocol);
    assert!(error.next_step().contains("--auth-mode x509"), "{}", error.next_step());
}

#[tokio::test]
async fn a_web_server_is_no_directory() {
    let error = health(&answering(b"HTTP/1.1 400 Bad Request\r\n\r\n").await).await;
    assert_eq!(error.kind(), Kind::Protocol);
    assert!(error.cause().contains("HTTP/1"), "{error}");
}

#[tokio::test]
async fn schemes_and_modes_must_agree() {
    for (address, auth_mode) in [("grpcs://h", AuthMode::Insecure), ("grpc://h", AuthMode::Tls)] {
        let config = ClientConfig { server_addr: address.into(), auth_mode, ..ClientConfig::default() };
        let error = Client::new(config, Arc::new(SystemClock)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{address}");
    }
    let error = health("ftp://h").await;
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.what().contains("ftp://h"), "{error}");
}
