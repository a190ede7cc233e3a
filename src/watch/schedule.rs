//! What is looked at, and when. Pure: it is told the time, and asks nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::wire::{Outcome, Reason, Seen, Watched, What};

/// Looks at a time: in all, and at one host.
const ALL: usize = 16;
const HOST: usize = 2;
/// Of these, at hosts that were slow or away when they were last asked: they hold up no other.
const SLOW: usize = 8;
/// What is slow.
const SLOW_AFTER: Duration = Duration::from_secs(5);
/// The longest interval.
const MONTH: u64 = 30 * 24 * 3600;
/// The first look of a source comes within this time.
const FIRST: Duration = Duration::from_secs(10);
/// The first pause after a fault that passes, where the interval is longer.
const PASSING: Duration = Duration::from_secs(60);
/// From which failure in a row on a fault that passes is told: most pass before that.
const TOLD_FROM: u32 = 2;
/// How often what was wanted is tried again where it has no interval: for two hours.
const TRIES: u32 = 7;
/// The longest pause after failures, and the longest that a server's wish is followed.
const LONGEST: Duration = Duration::from_secs(3600);
/// The pause of a host that is asked too often, and does not say for how long; twice as long each further time.
const LIMITED: Duration = Duration::from_secs(60);
/// How long an id that is not in the list yet stays wanted: where the kubelet brings it, that takes a minute or two.
const EARLY: Duration = Duration::from_secs(300);
const EARLY_IDS: usize = 1000;
/// How long a source waits for what is not mounted yet: a new Pod that has it comes within a minute or two. Then it is looked at
/// without, which tells what is missing.
const MOUNTS: Duration = Duration::from_secs(300);
/// How often it is looked whether it is.
const MOUNTED: Duration = Duration::from_secs(5);

/// What came of a look, and what of it says when to look again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Looked {
    pub(crate) outcome: Outcome,
    /// True where the server answered well, even if what was looked for is not there.
    pub(crate) answered: bool,
    /// How long the server asks to wait.
    pub(crate) retry_after: Option<Duration>,
    /// How long it took.
    pub(crate) took: Duration,
}

/// A look that is due.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Look {
    /// To be given back with what came of it.
    pub(crate) key: String,
    pub(crate) what: What,
    /// When it began.
    pub(crate) begun: Duration,
}

/// Sources that ask the same of the same server with the same Secret: they are looked at once.
struct Group {
    what: What,
    host: String,
    /// Ids, with their intervals.
    members: BTreeMap<String, Duration>,
    /// When the next look is due; none: only when wanted.
    next: Option<Duration>,
    wanted: BTreeSet<String>,
    /// While it is looked at: the ids that were wanted when the look began.
    looking: Option<BTreeSet<String>>,
    /// Those that were wanted when a look failed of which nothing was told.
    untold: BTreeSet<String>,
    failures: u32,
    /// Since when it lacks what is to be mounted for it, and when that is looked at again.
    lacks: Option<Duration>,
    later: Duration,
}

#[derive(Default)]
struct Host {
    looking: usize,
    slow: bool,
    /// It is not asked before this time.
    until: Duration,
    limited: u32,
}

pub(crate) struct Schedule {
    seed: u64,
    drawn: u64,
    groups: BTreeMap<String, Group>,
    hosts: HashMap<String, Host>,
    early: BTreeMap<String, Duration>,
}

