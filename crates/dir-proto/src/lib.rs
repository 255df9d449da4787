//! Generated gRPC types of the public API (`agntcy.dir.*.v1`) and of our own packages (`directory.*`), and the way
//! between wire and core.
//!
//! The module path is the proto package: `dir_proto::agntcy::dir::store::v1::store_service_server::StoreService`.
//! The code under `src/gen` is committed and made from `/proto` by `tests/gen.rs`; nothing is generated while building.

pub mod convert;
mod methods;
pub mod wire;

pub use methods::{Method, file_descriptor_set, methods};

/// Every file of `/proto` with its imports as an encoded `google.protobuf.FileDescriptorSet`, options of
/// `buf.validate` and `google.api.http` included. For server reflection and for checks of declared rules.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptor.bin");

/// One generated package. Lints do not apply to it: its shape is the generator's.
macro_rules! package {
    ($module:ident, $file:literal, $about:literal) => {
        #[doc = $about]
        #[allow(
            clippy::all,
            clippy::pedantic,
            clippy::restriction,
            missing_docs,
            unreachable_pub,
            rustdoc::all
        )]
        pub mod $module {
            include!(concat!("gen/", $file, ".rs"));
        }
    };
}

/// The public API.
pub mod agntcy {
    /// Packages `agntcy.dir.*`.
    pub mod dir {
        /// Package `agntcy.dir.catalog`.
        pub mod catalog {
            package!(v1, "agntcy.dir.catalog.v1", "Package `agntcy.dir.catalog.v1`.");
        }
        /// Package `agntcy.dir.core`.
        pub mod core {
            package!(v1, "agntcy.dir.core.v1", "Package `agntcy.dir.core.v1`.");
        }
        /// Package `agntcy.dir.events`.
        pub mod events {
            package!(v1, "agntcy.dir.events.v1", "Package `agntcy.dir.events.v1`.");
        }
        /// Package `agntcy.dir.identity`.
        pub mod identity {
            package!(v1, "agntcy.dir.identity.v1", "Package `agntcy.dir.identity.v1`.");
        }
        /// Package `agntcy.dir.naming`.
        pub mod naming {
            package!(v1, "agntcy.dir.naming.v1", "Package `agntcy.dir.naming.v1`.");
        }
        /// Package `agntcy.dir.policy`.
        pub mod policy {
            package!(v1, "agntcy.dir.policy.v1", "Package `agntcy.dir.policy.v1`.");
        }
        /// Package `agntcy.dir.routing`.
        pub mod routing {
            package!(v1, "agntcy.dir.routing.v1", "Package `agntcy.dir.routing.v1`.");
        }
        /// Package `agntcy.dir.runtime`.
        pub mod runtime {
            package!(v1, "agntcy.dir.runtime.v1", "Package `agntcy.dir.runtime.v1`.");
        }
        /// Package `agntcy.dir.search`.
        pub mod search {
            package!(v1, "agntcy.dir.search.v1", "Package `agntcy.dir.search.v1`.");
        }
        /// Package `agntcy.dir.security`.
        pub mod security {
            package!(v1, "agntcy.dir.security.v1", "Package `agntcy.dir.security.v1`.");
        }
        /// Package `agntcy.dir.sign`.
        pub mod sign {
            package!(v1, "agntcy.dir.sign.v1", "Package `agntcy.dir.sign.v1`.");
        }
        /// Package `agntcy.dir.store`.
        pub mod store {
            package!(v1, "agntcy.dir.store.v1", "Package `agntcy.dir.store.v1`.");
        }
    }
}

/// Our own packages.
pub mod directory {
    /// Operator view of a node.
    pub mod admin {
        package!(v1, "directory.admin.v1", "Package `directory.admin.v1`.");
    }
    /// Changes that can be resumed.
    pub mod watch {
        package!(v1, "directory.watch.v1", "Package `directory.watch.v1`.");
    }
    /// What a client has to know of a server.
    pub mod info {
        package!(v1, "directory.info.v1", "Package `directory.info.v1`.");
    }
}

/// Shared Google types the public API refers to.
pub mod google {
    package!(api, "google.api", "Package `google.api`.");
}
