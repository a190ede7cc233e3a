//! The course of an attempt, for whoever collects traces: its phases, and the steps of its build.

use serde::{Deserialize, Serialize};

use super::bounds::{NAME, line};
use super::rawjson::State;
use whittle_api::{FailureReason, Phases};

/// Steps that are told: of more the longest ones.
const STEPS: usize = 200;
/// Bytes of a step's name that are told.
const STEP: usize = 200;
/// Milliseconds of a week: nothing that is told lasts longer.
const WEEK: i64 = 604_800_000;

/// What an attempt has come through. All times are milliseconds since 1970.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Course {
    /// The build's number.
    pub build: i64,
    /// When the runner began, and ended.
    pub time: Interval,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Its phases, by the names that they have in `status.phaseMilliseconds`.
    pub phases: Vec<Part>,
    /// Steps of the build, by BuildKit's names.
    pub steps: Vec<Part>,
}

/// From when until when, in milliseconds since 1970.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// The first.
    pub from: i64,
    /// The last; not before the first.
    pub to: i64,
}

/// A part of it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// What was done.
    pub name: String,
    /// When.
    pub time: Interval,
    /// True where the cache answered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cached: bool,
    /// True where it failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
}

impl Course {
    /// Of an attempt that began and ended so. Phases follow one another, the first one from the beginning; steps have the
    /// builder's own times. `clean` takes secrets out of names.
    pub fn of(
        build: i64,
        time: Interval,
        failure: Option<FailureReason>,
        phases: &Phases,
        state: &State,
        clean: &dyn Fn(&str) -> String,
    ) -> Self {
        let mut from = time.from;
        let phases = phases.named().into_iter().filter_map(|(name, took)| {
            let to = from.saturating_add(took?);
            let time = Interval { from, to };
            from = to;
            Some(Part {
                name: name.to_owned(),
                time,
                ..Part::default()
            })
        });
        let phases = phases.collect();
        let mut steps: Vec<Part> = state
            .course()
            .map(|mut step| {
                step.name = clean(&step.name);
                step
            })
            .collect();
        longest(&mut steps);
        let failure = failure.map(|reason| reason.to_string());
        Self {
            build,
            time,
            failure,
            phases,
            steps,
        }
        .bounded()
    }

    /// As a runner may have told it: no more steps and no longer names than there may be, and no time that cannot be.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.time = self.time.bounded();
        if let Some(failure) = &mut self.failure {
            line(failure, NAME);
        }
        self.phases.truncate(Phases::default().named().len());
        longest(&mut self.steps);
        for part in self.phases.iter_mut().chain(&mut self.steps) {
            line(&mut part.name, STEP);
            part.time = part.time.bounded();
        }
        self
    }
}

impl Interval {
    fn bounded(self) -> Self {
        // No earlier than 1970, and before nanoseconds have more digits than a number.
        let from = self.from.clamp(0, i64::MAX / 2_000_000);
        Self {
            from,
            to: self.to.clamp(from, from + WEEK),
        }
    }

    /// Milliseconds.
    fn lasts(self) -> i64 {
        self.to.saturating_sub(self.from)
    }
}

/// Leaves the longest steps, in the order of their beginning.
fn longest(steps: &mut Vec<Part>) {
    if steps.len() > STEPS {
        steps.sort_by_key(|step| std::cmp::Reverse(step.time.lasts()));
        steps.truncate(STEPS);
    }
    steps.sort_by_key(|step| step.time.from);
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGUN: Interval = Interval {
        from: 1_000_000,
        to: 1_009_000,
    };

    fn part(from: i64, to: i64) -> Part {
        Part {
            name: "n".into(),
            time: Interval { from, to },
            ..Part::default()
        }
    }

    #[test]
    fn phases_follow_one_another_and_steps_have_their_own_times_and_no_secrets() {
        let mut state = State::default();
        let lines = [
            r#"{"vertexes":[{"digest":"a","name":"[build 1/2] FROM x","started":"1970-01-01T00:16:42Z","completed":"1970-01-01T00:16:43Z","cached":true}]}"#,
            r#"{"vertexes":[{"digest":"b","name":"[build 2/2] RUN s3cret","started":"1970-01-01T00:16:43.5Z"}]}"#,
            r#"{"vertexes":[{"digest":"b","name":"[build 2/2] RUN s3cret","started":"1970-01-01T00:16:43.5Z","completed":"1970-01-01T00:16:45Z","error":"exit code: 1"}]}"#,
            r#"{"vertexes":[{"digest":"c","name":"never ended","started":"1970-01-01T00:16:43Z"}]}"#,
        ];
        for text in lines {
            state.line(text, &str::to_owned);
        }
        let phases = Phases {
            source: Some(2000),
            solve: Some(3500),
            ..Phases::default()
        };
        let failed = Some(FailureReason::StepFailed);
        let clean = |text: &str| text.replace("s3cret", "***");
        let course = Course::of(7, BEGUN, failed, &phases, &state, &clean);
        let timed = |parts: &[Part]| -> Vec<(String, i64, i64, bool, bool)> {
            let of = |it: &Part| {
                (
                    it.name.clone(),
                    it.time.from,
                    it.time.to,
                    it.cached,
                    it.failed,
                )
            };
            parts.iter().map(of).collect()
        };
        assert_eq!(
            timed(&course.phases),
            [
                ("source".into(), 1_000_000, 1_002_000, false, false),
                ("solve".into(), 1_002_000, 1_005_500, false, false),
            ]
        );
        assert_eq!(
            timed(&course.steps),
            [
                (
                    "[build 1/2] FROM x".into(),
                    1_002_000,
                    1_003_000,
                    true,
                    false
                ),
                (
                    "[build 2/2] RUN ***".into(),
                    1_003_500,
                    1_005_000,
                    false,
                    true
                ),
            ]
        );
        assert_eq!(course.failure.as_deref(), Some("StepFailed"));
    }

    #[test]
    fn what_a_runner_may_tell_is_bounded_in_number_length_and_time() {
        let mut steps: Vec<Part> = (0..1000).map(|at| part(at, 2 * at)).collect();
        steps[3].name = "x\u{1b}[2J".repeat(1000);
        steps.push(part(i64::MIN, i64::MAX));
        steps.push(part(i64::MAX, i64::MIN));
        let course = Course {
            steps,
            time: Interval {
                from: i64::MAX,
                to: 0,
            },
            failure: Some("f".repeat(10_000)),
            phases: vec![part(0, 1); 1000],
            build: 1,
        }
        .bounded();
        assert_eq!(course.steps.len(), STEPS);
        assert_eq!(course.phases.len(), 7);
        assert!(course.failure.is_some_and(|it| it.len() <= NAME));
        for time in course.steps.iter().map(|it| it.time).chain([course.time]) {
            assert!(time.from >= 0 && time.from <= time.to, "{time:?}");
            assert!(time.to.checked_mul(1_000_000).is_some(), "{time:?}");
        }
        // Of many the longest ones, in order.
        assert!(
            course
                .steps
                .windows(2)
                .all(|two| two[0].time.from <= two[1].time.from)
        );
        assert_eq!(course.steps[STEPS - 1].time.from, 999);
    }

    #[test]
    fn a_long_name_is_cut_and_has_no_control_characters() {
        let course = Course {
            steps: vec![Part {
                name: "x\u{1b}[2J".repeat(1000),
                ..part(0, 1)
            }],
            ..Course::default()
        }
        .bounded();
        let name = &course.steps[0].name;
        assert!(name.len() <= STEP && !name.contains('\u{1b}'), "{name}");
    }
}
