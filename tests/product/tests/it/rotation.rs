//! Rotations under load. The long form is `make soak`.

use product_tests::init;
use product_tests::rotation::{Outcome, Plan, run};
use std::path::Path;

fn rotate(plan: &Plan) -> Outcome {
    init();
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), Path::new(env!("CARGO_BIN_EXE_caller")), plan).unwrap()
}

/// Nobody failed, and everybody met the new certificates.
fn check(outcome: &Outcome) {
    println!("{outcome}");
    assert_eq!(outcome.tally.failed, 0, "{outcome}");
    assert!(outcome.refused < 0.5, "{outcome}");
    assert!(outcome.tally.answered > u64::from(outcome.rotations), "{outcome}");
    let shown = outcome.tally.certificates.len();
    assert!(shown > 1 && shown <= usize::try_from(outcome.rotations).unwrap() * 2, "{outcome}");
}

#[test]
fn c_an_svid_swapped_every_second_for_half_a_minute_fails_none_of_fifty_streams() {
    let plan = Plan {
        rotations: 30,
        ca_every: 30,
        clients: 2,
        streams: 25,
        pause_ms: 1000,
        // Connections live through all of it: only what is served changes.
        svid_ttl: 3600,
    };
    check(&rotate(&plan));
}

#[test]
fn c_a_hundred_rotations_of_leaves_and_cas_fail_no_call_of_several_processes() {
    // Long enough for connections to see the end of their SVIDs, on a fast machine too.
    let plan = Plan { rotations: 100, ca_every: 10, clients: 3, streams: 8, pause_ms: 250, svid_ttl: 12 };
    let outcome = rotate(&plan);
    check(&outcome);
    assert!(outcome.expired > 0.5, "connections came to the end of their peers' SVIDs as well: {outcome}");
}
