//! Handshakes and nothing else: the product's acceptor beside a bare one of the same crates, and who knocks at them.

use crate::identity;
use crate::load::Outcome;
use clap::Args;
use dir_identity::{Connector, ServerCheck};
use futures::StreamExt;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A server of handshakes.
#[derive(Debug, Args)]
pub(crate) struct DoorArgs {
    /// Address to listen on.
    #[arg(long)]
    listen: SocketAddr,
    /// Workload API.
    #[arg(long)]
    socket: String,
    /// Folder with `leaf`, `key` and `roots` in DER: be the bare acceptor, with those.
    #[arg(long)]
    bare: Option<PathBuf>,
}

/// Says a byte, so that the client knows that it was let in, and waits for it to go.
async fn greet(mut io: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    io.write_all(b"!").await?;
    io.flush().await?;
    while io.read(&mut [0; 64]).await? > 0 {}
    Ok(())
}

/// Serves until the process is killed.
pub(crate) async fn serve(args: DoorArgs) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.listen).await?;
    if let Some(dir) = &args.bare {
        return bare(listener, dir).await;
    }
    let identity = identity::obtain(args.socket).await?;
    let mut accepted = std::pin::pin!(identity::accept(listener, identity));
    while let Some(connection) = accepted.next().await {
        tokio::spawn(async move {
            // The place in the caps is given back with this.
            let _held = connection.revoked;
            drop(greet(connection.io).await);
        });
    }
    Ok(())
}

/// tokio-rustls as its documentation has it, with a verifier of client certificates and no tickets, like ours.
async fn bare(listener: TcpListener, dir: &Path) -> anyhow::Result<()> {
    let read = |name: &str| std::fs::read(dir.join(name));
    let mut roots = RootCertStore::empty();
    roots.add(read("roots")?.into())?;
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).clear_root_hint_subjects().build()?;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(read("key")?);
    let mut config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![read("leaf")?.into()], key.into())?;
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    loop {
        let (tcp, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            tcp.set_nodelay(true)?;
            greet(acceptor.accept(tcp).await?).await
        });
    }
}

/// Who knocks.
#[derive(Debug, Args)]
pub(crate) struct KnockArgs {
    /// Port of 127.0.0.1.
    #[arg(long)]
    port: u16,
    /// Workload API.
    #[arg(long)]
    socket: String,
    /// Handshakes at the same time.
    #[arg(long, default_value_t = 32)]
    callers: usize,
    /// How long, in milliseconds, after a warm-up of a tenth of it.
    #[arg(long, default_value_t = 2000)]
    millis: u64,
}

/// Shakes hands for a while, and prints an [`Outcome`] as one line of JSON.
pub(crate) async fn knock(args: KnockArgs) -> anyhow::Result<()> {
    let identity = identity::obtain(args.socket).await?;
    let connector = Connector::new(identity, ServerCheck::TrustDomains(Vec::new()));
    let length = Duration::from_millis(args.millis);
    let start = Instant::now() + length / 10;
    let (end, begun) = (start + length, Arc::new(AtomicU64::new(0)));
    let callers = (0..args.callers).map(|_| {
        let (connector, begun) = (connector.clone(), begun.clone());
        tokio::spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                begun.fetch_add(1, Ordering::Relaxed);
                let at = Instant::now();
                let tcp = TcpStream::connect(("127.0.0.1", args.port)).await?;
                let mut io = connector.connect(tcp, identity::SERVER_NAME).await?;
                io.read_exact(&mut [0]).await?;
                if at >= start {
                    times.push(u32::try_from(at.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
            }
            Ok::<_, anyhow::Error>(times)
        })
    });
    let mut times = Vec::new();
    for caller in futures::future::join_all(callers).await {
        times.append(&mut caller??);
    }
    let outcome = Outcome::of(times, begun.load(Ordering::Relaxed), 0, length.as_secs_f64());
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
