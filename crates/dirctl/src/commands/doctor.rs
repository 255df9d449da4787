//! `dirctl doctor`

use super::Context;
use crate::fail::Fail;
use crate::profiles;
use crate::report::{self, Check};
use clap::Args;
use dir_client::probe::Seen;
use dir_client::{Address, Client, ClientConfig, Kind, Source, address, exit};
use dir_core::identity::IdentityReport;
use dir_core::{Clock, Timestamp};
use dir_runtime::SystemClock;
use serde::Serialize;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use tokio::net::UnixStream;

const EXAMPLES: &str = "\
Exit code: 0 without a fault, else that of the first one (6 no SVID, 3 server unreachable, 4 settings, …).

Examples:
  dirctl doctor
  dirctl doctor --profile prod --offline
  dirctl doctor --json | jq '.checks[] | select(.state == \"fault\")'";

/// Difference between two clocks that nothing suffers from, in seconds.
const SKEW_MAX: i64 = 5;
/// An SVID that ends sooner should have been renewed, in seconds.
const EXPIRY_MIN: i64 = 60;

/// Check everything on this side: settings, Workload API, SVID, bundles, clock, DNS
///
/// What is wrong at the server's side: dirctl verify tls.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// Ask neither DNS nor the server
    #[arg(long)]
    offline: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    healthy: bool,
    checks: &'a [Check],
}

pub(crate) async fn run(context: &Context, args: DoctorArgs) -> Result<u8, Fail> {
    let mut checks = Vec::new();
    if let Some(config) = settings(context, &mut checks) {
        if config.auth_mode.needs_workload_api() || config.spiffe_socket.is_some() {
            socket(&config, &mut checks).await;
        } else {
            let why = format!("auth mode {} needs no Workload API", config.auth_mode);
            checks.push(Check::skipped("socket", why));
        }
        if !args.offline {
            dns(&config, &mut checks).await;
        }
        let config = if args.offline { config } else { agreed(config, &mut checks).await };
        files(&config, &mut checks);
        let client = identity(&config, &mut checks).await;
        if let Some(client) = &client {
            token(client, &mut checks).await;
        }
        match client {
            Some(client) if !args.offline => server(&client, &mut checks).await,
            Some(_) => checks.push(Check::skipped("server", "not asked")),
            None => checks.push(Check::skipped("server", "not asked: see above")),
        }
    }
    let code = report::exit_code(&checks);
    context.out.report(&checks, &Document { healthy: code == exit::OK, checks: &checks })?;
    Ok(code)
}

fn of_fail(name: &'static str, fail: Fail) -> Check {
    Check::fault(name, fail.code, fail.message, fail.next)
}

/// Profile and settings; `None` when they are of no use.
fn settings(context: &Context, checks: &mut Vec<Check>) -> Option<ClientConfig> {
    match context.profile() {
        Ok(None) => checks.push(Check::good("profile", "none in force")),
        Ok(Some(profile)) => {
            let unknown: Vec<_> = profile.unknown_keys().collect();
            checks.push(if unknown.is_empty() {
                Check::good("profile", profile.name())
            } else {
                let detail = format!("{}: no setting is called {}", profile.name(), unknown.join(", "));
                Check::warning(
                    "profile",
                    detail,
                    "correct the spelling; dirctl config explain lists the settings",
                )
            });
        }
        Err(fail) => {
            checks.push(of_fail("profile", fail));
            return None;
        }
    }
    if let Some(open) = open_profile_file() {
        checks.push(open);
    }
    match context.settings() {
        Ok(config) => {
            let detail = format!(
                "{} ({}), auth mode {}",
                config.server_addr, config.server_addr_source, config.auth_mode
            );
            checks.push(Check::good("settings", detail));
            Some(config)
        }
        Err(fail) => {
            checks.push(of_fail("settings", fail));
            None
        }
    }
}

/// Profiles may hold secrets: others must not read them.
fn open_profile_file() -> Option<Check> {
    let path = profiles::path(&super::env).ok()?;
    open_to_others(&path).map(|mode| {
        let path = path.display();
        Check::warning(
            "profiles",
            format!("{path} is open to others (mode {mode:o})"),
            format!("chmod 600 {path}"),
        )
    })
}

