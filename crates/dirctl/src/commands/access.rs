//! `dirctl access`

use super::Context;
use crate::fail::Fail;
use crate::output::Format;
use clap::{Args, Subcommand};
use dir_client::{AccessRule, ExplainAccessResponse, exit};
use dir_core::policy::PERMISSIONS;
use serde::Serialize;

const EXAMPLES: &str = "\
Examples:
  dirctl access explain
  dirctl access explain /agntcy.dir.store.v1.StoreService/Push
  dirctl access explain StoreService/Delete --resource baeareih…
  dirctl access explain StoreService/Pull --subject spiffe://partner.example/ns/dir/sa/reader
  dirctl access explain StoreService/Push --subject oidc:google:alice@acme.example \\
      --gateway spiffe://acme.example/ns/gateway/sa/oidc";

/// What is asked about when no method is named.
const USUAL: &str = "StoreService/Push";

/// Ask the server who may call what
#[derive(Debug, Subcommand)]
pub(crate) enum AccessCommand {
    Explain(ExplainArgs),
}

/// Ask who you are to the server, whether you may call a method (exit code 0) or not (8), and which rule says so
///
/// Everybody with an identity may ask about himself; asking about others needs @admin. The rules are the server's: they
/// are named by their ids and lines.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExplainArgs {
    /// Method: /pkg.Service/Method, or Service/Method: the last word of a known service
    #[arg(value_name = "METHOD", default_value = USUAL)]
    method: String,
    /// Ask about somebody else: a SPIFFE ID, oidc:PROVIDER:NAME, anonymous:http or anonymous
    #[arg(long, value_name = "ID")]
    subject: Option<String>,
    /// The subject comes through this gateway: a SPIFFE ID
    #[arg(long, value_name = "ID", requires = "subject")]
    gateway: Option<String>,
    /// The call is about this record: rules with conditions on owner or labels decide
    #[arg(long, value_name = "CID")]
    resource: Option<String>,
}

#[derive(Serialize)]
struct Answer<'a> {
    subject: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    gateway: &'a str,
    method: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    resource: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    owner: &'a str,
    decision: &'a str,
    cause: &'a str,
    rule: Option<Rule<'a>>,
    nearest: Vec<Rule<'a>>,
    policy_generation: u64,
    server: String,
}

#[derive(Serialize)]
struct Rule<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    effect: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    difference: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    subjects: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    methods: &'a str,
}

impl<'a> From<&'a AccessRule> for Rule<'a> {
    fn from(rule: &'a AccessRule) -> Self {
        Self {
            id: &rule.id,
            line: Some(rule.line).filter(|line| *line > 0),
            effect: &rule.effect,
            difference: &rule.difference,
            subjects: &rule.subjects,
            methods: &rule.methods,
        }
    }
}

pub(crate) async fn run(context: &Context, command: &AccessCommand) -> Result<u8, Fail> {
    let AccessCommand::Explain(args) = command;
    let method = full(&args.method)?;
    let client = context.client().await?;
    let told = client
        .explain_access(&method, args.subject.as_deref(), args.gateway.as_deref(), args.resource.as_deref())
        .await?;
    match context.out.format {
        Format::Human => context.out.line(human(&told).trim_end())?,
        Format::Json | Format::Yaml => context.out.value(&Answer {
            subject: &told.subject,
            gateway: &told.gateway,
            method: &told.method,
            resource: &told.resource,
            owner: &told.owner,
            decision: &told.decision,
            cause: &told.cause,
            rule: told.rule.as_ref().map(Rule::from),
            nearest: told.nearest.iter().map(Rule::from).collect(),
            policy_generation: told.policy_generation,
            server: client.address(),
        })?,
    }
    let goes_on = matches!(told.decision.as_str(), "allow" | "would_deny");
    Ok(if goes_on { exit::OK } else { exit::DENIED })
}

