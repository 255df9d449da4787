//! `dirctl search`

use super::Context;
use crate::fail::Fail;
use crate::numbers;
use crate::output::Format;
use clap::builder::{PossibleValuesParser, ValueParser};
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
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = numbers::short, allow_negative_numbers = true)]
    limit: u32,
    /// Leave out so many first
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = numbers::short, allow_negative_numbers = true)]
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

/// The value of a flag that is true or false: servers take most other texts for false.
const BOOL: &str = "BOOL";
const BOOLS: [&str; 2] = ["true", "false"];

/// Kinds whose values may be compared.
const COMPARED: [QueryKind; 3] = [QueryKind::Version, QueryKind::CreatedAt, QueryKind::SchemaVersion];

impl FilterFlag {
    fn parser(&self) -> ValueParser {
        if self.value == BOOL { PossibleValuesParser::new(BOOLS).into() } else { ValueParser::string() }
    }
}

fn flag_of(name: &str) -> Option<&'static FilterFlag> {
    FLAGS.iter().find(|f| f.name == name)
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
    flag("verified", QueryKind::Verified, BOOL, "Whether the name is verified"),
    flag("trusted", QueryKind::Trusted, BOOL, "Whether a signature is verified"),
    flag(
        "scan-severity",
        QueryKind::ScanSeverity,
        "LEVEL",
        "Scanned with findings of at least this severity",
    ),
    flag("scan-safe", QueryKind::ScanSafe, BOOL, "Whether every scan found it safe"),
    flag("scan-status", QueryKind::ScanStatus, "TEXT", "Outcome of scans"),
    flag("scan-failure-reason", QueryKind::ScanFailureReason, "TEXT", "Why scans failed"),
    flag("identity", QueryKind::Identity, "TEXT", "Claimed identity"),
    flag("owner", QueryKind::Owner, "TEXT", "Claimed owner"),
    flag("identity-verified", QueryKind::IdentityVerified, BOOL, "Whether the claimed identity is verified"),
    flag("owner-verified", QueryKind::OwnerVerified, BOOL, "Whether the claimed owner is verified"),
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
                    .value_parser(f.parser())
                    .allow_negative_numbers(true)
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
    let Some((left, value)) = text.split_once('=') else {
        return Err(bare_comparison(text).unwrap_or_else(|| "write KIND=VALUE or KIND!=VALUE".to_owned()));
    };
    let (name, negate) = left.strip_suffix('!').map_or((left, false), |name| (name, true));
    let flag = flag_of(name).ok_or_else(|| {
        bare_comparison(text).unwrap_or_else(|| {
            let names: Vec<_> = FLAGS.iter().map(|f| f.name).collect();
            format!("{name:?} is no kind of filter; there are {}", names.join(", "))
        })
    })?;
    if flag.value == BOOL && !BOOLS.contains(&value) {
        return Err(format!("{name} is {}, not {value:?}", BOOLS.join(" or ")));
    }
    Ok(Filter { kind: flag.kind, value: value.to_owned(), negate })
}

/// What to write instead of a comparison that stands where `=` or `!=` belongs, as in `version>=v1`.
fn bare_comparison(text: &str) -> Option<String> {
    let (left, value) = text.split_at(text.find(['<', '>'])?);
    let (name, equals) = left.strip_suffix('!').map_or((left, "="), |name| (name, "!="));
    let flag = flag_of(name)?;
    Some(if COMPARED.contains(&flag.kind) {
        format!("the comparison is part of the value: write {name}{equals}{value}")
    } else {
        let names = FLAGS.iter().filter(|f| COMPARED.contains(&f.kind)).map(|f| f.name);
        format!("{name} is not compared, only {} are", names.collect::<Vec<_>>().join(", "))
    })
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
        assert!(parse_filter("name").unwrap_err().starts_with("write KIND=VALUE"));
        for (text, instead) in [
            ("version>=v1", "version=>=v1"),
            ("version>v1", "version=>v1"),
            ("schema-version<=0.8", "schema-version=<=0.8"),
            ("created-at<2026", "created-at=<2026"),
            ("version!>=v1", "version!=>=v1"),
        ] {
            let told = parse_filter(text).unwrap_err();
            assert!(told.ends_with(&format!(": write {instead}")), "{text}: {told}");
            assert!(parse_filter(instead).is_ok());
        }
        let told = parse_filter("name>=a").unwrap_err();
        assert_eq!(told, "name is not compared, only version, schema-version, created-at are");
        assert!(parse_filter("nam>=a").unwrap_err().contains("no kind of filter"));
        assert_eq!(parse_filter("verified=true"), filter(QueryKind::Verified, "true", false));
        for bad in ["maybe", "TRUE", "1", ""] {
            let told = parse_filter(&format!("trusted!={bad}")).unwrap_err();
            assert_eq!(told, format!("trusted is true or false, not {bad:?}"));
        }
        assert!(parse_filter("nam=x").unwrap_err().contains("no kind of filter"));
    }
}
