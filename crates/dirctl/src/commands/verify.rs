//! `dirctl verify`

use super::Context;
use crate::fail::Fail;
use crate::output::Format;
use crate::report::Check;
use clap::{Args, Subcommand};
use dir_client::probe::RefuseReason;
use dir_client::probe::{self, Cause, Endpoint, Facts, Met, Seen, Sighting, Trust, Verdict};
use dir_client::{Address, AuthMode, Client, ClientConfig, ClientError, Health, Kind, Source, address};
use dir_core::Clock;
use dir_runtime::SystemClock;
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

const EXAMPLES: &str = "\
Exit codes:
  0 healthy · 3 dns, refused, unreachable · 6 no SVID to judge and call with · 75 timeout, not serving
  7 TLS or identity: plaintext-server, http-proxy, not-tls, closed, handshake-refused, host-not-routed,
    ingress-default-certificate, passthrough-off, no-uri-san, expired, not-yet-valid, foreign-trust-domain,
    untrusted, unexpected-server, old-tls, wrong-alpn, wrong-name, client-refused
  8 token-refused · 1 grpc-failed

Examples:
  dirctl verify tls --endpoint api.example.org:443
  dirctl verify tls --endpoint api.example.org:443 --resolve 203.0.113.7
  dirctl verify tls --endpoint localhost:8888 --json | jq -r .verdict.cause";

/// Check a server from outside
#[derive(Debug, Subcommand)]
pub(crate) enum VerifyCommand {
    Tls(TlsArgs),
}

/// Find out who ends TLS at an endpoint, with which certificate, and name what is wrong
///
/// Looks step by step: DNS, TCP, TLS with and without ALPN, certificate, trust, and a gRPC health call with the
/// credentials of the auth mode, if there are any. In modes jwt and jwt-tls also whether the token is taken.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TlsArgs {
    /// The server [default: the one of the settings]
    #[arg(long, value_name = "HOST:PORT")]
    endpoint: Option<String>,
    /// Name to ask for (SNI) instead of the host
    #[arg(long, value_name = "NAME", conflicts_with = "no_sni")]
    server_name: Option<String>,
    /// Dial this address instead of asking DNS
    #[arg(long, value_name = "IP")]
    resolve: Option<IpAddr>,
    /// Send no name: shows what a proxy shows to those
    #[arg(long)]
    no_sni: bool,
    /// Show every certificate that was sent
    #[arg(long)]
    show_chain: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    endpoint: String,
    server_name: &'a str,
    address: Option<String>,
    verdict: Told<'a>,
    tls: Option<Tls<'a>>,
    certificate: Option<Certificate>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    chain: Vec<Certificate>,
    checks: &'a [Check],
}

#[derive(Serialize)]
struct Told<'a> {
    cause: &'static str,
    text: &'a str,
    next: &'a str,
}

#[derive(Serialize)]
struct Tls<'a> {
    version: &'static str,
    alpn: Option<&'a str>,
    /// `server` for an SVID, `proxy` for anything else.
    ended_by: &'static str,
}

#[derive(Serialize)]
struct Certificate {
    spiffe_id: Option<String>,
    subject: String,
    issuer: String,
    dns_names: Vec<String>,
    serial: String,
    not_before: String,
    not_after: String,
}

impl From<&Seen> for Certificate {
    fn from(seen: &Seen) -> Self {
        Self {
            spiffe_id: seen.spiffe_id.as_ref().map(ToString::to_string),
            subject: seen.presented.subject.clone(),
            issuer: seen.presented.issuer.clone(),
            dns_names: seen.presented.dns_names.clone(),
            serial: seen.serial.clone(),
            not_before: seen.not_before.to_string(),
            not_after: seen.not_after.to_string(),
        }
    }
}

/// What is asked, once the arguments are understood.
struct Asked {
    host: String,
    port: u16,
    server_name: String,
    config: ClientConfig,
}

