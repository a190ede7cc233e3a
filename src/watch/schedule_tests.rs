use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn git(id: &str, url: &str, interval: u64) -> Watched {
    with_secret(id, url, interval, None)
}

fn with_secret(id: &str, url: &str, interval: u64, secret: Option<&str>) -> Watched {
    Watched {
        folder: None,
        id: id.into(),
        interval_seconds: interval,
        what: What::Git {
            url: url.into(),
            reference: None,
            secret: secret.map(str::to_owned),
        },
    }
}

/// The part of a URL before its first slash.
fn host(what: &What) -> String {
    let What::Git { url, .. } = what else {
        panic!("git");
    };
    url.split('/').next().unwrap().to_owned()
}

fn set(list: &[Watched]) -> Schedule {
    let mut schedule = Schedule::new(1);
    schedule.set(list, host, Duration::ZERO);
    schedule
}

fn found() -> Looked {
    Looked {
        outcome: Outcome::Found {
            revision: "main@sha1:00".into(),
        },
        answered: true,
        retry_after: None,
        took: at(1),
    }
}

fn failed(reason: Reason) -> Looked {
    Looked {
        outcome: Outcome::Failed {
            reason,
            message: "x".into(),
        },
        answered: false,
        ..found()
    }
}

impl Schedule {
    /// Takes the one look that is due and ends it; nothing where none is due.
    fn one(&mut self, looked: &Looked, now: Duration) -> Vec<Seen> {
        let looks = self.take(now);
        let [look] = looks.as_slice() else {
            assert_eq!(looks, []);
            return vec![];
        };
        self.done(look, &host(&look.what), looked, now)
    }

    /// How long until the next look from `now` on.
    fn pause(&self, now: Duration) -> Duration {
        self.wake(now).expect("something is due") - now
    }
}

fn is_about(pause: Duration, expected: Duration) -> bool {
    pause >= expected.mul_f64(0.9) && pause <= expected.mul_f64(1.1)
}

#[test]
fn sources_that_ask_the_same_are_asked_once_and_each_is_told() {
    let mut schedule = set(&[
        git("a", "h/x", 300),
        git("b", "h/x", 60),
        with_secret("c", "h/x", 60, Some("other")),
    ]);
    let looks = schedule.take(FIRST);
    assert_eq!(looks.len(), 2);
    let mut told = vec![];
    for look in looks {
        told.push(
            schedule
                .done(&look, "h", &found(), FIRST)
                .into_iter()
                .map(|seen| seen.id)
                .collect::<Vec<_>>(),
        );
    }
    told.sort();
    assert_eq!(told, [vec!["a", "b"], vec!["c"]]);
    // The shortest interval holds.
    assert!(schedule.pause(FIRST) <= MINUTE.mul_f64(1.1));
}

#[test]
fn first_looks_are_spread_and_further_ones_come_after_the_interval() {
    let list: Vec<_> = (0..100)
        .map(|n| git(&format!("{n}"), &format!("h{n}/x"), 600))
        .collect();
    let mut schedule = set(&list);
    assert!(schedule.take(Duration::ZERO).len() < 10);
    assert!(schedule.pause(Duration::ZERO) < at(2));
    let mut one = set(&[git("a", "h/x", 600)]);
    assert_eq!(one.one(&found(), FIRST).len(), 1);
    assert!(
        is_about(one.pause(FIRST), at(600)),
        "{:?}",
        one.pause(FIRST)
    );
    assert_eq!(one.one(&found(), at(300)), []);
}

#[test]
fn failures_back_off_up_to_an_hour_and_one_answer_ends_it() {
    let mut schedule = set(&[git("a", "h/x", 60)]);
    let mut now = FIRST;
    let mut pauses = vec![];
    for failed_before in 0..10 {
        let told = schedule.one(&failed(Reason::Unreachable), now).len();
        assert_eq!(told, usize::from(failed_before > 0));
        let pause = schedule.pause(now);
        pauses.push(pause);
        now += pause;
    }
    assert!(
        is_about(pauses[0], MINUTE) && is_about(pauses[1], 2 * MINUTE),
        "{pauses:?}"
    );
    assert!(is_about(pauses[9], LONGEST), "{pauses:?}");
    schedule.one(&found(), now);
    assert!(is_about(schedule.pause(now), MINUTE));
    // A source with a longer interval is not asked more often where it fails.
    let mut seldom = set(&[git("a", "h/x", 86_400)]);
    seldom.one(&failed(Reason::Denied), FIRST);
    assert!(is_about(seldom.pause(FIRST), at(86_400)));
}

