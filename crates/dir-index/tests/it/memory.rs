//! The memory adapter, with chunks of the usual size and with tiny ones that show the seams.

use dir_index::{MemoryConfig, MemoryIndex};
use dir_testkit::index_conformance::Subject;
use std::sync::Arc;

mod usual {
    use super::*;

    fn make() -> Subject {
        Subject::new(Arc::new(MemoryIndex::new()))
    }

    dir_testkit::index_conformance!(make);
}

mod tiny_chunks {
    use super::*;

    fn make() -> Subject {
        let config = MemoryConfig { chunk_records: 7, ..MemoryConfig::default() };
        Subject::new(Arc::new(MemoryIndex::with_config(&config)))
    }

    dir_testkit::index_conformance!(make);
}
