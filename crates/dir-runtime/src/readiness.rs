//! What the process can say of itself: a state per named component, and the two answers drawn from them.
//!
//! A component either *gates* readiness or only informs. States are pushed by whoever owns the component and
//! read by probes from memory: a probe never asks a registry, a database or a peer.

use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// What a component says before anybody has set its state.
const NOT_STARTED: &str = "not started";

/// State of one component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not up yet; the text says what it waits for.
    Starting(String),
    /// In order.
    Ready,
    /// Works with less than it should have; does not take readiness away.
    Degraded(String),
    /// Does not work.
    Failed(String),
}

impl State {
    /// The word shown by `/healthz`.
    pub fn word(&self) -> &'static str {
        match self {
            State::Starting(_) => "starting",
            State::Ready => "healthy",
            State::Degraded(_) => "degraded",
            State::Failed(_) => "unhealthy",
        }
    }

    /// The cause, when the state has one.
    pub fn detail(&self) -> Option<&str> {
        match self {
            State::Ready => None,
            State::Starting(text) | State::Degraded(text) | State::Failed(text) => Some(text),
        }
    }

    fn lets_ready(&self) -> bool {
        matches!(self, State::Ready | State::Degraded(_))
    }
}

/// One component as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Its state now.
    pub state: State,
    /// Whether the node is not ready while this component is starting or failed.
    pub gates: bool,
    /// Whether a failure means that only a restart of the process helps.
    pub fatal: bool,
}

/// Everything at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Every component by name.
    pub components: BTreeMap<&'static str, Component>,
    /// The process is stopping.
    pub draining: bool,
    /// The process was ready once (the startup probe: it never goes back).
    pub started: bool,
    /// No more components will be registered: until then nothing is ready.
    pub sealed: bool,
}

impl Snapshot {
    /// Readiness: traffic may come.
    pub fn ready(&self) -> bool {
        self.sealed && !self.draining && self.components.values().all(|c| !c.gates || c.state.lets_ready())
    }

    /// Liveness: false only when a restart is the cure.
    pub fn live(&self) -> bool {
        !self.components.values().any(|c| c.fatal && matches!(c.state, State::Failed(_)))
    }

    /// The first component that keeps the node from being ready, with its cause. One that waits for something goes
    /// before those that have not begun because of it.
    pub fn obstacle(&self) -> Option<String> {
        if self.draining {
            return Some("draining".to_owned());
        }
        let mut blocked = self.components.iter().filter(|(_, c)| c.gates && !c.state.lets_ready());
        let first = blocked.clone().next();
        let telling = blocked.find(|(_, c)| c.state.detail() != Some(NOT_STARTED));
        telling.or(first).map(|(name, c)| format!("{name}: {}", c.state.detail().unwrap_or(c.state.word())))
    }
}

/// The health of the process. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Health(Arc<watch::Sender<Snapshot>>);

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// Nothing registered, not ready.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Snapshot::default())))
    }

    fn add(&self, name: &'static str, gates: bool, fatal: bool) -> Latch {
        let state = State::Starting(NOT_STARTED.to_owned());
        self.0.send_modify(|s| {
            s.components.insert(name, Component { state, gates, fatal });
        });
        Latch { name, health: self.clone() }
    }

    /// A component without which the node is not ready.
    pub fn gate(&self, name: &'static str) -> Latch {
        self.add(name, true, false)
    }

    /// A component without which the node is not ready, and whose failure only a restart cures.
    pub fn vital(&self, name: &'static str) -> Latch {
        self.add(name, true, true)
    }

    /// A component that informs and never takes readiness away.
    pub fn inform(&self, name: &'static str) -> Latch {
        self.add(name, false, false)
    }

    /// Declares that every component is registered.
    pub fn seal(&self) {
        self.update(|s| s.sealed = true);
    }

    /// From here on the node is not ready, whatever its components say.
    pub fn set_draining(&self) {
        self.update(|s| s.draining = true);
    }

    /// The state at this moment.
    pub fn snapshot(&self) -> Snapshot {
        self.0.borrow().clone()
    }

    /// A receiver that wakes at every change.
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.0.subscribe()
    }

    fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        self.0.send_if_modified(|s| {
            let before = s.clone();
            change(s);
            s.started |= s.ready();
            *s != before
        });
    }
}

