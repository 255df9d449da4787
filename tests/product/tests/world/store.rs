//! Records in one repository of a real Zot, from its adoption to shards. The long form is `make store-story`.

use crate::support::short_dir;
use product_tests::init;
use product_tests::store_story::{Plan, run};
use std::time::Duration;

fn told(dedupe: bool) {
    init();
    let dir = short_dir();
    let longest = Duration::from_secs(600);
    let plan = Plan { records: 300, online: 60, pulls: 10, longest, dedupe };
    let mut stages = Vec::new();
    run(dir.path(), plan, &mut |stage| stages.push(stage.name))
        .unwrap_or_else(|error| panic!("{error:#}: {stages:?}"));
    assert_eq!(stages.last(), Some(&"audit through the server"), "{stages:?}");
}

#[test]
fn a_registry_filled_into_one_repository_is_adopted_served_resharded_and_compared() {
    told(false);
}

#[test]
fn so_is_one_that_keeps_equal_contents_once() {
    told(true);
}
