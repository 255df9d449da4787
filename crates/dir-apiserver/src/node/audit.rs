//! The audit log of the node: where its lines go, and what tells it of refused handshakes.

use super::load::Base;
use crate::config::keys::{AuditOutput, OnFull};
use crate::exit::{Failure, Status};
use dir_api::{Audit, AuditConfig, AuditError, OpenAudit, RefusedHandshake, WhenFull};
use dir_core::Clock;
use dir_identity::RefusedHook;
use dir_runtime::tasks::OnEnd;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

/// Standard output, which the log may share: lines that come together stay together.
struct Stdout;

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
    let open: OpenAudit = Box::new(move || -> io::Result<Box<dyn Write + Send>> {
        if !to_file {
            return Ok(Box::new(Stdout));
        }
        Ok(Box::new(OpenOptions::new().create(true).append(true).mode(0o640).open(&path)?))
    });
    let config = AuditConfig {
        queue: keys.queue,
        when_full: match keys.when_full {
            OnFull::Drop => WhenFull::Drop,
            OnFull::Refuse => WhenFull::Refuse,
        },
    };
    let audit = Audit::start(config, open, &base.metrics).map_err(|error| match error {
        AuditError::Open(source) => {
            let path = keys.path.display();
            Failure::new(Status::Config, format!("cannot open the audit log {path} (audit.path): {source}"))
        }
        other => Failure::new(Status::Generic, other.to_string()),
    })?;
    reopen_on_reload(base, &audit);
    Ok(Some(audit))
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
