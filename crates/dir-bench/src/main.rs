//! Load driver and report.

fn main() {}
