use super::*;
use crate::devapi::{Authority, ChainForm};
use data_encoding::BASE64;
use serde_json::json;

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

fn domain() -> TrustDomain {
    "a.example".parse().unwrap()
}

fn text(sequence: Option<u64>, hint: u64) -> Vec<u8> {
    let ca = Authority::new(&domain(), NOW, Duration::from_secs(3600), ChainForm::SelfSigned).unwrap();
    let key = json!({"kty": "EC", "use": "x509-svid", "x5c": [BASE64.encode(ca.root())]});
    let mut document = json!({"keys": [key], "spiffe_refresh_hint": hint});
    if let Some(sequence) = sequence {
        document["spiffe_sequence"] = sequence.into();
    }
    document.to_string().into_bytes()
}

fn file(state: &mut State, sequence: Option<u64>, fingerprint: &str) {
    let document = BundleDocument::parse(&text(sequence, 60)).unwrap();
    let holding = Holding::new(document, &domain(), BOOTSTRAP_FILE, NOW).unwrap();
    state.bootstrap = Some(Bootstrap { holding, fingerprint: fingerprint.to_owned() });
}

fn after(secs: i64) -> Timestamp {
    Timestamp::from_secs(NOW.secs() + secs)
}

fn source(state: &State, now: Timestamp) -> &'static str {
    match state.in_force(now) {
        InForce::Held(holding) => holding.bundle.source(),
        InForce::Stale => "stale",
        InForce::Nothing => "nothing",
    }
}

#[test]
fn fetched_before_file_and_neither_after_max_stale() {
    let mut state = State::new(Partner::new(domain()));
    assert_eq!(source(&state, NOW), "nothing");
    assert!(state.due <= NOW, "the first fetch is due at once");
    file(&mut state, None, "f");
    assert_eq!(source(&state, NOW), "bootstrap_file");
    let good = state.judge(&text(Some(1), 60), NOW).unwrap();
    state.succeeded(good, NOW, 0.0);
    assert_eq!(source(&state, NOW), "federation");
    let week = 7 * 24 * 3600;
    assert_eq!(source(&state, after(week)), "federation");
    assert_eq!(source(&state, Timestamp(after(week).0 + 1)), "stale", "the file does not stand in");
    assert_eq!(source(&state, after(-week)), "federation", "a clock that is put back makes nothing stale");
    let held = state.endpoint_bundles(None);
    assert_eq!(held[0].source(), "federation", "the endpoint may still prove itself");
}

#[test]
fn sequence_numbers_never_go_back() {
    let mut state = State::new(Partner::new(domain()));
    file(&mut state, Some(5), "f");
    let refused = |state: &State, n: Option<u64>| {
        matches!(state.judge(&text(n, 60), NOW), Err(FetchError::Sequence { .. }))
    };
    assert!(refused(&state, Some(4)) && !refused(&state, Some(5)), "the file's number counts");
    let good = state.judge(&text(Some(8), 60), NOW).unwrap();
    state.succeeded(good, NOW, 0.0);
    assert!(refused(&state, Some(7)) && refused(&state, None));
    assert!(!refused(&state, Some(8)) && !refused(&state, Some(9)));
    // A new file is a new history, which the operator has chosen.
    file(&mut state, Some(2), "g");
    assert!(refused(&state, Some(1)) && !refused(&state, Some(2)));
    let good = state.judge(&text(Some(3), 60), NOW).unwrap();
    state.succeeded(good, NOW, 0.0);
    assert!(refused(&state, Some(2)), "once fetched, its own number counts again");
}

#[test]
fn only_a_new_file_is_tried_beside_the_bundle_in_force() {
    let mut state = State::new(Partner::new(domain()));
    file(&mut state, None, "f");
    let good = state.judge(&text(Some(1), 60), NOW).unwrap();
    state.succeeded(good.clone(), NOW, 0.0);
    let sources =
        |state: &State, held| -> Vec<_> { state.endpoint_bundles(held).iter().map(|b| b.source()).collect() };
    assert_eq!(sources(&state, Some(good.holding.bundle.clone())), ["federation"]);
    file(&mut state, None, "g");
    assert_eq!(sources(&state, Some(good.holding.bundle)), ["federation", "bootstrap_file"]);
}

#[test]
fn when_to_look_again() {
    let mut state = State::new(Partner::new(domain()));
    let good = state.judge(&text(Some(1), 60), NOW).unwrap();
    state.succeeded(good.clone(), NOW, 0.0);
    assert_eq!(state.due, after(60));
    let (slow, away) = (FetchError::Timeout(Duration::from_secs(1)), FetchError::Status(500));
    assert!(state.failed(&slow, NOW, 0.0) && state.due == after(30));
    assert!(!state.failed(&slow, NOW, 0.0) && state.due == after(60), "the same again is no news");
    assert!(state.failed(&away, NOW, 0.0) && state.due == after(120));
    for _ in 0..20 {
        state.failed(&away, NOW, 0.0);
    }
    assert_eq!(state.due, after(900));
    state.succeeded(good, NOW, 0.0);
    assert_eq!((state.failures, state.error.is_none(), state.due), (0, true, after(60)));
}
