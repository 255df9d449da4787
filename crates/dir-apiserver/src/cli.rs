//! The command line.

use crate::about::LONG_VERSION;
use crate::commands;
use crate::config::keys::Profile;
use crate::config::{Inputs, Loaded, load};
use crate::exit::status_of;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;

/// A directory of AI-agent records over SPIFFE mTLS.
///
/// Without a command it serves. Configuration comes from flags, DIRECTORY_SERVER_* variables and
/// /etc/agntcy/dir/server.config.yml, in this order.
#[derive(Debug, Parser)]
#[command(name = "dir-apiserver", version = LONG_VERSION, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Flags that change the configuration; every command takes them.
#[derive(Debug, Args)]
pub struct Settings {
    /// Configuration file; it must exist.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets any key: `--set database.type=memory`. Repeatable.
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
    /// Address of the gRPC port.
    #[arg(long, global = true, value_name = "HOST:PORT")]
    listen_address: Option<String>,
    /// Address of the ops port.
    #[arg(long, global = true, value_name = "HOST:PORT")]
    metrics_address: Option<String>,
    /// Directory of what must survive a restart beside index and store.
    #[arg(long, global = true, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// development or production.
    #[arg(long, global = true, value_name = "PROFILE")]
    profile: Option<ProfileArg>,
    /// Consents to plaintext on an address that other machines reach.
    #[arg(long, global = true)]
    allow_insecure: bool,
    /// For trying out: plaintext on 127.0.0.1, store and index in memory.
    #[arg(long, global = true, conflicts_with = "embedded_identity")]
    dev: bool,
    /// For trying out: mTLS with SVIDs of a throw-away CA inside the server.
    #[arg(long, global = true)]
    embedded_identity: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProfileArg {
    Development,
    Production,
}

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Human,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until SIGTERM or SIGINT.
    Serve,
    /// Looks at the configuration without starting anything.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Looks at authorization policies without starting anything.
    Authz {
        #[command(subcommand)]
        command: commands::authz::AuthzCommand,
    },
    /// Several organisations on this machine: servers, agents, federation, rotation, and switches to break things.
    Lab(crate::lab::LabArgs),
    /// Prints a completion script.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Prints name, version, commit and target.
    Version {
        /// Form of the answer.
        #[arg(long, short, default_value = "human")]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Finds every fault at once; exit code 4 when there is one.
    Check {
        /// The file; same as --config.
        file: Option<PathBuf>,
        /// Form of the answer.
        #[arg(long, short, default_value = "human")]
        output: Output,
    },
    /// Shows every key with its value and where the value comes from; secrets as ***.
    Show {
        /// Only keys that are not at their default.
        #[arg(long)]
        changed: bool,
        /// Form of the answer.
        #[arg(long, short, default_value = "human")]
        output: Output,
    },
    /// Tells about one key.
    Explain {
        /// The key, such as `authn.socket_path`.
        key: String,
    },
    /// Lists every environment variable.
    Env {
        /// Prints the whole reference page as Markdown.
        #[arg(long)]
        markdown: bool,
    },
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is wanted")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// What `--dev` stands for.
const DEV: [(&str, &str); 7] = [
    ("listen_address", "127.0.0.1:8888"),
    ("metrics.address", "127.0.0.1:9090"),
    ("authn.enabled", "false"),
    ("authz.enabled", "false"),
    ("store.provider", "memory"),
    ("database.type", "memory"),
    ("shutdown.lb_wait", "0s"),
];
/// What `--embedded-identity` stands for.
const EMBEDDED: [(&str, &str); 5] = [
    ("dev_identity.enabled", "true"),
    ("authn.enabled", "true"),
    ("authn.mode", "x509"),
    ("authn.socket_path", ""),
    ("shutdown.lb_wait", "0s"),
];

impl Settings {
    /// Everything a configuration is made of, from the process.
    fn inputs(&self) -> Inputs {
        let mut flags = Vec::new();
        let mut flag = |key: &str, value: Option<String>, name: &str| {
            flags.extend(value.map(|v| (key.to_owned(), v, name.to_owned())));
        };
        for (key, value) in &self.set {
            flag(key, Some(value.clone()), "--set");
        }
        flag("listen_address", self.listen_address.clone(), "--listen-address");
        flag("metrics.address", self.metrics_address.clone(), "--metrics-address");
        flag("state_dir", self.state_dir.as_ref().map(|p| p.display().to_string()), "--state-dir");
        let profile = self.profile.map(|p| format!("{p:?}").to_lowercase());
        flag("profile", profile, "--profile");
        flag("listen.allow_insecure", self.allow_insecure.then(|| "true".to_owned()), "--allow-insecure");
        let preset = |keys: &[(&str, &str)], name: &str| -> Vec<(String, String, String)> {
            keys.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned(), name.to_owned())).collect()
        };
        let mut presets = Vec::new();
        if self.dev {
            presets = preset(&DEV, "--dev");
        } else if self.embedded_identity {
            presets = preset(&EMBEDDED, "--embedded-identity");
        }
        let home = std::env::var("HOME").ok().filter(|h| !h.is_empty()).unwrap_or_else(|| "/".to_owned());
        Inputs {
            file: self.config.clone(),
            vars: std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
            presets,
            flags,
            home: home.trim_end_matches('/').to_owned(),
        }
    }

    fn load(&self) -> Loaded {
        let profile = self.profile.map(|p| match p {
            ProfileArg::Development => Profile::Development,
            ProfileArg::Production => Profile::Production,
        });
        let mut inputs = self.inputs();
        let loaded = load(&inputs, profile);
        inputs.clear();
        loaded
    }
}

/// Parses the command line and does what it says.
pub fn run() -> ExitCode {
    let mut cli = Cli::parse();
    let done = match cli.command {
        None | Some(Command::Serve) => commands::serve::run(&cli.settings.load()),
        Some(Command::Lab(args)) => crate::lab::run(&args),
        Some(Command::Completion { shell }) => commands::completion::run(shell),
        Some(Command::Version { output }) => commands::version::run(output),
        Some(Command::Authz { command }) => commands::authz::run(command, &cli.settings.load()),
        Some(Command::Config { command }) => match command {
            ConfigCommand::Check { file, output } => {
                cli.settings.config = file.or(cli.settings.config);
                commands::config_check::run(&cli.settings.load(), output)
            }
            ConfigCommand::Show { changed, output } => {
                commands::config_show::run(&cli.settings.load(), changed, output)
            }
            ConfigCommand::Explain { key } => commands::config_explain::run(&cli.settings.load(), &key),
            ConfigCommand::Env { markdown } => commands::config_env::run(markdown),
        },
    };
    match done {
        Ok(status) => status.into(),
        Err(error) => {
            eprintln!("Error: {error:#}");
            status_of(&error).into()
        }
    }
}
