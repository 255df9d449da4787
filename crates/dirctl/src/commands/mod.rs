//! The commands, one file each, and what they share.

pub(crate) mod access;
pub(crate) mod bundle;
pub(crate) mod cid;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod delete;
pub(crate) mod doctor;
pub(crate) mod health;
pub(crate) mod info;
pub(crate) mod profile;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod search;
pub(crate) mod status;
pub(crate) mod verify;
pub(crate) mod version;
pub(crate) mod watch;

use crate::cli::{Cli, Command, GlobalArgs};
use crate::fail::{Fail, Tally};
use crate::output::{Out, Talk};
use crate::profiles;
use dir_client::settings::{Flags, Profile, Sources};
use dir_client::{Client, ClientConfig, Source, exit, settings};
use dir_core::Clock;
use dir_runtime::SystemClock;
use serde::Serialize;
use std::sync::Arc;
use tracing::Level;

/// The environment of this process.
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// What a command works with.
pub(crate) struct Context {
    pub(crate) out: Out,
    pub(crate) talk: Talk,
    global: GlobalArgs,
}

impl Context {
    /// What the flags say of the connection.
    pub(crate) fn flags(&self) -> Flags {
        self.global.flags()
    }

    /// The profile that the command line names.
    pub(crate) fn profile_flag(&self) -> Option<&str> {
        self.global.profile.as_deref()
    }

    /// The profile in force.
    pub(crate) fn profile(&self) -> Result<Option<Profile>, Fail> {
        profiles::in_force(self.profile_flag(), &env)
    }

    /// What flags, environment and profile say.
    pub(crate) fn settings(&self) -> Result<ClientConfig, Fail> {
        self.settings_of(self.profile()?.as_ref())
    }

    fn settings_of(&self, profile: Option<&Profile>) -> Result<ClientConfig, Fail> {
        let config = settings::client_config(&Sources { flags: &self.flags(), env: &env, profile })?;
        Ok(ClientConfig { user_agent: concat!("dirctl/", env!("CARGO_PKG_VERSION")).to_owned(), ..config })
    }

    /// A client as they describe it.
    pub(crate) async fn client(&self) -> Result<Client, Fail> {
        self.client_of(self.profile()?.as_ref()).await
    }

    /// The same with this profile.
    pub(crate) async fn client_of(&self, profile: Option<&Profile>) -> Result<Client, Fail> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let config = self.settings_of(profile)?.with_mode_of_server(&clock).await?;
        if config.auth_mode_source == Source::Server {
            let mode = config.auth_mode;
            self.talk.note(&format!(
                "auth mode {mode}, learnt from the server: set --auth-mode to choose it yourself"
            ));
        }
        Ok(Client::new(config, clock).await?)
    }

    /// The last words of a command over many things, when some of them failed.
    pub(crate) fn sum_up(&self, verb: &str, noun: &str, tally: &Tally) {
        let all = tally.done + tally.failed;
        if tally.stopped {
            self.talk.note(&format!("{verb} {} {noun}; the rest was not tried", tally.done));
        } else if tally.failed > 0 && all > 1 {
            self.talk.note(&format!("{verb} {} of {all} {noun}; {} failed", tally.done, tally.failed));
        }
    }
}

/// One thing in the output of a command over many: what it is, and its error if there is one.
#[derive(Debug, Serialize)]
pub(crate) struct Failed<'a> {
    #[serde(flatten)]
    pub(crate) subject: Subject,
    pub(crate) error: &'a Fail,
}

/// What an error is about.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Subject {
    Source(String),
    Cid(String),
}

/// Warnings of the libraries to stderr, such as why the SVID lets wait; `DIRECTORY_LOGGER_LOG_LEVEL` says how much.
fn start_log(quiet: bool) {
    let level =
        match std::env::var("DIRECTORY_LOGGER_LOG_LEVEL").unwrap_or_default().to_ascii_uppercase().as_str() {
            "DEBUG" => Level::DEBUG,
            "INFO" => Level::INFO,
            _ if quiet => Level::ERROR,
            _ => Level::WARN,
        };
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level).with_ansi(false);
    // A second subscriber cannot come about in `main`; if one were there, it would do.
    let _ = log.without_time().with_target(false).try_init();
}

/// Runs a command to its exit code.
pub(crate) async fn run(cli: Cli) -> u8 {
    start_log(cli.global.quiet);
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let talk = Talk::new(cli.global.quiet, no_color);
    let out = Out { format: cli.global.format(), streams: matches!(cli.command, Command::Watch(_)) };
    let context = Context { out, talk, global: cli.global };
    tokio::select! {
        biased;
        done = dispatch(&context, cli.command) => done.unwrap_or_else(|fail| {
            fail.tell(talk);
            context.out.failure(&fail);
            fail.code
        }),
        _ = tokio::signal::ctrl_c() => {
            talk.note("interrupted");
            exit::INTERRUPTED
        }
    }
}

async fn dispatch(context: &Context, command: Command) -> Result<u8, Fail> {
    match command {
        Command::Push(args) => push::run(context, args).await,
        Command::Pull(args) => pull::run(context, args).await,
        Command::Info(args) => info::run(context, args).await,
        Command::Search(args) => search::run(context, args).await,
        Command::Delete(args) => delete::run(context, args).await,
        Command::Watch(args) => watch::run(context, args).await,
        Command::Cid(args) => cid::run(context, args).await,
        Command::Health(args) => health::run(context, args).await,
        Command::Status(_) => status::run(context).await,
        Command::Doctor(args) => doctor::run(context, args).await,
        Command::Verify(command) => verify::run(context, command).await,
        Command::Profile(command) => profile::run(context, command).await,
        Command::Bundle(command) => bundle::run(context, command).await,
        Command::Access(command) => access::run(context, &command).await,
        Command::Config(command) => config::run(context, &command),
        Command::Version(args) => version::run(context, args).await,
        Command::Completion(args) => completion::run(context, &args),
    }
}
