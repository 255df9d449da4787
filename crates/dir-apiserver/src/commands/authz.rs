//! `authz …`: policies looked at without starting anything.

use super::{authz_check, authz_explain, authz_test};
use crate::authz::Source;
use crate::cli::Output;
use crate::config::Loaded;
use crate::exit::{Failure, Status};
use clap::{Args, Subcommand, ValueEnum};
use dir_core::policy::{Matching, RecordTraits};
use dir_core::{Principal, Timestamp, TrustDomain};
use dir_runtime::SystemClock;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Commands about policies.
#[derive(Debug, Subcommand)]
pub(crate) enum AuthzCommand {
    /// Finds every fault of a policy, and rules that decide nothing or depend on the matching.
    ///
    /// Exit code 0: in order (there may be warnings). 4: faults or findings.
    Check {
        /// The policy; without it the configured one.
        file: Option<PathBuf>,
        #[command(flatten)]
        reading: Reading,
        /// Form of the answer.
        #[arg(long, short, default_value = "human")]
        output: Output,
    },
    /// Tells whether a caller may call a method, which rule decides, and which rules nearly do.
    ///
    /// Exit code 0: the call goes on. 1: it is refused. 4: the policy is broken.
    Explain {
        /// Who calls: a SPIFFE ID, `oidc:<provider>:…`, `anonymous:http` or `anonymous`.
        #[arg(long, value_name = "ID", value_parser = principal)]
        subject: Principal,
        /// What is called: `/pkg.Service/Method`.
        #[arg(long, value_name = "METHOD")]
        method: String,
        #[command(flatten)]
        record: RecordArgs,
        /// The policy; without it the configured one.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// When, as RFC 3339; without it now.
        #[arg(long, value_name = "TIME", value_parser = time)]
        at: Option<Timestamp>,
        #[command(flatten)]
        reading: Reading,
        /// Form of the answer.
        #[arg(long, short, default_value = "human")]
        output: Output,
    },
    /// Holds a policy against a table of expected decisions.
    ///
    /// Exit code 0: every case is as expected. 1: at least one is not. 4: the policy or the table is broken.
    Test {
        /// The table: YAML with `cases`, each with `subject`, `method`, `expect` and perhaps `rule`, `at`, `name`.
        cases: PathBuf,
        /// The policy; without it the one that the table names, else the configured one.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        #[command(flatten)]
        reading: Reading,
        /// Form of the answer.
        #[arg(long, short, default_value = "human")]
        output: Output,
    },
}

/// The record that the call names, for rules with `resources`: what a server knows of it is in its index, here it is told.
#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// Who pushed the record first.
    #[arg(long, value_name = "ID")]
    owner: Option<String>,
    /// A label of the record, such as `/skills/NAME`. Repeatable.
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,
}

impl RecordArgs {
    fn traits(self) -> Option<RecordTraits> {
        let told = self.owner.is_some() || !self.label.is_empty();
        told.then_some(RecordTraits { owner: self.owner, labels: Some(self.label) })
    }
}

/// How policies are read; what is not given comes from the configuration.
#[derive(Debug, Args)]
pub(crate) struct Reading {
    /// How the method column of a CSV policy is matched; without it as `authz.method_matching` says.
    #[arg(long, value_name = "HOW")]
    matching: Option<MatchingArg>,
    /// The own trust domain, for rules about `local` and `federated`; without it `authn.trust_domain`.
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<TrustDomain>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MatchingArg {
    Strict,
    Compat,
}

impl Reading {
    /// Where the policy comes from.
    pub(super) fn source(&self, file: Option<&Path>, loaded: &Loaded) -> Source {
        let configured = || loaded.config.authn.trust_domain.parse().ok();
        let own = self.trust_domain.clone().or_else(configured);
        let mut source = Source::configured(&loaded.config.authz, own);
        if let Some(file) = file {
            file.clone_into(&mut source.path);
        }
        match self.matching {
            Some(MatchingArg::Strict) => source.matching = Matching::Strict,
            Some(MatchingArg::Compat) => source.matching = Matching::Compat,
            None => {}
        }
        source
    }
}

/// A caller as written on the command line or in a table.
pub(super) fn principal(text: &str) -> Result<Principal, String> {
    match text {
        "anonymous" => return Ok(Principal::Anonymous),
        "anonymous:http" => return Ok(Principal::Http),
        _ if text.starts_with("oidc:") => return Principal::parse_delegated(text).map_err(|e| e.to_string()),
        _ => {}
    }
    let id: dir_core::SpiffeId = text
        .parse()
        .map_err(|e| format!("{e}; or write `oidc:<provider>:…`, `anonymous:http` or `anonymous`"))?;
    if id.is_root() {
        return Err(
            "a caller's SPIFFE ID has a path, such as spiffe://acme.example/ns/web/sa/portal".to_owned()
        );
    }
    Ok(Principal::Spiffe(id))
}

/// RFC 3339.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text).ok_or_else(|| "a time is written 2027-06-30T00:00:00Z".to_owned())
}

pub(super) fn now() -> Timestamp {
    dir_core::Clock::now(&SystemClock)
}

/// A policy that is not taken, as the end of a command.
pub(super) fn broken(source: &Source, error: impl std::fmt::Display) -> Failure {
    let path = source.path.display();
    let text = format!(
        "the policy {path} is not taken: {error}\n`dir-apiserver authz check {path}` shows every fault"
    );
    Failure::new(Status::Config, text)
}

/// Prints a report in the form that was asked for.
pub(super) fn report(output: Output, report: &Value, human: impl FnOnce() -> String) -> anyhow::Result<()> {
    let text = match output {
        Output::Human => human(),
        Output::Json => format!("{report:#}\n"),
        Output::Yaml => serde_saphyr::to_string(report)?,
    };
    super::print(&text)
}

pub(crate) fn run(command: AuthzCommand, loaded: &Loaded) -> anyhow::Result<Status> {
    match command {
        AuthzCommand::Check { file, reading, output } => {
            authz_check::run(&reading.source(file.as_deref(), loaded), output)
        }
        AuthzCommand::Explain { subject, method, record, policy, at, reading, output } => {
            let source = reading.source(policy.as_deref(), loaded);
            let record = record.traits();
            authz_explain::run(&source, &subject, &method, at.unwrap_or_else(now), record.as_ref(), output)
        }
        AuthzCommand::Test { cases, policy, reading, output } => {
            authz_test::run(&cases, policy.as_deref(), &reading, loaded, output)
        }
    }
}
