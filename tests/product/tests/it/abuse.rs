//! Attacks on the real binary over mTLS. Each shows three things: the attacker's connection is closed, the server's
//! memory stays where it was, and others are served meanwhile.

use product_tests::attacker::{Attacker, Gang, REQUEST, frame, kind, pulls};
use product_tests::proc::run;
use product_tests::server::{Auth, Records, Server, get};
use product_tests::workload::{self, Workload};
use product_tests::{init, our, wait_until};
use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

/// What the memory of the server may grow by at its highest, in KiB. Each attack would hold several times that if it
/// worked; the debug build, honest calls and the allocator take some.
const GROWTH: u64 = 96 << 10;

/// Short waits, so that being cut off is seen soon.
const IMPATIENT: &str = "limits: { handshake_timeout: 2s, first_request_timeout: 2s, stalled_timeout: 2s }\n";

struct Arena {
    server: Server,
    workload: Workload,
    runtime: tokio::runtime::Runtime,
    gang: Gang,
    cid: String,
    before: u64,
    _dir: tempfile::TempDir,
}

impl Arena {
    fn open() -> Self {
        init();
        let dir = tempfile::tempdir().unwrap();
        let workload = workload::start(dir.path()).unwrap();
        let auth = Auth::X509(workload.socket());
        let server = Server::start_with(dir.path(), &auth, &Records::Layout, IMPATIENT).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let gang = runtime.block_on(Gang::gather(workload.socket(), server.port)).unwrap();
        let mut record: serde_json::Value = serde_json::from_slice(
            &std::fs::read(product_tests::root().join("examples/records/record_100.json")).unwrap(),
        )
        .unwrap();
        // Large enough that answers cannot hide in the buffers of the kernel.
        record["padding"] = "x".repeat(2 << 20).into();
        let file = dir.path().join("large.json");
        std::fs::write(&file, record.to_string()).unwrap();
        let mut arena = Self { server, workload, runtime, gang, cid: String::new(), before: 0, _dir: dir };
        let pushed = arena.dirctl(&["push", file.to_str().unwrap(), "--quiet"]);
        pushed.trim().clone_into(&mut arena.cid);
        arena.dirctl(&["pull", &arena.cid]);
        arena.before = arena.memory("VmRSS");
        arena
    }

    fn dirctl(&self, args: &[&str]) -> String {
        let mut command = Command::new(our("dirctl").unwrap());
        command.env_clear().env("HOME", "/nonexistent");
        command.env("DIRECTORY_CLIENT_SERVER_ADDRESS", format!("127.0.0.1:{}", self.server.port));
        command.env("DIRECTORY_CLIENT_AUTH_MODE", "x509");
        command.env("DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH", self.workload.socket());
        command.args(["--tls-server-name", "api.localtest.me"]).args(args);
        run(&mut command).unwrap().good().unwrap()
    }

    /// A line of `/proc/PID/status`, in KiB.
    fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.proc.pid())).unwrap();
        let value = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')).unwrap();
        value.split_whitespace().next().unwrap().parse().unwrap()
    }

    fn counted(&self, sample: &str) -> bool {
        get(self.server.ops_port, "/metrics").is_ok_and(|(_, page)| {
            let value = page
                .lines()
                .find_map(|line| line.strip_prefix(sample))
                .and_then(|v| v.trim().parse::<f64>().ok());
            value.is_some_and(|value| value > 0.0)
        })
    }

    /// Somebody else is served, now.
    fn honest(&self) {
        let found = self.dirctl(&["search", "--name", "burger_seller_agent"]);
        assert!(found.contains(&self.cid), "{found}");
    }

    fn run<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    /// An attacker sends this, somebody else is served, and the attacker is cut off.
    fn attack(&self, bytes: &[u8]) -> Attacker {
        let mut attacker = self.run(self.gang.member()).unwrap();
        self.run(attacker.send(bytes));
        self.honest();
        self.run(attacker.closed()).unwrap();
        attacker
    }

    /// The memory has stayed, and others are served.
    fn unharmed(&self) {
        self.honest();
        let (before, highest) = (self.before, self.memory("VmHWM"));
        assert!(highest < before + GROWTH, "{before} KiB before, {highest} KiB at the highest");
    }
}

const FLOOD: &str = "drained_total{reason=\"flood\"}";
const STALLED: &str = "drained_total{reason=\"stalled\"}";

#[test]
fn abuse_slow_client_hello_over_tls() {
    let arena = Arena::open();
    // A ClientHello that announces 512 bytes and brings one now and then.
    let mut slow: Vec<_> =
        (0..200).map(|_| TcpStream::connect(("127.0.0.1", arena.server.port)).unwrap()).collect();
    for io in &mut slow {
        io.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).unwrap();
    }
    arena.honest();
    for io in &mut slow {
        // By now some are gone already.
        drop(io.write_all(&[0]));
    }
    for io in &mut slow {
        io.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut rest = [0; 64];
        while let Ok(1..) = io.read(&mut rest) {}
    }
    wait_until("every one is counted", || arena.counted("handshake_failures_total{reason=\"timeout\"}"))
        .unwrap();
    arena.unharmed();
}

