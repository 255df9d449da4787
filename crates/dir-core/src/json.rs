//! JSON documents as records are made of. (The representation lands with the canonical form.)

/// A JSON document.
#[derive(Debug, Clone, PartialEq)]
pub struct Doc {
    _private: (),
}
