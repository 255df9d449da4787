//! `dirctl profile`, with `dirctl context` as its second spelling

use super::{Context, env};
use crate::fail::Fail;
use crate::output::Format;
use crate::profiles::{self, ProfileFile};
use crate::server::ServerInfo;
use clap::{Args, Subcommand};
use dir_client::settings::{self, Flags, HIDDEN, Profile, SETTINGS, Sources};
use dir_client::{Address, exit};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

const CREATE_EXAMPLES: &str = "\
Examples:
  dirctl profile create prod grpcs://api.example.org --auth-mode x509 --use
  dirctl profile create lab localhost:8888 --auth-mode x509 --spiffe-socket-path unix:///tmp/lab/agent.sock";

const IMPORT_EXAMPLES: &str = "\
Examples:
  dirctl profile import ~/colleague.yaml
  dirctl profile import - --replace < config.yaml";

/// Name the settings of a server, and switch between them
///
/// Profiles are kept in $XDG_CONFIG_HOME/dirctl/config.yaml (~/.config/dirctl/config.yaml), which other clients of
/// this API read and write too.
#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    Create(CreateArgs),
    Use(UseArgs),
    List(ListArgs),
    Show(ShowArgs),
    Delete(DeleteArgs),
    Current(CurrentArgs),
    Import(ImportArgs),
}

/// Create a profile from an address and the global options given along
#[derive(Debug, Args)]
#[command(after_help = CREATE_EXAMPLES)]
pub(crate) struct CreateArgs {
    name: String,
    /// The server, as with --server-addr
    address: Option<String>,
    /// Replace the profile if there is one of that name
    #[arg(long)]
    replace: bool,
    /// Use it from now on
    #[arg(long = "use")]
    select: bool,
}

/// Use a profile from now on
#[derive(Debug, Args)]
pub(crate) struct UseArgs {
    #[arg(required_unless_present = "none")]
    name: Option<String>,
    /// Use no profile
    #[arg(long, conflicts_with = "name")]
    none: bool,
}

/// List the profiles; * marks the one in force
#[derive(Debug, Args)]
pub(crate) struct ListArgs {}

/// Show a profile's settings, and what its server says of itself
///
/// Secrets are shown as ***. A server that does not answer is told on stderr (exit code 10).
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The profile [default: the one in force]
    name: Option<String>,
    /// Do not ask the server
    #[arg(long)]
    offline: bool,
}

/// Delete profiles
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Print the name of the profile in force
#[derive(Debug, Args)]
pub(crate) struct CurrentArgs {}

/// Take profiles over from another file of this form
#[derive(Debug, Args)]
#[command(after_help = IMPORT_EXAMPLES)]
pub(crate) struct ImportArgs {
    /// The file; - is stdin
    file: PathBuf,
    /// Replace profiles of the same name
    #[arg(long)]
    replace: bool,
}

pub(crate) async fn run(context: &Context, command: ProfileCommand) -> Result<u8, Fail> {
    match command {
        ProfileCommand::Create(args) => create(context, &args),
        ProfileCommand::Use(args) => select(context, &args),
        ProfileCommand::List(_) => list(context),
        ProfileCommand::Show(args) => show(context, args).await,
        ProfileCommand::Delete(args) => delete(context, &args.names),
        ProfileCommand::Current(_) => current(context),
        ProfileCommand::Import(args) => import(context, &args),
    }
}

#[derive(Serialize)]
struct Named<'a> {
    profile: &'a str,
}

impl Context {
    /// Says which profile a change was about.
    fn changed(&self, name: &str) -> Result<u8, Fail> {
        match self.out.format {
            Format::Human => self.out.line(name)?,
            Format::Json | Format::Yaml => self.out.value(&Named { profile: name })?,
        }
        Ok(exit::OK)
    }
}

