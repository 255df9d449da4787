//! Parts around the core: audit, events, and those that come with later builds.

use crate::config::leaf::{Items, choice};
use crate::config::listen::Listen;
use crate::config::section::section;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

choice! {
    /// Where audit lines go.
    AuditOutput {
        /// Standard output.
        Stdout = "stdout",
        /// `audit.path`.
        File = "file",
        /// Nowhere.
        Off = "off",
    }
}

choice! {
    /// What happens when the audit queue is full.
    OnFull {
        /// The line is dropped and counted.
        Drop = "drop",
        /// The call is refused.
        Refuse = "refuse",
    }
}

section! {
    /// The audit log: one JSON line a call.
    Audit {
        /// Where lines go.
        output: AuditOutput = "stdout",
        /// The file, for `file`.
        path: PathBuf = "",
        /// Lines that may wait.
        queue: usize = "8192",
        /// What happens beyond.
        when_full: OnFull = "drop",
        /// Each line holds its number and the digest of the line before it: `dir-admin audit verify` finds out
        /// whether one was changed or removed.
        hash_chain: bool = "false",
    }
}

section! {
    /// Events to listeners.
    Events {
        /// Events that may wait for one listener; 0 is as 1.
        subscriber_buffer_size: usize = "100",
        /// Log listeners that fall behind.
        log_slow_consumers: bool = "true",
        /// Log every event.
        log_published_events: bool = "false",
        /// Changes kept for watches that resume; 0 is as 1. The embedded index removes old ones 128 at a time: up to 128 more
        /// are there.
        retention: u64 = "100000",
        /// How long changes are kept for watches that resume; 0 keeps them however old they are.
        max_age: Duration = "168h",
    }
}

section! {
    /// Background tasks over index and store.
    Reconciler {
        /// The comparison of index and store.
        indexer: Indexer,
    }
}

section! {
    /// The comparison of index and store: records that others pushed come in, rows of records that others deleted go.
    Indexer {
        /// Compare at the start and after each interval.
        enabled: bool = "true",
        /// Pause between two comparisons.
        interval: Duration = "1h",
        /// Rows that one comparison may take out, in hundredths of all rows (ten rows may always go). More wait for an operator.
        max_removal_percent: u16 = "10",
    }
}

/// A peer of autosync or relay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerEntry {
    /// Its address or id.
    pub peer: String,
}

section! {
    /// The peer network.
    Routing {
        /// Multiaddress to listen on.
        listen_address: String = "/ip4/0.0.0.0/tcp/8999" [Inert],
        /// Our API address as peers should dial it.
        directory_api_address: String = "" [Inert],
        /// Our registry as peers should dial it.
        directory_oci_address: String = "" [Inert],
        /// First peers.
        bootstrap_peers: Vec<String> = "" [Absent],
        /// File of the node's key.
        key_path: PathBuf = "" [Inert],
        /// Directory of what is known of peers; empty: in memory.
        datastore_dir: PathBuf = "" [Inert],
        /// Refresh interval; 0: 30s.
        refresh_interval: Duration = "0s" [Inert],
        /// Republish interval; 0: 36h.
        republish_interval: Duration = "0s" [Inert],
        /// Gossip.
        gossipsub: Gossipsub,
        /// Automatic import.
        autosync: Autosync,
        /// Offer to relay.
        relay_service: bool = "false" [Absent],
        /// Relays to use.
        static_relays: Vec<String> = "" [FileOnly, Absent],
        /// Behave as behind NAT.
        force_reachability_private: bool = "false" [Absent],
        /// Behave as reachable.
        force_reachability_public: bool = "false" [Absent],
    }
}

section! {
    /// Gossip.
    Gossipsub {
        /// Whether labels are announced by gossip.
        enabled: bool = "true" [Inert],
    }
}

section! {
    /// Automatic import from peers.
    Autosync {
        /// Whether it runs.
        enabled: bool = "false" [Absent],
        /// Whose records.
        peerlist: Items<PeerEntry> = "" [FileOnly, Inert],
    }
}

section! {
    /// The publication worker.
    Publication {
        /// Interval.
        scheduler_interval: Duration = "1h" [Inert],
        /// Publications at once.
        worker_count: usize = "1" [Inert],
        /// Bound of one publication.
        worker_timeout: Duration = "30m" [Inert],
    }
}

section! {
    /// Name verification.
    Naming {
        /// A verification is good for this long.
        ttl: Duration = "168h" [Inert],
    }
}

section! {
    /// The HTTP catalog.
    Catalog {
        /// Whether it runs.
        enabled: bool = "false" [Absent],
        /// Address.
        listen_address: Listen = ":8889" [Inert],
        /// Its address as browsers see it.
        public_url: String = "http://localhost:8889" [Inert],
        /// Title.
        catalog_title: String = "AI Catalog" [Inert],
    }
}

section! {
    /// The taxonomy extractor.
    Extractor {
        /// A remote one.
        remote_addr: String = "" [Absent],
        /// Assets of a local one.
        asset_dir: PathBuf = "<home>/.agntcy/oasf-sdk/extractor" [Inert],
        /// Taxonomy source of a local one.
        oasf_url: String = "https://schema.oasf.outshift.com" [Inert],
    }
}
