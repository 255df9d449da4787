//! The directory server.

fn main() {}
