//! Tells the binary what it was built from and for. Without git (a source archive) the commit is unknown.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=DIRECTORY_GIT_SHA");
    let target = std::env::var("TARGET").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo::rustc-env=DIRECTORY_TARGET={target}");
    let sha = std::env::var("DIRECTORY_GIT_SHA").ok().or_else(from_git);
    println!("cargo::rustc-env=DIRECTORY_GIT_SHA={}", sha.unwrap_or_default());
}

fn from_git() -> Option<String> {
    let head = Path::new("../../.git/logs/HEAD");
    if head.exists() {
        println!("cargo::rerun-if-changed={}", head.display());
    }
    let answer = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let text = String::from_utf8(answer.stdout).ok()?.trim().to_owned();
    (answer.status.success() && !text.is_empty()).then_some(text)
}
