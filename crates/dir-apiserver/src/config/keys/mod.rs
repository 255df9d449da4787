//! Every key of the server, declared once.

mod data;
mod identity;
mod parts;
mod transport;

use super::leaf::choice;
use super::listen::Listen;
use super::section::section;
use std::path::PathBuf;

pub use data::{
    Database, DatabaseType, LayoutChoice, Oci, RulesMode, SchemaValidation, Store, StoreProvider, Sync,
};
pub use identity::{
    Auth, Authn, Authz, BundleEndpoint, DevIdentity, FederatedDomain, Federation, MethodMatching, Reaction,
    TlsVersion,
};
pub use parts::{
    Audit, AuditOutput, Catalog, Events, Extractor, Naming, OnFull, Publication, Reconciler, Routing,
};
pub use transport::{
    Connection, Keepalive, Limits, ListenSection, Logging, MethodLimit, Metrics, Ops, ProxyProtocol,
    RateLimit, Shutdown,
};

choice! {
    /// What kind of node this is.
    Profile {
        /// Nothing is refused.
        Development = "development",
        /// Unsafe settings are refused.
        Production = "production",
    }
}

section! {
    /// The whole configuration.
    Config {
        /// `production` refuses unsafe settings at the start; `config check --profile production` asks the same of any file.
        profile: Profile = "development",
        /// Address of the gRPC port.
        listen_address: Listen = "0.0.0.0:8888",
        /// Directory of what must survive a restart beside index and store, such as the pinned trust domain.
        state_dir: PathBuf = "<home>/.dir",
        /// Consent and proxies of the gRPC port.
        listen: ListenSection,
        /// Who may connect.
        authn: Authn,
        /// What may be asked without an identity.
        auth: Auth,
        /// Who may call what.
        authz: Authz,
        /// The development Workload API inside the server.
        dev_identity: DevIdentity,
        /// Partner trust domains.
        federation: Federation,
        /// Messages, streams and connection life.
        connection: Connection,
        /// Caps and patience.
        limits: Limits,
        /// Calls a second.
        ratelimit: RateLimit,
        /// Where records live.
        store: Store,
        /// Where the index lives.
        database: Database,
        /// What is an acceptable record.
        oasf_api_validation: SchemaValidation,
        /// The ops listener.
        metrics: Metrics,
        /// What probes answer.
        ops: Ops,
        /// The end of the process.
        shutdown: Shutdown,
        /// What is logged.
        logging: Logging,
        /// The audit log.
        audit: Audit,
        /// Events to listeners.
        events: Events,
        /// Background tasks over index and store. `RECONCILER_INDEXER_*` variables set them too.
        reconciler: Reconciler,
        /// Credentials handed to peers.
        sync: Sync,
        /// The peer network.
        routing: Routing,
        /// The publication worker.
        publication: Publication,
        /// Name verification.
        naming: Naming,
        /// The HTTP catalog.
        http_gateway: Catalog,
        /// The taxonomy extractor.
        extractor: Extractor,
    }
}
