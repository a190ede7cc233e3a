//! Which build is followed, where it stands, and what became of it: pure.
//!
//! A build is known by its number once it has begun, and its end by its entry in `status.history`: the next one may have begun in the
//! same write that ended it.

use kube::ResourceExt;
use whittle_api::{ImageBuild, ImageBuildStatus, RECONCILING, REQUESTED_AT, is_true};

use super::status::{State, is_behind};

/// The result of a build that a newer one has taken the place of.
const SUPERSEDED: &str = "Superseded";

/// Which build is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// That of this value of the annotation whittle.dev/requestedAt, or of one that has taken its place before it was seen.
    Request(String),
    /// That of this generation of the spec, or none where nothing of it has to be built.
    Generation(i64),
    /// The one that runs or waits now, or else the last one.
    Current,
}

/// Where the build that is followed stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not begun.
    Before,
    /// It waits, or runs.
    UnderWay,
    /// A newer one has taken its place, and is followed from now on: the numbers of both.
    Superseded(i64, i64),
    /// It has ended, or there is nothing to build.
    Ended(Outcome),
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has succeeded, or the image of the spec is there already.
    Succeeded,
    /// It has failed, for this reason.
    Failed(String),
    /// Nothing is built: the ImageBuild is suspended.
    Suspended,
}

/// A build on its way.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    until: Until,
    /// Its number, once it has begun.
    pub(super) number: Option<i64>,
    /// True where none had to begin.
    pub(super) nothing: bool,
}

impl Followed {
    pub(super) fn new(until: &Until) -> Self {
        Self {
            until: until.clone(),
            number: None,
            nothing: false,
        }
    }

    /// Takes in what the object says now.
    pub(super) fn see(&mut self, build: &ImageBuild) -> Phase {
        let Some(status) = &build.status else {
            return Phase::Before;
        };
        let Some(number) = self.number else {
            if !self.has_begun(build, status) {
                return Phase::Before;
            }
            self.number = status.build;
            self.nothing = self.needs_nothing(status);
            return match self.number {
                Some(number) => self.of_number(build, status, number),
                None => Phase::Ended(outcome(build, status, None)),
            };
        };
        self.of_number(build, status, number)
    }

    fn of_number(&mut self, build: &ImageBuild, status: &ImageBuildStatus, number: i64) -> Phase {
        let last = status.build.unwrap_or(number);
        if last == number && status.current.is_some() {
            return Phase::UnderWay;
        }
        let entry = status.history.iter().find(|it| it.build == number);
        let result = entry.map(|it| it.result.as_str());
        // Without a history it cannot be told apart from the next one.
        let superseded = match result {
            Some(result) => result == SUPERSEDED,
            None => status.current.is_some(),
        };
        if superseded && last > number {
            self.number = Some(last);
            return Phase::Superseded(number, last);
        }
        let result = result.filter(|_| !self.nothing);
        Phase::Ended(outcome(build, status, result))
    }

    fn has_begun(&self, build: &ImageBuild, status: &ImageBuildStatus) -> bool {
        match &self.until {
            Until::Request(value) => {
                // Its first 256 characters stand there.
                let handled = status.last_handled_request.as_deref().unwrap_or_default();
                let is = |value: &str| !handled.is_empty() && value.starts_with(handled);
                // One that was overwritten before it was seen is never handled: the one in its place builds the same.
                let instead = build.annotations().get(REQUESTED_AT);
                is(value) || instead.is_some_and(|instead| instead != value && is(instead))
            }
            Until::Generation(generation) => {
                let seen = status.observed_generation.unwrap_or(-1) >= *generation;
                let current = status.current.as_ref();
                seen && match current {
                    Some(current) => current.generation >= *generation,
                    None => rests(build, status),
                }
            }
            Until::Current => {
                !is_behind(build, status) && (status.current.is_some() || rests(build, status))
            }
        }
    }

    /// True where the spec is seen, and no build of it was needed.
    fn needs_nothing(&self, status: &ImageBuildStatus) -> bool {
        let newest = status.history.first().map(|it| it.generation);
        match &self.until {
            Until::Generation(generation) => {
                status.current.is_none() && newest.is_none_or(|it| it < *generation)
            }
            _ => false,
        }
    }
}

/// True where nothing is about to begin. A build is due, and has not begun, while the Pod of the one before ends.
pub(super) fn rests(build: &ImageBuild, status: &ImageBuildStatus) -> bool {
    build.spec.suspend || !is_true(&status.conditions, RECONCILING)
}

/// What became of it, by its entry in the history, or by the object where there is none.
fn outcome(build: &ImageBuild, status: &ImageBuildStatus, result: Option<&str>) -> Outcome {
    match result {
        Some("Succeeded") => Outcome::Succeeded,
        Some(result) => Outcome::Failed(result.to_owned()),
        None => match State::of(build) {
            State::Failed => Outcome::Failed(
                status
                    .failure
                    .as_ref()
                    .map(|it| it.reason.to_string())
                    .unwrap_or_default(),
            ),
            State::Suspended => Outcome::Suspended,
            _ => Outcome::Succeeded,
        },
    }
}

#[cfg(test)]
#[path = "followed_tests.rs"]
mod tests;
