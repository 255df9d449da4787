//! The audit log of the node: where its lines go, and what tells it of refused handshakes.

use super::audit_file::AuditFile;
use super::load::Base;
use crate::about;
use crate::config::keys::{AuditOutput, OnFull};
use crate::exit::{Failure, Status};
use dir_api::{
    Audit, AuditConfig, AuditError, AuditSink, OpenAudit, RefusedHandshake, SecurityEvent, WhenFull,
};
use dir_core::Clock;
use dir_identity::{Identity, RefusedHook, TlsSnapshot, TrustBundle};
use dir_runtime::tasks::OnEnd;
use std::io::{self, Write};
use std::sync::Arc;

/// Standard output, which the log may share: under one lock, so that no line gets into the middle of another.
struct Stdout;

impl AuditSink for Stdout {}

impl Write for Stdout {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        io::stdout().lock().write_all(lines).map(|()| lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

/// Opens the audit log; `None` when it is off.
pub(super) fn start(base: &Base) -> anyhow::Result<Option<Audit>> {
    let keys = &base.config.audit;
    let (path, to_file) = (keys.path.clone(), keys.output == AuditOutput::File);
    if keys.output == AuditOutput::Off {
        return Ok(None);
    }
    let open: OpenAudit = Box::new(move || -> io::Result<Box<dyn AuditSink>> {
        if !to_file {
            return Ok(Box::new(Stdout));
        }
        Ok(Box::new(AuditFile::open(&path)?))
    });
    let config = AuditConfig {
        queue: keys.queue,
        when_full: match keys.when_full {
            OnFull::Drop => WhenFull::Drop,
            OnFull::Refuse => WhenFull::Refuse,
        },
        hash_chain: keys.hash_chain,
    };
    let audit =
        Audit::start(config, open, base.clock.clone(), &base.metrics).map_err(|error| match error {
            AuditError::Open(source) => {
                let path = keys.path.display();
                Failure::new(
                    Status::Config,
                    format!("cannot open the audit log {path} (audit.path): {source}"),
                )
            }
            other => Failure::new(Status::Generic, other.to_string()),
        })?;
    audit.event(SecurityEvent::Started { version: about::VERSION.to_owned() });
    reopen_on_reload(base, &audit);
    Ok(Some(audit))
}

/// Audits what becomes of our own SVID and of the roots that we trust.
pub(super) fn watch_identity(base: &Base, audit: &Audit, identity: &Identity) {
    let (audit, identity, stop) = (audit.clone(), identity.clone(), base.tasks.stopping().clone());
    let first = identity.snapshot();
    say_svid(&audit, &first);
    say_bundles(&audit, None, &first);
    base.tasks.spawn("audit-identity", OnEnd::RESTART, move || {
        let (audit, identity, stop, first) = (audit.clone(), identity.clone(), stop.clone(), first.clone());
        async move {
            let (mut changes, mut known) = (identity.changes(), first);
            loop {
                let now = identity.snapshot();
                if now.leaf().serial != known.leaf().serial {
                    say_svid(&audit, &now);
                }
                say_bundles(&audit, Some(&known), &now);
                known = now;
                if !matches!(stop.run_until_cancelled(changes.changed()).await, Some(Ok(()))) {
                    return;
                }
            }
        }
    });
}

fn say_svid(audit: &Audit, now: &TlsSnapshot) {
    let leaf = now.leaf();
    audit.event(SecurityEvent::SvidRotated {
        spiffe_id: leaf.id.to_string(),
        serial: leaf.serial.clone(),
        not_after: leaf.not_after,
    });
}

fn say_bundles(audit: &Audit, before: Option<&TlsSnapshot>, now: &TlsSnapshot) {
    let say = |bundle: &TrustBundle, change, authorities| {
        audit.event(SecurityEvent::BundleChanged {
            trust_domain: bundle.trust_domain().to_string(),
            change,
            source: bundle.source().to_owned(),
            authorities,
        });
    };
    for bundle in now.bundles().iter() {
        match before.and_then(|before| before.bundles().get(bundle.trust_domain())) {
            None => say(bundle, "added", bundle.len()),
            Some(old) if old.digest() != bundle.digest() => say(bundle, "changed", bundle.len()),
            Some(_) => {}
        }
    }
    for old in before.iter().flat_map(|before| before.bundles().iter()) {
        if now.bundles().get(old.trust_domain()).is_none() {
            say(old, "removed", 0);
        }
    }
}

fn reopen_on_reload(base: &Base, audit: &Audit) {
    let (reloads, audit, stop) = (base.signals.reloads(), audit.clone(), base.tasks.stopping().clone());
    base.tasks.spawn("audit-reload", OnEnd::RESTART, move || {
        let (mut reloads, audit, stop) = (reloads.clone(), audit.clone(), stop.clone());
        async move {
            while let Some(Ok(())) = stop.run_until_cancelled(reloads.changed()).await {
                audit.reopen();
            }
        }
    });
}

/// Audits refused connections.
pub(super) fn hook(base: &Base, audit: Option<&Audit>) -> Option<RefusedHook> {
    let (audit, clock) = (audit?.clone(), base.clock.clone());
    Some(Arc::new(move |origin, refusal| {
        audit.refused_handshake(RefusedHandshake {
            at: clock.now(),
            addr: origin.addr,
            real_addr: origin.real_addr,
            reason: refusal.reason.as_str(),
            issuer: refusal.presented.as_ref().map(|p| p.issuer.clone()),
            subject: refusal.presented.as_ref().map(|p| p.subject.clone()),
        });
    }))
}