/// The full name of a method.
fn full(text: &str) -> Result<String, Fail> {
    let name = text.trim_start_matches('/');
    match name.split_once('/') {
        Some((service, method)) if !service.is_empty() && !method.is_empty() => {
            let named = |known: &&str| known.rsplit('.').next() == Some(service);
            let known = PERMISSIONS.iter().map(|(service, _)| *service).find(named).unwrap_or(service);
            Ok(format!("/{known}/{method}"))
        }
        _ => Err(Fail::usage(
            format!("{text:?} is no method"),
            "write /agntcy.dir.search.v1.SearchService/SearchRecords or StoreService/Push",
        )),
    }
}

fn human(told: &ExplainAccessResponse) -> String {
    let through = if told.gateway.is_empty() { String::new() } else { format!(" through {}", told.gateway) };
    let mut text = format!("{}: {}{through} calling {}\n", told.decision, told.subject, told.method);
    text.push_str(&format!("  {}\n", told.cause));
    if !told.resource.is_empty() {
        let owner = if told.owner.is_empty() { String::new() } else { format!(", owned by {}", told.owner) };
        text.push_str(&format!("  about {}{owner}\n", told.resource));
    }
    if let Some(rule) = &told.rule {
        text.push_str(&format!("  decided by {}\n", spelled(rule)));
    }
    for rule in &told.nearest {
        text.push_str(&format!("  nearest {} {}\n", spelled(rule), rule.difference));
    }
    if told.policy_generation > 0 {
        text.push_str(&format!("  policy number {} since the start of the server\n", told.policy_generation));
    }
    text
}

fn spelled(rule: &AccessRule) -> String {
    let line = if rule.line > 0 { format!(" (line {})", rule.line) } else { String::new() };
    let text = if rule.subjects.is_empty() {
        String::new()
    } else {
        format!(", {} {} to call {},", rule.effect, rule.subjects.join(", "), rule.methods)
    };
    format!("rule {}{line}{text}", rule.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_methods() {
        for (text, name) in [
            ("/agntcy.dir.store.v1.StoreService/Push", "/agntcy.dir.store.v1.StoreService/Push"),
            ("grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Check"),
            ("StoreService/Push", "/agntcy.dir.store.v1.StoreService/Push"),
            ("SearchService/SearchCIDs", "/agntcy.dir.search.v1.SearchService/SearchCIDs"),
        ] {
            assert_eq!(full(text).unwrap(), name);
        }
        for text in ["", "/", "Push", "/Push", "a/", "/a/"] {
            assert_eq!(full(text).unwrap_err().code, exit::USAGE, "{text}");
        }
    }

    #[test]
    fn for_people() {
        let rule = |subjects: &[&str], difference: &str| AccessRule {
            id: "line-4".into(),
            line: 4,
            effect: "allow".into(),
            difference: difference.into(),
            subjects: subjects.iter().map(ToString::to_string).collect(),
            methods: if subjects.is_empty() { String::new() } else { "*".into() },
            not_after: None,
        };
        let mut told = ExplainAccessResponse {
            subject: "spiffe://a.example/w".into(),
            method: "/a.B/C".into(),
            decision: "deny".into(),
            cause: "no rule allows it".into(),
            nearest: vec![rule(&[], "differs in trust domain")],
            policy_generation: 3,
            ..ExplainAccessResponse::default()
        };
        assert_eq!(
            human(&told),
            "deny: spiffe://a.example/w calling /a.B/C\n  no rule allows it\n  \
             nearest rule line-4 (line 4) differs in trust domain\n  \
             policy number 3 since the start of the server\n"
        );
        told.rule = Some(rule(&["a.example"], ""));
        told.gateway = "spiffe://a.example/g".into();
        let text = human(&told);
        assert!(text.contains("w through spiffe://a.example/g calling"), "{text}");
        assert!(text.contains("decided by rule line-4 (line 4), allow a.example to call *,\n"), "{text}");
    }
}
