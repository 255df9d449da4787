//! Two SPIRE servers that federate with each other by SPIRE's own means, by each profile of the bundle endpoint; the
//! partner's callers are judged by our policy until the federation ends.

use crate::support::{short_dir, until};
use product_tests::caller::{CallerArgs, client, document};
use product_tests::callers::Caller;
use product_tests::proc::{Ran, run};
use product_tests::server::{Auth, Records, Server};
use product_tests::spire::{Options, Spire};
use product_tests::{init, our, tool};
use std::path::{Path, PathBuf};
use std::process::Command;

const OURS: &str = "example.org";
const THEIRS: &str = "partner.example";
const POLICY: &str = "p,example.org,*\np,partner.example,/agntcy.dir.store.v1.StoreService/Pull\n";

/// A root, and a certificate of 127.0.0.1 below it: chain, key, root.
fn web_certificate(dir: &Path) -> (PathBuf, PathBuf, PathBuf) {
    let openssl = tool("openssl", "install the package openssl").unwrap();
    let make = |args: &str| {
        run(Command::new(&openssl).current_dir(dir).args(args.split(' '))).unwrap().good().unwrap();
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    make(&format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=root"));
    make(&format!(
        "req -x509 {key} -keyout web.key -out web.pem -subj /CN=web -CA ca.pem -CAkey ca.key \
         -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE"
    ));
    (dir.join("web.pem"), dir.join("web.key"), dir.join("ca.pem"))
}

/// `here` takes the bundle of `there` from its endpoint.
fn federate(here: &Spire, there: &Spire, name: &str, web: bool, dir: &Path) {
    let url = format!("https://127.0.0.1:{}/", there.bundle_port);
    let mut args = vec!["federation", "create", "-trustDomain", name, "-bundleEndpointURL", &url];
    let (id, file) = (format!("spiffe://{name}/spire/server"), dir.join(format!("{name}.json")));
    let path = file.display().to_string();
    if web {
        args.extend(["-bundleEndpointProfile", "https_web"]);
    } else {
        std::fs::write(&file, there.server_command(&["bundle", "show", "-format", "spiffe"]).unwrap())
            .unwrap();
        args.extend(["-bundleEndpointProfile", "https_spiffe", "-endpointSpiffeID", &id]);
        args.extend(["-trustDomainBundlePath", &path, "-trustDomainBundleFormat", "spiffe"]);
    }
    here.server_command(&args).unwrap();
    until("the partner's bundle", || {
        drop(here.server_command(&["federation", "refresh", "-id", name]));
        here.server_command(&["bundle", "list"]).is_ok_and(|list| list.contains(name))
    });
}

fn dirctl(socket: &str, port: u16, args: &[&str]) -> Ran {
    let mut command = Command::new(our("dirctl").unwrap());
    command.env_clear().env("HOME", "/nonexistent");
    command.env("DIRECTORY_CLIENT_SERVER_ADDRESS", format!("localhost:{port}"));
    command.env("DIRECTORY_CLIENT_AUTH_MODE", "x509").env("DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH", socket);
    command.args(["--expected-server-id", OURS]).args(args);
    run(&mut command).unwrap()
}

fn story(web: bool) {
    init();
    let (here, there) = (short_dir(), short_dir());
    let (mut our_options, mut their_options) = (Options::default(), Options::default());
    if web {
        let (chain, key, roots) = web_certificate(there.path());
        their_options.web = Some((chain, key));
        our_options.web_roots = Some(roots);
    }
    let ours = Spire::start_with(here.path(), OURS, &our_options).unwrap();
    let theirs = Spire::start_with(there.path(), THEIRS, &their_options).unwrap();
    federate(&ours, &theirs, THEIRS, web, here.path());
    federate(&theirs, &ours, OURS, false, there.path());
    let with = "-federatesWith";
    ours.register_with("/ns/dir/sa/apiserver", &["localhost"], &[with, "spiffe://partner.example"]).unwrap();
    theirs.register_with("/ns/dir/sa/client", &[], &[with, "spiffe://example.org"]).unwrap();

    let policy = here.path().join("policy.csv");
    std::fs::write(&policy, POLICY).unwrap();
    let more = format!("authz: {{ enabled: true, enforcer_policy_file_path: {} }}\n", policy.display());
    let auth = Auth::X509(ours.socket());
    let mut server = Server::start_with(here.path(), &auth, &Records::Layout, &more).unwrap();
    let address = format!("localhost:{}", server.port);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cid = runtime.block_on(async {
        let own = client(&address, "localhost", &ours.socket()).await.unwrap();
        own.push_one(document().unwrap()).await.unwrap().to_string()
    });

    // Allowed what the policy gives, denied the rest.
    let socket = theirs.socket();
    let pulled = dirctl(&socket, server.port, &["pull", &cid]).good().unwrap();
    assert!(pulled.contains("caller.example/asked-for"), "{pulled}");
    let denied = dirctl(&socket, server.port, &["delete", "--yes", &cid]);
    assert_eq!(denied.status.code(), Some(8), "{}{}", denied.stdout, denied.stderr);
    server.proc.wait_for_output("spiffe://partner.example/ns/dir/sa/client").unwrap();

    // The federation ends under an open stream.
    let args = CallerArgs {
        address,
        server_name: "localhost".to_owned(),
        socket: socket.clone(),
        expect: Some(OURS.to_owned()),
        streams: 1,
        unary: 0,
        fresh: false,
    };
    let mut caller = Caller::start(Path::new(env!("CARGO_BIN_EXE_caller")), &args).unwrap();
    ours.server_command(&["federation", "delete", "-id", THEIRS]).unwrap();
    let id = format!("spiffe://{THEIRS}");
    ours.server_command(&["bundle", "delete", "-id", &id, "-mode", "dissociate"]).unwrap();
    server.proc.wait_for_output("identity no longer trusted").unwrap();
    // The server has said it; the caller hears it a moment later.
    caller.wait_failed().unwrap();
    let tally = caller.finish().unwrap();
    let told = tally.errors.first().is_some_and(|e| e.contains("identity no longer trusted"));
    assert!(told, "{tally:?}");
    let refused = dirctl(&socket, server.port, &["pull", &cid]);
    assert!(!refused.status.success(), "{}", refused.stdout);
    server.proc.wait_for_output("no bundle for trust domain partner.example").unwrap();
}

#[test]
fn d0_two_spire_servers_federate_by_https_spiffe() {
    story(false);
}

#[test]
fn d0_two_spire_servers_federate_by_https_web() {
    story(true);
}
