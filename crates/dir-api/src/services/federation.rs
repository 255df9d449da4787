//! `directory.admin.v1.FederationService`.

use super::rpc::{self, encode};
use crate::app::Inner;
use crate::body::RequestBody;
use crate::status;
use dir_core::TrustDomain;
use dir_core::partners::PartnerReport;
use dir_proto::convert;
use dir_proto::directory::admin::v1 as pb;
use http::{Request, Response};
use tonic::body::Body;

pub(crate) async fn list(app: &Inner, request: Request<RequestBody>) -> Response<Body> {
    rpc::unary(request, |_: pb::ListPartnersRequest| async move {
        let now = Some(convert::timestamp(app.clock.now()));
        Ok(encode(&pb::ListPartnersResponse { partners: reports(app).map(partner).collect(), now }))
    })
    .await
}

pub(crate) async fn refresh(app: &Inner, request: Request<RequestBody>) -> Response<Body> {
    rpc::unary(request, |asked: pb::RefreshPartnerRequest| async move {
        let domain: TrustDomain =
            asked.trust_domain.parse().map_err(|why| status::bad_request(format!("trust_domain: {why}")))?;
        let fetched = match &app.config.partners {
            Some(partners) => partners.fetch(&domain).await,
            None => None,
        };
        let Some(fetched) = fetched else { return Err(status::no_partner(&domain)) };
        Ok(encode(&pb::RefreshPartnerResponse {
            partner: reports(app).find(|report| report.trust_domain == domain).map(partner),
            error: fetched.err().unwrap_or_default(),
            now: Some(convert::timestamp(app.clock.now())),
        }))
    })
    .await
}

fn reports(app: &Inner) -> impl Iterator<Item = PartnerReport> {
    app.config.partners.iter().flat_map(|partners| partners.reports())
}

fn partner(report: PartnerReport) -> pb::Partner {
    pb::Partner {
        trust_domain: report.trust_domain.to_string(),
        url: report.url.unwrap_or_default(),
        source: report.source.unwrap_or_default().to_owned(),
        sequence: report.sequence,
        fetched_at: report.fetched_at.map(convert::timestamp),
        next_fetch: Some(convert::timestamp(report.next_fetch)),
        failures: report.failures,
        error: report.error.unwrap_or_default(),
        stale: report.stale,
        fingerprints: report.fingerprints.into_iter().collect(),
    }
}
