//! Runners that wait for their request, and what they are handed: in memory alone. A controller that comes back hands over anew what
//! a status says has begun, and who waits asks again.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::cluster::credentials::Attempt;
use crate::queues::Name;

/// Requests that are held for runners at a time; for more no Job that was made in advance is used.
const MOST: usize = 512;
/// Those of one namespace.
const OF_A_NAMESPACE: usize = 64;
/// Bytes of all of them: an inline source is part of one.
const BYTES: usize = 16 << 20;
/// A runner that has not come for its request by then does not come.
const COMES: Duration = Duration::from_secs(5);
/// What was claimed, or is to go, is forgotten after this long: it has come to something.
const LIFE: Duration = Duration::from_secs(60);

/// All of them, by namespace and Job.
#[derive(Clone, Default)]
pub struct Waiting(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    held: HashMap<Name, Held>,
    offers: HashMap<Name, Offer>,
    /// Those that an attempt is about to be carried out by.
    claimed: HashMap<Name, Instant>,
    /// Those that are being thrown away.
    retired: HashMap<Name, Instant>,
}

/// Answers that are held for one runner.
struct Held {
    number: usize,
    wake: Arc<Notify>,
}

struct Offer {
    /// Of whose runner: the UID of the ImageBuild.
    uid: String,
    request: Arc<str>,
    since: Instant,
    taken: bool,
    /// True where this process has begun the attempt: no other can have handed it over before.
    first: bool,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handed {
    /// Nobody has come for it yet.
    Waits,
    /// Nobody has, and it is late.
    Late,
    /// Its runner has it.
    Taken,
}

impl State {
    fn waits(&self, name: &Name) -> bool {
        let of_it = |other: &&Name| other.0 == name.0;
        let bytes: usize = self.offers.values().map(|it| it.request.len()).sum();
        self.held.contains_key(name)
            && !self.retired.contains_key(name)
            && self.offers.len() < MOST
            && self.offers.keys().filter(of_it).count() < OF_A_NAMESPACE
            && bytes < BYTES
    }
}

/// One answer that is held, until it is dropped.
struct One<'a>(&'a Waiting, &'a Name);

impl Drop for One<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if let Some(held) = state.held.get_mut(self.1) {
            held.number -= 1;
            if held.number == 0 {
                state.held.remove(self.1);
            }
        }
    }
}

impl Waiting {
    /// Waits for the request of this attempt; none where it has not begun within that time.
    pub async fn request(&self, attempt: &Attempt, within: Duration) -> Option<Arc<str>> {
        let name = (attempt.namespace.clone(), attempt.job.clone());
        let wake = {
            let mut state = self.lock();
            let held = state.held.entry(name.clone()).or_insert_with(|| Held {
                number: 0,
                wake: Arc::default(),
            });
            held.number += 1;
            held.wake.clone()
        };
        let _one = One(self, &name);
        let mut over = pin!(tokio::time::sleep(within));
        loop {
            // Whoever offers it from here on is heard.
            let mut woken = pin!(wake.notified());
            woken.as_mut().enable();
            if let Some(request) = self.take(&name, &attempt.uid) {
                return Some(request);
            }
            tokio::select! {
                () = woken => {}
                () = &mut over => return None,
            }
        }
    }

    fn take(&self, name: &Name, uid: &str) -> Option<Arc<str>> {
        let mut state = self.lock();
        let offer = state
            .offers
            .get_mut(name)
            .filter(|offer| offer.uid == uid)?;
        offer.taken = true;
        Some(offer.request.clone())
    }

    /// True where the runner of this Job waits now, and nobody is about to throw it away.
    pub fn waits(&self, namespace: &str, job: &str) -> bool {
        self.lock().waits(&(namespace.to_owned(), job.to_owned()))
    }

    /// An attempt is to be carried out by this Job: from now on it is not thrown away. False where it waits no more.
    #[must_use]
    pub fn claim(&self, namespace: &str, job: &str) -> bool {
        let name = (namespace.to_owned(), job.to_owned());
        let mut state = self.lock();
        let waits = state.waits(&name);
        if waits {
            state.claimed.insert(name, Instant::now());
        }
        waits
    }

    /// This Job is to be thrown away: from now on no attempt is carried out by it. False where one is.
    #[must_use]
    pub fn retire(&self, namespace: &str, job: &str) -> bool {
        let name = (namespace.to_owned(), job.to_owned());
        let mut state = self.lock();
        let fresh = |at: &Instant| at.elapsed() < LIFE;
        state.claimed.retain(|_, at| fresh(at));
        state.retired.retain(|_, at| fresh(at));
        if state.claimed.contains_key(&name) || state.offers.contains_key(&name) {
            return false;
        }
        state.retired.insert(name, Instant::now());
        true
    }

    /// The status names this Job: its runner gets this request, as often as it asks. `first`: this process has begun the attempt.
    pub fn offer(&self, (namespace, job): (&str, &str), uid: &str, request: String, first: bool) {
        let name = (namespace.to_owned(), job.to_owned());
        let mut state = self.lock();
        state.claimed.remove(&name);
        state.offers.entry(name.clone()).or_insert_with(|| Offer {
            uid: uid.to_owned(),
            request: request.into(),
            since: Instant::now(),
            taken: false,
            first,
        });
        if let Some(held) = state.held.get(&name) {
            held.wake.notify_waiters();
        }
    }

