//! Tells a sink, by CloudEvents, how builds end. Nothing waits for it: what cannot be delivered is dropped in the end.

mod event;
mod sink;

pub use sink::Sink;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::imagebuild::Ended;
use crate::serve::Metrics;
use whittle_api::ImageBuild;

/// Events that wait; then the oldest is dropped.
const MOST: usize = 1000;
/// For so long one is tried where the sink is away.
const PATIENCE: Duration = Duration::from_secs(3600);
/// So often where the sink answers that it has failed: it may be this event that it fails of, and others wait behind it.
const TRIES: u32 = 5;
/// Between two tries at most; one second at first, and twice as long each time.
const PAUSE: Duration = Duration::from_secs(60);
/// A controller that is to end delivers what it can within this time, where the sink works: another one waits for its Lease.
const LAST: Duration = Duration::from_secs(1);

/// What a sink made of an event.
#[derive(Debug)]
pub enum Answer {
    /// It has it.
    Taken,
    /// It answered with this status and these words.
    Refused(u16, String),
    /// It did not answer.
    Away(String),
}

/// What is done with an event after an answer.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Delivered,
    Rejected,
    Again(Duration),
}

/// What follows from the answer to this try, the first being 1, at an event of this age.
fn judge(answer: &Answer, tries: u32, age: Duration) -> Verdict {
    let status = match answer {
        Answer::Taken => return Verdict::Delivered,
        Answer::Refused(status, _) => *status,
        Answer::Away(_) => 503,
    };
    let away = matches!(status, 408 | 425 | 429 | 502 | 503 | 504) && age < PATIENCE;
    let failed = matches!(status, 500..) && tries < TRIES;
    match away || failed {
        true => Verdict::Again(Duration::from_secs(1 << tries.saturating_sub(1).min(6)).min(PAUSE)),
        false => Verdict::Rejected,
    }
}

/// The queue; without a sink nothing enters it.
#[derive(Clone, Default)]
pub struct Notifications(Option<Arc<Queue>>);

struct Queue {
    source: String,
    metrics: Metrics,
    waiting: Mutex<VecDeque<Waiting>>,
    changed: Notify,
    /// The last try has failed.
    failing: AtomicBool,
}

#[derive(Clone)]
struct Waiting {
    event: Vec<u8>,
    since: Instant,
}

impl Notifications {
    /// For a sink. `source` says which installation this is.
    pub fn new(source: String, metrics: Metrics) -> Self {
        Self(Some(Arc::new(Queue {
            source,
            metrics,
            waiting: Mutex::default(),
            changed: Notify::new(),
            failing: AtomicBool::new(false),
        })))
    }

    /// Has the end of a build told, some time.
    pub fn tell(&self, build: &ImageBuild, ended: &Ended) {
        if let Some(queue) = &self.0 {
            queue.push(event::of(build, ended, &queue.source));
        }
    }

    /// Delivers what comes, in order, without end.
    pub async fn deliver(&self, sink: &Sink) {
        if let Some(queue) = &self.0 {
            queue.deliver(sink).await;
        }
    }

    /// Waits a moment for what is left to be delivered.
    pub async fn last(&self) {
        let Some(queue) = &self.0 else { return };
        let emptied = async {
            while !queue.waiting().is_empty() && !queue.failing.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = timeout(LAST, emptied).await;
        let left = queue.waiting().len();
        if left > 0 {
            tracing::warn!(left, "stopping; notifications are not delivered");
        }
    }
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: Vec<u8>) {
        let mut waiting = self.waiting();
        if waiting.len() >= MOST {
            waiting.pop_front();
            self.metrics.notification("Dropped");
        }
        waiting.push_back(Waiting {
            event,
            since: Instant::now(),
        });
        self.changed.notify_one();
    }

    async fn deliver(&self, sink: &Sink) {
        loop {
            let first = self.waiting().front().cloned();
            let Some(first) = first else {
                self.changed.notified().await;
                continue;
            };
            self.deliver_one(&first, sink).await;
            // Unless it was dropped meanwhile.
            let mut waiting = self.waiting();
            if waiting
                .front()
                .is_some_and(|front| front.since == first.since && front.event == first.event)
            {
                waiting.pop_front();
            }
        }
    }