/// Whether the socket of the Workload API is there, and may be opened.
async fn socket(config: &ClientConfig, checks: &mut Vec<Check>) {
    const NAME: &str = "socket";
    let Some(text) = config.spiffe_socket.as_deref().filter(|s| !s.is_empty()) else {
        let next = "name it with --spiffe-socket-path or SPIFFE_ENDPOINT_SOCKET";
        checks.push(Check::fault(NAME, exit::CONFIG, "no Workload API socket is named", next));
        return;
    };
    let Some(path) = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")).or_else(|| {
        // A bare path.
        text.starts_with('/').then_some(text)
    }) else {
        checks.push(Check::skipped(NAME, format!("{text} is no file")));
        return;
    };
    let agent = "start the SPIFFE agent (spire-agent healthcheck), and check that the path is the one it listens on; in \
                 a pod, that the CSI volume is mounted";
    let fault = |detail: String, next: &str| Check::fault(NAME, exit::NO_SVID, detail, next);
    checks.push(match std::fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => fault(format!("{path} does not exist"), agent),
        Err(e) => fault(format!("{path}: {e}"), "check the modes of every folder above it"),
        Ok(found) if !found.file_type().is_socket() => {
            fault(format!("{path} is no socket"), "name the socket itself, not its folder")
        }
        Ok(_) => match UnixStream::connect(path).await {
            Ok(_) => Check::good(NAME, format!("{path} takes connections")),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => fault(
                format!("{path}: permission denied"),
                "check the modes of the socket and every folder above it",
            ),
            Err(e) => fault(format!("{path}: {e}"), agent),
        },
    });
}

async fn dns(config: &ClientConfig, checks: &mut Vec<Check>) {
    const NAME: &str = "dns";
    let (host, port) = match Address::parse(&config.server_addr) {
        Ok(Address { endpoint: address::Endpoint::Tcp { host, port }, .. }) => (host, port),
        Ok(_) => return checks.push(Check::skipped(NAME, "the server is a unix socket")),
        Err(e) => {
            let next = "write host:port, grpcs://host, grpc://host:port or unix:///path";
            let detail = format!("server address {:?}: {e}", config.server_addr);
            return checks.push(Check::fault(NAME, exit::CONFIG, detail, next));
        }
    };
    checks.push(match tokio::net::lookup_host((host.as_str(), port)).await {
        Ok(found) => {
            let found: Vec<_> = found.map(|a| a.ip().to_string()).collect();
            Check::good(NAME, format!("{host} is {}", found.join(" ")))
        }
        Err(e) => {
            let next = "check the spelling of the host, and that its DNS record exists";
            Check::fault(NAME, exit::UNREACHABLE, format!("{host} does not resolve: {e}"), next)
        }
    });
}

/// The auth mode that the server takes, where none is set.
async fn agreed(config: ClientConfig, checks: &mut Vec<Check>) -> ClientConfig {
    const NAME: &str = "auth mode";
    match config.clone().with_mode_of_server(&(Arc::new(SystemClock) as Arc<dyn Clock>)).await {
        Ok(learnt) => {
            if learnt.auth_mode_source == Source::Server {
                let detail = format!("{}, learnt from the server", learnt.auth_mode);
                checks.push(Check::good(NAME, detail));
            }
            learnt
        }
        Err(error) => {
            checks.push(Check::fault(NAME, error.exit_code(), error.to_string(), error.next_step()));
            config
        }
    }
}

/// Certificates and authorities in files, where the auth mode has some.
fn files(config: &ClientConfig, checks: &mut Vec<Check>) {
    const NAME: &str = "certificate";
    let facts = match config.file_facts() {
        Ok(Some(facts)) => facts,
        Ok(None) => return,
        Err(error) => {
            return checks.push(Check::fault(NAME, error.exit_code(), error.to_string(), error.next_step()));
        }
    };
    let now = SystemClock.now();
    if let Some(leaf) = facts.chain.first() {
        checks.push(validity(NAME, &leaf.presented.to_string(), leaf, now));
    }
    let (all, ended) =
        (facts.authorities.len(), facts.authorities.iter().filter(|a| a.not_after < now).count());
    let earliest = facts.authorities.iter().map(|a| a.not_after).filter(|at| *at >= now).min();
    checks.push(match earliest {
        None => {
            let detail = format!("all {all} have expired: no server can be trusted");
            Check::fault(
                "authorities",
                exit::IDENTITY,
                detail,
                "get the authorities of today from the server's operator",
            )
        }
        Some(at) if ended > 0 => {
            let detail = format!("{ended} of {all} have expired, the next one ends {at}");
            Check::warning("authorities", detail, "take the expired ones out of the file")
        }
        Some(at) => Check::good("authorities", format!("{all}, the first one ends {at}")),
    });
    if let Some((path, mode)) = facts.key.as_ref().and_then(|path| Some((path, open_to_others(path)?))) {
        let path = path.display();
        let detail = format!("{path} holds a key and is open to others (mode {mode:o})");
        checks.push(Check::warning("key", detail, format!("chmod 600 {path}")));
    }
}

/// Whether a certificate is of use now.
fn validity(name: &'static str, who: &str, seen: &Seen, now: Timestamp) -> Check {
    let (left, early) = (seen.not_after.seconds_since(now), seen.not_before.seconds_since(now));
    if left <= 0 {
        let detail = format!("{who}: expired {} s ago", -left);
        return Check::fault(
            name,
            exit::IDENTITY,
            detail,
            "renew it, and compare this clock with another one",
        );
    }
    if early > 0 {
        let detail = format!("{who}: begins in {early} s");
        return Check::fault(name, exit::IDENTITY, detail, "set the clock of this machine (timedatectl)");
    }
    let detail = format!("{who}, until {} ({left} s)", seen.not_after);
    if left < EXPIRY_MIN { Check::warning(name, detail, "renew it") } else { Check::good(name, detail) }
}

