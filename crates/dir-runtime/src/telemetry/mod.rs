//! Logs: one subscriber a process, text or JSON lines, through a bounded queue to one writer thread.
//!
//! Crates that print what goes over the wire (headers with tokens among it) are held at `info` whatever the
//! configured level, so that DEBUG and TRACE never show a credential.

mod writer;

use prometheus::{IntCounterVec, Opts, Registry};
use std::path::PathBuf;
use std::str::FromStr;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
pub use writer::{QUEUE_LINES, StandardOutput, Writer};

/// Variable that names the file; empty or absent means standard output.
pub const FILE_VAR: &str = "DIRECTORY_LOGGER_LOG_FILE";
/// Variable of the level: `ERROR`, `WARN`, `INFO`, `DEBUG`, `TRACE`, or a filter such as `info,dir_api=debug`.
pub const LEVEL_VAR: &str = "DIRECTORY_LOGGER_LOG_LEVEL";
/// Variable of the format: `text` or `json`.
pub const FORMAT_VAR: &str = "DIRECTORY_LOGGER_LOG_FORMAT";

/// Crates that log the wire below `info`.
const WIRE_CRATES: [&str; 10] =
    ["h2", "hyper", "hyper_util", "reqwest", "rustls", "tokio_rustls", "tonic", "oci_client", "tower", "mio"];

/// Form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for Format {
    type Err = TelemetryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "" | "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            _ => Err(TelemetryError::Format(text.to_owned())),
        }
    }
}

/// What and where to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Level or filter.
    pub level: String,
    /// Form of a line.
    pub format: Format,
    /// File that lines are appended to; `None` is standard output.
    pub file: Option<PathBuf>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "INFO".to_owned(), format: Format::Text, file: None }
    }
}

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A format that is neither text nor JSON.
    #[error("{FORMAT_VAR}: {0:?} is neither \"text\" nor \"json\"")]
    Format(String),
    /// A level that does not parse.
    #[error("{LEVEL_VAR}: {text:?} is no level (ERROR, WARN, INFO, DEBUG, TRACE) and no filter: {reason}")]
    Level {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file cannot be opened for appending.
    #[error("{FILE_VAR}: cannot append to {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A subscriber is installed already.
    #[error("logging was started twice: {0}")]
    Twice(#[from] TryInitError),
    /// The writer's thread cannot be started.
    #[error("cannot start the log writer: {0}")]
    Thread(#[source] std::io::Error),
}

impl LogConfig {
    /// Reads the three variables through `var`.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, TelemetryError> {
        let level = var(LEVEL_VAR).filter(|v| !v.trim().is_empty()).unwrap_or_else(|| "INFO".to_owned());
        let format = var(FORMAT_VAR).unwrap_or_default().parse()?;
        let file = var(FILE_VAR).filter(|v| !v.is_empty()).map(PathBuf::from);
        Ok(Self { level, format, file })
    }

    fn filter(&self) -> Result<EnvFilter, TelemetryError> {
        EnvFilter::try_new(&self.level)
            .map_err(|e| TelemetryError::Level { text: self.level.clone(), reason: e.to_string() })
    }
}

fn keeps_the_wire_quiet(meta: &Metadata<'_>) -> bool {
    let root = meta.target().split("::").next().unwrap_or_default();
    *meta.level() <= Level::INFO || !WIRE_CRATES.contains(&root)
}

/// Starts logging for the process. Keep the answer until the very end: [`Writer::close`] writes out what is
/// still queued.
pub fn init(config: &LogConfig, metrics: &Registry) -> Result<Writer, TelemetryError> {
    // Without a hint of its own the second filter would take away that of the first, and with it the cheapest way to
    // pass over what is not logged: HTTP/2 alone asks dozens of times a call.
    let quiet = filter_fn(keeps_the_wire_quiet).with_max_level_hint(LevelFilter::TRACE);
    let filter = config.filter()?.and(quiet);
    let writer = Writer::start(config.file.clone())?;
    let opts =
        Opts::new("directory_log_lines_dropped_total", "Log lines dropped because the queue was full.");
    if let Ok(dropped) = IntCounterVec::new(opts, &["component"]) {
        writer.count_drops(dropped.with_label_values(&["log"]));
        // A second registration can only mean a second init, which is refused below.
        let _ = metrics.register(Box::new(dropped));
    }
    let plain = fmt::layer().with_ansi(false).with_writer(writer.clone());
    let layer = match config.format {
        Format::Text => plain.with_filter(filter).boxed(),
        Format::Json => plain.json().flatten_event(true).with_current_span(false).with_filter(filter).boxed(),
    };
    tracing_subscriber::registry().with(layer).try_init()?;
    Ok(writer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables() {
        let var = |name: &str| match name {
            LEVEL_VAR => Some("DEBUG".to_owned()),
            FORMAT_VAR => Some("JSON".to_owned()),
            FILE_VAR => Some(String::new()),
            _ => None,
        };
        let config = LogConfig::from_vars(var).unwrap();
        assert_eq!(config, LogConfig { level: "DEBUG".to_owned(), format: Format::Json, file: None });
        assert_eq!(LogConfig::from_vars(|_| None).unwrap(), LogConfig::default());
        let bad = LogConfig::from_vars(|n| (n == FORMAT_VAR).then(|| "xml".to_owned())).unwrap_err();
        assert_eq!(bad.to_string(), "DIRECTORY_LOGGER_LOG_FORMAT: \"xml\" is neither \"text\" nor \"json\"");
        let bad =
            LogConfig { level: "dir_api=loud".to_owned(), ..LogConfig::default() }.filter().unwrap_err();
        assert!(bad.to_string().starts_with("DIRECTORY_LOGGER_LOG_LEVEL: \"dir_api=loud\" is no level"));
    }

    #[test]
    fn wire_crates_stay_quiet_at_trace() {
        use std::sync::{Arc, Mutex};
        #[derive(Clone, Default)]
        struct Lines(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::default();
        let sink = lines.clone();
        let filter = LogConfig { level: "trace,h2=trace,h2::codec=trace".to_owned(), ..LogConfig::default() }
            .filter()
            .unwrap()
            .and(filter_fn(keeps_the_wire_quiet));
        let layer = fmt::layer().with_writer(move || sink.clone()).with_filter(filter);
        // With one subscriber in a process, a test beside this one could switch its lines off.
        let _second = tracing::Dispatch::new(tracing_subscriber::registry());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::trace!(target: "h2::codec::framed_write", "authorization: sentinel");
            tracing::debug!(target: "reqwest::connect", "sentinel");
            tracing::warn!(target: "h2", "kept");
            tracing::trace!(target: "dir_api", "ours");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("kept") && text.contains("ours") && !text.contains("sentinel"), "{text}");
    }
}
