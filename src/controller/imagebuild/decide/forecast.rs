//! About when a build in a Builder's queue starts, by how long the last builds of those before it took.
//!
//! It is said as a time of day, not as a duration, and rounded: so it stays true while time goes by, and a thousand builds in a queue do
//! not write their statuses each minute.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use whittle_api::{ImageBuild, ImageBuildStatus};

/// Nobody knows what is further away.
const FURTHEST: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Said times that differ by less are the same, or by less than a part of what is left.
const SAME: SignedDuration = SignedDuration::from_secs(60);
const SAME_PART: i32 = 5;
/// A build that takes longer than usual takes such a part of that besides, as often as it has to.
const LATE_PART: i32 = 4;

/// What a build waits for whose turn has not come: seconds that builds usually take, where they have a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// Of those that run: since when, and what they usually take.
    pub running: Vec<(Option<Timestamp>, Option<i64>)>,
    /// Of those that wait, and whose turn comes before.
    pub before: Vec<Option<i64>>,
    /// So many of those that run wait in queues of Kueue: nobody here knows for how long.
    pub suspended: usize,
}

impl Ahead {
    /// One that runs.
    pub fn runs(&mut self, build: &ImageBuild) {
        let current = build.status.as_ref().and_then(|it| it.current.as_ref());
        let since = current.and_then(|current| Some(current.since.as_ref()?.0));
        self.running.push((since, usual(build)));
    }

    /// One that waits, and whose turn comes before.
    pub fn waits(&mut self, build: &ImageBuild) {
        self.before.push(usual(build));
    }
}

/// Seconds that builds of this ImageBuild usually take, of one that is kept of a watch ([`super::super::brief`]): there the time of the
/// last build has that.
fn usual(build: &ImageBuild) -> Option<i64> {
    build.status.as_ref()?.duration_seconds
}

/// About when one of `most` places is free for it; none where one is free already, as something else holds it up, where most of those
/// before it have no history, and where one of them waits for Kueue.
pub(super) fn starts(ahead: &Ahead, most: usize, now: Timestamp) -> Option<Timestamp> {
    if ahead.suspended > 0 || ahead.running.len() + ahead.before.len() < most {
        return None;
    }
    let running = ahead.running.iter().map(|(_, usual)| *usual);
    let all = running.chain(ahead.before.iter().copied());
    let mut known: Vec<i64> = all.clone().flatten().filter(|it| *it >= 0).collect();
    if known.is_empty() || known.len() * 2 < all.count() {
        return None;
    }
    known.sort_unstable();
    let median = known[known.len() / 2];
    let takes = |usual: Option<i64>| SignedDuration::from_secs(usual.unwrap_or(median).max(1));
    let left = |(since, usual): &(Option<Timestamp>, Option<i64>)| {
        let usual = takes(*usual);
        let ran = since.map_or(SignedDuration::ZERO, |since| now.duration_since(since));
        let left = usual.checked_sub(ran).unwrap_or_default();
        left.max(usual / LATE_PART)
    };
    let mut ends: Vec<SignedDuration> = ahead.running.iter().map(left).collect();
    ends.sort_unstable();
    // More run than are to, as where the Builder was given less: the first that end make no room.
    let over = ends.len().saturating_sub(most);
    let mut places: BinaryHeap<Reverse<SignedDuration>> = ends.drain(over..).map(Reverse).collect();
    while places.len() < most {
        places.push(Reverse(SignedDuration::ZERO));
    }
    for usual in &ahead.before {
        let Reverse(free) = places.pop()?;
        places.push(Reverse(free.saturating_add(takes(*usual))));
    }
    let Reverse(wait) = places.pop()?;
    (wait <= FURTHEST).then(|| round(now, wait))
}

/// That much later, up to a full minute, five of them, or half an hour: the further, the rougher.
fn round(now: Timestamp, wait: SignedDuration) -> Timestamp {
    let to = match wait.as_secs() {
        ..3600 => 60,
        3600..21_600 => 300,
        _ => 1800,
    };
    let at = (now + wait).as_second();
    let rest = at.rem_euclid(to);
    let up = if rest == 0 { at } else { at - rest + to };
    Timestamp::from_second(up).unwrap_or(now)
}

/// What is said from now on, where this was said before: the same, unless it is over, or differs by more than it is worth.
pub(super) fn said(
    before: Option<Timestamp>,
    found: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    let found = found?;
    let same = |before: &Timestamp| {
        let left = before.duration_since(now);
        let differs = before.duration_since(found).abs();
        left.is_positive() && differs <= SAME.max(left / SAME_PART)
    };
    Some(before.filter(same).unwrap_or(found))
}

/// For a message.
pub(super) fn words(starts: Option<Timestamp>, now: Timestamp) -> String {
    let Some(at) = starts else {
        return String::new();
    };
    let form = match at.duration_since(now) < SignedDuration::from_hours(20) {
        true => "%H:%M UTC",
        false => "%Y-%m-%d %H:%M UTC",
    };
    format!(
        "; starts about {}, by how long the last builds took",
        at.strftime(form)
    )
}

/// True where a build was told that it starts about a time that is over: another look says something else.
pub fn is_overdue(build: &ImageBuild, now: Timestamp) -> bool {
    let waiting = build.status.as_ref().and_then(ImageBuildStatus::waiting);
    let starts = waiting.and_then(|waiting| waiting.starts);
    starts.is_some_and(|starts| starts.0 <= now)
}

#[cfg(test)]
#[path = "forecast_tests.rs"]
mod tests;
