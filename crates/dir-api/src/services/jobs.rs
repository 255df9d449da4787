//! `directory.admin.v1.StoreJobsService`: a job runs as long as its caller listens.

use super::rpc::{self, encode};
use crate::app::Inner;
use crate::body::RequestBody;
use crate::conn::Why;
use crate::status;
use bytes::Bytes;
use dir_core::maintenance::{Depth, Finding, Spread, Trouble};
use dir_core::store::WalkMark;
use dir_core::{Peer, Timestamp};
use dir_engine::{
    AuditOptions, AuditReport, Drift, Engine, EngineError, JobNews, JobProgress, Listening, ReconcileOptions,
    ReshardReport,
};
use dir_proto::convert;
use dir_proto::directory::admin::v1 as pb;
use futures::stream::{self, Stream, StreamExt};
use http::{HeaderValue, Request, Response};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;

/// News that wait for the caller; a job whose caller does not read waits for it.
const NEWS_MAX: usize = 64;
/// When nothing has happened for so long, the last progress is said again: callers bound their waits.
const SAY_AGAIN: Duration = Duration::from_secs(5);

pub(crate) async fn audit(
    app: &Inner,
    stopping: CancellationToken,
    request_id: HeaderValue,
    request: Request<RequestBody>,
) -> Response<Body> {
    use pb::audit_store_response::Told as Wire;
    let caller = Caller::new(app, stopping, request_id, &request);
    rpc::server_stream(request, |message: pb::AuditStoreRequest| {
        let options = AuditOptions {
            depth: depth(message.depth)?,
            repair: false,
            restore_lost_tags: false,
            reconcile: ReconcileOptions::default(),
            from: mark(message.from),
        };
        let began = caller.engine.clock().now();
        let encoded = move |told| {
            let told = match told {
                Told::Progress(progress) => Wire::Progress(progress),
                Told::Finding(finding) => Wire::Finding(finding),
                Told::Report(report) => Wire::Report(audit_report(&report, began)),
            };
            encode(&pb::AuditStoreResponse { told: Some(told) })
        };
        let job = |engine: Engine, listening| async move { engine.audit_store(options, &listening).await };
        Ok(caller.run(job, encoded))
    })
    .await
}

pub(crate) async fn repair(
    app: &Inner,
    stopping: CancellationToken,
    request_id: HeaderValue,
    request: Request<RequestBody>,
) -> Response<Body> {
    use pb::repair_store_response::Told as Wire;
    let caller = Caller::new(app, stopping, request_id, &request);
    rpc::server_stream(request, |message: pb::RepairStoreRequest| {
        let options = repair_options(message)?;
        let began = caller.engine.clock().now();
        let encoded = move |told| {
            let told = match told {
                Told::Progress(progress) => Wire::Progress(progress),
                Told::Finding(finding) => Wire::Finding(finding),
                Told::Report(report) => Wire::Report(audit_report(&report, began)),
            };
            encode(&pb::RepairStoreResponse { told: Some(told) })
        };
        let job = |engine: Engine, listening| async move { engine.audit_store(options, &listening).await };
        Ok(caller.run(job, encoded))
    })
    .await
}

pub(crate) async fn reshard(
    app: &Inner,
    stopping: CancellationToken,
    request_id: HeaderValue,
    request: Request<RequestBody>,
) -> Response<Body> {
    use pb::reshard_store_response::Told as Wire;
    let caller = Caller::new(app, stopping, request_id, &request);
    rpc::server_stream(request, |message: pb::ReshardStoreRequest| {
        let to = match message.to() {
            pb::StoreLayout::Single => Spread::Single,
            pb::StoreLayout::Sharded => Spread::Sharded,
            pb::StoreLayout::Unspecified => {
                return Err(status::bad_request("to: write STORE_LAYOUT_SINGLE or _SHARDED".to_owned()));
            }
        };
        let (dry_run, limit) = (message.dry_run, Some(message.limit).filter(|limit| *limit > 0));
        let began = caller.engine.clock().now();
        let encoded = move |told| {
            let told = match told {
                Told::Progress(progress) => Wire::Progress(progress),
                Told::Finding(finding) => Wire::Finding(finding),
                Told::Report(report) => Wire::Report(reshard_report(&report, began)),
            };
            encode(&pb::ReshardStoreResponse { told: Some(told) })
        };
        let job = move |engine: Engine, listening| async move {
            engine.reshard_store(to, dry_run, limit, &listening).await
        };
        Ok(caller.run(job, encoded))
    })
    .await
}

/// What a message of a job says.
enum Told<R> {
    Progress(pb::JobProgress),
    Finding(pb::JobFinding),
    Report(R),
}

/// Who wants a job, and what ends it.
struct Caller {
    engine: Engine,
    by: String,
    stopping: CancellationToken,
    request_id: HeaderValue,
}

impl Caller {
    fn new<B>(
        app: &Inner,
        stopping: CancellationToken,
        request_id: HeaderValue,
        request: &Request<B>,
    ) -> Self {
        let peer = request.extensions().get::<Arc<Peer>>();
        let by = peer.map_or_else(|| "anonymous".to_owned(), |peer| peer.principal.to_string());
        Self { engine: app.engine.clone(), by, stopping, request_id }
    }

