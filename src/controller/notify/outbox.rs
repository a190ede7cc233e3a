//! Messages that wait for a receiver, and how often it is tried. Nothing waits for it: what cannot be delivered is dropped in the end.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::sink::{Receiver, Sink};
use crate::serve::Metrics;

/// Messages that wait; then the oldest is dropped.
const MOST: usize = 1000;
/// Bytes of all that wait; then, too.
const MOST_BYTES: usize = 8 << 20;
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

/// The messages for one receiver.
pub(super) struct Outbox {
    receiver: Receiver,
    metrics: Metrics,
    waiting: Mutex<Waiting>,
    changed: Notify,
    /// The last try has failed.
    failing: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Message>,
    bytes: usize,
    /// Of the next message.
    number: u64,
}

#[derive(Clone)]
struct Message {
    number: u64,
    text: Arc<[u8]>,
    since: Instant,
}

impl Waiting {
    fn pop(&mut self) -> Option<Message> {
        let first = self.messages.pop_front()?;
        self.bytes -= first.text.len();
        Some(first)
    }
}

impl Outbox {
    pub(super) fn new(receiver: Receiver, metrics: Metrics) -> Self {
        Self {
            receiver,
            metrics,
            waiting: Mutex::default(),
            changed: Notify::new(),
            failing: AtomicBool::new(false),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it delivered, some time.
    pub(super) fn push(&self, text: Vec<u8>) {
        let mut waiting = self.waiting();
        while waiting.messages.len() >= MOST || waiting.bytes + text.len() > MOST_BYTES {
            if waiting.pop().is_none() {
                break;
            }
            self.metrics.told(self.receiver, "Dropped");
        }
        let number = waiting.number;
        waiting.number += 1;
        waiting.bytes += text.len();
        waiting.messages.push_back(Message {
            number,
            text: text.into(),
            since: Instant::now(),
        });
        self.changed.notify_one();
    }

    /// Waits a moment for what is left to be delivered.
    pub(super) async fn last(&self) {
        let emptied = async {
            while self.left() > 0 && !self.failing.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = timeout(LAST, emptied).await;
        let left = self.left();
        if left > 0 {
            let what = self.receiver.messages();
            tracing::warn!(left, "stopping; {what} are not delivered");
        }
    }

    fn left(&self) -> usize {
        self.waiting().messages.len()
    }

    /// Delivers what comes, in order, without end.
    pub(super) async fn deliver(&self, sink: &Sink) {
        loop {
            let first = self.waiting().messages.front().cloned();
            let Some(first) = first else {
                self.changed.notified().await;
                continue;
            };
            self.deliver_one(&first, sink).await;
            // Unless it was dropped meanwhile.
            let mut waiting = self.waiting();
            let front = waiting.messages.front();
            if front.is_some_and(|front| front.number == first.number) {
                waiting.pop();
            }
        }
    }

    async fn deliver_one(&self, one: &Message, sink: &Sink) {
        let mut tries = 0;
        loop {
            tries += 1;
            let answer = sink.send(&one.text).await;
            let verdict = judge(&answer, tries, one.since.elapsed());
            let failing = matches!(verdict, Verdict::Again(_));
            self.failing.store(failing, Ordering::Relaxed);
            let (Answer::Refused(_, said) | Answer::Away(said)) = answer else {
                self.metrics.told(self.receiver, "Delivered");
                return;
            };
            let (sink, what) = (sink.origin(), self.receiver.messages());
            match verdict {
                Verdict::Again(pause) => {
                    self.metrics.told(self.receiver, "Retried");
                    tracing::warn!(
                        sink,
                        said,
                        "{what} were not delivered; retrying in {} s",
                        pause.as_secs()
                    );
                    sleep(pause).await;
                }
                Verdict::Rejected | Verdict::Delivered => {
                    self.metrics.told(self.receiver, "Rejected");
                    tracing::error!(sink, said, "{what} were rejected, and are not sent again");
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
        let outbox = Outbox::new(Receiver::Events, metrics.clone());
        for number in 0..MOST + 2 {
            outbox.push(number.to_string().into_bytes());
        }
        assert_eq!(outbox.left(), MOST);
        assert_eq!(*outbox.waiting().messages[0].text, *b"2");
        let line = r#"whittle_notifications_total{result="Dropped"} 2"#;
        assert!(metrics.text().contains(line), "{}", metrics.text());
    }

    #[test]
    fn many_large_messages_are_too_many() {
        let metrics = Metrics::default();
        let outbox = Outbox::new(Receiver::Traces, metrics.clone());
        for _ in 0..9 {
            outbox.push(vec![b'x'; 1 << 20]);
        }
        assert_eq!((outbox.left(), outbox.waiting().bytes), (8, 8 << 20));
        let line = r#"whittle_traces_total{result="Dropped"} 1"#;
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
        let settings = SinkSettings {
            url,
            ca_bundle: None,
            token_file: None,
            source: None,
        };
        let sink = Sink::new(Receiver::Events, &settings).unwrap();
        let outbox = Outbox::new(Receiver::Events, Metrics::default());
        outbox.push(b"{}".to_vec());
        let begun = Instant::now();
        tokio::select! {
            () = outbox.deliver(&sink) => {}
            () = outbox.last() => {}
        }
        (outbox.left(), begun.elapsed())
    }

    #[tokio::test]
    async fn at_the_end_what_is_left_is_delivered_where_the_sink_works_and_not_waited_for_where_it_fails()
     {
        assert_eq!(at_the_end(202).await.0, 0);
        let (left, waited) = at_the_end(503).await;
        assert!(left == 1 && waited < LAST, "{left} {waited:?}");
    }
}
