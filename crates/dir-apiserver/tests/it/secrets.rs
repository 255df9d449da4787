//! Planted secrets: none of them shows up anywhere, at the most talkative level.

use crate::client::{plain, record, store};
use crate::node::{Node, command, get};
use tempfile::tempdir;
use tonic::Request;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const VARS: [(&str, &str); 6] = [
    ("DIRECTORY_SERVER_STORE_OCI_AUTH_CONFIG_PASSWORD", "sentinel-password"),
    ("DIRECTORY_SERVER_STORE_OCI_AUTH_CONFIG_ACCESS_TOKEN", "sentinel-access"),
    ("DIRECTORY_SERVER_STORE_OCI_AUTH_CONFIG_REFRESH_TOKEN", "sentinel-refresh"),
    ("DIRECTORY_SERVER_DATABASE_POSTGRES_PASSWORD", "sentinel-database"),
    ("DIRECTORY_SERVER_SYNC_AUTH_CONFIG_PASSWORD", "sentinel-sync"),
    ("DIRECTORY_LOGGER_LOG_LEVEL", "trace"),
];

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_shows() {
    let home = tempdir().unwrap();
    let mut node = Node::spawn(home.path(), &["--dev"], &VARS);
    node.ready();
    let channel = plain(node.grpc()).await;
    let mut request = Request::new(tokio_stream::iter([record("sentinel-body")]));
    request.metadata_mut().insert("authorization", "Bearer sentinel-token".parse().unwrap());
    let mut answers = store(&channel).push(request).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
    // Health calls are logged below INFO: they show that the level is in force.
    HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.unwrap();
    drop((answers, channel));
    let ops = node.ops();
    let pages = ["/metrics", "/healthz", "/version", "/"].map(|path| get(ops, path).unwrap().1).concat();
    node.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(node.wait(), Some(0));
    let log = node.log();
    assert!(log.contains("\"level\":\"TRACE\"") || log.contains("\"level\":\"DEBUG\""), "talkative");
    assert!(!log.contains("sentinel"), "{}", log.lines().find(|l| l.contains("sentinel")).unwrap());
    assert!(!pages.contains("sentinel") && !node.errors().contains("sentinel"));
}

#[test]
fn commands_do_not_show_them() {
    let home = tempdir().unwrap();
    for args in [
        &["config", "show"][..],
        &["config", "show", "--output", "json"],
        &["config", "show", "--output", "yaml"],
        &["config", "check", "--output", "json"],
        &["config", "explain", "store.oci.auth_config.password"],
    ] {
        let output = command(home.path()).args(args).envs(VARS).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!text.contains("sentinel"), "{args:?}: {text}");
        assert!(args.contains(&"check") || text.contains("***"), "{args:?}: {text}");
    }
}
