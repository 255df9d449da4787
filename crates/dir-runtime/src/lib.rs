//! Process plumbing shared by the binaries: logs, signals, readiness, supervised tasks, drain, process gauges.
//!
//! Nothing here knows what a directory is. Nothing here reads the environment: a binary passes its variables
//! in as a function, so that tests pass their own.

pub mod clock;
pub mod drain;
pub mod port;
pub mod process;
pub mod readiness;
pub mod signals;
pub mod tasks;
pub mod telemetry;

pub use clock::SystemClock;
pub use drain::Drain;
pub use port::free_port;
pub use readiness::{Health, Latch, State};
pub use signals::Signals;
pub use tasks::Supervisor;