pub(crate) async fn run(context: &Context, command: VerifyCommand) -> Result<u8, Fail> {
    let VerifyCommand::Tls(args) = command;
    let asked = Asked::read(context, &args)?;
    let mut checks = Vec::new();
    let Some(address) = asked.resolve(&args, &mut checks).await else {
        let verdict = Verdict {
            cause: Cause::Dns,
            text: format!("the name {} does not resolve", asked.host),
            next: "check the spelling, and that its DNS record exists".to_owned(),
        };
        return asked.tell(context, &args, None, &verdict, None, checks);
    };
    let endpoint = Endpoint {
        address,
        server_name: asked.server_name.clone(),
        sni: !args.no_sni,
        timeout: asked.config.connect_timeout,
    };
    let met = probe::look(&endpoint).await;
    let leaf = match &met {
        Met::Tls(sighting) => sighting.chain.first().and_then(|der| probe::inspect(der)),
        _ => None,
    };
    let mut facts = Facts {
        met,
        leaf,
        server_name: asked.server_name.clone(),
        sni: endpoint.sni,
        by_name: matches!(asked.config.auth_mode, AuthMode::JwtTls | AuthMode::Tls | AuthMode::Token),
        now: SystemClock.now(),
        trust: Trust::Unjudged("the certificate is no SVID".to_owned()),
        grpc: None,
    };
    asked.judge(&mut facts, address).await;
    describe(&facts, &mut checks);
    let verdict = probe::verdict(&facts);
    asked.tell(context, &args, Some(address), &verdict, Some(&facts), checks)
}

impl Asked {
    fn read(context: &Context, args: &TlsArgs) -> Result<Self, Fail> {
        let mut config = context.settings()?;
        let text = args.endpoint.as_deref().unwrap_or(&config.server_addr);
        let next = "write host:port or grpcs://host";
        let parsed =
            Address::parse(text).map_err(|e| Fail::usage(format!("endpoint {text:?}: {e}"), next))?;
        let address::Endpoint::Tcp { host, port } = parsed.endpoint else {
            return Err(Fail::usage(format!("endpoint {text:?}: a unix socket has no TLS to verify"), next));
        };
        let named = args.server_name.clone().or_else(|| config.server_name.clone());
        let server_name = named.filter(|n| !n.is_empty()).unwrap_or_else(|| host.clone());
        if config.auth_mode == AuthMode::Insecure && config.spiffe_socket.is_some() {
            config.auth_mode = AuthMode::X509;
        }
        Ok(Self { host, port, server_name, config })
    }

    /// The address to dial; the first one that DNS names.
    async fn resolve(&self, args: &TlsArgs, checks: &mut Vec<Check>) -> Option<SocketAddr> {
        if let Some(ip) = args.resolve {
            checks.push(Check::skipped("dns", format!("{ip}, as said by --resolve")));
            return Some(SocketAddr::new(ip, self.port));
        }
        let found: Vec<SocketAddr> = match tokio::net::lookup_host((self.host.as_str(), self.port)).await {
            Ok(found) => found.collect(),
            Err(error) => {
                checks.push(Check::fault("dns", Cause::Dns.exit_code(), error.to_string(), ""));
                return None;
            }
        };
        let names: Vec<_> = found.iter().map(|address| address.ip().to_string()).collect();
        checks.push(Check::good("dns", format!("{} is {}", self.host, names.join(" "))));
        // Where a name has several addresses, one that answers is looked at.
        for address in &found {
            let dialled = tokio::net::TcpStream::connect(address);
            if let Ok(Ok(_)) = tokio::time::timeout(self.config.connect_timeout, dialled).await {
                return Some(*address);
            }
        }
        found.first().copied()
    }

    /// Trust and a call, with the SVID of this workload if there is one.
    async fn judge(&self, facts: &mut Facts, address: SocketAddr) {
        let Met::Tls(Sighting { chain, .. }) = &facts.met else { return };
        if !facts.by_name && facts.leaf.as_ref().is_none_or(|leaf| leaf.spiffe_id.is_none()) {
            return;
        }
        if self.config.auth_mode == AuthMode::Insecure {
            let why = "no Workload API socket is named (--spiffe-socket-path)";
            facts.trust = Trust::Unjudged(why.to_owned());
            return;
        }
        let config = ClientConfig {
            server_addr: address.to_string(),
            server_addr_source: Source::Flag("--endpoint"),
            server_name: Some(self.server_name.clone()),
            ..self.config.clone()
        };
        let client = match Client::new(config, Arc::new(SystemClock)).await {
            Ok(client) => client,
            Err(error) => {
                facts.trust = Trust::Unjudged(error.to_string());
                return;
            }
        };
        match client.judge_server(chain) {
            Some(Ok(_)) => {
                facts.trust = Trust::Holds;
                facts.grpc = Some(called(&client).await);
            }
            Some(Err(refusal)) => facts.trust = Trust::Refused(refusal.reason, refusal.detail),
            // By name: the connection itself is the judge.
            None => {
                let called = called(&client).await;
                facts.trust = match &called {
                    Err(error) if matches!(error.kind(), Kind::TlsUntrusted | Kind::TlsName) => {
                        Trust::Refused(RefuseReason::BadChain, error.cause().to_owned())
                    }
                    _ => Trust::Holds,
                };
                facts.grpc = Some(called);
            }
        }
    }

