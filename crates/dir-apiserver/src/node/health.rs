//! Health of the process in the form that the ops listener shows.

use dir_gateway::{ComponentHealth, HealthReport, HealthSource, Status};
use dir_runtime::Health;
use dir_runtime::readiness::{Snapshot, State};

/// The health of this process.
pub(super) struct Report(pub(super) Health);

impl HealthSource for Report {
    fn report(&self) -> HealthReport {
        let now = self.0.snapshot();
        let components = now.components.iter().map(|(name, c)| {
            let detail = c.state.detail().map(str::to_owned);
            (*name, ComponentHealth { status: word(&c.state), detail })
        });
        HealthReport {
            status: overall(&now),
            ready: now.ready(),
            live: now.live(),
            started: now.started,
            obstacle: now.obstacle(),
            components: components.collect(),
        }
    }
}

pub(super) fn word(state: &State) -> Status {
    match state {
        State::Starting(_) => Status::Starting,
        State::Ready => Status::Healthy,
        State::Degraded(_) => Status::Degraded,
        State::Failed(_) => Status::Unhealthy,
    }
}

fn overall(now: &Snapshot) -> Status {
    let any = |wanted: fn(&State) -> bool| now.components.values().any(|c| wanted(&c.state));
    if now.draining {
        Status::Draining
    } else if now.ready() {
        let impaired = any(|s| !matches!(s, State::Ready));
        if impaired { Status::Degraded } else { Status::Healthy }
    } else if any(|s| matches!(s, State::Failed(_))) {
        Status::Unhealthy
    } else {
        Status::Starting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_that_holds() {
        let health = Health::new();
        let (svid, registry) = (health.vital("svid"), health.inform("registry"));
        health.seal();
        let report = Report(health.clone());
        assert_eq!(report.report().status, Status::Starting);
        svid.ready();
        registry.ready();
        assert_eq!(report.report().status, Status::Healthy);
        registry.failed("no answer");
        assert_eq!((report.report().status, report.report().ready), (Status::Degraded, true));
        svid.failed("expired");
        assert_eq!(report.report().status, Status::Unhealthy);
        health.set_draining();
        assert_eq!(report.report().status, Status::Draining);
    }
}
