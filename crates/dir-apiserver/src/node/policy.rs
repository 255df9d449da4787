//! Authorization of the node: the policy file, read before serving and taken anew when it changes.

use super::load::Base;
use super::open::Opened;
use crate::authz::Source;
use crate::authz::reload::Reloader;
use crate::exit::{Failure, Status};
use dir_api::{Audit, Authorization};
use dir_core::identity::IdentityStatus;
use dir_runtime::tasks::OnEnd;

/// Reads the policy; `None` lets every caller call everything. A broken policy refuses the start.
pub(super) fn open(
    base: &Base,
    opened: &Opened,
    audit: Option<Audit>,
) -> anyhow::Result<Option<Authorization>> {
    let authz = &base.config.authz;
    if !authz.enabled {
        tracing::warn!("authorization is off: every authenticated peer may call everything");
        base.latches.policy.ready();
        return Ok(None);
    }
    let held = opened.held.as_ref().and_then(|h| h.identity.report());
    let own = held
        .map(|report| report.id.trust_domain().clone())
        .or_else(|| base.config.authn.trust_domain.parse().ok());
    let source = Source::configured(authz, own);
    if source.shadow {
        tracing::warn!("authz.enforce is false: denied calls are reported and let through");
    }
    let path = source.path.clone();
    let authorization = Authorization::new(&base.metrics)?;
    let latch = base.latches.policy.clone();
    let reloader =
        Reloader::start(source, authorization.clone(), latch, audit, &base.metrics).map_err(|error| {
            let text = format!(
                "the policy {} (authz.enforcer_policy_file_path) is not taken: {error:#}\n\
             `dir-apiserver authz check {}` shows every fault",
                path.display(),
                path.display()
            );
            Failure::new(Status::Config, text)
        })?;
    let (reloads, stop) = (base.signals.reloads(), base.tasks.stopping().clone());
    base.tasks
        .spawn("policy-reload", OnEnd::RESTART, move || reloader.clone().run(reloads.clone(), stop.clone()));
    Ok(Some(authorization))
}