    /// Starts a job and tells what it tells. It stops at its next step when nobody reads any more.
    fn run<R, F>(
        self,
        job: impl FnOnce(Engine, Listening) -> F,
        encoded: impl Fn(Told<R>) -> Bytes + Send + 'static,
    ) -> impl Stream<Item = Result<Bytes, Status>> + Send + 'static
    where
        R: Send + 'static,
        F: Future<Output = Result<R, EngineError>> + Send + 'static,
    {
        let (tell, news) = mpsc::channel(NEWS_MAX);
        let job = self.engine.start_job(job(self.engine.clone(), Listening::new(self.by, tell)));
        let last = pb::JobProgress { phase: "begin".to_owned(), ..pb::JobProgress::default() };
        let running = Running { job, news, last, stopping: self.stopping, request_id: self.request_id };
        let told = stream::unfold(Some(running), |running| async move {
            let mut running = running?;
            let told = running.next().await;
            let goes_on = matches!(told, Ok(Told::Progress(_) | Told::Finding(_)));
            Some((told, goes_on.then_some(running)))
        });
        told.map(move |told| told.map(&encoded))
    }
}

/// A job that somebody listens to.
struct Running<R> {
    job: JoinHandle<Result<R, EngineError>>,
    news: mpsc::Receiver<JobNews>,
    last: pb::JobProgress,
    stopping: CancellationToken,
    request_id: HeaderValue,
}

impl<R> Running<R> {
    async fn next(&mut self) -> Result<Told<R>, Status> {
        let news = tokio::select! {
            biased;
            () = self.stopping.cancelled() => return Err(Why::Draining.status()),
            news = self.news.recv() => news,
            () = tokio::time::sleep(SAY_AGAIN) => return Ok(Told::Progress(self.last.clone())),
        };
        match news {
            Some(JobNews::Progress(news)) => {
                self.last = progress(news);
                Ok(Told::Progress(self.last.clone()))
            }
            Some(JobNews::Finding(news)) => Ok(Told::Finding(finding(news))),
            None => match (&mut self.job).await {
                Ok(Ok(report)) => Ok(Told::Report(report)),
                Ok(Err(error)) => Err(status::job(&error, &self.request_id)),
                Err(_) => Err(status::fault()),
            },
        }
    }
}

fn depth(number: i32) -> Result<Depth, Status> {
    match pb::AuditDepth::try_from(number) {
        Ok(pb::AuditDepth::Unspecified | pb::AuditDepth::Manifests) => Ok(Depth::Manifests),
        Ok(pb::AuditDepth::Contents) => Ok(Depth::Contents),
        Err(_) => Err(status::bad_request(format!("depth: {number} is no AuditDepth"))),
    }
}

fn mark(text: String) -> Option<WalkMark> {
    Some(WalkMark(text)).filter(|mark| !mark.0.is_empty())
}

fn repair_options(message: pb::RepairStoreRequest) -> Result<AuditOptions, Status> {
    let mut reconcile = ReconcileOptions::default();
    if let Some(percent) = message.max_removal_percent {
        let percent = u8::try_from(percent).ok().filter(|percent| *percent <= 100);
        let wrong = || status::bad_request("max_removal_percent: 0 to 100".to_owned());
        reconcile.max_removal_percent = percent.ok_or_else(wrong)?;
    }
    Ok(AuditOptions {
        depth: depth(message.depth)?,
        repair: !message.dry_run,
        restore_lost_tags: message.restore_lost_tags,
        reconcile,
        from: mark(message.from),
    })
}

fn progress(news: JobProgress) -> pb::JobProgress {
    pb::JobProgress {
        seconds_left: news.seconds_left(),
        phase: news.phase.to_owned(),
        done: news.done,
        total: news.total,
        per_second: news.per_second,
        mark: news.mark.unwrap_or_default(),
    }
}

fn finding(news: Finding) -> pb::JobFinding {
    pb::JobFinding {
        trouble: news.trouble.name().to_owned(),
        place: news.place,
        tag: news.tag,
        manifest: news.manifest,
        cid: news.cid.map(|cid| cid.to_string()).unwrap_or_default(),
        detail: news.detail,
    }
}

fn audit_report(report: &AuditReport, began: Timestamp) -> pb::AuditReport {
    let count = |map: &BTreeMap<Trouble, u64>, trouble| map.get(&trouble).copied().unwrap_or_default();
    let troubles = Trouble::ALL.into_iter().filter(|trouble| count(&report.found, *trouble) > 0);
    pb::AuditReport {
        records: report.records,
        referrers: report.referrers,
        troubles: troubles
            .map(|trouble| pb::TroubleCount {
                trouble: trouble.name().to_owned(),
                found: count(&report.found, trouble),
                repaired: count(&report.repaired, trouble),
            })
            .collect(),
        drift: report.drift.as_ref().map(drift),
        drift_problem: report.drift_problem.clone(),
        clean: report.is_clean(),
        started_at: Some(convert::timestamp(began)),
        millis: report.millis,
    }
}

const fn drift(drift: &Drift) -> pb::Drift {
    pb::Drift {
        rows: drift.rows,
        names: drift.names,
        missing_in_index: drift.missing_in_index,
        missing_in_store: drift.missing_in_store,
        added: drift.added,
        removed: drift.removed,
        skipped: drift.skipped,
        held: drift.held,
    }
}

fn reshard_report(report: &ReshardReport, began: Timestamp) -> pb::ReshardReport {
    pb::ReshardReport {
        moved: report.moved,
        referrers: report.referrers,
        left: report.left,
        done: report.done,
        remaining: report.remaining,
        started_at: Some(convert::timestamp(began)),
        millis: report.millis,
    }
}