/// The mode of a file that more than its owner may read.
fn open_to_others(path: &Path) -> Option<u32> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

/// The JWT-SVID, where the auth mode shows one.
async fn token(client: &Client, checks: &mut Vec<Check>) {
    const NAME: &str = "token";
    let facts = match client.token_facts().await {
        None => return,
        Some(Ok(facts)) => facts,
        Some(Err(error)) => {
            return checks.push(Check::fault(NAME, error.exit_code(), error.to_string(), error.next_step()));
        }
    };
    let left = facts.expires.seconds_since(SystemClock.now());
    let detail = format!("{} for {}, until {} ({left} s)", facts.id, facts.audience, facts.expires);
    checks.push(Check::good(NAME, detail));
    checks.push(match facts.judged {
        None => Check::skipped("jwt keys", "auth mode jwt-tls asks for no bundles"),
        Some(Ok(())) => Check::good("jwt keys", "the key of the token is in the bundle of its trust domain"),
        Some(Err(why)) => Check::fault(
            "jwt keys",
            exit::IDENTITY,
            format!("the token does not hold by the bundles of the Workload API: {why}"),
            "compare this clock with the server's, and: spire-agent api fetch jwt -audience AUDIENCE",
        ),
    });
}

/// SVID and bundles. A client comes back where one can be made.
async fn identity(config: &ClientConfig, checks: &mut Vec<Check>) -> Option<Client> {
    let made = Client::new(config.clone(), Arc::new(SystemClock)).await;
    let client = match made {
        Ok(client) => client,
        Err(error) => {
            let name = if error.kind() == Kind::NoSvid { "svid" } else { "client" };
            checks.push(Check::fault(name, error.exit_code(), error.to_string(), error.next_step()));
            return None;
        }
    };
    match client.identity() {
        Some(report) => held(&report, SystemClock.now(), checks),
        None => checks.push(Check::skipped("svid", format!("auth mode {} has none", config.auth_mode))),
    }
    Some(client)
}

fn held(report: &IdentityReport, now: Timestamp, checks: &mut Vec<Check>) {
    let left = report.not_after.seconds_since(now);
    let detail = format!("{}, until {} ({left} s)", report.id, report.not_after);
    checks.push(if left < EXPIRY_MIN {
        Check::warning("svid", detail, "the agent should have renewed it: check that it reaches its server")
    } else {
        Check::good("svid", detail)
    });
    let empty: Vec<_> =
        report.bundles.iter().filter(|b| b.authorities == 0).map(|b| b.trust_domain.to_string()).collect();
    let all: Vec<_> = report
        .bundles
        .iter()
        .map(|b| format!("{} ({} authorities)", b.trust_domain, b.authorities))
        .collect();
    checks.push(if empty.is_empty() {
        Check::good("bundles", all.join(", "))
    } else {
        let detail = format!("no authority for {}: its servers are not trusted", empty.join(", "));
        Check::warning("bundles", detail, "spire-server bundle list, at this trust domain's server")
    });
    checks.push(match now.seconds_since(report.not_before) {
        early if early < 0 => {
            let detail = format!("the SVID begins in {} s: this clock is behind the agent's", -early);
            Check::warning("clock", detail, "set the clock (timedatectl)")
        }
        _ => Check::good("clock", "within the validity of the SVID"),
    });
}

/// Whether the server answers this client, and what its clock says.
async fn server(client: &Client, checks: &mut Vec<Check>) {
    match client.server_info().await {
        Ok(info) => {
            let now = SystemClock.now();
            checks.push(Check::good(
                "server",
                format!("{} answers, version {}", client.target(), info.version),
            ));
            let told = info.now.as_ref().map(|at| Timestamp::from_secs(at.seconds));
            let skew = told.map(|told| now.seconds_since(told));
            checks.push(match skew {
                Some(skew) if skew.abs() > SKEW_MAX => {
                    let detail = format!("this clock is {skew} s ahead of the server's");
                    Check::warning("skew", detail, "set the clocks of both machines (timedatectl)")
                }
                Some(_) => Check::good("skew", "both clocks agree"),
                None => Check::skipped("skew", "the server does not tell its time"),
            });
        }
        Err(error) if error.kind() == Kind::VersionSkew => {
            checks.push(Check::good("server", format!("{} answers", client.target())));
        }
        Err(error) => {
            let next = match error.exit_code() {
                exit::UNREACHABLE | exit::IDENTITY | exit::TEMPORARY => {
                    format!("{}; dirctl verify tls looks closer", error.next_step())
                }
                _ => error.next_step().to_owned(),
            };
            checks.push(Check::fault("server", error.exit_code(), error.to_string(), next));
        }
    }
}
