//! `dirctl config`

use super::{Context, env};
use crate::fail::Fail;
use crate::output::Format;
use crate::profiles;
use clap::{Args, Subcommand};
use dir_client::settings::{self, Explained, SETTINGS, Sources};
use dir_client::{Source, exit};
use serde::Serialize;

const EXAMPLES: &str = "\
Examples:
  dirctl config explain
  dirctl config explain server_address --profile prod
  dirctl config explain --json | jq -r '.settings[] | select(.source.kind == \"env\") | .key'";

/// Look into the settings
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    Explain(ExplainArgs),
}

/// Show the value of each setting and who said so
///
/// Secrets are shown as ***. No server is asked.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExplainArgs {
    /// Only these settings, named as in a profile
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
}

#[derive(Serialize)]
struct Report<'a> {
    file: Option<String>,
    profile: Option<&'a str>,
    settings: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    key: &'static str,
    value: Option<String>,
    source: Origin,
}

#[derive(Serialize)]
struct Origin {
    /// flag, env, profile, default or unset
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl From<Explained> for Row {
    fn from(explained: Explained) -> Self {
        let (kind, name) = match explained.source {
            Source::Flag(name) => ("flag", Some(name.to_owned())),
            Source::Env(name) => ("env", Some(name.to_owned())),
            Source::Profile(name) => ("profile", Some(name)),
            Source::Server => ("server", None),
            Source::Default if explained.value.is_none() => ("unset", None),
            Source::Default => ("default", None),
        };
        Row { key: explained.key, value: explained.value, source: Origin { kind, name } }
    }
}

impl Row {
    fn line(&self) -> String {
        let origin = match &self.source.name {
            Some(name) => format!("{} {name}", self.source.kind),
            None => self.source.kind.to_owned(),
        };
        format!("{:<20} {:<44} {origin}", self.key, self.value.as_deref().unwrap_or("-"))
    }
}

pub(crate) fn run(context: &Context, command: &ConfigCommand) -> Result<u8, Fail> {
    let ConfigCommand::Explain(args) = command;
    if let Some(unknown) = args.keys.iter().find(|key| SETTINGS.iter().all(|s| s.key != **key)) {
        let keys: Vec<_> = SETTINGS.iter().map(|s| s.key).collect();
        return Err(Fail::usage(
            format!("{unknown:?} is no setting"),
            format!("there are: {}", keys.join(", ")),
        ));
    }
    let profile = context.profile()?;
    let sources = Sources { flags: &context.flags(), env: &env, profile: profile.as_ref() };
    let mut rows: Vec<Row> = settings::explain(&sources).into_iter().map(Row::from).collect();
    if !args.keys.is_empty() {
        rows.retain(|row| args.keys.iter().any(|key| key == row.key));
    }
    if let Some(profile) = &profile {
        for key in profile.unknown_keys() {
            let name = profile.name();
            context.talk.note(&format!("profile {name}: {key:?} is no setting and has no effect"));
        }
    }
    match context.out.format {
        Format::Human => {
            for row in &rows {
                context.out.line(row.line())?;
            }
        }
        Format::Json | Format::Yaml => context.out.value(&Report {
            file: profiles::path(&env).ok().map(|path| path.display().to_string()),
            profile: profile.as_ref().map(settings::Profile::name),
            settings: rows,
        })?,
    }
    Ok(exit::OK)
}
