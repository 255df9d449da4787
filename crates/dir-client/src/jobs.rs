//! Jobs of an operator, run by a server for as long as somebody listens.

use crate::client::{Answers, Client};
use crate::error::ClientError;
use dir_proto::directory::admin::v1::{
    AuditStoreRequest, AuditStoreResponse, RepairStoreRequest, RepairStoreResponse, ReshardStoreRequest,
    ReshardStoreResponse,
};
use prost::Message;
use std::marker::PhantomData;

const AUDIT: &str = "/directory.admin.v1.StoreJobsService/AuditStore";
const REPAIR: &str = "/directory.admin.v1.StoreJobsService/RepairStore";
const RESHARD: &str = "/directory.admin.v1.StoreJobsService/ReshardStore";

/// A running job. Dropping it stops the job at its next step.
pub struct Job<A> {
    client: Client,
    path: &'static str,
    answers: Answers,
    _message: PhantomData<A>,
}

impl<A: Message + Default> Job<A> {
    /// What it says next; `None` when it has said everything. A server says something every few seconds, so that the
    /// call timeout bounds each wait.
    pub async fn next(&mut self) -> Option<Result<A, ClientError>> {
        self.client.next_answer(self.path, &mut self.answers).await
    }
}

impl Client {
    /// Has the server look at everything in its store.
    pub async fn audit_store(
        &self,
        request: &AuditStoreRequest,
    ) -> Result<Job<AuditStoreResponse>, ClientError> {
        self.job(AUDIT, request).await
    }

    /// Has the server set right what is wrong in its store.
    pub async fn repair_store(
        &self,
        request: &RepairStoreRequest,
    ) -> Result<Job<RepairStoreResponse>, ClientError> {
        self.job(REPAIR, request).await
    }

    /// Has the server convert its registry's layout.
    pub async fn reshard_store(
        &self,
        request: &ReshardStoreRequest,
    ) -> Result<Job<ReshardStoreResponse>, ClientError> {
        self.job(RESHARD, request).await
    }

    async fn job<Q: Message, A>(&self, path: &'static str, request: &Q) -> Result<Job<A>, ClientError> {
        let answers = self.listen(path, request).await?;
        Ok(Job { client: self.clone(), path, answers, _message: PhantomData })
    }
}
