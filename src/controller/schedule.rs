//! The times of `triggers.schedule`, as a CronJob reads them
//! (<https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax>).

use croner::Cron;
use croner::parser::{CronParser, Seconds};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{SignedDuration, Timestamp, Zoned};

use whittle_api::{ImageBuild, Schedule};

/// How far back times that have passed are looked for: all that passed before are made up for by the last one.
const MISSED: SignedDuration = SignedDuration::from_hours(24 * 366);

/// Where the schedule stands now, and the time that has passed since it was looked at, where one has: the last of them.
pub fn pass(
    build: &ImageBuild,
    known: Option<&Schedule>,
    now: Timestamp,
) -> (Option<Schedule>, Option<Timestamp>) {
    let Some((of, times)) = times(build) else {
        return (None, None);
    };
    let same = known.filter(|known| known.of == of);
    let Ok(times) = times else {
        let stands = Schedule {
            of,
            last: None,
            next: None,
        };
        return (Some(stands), None);
    };
    // A schedule that was just set begins now; one that is not due has no need to be looked at again.
    if let Some(known) = same
        && known.next.as_ref().is_none_or(|next| next.0 > now)
        && !is_far(known, &times, now)
    {
        return (Some(known.clone()), None);
    }
    let due = same
        .and_then(|known| known.next.as_ref())
        .map(|next| next.0);
    let due = due.filter(|next| *next <= now);
    let passed = due.map(|first| {
        let back = now - MISSED;
        let last = times.before(now).filter(|last| *last > first.max(back));
        last.unwrap_or(first)
    });
    let before = same.and_then(|known| known.last.clone());
    let stands = Schedule {
        of,
        last: passed.map(Time).or(before),
        next: times.after(now).map(Time),
    };
    (Some(stands), passed)
}

/// Why the schedule of this ImageBuild starts nothing, ever.
pub fn trouble(build: &ImageBuild, now: Timestamp) -> Option<String> {
    match times(build)?.1 {
        Err(error) => Some(error),
        Ok(times) if times.after(now).is_none() => {
            let triggers = build.spec.triggers.as_ref()?;
            Some(format!(
                "triggers.schedule {:?} never comes: there is no such date: correct the day and the month",
                triggers.schedule.as_deref()?
            ))
        }
        Ok(_) => None,
    }
}

/// True where the next time was written by a clock that was ahead: the real one comes sooner.
fn is_far(known: &Schedule, times: &Times, now: Timestamp) -> bool {
    let next = known.next.as_ref().map(|next| next.0);
    next != times.after(now)
}

/// The schedule with its time zone as one text, and its times; none where there is no schedule.
fn times(build: &ImageBuild) -> Option<(String, Result<Times, String>)> {
    let triggers = build.spec.triggers.as_ref()?;
    let schedule = triggers.schedule.as_deref()?;
    let zone = triggers.time_zone.as_deref().unwrap_or("UTC");
    Some((format!("{schedule} {zone}"), Times::read(schedule, zone)))
}

struct Times {
    cron: Cron,
    zone: TimeZone,
}

impl Times {
    fn read(schedule: &str, zone: &str) -> Result<Self, String> {
        let zone = TimeZone::get(zone).map_err(|_| {
            format!(
                "triggers.timeZone {zone:?} not found: write a name of the IANA database, for example \
                 Europe/Berlin"
            )
        })?;
        let parser = CronParser::builder().seconds(Seconds::Disallowed).build();
        // In cron of Unix `?` is `*`, and so it is for a CronJob.
        let cron = parser.parse(&schedule.replace('?', "*").replace("@midnight", "@daily")).map_err(|error| {
            format!(
                "triggers.schedule {schedule:?} is invalid: {error}: write minute, hour, day of the month, \
                 month and day of the week, for example 0 3 * * 1"
            )
        })?;
        Ok(Self { cron, zone })
    }

    fn after(&self, now: Timestamp) -> Option<Timestamp> {
        let now = Zoned::new(now, self.zone.clone());
        let next = self.cron.find_next_occurrence(&now, false).ok()?;
        Some(next.timestamp())
    }