    async fn deliver_one(&self, one: &Waiting, sink: &Sink) {
        let mut tries = 0;
        loop {
            tries += 1;
            let answer = sink.send(one.event.clone()).await;
            let verdict = judge(&answer, tries, one.since.elapsed());
            let failing = matches!(verdict, Verdict::Again(_));
            self.failing.store(failing, Ordering::Relaxed);
            let (Answer::Refused(_, said) | Answer::Away(said)) = answer else {
                self.metrics.notification("Delivered");
                return;
            };
            let sink = sink.origin();
            match verdict {
                Verdict::Again(pause) => {
                    self.metrics.notification("Retried");
                    tracing::warn!(
                        sink,
                        said,
                        "a notification was not delivered; retrying in {} s",
                        pause.as_secs()
                    );
                    sleep(pause).await;
                }
                Verdict::Rejected | Verdict::Delivered => {
                    self.metrics.notification("Rejected");
                    tracing::error!(
                        sink,
                        said,
                        "a notification was rejected, and is not sent again"
                    );
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SinkSettings;

    fn refused(status: u16) -> Answer {
        Answer::Refused(status, String::new())
    }

    #[test]
    fn a_sink_that_is_away_is_asked_for_an_hour_ever_less_often() {
        let away = Answer::Away("timed out".into());
        let pauses: Vec<u64> = (1..9)
            .map(|tries| match judge(&away, tries, Duration::ZERO) {
                Verdict::Again(pause) => pause.as_secs(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        for status in [408, 429, 502, 503, 504] {
            let soon = judge(&refused(status), 50, PATIENCE / 2);
            assert_eq!(soon, Verdict::Again(PAUSE), "{status}");
            let late = judge(&refused(status), 50, PATIENCE);
            assert_eq!(late, Verdict::Rejected, "{status}");
        }
    }

    #[test]
    fn what_a_sink_does_not_accept_is_sent_once_and_what_it_fails_of_five_times() {
        for status in [301, 400, 401, 404, 413] {
            assert_eq!(
                judge(&refused(status), 1, Duration::ZERO),
                Verdict::Rejected,
                "{status}"
            );
        }
        assert_eq!(
            judge(&refused(500), 4, Duration::ZERO),
            Verdict::Again(Duration::from_secs(8))
        );
        assert_eq!(judge(&refused(500), 5, Duration::ZERO), Verdict::Rejected);
        assert_eq!(judge(&Answer::Taken, 1, PATIENCE), Verdict::Delivered);
    }

    #[test]
    fn of_too_many_the_oldest_is_dropped_and_counted() {
        let metrics = Metrics::default();
        let notifications = Notifications::new("/s".into(), metrics.clone());
        let queue = notifications.0.unwrap();
        for number in 0..MOST + 2 {
            queue.push(number.to_string().into_bytes());
        }
        assert_eq!(queue.waiting().len(), MOST);
        assert_eq!(queue.waiting()[0].event, b"2");
        let line = r#"whittle_notifications_total{result="Dropped"} 2"#;
        assert!(metrics.text().contains(line), "{}", metrics.text());
    }

    /// What is left in the queue, and how long that took, where one event is to be delivered at the last moment: to a
    /// receiver that answers so after a while.
    async fn at_the_end(status: u16) -> (usize, Duration) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let answer = move || async move {
            sleep(Duration::from_millis(200)).await;
            axum::http::StatusCode::from_u16(status).unwrap()
        };
        let router = axum::Router::new().fallback(answer);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let sink = Sink::new(&SinkSettings {
            url,
            ca_bundle: None,
            token_file: None,
            source: None,
        });
        let sink = sink.unwrap();
        let notifications = Notifications::new("/s".into(), Metrics::default());
        let queue = notifications.0.clone().unwrap();
        queue.push(b"{}".to_vec());
        let begun = Instant::now();
        tokio::select! {
            () = notifications.deliver(&sink) => {}
            () = notifications.last() => {}
        }
        (queue.waiting().len(), begun.elapsed())
    }

    #[tokio::test]
    async fn at_the_end_what_is_left_is_delivered_where_the_sink_works_and_not_waited_for_where_it_fails()
     {
        assert_eq!(at_the_end(202).await.0, 0);
        let (left, waited) = at_the_end(503).await;
        assert!(left == 1 && waited < LAST, "{left} {waited:?}");
    }
}
