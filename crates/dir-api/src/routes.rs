//! Which handler answers which method. A method of the API without a line here is UNIMPLEMENTED.

use crate::body::RequestBody;
use crate::conn::Shared;
use crate::services::{
    access, admin, events, federation, health, info, jobs, listing, naming, search, store, watch,
};
use crate::status;
use http::{HeaderValue, Request, Response};
use tonic::body::Body;

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Push,
    Pull,
    Lookup,
    Delete,
    SearchCids,
    SearchRecords,
    CountRecords,
    Listen,
    ListFilterValues,
    ListRecordSummaries,
    Resolve,
    GetVerificationInfo,
    GetIdentityStatus,
    Watch,
    GetServerInfo,
    GetIdentity,
    GetIndexStatus,
    ExplainAccess,
    ExplainOwnAccess,
    ListPartners,
    RefreshPartner,
    AuditStore,
    RepairStore,
    ReshardStore,
    HealthCheck,
    HealthList,
    HealthWatch,
    ReflectionV1,
    ReflectionV1Alpha,
    /// A method of the API that is not offered (yet).
    Unimplemented,
    /// No method at all.
    Unknown,
}

impl Route {
    /// Whether each message of the client names a record, or the answer is of records: then a policy may depend on
    /// the records.
    pub(crate) const fn is_about_records(self) -> bool {
        use Route::{CountRecords, Delete, ListRecordSummaries, Lookup, Pull, SearchCids, SearchRecords};
        matches!(
            self,
            Pull | Lookup | Delete | SearchCids | SearchRecords | CountRecords | ListRecordSummaries
        )
    }

    pub(crate) fn of(path: &str) -> Self {
        match path {
            "/agntcy.dir.store.v1.StoreService/Push" => Route::Push,
            "/agntcy.dir.store.v1.StoreService/Pull" => Route::Pull,
            "/agntcy.dir.store.v1.StoreService/Lookup" => Route::Lookup,
            "/agntcy.dir.store.v1.StoreService/Delete" => Route::Delete,
            "/agntcy.dir.search.v1.SearchService/SearchCIDs" => Route::SearchCids,
            "/agntcy.dir.search.v1.SearchService/SearchRecords" => Route::SearchRecords,
            "/agntcy.dir.search.v1.SearchService/CountRecords" => Route::CountRecords,
            "/agntcy.dir.events.v1.EventService/Listen" => Route::Listen,
            "/agntcy.dir.search.v1.SearchService/ListFilterValues" => Route::ListFilterValues,
            "/agntcy.dir.search.v1.SearchService/ListRecordSummaries" => Route::ListRecordSummaries,
            "/agntcy.dir.naming.v1.NamingService/Resolve"
            | "/agntcy.dir.identity.v1.IdentityService/Resolve" => Route::Resolve,
            "/agntcy.dir.naming.v1.NamingService/GetVerificationInfo" => Route::GetVerificationInfo,
            "/agntcy.dir.identity.v1.IdentityService/GetIdentityStatus" => Route::GetIdentityStatus,
            "/directory.watch.v1.WatchService/Watch" => Route::Watch,
            "/directory.info.v1.ServerInfoService/GetServerInfo" => Route::GetServerInfo,
            "/directory.admin.v1.AdminService/GetIdentity" => Route::GetIdentity,
            "/directory.admin.v1.AdminService/GetIndexStatus" => Route::GetIndexStatus,
            "/directory.admin.v1.AdminService/ExplainAccess" => Route::ExplainAccess,
            "/directory.admin.v1.AdminService/ExplainOwnAccess" => Route::ExplainOwnAccess,
            "/directory.admin.v1.FederationService/ListPartners" => Route::ListPartners,
            "/directory.admin.v1.FederationService/RefreshPartner" => Route::RefreshPartner,
            "/directory.admin.v1.StoreJobsService/AuditStore" => Route::AuditStore,
            "/directory.admin.v1.StoreJobsService/RepairStore" => Route::RepairStore,
            "/directory.admin.v1.StoreJobsService/ReshardStore" => Route::ReshardStore,
            "/grpc.health.v1.Health/Check" => Route::HealthCheck,
            "/grpc.health.v1.Health/List" => Route::HealthList,
            "/grpc.health.v1.Health/Watch" => Route::HealthWatch,
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo" => Route::ReflectionV1,
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => Route::ReflectionV1Alpha,
            _ => Route::Unimplemented,
        }
    }

