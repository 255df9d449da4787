//! Where a job can be taken up again: known while it runs, wanted when it is cut off.

use std::sync::{Arc, Mutex, PoisonError};

/// The last mark that a job told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mark(Arc<Mutex<String>>);

impl Mark {
    pub(crate) fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, mark: &str) {
        mark.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
