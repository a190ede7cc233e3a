//! Trying again after transient faults: capped exponential backoff with jitter, bounded in total.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use super::RegistryError;

/// How long to keep trying.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Tries in all, at least one.
    pub tries: u32,
    /// Time within which the last try must start.
    pub total: Duration,
    /// Pause after the first try; each further one is twice as long.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Patience {
    /// Five tries, begun within 60 s.
    pub const USUAL: Self = Self {
        tries: 5,
        total: Duration::from_secs(60),
        first: Duration::from_millis(500),
        longest: Duration::from_secs(15),
    };

    /// Eight tries, begun within 60 s: for a registry that has just been written to.
    pub const FRESH: Self = Self {
        tries: 8,
        longest: Duration::from_secs(8),
        ..Self::USUAL
    };

    /// The pause after try number `tried` (from 1), given how much of the time is spent: none where
    /// no further try is due. The other side's wish goes before our own measure, unless it is shorter.
    pub fn pause(&self, tried: u32, spent: Duration, wish: Option<Duration>) -> Option<Duration> {
        if tried >= self.tries {
            return None;
        }
        let base = self
            .first
            .saturating_mul(1 << (tried - 1).min(16))
            .min(self.longest);
        // Between a half and the whole, so that many runners do not come back all at once.
        let base = base.mul_f64(0.5 + fraction() / 2.0);
        let pause = wish.map_or(base, |wish| wish.max(base));
        (spent + pause <= self.total).then_some(pause)
    }

    /// Calls `ask` until it answers otherwise than with a transient fault, or until patience ends.
    pub(super) async fn retry<T>(
        &self,
        mut ask: impl AsyncFnMut() -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let begun = Instant::now();
        let mut tried = 0;
        loop {
            tried += 1;
            let error = match ask().await {
                Err(error @ RegistryError::Transient { .. }) => error,
                other => return other,
            };
            let RegistryError::Transient { retry_after, .. } = &error else {
                return Err(error);
            };
            let Some(pause) = self.pause(tried, begun.elapsed(), *retry_after) else {
                return Err(error);
            };
            tracing::debug!(%error, ?pause, "registry: retrying");
            tokio::time::sleep(pause).await;
        }
    }
}

/// A number from 0 to 1, another one at each call; good enough to spread pauses.
fn fraction() -> f64 {
    let bits = RandomState::new().hash_one(std::process::id());
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transient() -> RegistryError {
        RegistryError::Transient {
            message: "503".into(),
            retry_after: None,
        }
    }

    #[test]
    fn pauses_grow_and_stay_within_their_cap() {
        let patience = Patience {
            tries: 20,
            total: Duration::from_secs(600),
            ..Patience::USUAL
        };
        for tried in 1..20 {
            let whole = Duration::from_millis(500 << (tried - 1)).min(Duration::from_secs(15));
            let pause = patience.pause(tried, Duration::ZERO, None).unwrap();
            assert!(pause >= whole / 2 && pause <= whole, "{tried}: {pause:?}");
        }
    }

    #[test]
    fn no_try_starts_after_the_time_or_beyond_the_number() {
        let patience = Patience::USUAL;
        assert_eq!(patience.pause(5, Duration::ZERO, None), None);
        assert_eq!(patience.pause(1, Duration::from_secs(60), None), None);
        let wish = Some(Duration::from_secs(61));
        assert_eq!(patience.pause(1, Duration::ZERO, wish), None);
        let wish = Some(Duration::from_secs(20));
        assert_eq!(patience.pause(1, Duration::ZERO, wish), wish);
    }

    #[tokio::test(start_paused = true)]
    async fn transient_faults_are_tried_again_and_others_are_not() {
        let mut calls = 0;
        let result = Patience::USUAL
            .retry(async || {
                calls += 1;
                if calls < 3 {
                    Err(transient())
                } else {
                    Ok(calls)
                }
            })
            .await;
        assert_eq!(result, Ok(3));

        let mut calls = 0;
        let denied = RegistryError::Denied("401".into());
        let result: Result<(), _> = Patience::USUAL
            .retry(async || {
                calls += 1;
                Err(denied.clone())
            })
            .await;
        assert_eq!((result, calls), (Err(denied.clone()), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_with_the_last_fault() {
        let mut calls = 0;
        let result: Result<(), _> = Patience::USUAL
            .retry(async || {
                calls += 1;
                Err(transient())
            })
            .await;
        assert_eq!((result, calls), (Err(transient()), 5));
    }
}