#[test]
fn a_fault_that_passes_is_tried_again_soon_also_where_the_interval_is_long() {
    let mut schedule = set(&[git("a", "h/x", 86_400)]);
    schedule.one(&failed(Reason::Unreachable), FIRST);
    assert!(is_about(schedule.pause(FIRST), MINUTE));
    // And what was wanted, where there is none: for a while.
    let mut wanted = set(&[git("a", "h/x", 0)]);
    let mut now = FIRST;
    wanted.want(&["a".into()], now);
    for tries in 0..TRIES {
        let told = wanted.one(&failed(Reason::Unreachable), now).len();
        assert_eq!(told, usize::from(tries > 0));
        wanted.set(&[git("a", "h/x", 0)], host, now);
        now += wanted.pause(now);
    }
    assert_eq!(wanted.one(&failed(Reason::Unreachable), now).len(), 1);
    assert_eq!(wanted.wake(now), None);
    wanted.want(&["a".into()], now);
    wanted.one(&found(), now);
    assert_eq!(wanted.wake(now), None);
}

#[test]
fn a_fault_that_passes_is_told_at_the_second_look_in_a_row_and_any_other_at_once() {
    let mut schedule = set(&[git("a", "h/x", 60)]);
    let mut now = FIRST;
    let mut look = |looked: &Looked| {
        schedule.want(&["a".into()], now);
        let seen = schedule.one(looked, now);
        now += MINUTE;
        seen.len()
    };
    let away = failed(Reason::Unreachable);
    // One alone, after an answer, whatever that was.
    let nothing = Looked {
        answered: true,
        ..failed(Reason::NotFound)
    };
    for answer in [found(), nothing] {
        assert_eq!((look(&away), look(&answer), look(&away)), (0, 1, 0));
        assert_eq!((look(&away), look(&away), look(&found())), (1, 1, 1));
    }
    for reason in [
        Reason::NotFound,
        Reason::Denied,
        Reason::RateLimited,
        Reason::Invalid,
        Reason::NoMatch,
    ] {
        let mut schedule = set(&[git("a", "h/x", 60)]);
        assert_eq!(schedule.one(&failed(reason), FIRST).len(), 1, "{reason:?}");
    }
}

#[test]
fn what_the_controller_asked_for_is_its_answer_also_after_a_look_of_which_nothing_was_told() {
    let mut schedule = set(&[git("a", "h/x", 60), git("b", "h/x", 60)]);
    schedule.want(&["a".into()], FIRST);
    assert_eq!(schedule.one(&failed(Reason::Unreachable), FIRST), []);
    schedule.set(&[git("a", "h/x", 60), git("b", "h/x", 60)], host, FIRST);
    let now = FIRST + schedule.pause(FIRST);
    let wanted = |seen: Vec<Seen>| seen.iter().map(|seen| seen.wanted).collect::<Vec<_>>();
    assert_eq!(wanted(schedule.one(&found(), now)), [true, false]);
    let now = now + schedule.pause(now);
    assert_eq!(wanted(schedule.one(&found(), now)), [false, false]);
}

#[test]
fn what_is_not_there_yet_is_looked_for_as_often_as_what_is() {
    let mut schedule = set(&[git("a", "h/x", 60)]);
    let nothing = Looked {
        answered: true,
        ..failed(Reason::NoMatch)
    };
    let mut now = FIRST;
    for _ in 0..3 {
        schedule.one(&nothing, now);
        assert!(is_about(schedule.pause(now), MINUTE));
        now += schedule.pause(now);
    }
}

#[test]
fn what_is_wanted_is_looked_at_at_once_past_its_interval_and_its_failures() {
    let mut schedule = set(&[
        git("a", "h/x", 3000),
        git("b", "h/x", 3000),
        git("c", "h/y", 0),
    ]);
    assert_eq!(schedule.one(&failed(Reason::Denied), FIRST).len(), 2);
    let now = FIRST + at(1);
    assert_eq!(schedule.take(now), []);
    schedule.want(&["a".into()], now);
    let seen = schedule.one(&found(), now);
    let wanted: Vec<_> = seen
        .iter()
        .map(|seen| (seen.id.as_str(), seen.wanted))
        .collect();
    assert_eq!(wanted, [("a", true), ("b", false)]);
    // One without an interval is looked at then alone.
    schedule.want(&["c".into()], now);
    assert_eq!(schedule.one(&found(), now).len(), 1);
    assert_eq!(schedule.take(now), []);
}

