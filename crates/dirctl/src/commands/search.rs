//! `dirctl search`

use super::Context;
use crate::fail::Fail;
use crate::output::Format;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use dir_client::{Client, exit};
use dir_core::Record;
use dir_core::query::{Filter, Query, QueryKind, Sort};
use serde::Serialize;

const EXAMPLES: &str = "\
Different filters must all hold; of one filter given several times, one must.
Values are compared without regard to case; * stands for any text and ? for any one character.
version, created-at and schema-version also take >=, <=, >, < and = in front, compared as text.

Examples:
  dirctl search --name 'weather*' --version '>=v1.2'
  dirctl search --skill 'natural_language_processing/*' --filter 'author!=*acme*'
  dirctl search --annotation team:search --format record --json
  dirctl search --locator docker_image --count";

/// Find records
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    filters: Filters,
    /// At most so many (0: all)
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: u32,
    /// Leave out so many first
    #[arg(long, default_value_t = 0, value_name = "N")]
    offset: u32,
    /// Order of the result
    #[arg(long, value_enum, default_value = "recency")]
    sort: Order,
    /// What to print of each record
    #[arg(long, value_enum, default_value = "cid")]
    format: What,
    /// Print how many records match, and nothing else
    #[arg(long, conflicts_with_all = ["limit", "offset", "sort", "format"])]
    count: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Order {
    /// Newest in the index first
    Recency,
    /// Most fetched and looked up first
    Popularity,
    /// Most providers first
    ProviderCount,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Its CID
    Cid,
    /// The record itself
    Record,
}

/// One flag for each kind of filter.
struct FilterFlag {
    name: &'static str,
    kind: QueryKind,
    value: &'static str,
    help: &'static str,
}

const fn flag(name: &'static str, kind: QueryKind, value: &'static str, help: &'static str) -> FilterFlag {
    FilterFlag { name, kind, value, help }
}

/// In the order of the help text.
const FLAGS: [FilterFlag; 24] = [
    flag("name", QueryKind::Name, "TEXT", "Name of the record"),
    flag("version", QueryKind::Version, "TEXT", "Version of the record"),
    flag("description", QueryKind::Description, "TEXT", "Description; *word* for \"contains\""),
    flag("author", QueryKind::Author, "TEXT", "Part of an author"),
    flag("schema-version", QueryKind::SchemaVersion, "TEXT", "Version of the record's schema"),
    flag(
        "created-at",
        QueryKind::CreatedAt,
        "TEXT",
        "The record's own creation date, such as '>=2025-01-01'",
    ),
    flag("skill", QueryKind::SkillName, "NAME", "Name of a skill"),
    flag("skill-id", QueryKind::SkillId, "ID", "Number of a skill"),
    flag("domain", QueryKind::DomainName, "NAME", "Name of a domain"),
    flag("domain-id", QueryKind::DomainId, "ID", "Number of a domain"),
    flag("module", QueryKind::ModuleName, "NAME", "Name of a module"),
    flag("module-id", QueryKind::ModuleId, "ID", "Number of a module"),
    flag("locator", QueryKind::Locator, "TYPE[:URL]", "Locator by type, or by type and URL"),
    flag("annotation", QueryKind::Annotation, "KEY[:VALUE]", "Annotation by key, or by key and value"),
    flag("verified", QueryKind::Verified, "BOOL", "Whether the name is verified"),
    flag("trusted", QueryKind::Trusted, "BOOL", "Whether a signature is verified"),
    flag(
        "scan-severity",
        QueryKind::ScanSeverity,
        "LEVEL",
        "Scanned with findings of at least this severity",
    ),
    flag("scan-safe", QueryKind::ScanSafe, "BOOL", "Whether every scan found it safe"),
    flag("scan-status", QueryKind::ScanStatus, "TEXT", "Outcome of scans"),
    flag("scan-failure-reason", QueryKind::ScanFailureReason, "TEXT", "Why scans failed"),
    flag("identity", QueryKind::Identity, "TEXT", "Claimed identity"),
    flag("owner", QueryKind::Owner, "TEXT", "Claimed owner"),
    flag(
        "identity-verified",
        QueryKind::IdentityVerified,
        "BOOL",
        "Whether the claimed identity is verified",
    ),
    flag("owner-verified", QueryKind::OwnerVerified, "BOOL", "Whether the claimed owner is verified"),
];

/// Filters, in the order of the table and then as written with `--filter`.
#[derive(Debug, Clone)]
struct Filters(Vec<Filter>);

