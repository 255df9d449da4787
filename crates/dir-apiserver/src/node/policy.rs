//! Authorization as far as this build has it: by trust domain, at the handshake.
//!
//! There is no engine for single methods yet. What can be enforced without one is enforced: peers of our own trust
//! domain may call everything, all others are refused. That never allows what the policy forbids only if the
//! policy gives our domain everything; any other policy refuses the start, because serving more than it says
//! would be worse than not serving.

use super::load::Base;
use super::open::Opened;
use crate::exit::{Failure, Status};
use dir_core::TrustDomain;
use dir_core::identity::IdentityStatus;
use std::path::Path;

/// Who may shake hands: `None` is every trust domain whose bundle is held.
pub(super) fn open(base: &Base, opened: &Opened) -> Result<Option<TrustDomain>, Failure> {
    let authz = &base.config.authz;
    if !authz.enabled {
        tracing::warn!("authorization is off: every authenticated peer may call everything");
        base.latches.policy.ready();
        return Ok(None);
    }
    let path = &authz.enforcer_policy_file_path;
    let own = opened.held.as_ref().and_then(|h| h.identity.report()).map(|r| r.id.trust_domain().clone());
    let Some(own) = own else {
        let text = "authz.enabled needs authn.enabled: without it nobody has an identity to authorize";
        return Err(Failure::new(Status::Config, text));
    };
    let text = std::fs::read_to_string(path).map_err(|e| {
        Failure::new(Status::Config, format!("cannot read the policy {}: {e}", path.display()))
    })?;
    if !grants_everything(&text, &own) {
        return Err(refusal(path, &own));
    }
    let enforcer_policy_filepath = path.display();
    tracing::info!(%enforcer_policy_filepath, "Authorization service initialized");
    tracing::warn!(trust_domain = %own, "this build authorizes by trust domain only: peers of any other are refused");
    base.latches.policy.ready();
    Ok(Some(own))
}

fn refusal(path: &Path, own: &TrustDomain) -> Failure {
    let text = format!(
        "this build authorizes by trust domain only, and {} does not give {own} everything (a line `p,{own},*`): it \
         would have to allow more than the policy says. Add the line, or set authz.enabled to false to let every \
         authenticated peer call everything",
        path.display()
    );
    Failure::new(Status::Config, text)
}

/// Whether a CSV policy has the line `p,<own>,*`.
fn grants_everything(policy: &str, own: &TrustDomain) -> bool {
    policy.lines().any(|line| {
        let fields: Vec<_> = line.split(',').map(str::trim).collect();
        matches!(fields.as_slice(), ["p", domain, "*"] if *domain == own.as_str() || *domain == "*")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_policies_can_be_enforced() {
        let own: TrustDomain = "acme.directory".parse().unwrap();
        for policy in ["p,acme.directory,*\n", "# ours\n p , acme.directory , * \np,*,/a.B/C", "p,*,*"] {
            assert!(grants_everything(policy, &own), "{policy}");
        }
        for policy in [
            "",
            "p,other.directory,*",
            "# p,acme.directory,*",
            "p,acme.directory,/a.B/*",
            "p,acme.directory,*,x",
        ] {
            assert!(!grants_everything(policy, &own), "{policy}");
        }
    }
}