impl Schedule {
    /// `seed`: another one in each process, so that not all of them ask at the same time.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            drawn: 0,
            groups: BTreeMap::new(),
            hosts: HashMap::new(),
            early: BTreeMap::new(),
        }
    }

    /// Takes a new list. What stays keeps its time. `host`: whom a source asks. Gives back the ids that are new, or stand
    /// for something else than before.
    pub(crate) fn set(
        &mut self,
        list: &[Watched],
        host: impl Fn(&What) -> String,
        now: Duration,
    ) -> Vec<String> {
        let mut before = std::mem::take(&mut self.groups);
        let mut members = BTreeMap::new();
        for watched in list {
            let key = key(&watched.what);
            let known = before.remove(&key).map(|mut group| {
                members.insert(key.clone(), std::mem::take(&mut group.members));
                group
            });
            let group = self.groups.entry(key).or_insert_with(|| {
                known.unwrap_or_else(|| Group {
                    what: watched.what.clone(),
                    host: host(&watched.what),
                    members: BTreeMap::new(),
                    next: None,
                    wanted: BTreeSet::new(),
                    looking: None,
                    untold: BTreeSet::new(),
                    failures: 0,
                    lacks: None,
                    later: Duration::ZERO,
                })
            });
            let interval = Duration::from_secs(watched.interval_seconds.min(MONTH));
            group.members.insert(watched.id.clone(), interval);
            if self.early.remove(&watched.id).is_some() {
                group.wanted.insert(watched.id.clone());
            }
        }
        // A look under way ends by itself; its host has one less then.
        let (mut firsts, mut fresh) = (vec![], vec![]);
        for (key, group) in &mut self.groups {
            let known = members.remove(key).unwrap_or_default();
            let before = fresh.len();
            let new = group.members.keys().filter(|id| !known.contains_key(*id));
            fresh.extend(new.cloned());
            group.wanted.retain(|id| group.members.contains_key(id));
            group.untold.retain(|id| group.members.contains_key(id));
            match (group.interval(), group.next) {
                (None, _) if group.failures == 0 => group.next = None,
                // Nobody has told of a new one what is there.
                (Some(_), Some(_)) if fresh.len() > before => group.next = Some(now),
                (Some(_), None) => firsts.push(key.clone()),
                (Some(interval), Some(next)) if group.failures == 0 => {
                    group.next = Some(next.min(now + interval));
                }
                _ => {}
            }
        }
        for key in firsts {
            let within = self.groups[&key].interval().unwrap_or_default().min(FIRST);
            let pause = within.mul_f64(self.draw(&key));
            self.groups.get_mut(&key).expect("a key of it").next = Some(now + pause);
        }
        let hosts: BTreeSet<&String> = self.groups.values().map(|group| &group.host).collect();
        self.hosts
            .retain(|name, host| host.looking > 0 || host.until > now || hosts.contains(name));
        fresh
    }

    /// These are to be looked at at once; those that are not in the list yet, once they are.
    pub(crate) fn want(&mut self, ids: &[String], now: Duration) {
        self.early.retain(|_, asked| *asked + EARLY > now);
        for id in ids {
            let group = self
                .groups
                .values_mut()
                .find(|group| group.members.contains_key(id));
            match group {
                // Where it is being looked at, it is so again: what the controller knows of may have come in between.
                Some(group) => {
                    group.wanted.insert(id.clone());
                }
                None if self.early.len() < EARLY_IDS => {
                    self.early.insert(id.clone(), now);
                }
                None => {}
            }
        }
    }

    /// A Secret has changed: what failed with it may not fail again.
    pub(crate) fn changed(&mut self, secret: &str, now: Duration) {
        for group in self.groups.values_mut() {
            if group.failures > 0 && group.secret() == Some(secret) {
                group.next = group.next.map(|next| next.min(now));
            }
        }
    }

    /// What is to be looked at now.
    pub(crate) fn take(&mut self, now: Duration) -> Vec<Look> {
        let mut due: Vec<_> = self
            .groups
            .iter_mut()
            .filter(|(_, group)| group.looking.is_none())
            .filter(|(_, group)| group.due().is_some_and(|due| due <= now))
            .collect();
        due.sort_by_key(|(_, group)| group.due());
        let mut all: usize = self.hosts.values().map(|host| host.looking).sum();
        let slow = self.hosts.values().filter(|host| host.slow);
        let mut slow: usize = slow.map(|host| host.looking).sum();
        let mut looks = vec![];
        for (key, group) in due {
            let host = self.hosts.entry(group.host.clone()).or_default();
            let room = match host.slow {
                true => host.looking == 0 && slow < SLOW,
                false => host.looking < HOST,
            };
            if all >= ALL {
                break;
            }
            if !room || host.until > now {
                continue;
            }
            all += 1;
            slow += usize::from(host.slow);
            host.looking += 1;
            group.looking = Some(std::mem::take(&mut group.wanted));
            looks.push(Look {
                key: key.clone(),
                what: group.what.clone(),
                begun: now,
            });
        }
        looks
    }

    /// True where a look that was taken waits for what is to be mounted for it, and is given back. `lacks`: that is missing.
    pub(crate) fn waits(&mut self, look: &Look, host: &str, lacks: bool, now: Duration) -> bool {
        let Some(group) = self.groups.get_mut(&look.key) else {
            return false;
        };
        if !lacks {
            group.lacks = None;
            return false;
        }
        let since = *group.lacks.get_or_insert(now);
        if now >= since + MOUNTS {
            return false;
        }
        group
            .wanted
            .extend(group.looking.take().unwrap_or_default());
        group.later = now + MOUNTED;
        if let Some(host) = self.hosts.get_mut(host) {
            host.looking = host.looking.saturating_sub(1);
        }
        true
    }

    /// Notes what came of a look, and says whom it is to be told for.
    pub(crate) fn done(
        &mut self,
        look: &Look,
        host: &str,
        looked: &Looked,
        now: Duration,
    ) -> Vec<Seen> {
        let limited = matches!(
            looked.outcome,
            Outcome::Failed {
                reason: Reason::RateLimited,
                ..
            }
        );
        let away = matches!(
            looked.outcome,
            Outcome::Failed {
                reason: Reason::Unreachable,
                ..
            }
        );
        if let Some(host) = self.hosts.get_mut(host) {
            host.looking = host.looking.saturating_sub(1);
            host.slow = away || looked.took > SLOW_AFTER;
            if limited {
                let doubled = LIMITED.saturating_mul(1 << host.limited.min(6));
                host.limited += 1;
                let pause = looked.retry_after.unwrap_or(doubled);
                host.until = now + pause.clamp(Duration::from_secs(1), LONGEST);
            } else if host.until <= now {
                host.limited = 0;
            }
        }
        let spread = 0.9 + self.draw(&look.key) / 5.0;
        let Some(group) = self.groups.get_mut(&look.key) else {
            return vec![];
        };
        let mut wanted = std::mem::take(&mut group.untold);
        wanted.extend(group.looking.take().unwrap_or_default());
        group.failures = if looked.answered {
            0
        } else {
            group.failures + 1
        };
        let pause = match group.interval() {
            Some(interval) if limited || away => {
                Some(backoff(interval.min(PASSING), group.failures).min(interval.max(LONGEST)))
            }
            Some(interval) => Some(
                backoff(interval, group.failures + 1)
                    .min(LONGEST)
                    .max(interval),
            ),
            // What was wanted and could not be seen is looked at again, for a while.
            None if (limited || away) && group.failures <= TRIES => {
                Some(backoff(PASSING, group.failures).min(LONGEST))
            }
            None => None,
        };
        group.next = pause.map(|pause| {
            let wish = looked.retry_after.unwrap_or_default().min(LONGEST);
            now + pause.mul_f64(spread).max(wish)
        });
        if away && group.failures < TOLD_FROM {
            group.untold = wanted;
            return vec![];
        }
        let seen = |id: &String| Seen {
            id: id.clone(),
            wanted: wanted.contains(id),
            outcome: looked.outcome.clone(),
            tree: None,
            age_seconds: 0,
            begun_millis: None,
        };
        group.members.keys().map(seen).collect()
    }

    /// When something is due that is not yet.
    pub(crate) fn wake(&self, now: Duration) -> Option<Duration> {
        let idle = self.groups.values().filter(|group| group.looking.is_none());
        let times = idle.filter_map(|group| {
            let until = self
                .hosts
                .get(&group.host)
                .map_or(Duration::ZERO, |host| host.until);
            Some(group.due()?.max(until))
        });
        // What is due already waits for room, which is there when a look ends.
        times.filter(|time| *time > now).min()
    }

    /// A number from 0 to 1, another one at each call.
    fn draw(&mut self, key: &str) -> f64 {
        self.drawn += 1;
        let mut hasher = DefaultHasher::new();
        (self.seed, self.drawn, key).hash(&mut hasher);
        (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Group {
    fn interval(&self) -> Option<Duration> {
        self.members
            .values()
            .filter(|interval| !interval.is_zero())
            .min()
            .copied()
    }

    fn due(&self) -> Option<Duration> {
        let due = match self.wanted.is_empty() {
            true => self.next?,
            false => Duration::ZERO,
        };
        Some(due.max(self.later))
    }

    fn secret(&self) -> Option<&str> {
        match &self.what {
            What::Git { secret, .. } | What::Image { secret, .. } => secret.as_deref(),
        }
    }
}

/// Twice as long each further time.
fn backoff(first: Duration, failures: u32) -> Duration {
    first.saturating_mul(1 << failures.saturating_sub(1).min(16))
}

fn key(what: &What) -> String {
    serde_json::to_string(what).expect("text and nothing else")
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
