//! When the guard looks at images and workloads, and in which order it gets to them.

pub mod audits;
pub mod profiles;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Changes are gathered for so long before they are written: builds of a busy hour share a write, and a
/// tag that moves changes the verdict within five seconds.
const GATHER: Duration = Duration::from_secs(2);
/// Everything is compared again after this long, whatever events were missed.
const RESYNC: Duration = Duration::from_secs(3600);
/// The same where namespaces are trusted: their labels may change.
const TRUST: Duration = Duration::from_secs(60);
/// The longest time between two attempts at what the API server refuses.
const REFUSED: Duration = Duration::from_secs(300);

/// What has been seen since the last round, and how that one ended.
#[derive(Clone, Debug)]
pub struct Observed {
    /// False while ImageBuilds are listed: what is not known yet would be taken for gone.
    pub complete: bool,
    /// The time.
    pub now: Instant,
    /// When something is to be done, where something is.
    due: Option<Instant>,
    /// When everything is compared again, where nothing is.
    resync: Instant,
    every: Duration,
    /// Workloads that come and go change no profile.
    images_changed: bool,
    /// Rounds in a row in which something was refused.
    refusals: u32,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait for what changes, and look again then, where there is a time.
    Wait(Option<Instant>),
    /// A round: audit workloads, and write profiles before, or not.
    Round {
        /// Profiles too.
        profiles: bool,
    },
}

/// What a round came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Something is left for the next round, for want of time.
    pub more: bool,
    /// The API server has refused something.
    pub refused: bool,
}

impl Observed {
    /// Nothing yet; `trusts`: the installation trusts namespaces by their labels.
    pub fn new(trusts: bool, now: Instant) -> Self {
        let every = if trusts { TRUST } else { RESYNC };
        Self {
            complete: false,
            now,
            due: None,
            resync: now + every,
            every,
            images_changed: false,
            refusals: 0,
        }
    }

    /// Something was seen: of an image or of a workload, and it changes what was written, or not.
    pub fn see(&mut self, of_image: bool, changed: bool, now: Instant) {
        if changed {
            self.images_changed |= of_image;
            // What is refused again and again does not hold up what is new.
            let soon = now + GATHER;
            self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
        }
    }

    /// A round has ended: that of profiles, where there was one, and that of workloads.
    pub fn end(&mut self, profiles: Option<Round>, audit: Round, now: Instant) {
        if let Some(round) = profiles {
            self.images_changed = round.more || round.refused;
            self.resync = now + self.every;
        }
        let written = profiles.unwrap_or_default();
        let (more, refused) = (written.more || audit.more, written.refused || audit.refused);
        self.refusals = if refused {
            self.refusals.saturating_add(1)
        } else {
            0
        };
        self.due = match (more, refused) {
            (true, _) => Some(now + GATHER),
            (false, true) => Some(now + back_off(self.refusals)),
            (false, false) => None,
        };
    }
}

/// The next step.
pub fn decide(observed: &Observed) -> Step {
    if !observed.complete {
        return Step::Wait(None);
    }
    // Whatever else is seen and done meanwhile.
    let wake = observed
        .due
        .map_or(observed.resync, |due| due.min(observed.resync));
    match observed.now < wake {
        true => Step::Wait(Some(wake)),
        false => Step::Round {
            profiles: observed.images_changed || observed.now >= observed.resync,
        },
    }
}

/// How long to wait after so many rounds in which something was refused.
fn back_off(refusals: u32) -> Duration {
    (GATHER * 3 * 2u32.saturating_pow(refusals.saturating_sub(1).min(10))).min(REFUSED)
}

/// Keys `namespace/name`, first the first of each namespace, then the second of each: who has thousands holds up nobody
/// else for long. The namespaces after `last` come before the others.
pub fn in_turns<'a>(keys: impl Iterator<Item = &'a str>, last: &str) -> Vec<String> {
    let mut turns: BTreeMap<&str, usize> = BTreeMap::new();
    let mut due: Vec<(usize, bool, &str)> = vec![];
    for key in keys {
        let namespace = namespace_of(key);
        let turn = turns.entry(namespace).or_default();
        due.push((*turn, namespace <= last, key));
        *turn += 1;
    }
    due.sort_unstable();
    due.into_iter().map(|(_, _, key)| key.to_owned()).collect()
}