fn create(context: &Context, args: &CreateArgs) -> Result<u8, Fail> {
    profiles::check_name(&args.name)?;
    let flags = context.flags();
    let mut values: BTreeMap<&str, String> = SETTINGS
        .iter()
        .filter_map(|setting| Some((setting.key, setting.flag_value(&flags)?.to_owned())))
        .collect();
    if let Some(address) = &args.address {
        if flags.server_addr.as_ref().is_some_and(|flag| flag != address) {
            return Err(Fail::usage("the address is given twice, and differently", "give it once"));
        }
        values.insert("server_address", address.clone());
    }
    if let Some(address) = values.get("server_address") {
        Address::parse(address).map_err(|e| {
            let next = "write host:port, grpcs://host, grpc://host:port or unix:///path";
            Fail::usage(format!("server address {address:?}: {e}"), next)
        })?;
    }
    let owned = values.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    let profile = Profile::new(&args.name, owned);
    // By itself: what this shell's environment says is not part of it.
    let alone = Sources { flags: &Flags::default(), env: &|_| None, profile: Some(&profile) };
    settings::client_config(&alone)?;
    ProfileFile::change(&profiles::path(&env)?, |file| {
        if file.contains(&args.name) && !args.replace {
            let next = "choose another name, or replace it with --replace";
            return Err(Fail::config(format!("there is a profile {:?} already", args.name), next));
        }
        file.put(&args.name, &values);
        if args.select {
            file.set_current(Some(&args.name));
        }
        Ok(())
    })?;
    if !args.select {
        context.talk.note(&format!("use it with: dirctl profile use {}", args.name));
    }
    context.changed(&args.name)
}

fn select(context: &Context, args: &UseArgs) -> Result<u8, Fail> {
    let name = args.name.as_deref();
    ProfileFile::change(&profiles::path(&env)?, |file| {
        if let Some(name) = name.filter(|name| !file.contains(name)) {
            return Err(file.absent(name));
        }
        file.set_current(name);
        Ok(())
    })?;
    if let Some(value) = env(profiles::ENV).filter(|v| !v.is_empty() && Some(v.as_str()) != name) {
        context.talk.note(&format!("${} is set, so {value} stays in force here", profiles::ENV));
    }
    match name {
        Some(name) => context.changed(name),
        None => Ok(exit::OK),
    }
}

#[derive(Serialize)]
struct Row {
    name: String,
    current: bool,
    server_address: Option<String>,
    auth_mode: Option<String>,
}

fn list(context: &Context) -> Result<u8, Fail> {
    let file = ProfileFile::load(&profiles::path(&env)?)?;
    let chosen = profiles::chosen(context.profile_flag(), &env, &file);
    let mut rows = Vec::new();
    for name in file.names() {
        let profile = file.profile(&name)?;
        let text = |key: &str| profile.get(key).map(str::to_owned);
        let (server_address, auth_mode) = (text("server_address"), text("auth_mode"));
        rows.push(Row { current: chosen.as_deref() == Some(&name), name, server_address, auth_mode });
    }
    if context.out.format != Format::Human {
        context.out.value(&rows)?;
        return Ok(exit::OK);
    }
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or_default();
    for row in &rows {
        let mark = if row.current { '*' } else { ' ' };
        let address = row.server_address.as_deref().unwrap_or("-");
        let mode = row.auth_mode.as_deref().unwrap_or("-");
        context.out.line(format!("{mark} {:<width$}  {address}  {mode}", row.name))?;
    }
    if rows.is_empty() {
        context.talk.note("there is no profile yet: dirctl profile create NAME ADDRESS");
    }
    Ok(exit::OK)
}

#[derive(Serialize)]
struct Shown {
    name: String,
    settings: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Answer>,
}

/// What became of the question to the server.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Info(Option<ServerInfo>),
    Error(Fail),
}

