//! Who leads: from what the Lease says, and for how long it has said that by this process's own clock. The times in it are
//! those of others' clocks: they are written for people, and all that is asked of them is whether they have changed. So
//! no clock that jumps makes two leaders.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use crate::names::LEADER_ADDRESS;
use crate::triggers::hashed;

/// A holder that has not renewed for so long has lost the Lease: as long as client-go waits.
pub const TERM: Duration = Duration::from_secs(15);
/// A leader that has not renewed for so long, from before it asked, stops. That others wait longer leaves time for what it
/// has asked of the API server to be done or not.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// The most that is waited for a holder which names a term of its own.
const LONGEST: Duration = Duration::from_secs(60);

/// Who wants to lead.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The Pod's name: a container that starts again in it is still the one that leads, as the one before has ended.
    pub name: String,
    /// Where it serves the callback.
    pub address: Option<SocketAddr>,
}

/// What a process has seen of the Lease.
#[derive(Default)]
pub struct Sight {
    /// Whether there was one, ever.
    existed: bool,
    /// What it said last, and since when.
    last: Option<(u64, Instant)>,
}

/// What the next step is decided from.
pub struct Observed<'a> {
    /// The Lease; none where there is none.
    pub lease: Option<&'a Lease>,
    /// There was one before.
    pub existed: bool,
    /// For how long it has said the same.
    pub unchanged: Duration,
    /// This process leads.
    pub leads: bool,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Write the Lease so, and lead once that is done. It fails where somebody else has written meanwhile.
    Write(Box<Lease>),
    /// Nothing: somebody else leads.
    Follow,
    /// End: somebody else leads who did not before.
    End,
}

impl Sight {
    /// Takes in what the Lease says now.
    pub fn see<'a>(&mut self, lease: Option<&'a Lease>, leads: bool, now: Instant) -> Observed<'a> {
        let spec = lease.and_then(|lease| lease.spec.as_ref());
        let said = hashed(serde_json::to_string(&spec).unwrap_or_default());
        let since = match self.last {
            Some((before, since)) if before == said => since,
            _ => now,
        };
        self.last = Some((said, since));
        let existed = self.existed;
        self.existed |= lease.is_some();
        Observed {
            lease,
            existed,
            unchanged: now.duration_since(since),
            leads,
        }
    }
}

/// The next step; `now` is written, and nothing is decided by it.
pub fn decide(observed: &Observed, me: &Candidate, now: Timestamp) -> Step {
    let late = observed.unchanged >= observed.lease.map_or(TERM, term);
    let mine = match observed.lease {
        // Whoever led when it was deleted does not know of it yet.
        None => observed.leads || !observed.existed || late,
        Some(lease) => match holder(lease) {
            Some(holder) if holder == me.name => true,
            _ if observed.leads => return Step::End,
            None => true,
            Some(_) => late,
        },
    };
    match mine {
        true => Step::Write(Box::new(held(observed.lease, me, now))),
        false => Step::Follow,
    }
}

/// Who holds the Lease; nobody where it was released.
pub fn holder(lease: &Lease) -> Option<&str> {
    let holder = lease.spec.as_ref()?.holder_identity.as_deref();
    holder.filter(|holder| !holder.is_empty())
}

/// Where its holder serves the callback. What is passed on there comes from anybody: nothing of the node's own network, as a
/// cloud's metadata service, and nothing that is not one address.
pub fn address(lease: &Lease) -> Option<SocketAddr> {
    let text = lease.metadata.annotations.as_ref()?.get(LEADER_ADDRESS)?;
    let address: SocketAddr = text.parse().ok()?;
    let ip = address.ip().to_canonical();
    let local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let fine = !local && !ip.is_unspecified() && !ip.is_multicast() && address.port() != 0;
    fine.then_some(address)
}

/// How long its holder may be silent: of another version, as that one says.
fn term(lease: &Lease) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|s| s.lease_duration_seconds);
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Duration::from_secs(seconds.unwrap_or_default()).clamp(TERM, LONGEST)
}

/// The Lease, held by this candidate from now on, or still.
fn held(lease: Option<&Lease>, me: &Candidate, now: Timestamp) -> Lease {
    let before = lease.and_then(|lease| lease.spec.clone());
    let still = lease.and_then(holder) == Some(&me.name);
    let before = before.unwrap_or_default();
    let transitions = before.lease_transitions.unwrap_or_default();
    let first = lease.is_none();
    let spec = LeaseSpec {
        holder_identity: Some(me.name.clone()),
        lease_duration_seconds: i32::try_from(TERM.as_secs()).ok(),
        acquire_time: before
            .acquire_time
            .filter(|_| still)
            .or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions.saturating_add(i32::from(!still && !first))),
        ..LeaseSpec::default()
    };
    with(lease, spec, me.address)
}

/// The Lease, held by nobody: whoever looks next has it.
pub fn released(lease: &Lease, now: Timestamp) -> Lease {
    let spec = LeaseSpec {
        lease_duration_seconds: Some(1),
        renew_time: Some(MicroTime(now)),
        lease_transitions: lease.spec.as_ref().and_then(|s| s.lease_transitions),
        ..LeaseSpec::default()
    };
    with(Some(lease), spec, None)
}

fn with(lease: Option<&Lease>, spec: LeaseSpec, address: Option<SocketAddr>) -> Lease {
    let mut lease = lease.cloned().unwrap_or_default();
    lease.spec = Some(spec);
    lease.metadata.managed_fields = None;
    let annotations = lease.metadata.annotations.get_or_insert_default();
    match address {
        Some(address) => annotations.insert(LEADER_ADDRESS.into(), address.to_string()),
        None => annotations.remove(LEADER_ADDRESS),
    };
    lease
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
