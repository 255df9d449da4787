//! Every method that a request can name, with its route and its counters.

use crate::metrics::{MethodMetrics, Metrics};
use crate::routes::Route;
use std::collections::HashMap;

/// One method.
pub(crate) struct Method {
    /// `/<service>/<method>`.
    pub(crate) path: String,
    /// `agntcy.dir.store.v1.StoreService`.
    pub(crate) service: String,
    /// `Push`.
    pub(crate) name: String,
    /// `unary`, `client_stream`, `server_stream` or `bidi_stream`.
    pub(crate) kind: &'static str,
    /// Who answers.
    pub(crate) route: Route,
    /// Health calls do not fill the log.
    pub(crate) quiet: bool,
    pub(crate) metrics: MethodMetrics,
}

/// The methods, by path. Number 0 stands for every path that is none of them.
pub(crate) struct Methods {
    all: Vec<Method>,
    by_path: HashMap<String, usize>,
}

/// Services that are not in `/proto`: (service, method, client streams, server streams).
const FOREIGN: [(&str, &str, bool, bool); 5] = [
    ("grpc.health.v1.Health", "Check", false, false),
    ("grpc.health.v1.Health", "List", false, false),
    ("grpc.health.v1.Health", "Watch", false, true),
    ("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo", true, true),
    ("grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo", true, true),
];

const fn kind(client_streams: bool, server_streams: bool) -> &'static str {
    match (client_streams, server_streams) {
        (false, false) => "unary",
        (true, false) => "client_stream",
        (false, true) => "server_stream",
        (true, true) => "bidi_stream",
    }
}

impl Methods {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let method = |service: &str, name: &str, kind: &'static str| {
            let path = format!("/{service}/{name}");
            Method {
                route: Route::of(&path),
                quiet: service == "grpc.health.v1.Health",
                metrics: metrics.method(kind, service, name),
                path,
                service: service.to_owned(),
                name: name.to_owned(),
                kind,
            }
        };
        let ours = dir_proto::methods().iter();
        let ours = ours.map(|m| method(&m.service, &m.method, kind(m.client_streaming, m.server_streaming)));
        let foreign = FOREIGN.iter().map(|(service, name, c, s)| method(service, name, kind(*c, *s)));
        let unknown = Method { route: Route::Unknown, ..method("unknown", "unknown", "unary") };
        let all: Vec<Method> = std::iter::once(unknown).chain(ours).chain(foreign).collect();
        let by_path = all.iter().enumerate().skip(1).map(|(at, m)| (m.path.clone(), at)).collect();
        Self { all, by_path }
    }

    /// The number of the method with this path.
    pub(crate) fn find(&self, path: &str) -> usize {
        self.by_path.get(path).copied().unwrap_or(0)
    }

    pub(crate) fn get(&self, number: usize) -> &Method {
        &self.all[number]
    }
}
