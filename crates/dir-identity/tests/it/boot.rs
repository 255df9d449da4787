//! The wait for the first SVID: how long, what it says, what it accepts.

use crate::logs;
use crate::support::*;
use dir_identity::devapi::{Answer, DevConfig, DevWorkloadApi};
use dir_identity::{Identity, IdentityError, StartupWait, WaitReason, WorkloadConfig};
use prometheus::Registry;
use std::sync::Arc;
use std::time::Duration;

fn one_domain(dir: &tempfile::TempDir) -> DevConfig {
    dev_config(
        &dir.path().join("agent/api.sock"),
        vec![domain(OWN, vec![svid(SERVER_ID, &["localhost"])], &[])],
    )
}

async fn obtain(config: WorkloadConfig, clock: Arc<TestClock>) -> Result<Identity, IdentityError> {
    Identity::obtain(config, clock, &Registry::new()).await
}

#[tokio::test]
async fn a1_an_agent_that_comes_late_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let api = DevWorkloadApi::prepare(one_domain(&dir), clock.clone()).unwrap();
    let waiting = tokio::spawn(obtain(workload(api.socket_uri()), clock));
    // Whoever waits can not be seen to wait; an attempt on the absent socket takes no time.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    api.appear().await.unwrap();
    let identity = soon("an identity", waiting).await.unwrap().unwrap();
    assert_eq!(identity.snapshot().leaf().id.as_str(), SERVER_ID);
}

#[tokio::test]
async fn a4_a7_one_success_line_for_each_svid_and_a_warning_for_the_missing_host() {
    logs::keep();
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let api = DevWorkloadApi::start(one_domain(&dir), clock.clone()).await.unwrap();
    let identity = obtain(workload(api.socket_uri()), clock).await.unwrap();
    let success = || logs::lines("Successfully obtained valid X509-SVID with SPIFFE ID");
    assert_eq!(success().len(), 1);
    assert!(success()[0].contains(&format!("spiffe_id={SERVER_ID} attempt=1")), "{:?}", success());
    let warned = logs::lines("lacks a public hostname");
    assert!(warned.len() == 1 && warned[0].contains(HOST), "{warned:?}");
    api.rotate();
    until("the second SVID", || identity.snapshot().generation() == 2).await;
    assert_eq!(success().len(), 2);
    let key = &api.material().svids[0].key;
    let text = logs::bytes();
    assert!(!text.windows(16).any(|w| w == &key[key.len() - 16..]), "no key in any log");
}

#[tokio::test(start_paused = true)]
async fn a2_the_wait_is_reported_every_ten_seconds_and_ends() {
    logs::keep();
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("{}/none.sock", dir.path().display());
    let config = WorkloadConfig { socket: socket.clone(), ..WorkloadConfig::default() };
    let error = obtain(config, clock()).await.unwrap_err();
    assert!(
        matches!(error, IdentityError::NoSvid { reason: WaitReason::SocketAbsent, attempts: 9..=11 }),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.starts_with("failed to get valid X509-SVID for server (SPIRE entry may not be synced yet): "),
        "{text}"
    );
    let warned = logs::lines("Failed to get X509-SVID");
    assert!((5..=6).contains(&warned.len()), "{warned:?}");
    assert!(warned.iter().all(|l| l.contains("WARN") && l.contains("socket absent") && l.contains(&socket)));
    assert!(warned[1].contains("elapsed_s=20"), "{warned:?}");
    assert_eq!(logs::lines("Failed to get valid X509-SVID for server after retries").len(), 1);
}

/// What the wait says about an agent that answers this.
async fn reason_for(answer: Answer, total: Duration) -> WaitReason {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let api = DevWorkloadApi::start(one_domain(&dir), clock.clone()).await.unwrap();
    api.override_answer(Some(answer));
    let mut config = workload(api.socket_uri());
    config.startup_wait.total = total;
    match obtain(config, clock).await {
        Err(IdentityError::NoSvid { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a3_reasons_of_the_wait() {
    // Long enough for an agent on a busy machine to have answered.
    let total = Duration::from_secs(3);
    let attestation = Answer::Unavailable("workload attestation failed".to_owned());
    let (denied, unattested, silent) = tokio::join!(
        reason_for(Answer::Deny, total),
        reason_for(attestation, total),
        reason_for(Answer::Silent, total)
    );
    assert_eq!(denied, WaitReason::NoIdentityIssued);
    assert!(
        denied.to_string().contains("no registration entry matches")
            && denied.to_string().contains("unix:uid:")
    );
    assert_eq!((unattested, silent), (WaitReason::AttestationFailed, WaitReason::Silent));
}

#[tokio::test]
async fn n9_clocks_that_disagree_are_named_and_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (agent, ours) = (clock(), clock());
    let api = DevWorkloadApi::start(one_domain(&dir), agent.clone()).await.unwrap();
    let short = StartupWait { total: Duration::from_secs(2), ..workload(String::new()).startup_wait };
    let config = WorkloadConfig { startup_wait: short, ..workload(api.socket_uri()) };
    for (shift, text) in [(-100, "SVID not yet valid"), (7200, "SVID expired by 36")] {
        ours.shift(shift);
        let error = obtain(config.clone(), ours.clone()).await.unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    // An SVID that becomes valid is taken without a new message.
    ours.shift(-100);
    let waiting = tokio::spawn(obtain(workload(api.socket_uri()), ours.clone()));
    tokio::task::yield_now().await;
    ours.shift(0);
    soon("valid at last", waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn a5_every_spelling_of_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let api = DevWorkloadApi::start(one_domain(&dir), clock.clone()).await.unwrap();
    let path = api.socket_uri().strip_prefix("unix://").unwrap().to_owned();
    for socket in [path.clone(), format!("unix:{path}"), format!("unix://{path}")] {
        obtain(workload(socket), clock.clone()).await.unwrap();
    }
    let error = obtain(workload("unix://host/path".to_owned()), clock).await.unwrap_err();
    assert!(matches!(error, IdentityError::Endpoint(_)), "{error}");
}

#[tokio::test]
async fn n8_the_right_svid_is_picked() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let mut hinted = svid("spiffe://example.org/hinted", &[]);
    hinted.hint = "external".to_owned();
    let svids = vec![svid("spiffe://example.org/first", &[]), hinted, svid(SERVER_ID, &[HOST])];
    let config = dev_config(&dir.path().join("s"), vec![domain(OWN, svids, &[])]);
    let api = DevWorkloadApi::start(config, clock.clone()).await.unwrap();
    for (hint, hosts, expected) in [
        (Some("external"), vec![HOST], "spiffe://example.org/hinted"),
        (Some("unheard of"), vec![HOST], SERVER_ID),
        (None, vec![HOST], SERVER_ID),
        (None, vec!["other.example"], "spiffe://example.org/first"),
        (None, vec![], "spiffe://example.org/first"),
    ] {
        let config = WorkloadConfig {
            svid_hint: hint.map(str::to_owned),
            public_hostnames: hosts.into_iter().map(str::to_owned).collect(),
            ..workload(api.socket_uri())
        };
        let identity = obtain(config, clock.clone()).await.unwrap();
        assert_eq!(identity.snapshot().leaf().id.as_str(), expected);
    }
}
