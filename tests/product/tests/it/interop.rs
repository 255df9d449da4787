//! The public SDKs, unmodified, against our server.

use product_tests::proc::run;
use product_tests::server::{AUDIENCE, Auth, Records, Server};
use product_tests::{init, root, workload};
use std::path::Path;
use std::process::Command;

/// The environment of an SDK that talks to `server`.
fn sdk_env(command: &mut Command, server: &Server, auth: &Auth) {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DIRECTORY_")) {
        command.env_remove(name);
    }
    match auth {
        Auth::Insecure => {
            command.env("DIRECTORY_CLIENT_SERVER_ADDRESS", format!("127.0.0.1:{}", server.port));
        }
        Auth::X509(socket) | Auth::Jwt(socket) => {
            // The SDKs verify host names: the server's SVID has `localhost`, not an IP address.
            command.env("DIRECTORY_CLIENT_SERVER_ADDRESS", format!("localhost:{}", server.port));
            let mode = if matches!(auth, Auth::Jwt(_)) { "jwt" } else { "x509" };
            command.env("DIRECTORY_CLIENT_AUTH_MODE", mode).env("DIRECTORY_CLIENT_JWT_AUDIENCE", AUDIENCE);
            command.env("DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH", socket);
        }
    }
}

fn rust_sdk(server: &Server, auth: &Auth) -> String {
    let manifest = root().join("tests/interop/rust-sdk/Cargo.toml");
    let mut command = Command::new("cargo");
    command.args(["test", "--locked", "--manifest-path"]).arg(manifest);
    command.arg("--target-dir").arg(root().join("target/interop")).args(["--test", "live"]);
    sdk_env(&mut command, server, auth);
    run(&mut command).unwrap().good().unwrap()
}

fn python_sdk(server: &Server, auth: &Auth) -> String {
    let home = root().join(".tools/python-sdk");
    let python = home.join("venv/bin/python");
    assert!(python.exists(), "the Python SDK is missing: run scripts/install-python-sdk.sh");
    let mut command = Command::new(python);
    command
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider"])
        .arg(root().join("tests/interop/python-sdk"));
    command.env("PYTHONPATH", home.join("stubs")).env("PYTHONDONTWRITEBYTECODE", "1");
    sdk_env(&mut command, server, auth);
    run(&mut command).unwrap().good().unwrap()
}

fn insecure(dir: &Path) -> (Server, Auth) {
    (Server::start(dir, &Auth::Insecure, &Records::Layout).unwrap(), Auth::Insecure)
}

#[test]
fn m_rust_sdk_works_without_identity() {
    init();
    let dir = tempfile::tempdir().unwrap();
    let (server, auth) = insecure(dir.path());
    assert!(rust_sdk(&server, &auth).contains("6 passed"));
}

#[test]
fn m_rust_sdk_works_with_spiffe_identity() {
    init();
    let dir = tempfile::tempdir().unwrap();
    let workload = workload::start(dir.path()).unwrap();
    let auth = Auth::X509(workload.socket());
    let server = Server::start(dir.path(), &auth, &Records::Layout).unwrap();
    assert!(rust_sdk(&server, &auth).contains("6 passed"));
}

#[test]
fn m_python_sdk_works_without_identity() {
    init();
    let dir = tempfile::tempdir().unwrap();
    let (server, auth) = insecure(dir.path());
    assert!(python_sdk(&server, &auth).contains("3 passed"));
}

#[test]
fn m_python_sdk_works_with_spiffe_identity() {
    init();
    let dir = tempfile::tempdir().unwrap();
    let workload = workload::start(dir.path()).unwrap();
    let auth = Auth::X509(workload.socket());
    let server = Server::start(dir.path(), &auth, &Records::Layout).unwrap();
    assert!(python_sdk(&server, &auth).contains("3 passed"));
}

#[test]
fn j_rust_sdk_works_with_tokens() {
    init();
    let dir = tempfile::tempdir().unwrap();
    let workload = workload::start(dir.path()).unwrap();
    let auth = Auth::Jwt(workload.socket());
    let server = Server::start(dir.path(), &auth, &Records::Layout).unwrap();
    assert!(rust_sdk(&server, &auth).contains("6 passed"));
}

#[test]
fn j_python_sdk_works_with_tokens() {
    init();
    let dir = tempfile::tempdir().unwrap();
    let workload = workload::start(dir.path()).unwrap();
    let auth = Auth::Jwt(workload.socket());
    let server = Server::start(dir.path(), &auth, &Records::Layout).unwrap();
    assert!(python_sdk(&server, &auth).contains("3 passed"));
}
