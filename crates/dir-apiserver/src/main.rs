//! The directory server.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all, and once: with several providers in one program rustls would refuse to choose.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Err(error) = dir_runtime::process::keep_memory_private() {
        eprintln!("Error: cannot switch core dumps off: {error}");
        return ExitCode::FAILURE;
    }
    dir_apiserver::cli::run()
}
