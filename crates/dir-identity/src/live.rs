//! The connections that are open now, with what is needed to judge them again when trust changes.

use crate::identity::Identity;
use crate::snapshot::TlsSnapshot;
use crate::verify::{VerifiedPeer, trusted_bundle, verify_chain};
use dir_core::{SpiffeId, Timestamp};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// One open connection.
pub(crate) struct Live {
    peer: VerifiedPeer,
    /// The bundle that the chain was last found to hold against.
    digest: [u8; 32],
    revoked: CancellationToken,
    /// When trust was withdrawn.
    revoked_at: Option<Instant>,
}

#[derive(Default)]
struct Tables {
    open: HashMap<u64, Live>,
    per_ip: HashMap<IpAddr, usize>,
    per_id: HashMap<SpiffeId, usize>,
    total: usize,
}

impl Tables {
    fn take(&mut self, ip: IpAddr, cap: usize) -> Result<(), Cap> {
        let count = self.per_ip.entry(ip).or_default();
        if cap > 0 && *count >= cap {
            return Err(Cap::PerIp);
        }
        *count += 1;
        Ok(())
    }

    fn give_back(&mut self, ip: IpAddr) {
        if let Some(count) = self.per_ip.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.per_ip.remove(&ip);
            }
        }
    }
}

impl Seat {
    /// The address that the seat counts for, now that it is known.
    pub(crate) fn belongs_to(&mut self, ip: IpAddr, per_ip: usize) -> Result<(), Cap> {
        let mut tables = self.registry.tables.lock();
        if let Some(before) = self.ip.take() {
            tables.give_back(before);
        }
        tables.take(ip, per_ip)?;
        self.ip = Some(ip);
        Ok(())
    }
}

/// Every connection of one listener. Locked for moments at accept, close and sweep; never on the call path.
pub(crate) struct Registry {
    tables: Mutex<Tables>,
    /// Fires when neither listener nor connections are left.
    _end: DropGuard,
}

/// Which cap was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cap {
    Total,
    PerIp,
    PerIdentity,
}

/// A place among the connections of one address; given back when dropped.
pub(crate) struct Seat {
    registry: Arc<Registry>,
    /// `None`: who is behind the proxy is not known.
    ip: Option<IpAddr>,
}

/// A registered connection; leaves the registry when dropped.
pub(crate) struct Entry {
    registry: Arc<Registry>,
    conn_id: u64,
    id: SpiffeId,
    on_close: Box<dyn Fn(Option<Instant>) + Send + Sync>,
}

impl Registry {
    /// An empty registry. `end` fires when the last user of it is gone.
    pub(crate) fn new(end: CancellationToken) -> Arc<Self> {
        Arc::new(Self { tables: Mutex::default(), _end: end.drop_guard() })
    }

    /// Takes a place, before the handshake; without an address, only among all. A cap of 0 is none.
    pub(crate) fn sit(
        self: &Arc<Self>,
        ip: Option<IpAddr>,
        total: usize,
        per_ip: usize,
    ) -> Result<Seat, Cap> {
        let mut tables = self.tables.lock();
        if total > 0 && tables.total >= total {
            return Err(Cap::Total);
        }
        if let Some(ip) = ip {
            tables.take(ip, per_ip)?;
        }
        tables.total += 1;
        Ok(Seat { registry: self.clone(), ip })
    }

    /// Registers a connection whose handshake is done.
    pub(crate) fn enter(
        self: &Arc<Self>,
        conn_id: u64,
        peer: VerifiedPeer,
        per_identity: usize,
        on_close: Box<dyn Fn(Option<Instant>) + Send + Sync>,
    ) -> Result<(Entry, CancellationToken), Cap> {
        let id = peer.leaf.id.clone();
        let revoked = CancellationToken::new();
        let mut tables = self.tables.lock();
        let count = tables.per_id.entry(id.clone()).or_default();
        if per_identity > 0 && *count >= per_identity {
            return Err(Cap::PerIdentity);
        }
        *count += 1;
        let live = Live { digest: peer.bundle_digest, peer, revoked: revoked.clone(), revoked_at: None };
        tables.open.insert(conn_id, live);
        Ok((Entry { registry: self.clone(), conn_id, id, on_close }, revoked))
    }

