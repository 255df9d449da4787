//! `dir-admin federation list`, `show` and `refresh`

use super::{connect, failed, print};
use crate::cli::{Format, GlobalArgs};
use crate::report::{Failure, span};
use clap::Args;
use dir_client::{Client, ClientConfig, ClientError, exit};
use dir_core::Timestamp;
use dir_proto::directory::admin::v1 as pb;
use dir_runtime::SystemClock;
use serde::Serialize;
use std::future::Future;
use std::sync::Arc;

/// List the partners whose bundles a server fetches by itself
///
/// Exit code 10 when a partner is untrusted, or its last fetch failed.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {}

/// Show one partner, with the fingerprints of its keys
///
/// Exit code 10 when it is untrusted, or its last fetch failed; 1 when there is no such partner.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Name of its trust domain
    #[arg(value_name = "TRUST_DOMAIN")]
    trust_domain: String,
}

/// Have the server fetch a partner's bundle now
///
/// A fetch that fails changes nothing: the last good bundle stays in force. Exit code 10 then, 1 when there is no such
/// partner.
#[derive(Debug, Args)]
pub(crate) struct RefreshArgs {
    /// Name of its trust domain
    #[arg(value_name = "TRUST_DOMAIN")]
    trust_domain: String,
}

/// A partner. Times are RFC 3339, durations whole seconds.
#[derive(Debug, Serialize)]
struct Partner {
    /// `ok` or `warning`.
    status: &'static str,
    trust_domain: String,
    url: String,
    source: String,
    sequence: Option<u64>,
    fetched_at: Option<String>,
    fetched_seconds_ago: Option<i64>,
    next_fetch_in_seconds: Option<i64>,
    failures: u32,
    error: String,
    stale: bool,
    fingerprints: Vec<String>,
}

impl Partner {
    fn new(partner: pb::Partner, now: i64) -> Self {
        let good = !partner.stale && partner.failures == 0 && !partner.source.is_empty();
        Self {
            status: if good { "ok" } else { "warning" },
            trust_domain: partner.trust_domain,
            url: partner.url,
            source: partner.source,
            sequence: partner.sequence,
            fetched_at: partner.fetched_at.map(|at| Timestamp::from_secs(at.seconds).rfc3339()),
            fetched_seconds_ago: partner.fetched_at.map(|at| (now - at.seconds).max(0)),
            next_fetch_in_seconds: partner.next_fetch.map(|at| (at.seconds - now).max(0)),
            failures: partner.failures,
            error: partner.error,
            stale: partner.stale,
            fingerprints: partner.fingerprints,
        }
    }

    fn line(&self) -> String {
        let source = if self.source.is_empty() { "no bundle" } else { &self.source };
        let mut line =
            format!("{} {}: {source}, {} key(s)", self.trust_domain, self.status, self.fingerprints.len());
        if let Some(sequence) = self.sequence {
            line += &format!(", sequence {sequence}");
        }
        if let Some(ago) = self.fetched_seconds_ago {
            line += &format!(", fetched {} ago", span(ago));
        }
        if let Some(next) = self.next_fetch_in_seconds.filter(|_| !self.url.is_empty()) {
            line += &format!(", next in {}", span(next));
        }
        if self.stale {
            line += "; NOT trusted: its bundle is too old";
        }
        if !self.error.is_empty() {
            line += &format!("; {} failed fetch(es): {}", self.failures, self.error);
        }
        line
    }
}

pub(super) async fn list(global: &GlobalArgs) -> u8 {
    let asked = asked(global, |client| async move { client.federation_partners().await }).await;
    match asked {
        Ok(answer) => tell_all(global, &partners(answer)),
        Err(failure) => failed(global, "federation list", &failure),
    }
}

pub(super) async fn show(global: &GlobalArgs, args: &ShowArgs) -> u8 {
    let asked = asked(global, |client| async move { client.federation_partners().await }).await;
    let found = asked.and_then(|answer| {
        let found = partners(answer).into_iter().find(|partner| partner.trust_domain == args.trust_domain);
        let none = || format!("the server fetches no bundle of {}", args.trust_domain);
        found.ok_or_else(|| {
            Failure::new("not_found", none(), "dir-admin federation list".to_owned(), exit::GENERIC)
        })
    });
    match found {
        Ok(partner) => tell(global, &partner),
        Err(failure) => failed(global, "federation show", &failure),
    }
}

pub(super) async fn refresh(global: &GlobalArgs, args: RefreshArgs) -> u8 {
    let domain = args.trust_domain;
    let asked = asked(global, |client| async move { client.refresh_partner(&domain).await }).await;
    match asked {
        Ok(answer) => {
            let now = answer.now.map_or(0, |now| now.seconds);
            let mut partner = Partner::new(answer.partner.unwrap_or_default(), now);
            if !answer.error.is_empty() {
                partner.error = answer.error;
                partner.status = "warning";
            }
            tell(global, &partner)
        }
        Err(failure) => failed(global, "federation refresh", &failure),
    }
}

fn partners(answer: pb::ListPartnersResponse) -> Vec<Partner> {
    let now = answer.now.map_or(0, |now| now.seconds);
    answer.partners.into_iter().map(|partner| Partner::new(partner, now)).collect()
}

fn tell_all(global: &GlobalArgs, partners: &[Partner]) -> u8 {
    print(&match global.output {
        Format::Human if partners.is_empty() => {
            "the server fetches no bundles: federation.trust_domains".to_owned()
        }
        Format::Human => partners.iter().map(Partner::line).collect::<Vec<_>>().join("\n"),
        Format::Json => serde_json::json!({ "partners": partners }).to_string(),
    });
    if partners.iter().all(|partner| partner.status == "ok") { exit::OK } else { exit::PARTIAL }
}

fn tell(global: &GlobalArgs, partner: &Partner) -> u8 {
    print(&match global.output {
        Format::Human => {
            let keys = partner.fingerprints.iter().map(|key| format!("\n  sha256 {key}"));
            partner.line() + &keys.collect::<String>()
        }
        Format::Json => serde_json::to_string(partner).unwrap_or_default(),
    });
    if partner.status == "ok" { exit::OK } else { exit::PARTIAL }
}

/// One question, within its bound.
async fn asked<R, F>(global: &GlobalArgs, question: impl FnOnce(Client) -> F) -> Result<R, Failure>
where
    F: Future<Output = Result<R, ClientError>>,
{
    let config = connect::config(global)?;
    let bound = connect::bound(&config);
    let late = connect::late(&config, "ask", bound);
    let answered = async { question(client(config).await?).await };
    tokio::time::timeout(bound, answered).await.unwrap_or(Err(late)).map_err(Failure::from)
}

async fn client(config: ClientConfig) -> Result<Client, ClientError> {
    Client::new(config, Arc::new(SystemClock)).await
}