/// The namespace of a key.
pub fn namespace_of(key: &str) -> &str {
    key.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(now: Instant) -> Observed {
        Observed {
            complete: true,
            ..Observed::new(false, now)
        }
    }

    fn at(observed: &Observed, now: Instant) -> Step {
        decide(&Observed {
            now,
            ..observed.clone()
        })
    }

    const OK: Round = Round {
        more: false,
        refused: false,
    };
    const MORE: Round = Round { more: true, ..OK };
    const NO: Round = Round {
        refused: true,
        ..OK
    };
    const BOTH: Step = Step::Round { profiles: true };
    const AUDIT: Step = Step::Round { profiles: false };

    #[test]
    fn nothing_is_written_before_all_image_builds_are_known() {
        let now = Instant::now();
        let mut observed = Observed::new(false, now);
        observed.see(true, true, now);
        assert_eq!(at(&observed, now + RESYNC), Step::Wait(None));
        observed.complete = true;
        assert_eq!(at(&observed, now + GATHER), BOTH);
    }

    #[test]
    fn changes_are_gathered_and_a_stream_of_them_puts_nothing_off() {
        let now = Instant::now();
        let mut observed = listed(now);
        observed.see(true, true, now);
        let later = now + GATHER / 2;
        observed.see(true, true, later);
        assert_eq!(at(&observed, later), Step::Wait(Some(now + GATHER)));
        assert_eq!(at(&observed, now + GATHER), BOTH);
        observed.end(Some(OK), OK, now + GATHER);
        let resync = now + GATHER + RESYNC;
        assert_eq!(at(&observed, now + GATHER), Step::Wait(Some(resync)));
    }

    #[test]
    fn what_changes_nothing_starts_no_round() {
        let now = Instant::now();
        let mut observed = listed(now);
        observed.see(true, false, now);
        assert_eq!(at(&observed, now + GATHER), Step::Wait(Some(now + RESYNC)));
    }

    #[test]
    fn a_workload_that_changes_is_audited_without_a_look_at_profiles() {
        let now = Instant::now();
        let mut observed = listed(now);
        observed.see(false, true, now);
        assert_eq!(at(&observed, now + GATHER), AUDIT);
        // An image changes before.
        observed.see(true, true, now);
        observed.see(false, true, now);
        assert_eq!(at(&observed, now + GATHER), BOTH);
    }

    #[test]
    fn everything_is_compared_again_where_nothing_changes_and_sooner_where_labels_give_trust() {
        let now = Instant::now();
        assert_eq!(at(&listed(now), now + RESYNC), BOTH);
        assert_eq!(
            at(&listed(now), now + TRUST),
            Step::Wait(Some(now + RESYNC))
        );
        let trusting = Observed {
            complete: true,
            ..Observed::new(true, now)
        };
        assert_eq!(at(&trusting, now + TRUST), BOTH);
    }

    #[test]
    fn a_stream_of_events_does_not_put_off_the_look_at_everything() {
        let now = Instant::now();
        let mut observed = listed(now);
        for seconds in 1..RESYNC.as_secs() {
            let later = now + Duration::from_secs(seconds);
            observed.see(true, false, later);
            observed.see(false, true, later);
            observed.end(None, OK, later);
        }
        assert_eq!(at(&observed, now + RESYNC), BOTH);
    }

    #[test]
    fn what_a_round_had_no_time_for_comes_in_the_next() {
        let now = Instant::now();
        let mut observed = listed(now);
        observed.see(true, true, now);
        observed.end(Some(MORE), NO, now);
        assert_eq!(at(&observed, now + GATHER), BOTH);
        observed.end(Some(OK), MORE, now);
        assert_eq!(at(&observed, now + GATHER), AUDIT);
    }

    #[test]
    fn what_is_refused_is_tried_less_often_and_does_not_hold_up_what_is_new() {
        let now = Instant::now();
        let mut observed = listed(now);
        observed.see(true, true, now);
        observed.end(Some(NO), OK, now);
        assert_eq!(at(&observed, now), Step::Wait(Some(now + GATHER * 3)));
        assert_eq!(at(&observed, now + GATHER * 3), BOTH);
        observed.end(Some(NO), OK, now);
        assert_eq!(at(&observed, now), Step::Wait(Some(now + GATHER * 6)));
        let mut new = observed.clone();
        new.see(false, true, now);
        // The profile that was refused goes along.
        assert_eq!(at(&new, now + GATHER), BOTH);
        observed.end(None, NO, now);
        assert_eq!(at(&observed, now + GATHER * 12), BOTH);
        observed.end(Some(OK), OK, now);
        observed.end(None, NO, now);
        assert_eq!(at(&observed, now), Step::Wait(Some(now + GATHER * 3)));
        assert_eq!(at(&observed, now + GATHER * 3), AUDIT);
    }

    #[test]
    fn what_is_refused_again_and_again_is_tried_less_often() {
        assert_eq!(back_off(1), GATHER * 3);
        assert_eq!(back_off(2), GATHER * 6);
        assert_eq!(back_off(u32::MAX), REFUSED);
    }

    #[test]
    fn a_namespace_with_many_holds_up_no_other() {
        let keys = ["a/1", "a/2", "a/3", "b/1", "c/1", "c/2"];
        let all = |last| in_turns(keys.into_iter(), last);
        assert_eq!(all(""), ["a/1", "b/1", "c/1", "a/2", "c/2", "a/3"]);
        assert_eq!(all("b"), ["c/1", "a/1", "b/1", "c/2", "a/2", "a/3"]);
    }
}