async fn show(context: &Context, args: ShowArgs) -> Result<u8, Fail> {
    let file = ProfileFile::load(&profiles::path(&env)?)?;
    let name = args.name.map_or_else(|| chosen(context, &file), Ok)?;
    let profile = file.profile(&name)?;
    let hide = |key: &str, value: &str| match SETTINGS.iter().find(|s| s.key == key) {
        Some(setting) if !setting.secret => value.to_owned(),
        // What nobody knows may be a secret too.
        _ => HIDDEN.to_owned(),
    };
    let settings: BTreeMap<_, _> = profile.entries().map(|(k, v)| (k.to_owned(), hide(k, v))).collect();
    if context.out.format == Format::Human {
        context.out.line(format!("{:<20} {name}", "profile"))?;
        for (key, value) in &settings {
            context.out.line(format!("{key:<20} {value}"))?;
        }
    }
    let server = if args.offline { None } else { Some(ask(context, &profile).await) };
    let code = match &server {
        Some(Answer::Error(fail)) => {
            fail.tell(context.talk);
            exit::PARTIAL
        }
        _ => exit::OK,
    };
    if context.out.format != Format::Human {
        context.out.value(&Shown { name, settings, server })?;
    } else if let Some(Answer::Info(info)) = server {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| text.push_str(&format!("\nserver {name:<13} {value}"));
        match info {
            Some(info) => info.lines(line),
            None => line("info", "not told: the server does not know the call"),
        }
        context.out.line(text.trim_start())?;
    }
    Ok(code)
}

async fn ask(context: &Context, profile: &Profile) -> Answer {
    let asked = async {
        let client = context.client_of(Some(profile)).await?;
        ServerInfo::ask(&client).await
    };
    asked.await.map_or_else(Answer::Error, Answer::Info)
}

fn chosen(context: &Context, file: &ProfileFile) -> Result<String, Fail> {
    profiles::chosen(context.profile_flag(), &env, file).ok_or_else(|| {
        let next = "choose one: dirctl profile use NAME, or --profile NAME";
        Fail::config("no profile is in force", next)
    })
}

fn delete(context: &Context, names: &[String]) -> Result<u8, Fail> {
    let was_current = ProfileFile::change(&profiles::path(&env)?, |file| {
        let current = file.current();
        for name in names {
            // Nothing is deleted when one of them does not exist.
            if !file.remove(name) {
                return Err(file.absent(name));
            }
        }
        Ok(current.filter(|current| names.contains(current)))
    })?;
    if let Some(name) = was_current {
        context.talk.note(&format!("{name} was in use; no profile is now"));
    }
    match context.out.format {
        Format::Human => names.iter().try_for_each(|name| context.out.line(name))?,
        Format::Json | Format::Yaml => {
            let rows: Vec<_> = names.iter().map(|profile| Named { profile }).collect();
            context.out.value(&rows)?;
        }
    }
    Ok(exit::OK)
}

fn current(context: &Context) -> Result<u8, Fail> {
    let file = ProfileFile::load(&profiles::path(&env)?)?;
    let name = chosen(context, &file)?;
    file.profile(&name)?;
    context.changed(&name)
}

fn import(context: &Context, args: &ImportArgs) -> Result<u8, Fail> {
    let other = if args.file.as_os_str() == "-" {
        let mut text = String::new();
        let read = std::io::stdin().lock().take(ProfileFile::MAX_BYTES + 1).read_to_string(&mut text);
        read.map_err(|e| Fail::local("stdin", e))?;
        ProfileFile::parse("stdin".as_ref(), &text)?
    } else if args.file.exists() {
        ProfileFile::load(&args.file)?
    } else {
        return Err(Fail::config(format!("there is no file {}", args.file.display()), "check the path"));
    };
    let names = other.names();
    if names.is_empty() {
        let next = "a file of profiles has a mapping `contexts` with one entry each";
        return Err(Fail::config(format!("{}: no profile in it", other.path().display()), next));
    }
    ProfileFile::change(&profiles::path(&env)?, |file| {
        let taken: Vec<_> = names.iter().filter(|name| file.contains(name)).cloned().collect();
        if !taken.is_empty() && !args.replace {
            let next = "nothing was imported; replace them with --replace";
            return Err(Fail::config(format!("there are such profiles already: {}", taken.join(", ")), next));
        }
        for name in &names {
            file.adopt(name, &other);
        }
        Ok(())
    })?;
    match context.out.format {
        Format::Human => names.iter().try_for_each(|name| context.out.line(name))?,
        Format::Json | Format::Yaml => {
            let rows: Vec<_> = names.iter().map(|profile| Named { profile }).collect();
            context.out.value(&rows)?;
        }
    }
    Ok(exit::OK)
}
