//! New connections a second from one address, asked before anything is read: a handshake costs us more than the peer.

use crate::refuse::{Refusal, RefuseReason};
use dir_core::bucket::{Buckets, Rate, Terms};
use std::net::IpAddr;
use tokio::time::Instant;

/// Addresses that are remembered at once.
const ADDRESSES_MAX: usize = 65_536;

/// The buckets of a listener.
#[derive(Debug)]
pub(crate) struct IpRate {
    begun: Instant,
    terms: Terms,
    buckets: Buckets,
}

impl IpRate {
    /// `None` is no limit.
    pub(crate) fn new(rate: Option<Rate>) -> Option<Self> {
        let terms = Terms::of(rate?)?;
        Some(Self { begun: Instant::now(), terms, buckets: Buckets::new(ADDRESSES_MAX) })
    }

    /// Whether a connection from here is looked at.
    pub(crate) fn take(&self, ip: IpAddr) -> Result<(), Refusal> {
        let now = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.buckets.take(ip, self.terms, now).map_err(|_wait| {
            Refusal::new(RefuseReason::RatePerIp, "more new connections than ratelimit.per_ip_rps")
        })
    }
}
