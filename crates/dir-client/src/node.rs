//! What a node says of itself: health, facts for clients, identity, index.

use crate::client::Client;
use crate::error::{ClientError, Kind};
use dir_proto::directory::admin::v1::{
    ExplainAccessRequest, ExplainAccessResponse, ExplainOwnAccessRequest, GetIdentityRequest,
    GetIdentityResponse, GetIndexStatusRequest, GetIndexStatusResponse, ListPartnersRequest,
    ListPartnersResponse, RefreshPartnerRequest, RefreshPartnerResponse,
};
use dir_proto::directory::info::v1::{AuthMode, GetServerInfoRequest, GetServerInfoResponse};

const INFO: &str = "/directory.info.v1.ServerInfoService/GetServerInfo";
const CHECK: &str = "/grpc.health.v1.Health/Check";
const IDENTITY: &str = "/directory.admin.v1.AdminService/GetIdentity";
const PARTNERS: &str = "/directory.admin.v1.FederationService/ListPartners";
const REFRESH: &str = "/directory.admin.v1.FederationService/RefreshPartner";
const INDEX: &str = "/directory.admin.v1.AdminService/GetIndexStatus";

const EXPLAIN: &str = "/directory.admin.v1.AdminService/ExplainAccess";
const EXPLAIN_OWN: &str = "/directory.admin.v1.AdminService/ExplainOwnAccess";

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The answer of a health check (`grpc.health.v1.HealthCheckResponse.ServingStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It serves.
    Serving,
    /// It does not serve now.
    NotServing,
    /// It does not say.
    Unknown,
}

impl Health {
    /// The name in the gRPC health protocol.
    pub const fn name(self) -> &'static str {
        match self {
            Health::Serving => "SERVING",
            Health::NotServing => "NOT_SERVING",
            Health::Unknown => "UNKNOWN",
        }
    }
}

/// The name of a way to authenticate, as configurations and JSON spell it.
pub const fn auth_mode_name(mode: AuthMode) -> &'static str {
    match mode {
        AuthMode::Unspecified => "unknown",
        AuthMode::None => "none",
        AuthMode::X509Svid => "x509_svid",
        AuthMode::JwtSvid => "jwt_svid",
        AuthMode::Token => "token",
        AuthMode::Oidc => "oidc",
    }
}

impl Client {
    /// Whether the server (`""`) or one of its services serves.
    pub async fn health(&self, service: &str) -> Result<Health, ClientError> {
        let request = HealthRequest { service: service.to_owned() };
        let answer: HealthResponse = self.unary(CHECK, &request).await.map_err(|error| match error.kind() {
            Kind::NotFound => {
                let cause = format!("the server knows no service {service:?}");
                let next = "leave --service away: many servers, this product's among them, answer for the whole server alone";
                ClientError::new(Kind::NotFound, error.what(), cause, next)
            }
            _ => error,
        })?;
        Ok(match answer.status {
            1 => Health::Serving,
            2 => Health::NotServing,
            _ => Health::Unknown,
        })
    }

    /// What the server is and offers: version, services, auth modes, limits. Servers of other makes do not know this
    /// call ([`crate::Kind::VersionSkew`]).
    pub async fn server_info(&self) -> Result<GetServerInfoResponse, ClientError> {
        self.unary(INFO, &GetServerInfoRequest {}).await
    }

    /// Which identity the server presents, and which bundles it holds.
    pub async fn server_identity(&self) -> Result<GetIdentityResponse, ClientError> {
        self.unary(IDENTITY, &GetIdentityRequest {}).await
    }

    /// Whether somebody may call a method, and why; without a subject the caller itself, who needs no permission for it.
    pub async fn explain_access(
        &self,
        method: &str,
        subject: Option<&str>,
        gateway: Option<&str>,
        resource: Option<&str>,
    ) -> Result<ExplainAccessResponse, ClientError> {
        let (method, resource) = (method.to_owned(), resource.unwrap_or_default().to_owned());
        match subject {
            None => self.unary(EXPLAIN_OWN, &ExplainOwnAccessRequest { method, resource }).await,
            Some(subject) => {
                let gateway = gateway.unwrap_or_default().to_owned();
                let subject = subject.to_owned();
                let request = ExplainAccessRequest { subject, method, gateway, resource };
                self.unary(EXPLAIN, &request).await
            }
        }
    }

    /// The partners whose bundles the server fetches by itself.
    pub async fn federation_partners(&self) -> Result<ListPartnersResponse, ClientError> {
        self.unary(PARTNERS, &ListPartnersRequest {}).await
    }

    /// Has the server fetch the bundle of a partner now.
    pub async fn refresh_partner(&self, trust_domain: &str) -> Result<RefreshPartnerResponse, ClientError> {
        self.unary(REFRESH, &RefreshPartnerRequest { trust_domain: trust_domain.to_owned() }).await
    }

    /// What state the server's index is in.
    pub async fn index_status(&self) -> Result<GetIndexStatusResponse, ClientError> {
        self.unary(INDEX, &GetIndexStatusRequest {}).await
    }
}
