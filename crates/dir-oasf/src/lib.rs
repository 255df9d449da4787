//! OASF rules: is this JSON an acceptable record, and what are its labels.
//!
//! [`facts`] decodes a record as the schema version it names. The verdict comes from one of three modes
//! ([`Mode`]): an external schema server, the built-in structural check, or nobody.

mod decode;
mod member;
mod remote;
mod rules;
mod structure;
mod version;

pub use decode::facts;
pub use remote::{RESPONSE_MAX, RemoteRules, TIMEOUT_DEFAULT};
pub use rules::{BuiltinRules, Mode, Settings, SetupError};
pub use structure::problems;
pub use version::{Schema, Version, VersionError};
