//! Error classes: the closed set that every error of the product maps to exactly once.

/// What kind of failure an error is. The API maps a class to a status code; the CLI to an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The caller sent something malformed.
    Invalid,
    /// The named thing does not exist.
    NotFound,
    /// The caller's state contradicts ours (for instance: wrong phase of a state machine).
    FailedPrecondition,
    /// Nobody was authenticated.
    Unauthenticated,
    /// Authenticated, and not allowed.
    Denied,
    /// A named limit was hit.
    Exhausted,
    /// A dependency is unreachable or refuses; trying again later may work.
    Unavailable,
    /// A deadline passed.
    Timeout,
    /// The caller went away.
    Cancelled,
    /// Not offered, here or by the backend.
    Unimplemented,
    /// Stored content does not match its digest.
    Corrupt,
    /// A fault of ours.
    Internal,
}

impl Class {
    /// Whether trying the same call again may succeed without anybody changing anything.
    pub fn is_transient(self) -> bool {
        matches!(self, Class::Unavailable | Class::Timeout | Class::Exhausted)
    }
}

/// An error that knows its class.
pub trait Classified {
    /// The class of this error.
    fn class(&self) -> Class;
}
