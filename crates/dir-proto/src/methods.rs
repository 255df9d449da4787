//! Every RPC that `/proto` declares: for tables that must name each of them (metrics, authorization).

use prost::Message as _;
use prost_types::FileDescriptorSet;
use std::sync::LazyLock;

/// One RPC of the public API or of our own packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// Full name of the service, for example `agntcy.dir.store.v1.StoreService`.
    pub service: String,
    /// Name of the method, for example `Push`.
    pub method: String,
    /// Whether the client sends a stream.
    pub client_streaming: bool,
    /// Whether the server answers with a stream.
    pub server_streaming: bool,
}

impl Method {
    /// The path of its HTTP/2 requests: `/<service>/<method>`.
    pub fn path(&self) -> String {
        format!("/{}/{}", self.service, self.method)
    }
}

static SET: LazyLock<FileDescriptorSet> =
    LazyLock::new(|| FileDescriptorSet::decode(crate::FILE_DESCRIPTOR_SET).unwrap_or_default());

static METHODS: LazyLock<Vec<Method>> = LazyLock::new(|| {
    let mut methods: Vec<Method> = SET
        .file
        .iter()
        .flat_map(|file| file.service.iter().map(move |service| (file.package(), service)))
        .flat_map(|(package, service)| {
            service.method.iter().map(move |method| Method {
                service: format!("{package}.{}", service.name()),
                method: method.name().to_owned(),
                client_streaming: method.client_streaming(),
                server_streaming: method.server_streaming(),
            })
        })
        .collect();
    methods.sort_by(|a, b| (&a.service, &a.method).cmp(&(&b.service, &b.method)));
    methods
});

/// [`crate::FILE_DESCRIPTOR_SET`], decoded once. Options of extensions are not kept in this form.
pub fn file_descriptor_set() -> &'static FileDescriptorSet {
    &SET
}

/// Every RPC of `/proto`, by service and method. Health and reflection come from elsewhere and are not listed.
pub fn methods() -> &'static [Method] {
    &METHODS
}