#[test]
fn what_is_wanted_while_it_is_looked_at_is_looked_at_again() {
    let mut schedule = set(&[git("a", "h/x", 3000)]);
    let looks = schedule.take(FIRST);
    schedule.want(&["a".into()], FIRST);
    assert_eq!(schedule.take(FIRST), []);
    assert!(!schedule.done(&looks[0], "h", &found(), FIRST)[0].wanted);
    assert!(schedule.one(&found(), FIRST)[0].wanted);
    assert_eq!(schedule.take(FIRST), []);
}

#[test]
fn what_is_wanted_before_it_is_in_the_list_is_looked_at_once_it_is() {
    let mut schedule = set(&[]);
    schedule.want(&["a".into(), "b".into()], at(1));
    schedule.set(&[git("a", "h/x", 3000)], host, at(60));
    assert!(schedule.one(&found(), at(60))[0].wanted);
    // And not for ever.
    schedule.want(&[], at(1) + EARLY);
    schedule.set(&[git("a", "h/x", 3000), git("b", "h/y", 0)], host, at(400));
    assert_eq!(schedule.take(at(400)), []);
}

#[test]
fn a_host_that_is_asked_too_often_is_left_alone_by_all_and_also_by_what_is_wanted() {
    let mut schedule = set(&[
        git("a", "h/x", 60),
        git("b", "h/y", 60),
        git("c", "other/x", 0),
    ]);
    let looks = schedule.take(FIRST);
    assert_eq!(looks.len(), 2);
    let limited = Looked {
        retry_after: Some(at(300)),
        ..failed(Reason::RateLimited)
    };
    schedule.done(&looks[0], "h", &limited, FIRST);
    schedule.done(&looks[1], "h", &found(), FIRST);
    schedule.want(&["a".into(), "b".into(), "c".into()], FIRST);
    assert_eq!(schedule.one(&found(), FIRST)[0].id, "c");
    assert_eq!(schedule.pause(FIRST), at(300));
    assert_eq!(schedule.take(FIRST + at(300)).len(), 2);
}

#[test]
fn a_host_that_does_not_say_how_long_is_left_alone_for_twice_as_long_each_time() {
    let mut schedule = set(&[git("a", "h/x", 1)]);
    let mut now = FIRST;
    for expected in [60, 120, 240] {
        schedule.want(&["a".into()], now);
        schedule.one(&failed(Reason::RateLimited), now);
        schedule.want(&["a".into()], now);
        assert_eq!(schedule.pause(now), at(expected));
        now += at(expected);
    }
    // A server cannot ask for more than an hour.
    let ever = Looked {
        retry_after: Some(Duration::MAX),
        ..failed(Reason::RateLimited)
    };
    schedule.one(&ever, now);
    schedule.want(&["a".into()], now);
    assert_eq!(schedule.pause(now), LONGEST);
}

#[test]
fn looks_at_a_time_are_bounded_for_a_host_and_in_all() {
    let list: Vec<_> = (0..100)
        .map(|n| git(&format!("{n}"), &format!("h{}/{n}", n / 10), 60))
        .collect();
    let mut schedule = set(&list);
    let looks = schedule.take(FIRST);
    assert_eq!(looks.len(), ALL);
    for n in 0..10 {
        let of_host = looks
            .iter()
            .filter(|look| host(&look.what) == format!("h{n}"));
        assert!(of_host.count() <= HOST);
    }
    assert_eq!(schedule.take(FIRST), []);
    schedule.done(&looks[0], &host(&looks[0].what), &found(), FIRST);
    assert_eq!(schedule.take(FIRST).len(), 1);
}

#[test]
fn hosts_that_were_slow_leave_room_for_the_others() {
    let mut list: Vec<_> = (0..40)
        .map(|n| git(&format!("{n}"), &format!("slow{n}/x"), 1))
        .collect();
    let mut schedule = set(&list);
    let mut now = FIRST;
    let slow = Looked {
        took: at(30),
        ..found()
    };
    for _ in 0..3 {
        for look in schedule.take(now) {
            schedule.done(&look, &host(&look.what), &slow, now);
        }
    }
    now += MINUTE;
    assert_eq!(schedule.take(now).len(), SLOW);
    list.push(git("quick", "quick/x", 1));
    schedule.set(&list, host, now);
    now += MINUTE;
    let looks = schedule.take(now);
    assert_eq!(looks.len(), 1);
    assert_eq!(host(&looks[0].what), "quick");
}