    /// Whether no answer takes long to compute: other calls of the connection may wait for it. Waiting for a disk or a
    /// registry does not count.
    pub(crate) const fn is_brief(self) -> bool {
        !matches!(
            self,
            // Records are checked and hashed.
            Route::Push
                // What is asked for decides how much is looked at.
                | Route::SearchCids
                | Route::SearchRecords
                | Route::CountRecords
                | Route::ListFilterValues
                | Route::ListRecordSummaries
                // What is read from the log, and written for one alone.
                | Route::Watch
        )
    }

    /// Goes on for as long as somebody listens: a caller that hangs up ends it as it should end.
    pub(crate) const fn ends_by_hanging_up(self) -> bool {
        matches!(self, Route::Listen | Route::Watch)
    }

    /// Tells of events for as long as somebody listens: what that costs is bounded.
    pub(crate) const fn tells(self) -> bool {
        matches!(self, Route::Listen)
    }
}

/// Answers a call. `request_id` joins what is logged with what the client sees.
pub(crate) async fn handle(
    conn: &Shared,
    route: Route,
    request_id: HeaderValue,
    request: Request<RequestBody>,
) -> Response<Body> {
    let app = conn.app();
    match route {
        Route::Push => store::push(app, request_id, request).await,
        Route::Pull => store::pull(app, request_id, request).await,
        Route::Lookup => store::lookup(app, request_id, request).await,
        Route::Delete => store::delete(app, request_id, request).await,
        Route::SearchCids => search::cids(app, request_id, request).await,
        Route::SearchRecords => search::records(app, request_id, request).await,
        Route::CountRecords => search::count(app, request_id, request).await,
        Route::Listen => events::listen(app, conn.stopping.clone(), request).await,
        Route::ListFilterValues => listing::values(app, request_id, request).await,
        Route::ListRecordSummaries => listing::summaries(app, request_id, request).await,
        Route::Resolve => naming::resolve(app, request_id, request).await,
        Route::GetVerificationInfo => naming::verification(app, request_id, request).await,
        Route::GetIdentityStatus => naming::identity_status(app, request_id, request).await,
        Route::Watch => watch::watch(app, conn.stopping.clone(), request).await,
        Route::GetServerInfo => info::server_info(app, request).await,
        Route::GetIdentity => admin::identity(app, request).await,
        Route::GetIndexStatus => admin::index_status(app, request).await,
        Route::ExplainAccess => access::any(app, request).await,
        Route::ExplainOwnAccess => access::own(app, request).await,
        Route::ListPartners => federation::list(app, request).await,
        Route::RefreshPartner => federation::refresh(app, request).await,
        Route::AuditStore => jobs::audit(app, conn.stopping.clone(), request_id, request).await,
        Route::RepairStore => jobs::repair(app, conn.stopping.clone(), request_id, request).await,
        Route::ReshardStore => jobs::reshard(app, conn.stopping.clone(), request_id, request).await,
        Route::HealthCheck => health::check(app, request).await,
        Route::HealthList => health::list(app, request).await,
        Route::HealthWatch => health::watch(app, conn.stopping.clone(), request).await,
        Route::ReflectionV1 => app.reflection.v1(request).await,
        Route::ReflectionV1Alpha => app.reflection.v1alpha(request).await,
        Route::Unimplemented => status::unimplemented(request.uri().path()).into_http(),
        Route::Unknown => status::unknown(request.uri().path()).into_http(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods;
    use dir_core::policy::{RECORD_METHODS, SEARCH_METHODS};

    #[test]
    fn the_policy_is_asked_about_records_for_the_methods_whose_rules_can_have_conditions() {
        let conditional: Vec<&str> = RECORD_METHODS.into_iter().chain(SEARCH_METHODS).collect();
        for path in methods::paths() {
            assert_eq!(Route::of(&path).is_about_records(), conditional.contains(&path.as_str()), "{path}");
        }
    }
}