    /// What became of the request for this Job; none where this process has offered none.
    pub fn handed(&self, namespace: &str, job: &str) -> Option<Handed> {
        let state = self.lock();
        let offer = state.offers.get(&(namespace.to_owned(), job.to_owned()))?;
        Some(match offer.since.elapsed() > COMES {
            _ if offer.taken => Handed::Taken,
            true if offer.first => Handed::Late,
            _ => Handed::Waits,
        })
    }

    /// The attempt of this Job has ended, or another one has taken its place, or the Job has gone, with its ImageBuild perhaps.
    pub fn forget(&self, namespace: &str, job: &str) {
        let name = (namespace.to_owned(), job.to_owned());
        let mut state = self.lock();
        state.claimed.remove(&name);
        state.offers.remove(&name);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(25);

    fn attempt(uid: &str, job: &str) -> Attempt {
        Attempt {
            namespace: "team".into(),
            uid: uid.into(),
            job: job.into(),
        }
    }

    /// One that waits, and what it was handed.
    fn waits(waiting: &Waiting, attempt: Attempt) -> tokio::task::JoinHandle<Option<Arc<str>>> {
        let waiting = waiting.clone();
        tokio::spawn(async move { waiting.request(&attempt, WITHIN).await })
    }

    #[tokio::test(start_paused = true)]
    async fn a_runner_that_waits_is_handed_its_request_and_one_that_comes_later_too() {
        let waiting = Waiting::default();
        assert!(!waiting.waits("team", "a-1"));
        let task = waits(&waiting, attempt("u", "a-1"));
        tokio::task::yield_now().await;
        assert!(waiting.waits("team", "a-1"));
        waiting.offer(("team", "a-1"), "u", "request".into(), true);
        assert_eq!(task.await.unwrap().as_deref(), Some("request"));
        assert_eq!(waiting.handed("team", "a-1"), Some(Handed::Taken));
        assert!(!waiting.waits("team", "a-1"));
        // The answer was lost on its way.
        let again = waiting.request(&attempt("u", "a-1"), WITHIN).await;
        assert_eq!(again.as_deref(), Some("request"));
        waiting.forget("team", "a-1");
        let after = waiting.request(&attempt("u", "a-1"), WITHIN).await;
        assert_eq!(after, None);
        assert_eq!(waiting.handed("team", "a-1"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_handed_the_request_of_another() {
        let waiting = Waiting::default();
        let others = [attempt("v", "a-1"), attempt("u", "a-2")];
        let elsewhere = Attempt {
            namespace: "other".into(),
            ..attempt("u", "a-1")
        };
        let tasks: Vec<_> = others
            .into_iter()
            .chain([elsewhere])
            .map(|it| waits(&waiting, it))
            .collect();
        tokio::task::yield_now().await;
        waiting.offer(("team", "a-1"), "u", "request".into(), true);
        for task in tasks {
            assert_eq!(task.await.unwrap(), None);
        }
        assert_eq!(waiting.handed("team", "a-1"), Some(Handed::Waits));
        assert!(waiting.lock().held.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_an_attempt_is_carried_out_by_is_not_thrown_away_and_the_other_way_round() {
        let waiting = Waiting::default();
        assert!(!waiting.claim("team", "a-1"), "it does not wait");
        let _first = waits(&waiting, attempt("u", "a-1"));
        let _second = waits(&waiting, attempt("u", "a-2"));
        tokio::task::yield_now().await;
        assert!(waiting.claim("team", "a-1"));
        assert!(!waiting.retire("team", "a-1"));
        assert!(waiting.retire("team", "a-2"));
        assert!(!waiting.waits("team", "a-2") && !waiting.claim("team", "a-2"));
        waiting.offer(("team", "a-1"), "u", "request".into(), true);
        assert!(!waiting.retire("team", "a-1"));
        waiting.forget("team", "a-1");
        assert!(waiting.retire("team", "a-1"));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_of_one_namespace_and_large_ones_take_no_room_from_others_for_long() {
        let waiting = Waiting::default();
        for number in 0..OF_A_NAMESPACE {
            let job = format!("a-{number}");
            waiting.offer(("many", &job), "u", "request".into(), true);
        }
        let elsewhere = |namespace: &str| Attempt {
            namespace: namespace.into(),
            ..attempt("u", "x-1")
        };
        let _many = waits(&waiting, elsewhere("many"));
        let _few = waits(&waiting, elsewhere("few"));
        tokio::task::yield_now().await;
        assert!(!waiting.waits("many", "x-1") && waiting.waits("few", "x-1"));
        waiting.forget("many", "a-0");
        assert!(waiting.waits("many", "x-1"));
        waiting.offer(("large", "l-1"), "u", "x".repeat(BYTES), true);
        assert!(!waiting.waits("few", "x-1"));
        waiting.forget("large", "l-1");
        assert!(waiting.waits("few", "x-1"));
    }

    #[test]
    fn only_who_has_begun_an_attempt_says_that_nobody_came() {
        let waiting = Waiting::default();
        let long_ago = Instant::now().checked_sub(2 * COMES).unwrap();
        for (job, first, expected) in [("a-1", true, Handed::Late), ("a-2", false, Handed::Waits)] {
            waiting.offer(("team", job), "u", "request".into(), first);
            assert_eq!(waiting.handed("team", job), Some(Handed::Waits));
            let name = ("team".to_owned(), job.to_owned());
            waiting.lock().offers.get_mut(&name).unwrap().since = long_ago;
            assert_eq!(waiting.handed("team", job), Some(expected), "{job}");
        }
    }
}
