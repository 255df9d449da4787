//! Servers that are restarted one after the other behind nginx, under load from clients that honour GOAWAY.

use product_tests::caller::{CallerArgs, client, document};
use product_tests::callers::{Caller, sum};
use product_tests::nginx::Nginx;
use product_tests::server::{Auth, Records, Server};
use product_tests::{init, workload};
use std::path::Path;

const NAME: &str = "api.localtest.me";

#[test]
fn p_a_rolling_restart_behind_nginx_fails_no_call() {
    init();
    let dir = tempfile::tempdir().unwrap();
    let workload = workload::start(dir.path()).unwrap();
    let socket = workload.socket();
    let auth = Auth::X509(socket.clone());
    let homes = ["one", "two"].map(|name| dir.path().join(name));
    let mut servers: Vec<Server> = homes
        .iter()
        .map(|home| {
            std::fs::create_dir(home).unwrap();
            Server::start(home, &auth, &Records::Layout).unwrap()
        })
        .collect();
    let ports: Vec<(u16, u16)> = servers.iter().map(|s| (s.port, s.ops_port)).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        for (port, _) in &ports {
            let direct = client(&format!("127.0.0.1:{port}"), NAME, &socket).await.unwrap();
            direct.push_one(document().unwrap()).await.unwrap();
        }
    });
    let nginx = Nginx::before(dir.path(), &[ports[0].0, ports[1].0]).unwrap();
    let args = CallerArgs {
        address: format!("127.0.0.1:{}", nginx.port),
        server_name: NAME.to_owned(),
        socket,
        expect: None,
        streams: 10,
        unary: 4,
        fresh: false,
    };
    let program = Path::new(env!("CARGO_BIN_EXE_caller"));
    let callers: Vec<_> = (0..3).map(|_| Caller::start(program, &args).unwrap()).collect();
    for _ in 0..2 {
        for at in 0..servers.len() {
            let server = servers.remove(at);
            assert_eq!(server.stop().unwrap(), Some(0));
            let mut again = Server::spawn_at(&homes[at], &auth, &Records::Layout, ports[at]).unwrap();
            again.wait_ready().unwrap();
            servers.insert(at, again);
        }
    }
    let tally = sum(callers.into_iter().map(|caller| caller.finish().unwrap()));
    assert_eq!(tally.failed, 0, "{tally:?}");
    assert!(tally.answered > 100, "{tally:?}");
    for server in servers {
        let log = server.proc.output();
        assert!(log.contains("serving"), "{log}");
    }
    // Both served: nginx took turns, and nobody was left on one of them.
    let routed = std::fs::read_to_string(dir.path().join("sni.log")).unwrap();
    for (port, _) in ports {
        assert!(routed.contains(&format!("to=127.0.0.1:{port}")), "{routed}");
    }
}
