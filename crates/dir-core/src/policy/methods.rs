//! The methods a policy is about, and the permission that each of them needs.

use std::collections::HashMap;
use std::sync::Arc;

/// What a caller needs for a method. The groups `@read`, `@write` and `@admin` are made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Nothing, not even an identity.
    Open,
    /// An identity, whoever it is; a rule may still deny it.
    Identity,
    /// `@read`.
    Read,
    /// `@write`.
    Write,
    /// `@admin`.
    Admin,
}

impl Permission {
    /// The permission of a group such as `@read`.
    pub fn of_group(name: &str) -> Option<Self> {
        match name {
            "@read" => Some(Permission::Read),
            "@write" => Some(Permission::Write),
            "@admin" => Some(Permission::Admin),
            _ => None,
        }
    }
}

/// Every method that a server may have, with its permission. A method without a row is denied to everybody; a test of
/// `dir-api` fails when a method of the descriptors has none.
pub const PERMISSIONS: &[(&str, &[(&str, Permission)])] = {
    use Permission::{Admin, Identity, Open, Read, Write};
    &[
        (
            "agntcy.dir.store.v1.StoreService",
            &[
                ("Push", Write),
                ("Pull", Read),
                ("Lookup", Read),
                ("Delete", Write),
                ("PushReferrer", Write),
                ("PullReferrer", Read),
                ("DeleteReferrer", Write),
            ],
        ),
        (
            "agntcy.dir.store.v1.SyncService",
            &[
                ("CreateSync", Admin),
                ("ListSyncs", Read),
                ("GetSync", Read),
                ("DeleteSync", Admin),
                ("RequestRegistryCredentials", Admin),
            ],
        ),
        (
            "agntcy.dir.search.v1.SearchService",
            &[
                ("SearchCIDs", Read),
                ("SearchRecords", Read),
                ("CountRecords", Read),
                ("ListFilterValues", Read),
                ("ListRecordSummaries", Read),
            ],
        ),
        (
            "agntcy.dir.routing.v1.RoutingService",
            &[
                ("Publish", Write),
                ("Unpublish", Write),
                ("Search", Read),
                ("List", Read),
                ("GetProviderCount", Read),
            ],
        ),
        (
            "agntcy.dir.routing.v1.PublicationService",
            &[("CreatePublication", Write), ("ListPublications", Read), ("GetPublication", Read)],
        ),
        ("agntcy.dir.sign.v1.SignService", &[("Sign", Write), ("Verify", Read)]),
        ("agntcy.dir.naming.v1.NamingService", &[("GetVerificationInfo", Read), ("Resolve", Read)]),
        ("agntcy.dir.identity.v1.IdentityService", &[("GetIdentityStatus", Read), ("Resolve", Read)]),
        ("agntcy.dir.policy.v1.PolicyAuditService", &[("GetRecord", Admin), ("ListExcludedRecords", Admin)]),
        ("agntcy.dir.events.v1.EventService", &[("Listen", Read)]),
        (
            "agntcy.dir.catalog.v1.AIFinderService",
            &[
                ("ListAgents", Read),
                ("GetAgent", Read),
                ("ExportAgent", Read),
                ("GetWellKnownCatalog", Read),
                ("ListTags", Read),
                ("ExtractTaxonomy", Read),
                ("SearchAgents", Read),
            ],
        ),
        ("agntcy.dir.runtime.v1.DiscoveryService", &[("GetWorkload", Read), ("ListWorkloads", Read)]),
        ("directory.watch.v1.WatchService", &[("Watch", Read)]),
        ("directory.info.v1.ServerInfoService", &[("GetServerInfo", Identity)]),
        (
            "directory.admin.v1.AdminService",
            &[
                ("GetIdentity", Admin),
                ("GetIndexStatus", Admin),
                ("ExplainAccess", Admin),
                ("ExplainOwnAccess", Identity),
            ],
        ),
        ("directory.admin.v1.FederationService", &[("ListPartners", Admin), ("RefreshPartner", Admin)]),
        (
            "directory.admin.v1.StoreJobsService",
            &[("AuditStore", Admin), ("RepairStore", Admin), ("ReshardStore", Admin)],
        ),
        ("grpc.health.v1.Health", &[("Check", Open), ("List", Read), ("Watch", Open)]),
        ("grpc.reflection.v1.ServerReflection", &[("ServerReflectionInfo", Read)]),
        ("grpc.reflection.v1alpha.ServerReflection", &[("ServerReflectionInfo", Read)]),
    ]
};

fn permission_of(path: &str) -> Option<Permission> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let (_, methods) = PERMISSIONS.iter().find(|(s, _)| *s == service)?;
    methods.iter().find(|(m, _)| *m == method).map(|(_, permission)| *permission)
}

