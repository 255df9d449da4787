//! Benchmarks of the whole server: `dir-bench report` starts everything, loads it from processes of their own
//! over real mTLS, and compares with a bare echo behind the same acceptor in the same run.

mod ask;
mod bench;
mod codec;
mod doors;
mod doorstep;
mod echo;
mod fill;
mod guard;
mod identity;
mod listen;
mod load;
mod process;
mod pushes;
mod records;
mod registry;
mod report;
mod siege;
mod stores;
mod world;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(version, about = "Benchmarks of the directory server over real mTLS")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every benchmark and print the report; JSON goes to a file.
    Report(bench::ReportArgs),
    /// Serve the bare echo (started by `report`).
    Echo {
        /// Address to listen on.
        #[arg(long)]
        listen: std::net::SocketAddr,
        /// Workload API.
        #[arg(long)]
        socket: String,
    },
    /// Load a server (started by `report`).
    Load(load::LoadArgs),
    /// Serve handshakes and nothing else (started by `report`).
    Door(doorstep::DoorArgs),
    /// Shake hands (started by `report`).
    Knock(doorstep::KnockArgs),
    /// Attack a server (started by `report`).
    Siege(siege::SiegeArgs),
    /// Fill a store directory, or a Zot data directory, with generated records.
    Fill(fill::FillArgs),
}

fn main() -> anyhow::Result<()> {
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match Cli::parse().command {
        Command::Report(args) => bench::run(args, &runtime),
        Command::Echo { listen, socket } => runtime.block_on(echo::serve(listen, socket)),
        Command::Load(args) => runtime.block_on(load::run(args)),
        Command::Door(args) => runtime.block_on(doorstep::serve(args)),
        Command::Knock(args) => runtime.block_on(doorstep::knock(args)),
        Command::Siege(args) => runtime.block_on(siege::run(args)),
        Command::Fill(args) => fill::run(&args),
    }
}