impl Args for Filters {
    fn augment_args(command: Command) -> Command {
        let heading = "Filters";
        let command = FLAGS.iter().fold(command, |command, f| {
            command.arg(
                Arg::new(f.name)
                    .long(f.name)
                    .value_name(f.value)
                    .help(f.help)
                    .action(ArgAction::Append)
                    .help_heading(heading),
            )
        });
        command.arg(
            Arg::new("filter")
                .long("filter")
                .value_name("KIND=VALUE")
                .help("Any of the above by name; KIND!=VALUE leaves out what matches")
                .action(ArgAction::Append)
                .value_parser(parse_filter)
                .help_heading(heading),
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Filters {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut filters = Vec::new();
        for f in &FLAGS {
            for value in matches.get_many::<String>(f.name).into_iter().flatten() {
                filters.push(Filter { kind: f.kind, value: value.clone(), negate: false });
            }
        }
        filters.extend(matches.get_many::<Filter>("filter").into_iter().flatten().cloned());
        Ok(Self(filters))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// `kind=value` or `kind!=value`; the value may itself start with a comparison.
fn parse_filter(text: &str) -> Result<Filter, String> {
    let (left, value) = text.split_once('=').ok_or("write KIND=VALUE or KIND!=VALUE")?;
    let (name, negate) = left.strip_suffix('!').map_or((left, false), |name| (name, true));
    let kind = FLAGS.iter().find(|f| f.name == name).map(|f| f.kind).ok_or_else(|| {
        let names: Vec<_> = FLAGS.iter().map(|f| f.name).collect();
        format!("{name:?} is no kind of filter; there are {}", names.join(", "))
    })?;
    Ok(Filter { kind, value: value.to_owned(), negate })
}

pub(crate) async fn run(context: &Context, args: SearchArgs) -> Result<u8, Fail> {
    let query = Query {
        filters: args.filters.0,
        sort: match args.sort {
            Order::Recency => Sort::Recency,
            Order::Popularity => Sort::Popularity,
            Order::ProviderCount => Sort::ProviderCount,
        },
        limit: (args.limit > 0).then_some(u64::from(args.limit)),
        offset: u64::from(args.offset),
        scope: None,
    };
    let client = context.client().await?;
    if args.count {
        return count(context, &client, &query).await;
    }
    match args.format {
        What::Cid => cids(context, &client, &query).await?,
        What::Record => records(context, &client, &query).await?,
    }
    Ok(exit::OK)
}

#[derive(Serialize)]
struct Count {
    count: u32,
}

async fn count(context: &Context, client: &Client, query: &Query) -> Result<u8, Fail> {
    let count = client.count(query).await?;
    match context.out.format {
        Format::Human => context.out.line(count.to_string())?,
        Format::Json | Format::Yaml => context.out.value(&Count { count })?,
    }
    Ok(exit::OK)
}

async fn cids(context: &Context, client: &Client, query: &Query) -> Result<(), Fail> {
    let mut answers = client.search_cids(query).await?;
    let (mut found, mut any) = (Vec::new(), false);
    while let Some(cid) = answers.next().await {
        any = true;
        match context.out.format {
            Format::Human => context.out.line(cid?)?,
            Format::Json | Format::Yaml => found.push(cid?),
        }
    }
    if context.out.format != Format::Human {
        context.out.value(&found)?;
    }
    if !any {
        say_why(context, answers.why_empty().await);
    }
    Ok(())
}

async fn records(context: &Context, client: &Client, query: &Query) -> Result<(), Fail> {
    let mut answers = client.search_records(query).await?;
    let (mut found, mut any) = (Vec::<Record>::new(), false);
    while let Some(record) = answers.next().await {
        any = true;
        let record = record?;
        match context.out.format {
            Format::Human => context.out.records(&[record.bytes()], false)?,
            Format::Json | Format::Yaml => found.push(record),
        }
    }
    if context.out.format != Format::Human {
        let bytes: Vec<&[u8]> = found.iter().map(|r| r.bytes().as_ref()).collect();
        context.out.records(&bytes, true)?;
    }
    if !any {
        say_why(context, answers.why_empty().await);
    }
    Ok(())
}

/// An empty answer is no error, and not always no match.
fn say_why(context: &Context, why: Option<String>) {
    if let Some(why) = why {
        context.talk.note(&format!("nothing found: {why}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_flag() {
        for kind in QueryKind::ALL {
            assert_eq!(FLAGS.iter().filter(|f| f.kind == kind).count(), 1, "{kind:?}");
        }
    }

    #[test]
    fn filters_by_name() {
        let filter = |kind, value: &str, negate| Ok(Filter { kind, value: value.into(), negate });
        for (text, expected) in [
            ("name=a", filter(QueryKind::Name, "a", false)),
            ("name!=a", filter(QueryKind::Name, "a", true)),
            ("name=", filter(QueryKind::Name, "", false)),
            ("name=a=b", filter(QueryKind::Name, "a=b", false)),
            ("name=!a", filter(QueryKind::Name, "!a", false)),
            ("version=>=1.0", filter(QueryKind::Version, ">=1.0", false)),
            ("version!=>=1.0", filter(QueryKind::Version, ">=1.0", true)),
            ("locator=docker_image:https://x", filter(QueryKind::Locator, "docker_image:https://x", false)),
        ] {
            assert_eq!(parse_filter(text), expected, "{text}");
        }
        assert!(parse_filter("name").is_err());
        assert!(parse_filter("nam=x").unwrap_err().contains("no kind of filter"));
    }
}
