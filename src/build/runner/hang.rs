//! Whether the daemon hangs: its port is open, and nobody answers. Its Pod stays Ready then, as the kubelet's probe asks for no
//! more than the port; who builds on it sees it first.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// After this long without a line of progress the daemon is asked.
const QUIET: Duration = Duration::from_secs(60);
/// How long it may take to answer. One on a busy node takes seconds.
pub(super) const ANSWER: Duration = Duration::from_secs(30);
/// Between two questions.
const PAUSE: Duration = Duration::from_secs(5);
/// One that gave no answer for so long, to several questions, hangs.
const SILENT: Duration = Duration::from_secs(150);
const SEVERAL: u32 = 3;
/// What fails sooner is not silence: a name that is not found, a port that is closed.
const SOONER: Duration = Duration::from_secs(5);

/// When the daemon was heard of last.
pub(super) struct Heard(Cell<Instant>);

impl Heard {
    /// Just now.
    pub(super) fn new() -> Self {
        Self(Cell::new(Instant::now()))
    }

    /// Again.
    pub(super) fn again(&self) {
        self.0.set(Instant::now());
    }

    /// Ends where the daemon hangs, with the time that it was not heard of. `ask` is true where it answers.
    pub(super) async fn no_more<F: Future<Output = bool>>(&self, ask: impl Fn() -> F) -> Duration {
        loop {
            let at = self.0.get();
            tokio::time::sleep_until(at + QUIET).await;
            let mut unanswered = 0;
            while self.0.get() == at {
                let asked = Instant::now();
                let answered = ask().await;
                unanswered += u32::from(!answered && asked.elapsed() >= SOONER);
                if answered {
                    self.again();
                } else if self.0.get() == at && unanswered >= SEVERAL && at.elapsed() >= SILENT {
                    return at.elapsed();
                } else {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_answers_no_question_hangs() {
        let heard = Heard::new();
        let asked = Cell::new(0);
        let silent = || async {
            asked.set(asked.get() + 1);
            tokio::time::sleep(ANSWER).await;
            false
        };
        let after = heard.no_more(silent).await;
        assert_eq!((asked.get(), after.as_secs()), (3, 60 + 3 * 30 + 2 * 5));
        // One that cannot be asked is none: what it builds ends by itself.
        heard.again();
        let refused = heard.no_more(|| async { false });
        let day = Duration::from_secs(24 * 3600);
        assert!(tokio::time::timeout(day, refused).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_says_nothing_for_hours_is_no_daemon_that_hangs() {
        let heard = Heard::new();
        let day = Duration::from_secs(24 * 3600);
        let hangs = heard.no_more(|| async { true });
        assert!(tokio::time::timeout(day, hangs).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_answers_each_third_time_or_shows_progress_does_not_hang() {
        let heard = Heard::new();
        let asked = Cell::new(0);
        let slow = || async {
            asked.set(asked.get() + 1);
            asked.get() % 3 == 0
        };
        let day = Duration::from_secs(24 * 3600);
        assert!(
            tokio::time::timeout(day, heard.no_more(slow))
                .await
                .is_err()
        );
        let progress = async {
            loop {
                tokio::time::sleep(QUIET + ANSWER).await;
                heard.again();
            }
        };
        let silent = || async {
            tokio::time::sleep(ANSWER).await;
            false
        };
        let both = futures::future::select(Box::pin(heard.no_more(silent)), Box::pin(progress));
        assert!(tokio::time::timeout(day, both).await.is_err());
    }
}
