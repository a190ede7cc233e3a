//! Builders that a loop is to look at, and when: changes within a moment are looked at together.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::queues::Name;

/// What is to be looked at, by the time at which that is due. It stands beside what the looks are about, under the same lock.
#[derive(Default)]
pub struct Due(BTreeMap<Name, Instant>);

impl Due {
    /// This Builder is to be looked at within this time.
    pub fn touch(&mut self, builder: Name, within: Duration) {
        let at = Instant::now() + within;
        let known = self.0.entry(builder).or_insert(at);
        *known = at.min(*known);
    }

    /// The same, after some time, where it is not to be looked at already.
    pub fn touch_later(&mut self, builder: Name, after: Duration) {
        self.0.entry(builder).or_insert(Instant::now() + after);
    }

    /// The first whose time has come, which is to be looked at no more; else when the next one is due.
    pub fn take(&mut self) -> Result<Name, Option<Instant>> {
        let Some((name, at)) = self.0.iter().min_by_key(|(_, at)| **at) else {
            return Err(None);
        };
        if *at > Instant::now() {
            return Err(Some(*at));
        }
        let name = name.clone();
        self.0.remove(&name);
        Ok(name)
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The next Builder that is due, for one reader; `changed` says that there are others. Whoever stops to wait loses nothing.
pub async fn next(changed: &Notify, take: impl Fn() -> Result<Name, Option<Instant>>) -> Name {
    loop {
        let due = match take() {
            Ok(name) => return name,
            Err(due) => due,
        };
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }
}
