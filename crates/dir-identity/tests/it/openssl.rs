//! What an independent TLS implementation sees.

use crate::support::*;
use dir_identity::{AcceptorConfig, RefuseReason};
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Runs openssl, with something on its standard input; returns both outputs.
async fn openssl(args: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("openssl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is needed for this test: apt-get install openssl");
    let mut stdin = child.stdin.take().unwrap();
    // It may have ended without reading.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    let output = soon("openssl ends", child.wait_with_output()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[tokio::test]
async fn h8_the_svid_is_shown_before_the_client_proves_itself() {
    let world = World::start().await;
    let server = world.server(AcceptorConfig::default()).await;
    let address = server.addr.to_string();
    let shown = openssl(&["s_client", "-connect", &address, "-servername", HOST], b"").await;
    let subject = openssl(&["x509", "-noout", "-subject"], shown.as_bytes()).await.replace(' ', "");
    assert_eq!(subject.trim(), format!("subject=C=US,O=SPIRE,CN={HOST}"));
    assert!(shown.contains("No client certificate CA names sent"), "{shown}");
    let san = openssl(&["x509", "-noout", "-ext", "subjectAltName"], shown.as_bytes()).await;
    assert!(san.contains(&format!("DNS:{HOST}, DNS:localhost, URI:{SERVER_ID}")), "{san}");
    until("it was refused", || server.refused(RefuseReason::NoClientCertificate) > 0.5).await;
}

#[tokio::test]
async fn h30_a_good_client_gets_no_ticket() {
    let world = World::start().await;
    let server = world.server(AcceptorConfig::default()).await;
    let material = world.client_api.material();
    let svid = &material.svids[0];
    let file = |name: &str, label: &str, der: &[u8]| {
        let path = world.dir.path().join(name);
        let body = data_encoding::BASE64.encode(der);
        std::fs::write(&path, format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let cert = file("cert.pem", "CERTIFICATE", &svid.chain[0]);
    let key = file("key.pem", "PRIVATE KEY", &svid.key);
    let roots = file("ca.pem", "CERTIFICATE", &svid.bundle);
    let address = server.addr.to_string();
    #[rustfmt::skip]
    let args = [
        "s_client", "-connect", &address, "-servername", HOST, "-cert", &cert, "-key", &key, "-CAfile", &roots,
        "-alpn", "h2", "-tls1_3",
    ];
    let seen = openssl(&args, b"hello").await;
    for expected in ["New, TLSv1.3", "ALPN protocol: h2", "Verify return code: 0 (ok)"] {
        assert!(seen.contains(expected), "{expected}: {seen}");
    }
    assert!(!seen.contains("New Session Ticket"), "{seen}");
    until("it was accepted", || server.peers.lock().len() == 1).await;
}

#[tokio::test]
async fn certificates_have_the_shape_of_spire() {
    let world = World::start().await;
    let material = world.server_api.material();
    let text = |der: Vec<u8>| async move {
        let text = openssl(&["x509", "-inform", "DER", "-noout", "-text"], &der).await;
        text.lines().map(str::trim).collect::<Vec<_>>().join("\n").replace(" = ", "=")
    };
    let leaf = text(material.svids[0].chain[0].clone()).await;
    for expected in [
        "Signature Algorithm: ecdsa-with-SHA256",
        "Subject: C=US, O=SPIRE, CN=api.localtest.me",
        "Public-Key: (256 bit)",
        "X509v3 Key Usage: critical\nDigital Signature, Key Encipherment, Key Agreement",
        "X509v3 Extended Key Usage:\nTLS Web Server Authentication, TLS Web Client Authentication",
        "X509v3 Basic Constraints: critical\nCA:FALSE",
        "X509v3 Subject Key Identifier:",
        "X509v3 Authority Key Identifier:",
    ] {
        assert!(leaf.contains(expected), "{expected}\n{leaf}");
    }
    let root = text(material.svids[0].bundle.clone()).await;
    for expected in [
        "Subject: C=US, O=SPIFFE, serialNumber=",
        "X509v3 Key Usage: critical\nCertificate Sign, CRL Sign",
        "X509v3 Basic Constraints: critical\nCA:TRUE\n",
        "URI:spiffe://example.org\n",
    ] {
        assert!(root.contains(expected), "{expected}\n{root}");
    }
}

#[tokio::test]
async fn h28_old_protocols() {
    let world = World::start().await;
    let server = world.server(AcceptorConfig::default()).await;
    let address = server.addr.to_string();
    for (count, version) in (1_u32..).zip(["-tls1_2", "-tls1_1", "-tls1"]) {
        let args = ["s_client", "-connect", &address, version, "-cipher", "ALL:@SECLEVEL=0", "-alpn", "h2"];
        let seen = openssl(&args, b"").await;
        assert!(seen.contains("SSL alert number"), "{version}: {seen}");
        until(version, || server.refused(RefuseReason::Protocol) > f64::from(count) - 0.5).await;
    }
}
