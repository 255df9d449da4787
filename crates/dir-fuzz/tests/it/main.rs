//! Every target over its corpus, and over mutations of it that are the same in every run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail loudly

use dir_fuzz::mutate::{Dice, mutate};
use dir_fuzz::{TARGETS, Target};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

/// Mutations for each target; the variable is for longer runs.
fn rounds() -> usize {
    std::env::var("DIR_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = root().join("corpus").join(name);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn run((name, target): Target) {
    let inputs = corpus(name);
    assert!(inputs.len() >= 3, "{name}: a corpus needs a few inputs");
    for input in &inputs {
        target(input);
    }
    let mut dice = Dice::new(0xd1_2ec7);
    for round in 0..rounds() {
        let input = mutate(&inputs[dice.below(inputs.len())], &inputs, &mut dice);
        if catch_unwind(|| target(&input)).is_err() {
            let found = std::env::temp_dir().join(format!("fuzz-{name}-{round}"));
            std::fs::write(&found, &input).unwrap();
            panic!(
                "{name}, round {round}: the input is in {}; keep it in fuzz/corpus/{name}",
                found.display()
            );
        }
    }
}

macro_rules! targets {
    ($($name:ident = $at:literal;)+) => {
        $(
            #[test]
            fn $name() {
                assert_eq!(TARGETS[$at].0, stringify!($name));
                run(TARGETS[$at]);
            }
        )+

        #[test]
        fn every_target_is_run_here_and_has_a_binary_for_libfuzzer() {
            assert_eq!([$($at),+].len(), TARGETS.len());
            let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
            for (name, _) in TARGETS {
                assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} has no binary in fuzz/Cargo.toml");
                let main = std::fs::read_to_string(root().join(format!("fuzz_targets/{name}.rs"))).unwrap();
                assert!(main.contains(&format!("dir_fuzz::{name}(data)")), "{main}");
            }
        }
    };
}

targets! {
    spiffe_id = 0;
    certificate_leaf = 1;
    first_bytes = 2;
    bundle_jwks = 3;
    policy_csv = 4;
    wire_walk = 5;
    canonical_json = 6;
    jwt_token = 7;
}