#[test]
fn abuse_no_preface_over_tls() {
    let arena = Arena::open();
    let mut silent: Vec<_> = (0..100).map(|_| arena.run(arena.gang.silent()).unwrap()).collect();
    arena.honest();
    for attacker in &mut silent {
        arena.run(attacker.closed()).unwrap();
    }
    assert!(arena.counted("drained_total{reason=\"first_request\"}"));
    arena.unharmed();
}

#[test]
fn abuse_rapid_reset_10k_over_tls() {
    let arena = Arena::open();
    let mut bytes = Vec::new();
    for n in 0..10_000_u32 {
        bytes.extend(frame(kind::HEADERS, 0x4, 2 * n + 1, &REQUEST));
        bytes.extend(frame(kind::RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8]));
    }
    arena.attack(&bytes);
    arena.unharmed();
}

#[test]
fn abuse_locally_provoked_resets_over_tls() {
    let arena = Arena::open();
    let mut bytes = Vec::new();
    for n in 0..10_000_u32 {
        bytes.extend(frame(kind::HEADERS, 0x4, 2 * n + 1, &REQUEST));
        bytes.extend(frame(kind::WINDOW_UPDATE, 0, 2 * n + 1, &[0; 4]));
    }
    arena.attack(&bytes);
    arena.unharmed();
}

/// A header of about 256 bytes that is not indexed, again and again.
fn fat_headers(times: usize) -> Vec<u8> {
    [&[0x00, 1, b'x', 0x7f, 0x81, 0x01][..], &[b'y'; 256]].concat().repeat(times)
}

#[test]
fn abuse_continuation_flood_over_tls() {
    let arena = Arena::open();
    let more = frame(kind::CONTINUATION, 0, 1, &fat_headers(60));
    // 150 MB of headers that never end.
    let mut attacker = arena.run(arena.gang.member()).unwrap();
    arena.run(attacker.send(&frame(kind::HEADERS, 0, 1, &REQUEST)));
    for _ in 0..100 {
        arena.run(attacker.send(&more.repeat(100)));
    }
    arena.honest();
    arena.run(attacker.closed()).unwrap();
    arena.unharmed();
}

#[test]
fn abuse_64_kib_headers_over_tls() {
    let arena = Arena::open();
    let block = [&REQUEST[..], &fat_headers(256)].concat();
    let mut bytes = Vec::new();
    for n in 0..100_u32 {
        let last = block.chunks(16 << 10).count() - 1;
        for (part, chunk) in block.chunks(16 << 10).enumerate() {
            let kind = if part == 0 { kind::HEADERS } else { kind::CONTINUATION };
            bytes.extend(frame(kind, if part == last { 0x4 } else { 0 }, 2 * n + 1, chunk));
        }
    }
    arena.attack(&bytes);
    arena.unharmed();
}

#[test]
fn abuse_ping_flood_over_tls() {
    let arena = Arena::open();
    arena.attack(&frame(kind::PING, 0, 0, &[7; 8]).repeat(100_000));
    assert!(arena.counted(FLOOD));
    arena.unharmed();
}

#[test]
fn abuse_control_frame_flood_over_tls() {
    let arena = Arena::open();
    arena.attack(&frame(kind::SETTINGS, 0, 0, &[]).repeat(100_000));
    assert!(arena.counted(FLOOD));
    arena.unharmed();
}

#[test]
fn abuse_slow_reader_with_its_window_shut_over_tls() {
    let arena = Arena::open();
    // A thousand answers of two mebibytes, and one byte of each may be sent.
    arena.attack(&pulls(&arena.cid, 1000, 1));
    assert!(arena.counted(STALLED));
    arena.unharmed();
}

#[test]
fn abuse_slow_reader_of_its_socket_over_tls() {
    let arena = Arena::open();
    let mut attacker = arena.run(arena.gang.member()).unwrap();
    let wide = frame(kind::WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
    arena.run(attacker.send(&[wide, pulls(&arena.cid, 1000, 1 << 30)].concat()));
    arena.honest();
    wait_until("it is cut off", || arena.counted(STALLED)).unwrap();
    arena.run(attacker.closed()).unwrap();
    arena.unharmed();
}

#[test]
fn abuse_per_stream_trickle_over_tls() {
    let arena = Arena::open();
    let mut attacker = arena.run(arena.gang.member()).unwrap();
    arena.run(attacker.send(&pulls(&arena.cid, 8, 1)));
    arena.honest();
    wait_until("it is cut off", || {
        for n in 0..8 {
            arena.run(attacker.send(&frame(kind::WINDOW_UPDATE, 0, 2 * n + 1, &1_u32.to_be_bytes())));
        }
        arena.counted(STALLED)
    })
    .unwrap();
    arena.run(attacker.closed()).unwrap();
    arena.unharmed();
}