/// The handle with which the owner of a component reports its state.
#[derive(Debug, Clone)]
pub struct Latch {
    name: &'static str,
    health: Health,
}

impl Latch {
    /// Reports a state. Equal states wake nobody; a change from one word to another is logged, a new detail is not.
    pub fn set(&self, state: State) {
        let mut changed = None;
        self.health.update(|s| {
            if let Some(c) = s.components.get_mut(self.name)
                && c.state != state
            {
                changed = Some(c.state.word());
                c.state = state.clone();
            }
        });
        let (component, after) = (self.name, state.word());
        let Some(before) = changed.filter(|before| *before != after) else { return };
        match state {
            State::Failed(why) => tracing::error!(component, before, after, why, "component changed"),
            State::Degraded(why) => tracing::warn!(component, before, after, why, "component changed"),
            State::Starting(why) => tracing::debug!(component, before, after, why, "component changed"),
            State::Ready => tracing::info!(component, before, after, "component changed"),
        }
    }

    /// In order.
    pub fn ready(&self) {
        self.set(State::Ready);
    }

    /// Still coming up.
    pub fn starting(&self, what: impl Into<String>) {
        self.set(State::Starting(what.into()));
    }

    /// Works with less than it should have.
    pub fn degraded(&self, why: impl Into<String>) {
        self.set(State::Degraded(why.into()));
    }

    /// Does not work.
    pub fn failed(&self, why: impl Into<String>) {
        self.set(State::Failed(why.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_and_informs() {
        let health = Health::new();
        let svid = health.vital("svid");
        let registry = health.inform("registry");
        assert!(!health.snapshot().ready());
        svid.ready();
        assert!(!health.snapshot().ready(), "not sealed yet");
        health.seal();
        assert!(health.snapshot().ready() && health.snapshot().started);
        registry.failed("no answer");
        assert!(health.snapshot().ready(), "the registry informs only");
        svid.degraded("near expiry");
        assert!(health.snapshot().ready());
        svid.starting("waiting");
        assert_eq!(health.snapshot().obstacle().unwrap(), "svid: waiting");
        assert!(!health.snapshot().ready() && health.snapshot().live());
        svid.failed("watcher gone");
        assert!(!health.snapshot().live());
        assert!(health.snapshot().started, "the startup answer never goes back");
    }

    #[test]
    fn the_obstacle_is_what_the_others_wait_for() {
        let health = Health::new();
        let [_, _, svid] = ["grpc", "index", "svid"].map(|name| health.gate(name));
        assert_eq!(health.snapshot().obstacle().unwrap(), "grpc: not started");
        svid.starting("waiting for an SVID");
        assert_eq!(health.snapshot().obstacle().unwrap(), "svid: waiting for an SVID");
    }

    #[test]
    fn draining_takes_readiness_away() {
        let health = Health::new();
        health.gate("index").ready();
        health.seal();
        assert!(health.snapshot().ready());
        health.set_draining();
        assert!(!health.snapshot().ready() && health.snapshot().live());
        assert_eq!(health.snapshot().obstacle().unwrap(), "draining");
    }

    #[tokio::test]
    async fn watchers_wake_on_change_only() {
        let health = Health::new();
        let index = health.gate("index");
        let mut watch = health.watch();
        watch.mark_unchanged();
        index.starting("not started");
        assert!(!watch.has_changed().unwrap());
        index.ready();
        watch.changed().await.unwrap();
        assert_eq!(watch.borrow().components["index"].state, State::Ready);
    }
}
