//! Which of several processes of an installation leads: the others stand by. They agree by a Lease, as client-go's do.
//!
//! That two write at the same time is held off by three things:
//! - **The term.** A leader stops [`decide::DEADLINE`] after it began its last renewal, a standby takes over
//!   [`decide::TERM`] after it first saw that renewal, each by its own clock ([`decide`]). What was asked of the API server
//!   before has the time between to be done.
//! - **The gate.** Each request of the leader that writes passes [`gate::Gate`], so also a process that was stopped for a
//!   minute, and goes on in the middle of a step, sends nothing more.
//! - **What is written.** Should one write come late all the same: the status of an ImageBuild or Builder is written over the
//!   version that was read, or not at all (`Cluster::patch_status`), so what was decided before the other leader wrote comes to
//!   nothing. An attempt has its name in the status before it exists, and the name is a hash of what it is: who makes it
//!   a second time finds it made. A Job that the status names no more is deleted by the next look
//!   (`Observed::stray_checks`, `Observed::others_alive`).

pub mod decide;
pub mod gate;

use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::cluster::{Error, Leases};
use decide::{Candidate, DEADLINE, Sight, Step};
use gate::Gate;
use whittle_api::bounded;

/// A leader renews this often.
const RENEW: Duration = Duration::from_secs(2);
/// A standby looks this often, and a leader whose renewal has failed tries again after it.
const LOOK: Duration = Duration::from_secs(1);
/// One request: a connection that hangs is given up while there is time for another.
const ANSWER: Duration = Duration::from_secs(3);
/// One error is logged within this time.
const COMPLAINT: Duration = Duration::from_secs(10);

/// What a process is at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It has not seen the Lease yet.
    #[default]
    Starting,
    /// Another one leads.
    Standby {
        /// Its name; empty where nobody leads.
        leader: String,
        /// Where that serves the callback, where it says so.
        address: Option<SocketAddr>,
    },
    /// It leads.
    Leader,
}

/// Why a process leads no more.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Another one does.
    #[error("lost the Lease {0}: another process leads now; exiting, to start again as a standby")]
    Taken(String),
    /// It could not renew.
    #[error(
        "lost the Lease {0}: not renewed within {limit} s, the API server is unreachable or rejects it; exiting, to \
         start again as a standby",
        limit = DEADLINE.as_secs()
    )]
    Late(String),
}

/// A process that stands for election.
pub struct Election {
    leases: Leases,
    me: Candidate,
    sight: Sight,
    /// The Lease as this process wrote it last.
    written: Option<Lease>,
    role: watch::Sender<Role>,
    gate: Gate,
    complained: Option<Instant>,
}

impl Election {
    /// `gate` is open while it leads.
    pub fn new(leases: Leases, me: Candidate, gate: Gate) -> Self {
        Self {
            leases,
            me,
            sight: Sight::default(),
            written: None,
            role: watch::Sender::default(),
            gate,
            complained: None,
        }
    }

    /// What this process is, now and later.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.role.subscribe()
    }

    /// Stands by until it leads.
    pub async fn win(&mut self) {
        while !self
            .leads_after(false)
            .await
            .is_ok_and(|role| role == Role::Leader)
        {
            sleep(LOOK).await;
        }
        tracing::info!(lease = self.leases.key(), me = self.me.name, "leading");
    }

    /// Leads, until that is lost.
    pub async fn keep(&mut self) -> Lost {
        let mut wait = RENEW;
        loop {
            let Some(until) = self.gate.until() else {
                return Lost::Late(self.leases.key());
            };
            let round = async {
                sleep(wait).await;
                self.leads_after(true).await
            };
            wait = match timeout_at(until, round).await {
                Ok(Ok(Role::Leader)) => RENEW,
                Ok(Ok(Role::Standby { .. })) => {
                    self.gate.close();
                    return Lost::Taken(self.leases.key());
                }
                Ok(Ok(Role::Starting) | Err(())) => LOOK,
                Err(_) => return Lost::Late(self.leases.key()),
            };
        }
    }

    /// Gives the Lease back, so that nobody has to wait for its end; for one that has stopped to write.
    pub async fn release(mut self) {
        self.gate.close();
        let Some(lease) = self.written.take() else {
            return;
        };
        match timeout(ANSWER, self.give_back(lease)).await {
            Ok(Ok(())) => tracing::info!(lease = self.leases.key(), "released"),
            Ok(Err(error)) => tracing::warn!(%error, "cannot release the Lease"),
            Err(_) => tracing::warn!("cannot release the Lease: the API server did not answer"),
        }
    }

    async fn give_back(&self, mut lease: Lease) -> Result<(), Error> {
        loop {
            let released = decide::released(&lease, Timestamp::now());
            if self.leases.write(&released).await?.is_some() {
                return Ok(());
            }
            // It is another version, perhaps by a renewal of this process that was cut off before it heard the answer.
            let found = self.leases.read().await?;
            let Some(own) = found.filter(|it| decide::holder(it) == Some(&self.me.name)) else {
                return Ok(());
            };
            lease = own;
        }
    }

    /// Looks once, and writes where that is due: what this process is then. [`Role::Starting`] where that is open: somebody
    /// else has written at the same time.
    async fn leads_after(&mut self, leads: bool) -> Result<Role, ()> {
        let looked = timeout(ANSWER, self.look(leads)).await;
        let slow = "the API server did not answer in time".to_owned();
        let error = match looked {
            Ok(Ok(role)) => {
                if role != Role::Starting {
                    self.role.send_if_modified(|known| {
                        let changed = *known != role;
                        known.clone_from(&role);
                        changed
                    });
                }
                return Ok(role);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => slow,
        };
        if self
            .complained
            .is_none_or(|last| last.elapsed() >= COMPLAINT)
        {
            self.complained = Some(Instant::now());
            let lease = self.leases.key();
            tracing::warn!(lease, error, "cannot read or write the Lease; retrying");
        }
        Err(())
    }

    async fn look(&mut self, leads: bool) -> Result<Role, Error> {
        let lease = match self.written.take() {
            Some(written) => Some(written),
            None => self.leases.read().await?,
        };
        let begun = Instant::now();
        let observed = self.sight.see(lease.as_ref(), leads, begun);
        let lease = match decide::decide(&observed, &self.me, Timestamp::now()) {
            Step::Write(lease) => lease,
            Step::Follow | Step::End => return Ok(standby(lease.as_ref())),
        };
        let Some(written) = self.leases.write(&lease).await? else {
            return Ok(Role::Starting);
        };
        self.written = Some(written);
        self.gate.open_until(begun + DEADLINE);
        Ok(Role::Leader)
    }
}

fn standby(lease: Option<&Lease>) -> Role {
    let leader = lease.and_then(decide::holder).unwrap_or_default();
    Role::Standby {
        leader: bounded(leader.to_owned(), 253),
        address: lease.and_then(decide::address),
    }
}

#[cfg(test)]
mod scripted_tests;
