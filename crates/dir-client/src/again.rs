//! When a call that failed is made again on another connection.

use crate::client::Client;
use tonic::Status;

/// Attempts of a call that never left this process: the connection was told to go away before its turn came. Nothing
/// has happened over there, and a server that restarts may hand out a few such connections in a row.
const UNSENT_MAX: u8 = 5;

/// The second attempts of one call that are used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Again {
    broke: bool,
    unsent: u8,
}

impl Again {
    /// Whether to make the call once more, after it ended like this.
    pub(crate) fn worth(&mut self, client: &Client, status: &Status) -> bool {
        client.is_break(status) && self.take(crate::status::is_unsent(status))
    }

    fn take(&mut self, unsent: bool) -> bool {
        if unsent && self.unsent < UNSENT_MAX {
            self.unsent += 1;
            return true;
        }
        !std::mem::replace(&mut self.broke, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_for_a_break_and_a_few_times_for_what_was_never_sent() {
        let mut again = Again::default();
        assert!(again.take(false) && !again.take(false));
        let mut again = Again::default();
        assert!((0..UNSENT_MAX).all(|_| again.take(true)));
        assert!(again.take(true) && !again.take(true) && !again.take(false));
    }
}
