//! A client process of the tests: see `product_tests::caller`.

use clap::Parser;
use product_tests::caller::{CallerArgs, run};

fn main() -> anyhow::Result<()> {
    product_tests::init();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(run(CallerArgs::parse()))
}
