//! Every method that a request can name, with its route and its counters.

use crate::metrics::{MethodMetrics, Metrics};
use crate::routes::Route;
use dir_core::policy::{MethodCatalogue, Permission};
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
    /// Needs no identity and no policy.
    pub(crate) open: bool,
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

/// Service, name and kind of every method, in the order of their numbers, which begin at 1.
fn known() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let ours = dir_proto::methods().iter();
    let ours =
        ours.map(|m| (m.service.as_str(), m.method.as_str(), kind(m.client_streaming, m.server_streaming)));
    ours.chain(FOREIGN.iter().map(|(service, name, c, s)| (*service, *name, kind(*c, *s))))
}

/// The path of every method, in the order of their numbers, which begin at 1.
pub(crate) fn paths() -> impl Iterator<Item = String> {
    known().map(|(service, name, _)| format!("/{service}/{name}"))
}

/// Every method that this server registers, offered or not: what policies are checked against.
pub fn method_catalogue() -> MethodCatalogue {
    MethodCatalogue::new(paths())
}

impl Methods {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let catalogue = method_catalogue();
        let permission = |path: &str| catalogue.find(path).and_then(|m| catalogue.permission(m));
        let method = |service: &str, name: &str, kind: &'static str| {
            let path = format!("/{service}/{name}");
            Method {
                route: Route::of(&path),
                open: permission(&path) == Some(Permission::Open),
                quiet: service == "grpc.health.v1.Health",
                metrics: metrics.method(kind, service, name),
                path,
                service: service.to_owned(),
                name: name.to_owned(),
                kind,
            }
        };
        let known = known().map(|(service, name, kind)| method(service, name, kind));
        let unknown = Method { route: Route::Unknown, ..method("unknown", "unknown", "unary") };
        let all: Vec<Method> = std::iter::once(unknown).chain(known).collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use dir_core::policy::PERMISSIONS;

    #[test]
    fn f12_every_method_has_a_permission_and_every_permission_a_method() {
        let catalogue = method_catalogue();
        assert_eq!(catalogue.len(), dir_proto::methods().len() + FOREIGN.len());
        for (method, path) in catalogue.iter() {
            assert!(
                catalogue.permission(method).is_some(),
                "{path} has no row in PERMISSIONS: nobody may call it"
            );
        }
        for (service, methods) in PERMISSIONS {
            for (name, _) in *methods {
                let path = format!("/{service}/{name}");
                assert!(
                    catalogue.find(&path).is_some(),
                    "{path} has a row in PERMISSIONS and does not exist"
                );
            }
        }
    }
}
