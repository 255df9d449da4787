//! Who may connect and who may call what.

use crate::config::leaf::{Items, choice};
use crate::config::listen::Listen;
use crate::config::section::section;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

choice! {
    /// Lowest TLS version.
    TlsVersion {
        /// TLS 1.2 and 1.3.
        Tls12 = "1.2",
        /// TLS 1.3 only.
        Tls13 = "1.3",
    }
}

section! {
    /// Who may connect.
    Authn {
        /// Off means plaintext gRPC and nobody authenticated.
        enabled: bool = "false",
        /// `x509`, `jwt` or `jwt-tls` (the last one is for clients only).
        mode: String = "x509",
        /// The Workload API: `unix:///abs/path`, a bare absolute path, or `tcp://IP:port`.
        socket_path: String = "",
        /// Accepted JWT audiences: a token is taken when it names one of them. Needed for `jwt`.
        audiences: Vec<String> = "",
        /// The trust domain this node belongs to. Empty: whatever its SVID says. Production needs it.
        trust_domain: String = "",
        /// Patience at the start.
        startup_wait: StartupWait,
        /// Chooses among several SVIDs by the hint of their registration entry.
        svid_hint: String = "",
        /// Host names that clients dial; a warning is logged when the SVID lacks one.
        public_hostnames: Vec<String> = "",
        /// Tolerance on the times of a JWT.
        jwt_leeway: Duration = "60s",
        /// SPIFFE IDs whose `x-auth-principal` header is believed: they call for others.
        trusted_gateways: Vec<String> = "",
        /// The TLS side.
        tls: Tls,
    }
}

section! {
    /// What may be asked without an identity.
    Auth {
        /// With `authn.mode: jwt`: answer `GetServerInfo`, and nothing else, to callers that show no token, so that they learn how to get one. Where clients show certificates the same is on the ops listener, at `/info`.
        allow_anonymous_discovery: bool = "false",
    }
}

section! {
    /// The TLS side.
    Tls {
        /// Lowest version.
        min_version: TlsVersion = "1.3",
    }
}

section! {
    /// Patience for the first SVID.
    StartupWait {
        /// First pause between two attempts.
        initial: Duration = "500ms",
        /// Longest pause.
        max: Duration = "10s",
        /// Give up with exit code 6 after this; 0 waits for ever.
        total: Duration = "60s",
    }
}

choice! {
    /// How the method column of a CSV policy is matched.
    MethodMatching {
        /// Exactly, with `*` for everything and a trailing `/*` for a service.
        Strict = "strict",
        /// As existing files were read: prefixes and unanchored expressions.
        Compat = "compat",
    }
}

choice! {
    /// What a policy line about an unknown method is.
    Reaction {
        /// The policy is refused.
        Error = "error",
        /// The line is ignored with a warning.
        Warn = "warn",
    }
}

section! {
    /// Who may call what.
    Authz {
        /// Whether calls are checked against a policy.
        enabled: bool = "false",
        /// The policy: CSV, or native rules when the name ends in `.yaml`, `.yml` or `.toml`. Taken anew when the file changes.
        enforcer_policy_file_path: PathBuf = "/etc/agntcy/dir/authz_policies.csv" [Reload],
        /// How the method column of a CSV policy is matched.
        method_matching: MethodMatching = "strict",
        /// What a policy line about an unknown method is.
        unknown_method: Reaction = "error",
        /// `false` is shadow mode: decide and log, let everything through.
        enforce: bool = "true",
    }
}

section! {
    /// The development Workload API inside the server (flag `--embedded-identity`). Refused under the production profile.
    DevIdentity {
        /// Serve SVIDs of an own throw-away CA on a unix socket and use one of them.
        enabled: bool = "false",
        /// Trust domain of those SVIDs.
        trust_domain: String = "dev.directory.internal",
        /// The socket. Empty: `workload.sock` in `state_dir`.
        socket_path: PathBuf = "",
        /// Lifetime of an SVID.
        svid_ttl: Duration = "1h",
        /// Lifetime of the CA.
        ca_ttl: Duration = "24h",
    }
}

/// A partner trust domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FederatedDomain {
    /// Its name.
    pub name: String,
    /// Where its bundle is published.
    #[serde(default)]
    pub url: String,
    /// `https_web` or `https_spiffe`.
    #[serde(default)]
    pub profile: String,
    /// SPIFFE ID of the publisher, for `https_spiffe`.
    #[serde(default)]
    pub endpoint_spiffe_id: String,
    /// First bundle, from a file: a SPIFFE bundle document, or roots in PEM.
    #[serde(default)]
    pub bootstrap_file: String,
    /// Roots for `https_web`; empty: those of the machine.
    #[serde(default)]
    pub ca_file: String,
    /// Shortest refresh interval.
    #[serde(default)]
    pub refresh_min: String,
    /// Longest refresh interval.
    #[serde(default)]
    pub refresh_max: String,
    /// A bundle that could not be confirmed for so long is distrusted.
    #[serde(default)]
    pub max_stale: String,
}

section! {
    /// Partner trust domains, beside those that the Workload API delivers, and our own bundle for them.
    Federation {
        /// `{name, url, profile, endpoint_spiffe_id, bootstrap_file, ca_file, refresh_min, refresh_max, max_stale}` each. `profile` is `https_web` (default) or `https_spiffe`; `max_stale` is `168h` unless given. A bundle of the Workload API goes before one that is fetched.
        trust_domains: Items<FederatedDomain> = "" [FileOnly],
        /// Whether bundles may be fetched from link-local and metadata addresses.
        allow_link_local: bool = "false",
        /// Our own bundle, for partners to fetch.
        bundle_endpoint: BundleEndpoint,
    }
}

section! {
    /// Our own bundle, for partners to fetch (`https_spiffe`: the endpoint shows the SVID of this node).
    BundleEndpoint {
        /// Publish it.
        enabled: bool = "false",
        /// Where to.
        listen_address: Listen = "0.0.0.0:8443",
        /// How often partners are asked to look.
        refresh_hint: Duration = "5m",
    }
}