    fn tell(
        &self,
        context: &Context,
        args: &TlsArgs,
        address: Option<SocketAddr>,
        verdict: &Verdict,
        facts: Option<&Facts>,
        mut checks: Vec<Check>,
    ) -> Result<u8, Fail> {
        let code = verdict.cause.exit_code();
        checks.push(match verdict.cause {
            Cause::Healthy => Check::good("verdict", verdict.text.as_str()),
            cause => {
                let detail = format!("{}: {}", cause.name(), verdict.text);
                Check::fault("verdict", code, detail, verdict.next.as_str())
            }
        });
        let sighting = facts.and_then(|facts| match &facts.met {
            Met::Tls(sighting) => Some(sighting),
            _ => None,
        });
        let leaf = facts.and_then(|facts| facts.leaf.as_ref());
        let chain: Vec<Seen> = match sighting {
            Some(sighting) if args.show_chain => {
                sighting.chain.iter().filter_map(|der| probe::inspect(der)).collect()
            }
            _ => Vec::new(),
        };
        if context.out.format == Format::Human {
            for (number, seen) in chain.iter().enumerate() {
                let until = seen.not_after;
                context.out.line(format!("{:<12} {number:<9} {}, until {until}", "chain", seen.presented))?;
            }
        }
        context.out.report(
            &checks,
            &Document {
                endpoint: format!("{}:{}", self.host, self.port),
                server_name: &self.server_name,
                address: address.map(|a| a.to_string()),
                verdict: Told { cause: verdict.cause.name(), text: &verdict.text, next: &verdict.next },
                tls: sighting.map(|s| Tls {
                    version: s.version,
                    alpn: s.alpn.as_deref(),
                    ended_by: if leaf.is_some_and(|l| l.spiffe_id.is_some()) { "server" } else { "proxy" },
                }),
                certificate: leaf.map(Certificate::from),
                chain: chain.iter().map(Certificate::from).collect(),
                checks: &checks,
            },
        )?;
        Ok(code)
    }
}

/// Health, and where a token proves us, whether it is taken: health needs none.
async fn called(client: &Client) -> Result<bool, ClientError> {
    let serves = client.health("").await? == Health::Serving;
    if matches!(client.auth_mode(), AuthMode::Jwt | AuthMode::JwtTls) {
        match client.server_info().await {
            Err(error) if error.kind() == Kind::Unauthenticated => return Err(error),
            _ => {}
        }
    }
    Ok(serves)
}

/// One line for each step that was made. What is wrong, and what to do, is said once, by the verdict.
fn describe(facts: &Facts, checks: &mut Vec<Check>) {
    let Met::Tls(sighting) = &facts.met else {
        if !matches!(facts.met, Met::Refused | Met::Unreachable(_) | Met::Timeout) {
            checks.push(Check::good("tcp", "connected"));
        }
        return;
    };
    checks.push(Check::good("tcp", "connected"));
    let sni = if facts.sni { facts.server_name.as_str() } else { "none" };
    let alpn = sighting.alpn.as_deref().unwrap_or(if sighting.refused_h2 { "h2 refused" } else { "none" });
    checks.push(Check::good("tls", format!("{}, SNI {sni}, ALPN {alpn}", sighting.version)));
    if let Some(leaf) = &facts.leaf {
        let who = match &leaf.spiffe_id {
            Some(id) => format!("{id}, DNS names {}", leaf.presented.dns_names.join(" ")),
            None => leaf.presented.to_string(),
        };
        checks.push(Check::good("certificate", format!("{who}, until {}", leaf.not_after)));
    }
    match &facts.trust {
        Trust::Holds => {
            let by = if facts.by_name {
                "the authorities of this client"
            } else {
                "the bundle of its trust domain"
            };
            checks.push(Check::good("trust", format!("the chain holds against {by}")));
        }
        Trust::Refused(reason, text) => {
            checks.push(Check::fault("trust", Cause::Untrusted.exit_code(), format!("{reason}: {text}"), ""));
        }
        Trust::Unjudged(why) => checks.push(Check::skipped("trust", why.as_str())),
    }
    match &facts.grpc {
        Some(Ok(true)) => checks.push(Check::good("grpc", "SERVING")),
        Some(Ok(false)) => {
            checks.push(Check::fault("grpc", Cause::NotServing.exit_code(), "NOT_SERVING", ""));
        }
        Some(Err(error)) => checks.push(Check::fault("grpc", error.exit_code(), error.to_string(), "")),
        None => checks.push(Check::skipped("grpc", "not called")),
    }
}
