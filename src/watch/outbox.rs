//! What the controller is told: what has changed since it last took it, and all of it again from time to time. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::wire::{Outcome, Seen, TOLD};

/// How often all is told again.
const AGAIN: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Untold,
    /// It is being told.
    Sent,
    Told,
}

/// What was seen, and when that look began and ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sight {
    pub(crate) seen: Seen,
    pub(crate) begun: Duration,
    pub(crate) ended: Duration,
}

struct Entry {
    outcome: Outcome,
    tree: Option<String>,
    /// When the last look at it began and ended.
    begun: Duration,
    ended: Duration,
    wanted: bool,
    state: State,
}

/// The newest of each source: never more than there are sources.
#[derive(Default)]
pub(crate) struct Outbox {
    entries: BTreeMap<String, Entry>,
    again: Duration,
}

impl Outbox {
    pub(crate) fn note(&mut self, sight: Sight) {
        let Sight { seen, begun, ended } = sight;
        let known = self.entries.get_mut(&seen.id);
        if let Some(known) = known {
            // The tree of an earlier look has come after a later one.
            let late = begun < known.begun;
            if !late {
                (known.begun, known.ended) = (begun, ended);
            }
            if late || known.outcome == seen.outcome && known.tree == seen.tree {
                if seen.wanted {
                    (known.wanted, known.state) = (true, State::Untold);
                }
                return;
            }
        }
        // What the controller asked for is its answer until it has taken one.
        let known = self.entries.get(&seen.id);
        let wanted = seen.wanted || known.is_some_and(|known| known.wanted);
        let entry = Entry {
            outcome: seen.outcome,
            tree: seen.tree,
            begun,
            ended,
            wanted,
            state: State::Untold,
        };
        self.entries.insert(seen.id, entry);
    }

