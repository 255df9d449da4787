//! The directory server.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all, and once: with several providers in one program rustls would refuse to choose.
    let _ = rustls::crypto::ring::default_provider().install_default();
    dir_apiserver::cli::run()
}
