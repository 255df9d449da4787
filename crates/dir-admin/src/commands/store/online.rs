//! The jobs of a running server.

use super::summary::{Done, Found, Summary};
use super::tell::{Progress, Tell};
use super::{AuditArgs, Layout, RepairArgs, ReshardArgs};
use crate::cli::GlobalArgs;
use crate::commands::connect;
use crate::commands::mark::Mark;
use crate::report::Failure;
use dir_client::{Client, ClientError, Job, Kind};
use dir_proto::directory::admin::v1 as pb;
use dir_runtime::SystemClock;
use prost::Message;
use std::sync::Arc;
use std::time::Instant;

/// One message of a job.
enum Told {
    Progress(pb::JobProgress),
    Finding(pb::JobFinding),
    Done(Done),
    /// Something that this version does not know.
    Other,
}

pub(super) async fn audit(global: &GlobalArgs, args: AuditArgs, mark: &Mark) -> Result<Summary, Failure> {
    use pb::audit_store_response::Told as Wire;
    let client = client(global).await?;
    let request = pb::AuditStoreRequest { depth: depth(args.contents), from: args.from.unwrap_or_default() };
    let run = Listener::new("store audit", false, &client, mark).going_on(!request.from.is_empty());
    let job = client.audit_store(&request).await?;
    run.listen(job, |message: pb::AuditStoreResponse| match message.told {
        Some(Wire::Progress(progress)) => Told::Progress(progress),
        Some(Wire::Finding(finding)) => Told::Finding(finding),
        Some(Wire::Report(report)) => Told::Done(Done::audit(report)),
        None => Told::Other,
    })
    .await
}

pub(super) async fn repair(global: &GlobalArgs, args: RepairArgs, mark: &Mark) -> Result<Summary, Failure> {
    use pb::repair_store_response::Told as Wire;
    let client = client(global).await?;
    let request = pb::RepairStoreRequest {
        dry_run: args.dry_run,
        depth: depth(args.contents),
        restore_lost_tags: args.restore_lost_tags,
        max_removal_percent: Some(args.max_removal_percent),
        from: args.from.unwrap_or_default(),
    };
    let run = Listener::new("store repair", args.dry_run, &client, mark).going_on(!request.from.is_empty());
    let job = client.repair_store(&request).await?;
    run.listen(job, |message: pb::RepairStoreResponse| match message.told {
        Some(Wire::Progress(progress)) => Told::Progress(progress),
        Some(Wire::Finding(finding)) => Told::Finding(finding),
        Some(Wire::Report(report)) => Told::Done(Done::audit(report)),
        None => Told::Other,
    })
    .await
}

pub(super) async fn reshard(global: &GlobalArgs, args: ReshardArgs, mark: &Mark) -> Result<Summary, Failure> {
    use pb::reshard_store_response::Told as Wire;
    let client = client(global).await?;
    let to = match args.to {
        Layout::Sharded => pb::StoreLayout::Sharded,
        Layout::Single => pb::StoreLayout::Single,
    };
    let limit = args.limit.unwrap_or_default();
    let request = pb::ReshardStoreRequest { to: to.into(), dry_run: args.dry_run, limit };
    let run = Listener::new("store reshard", args.dry_run, &client, mark);
    let job = client.reshard_store(&request).await?;
    run.listen(job, |message: pb::ReshardStoreResponse| match message.told {
        Some(Wire::Progress(progress)) => Told::Progress(progress),
        Some(Wire::Finding(finding)) => Told::Finding(finding),
        Some(Wire::Report(pb::ReshardReport { moved, referrers, left, remaining, done, .. })) => {
            // A server does not count in a dry run what goes with its record.
            let referrers = (!args.dry_run || referrers > 0).then_some(referrers);
            Told::Done(Done::Reshard { to: args.to.name(), moved, referrers, left, remaining, done })
        }
        None => Told::Other,
    })
    .await
}

async fn client(global: &GlobalArgs) -> Result<Client, Failure> {
    Ok(Client::new(connect::config(global)?, Arc::new(SystemClock)).await?)
}

fn depth(contents: bool) -> i32 {
    let depth = if contents { pb::AuditDepth::Contents } else { pb::AuditDepth::Manifests };
    depth.into()
}

/// A job that is listened to.
struct Listener {
    job: &'static str,
    dry_run: bool,
    target: String,
    begun: Instant,
    tell: Tell,
    /// It was told to go on from a mark.
    goes_on: bool,
}

impl Listener {
    fn new(job: &'static str, dry_run: bool, client: &Client, mark: &Mark) -> Self {
        let (target, begun, tell) = (client.address(), Instant::now(), Tell::new(mark));
        Self { job, dry_run, target, begun, tell, goes_on: false }
    }

    fn going_on(self, goes_on: bool) -> Self {
        Self { goes_on, ..self }
    }

    /// Until its report, or its failure.
    async fn listen<A: Message + Default>(
        mut self,
        mut job: Job<A>,
        told: impl Fn(A) -> Told,
    ) -> Result<Summary, Failure> {
        loop {
            let message = job.next().await.unwrap_or_else(|| Err(self.early()));
            match message.map(&told) {
                Ok(Told::Progress(progress)) => self.tell.progress(&Progress {
                    phase: progress.phase,
                    done: progress.done,
                    total: progress.total,
                    at_most: false,
                    per_second: progress.per_second,
                    seconds_left: progress.seconds_left,
                    mark: progress.mark,
                }),
                Ok(Told::Finding(found)) => self.tell.finding(Found {
                    trouble: found.trouble,
                    place: found.place,
                    tag: found.tag,
                    manifest: found.manifest,
                    cid: found.cid,
                    detail: found.detail,
                }),
                Ok(Told::Other) => {}
                Ok(Told::Done(done)) => return Ok(self.done(done)),
                Err(error) => return Err(self.broken(error)),
            }
        }
    }

    fn early(&self) -> ClientError {
        let cause = "the server ended the job without a report";
        ClientError::new(Kind::Disconnected, format!("{} at {}", self.job, self.target), cause, "")
    }

    fn done(self, done: Done) -> Summary {
        Summary::new(self.job, self.target, self.dry_run, done, self.begun, self.tell)
    }

    /// What is done stays done: the next run goes on.
    fn broken(mut self, error: ClientError) -> Failure {
        self.tell.close();
        let interrupted =
            matches!(error.kind(), Kind::Disconnected | Kind::Unavailable | Kind::Timeout | Kind::Cancelled);
        let refused = error.kind() == Kind::Precondition;
        let mut failure = Failure::from(error);
        let mark = self.tell.mark();
        if refused {
            self.way_out(&failure.message).clone_into(&mut failure.next);
            return failure;
        }
        if interrupted && !mark.is_empty() {
            failure.next = format!("{}; to go on where it was: --from {mark}", failure.next);
            failure = failure.at(&mark);
        } else if interrupted {
            failure.next = format!("{}; run it again: it goes on with what is left", failure.next);
        }
        failure
    }

    /// What helps when the server says that it cannot be done, or not now.
    fn way_out(&self, message: &str) -> &'static str {
        if message.contains("another job is running") {
            "wait until that job is done"
        } else if self.goes_on && message.contains("mark") {
            "start without --from"
        } else if self.job == "store reshard" && message.contains("only a registry") {
            "nothing is to be done: such a store has no layouts"
        } else {
            "look at the state that the message names"
        }
    }
}
