//! Who may hold a connection: so many in all, so many from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::edge::limits::ReceiveLimits;
use crate::edge::telemetry::{self, Metrics};

/// Counts open connections.
#[derive(Debug)]
pub(super) struct Admission {
    open: Mutex<Open>,
    max: usize,
    /// 0 sets no limit.
    per_ip_max: usize,
    metrics: Arc<Metrics>,
}

#[derive(Default, Debug)]
struct Open {
    total: usize,
    per_ip: HashMap<IpAddr, usize>,
}

/// The right to hold one connection, until dropped.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    ip: IpAddr,
}

impl Admission {
    pub(super) fn new(limits: &ReceiveLimits, metrics: Arc<Metrics>) -> Arc<Self> {
        let (max, per_ip_max) = (limits.connections_max, limits.connections_per_ip_max);
        Arc::new(Self { open: Mutex::default(), max, per_ip_max, metrics })
    }

    /// Takes a place for a connection from `ip`, or counts the refusal.
    pub(super) fn admit(self: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        let mut open = self.lock();
        let from_ip = open.per_ip.get(&ip).copied().unwrap_or(0);
        let refusal = if open.total >= self.max {
            Some("connections_max")
        } else if self.per_ip_max > 0 && from_ip >= self.per_ip_max {
            Some("connections_per_ip_max")
        } else {
            None
        };
        if let Some(reason) = refusal {
            telemetry::count(&self.metrics.connections_refused, "reason", reason, 1);
            return None;
        }
        open.total += 1;
        open.per_ip.insert(ip, from_ip + 1);
        self.metrics.connections.inc();
        Some(Place { admission: Arc::clone(self), ip })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.admission.lock();
        open.total -= 1;
        if let Some(count) = open.per_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                open.per_ip.remove(&self.ip);
            }
        }
        self.admission.metrics.connections.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(connections_max: usize, connections_per_ip_max: usize) -> Arc<Admission> {
        let limits = ReceiveLimits { connections_max, connections_per_ip_max, ..ReceiveLimits::default() };
        Admission::new(&limits, Arc::new(Metrics::new()))
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn a_place_that_is_left_can_be_taken_again() {
        let admission = admission(2, 0);
        let first = admission.admit(ip(1));
        let _second = admission.admit(ip(1));
        assert!(admission.admit(ip(1)).is_none());
        drop(first);
        assert!(admission.admit(ip(1)).is_some());
    }

    #[test]
    fn one_address_cannot_take_the_places_of_others() {
        let admission = admission(10, 1);
        let _held = admission.admit(ip(1));
        assert!(admission.admit(ip(1)).is_none());
        assert!(admission.admit(ip(2)).is_some());
    }

    #[test]
    fn addresses_without_connections_are_forgotten() {
        let admission = admission(10, 10);
        drop(admission.admit(ip(1)));
        assert!(admission.lock().per_ip.is_empty());
        assert_eq!(admission.metrics.connections.get(), 0);
    }
}
