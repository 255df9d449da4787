//! The command line.

use crate::commands::{audit, completion, federation, store, version};
use clap::{Args, Parser, Subcommand, ValueEnum};
use dir_client::settings::Flags;

const AFTER_HELP: &str = "\
Settings are taken from flags, then from the environment, then from defaults.
A run writes one summary line (or one JSON document) to stdout, everything else to stderr,
and ends by itself: every wait is bounded.

Exit codes:
  0 done · 1 failed · 2 wrong usage · 3 server unreachable · 4 wrong configuration
  6 no SVID in time · 7 TLS or identity mismatch · 8 not allowed · 9 rate-limited
  10 done, with warnings · 75 temporary, try again · 130 interrupted from the keyboard";

/// Jobs of a directory, run by hand or as CronJobs
#[derive(Debug, Parser)]
#[command(name = "dir-admin", version = version::TEXT, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For reading.
    Human,
    /// One JSON document.
    Json,
}

/// Settings of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Server: host:port, grpcs://host or grpc://host:port [env: DIRECTORY_CLIENT_SERVER_ADDRESS]
    /// [default: 0.0.0.0:8888, which is this machine]
    #[arg(long, global = true, value_name = "ADDR")]
    server_addr: Option<String>,
    /// insecure, none (plaintext), x509, jwt (SPIFFE), jwt-tls (SPIFFE behind a TLS proxy), tls, token (files)
    /// [env: DIRECTORY_CLIENT_AUTH_MODE] [default: x509]
    #[arg(long, global = true, value_name = "MODE")]
    auth_mode: Option<String>,
    /// Workload API for x509, jwt and jwt-tls: unix:///path [env: DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH, SPIFFE_ENDPOINT_SOCKET]
    #[arg(long, global = true, value_name = "SOCKET")]
    spiffe_socket_path: Option<String>,
    /// For jwt and jwt-tls, the audience that the server expects [env: DIRECTORY_CLIENT_JWT_AUDIENCE]
    #[arg(long, global = true, value_name = "AUDIENCE")]
    jwt_audience: Option<String>,
    /// File for token: JSON with certificate, key and roots [env: DIRECTORY_CLIENT_SPIFFE_TOKEN]
    #[arg(long, global = true, value_name = "FILE")]
    spiffe_token: Option<String>,
    /// For x509 and jwt, the server to expect: a SPIFFE ID, a pattern such as spiffe://example.org/ns/*/sa/api, or a trust
    /// domain [env: DIRECTORY_CLIENT_EXPECTED_SERVER_ID] [default: any workload of the own trust domain]
    #[arg(long, global = true, value_name = "ID")]
    expected_server_id: Option<String>,
    /// Name to ask the server for (SNI) instead of its host [env: DIRECTORY_CLIENT_TLS_SERVER_NAME]
    #[arg(long, global = true, value_name = "NAME")]
    tls_server_name: Option<String>,
    /// Authorities for tls, and for jwt-tls instead of the public ones, PEM [env: DIRECTORY_CLIENT_TLS_CA_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    tls_ca_file: Option<String>,
    /// Client certificate chain for tls, PEM [env: DIRECTORY_CLIENT_TLS_CERT_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    tls_cert_file: Option<String>,
    /// Client key for tls, PEM [env: DIRECTORY_CLIENT_TLS_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    tls_key_file: Option<String>,
    /// Longest wait for the SVID, for the connection and for each answer: 500ms, 30s, 2m
    /// [env: DIRECTORY_CLIENT_TIMEOUT] [default: 30s]
    #[arg(long, global = true, value_name = "TIME")]
    timeout: Option<String>,
    /// How the result is written
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum, default_value = "human")]
    pub(crate) output: Format,
}

impl GlobalArgs {
    /// What the flags say of the connection.
    pub(crate) fn flags(&self) -> Flags {
        Flags {
            server_addr: self.server_addr.clone(),
            auth_mode: self.auth_mode.clone(),
            spiffe_socket_path: self.spiffe_socket_path.clone(),
            jwt_audience: self.jwt_audience.clone(),
            spiffe_token: self.spiffe_token.clone(),
            expected_server_id: self.expected_server_id.clone(),
            tls_server_name: self.tls_server_name.clone(),
            tls_ca_file: self.tls_ca_file.clone(),
            tls_cert_file: self.tls_cert_file.clone(),
            tls_key_file: self.tls_key_file.clone(),
            timeout: self.timeout.clone(),
        }
    }
}

impl Command {
    /// Its name in reports.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Command::Audit(_) => "audit",
            Command::Federation(_) => "federation",
            Command::Store(command) => command.name(),
            Command::Version(_) => "version",
            Command::Completion(_) => "completion",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    #[command(subcommand)]
    Federation(federation::FederationCommand),
    #[command(subcommand)]
    Store(store::StoreCommand),
    Version(version::VersionArgs),
    Completion(completion::CompletionArgs),
}
