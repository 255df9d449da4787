//! JWT-SVIDs of a real SPIRE agent: a call with one is let in, one for somebody else is not.

use product_tests::proc::{Ran, run};
use product_tests::server::{AUDIENCE, Auth, Records, Server};
use product_tests::spire::Spire;
use product_tests::{init, our, root};
use std::process::Command;

/// `dirctl` in mode `mode`, with a token for `audience` where the mode has one.
fn dirctl(server: &Server, socket: &str, (mode, audience): (&str, &str), args: &[&str]) -> Ran {
    let mut command = Command::new(our("dirctl").unwrap());
    command.env_clear().env("HOME", "/nonexistent");
    command.env("DIRECTORY_CLIENT_SERVER_ADDRESS", format!("localhost:{}", server.port));
    command.env("DIRECTORY_CLIENT_AUTH_MODE", mode).env("DIRECTORY_CLIENT_JWT_AUDIENCE", audience);
    command.env("DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH", socket).args(args);
    run(&mut command).unwrap()
}

#[test]
fn j_tokens_of_a_real_agent() {
    init();
    // Short: a unix socket's path has at most about 100 bytes.
    let dir = tempfile::Builder::new().prefix("dw").tempdir_in("/tmp").unwrap();
    let spire = Spire::start(dir.path(), "example.org").unwrap();
    spire.register("/ns/dir/sa/apiserver", &["localhost"]).unwrap();
    let socket = spire.socket();
    let policy = dir.path().join("policy.csv");
    std::fs::write(&policy, "p,example.org,*\n").unwrap();
    let authz = format!("authz: {{ enabled: true, enforcer_policy_file_path: {} }}\n", policy.display());
    let server =
        Server::start_with(dir.path(), &Auth::Jwt(socket.clone()), &Records::Layout, &authz).unwrap();
    assert!(
        server.proc.output().contains("JWT authentication service initialized"),
        "{}",
        server.proc.output()
    );

    let record = root().join("examples/records").read_dir().unwrap().map(|e| e.unwrap().path());
    let record = record.filter(|p| p.extension().is_some_and(|e| e == "json")).min().unwrap();
    let push = ["push", "--quiet", record.to_str().unwrap()];
    let cid = dirctl(&server, &socket, ("jwt", AUDIENCE), &push).good().unwrap();
    let pulled = dirctl(&server, &socket, ("jwt", AUDIENCE), &["pull", cid.trim()]).good().unwrap();
    assert!(pulled.contains("schema_version"), "{pulled}");

    let refused = dirctl(&server, &socket, ("jwt", "https://other.example"), &push);
    assert_eq!(refused.status.code(), Some(8), "{}", refused.stderr);
    assert!(refused.stderr.contains("invalid or expired token"), "{}", refused.stderr);
    // A certificate is not what this server asks for.
    let refused = dirctl(&server, &socket, ("x509", ""), &push);
    assert_eq!(refused.status.code(), Some(8), "{}", refused.stderr);
    assert!(refused.stderr.contains("missing authorization header"), "{}", refused.stderr);
    assert!(!server.proc.output().contains("eyJ"), "no token is logged");
}