    /// Judges the connections whose bundle is another one than at their last judgement. Returns the revoked.
    pub(crate) fn sweep(&self, snapshot: &TlsSnapshot, now: Timestamp) -> Vec<SpiffeId> {
        let suspects: Vec<(u64, VerifiedPeer)> = {
            let tables = self.tables.lock();
            let changed = |live: &Live| {
                let bundle = snapshot.bundles().get(live.peer.leaf.id.trust_domain());
                live.revoked_at.is_none() && bundle.is_none_or(|b| b.digest() != live.digest)
            };
            tables.open.iter().filter(|(_, l)| changed(l)).map(|(id, l)| (*id, l.peer.clone())).collect()
        };
        let mut revoked = Vec::new();
        // Chains repeat: a client opens several connections with one SVID.
        let mut verdicts: HashMap<Vec<u8>, Option<[u8; 32]>> = HashMap::new();
        for (conn_id, peer) in suspects {
            let key = peer.chain.first().map(|c| c.to_vec()).unwrap_or_default();
            let verdict = *verdicts.entry(key).or_insert_with(|| holds(&peer, snapshot, now));
            let mut tables = self.tables.lock();
            let Some(live) = tables.open.get_mut(&conn_id) else { continue };
            if let Some(digest) = verdict {
                live.digest = digest;
            } else {
                live.revoked_at = Some(Instant::now());
                live.revoked.cancel();
                revoked.push(peer.leaf.id.clone());
            }
        }
        revoked
    }
}

/// Whether the chain still holds, and against which bundle. The leaf's own end is no withdrawal of trust: the
/// connection's deadline takes care of it, so the time is kept within the leaf's validity.
fn holds(peer: &VerifiedPeer, snapshot: &TlsSnapshot, now: Timestamp) -> Option<[u8; 32]> {
    let bundle = trusted_bundle(snapshot.bundles(), peer.leaf.id.trust_domain()).ok()?;
    let (leaf, intermediates) = peer.chain.split_first()?;
    let at = now.min(peer.leaf.not_after).max(peer.leaf.not_before);
    verify_chain(leaf, intermediates, bundle, at, Some(crate::leaf::Usage::Client)).ok()?;
    Some(bundle.digest())
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut tables = self.registry.tables.lock();
        tables.total = tables.total.saturating_sub(1);
        if let Some(ip) = self.ip {
            tables.give_back(ip);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let revoked_at = {
            let mut tables = self.registry.tables.lock();
            if let Some(count) = tables.per_id.get_mut(&self.id) {
                *count -= 1;
                if *count == 0 {
                    tables.per_id.remove(&self.id);
                }
            }
            tables.open.remove(&self.conn_id).and_then(|live| live.revoked_at)
        };
        (self.on_close)(revoked_at);
    }
}

/// Judges all connections again after every change of the identity, until listener and connections are gone: open
/// connections outlive the listener while they drain.
pub(crate) async fn watch(registry: Weak<Registry>, identity: Identity, end: CancellationToken) {
    let mut changes = identity.changes();
    while let Some(Ok(())) = end.run_until_cancelled(changes.changed()).await {
        let Some(registry) = registry.upgrade() else { return };
        let snapshot = identity.snapshot();
        let now = identity.shared().clock.now();
        // Thousands of signatures may have to be checked: not on an async worker.
        let revoked = tokio::task::spawn_blocking(move || registry.sweep(&snapshot, now)).await;
        for id in revoked.into_iter().flatten() {
            identity.shared().metrics.revoked(id.trust_domain());
            tracing::warn!(spiffe_id = %id, "identity no longer trusted: its connection is revoked");
        }
    }
}
