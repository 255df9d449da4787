//! Rules with conditions: what a policy says of each record that a call names, and of those that a search may show.

use crate::audit::Touched;
use crate::authz::{Asking, Authorization};
use crate::conn::Shared;
use crate::layers::Call;
use crate::status;
use dir_core::identity::RoleClaims;
use dir_core::policy::Narrowed;
use dir_core::query::Query;
use dir_core::{Cid, Principal};
use dir_engine::{Engine, EngineError};
use http::{HeaderValue, Request};
use std::sync::Arc;
use tonic::Status;

/// Asked before a record is handed over or deleted; lets everything through where no rule depends on records.
#[derive(Clone, Default)]
pub(crate) struct RecordCheck(Option<Arc<Asker>>);

/// Who makes the call, and with which method.
pub(crate) struct Asker {
    authorization: Authorization,
    pub(crate) conn: Arc<Shared>,
    own: Principal,
    claims: Option<RoleClaims>,
    delegated: Option<Principal>,
    pub(crate) method: usize,
    pub(crate) request_id: HeaderValue,
    pub(crate) touched: Touched,
}

impl Asker {
    pub(crate) fn asking(&self) -> Asking<'_> {
        Asking { own: &self.own, claims: self.claims.as_ref(), delegated: self.delegated.as_ref() }
    }

    /// Who calls, or for whom it is called: whose the record has to be.
    pub(crate) fn who(&self) -> &Principal {
        self.delegated.as_ref().unwrap_or(&self.own)
    }
}

impl RecordCheck {
    /// For the records that a call is about; nothing without authorization, and for other methods.
    pub(crate) fn of(conn: &Arc<Shared>, call: &Call) -> Option<Self> {
        let authorization = conn.app().authorization.as_ref()?;
        if !call.method().route.is_about_records() {
            return None;
        }
        let asking = call.asking();
        Some(Self(Some(Arc::new(Asker {
            authorization: authorization.clone(),
            conn: conn.clone(),
            own: asking.own.clone(),
            claims: asking.claims.cloned(),
            delegated: asking.delegated.cloned(),
            method: call.number(),
            request_id: call.id.clone(),
            touched: call.trail.touched().unwrap_or_default(),
        }))))
    }

    /// That of the call that a request belongs to.
    pub(crate) fn by<B>(request: &Request<B>) -> Self {
        request.extensions().get().cloned().unwrap_or_default()
    }

    /// Whether the policy in force asks anything of records.
    pub(crate) fn is_needed(&self) -> bool {
        self.0.as_ref().is_some_and(|asker| asker.authorization.has_conditions())
    }

    /// What the answer to the call may show.
    pub(crate) fn view(self) -> Result<View, Status> {
        let Some(asker) = self.0 else { return Ok(View(None)) };
        let (narrowed, generation) = asker.authorization.narrowed(&asker)?;
        Ok(View(Some(Seen { asker, narrowed, generation })))
    }

    /// Whether the call may be about this record.
    pub(crate) async fn admit(&self, engine: &Engine, cid: &Cid) -> Result<(), Status> {
        let Some(asker) = self.0.as_ref().filter(|_| self.is_needed()) else { return Ok(()) };
        let failed = |error: EngineError| status::engine(&error, &asker.request_id);
        let record = engine.traits(cid).await.map_err(failed)?;
        asker.authorization.admit_record(asker, cid, &record)
    }
}

/// Which records an answer shows, as the policy says it. It is looked at for every record that is sent: policies
/// change, and rules end.
pub(crate) struct View(Option<Seen>);

struct Seen {
    asker: Arc<Asker>,
    narrowed: Narrowed,
    /// Of the policy that said so.
    generation: u64,
}

impl View {
    /// The query, narrowed to what may be seen.
    pub(crate) fn of(&self, query: Query) -> Query {
        let scope = self.0.as_ref().map(|seen| &seen.narrowed.scope).filter(|scope| !scope.is_everything());
        Query { scope: scope.map(|scope| Arc::new(scope.clone())), ..query }
    }

    /// An error when other records may be seen by now than when the call began.
    pub(crate) fn still(&mut self) -> Result<(), Status> {
        let Some(seen) = &mut self.0 else { return Ok(()) };
        let asker = &seen.asker;
        let now = || asker.conn.app().clock.now();
        if asker.authorization.generation() == seen.generation
            && seen.narrowed.until.is_none_or(|until| now() < until)
        {
            return Ok(());
        }
        let (narrowed, generation) = asker.authorization.narrowed(asker)?;
        if narrowed.scope != seen.narrowed.scope {
            return Err(Status::aborted("what the policy lets this search show has changed; search again"));
        }
        (seen.narrowed, seen.generation) = (narrowed, generation);
        Ok(())
    }
}
