//! A watcher that ends is started again; when that does not help, the process says so.

use super::*;
use crate::devapi::{DevConfig, DevDomain, DevSvid, DevWorkloadApi};
use crate::identity::Health;
use dir_core::Timestamp;

struct Now;

impl Clock for Now {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp(i64::try_from(since.as_millis()).unwrap())
    }
}

/// A feed whose end has come.
fn ended() -> mpsc::Receiver<FeedEvent> {
    mpsc::channel(1).1
}

async fn boot_one(dir: &std::path::Path) -> (DevWorkloadApi, Boot) {
    let svid = DevSvid { spiffe_id: "spiffe://a.example/w".to_owned(), ..DevSvid::default() };
    let domain = DevDomain { name: "a.example".to_owned(), svids: vec![svid], ..DevDomain::default() };
    let hour = Duration::from_secs(3600);
    let config =
        DevConfig { socket: dir.join("s"), trust_domains: vec![domain], svid_ttl: hour, ca_ttl: hour };
    let api = DevWorkloadApi::start(config, Arc::new(Now)).await.unwrap();
    let endpoint = crate::config::parse_endpoint(&api.socket_uri()).unwrap();
    let config = WorkloadConfig { socket: api.socket_uri(), ..WorkloadConfig::default() };
    let metrics = IdentityMetrics::new();
    let boot = boot(endpoint, config, Arc::new(Now), metrics, CancellationToken::new()).await.unwrap();
    (api, boot)
}

#[tokio::test]
async fn n7_a_watcher_that_ended_is_rebuilt_and_one_that_cannot_be_takes_liveness() {
    let dir = tempfile::tempdir().unwrap();
    let (api, boot) = boot_one(dir.path()).await;
    let (shared, endpoint) = (boot.shared.clone(), boot.endpoint.clone());
    let stop = CancellationToken::new();
    // The first one ends; the second follows the agent as if nothing had been.
    let anew = move |stop: &CancellationToken| {
        feed::spawn::<X509Feed>(endpoint.clone(), crate::config::StartupWait::default(), stop.clone())
    };
    tokio::spawn(supervise_with(shared.clone(), ended(), anew, stop.clone()));
    let serial = shared.current.load().leaf().serial.clone();
    let followed = async {
        while shared.current.load().leaf().serial == serial {
            api.rotate();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), followed).await.expect("the next SVID is followed");
    assert!(Health::of(&shared).is_live() && Health::of(&shared).is_ready());
    stop.cancel();

    // None of them lives: after three the process is neither live nor ready, because its trust would freeze.
    let stop = CancellationToken::new();
    tokio::spawn(supervise_with(shared.clone(), ended(), |_: &CancellationToken| ended(), stop.clone()));
    let given_up = async {
        while Health::of(&shared).is_live() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), given_up).await.expect("given up");
    let health = Health::of(&shared);
    assert!(!health.is_ready() && health.reason().unwrap().contains("watcher"), "{health:?}");
    stop.cancel();
}