    /// Forgets what is not watched any more, and what stands for something else: of that, the next look is told whatever
    /// was told before.
    pub(crate) fn keep(&mut self, ids: &BTreeSet<&str>, fresh: &[String]) {
        self.entries.retain(|id, _| ids.contains(id.as_str()));
        for id in fresh {
            self.entries.remove(id);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self
            .entries
            .values()
            .any(|entry| entry.state == State::Untold)
    }

    /// What is told next, what the controller asked for first. To be followed by [`Self::told`].
    pub(crate) fn batch(&mut self, now: Duration) -> Vec<Seen> {
        if now >= self.again + AGAIN {
            self.again = now;
            self.entries
                .values_mut()
                .for_each(|entry| entry.state = State::Untold);
        }
        let mut batch = vec![];
        for wanted in [true, false] {
            let untold = self
                .entries
                .iter_mut()
                .filter(|(_, entry)| entry.state == State::Untold && entry.wanted == wanted);
            for (id, entry) in untold.take(TOLD - batch.len()) {
                entry.state = State::Sent;
                batch.push(Seen {
                    id: id.clone(),
                    wanted,
                    age_seconds: now.saturating_sub(entry.ended).as_secs(),
                    begun_millis: Some(millis(now.saturating_sub(entry.begun))),
                    outcome: entry.outcome.clone(),
                    tree: entry.tree.clone(),
                });
            }
        }
        batch
    }

    /// When all is told again.
    pub(crate) fn again(&self) -> Duration {
        self.again + AGAIN
    }

    /// Whether the controller took the batch. What has changed meanwhile is still to be told.
    pub(crate) fn told(&mut self, taken: bool) {
        for entry in self
            .entries
            .values_mut()
            .filter(|entry| entry.state == State::Sent)
        {
            if taken {
                entry.state = State::Told;
                entry.wanted = false;
            } else {
                entry.state = State::Untold;
            }
        }
    }
}

/// At least so long.
fn millis(age: Duration) -> u64 {
    let all = age.as_nanos().div_ceil(1_000_000);
    u64::try_from(all).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What is told, whenever it was looked at.
    fn batch(outbox: &mut Outbox, now: Duration) -> Vec<Seen> {
        let mut all = outbox.batch(now);
        for seen in &mut all {
            (seen.age_seconds, seen.begun_millis) = (0, None);
        }
        all
    }

    #[test]
    fn what_is_told_again_says_when_it_was_looked_at_last() {
        let (mut outbox, minute) = (Outbox::default(), Duration::from_secs(60));
        outbox.note(at(seen("a", "1", false), minute));
        assert_eq!(outbox.batch(minute * 2)[0].age_seconds, 60);
        outbox.told(true);
        outbox.note(at(seen("a", "1", false), minute * 62));
        assert_eq!(outbox.batch(minute * 63)[0].age_seconds, 60);
    }

    fn seen(id: &str, revision: &str, wanted: bool) -> Seen {
        Seen {
            id: id.into(),
            wanted,
            outcome: Outcome::Found {
                revision: revision.into(),
            },
            tree: None,
            age_seconds: 0,
            begun_millis: None,
        }
    }

    /// What was looked at in no time.
    fn at(seen: Seen, now: Duration) -> Sight {
        Sight {
            seen,
            begun: now,
            ended: now,
        }
    }

    #[test]
    fn a_look_that_took_long_says_when_it_began_and_when_it_ended() {
        let mut outbox = Outbox::default();
        let began = Duration::from_micros(1_499_900);
        let sight = |begun, ended| Sight {
            seen: seen("a", "1", false),
            begun,
            ended,
        };
        outbox.note(sight(began, SECOND * 21));
        let told = &outbox.batch(SECOND * 23)[0];
        assert_eq!((told.age_seconds, told.begun_millis), (2, Some(21_501)));
        outbox.told(true);
        // Nothing new, a minute later; and all again after an hour.
        outbox.note(sight(SECOND * 80, SECOND * 81));
        let told = &outbox.batch(AGAIN)[0];
        assert_eq!(
            (told.age_seconds, told.begun_millis),
            (3519, Some(3_520_000))
        );
    }

    #[test]
    fn an_earlier_look_whose_tree_came_late_does_not_stand_for_a_later_one() {
        let mut outbox = Outbox::default();
        outbox.note(at(seen("a", "2", false), SECOND * 9));
        outbox.note(at(seen("a", "1", false), SECOND * 5));
        assert_eq!(batch(&mut outbox, SECOND * 9), [seen("a", "2", false)]);
        outbox.told(true);
        // It was asked for: the later one is the answer.
        outbox.note(at(seen("a", "1", true), SECOND * 5));
        assert_eq!(batch(&mut outbox, SECOND * 9), [seen("a", "2", true)]);
    }

    fn ids(batch: &[Seen]) -> Vec<&str> {
        batch.iter().map(|seen| seen.id.as_str()).collect()
    }

    #[test]
    fn only_what_has_changed_is_told_and_the_newest_of_it() {
        let mut outbox = Outbox::default();
        outbox.note(at(seen("a", "1", false), Duration::ZERO));
        outbox.note(at(seen("a", "2", false), Duration::ZERO));
        outbox.note(at(seen("b", "1", false), Duration::ZERO));
        assert_eq!(
            batch(&mut outbox, SECOND),
            [seen("a", "2", false), seen("b", "1", false)]
        );
        outbox.told(true);
        outbox.note(at(seen("a", "2", false), Duration::ZERO));
        assert!(outbox.is_empty());
        outbox.note(at(seen("a", "3", false), Duration::ZERO));
        assert_eq!(ids(&batch(&mut outbox, SECOND)), ["a"]);
    }

    #[test]
    fn what_was_asked_for_is_told_first_and_also_where_nothing_has_changed() {
        let mut outbox = Outbox::default();
        for id in ["a", "b"] {
            outbox.note(at(seen(id, "1", false), Duration::ZERO));
        }
        batch(&mut outbox, SECOND);
        outbox.told(true);
        outbox.note(at(seen("a", "2", false), Duration::ZERO));
        outbox.note(at(seen("b", "1", true), Duration::ZERO));
        // A later look that nobody asked for does not take it away.
        outbox.note(at(seen("b", "2", false), Duration::ZERO));
        assert_eq!(
            batch(&mut outbox, SECOND),
            [seen("b", "2", true), seen("a", "2", false)]
        );
        outbox.told(true);
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_was_not_taken_or_changed_meanwhile_is_told_again() {
        let mut outbox = Outbox::default();
        outbox.note(at(seen("a", "1", true), Duration::ZERO));
        batch(&mut outbox, SECOND);
        outbox.told(false);
        assert_eq!(batch(&mut outbox, SECOND), [seen("a", "1", true)]);
        outbox.note(at(seen("a", "2", false), Duration::ZERO));
        outbox.told(true);
        assert_eq!(ids(&batch(&mut outbox, SECOND)), ["a"]);
    }

    #[test]
    fn of_a_source_that_is_another_the_next_look_is_told() {
        let mut outbox = Outbox::default();
        outbox.note(at(seen("a", "1", false), Duration::ZERO));
        batch(&mut outbox, SECOND);
        outbox.told(true);
        outbox.keep(&BTreeSet::from(["a"]), &["a".into()]);
        outbox.note(at(seen("a", "1", false), Duration::ZERO));
        assert_eq!(ids(&batch(&mut outbox, SECOND)), ["a"]);
    }

    #[test]
    fn batches_are_bounded_and_each_comes_once() {
        let mut outbox = Outbox::default();
        for id in 0..450 {
            outbox.note(at(seen(&format!("{id:03}"), "1", false), Duration::ZERO));
        }
        let mut all = vec![];
        for expected in [200, 200, 50, 0] {
            let batch = batch(&mut outbox, SECOND);
            assert_eq!(batch.len(), expected);
            all.extend(batch.into_iter().map(|seen| seen.id));
            outbox.told(true);
        }
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 450);
    }

    #[test]
    fn all_is_told_again_once_an_hour_but_not_what_is_no_longer_watched() {
        let mut outbox = Outbox::default();
        for id in ["a", "b"] {
            outbox.note(at(seen(id, "1", true), Duration::ZERO));
        }
        batch(&mut outbox, SECOND);
        outbox.told(true);
        outbox.keep(&BTreeSet::from(["b"]), &[]);
        assert_eq!(batch(&mut outbox, AGAIN - SECOND), []);
        assert_eq!(batch(&mut outbox, AGAIN), [seen("b", "1", false)]);
        outbox.told(true);
        assert_eq!(batch(&mut outbox, AGAIN + SECOND), []);
    }
}
