//! What is logged on the thread of a test. The runtimes of these tests have one thread each, and the subscriber is one
//! for all of them: subscribers that come and go lose events of other threads.

use crate::support::until;
use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;
use tracing_subscriber::fmt::MakeWriter;

thread_local! {
    static LOGGED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

#[derive(Clone, Copy)]
struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.with(|l| l.borrow_mut().extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Log;
    fn make_writer(&self) -> Log {
        Log
    }
}

/// Begins to keep what this thread logs.
pub(crate) fn keep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let levels = "info,dir_identity=debug";
        tracing_subscriber::fmt().with_env_filter(levels).with_writer(Log).with_ansi(false).init();
    });
    LOGGED.with(|l| l.borrow_mut().clear());
}

/// Everything.
pub(crate) fn bytes() -> Vec<u8> {
    LOGGED.with(|l| l.borrow().clone())
}

/// The lines with this in them.
pub(crate) fn lines(with: &str) -> Vec<String> {
    let text = String::from_utf8(bytes()).unwrap();
    text.lines().filter(|l| l.contains(with)).map(str::to_owned).collect()
}

/// The first line with this in it, when it comes.
pub(crate) async fn line(with: &str) -> String {
    until(&format!("a line of the log with {with}"), || !lines(with).is_empty()).await;
    lines(with).remove(0)
}