#[test]
fn a_new_list_keeps_what_stays_and_forgets_what_goes() {
    let mut schedule = set(&[git("a", "h/x", 600), git("b", "h/y", 600)]);
    let looks = schedule.take(FIRST);
    let now = at(20);
    schedule.set(&[git("a", "h/x", 600)], host, now);
    for look in &looks {
        let seen = schedule.done(look, "h", &found(), now);
        let gone = look.what == git("b", "h/y", 600).what;
        assert_eq!(seen.is_empty(), gone);
    }
    assert_eq!(schedule.hosts["h"].looking, 0);
    let before = schedule.wake(now);
    schedule.set(&[git("a", "h/x", 600)], host, now);
    assert_eq!(schedule.wake(now), before);
    // Another source of the same is told soon, and a shorter interval holds at once.
    let list = [git("a", "h/x", 600), git("c", "h/x", 600)];
    assert_eq!(schedule.set(&list, host, now), ["c"]);
    assert_eq!(schedule.one(&found(), now).len(), 2);
    schedule.set(&[git("a", "h/x", 60), git("c", "h/x", 600)], host, now);
    assert!(schedule.pause(now) <= MINUTE);
    schedule.set(&[], host, now);
    assert_eq!((schedule.wake(now), schedule.hosts.len()), (None, 0));
}

#[test]
fn a_secret_that_has_changed_is_tried_at_once_where_it_failed() {
    let mut schedule = set(&[
        with_secret("a", "h/x", 3000, Some("s")),
        with_secret("b", "h/y", 3000, Some("other")),
    ]);
    for look in schedule.take(FIRST) {
        schedule.done(&look, "h", &failed(Reason::Denied), FIRST);
    }
    schedule.changed("s", at(20));
    let seen = schedule.one(&found(), at(20));
    assert_eq!(seen[0].id, "a");
    schedule.changed("s", at(30));
    assert_eq!(schedule.take(at(30)), []);
}

#[test]
fn no_interval_and_no_wish_is_too_long_to_reckon_with() {
    let mut schedule = set(&[git("a", "h/x", u64::MAX)]);
    let ever = Looked {
        retry_after: Some(Duration::MAX),
        ..failed(Reason::Denied)
    };
    schedule.one(&ever, FIRST);
    assert!(is_about(schedule.pause(FIRST), at(MONTH)));
}

#[test]
fn what_is_not_mounted_yet_is_waited_for_and_then_looked_at_without() {
    let held = || {
        let mut schedule = set(&[with_secret("a", "h/x", 60, Some("s"))]);
        schedule.want(&["a".into()], at(1));
        schedule
    };
    // Takes the look that is due; true where it begins.
    let begins = |schedule: &mut Schedule, lacks: bool, now: Duration| {
        let looks = schedule.take(now);
        let begins = !schedule.waits(&looks[0], "h", lacks, now);
        (looks[0].clone(), begins)
    };
    let mut schedule = held();
    assert!(!begins(&mut schedule, true, at(1)).1);
    // It takes no place, and is not due again at once.
    assert_eq!(schedule.hosts["h"].looking, 0);
    assert_eq!(schedule.take(at(5)), []);
    assert_eq!(schedule.wake(at(5)), Some(at(1) + MOUNTED));
    // It comes: the look is the answer to who asked.
    let now = at(1) + MOUNTED;
    let (look, true) = begins(&mut schedule, false, now) else {
        panic!("all is mounted");
    };
    assert!(schedule.done(&look, "h", &found(), now)[0].wanted);
    // It does not come.
    let (mut schedule, mut now) = (held(), at(1));
    let look = loop {
        let (look, begins) = begins(&mut schedule, true, now);
        if begins {
            break look;
        }
        now += MOUNTED;
    };
    assert_eq!(now, at(1) + MOUNTS);
    assert!(schedule.done(&look, "h", &failed(Reason::Denied), now)[0].wanted);
    // From then on it is looked at as often as others that fail, and at once when it comes after all.
    assert!(is_about(schedule.pause(now), at(120)));
    schedule.changed("s", now);
    assert!(begins(&mut schedule, true, now).1);
}
