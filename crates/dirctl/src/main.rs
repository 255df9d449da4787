//! The directory's command line.

fn main() {}
