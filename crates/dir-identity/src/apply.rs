//! What a message of the Workload API does to the material in force, and what a change of the partners' bundles does.

use crate::bundle::{BundleSet, TrustBundle, WORKLOAD_API};
use crate::error::WaitReason;
use crate::identity::{DENIALS_MAX, Shared};
use crate::proto::X509SvidResponse;
use crate::snapshot::{OwnSvid, TlsSnapshot};
use crate::update::{self, Choice, Evaluated};
use crate::watcher::log_obtained;
use dir_core::{Timestamp, TrustDomain};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tracing::{error, info, warn};

/// The Workload API does not answer, or refuses us.
pub(crate) fn failed(shared: &Shared, reason: &WaitReason) {
    let was_connected = shared.connected.swap(false, Ordering::Relaxed);
    if matches!(reason, WaitReason::NoIdentityIssued) {
        let socket = &shared.config.socket;
        match shared.denials.fetch_add(1, Ordering::Relaxed) + 1 {
            1 => warn!(socket, %reason, "the agent refuses us an identity; asking again"),
            DENIALS_MAX => warn!(socket, %reason, "the agent has withdrawn our identity; not ready"),
            _ => {}
        }
        shared.metrics.update_rejected("withdrawn");
    } else if was_connected {
        warn!(
            socket = shared.config.socket, %reason,
            "lost the Workload API; the last material serves until it expires"
        );
    }
}

/// Applies one message. Returns whether it should be looked at again because its SVID is not valid yet.
pub(crate) fn apply(shared: &Shared, message: &X509SvidResponse) -> bool {
    let now = shared.clock.now();
    let last = shared.current.load_full();
    let evaluated = update::evaluate(message, Some(&last), &shared.config, now);
    for fault in &evaluated.faults {
        shared.metrics.update_fault();
        warn!(%fault, "part of the identity update is unusable");
    }
    let again = matches!(evaluated.svid, Err(WaitReason::NotYetValid(_)));
    let Evaluated { svid, mut bundles, candidates, .. } = evaluated;
    let (svid, choice) = match svid {
        Ok((svid, choice)) => (svid, Some(choice)),
        Err(reason) => {
            if message.svids.is_empty() {
                failed(shared, &WaitReason::NoIdentityIssued);
                return false;
            }
            // The bundles of this message still count: trust that was withdrawn stays withdrawn.
            shared.metrics.update_rejected("svid");
            warn!(%reason, "the new X509-SVID is unusable; the last good one stays");
            keep_own(&mut bundles, &last);
            (last.svid().clone(), None)
        }
    };
    shared.denials.store(0, Ordering::Relaxed);
    fill(shared, &last, &mut bundles);
    {
        let mut received = shared.received.lock();
        received.retain(|domain, _| bundles.get(domain).is_some());
        // A bundle that was kept because the new one is unreadable was not received.
        let kept =
            |b: &Arc<TrustBundle>| last.bundles().get(b.trust_domain()).is_some_and(|l| Arc::ptr_eq(l, b));
        let delivered = |b: &&Arc<TrustBundle>| b.source() == WORKLOAD_API && !kept(b);
        received.extend(bundles.iter().filter(delivered).map(|b| (b.trust_domain().clone(), now)));
        received_extra(shared, &bundles, &mut received);
    }
    let rotated = !svid.same_as(last.svid());
    // Agents repeat unchanged content; that is no rotation.
    if !rotated && bundles.same_as(last.bundles()) {
        return again;
    }
    publish(shared, &last, svid, choice.filter(|_| rotated), bundles, candidates);
    again
}

/// Takes up a change of the bundles that do not come from the Workload API.
pub(crate) fn apply_extra(shared: &Shared) {
    let change = *shared.extra_changes.borrow();
    let last = shared.current.load_full();
    let mut bundles = last.bundles().delivered();
    fill(shared, &last, &mut bundles);
    {
        let mut received = shared.received.lock();
        received.retain(|domain, _| bundles.get(domain).is_some());
        received_extra(shared, &bundles, &mut received);
    }
    if !bundles.same_as(last.bundles()) {
        publish(shared, &last, last.svid().clone(), None, bundles, 0);
    }
    shared.extra_applied.send_replace(change);
}

/// Puts the other bundles beside those of the Workload API, which win; nobody gives us roots for our own domain.
fn fill(shared: &Shared, last: &TlsSnapshot, bundles: &mut BundleSet) {
    let extra = shared.extra.lock();
    let own = last.leaf().id.trust_domain();
    bundles.fill_from(extra.values().map(|e| &e.bundle).filter(|b| b.trust_domain() != own));
}

fn received_extra(shared: &Shared, bundles: &BundleSet, received: &mut BTreeMap<TrustDomain, Timestamp>) {
    for (domain, extra) in shared.extra.lock().iter() {
        let same = |held: &Arc<TrustBundle>| {
            held.source() == extra.bundle.source() && held.digest() == extra.bundle.digest()
        };
        if bundles.get(domain).is_some_and(same) {
            received.insert(domain.clone(), extra.received);
        }
    }
}

/// The SVID that stays needs its own bundle, which a message without a readable SVID may not name.
fn keep_own(bundles: &mut BundleSet, last: &TlsSnapshot) {
    let own = last.leaf().id.trust_domain();
    if let (None, Some(kept)) = (bundles.get(own), last.bundles().get(own)) {
        bundles.insert(kept.clone());
    }
}

fn publish(
    shared: &Shared,
    last: &TlsSnapshot,
    svid: OwnSvid,
    rotated: Option<Choice>,
    bundles: BundleSet,
    candidates: usize,
) {
    let generation = last.generation() + 1;
    let next = match TlsSnapshot::build(generation, svid, bundles, &shared.trust, &shared.clock) {
        Ok(next) => next,
        Err(error) => {
            shared.metrics.update_rejected("tls");
            error!(%error, "the new material gives no TLS configuration; the last good one stays");
            return;
        }
    };
    if let Some(choice) = rotated {
        shared.metrics.rotated(next.leaf().id.trust_domain());
        log_obtained(next.svid(), choice, candidates, &shared.config, 1);
    } else {
        info!(generation, bundles = next.bundles().len(), "trust bundles changed");
    }
    shared.trust.set(next.bundles().clone());
    shared.current.store(Arc::new(next));
    // Trust and snapshot are in place before anybody is told.
    shared.changes.send_replace(generation);
}