    /// The last one that has passed by `now`.
    fn before(&self, now: Timestamp) -> Option<Timestamp> {
        let now = Zoned::new(now, self.zone.clone());
        let last = self.cron.find_previous_occurrence(&now, true).ok()?;
        Some(last.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use whittle_api::Triggers;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn build(schedule: &str, zone: Option<&str>) -> ImageBuild {
        let mut build = fixtures::inline();
        build.spec.triggers = Some(Triggers {
            schedule: Some(schedule.into()),
            time_zone: zone.map(str::to_owned),
            ..Triggers::default()
        });
        build
    }

    /// The times that come after this one.
    fn after(schedule: &str, zone: &str, from: &str, number: usize) -> Vec<String> {
        let times = Times::read(schedule, zone).unwrap();
        let mut now = at(from);
        let next = || {
            now = times.after(now)?;
            Some(now.to_string())
        };
        std::iter::from_fn(next).take(number).collect()
    }

    #[test]
    fn schedules_are_read_as_a_cron_job_reads_them() {
        let from = "2026-11-26T00:00:00Z"; // a Thursday
        for (schedule, next) in [
            ("0 3 * * 1", "2026-11-30T03:00:00Z"),
            ("0 3 * * MON", "2026-11-30T03:00:00Z"),
            ("0 3 * * 7", "2026-11-29T03:00:00Z"),
            ("0 3 * * 0", "2026-11-29T03:00:00Z"),
            ("*/20 * * * *", "2026-11-26T00:20:00Z"),
            ("5,35 1-2 ? * ?", "2026-11-26T01:05:00Z"),
            ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
            // Both the day of the month and that of the week: either will do.
            ("0 0 13 * 5", "2026-11-27T00:00:00Z"),
            ("@weekly", "2026-11-29T00:00:00Z"),
            ("@hourly", "2026-11-26T01:00:00Z"),
            ("@midnight", "2026-11-27T00:00:00Z"),
            ("@yearly", "2027-01-01T00:00:00Z"),
            ("0 0 1 jan *", "2027-01-01T00:00:00Z"),
        ] {
            assert_eq!(after(schedule, "UTC", from, 1), [next], "{schedule}");
        }
    }

    #[test]
    fn where_the_clocks_change_no_run_is_lost_and_none_is_twice() {
        // The hour from two to three does not exist on the 29th, and is there twice on the 25th.
        let spring = after("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2);
        assert_eq!(spring.len(), 2);
        assert!(spring[0].starts_with("2026-03-29T01:"), "{spring:?}");
        assert_eq!(spring[1], "2026-03-30T00:30:00Z");
        let autumn = after("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert!(autumn[0].starts_with("2026-10-25T0"), "{autumn:?}");
        assert_eq!(autumn[1], "2026-10-26T01:30:00Z");
    }

    #[test]
    fn what_never_comes_or_is_nowhere_is_said() {
        let now = at("2026-11-26T00:00:00Z");
        assert_eq!(trouble(&build("0 3 * * 1", None), now), None);
        assert_eq!(trouble(&fixtures::inline(), now), None);
        let never = trouble(&build("0 0 30 2 *", None), now).unwrap();
        assert!(never.contains("never comes"), "{never}");
        let nowhere = trouble(&build("0 3 * * 1", Some("Europe/Atlantis")), now).unwrap();
        assert!(nowhere.contains("Atlantis\" not found"), "{nowhere}");
        let broken = trouble(&build("0 99 * * 1", None), now).unwrap();
        assert!(broken.contains("invalid"), "{broken}");
        // And nothing begins.
        for build in [
            build("0 0 30 2 *", None),
            build("0 3 * * 1", Some("Nowhere")),
        ] {
            let (stands, run) = pass(&build, None, now);
            let stands = stands.unwrap();
            assert_eq!((stands.next.clone(), run), (None, None));
            assert_eq!(
                pass(&build, Some(&stands), now),
                (Some(stands.clone()), None)
            );
        }
    }

    #[test]
    fn a_time_that_was_written_under_a_clock_that_was_ahead_is_mended() {
        let build = build("0 3 * * *", None);
        let (ahead, _) = pass(&build, None, at("2030-01-01T00:00:00Z"));
        let (stands, run) = pass(&build, ahead.as_ref(), at("2026-11-26T00:00:00Z"));
        let next = stands.unwrap().next.unwrap().0;
        assert_eq!((next, run), (at("2026-11-26T03:00:00Z"), None));
    }
}
