//! Asks the registry, while the builder pushes to it, whether a push may begin now.
//!
//! BuildKit's push waits forever where a token cannot be had in its middle, denied or because the token server is
//! away: the body of a request that could not be authorized is never closed
//! (<https://github.com/containerd/containerd/blob/v2.3.6/core/remotes/docker/resolver.go>). It says nothing then, as in a
//! push that takes long.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::finish::client;
use crate::failure::{Facts, HANGS, PushFault, plain, push_failure};
use crate::request::BuildRequest;
use whittle_api::{Failure, FailureReason};
use whittle_image::Repository;
use whittle_registry::{DockerConfig, RegistryError};

/// Between two questions.
const EVERY: Duration = Duration::from_secs(30);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// So often denied, one after the other, it is.
const DENIED: u32 = 3;
/// So often away, one after the other, it was not just busy.
const AWAY: u32 = 2;
/// So often allowed after the registry was away, a push that still goes on is one that waits forever.
const ALLOWED: u32 = 6;

/// Pushes that go on: which daemon's, and which of all that have begun.
type Pushes = BTreeMap<usize, u64>;

/// Whether the builder pushes, and for how long it has. Of several daemons that work at the same time, any of them.
#[derive(Default)]
pub(super) struct Pushing {
    now: watch::Sender<Pushes>,
    /// How many have begun.
    begun: AtomicU64,
    /// Since when, and how long before that.
    time: Mutex<(Option<Instant>, Duration)>,
}

impl Pushing {
    /// The daemon of this number pushes, or does not.
    pub(super) fn set(&self, daemon: usize, on: bool) {
        let mut any = [false; 2];
        self.now.send_if_modified(|pushes| {
            any[0] = !pushes.is_empty();
            let changed = on != pushes.contains_key(&daemon);
            if changed && on {
                pushes.insert(daemon, self.begun.fetch_add(1, Ordering::Relaxed));
            } else if changed {
                pushes.remove(&daemon);
            }
            any[1] = !pushes.is_empty();
            changed
        });
        if any[0] != any[1] {
            let mut time = self.time.lock().expect("nobody panics with it");
            let since = any[1].then(Instant::now);
            if let Some(since) = std::mem::replace(&mut time.0, since) {
                time.1 += since.elapsed();
            }
        }
    }

    /// How long it has pushed so far.
    pub(super) fn took(&self) -> Duration {
        let time = self.time.lock().expect("nobody panics with it");
        time.1 + time.0.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Why a push will not end, once that is known.
    pub(super) async fn stands_still(
        &self,
        request: &BuildRequest,
        config: &DockerConfig,
        facts: &Facts,
    ) -> Failure {
        let mut pushes = self.now.subscribe();
        loop {
            // The other end is this very object.
            let _ = pushes.wait_for(|on| !on.is_empty()).await;
            tokio::select! {
                _ = pushes.wait_for(Pushes::is_empty) => {}
                found = asked(request, config, &self.now) => return match found {
                    Found::Denied(said) => push_failure(request, facts, PushFault::Denied, &said),
                    // What waits in the daemon keeps others from pushing until it is restarted.
                    Found::Hangs(said) => plain(FailureReason::BuilderLost, said),
                },
            }
        }
    }
}

async fn asked(
    request: &BuildRequest,
    config: &DockerConfig,
    now: &watch::Sender<Pushes>,
) -> Found {
    let mut heard = Each::default();
    loop {
        let before = now.borrow().clone();
        sleep(EVERY).await;
        let repository = Repository::parse(&request.inputs.output.image);
        let Ok(client) = client(request, &repository, config, false) else {
            continue;
        };
        let answer = timeout(ANSWER, client.may_push()).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(RegistryError::Transient {
                message: "the question whether a push may begin timed out".into(),
                retry_after: None,
            })
        });
        let mut both = now.borrow().clone();
        both.retain(|daemon, push| before.get(daemon) == Some(push));
        if let Some(found) = heard.answer(&both, &answer) {
            return found;
        }
    }
}

/// What the registry has answered during each of the pushes that go on: of several in a row none is one that waits forever.
#[derive(Default)]
struct Each(BTreeMap<u64, Heard>);

impl Each {
    /// How one of these pushes ends, where this answer leaves no doubt.
    fn answer(&mut self, pushes: &Pushes, answer: &Result<(), RegistryError>) -> Option<Found> {
        let goes_on = |push: &u64| pushes.values().any(|it| it == push);
        self.0.retain(|push, _| goes_on(push));
        let mut pushes = pushes.values();
        pushes.find_map(|push| self.0.entry(*push).or_default().answer(answer.clone()))
    }
}

/// How a push ends that would not by itself, and what is said of it.
#[derive(Debug, PartialEq)]
enum Found {
    Denied(String),
    Hangs(String),
}

