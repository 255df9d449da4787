//! The directory server: configuration, composition and the command line. Logic lives in the other crates.

pub mod about;
mod authz;
pub mod cli;
mod commands;
pub mod config;
pub mod exit;
mod lab;
mod node;
