//! Identity, acceptor, connector and development Workload API working together, over loopback and Unix sockets.

// Everything here is test code; clippy only recognises the functions that carry the attribute.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod boot;
mod connector;
mod devapi;
mod federation;
mod federation_lies;
mod federation_support;
mod handshake;
mod jwt;
mod logs;
mod minting;
mod openssl;
mod proxy;
mod rotation;
mod rows;
mod support;
mod trust;
