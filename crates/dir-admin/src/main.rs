//! The directory's jobs.

fn main() {}
