//! The gRPC port, the ops port, limits and the end of the process.

use crate::config::leaf::{Named, Rate, choice};
use crate::config::listen::Listen;
use crate::config::networks::Networks;
use crate::config::section::section;
use serde::{Deserialize, Serialize};
use std::time::Duration;

choice! {
    /// Whether a PROXY header precedes the TLS handshake.
    ProxyProtocol {
        /// Never interpreted.
        Off = "off",
        /// Looked for on connections of trusted proxies.
        Optional = "optional",
        /// A connection without it is closed.
        Required = "required",
    }
}

section! {
    /// Consent and proxies of the gRPC port.
    ListenSection {
        /// Consent to plaintext on an address that other machines reach (flag `--allow-insecure`).
        allow_insecure: bool = "false",
        /// PROXY protocol on the gRPC port.
        proxy_protocol: ProxyProtocol = "off",
        /// Networks (CIDR) of proxies: their PROXY headers are believed, and without one their connections are not
        /// counted by address.
        trusted_proxies: Networks = "",
    }
}

section! {
    /// Messages, streams and connection life. Each key stands alone.
    Connection {
        /// Streams a client may have open on one connection; 0 is an error.
        max_concurrent_streams: u32 = "1000",
        /// Largest message taken, in bytes.
        max_recv_msg_size: usize = "4194304",
        /// Largest message sent, in bytes.
        max_send_msg_size: usize = "4194304",
        /// Bound of the TLS handshake when it is set; unset, `limits.handshake_timeout` holds.
        connection_timeout: Duration = "120s",
        /// Idle time, age and pings.
        keepalive: Keepalive,
    }
}

section! {
    /// Idle time, age and pings of a connection.
    Keepalive {
        /// A connection without a stream is closed after this; 0 never.
        max_connection_idle: Duration = "15m",
        /// A connection is drained at this age, ±10 %; 0 never.
        max_connection_age: Duration = "30m",
        /// Streams of a drained connection get this long to end.
        max_connection_age_grace: Duration = "5m",
        /// The server pings a silent client after this.
        time: Duration = "5m",
        /// A ping without an answer closes the connection after this.
        timeout: Duration = "1m",
        /// Clients that ping more often than this are closed; 0 lets every ping pass.
        min_time: Duration = "1m",
        /// Clients may ping without an open stream as often as with one; without it, every two hours.
        permit_without_stream: bool = "true",
    }
}

section! {
    /// Caps and patience.
    Limits {
        /// Bound of the TLS handshake.
        handshake_timeout: Duration = "10s",
        /// Bound for the PROXY header, before the handshake.
        proxy_header_timeout: Duration = "5s",
        /// Bound for the first request after the handshake.
        first_request_timeout: Duration = "10s",
        /// A peer that takes next to nothing (under 1 KiB) of what waits for it is closed after this.
        stalled_timeout: Duration = "30s",
        /// Bytes of answers held for one connection; producing waits beyond.
        buffered_bytes_per_connection: usize = "4194304",
        /// Bytes of messages that have begun and not ended, held for one connection (two of the largest always fit); beyond, a message is refused.
        unfinished_bytes_per_connection: usize = "33554432",
        /// The same for all connections together. The last quarter is for messages of which 64 KiB or less have come.
        unfinished_bytes: usize = "134217728",
        /// Connections at once.
        connections: ConnectionCaps,
    }
}

section! {
    /// Connections at once; 0 is no cap.
    ConnectionCaps {
        /// In all.
        total: usize = "10000",
        /// With one SPIFFE ID.
        per_identity: usize = "1024",
        /// From one address; with PROXY data, the client's.
        per_ip: usize = "256",
    }
}

/// Limit of one method. `rps: 0` is no limit; `burst: 0` with a rate denies every call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodLimit {
    /// Calls a second.
    #[serde(default)]
    pub rps: f64,
    /// Calls at once.
    #[serde(default)]
    pub burst: u32,
}

section! {
    /// Calls a second, checked when a call or stream opens.
    RateLimit {
        /// Whether any of it holds.
        enabled: bool = "false",
        /// Calls a second of everybody together; 0 is no limit.
        global_rps: Rate = "0",
        /// Calls at once of everybody together.
        global_burst: u32 = "0",
        /// Calls a second of one SPIFFE ID; 0 is no limit.
        per_client_rps: Rate = "0",
        /// Calls at once of one SPIFFE ID.
        per_client_burst: u32 = "0",
        /// Calls a second of all SPIFFE IDs of one trust domain together; 0 is no limit.
        per_trust_domain_rps: Rate = "0",
        /// Calls at once of one trust domain; 0 is as many as come in a second.
        per_trust_domain_burst: u32 = "0",
        /// New connections a second from one address, before the handshake; 0 is no limit. Clients of `listen.trusted_proxies` count by the address that the proxy tells, and not at all without one.
        per_ip_rps: Rate = "0",
        /// New connections at once from one address; 0 is as many as come in a second.
        per_ip_burst: u32 = "0",
        /// Failed authentications a minute from one address, and calls a minute of one caller that hand out registry credentials; 0 is no limit.
        auth_rpm: u32 = "60",
        /// By full method name, such as `/agntcy.dir.store.v1.StoreService/Push`: `{rps, burst}`.
        method_limits: Named<MethodLimit> = "" [FileOnly],
    }
}

section! {
    /// The ops listener: `/metrics`, `/livez`, `/readyz`, `/startupz`, `/healthz`, `/version`, `/`.
    Metrics {
        /// Whether `/metrics` is there; the other paths always are.
        enabled: bool = "true",
        /// Address of the whole listener.
        address: Listen = ":9090",
    }
}

section! {
    /// What probes answer.
    Ops {
        /// Conditions of `/readyz`.
        readiness: Readiness,
    }
}

section! {
    /// Conditions of `/readyz`.
    Readiness {
        /// Whether an unreachable registry makes the node not ready, instead of degraded.
        require_registry: bool = "false",
    }
}

section! {
    /// The end of the process.
    Shutdown {
        /// Time for load balancers to notice that the node is not ready.
        lb_wait: Duration = "5s",
        /// Time for calls under way to end.
        grace: Duration = "30s",
    }
}

section! {
    /// What is logged, beside the variables `DIRECTORY_LOGGER_*`.
    Logging {
        /// Calls are logged with more detail; record bodies and credentials never are.
        verbose: bool = "false" [Inert],
    }
}