/// What the registry has answered during one push.
#[derive(Default)]
struct Heard {
    denied: u32,
    /// How often it was away, one after the other.
    absent: u32,
    /// What it said when it was away.
    away: Option<String>,
    allowed: u32,
}

impl Heard {
    /// How the push ends, where this answer leaves no doubt.
    fn answer(&mut self, answer: Result<(), RegistryError>) -> Option<Found> {
        match answer {
            Err(RegistryError::Denied(said)) => {
                (self.denied, self.absent) = (self.denied + 1, 0);
                (self.denied >= DENIED).then_some(Found::Denied(said))
            }
            Err(RegistryError::Transient { message, .. }) => {
                (self.denied, self.absent) = (0, self.absent + 1);
                if self.absent >= AWAY {
                    (self.away, self.allowed) = (Some(message), 0);
                }
                None
            }
            Ok(()) => {
                (self.denied, self.absent) = (0, 0);
                self.allowed += 1;
                let away = self.away.as_ref().filter(|_| self.allowed >= ALLOWED)?;
                Some(Found::Hangs(format!(
                    "{HANGS}: its push has not continued since the registry failed: {away}"
                )))
            }
            // It is not for us to say: the push itself goes on or fails.
            Err(RegistryError::NotFound(_) | RegistryError::Other(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied() -> Result<(), RegistryError> {
        Err(RegistryError::Denied("401 Unauthorized".into()))
    }

    fn away() -> Result<(), RegistryError> {
        Err(RegistryError::Transient {
            message: "503".into(),
            retry_after: None,
        })
    }

    /// What these answers come to, and at which of them.
    fn found(answers: Vec<Result<(), RegistryError>>) -> Option<(usize, Found)> {
        let mut heard = Heard::default();
        let mut all = answers.into_iter().enumerate();
        all.find_map(|(at, answer)| Some((at, heard.answer(answer)?)))
    }

    #[test]
    fn of_several_daemons_one_that_pushes_is_enough() {
        let pushing = Pushing::default();
        let now = || !pushing.now.borrow().is_empty();
        assert!(!now());
        pushing.set(0, true);
        pushing.set(1, true);
        pushing.set(0, false);
        assert!(now());
        pushing.set(1, false);
        assert!(!now());
    }

    #[test]
    fn pushes_of_one_daemon_after_the_other_are_not_one_that_waits() {
        let (mut each, pushing) = (Each::default(), Pushing::default());
        let mut answer = |answer| each.answer(&pushing.now.borrow().clone(), &answer);
        pushing.set(0, true);
        for _ in 0..2 {
            assert_eq!(answer(away()), None);
        }
        pushing.set(1, true);
        pushing.set(0, false);
        for _ in 0..9 {
            assert_eq!(answer(Ok(())), None);
        }
        // One that was there before the outage is.
        for _ in 0..2 {
            assert_eq!(answer(away()), None);
        }
        pushing.set(0, true);
        for _ in 0..5 {
            assert_eq!(answer(Ok(())), None);
        }
        assert!(matches!(answer(Ok(())), Some(Found::Hangs(_))));
    }

    #[test]
    fn a_push_that_is_denied_three_times_is_denied_and_twice_is_not() {
        let said = Found::Denied("401 Unauthorized".into());
        let thrice = vec![denied(), denied(), denied()];
        assert_eq!(found(thrice), Some((2, said)));
        let twice = [denied(), denied(), Ok(()), denied(), denied()];
        assert_eq!(found(twice.into()), None);
        assert_eq!(found(vec![denied(), denied(), away(), denied()]), None);
    }

    #[test]
    fn a_push_goes_on_for_as_long_as_the_registry_is_there_or_away() {
        assert_eq!(found((0..100).map(|_| Ok(())).collect()), None);
        assert_eq!(found((0..100).map(|_| away()).collect()), None);
        let other = || Err(RegistryError::Other("405".into()));
        assert_eq!(found((0..100).map(|_| other()).collect()), None);
    }

    #[test]
    fn a_push_that_outlasts_an_outage_by_six_answers_is_begun_again() {
        let good = |times: usize| (0..times).map(|_| Ok(())).collect::<Vec<_>>();
        let mut answers = good(1);
        answers.extend([away(), away()]);
        answers.extend(good(5));
        answers.extend([away(), away()]);
        answers.extend(good(6));
        let Some((15, Found::Hangs(said))) = found(answers) else {
            panic!("with the sixth good answer after the last outage");
        };
        assert!(said.ends_with(": 503"), "{said}");
    }

    #[test]
    fn a_registry_that_is_busy_now_and_then_ends_no_push() {
        let answers = (0..100).map(|n| if n % 7 == 0 { away() } else { Ok(()) });
        assert_eq!(found(answers.collect()), None);
    }
}
