//! JWT-SVIDs: verified against JWT bundles that are kept up to date, as X.509 material is.

mod bundle;
mod cache;
mod fetch;
mod key;
#[cfg(test)]
mod key_tests;
mod source;
mod token;
mod verifier;

pub(crate) use bundle::{JwtBundle, KEYS_MAX};
pub use fetch::{JwtSource, JwtSvid, JwtSvidError};
pub use token::{TOKEN_MAX, judge_token};
pub use verifier::{JwtConfig, JwtVerifier};