/// Longest text that is compared with the methods to find what was meant, in bytes.
const COMPARED_MAX: usize = 200;

/// Number of a method within a catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MethodId(usize);

impl MethodId {
    /// From 0.
    pub const fn number(self) -> usize {
        self.0
    }
}

/// The methods of a server. Cloning shares it.
#[derive(Debug, Clone)]
pub struct MethodCatalogue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    paths: Vec<String>,
    permissions: Vec<Option<Permission>>,
    numbers: HashMap<String, usize>,
}

impl MethodCatalogue {
    /// From the paths of a server's methods, `/pkg.Svc/Method`, in any order.
    pub fn new(paths: impl IntoIterator<Item = String>) -> Self {
        let mut paths: Vec<String> = paths.into_iter().collect();
        paths.sort();
        paths.dedup();
        let permissions = paths.iter().map(|p| permission_of(p)).collect();
        let numbers = paths.iter().enumerate().map(|(at, p)| (p.clone(), at)).collect();
        Self(Arc::new(Inner { paths, permissions, numbers }))
    }

    /// The method with this path.
    pub fn find(&self, path: &str) -> Option<MethodId> {
        self.0.numbers.get(path).copied().map(MethodId)
    }

    /// The path of a method of this catalogue.
    pub fn path(&self, method: MethodId) -> &str {
        self.0.paths.get(method.0).map_or("", String::as_str)
    }

    /// What a method needs; `None` for one that has no row in [`PERMISSIONS`].
    pub fn permission(&self, method: MethodId) -> Option<Permission> {
        self.0.permissions.get(method.0).copied().flatten()
    }

    /// Number of methods.
    pub fn len(&self) -> usize {
        self.0.paths.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.paths.is_empty()
    }

    /// Every method with its path, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = (MethodId, &str)> {
        self.0.paths.iter().enumerate().map(|(at, path)| (MethodId(at), path.as_str()))
    }

    /// Those whose path satisfies `wanted`.
    pub(crate) fn select(&self, mut wanted: impl FnMut(&str) -> bool) -> MethodSet {
        let mut set = MethodSet::default();
        for (method, path) in self.iter() {
            if wanted(path) {
                set.insert(method);
            }
        }
        set
    }

    /// Every method.
    pub(crate) fn all(&self) -> MethodSet {
        self.select(|_| true)
    }

    /// The methods of a group.
    pub(crate) fn group(&self, permission: Permission) -> MethodSet {
        self.select(|path| permission_of(path) == Some(permission))
    }

    /// The method whose path is most like `text`.
    pub(crate) fn nearest(&self, text: &str) -> Option<&str> {
        if text.len() > COMPARED_MAX {
            return None;
        }
        let service = text.rsplit_once('/').map_or(text, |(service, _)| service);
        let same = |path: &&String| path.rsplit_once('/').is_some_and(|(s, _)| s == service);
        let near = |paths: &mut dyn Iterator<Item = &'_ String>| -> Option<String> {
            let found = paths.map(|p| (distance(p, text), p)).min();
            found.filter(|(d, p)| *d <= p.len() / 3).map(|(_, p)| p.clone())
        };
        let found = near(&mut self.0.paths.iter().filter(same)).or_else(|| near(&mut self.0.paths.iter()))?;
        self.find(&found).map(|m| self.path(m))
    }
}

/// Levenshtein distance in bytes.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// A set of methods of one catalogue.
#[derive(Debug, Clone, Default)]
pub struct MethodSet(Vec<u64>);

impl MethodSet {
    pub(crate) fn insert(&mut self, method: MethodId) {
        let (word, bit) = (method.0 / 64, method.0 % 64);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << bit;
    }

    /// Whether a method is in it.
    pub fn contains(&self, method: MethodId) -> bool {
        self.0.get(method.0 / 64).is_some_and(|word| word >> (method.0 % 64) & 1 == 1)
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The methods, in order.
    pub fn iter(&self) -> impl Iterator<Item = MethodId> + '_ {
        (0..self.0.len() * 64).map(MethodId).filter(|m| self.contains(*m))
    }

    pub(crate) fn extend(&mut self, other: &MethodSet) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(ours, theirs)| *ours |= theirs);
    }

    /// What is here and not there.
    pub(crate) fn without(&self, other: &MethodSet) -> MethodSet {
        let theirs = other.0.iter().chain(std::iter::repeat(&0));
        MethodSet(self.0.iter().zip(theirs).map(|(ours, theirs)| ours & !theirs).collect())
    }

    pub(crate) fn is_subset(&self, other: &MethodSet) -> bool {
        let theirs = other.0.iter().chain(std::iter::repeat(&0));
        self.0.iter().zip(theirs).all(|(ours, theirs)| ours & !theirs == 0)
    }
}
