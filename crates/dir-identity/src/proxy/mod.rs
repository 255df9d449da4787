//! The PROXY protocol: what a load balancer that passes bytes through says of the client, before the client's first
//! byte. Believed of trusted proxies alone; everybody else's bytes are never looked at.

mod header;
mod network;
mod read;

pub use header::{Parsed, ProxyError, parse};
pub use network::{Network, NetworkError};
pub use read::Unread;
pub use read::{ProxyConfig, ProxyMode};
