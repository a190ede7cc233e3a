//! Clocks of nodes differ from the controller's, and that one may be set. What is timed is held against this process's own
//! count of seconds, which nobody sets.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use whittle_api::ImageBuild;

/// Longer than any container is asked for: an hour of `healthCheck.timeoutSeconds`, and its preparation.
const FORGOTTEN: Duration = Duration::from_secs(2 * 3600);

/// When containers were first seen to run, by the UID of their Pod. A controller that has just started knows of none: to
/// them it gives their time once more.
#[derive(Default)]
pub struct Ran(Mutex<HashMap<String, Instant>>);

impl Ran {
    /// How long it is since this one was first seen to run, which it is now.
    pub fn of<K: ResourceExt>(&self, pod: &K) -> SignedDuration {
        self.at(pod.uid().unwrap_or_default(), Instant::now())
    }

    fn at(&self, uid: String, now: Instant) -> SignedDuration {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, first| now.duration_since(*first) < FORGOTTEN);
        let first = *seen.entry(uid).or_insert(now);
        SignedDuration::try_from(now.duration_since(first)).unwrap_or_default()
    }
}

/// The clock was set ahead where it is so much further than was counted.
const AHEAD: SignedDuration = SignedDuration::from_secs(60);
/// Steps that are remembered.
const STEPS: usize = 16;

/// The clock, and the steps by which it was set ahead, or by which the machine slept: nothing was built in that time.
/// What it is set back leaves more time, and needs nothing here.
#[derive(Default)]
pub struct Clock(Mutex<Steps>);

#[derive(Default)]
struct Steps {
    last: Option<(Timestamp, Instant)>,
    /// What the clock showed before each, and by how much it was set.
    steps: VecDeque<(Timestamp, SignedDuration)>,
}

impl Clock {
    /// The time, and an ImageBuild whose build under way began then, as this clock would have said it.
    pub fn read(&self, build: &mut ImageBuild) -> Timestamp {
        self.at(build, Timestamp::now(), Instant::now())
    }

    fn at(&self, build: &mut ImageBuild, now: Timestamp, counted: Instant) -> Timestamp {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, since)) = state.last {
            let passed = SignedDuration::try_from(counted.duration_since(since));
            let before = then + passed.unwrap_or_default();
            let step = now.duration_since(before);
            if step > AHEAD {
                let seconds = step.as_secs();
                tracing::warn!(seconds, "the clock was set ahead");
                state.steps.truncate(STEPS - 1);
                state.steps.push_front((before, step));
            }
        }
        state.last = Some((now, counted));
        let follow = |time: &mut Option<Time>| {
            let Some(Time(time)) = time else { return };
            // Oldest first: none but old clocks showed a time before a step.
            for (before, step) in state.steps.iter().rev() {
                if *time <= *before {
                    *time += *step;
                }
            }
        };
        if let Some(status) = &mut build.status
            && let Some(current) = &mut status.current
        {
            follow(&mut current.since);
            follow(&mut current.waiting_since);
            follow(&mut status.started_at);
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures;

    /// Reads at this second, after so many were counted: when the build is said to have begun.
    fn begun(clock: &Clock, build: &ImageBuild, second: i64, counted: Instant) -> i64 {
        let mut build = build.clone();
        clock.at(&mut build, Timestamp::from_second(second).unwrap(), counted);
        build.status.unwrap().started_at.unwrap().0.as_second()
    }

    #[test]
    fn a_build_under_way_follows_a_clock_that_is_set_ahead_once() {
        let (clock, start) = (Clock::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut build = fixtures::inline();
        let current = json!({"attempt": 1, "job": "a", "generation": 1});
        let status = json!({"startedAt": "1970-01-01T00:16:30Z", "current": current});
        build.status = Some(serde_json::from_value(status).unwrap());
        assert_eq!(begun(&clock, &build, 1000, start), 990);
        // Slow, and nobody has set it.
        assert_eq!(begun(&clock, &build, 1040, after(10)), 990);
        assert_eq!(begun(&clock, &build, 4650, after(20)), 4590);
        // As it stands in the status then.
        build.status.as_mut().unwrap().started_at =
            Some(Time(Timestamp::from_second(4590).unwrap()));
        assert_eq!(begun(&clock, &build, 4660, after(30)), 4590);
        // Back.
        assert_eq!(begun(&clock, &build, 1070, after(40)), 4590);
    }

    #[test]
    fn the_time_of_each_begins_when_it_is_first_seen_and_is_forgotten_after_hours() {
        let (ran, start) = (Ran::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(ran.at("a".into(), start), SignedDuration::ZERO);
        assert_eq!(ran.at("a".into(), after(5)), SignedDuration::from_secs(5));
        assert_eq!(ran.at("b".into(), after(6)), SignedDuration::ZERO);
        assert_eq!(ran.at("b".into(), after(9000)), SignedDuration::ZERO);
        assert_eq!(ran.0.lock().unwrap().len(), 1);
    }
}
