//! `dirctl verify tls` with nginx in front.

use product_tests::nginx::Nginx;
use product_tests::proc::run;
use product_tests::server::{Auth, Records, Server};
use product_tests::{init, our, workload};
use std::process::Command;

/// What `dirctl verify tls` says of a name behind nginx: exit code, cause, its document.
fn verify(socket: &str, args: &[&str]) -> (Option<i32>, String, serde_json::Value) {
    let resolve = ["verify", "tls", "--json", "--resolve", "127.0.0.1", "--endpoint"];
    let mut command = Command::new(our("dirctl").unwrap());
    command.env_clear().env("HOME", "/nonexistent").env("SPIFFE_ENDPOINT_SOCKET", socket);
    let ran = run(command.args(resolve).args(args)).unwrap();
    let seen: serde_json::Value =
        serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    (ran.status.code(), seen["verdict"]["cause"].as_str().unwrap().to_owned(), seen)
}

#[test]
fn i2_i3_verify_tls_names_what_stands_in_front() {
    init();
    let dir = tempfile::tempdir().unwrap();
    let workload = workload::start(dir.path()).unwrap();
    let socket = workload.socket();
    let server = Server::start(dir.path(), &Auth::X509(socket.clone()), &Records::Layout).unwrap();
    let nginx = Nginx::start(dir.path(), server.port).unwrap();
    let right = format!("api.localtest.me:{}", nginx.port);
    let (code, cause, seen) = verify(&socket, &[&right]);
    assert_eq!((code, cause.as_str()), (Some(0), "healthy"), "{seen}");
    assert_eq!((&seen["tls"]["ended_by"], &seen["tls"]["alpn"]), (&"server".into(), &"h2".into()), "{seen}");

    // I2: a name nobody routes. nginx refuses ALPN h2, so the certificate is seen without it.
    let wrong = format!("other.localtest.me:{}", nginx.port);
    let (code, cause, seen) = verify(&socket, &[&wrong]);
    assert_eq!((code, cause.as_str()), (Some(7), "host-not-routed"), "{seen}");
    assert_eq!(seen["certificate"]["dns_names"][0], "ingress.local", "{seen}");
    // I3: no name at all.
    let (code, cause, seen) = verify(&socket, &[&right, "--no-sni"]);
    assert_eq!((code, cause.as_str()), (Some(7), "ingress-default-certificate"), "{seen}");

    // A proxy that knows the host and ends TLS: passthrough is off.
    let second = dir.path().join("second");
    std::fs::create_dir(&second).unwrap();
    let nginx = Nginx::start_with(&second, server.port, &[("return 404;", "return 502;")]).unwrap();
    let known = format!("known.localtest.me:{}", nginx.port);
    let (code, cause, seen) = verify(&socket, &[&known]);
    assert_eq!((code, cause.as_str()), (Some(7), "ingress-default-certificate"), "{seen}");
    assert!(seen["verdict"]["next"].as_str().unwrap().contains("--enable-ssl-passthrough"), "{seen}");
}
