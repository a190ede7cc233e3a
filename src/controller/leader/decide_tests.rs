use super::*;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::SignedDuration;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn candidate(name: &str) -> Candidate {
    Candidate {
        name: name.into(),
        address: "10.0.0.1:8443".parse().ok(),
    }
}

fn noon() -> Timestamp {
    "2026-11-26T12:00:00Z".parse().unwrap()
}

fn observed(lease: Option<&Lease>) -> Observed<'_> {
    Observed {
        lease,
        existed: lease.is_some(),
        unchanged: Duration::ZERO,
        leads: false,
    }
}

#[track_caller]
fn writes(step: Step) -> Lease {
    match step {
        Step::Write(lease) => *lease,
        other => panic!("nothing is written: {other:?}"),
    }
}

/// The Lease as this one holds it since noon.
fn held_by(name: &str) -> Lease {
    writes(decide(&observed(None), &candidate(name), noon()))
}

fn spec(lease: &Lease) -> &LeaseSpec {
    lease.spec.as_ref().unwrap()
}

#[test]
fn the_first_makes_the_lease_and_says_where_it_is() {
    let lease = held_by("a");
    assert_eq!(holder(&lease), Some("a"));
    assert_eq!(address(&lease), "10.0.0.1:8443".parse().ok());
    assert_eq!(spec(&lease).lease_duration_seconds, Some(15));
    assert_eq!(spec(&lease).lease_transitions, Some(0));
}

#[test]
fn who_holds_it_renews_also_after_its_container_has_started_again() {
    let lease = held_by("a");
    for leads in [true, false] {
        let observed = Observed {
            leads,
            ..observed(Some(&lease))
        };
        let renewed = writes(decide(&observed, &candidate("a"), noon() + HOUR));
        assert_eq!(spec(&renewed).acquire_time, Some(MicroTime(noon())));
        assert_eq!(spec(&renewed).renew_time, Some(MicroTime(noon() + HOUR)));
        assert_eq!(spec(&renewed).lease_transitions, Some(0));
    }
}

#[test]
fn a_standby_takes_over_once_nothing_was_renewed_for_the_whole_term() {
    let lease = held_by("a");
    let after = |unchanged| {
        let observed = Observed {
            unchanged,
            ..observed(Some(&lease))
        };
        decide(&observed, &candidate("b"), noon())
    };
    let almost = TERM.checked_sub(Duration::from_millis(1)).unwrap();
    assert_eq!(after(almost), Step::Follow);
    let taken = writes(after(TERM));
    assert_eq!(holder(&taken), Some("b"));
    assert_eq!(spec(&taken).lease_transitions, Some(1));
}

#[test]
fn a_lease_that_was_released_is_had_at_once() {
    let released = released(&held_by("a"), noon());
    assert_eq!((holder(&released), address(&released)), (None, None));
    let taken = writes(decide(&observed(Some(&released)), &candidate("b"), noon()));
    assert_eq!(holder(&taken), Some("b"));
    assert_eq!(spec(&taken).lease_transitions, Some(1));
    let mut empty = released;
    empty.spec.as_mut().unwrap().holder_identity = Some(String::new());
    writes(decide(&observed(Some(&empty)), &candidate("b"), noon()));
}

#[test]
fn a_leader_that_finds_another_one_or_nobody_in_its_place_ends() {
    for lease in [held_by("b"), released(&held_by("a"), noon())] {
        let observed = Observed {
            leads: true,
            // However long it stands there.
            unchanged: TERM * 2,
            ..observed(Some(&lease))
        };
        assert_eq!(decide(&observed, &candidate("a"), noon()), Step::End);
    }
}

#[test]
fn of_a_lease_that_was_deleted_the_leader_makes_another_and_a_standby_leaves_it_the_time_for_that()
{
    let gone = Observed {
        existed: true,
        ..observed(None)
    };
    assert_eq!(decide(&gone, &candidate("b"), noon()), Step::Follow);
    let leader = Observed {
        leads: true,
        ..observed(None)
    };
    assert_eq!(
        holder(&writes(decide(&leader, &candidate("a"), noon()))),
        Some("a")
    );
    let late = Observed {
        existed: true,
        unchanged: TERM,
        ..observed(None)
    };
    writes(decide(&late, &candidate("b"), noon()));
}

#[test]
fn a_holder_of_another_version_has_the_term_that_it_names_within_bounds() {
    for (seconds, waits) in [(40, 40), (1, 15), (-5, 15), (i32::MAX, 60)] {
        let mut lease = held_by("a");
        lease.spec.as_mut().unwrap().lease_duration_seconds = Some(seconds);
        assert_eq!(term(&lease), Duration::from_secs(waits), "{seconds}");
    }
}

#[test]
fn an_hour_more_or_less_on_the_holders_clock_is_a_renewal_as_any_other() {
    let mut sight = Sight::default();
    let begin = Instant::now();
    let me = candidate("b");
    let mut lease = held_by("a");
    // Renewed every ten seconds, each time at another hour; this one's own clock jumps, too.
    for (round, hours) in (0..).zip([0, 1, -1, 1000, -1000, 0]) {
        let now = begin + Duration::from_secs(10) * round;
        let at = noon() + HOUR * hours;
        lease.spec.as_mut().unwrap().renew_time = Some(MicroTime(at));
        let observed = sight.see(Some(&lease), false, now);
        assert_eq!(decide(&observed, &me, noon() - HOUR * hours), Step::Follow);
    }
    // Nor does it wait longer for one that was renewed in the future.
    let last = begin + Duration::from_secs(50);
    let observed = sight.see(Some(&lease), false, last + TERM);
    writes(decide(&observed, &me, noon() - HOUR * 1000));
}

#[test]
fn what_others_write_beside_it_is_no_renewal() {
    let (mut sight, begin) = (Sight::default(), Instant::now());
    let mut lease = held_by("a");
    sight.see(Some(&lease), false, begin);
    lease.metadata.resource_version = Some("2".into());
    lease.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
    let observed = sight.see(Some(&lease), false, begin + TERM);
    assert_eq!(observed.unchanged, TERM);
}

#[test]
fn only_one_address_of_another_pod_is_passed_on_to() {
    let says = |text: &str| {
        address(&Lease {
            metadata: ObjectMeta {
                annotations: Some([(LEADER_ADDRESS.to_owned(), text.to_owned())].into()),
                ..ObjectMeta::default()
            },
            spec: None,
        })
    };
    for text in ["10.1.2.3:8443", "[fd00::1]:8443"] {
        assert_eq!(says(text), text.parse().ok(), "{text}");
    }
    for text in [
        "",
        "10.1.2.3",
        "10.1.2.3:0",
        "whittle:8443",
        "10.1.2.3:8443,10.1.2.4:8443",
        "169.254.169.254:80",
        "[::ffff:169.254.169.254]:80",
        "[fe80::1]:8443",
        "0.0.0.0:8443",
        "[::]:8443",
        "224.0.0.1:8443",
        "255.255.255.255:8443",
    ] {
        assert_eq!(says(text), None, "{text}");
    }
    assert_eq!(address(&Lease::default()), None);
}

/// Numbers that are the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// A process, as `Election` drives one.
struct Process {
    me: Candidate,
    sight: Sight,
    /// It leads, and its gate is open until then.
    open: Option<Instant>,
    /// It goes on in this round.
    stopped: u64,
    clock: SignedDuration,
}

impl Process {
    fn starts(&mut self) {
        self.sight = Sight::default();
        self.open = None;
    }

    /// Looks once, and writes; true where it leads from now on and did not before.
    fn looks(&mut self, lease: &mut Option<Lease>, since: Duration, now: Instant) -> bool {
        let leads = self.open.is_some();
        let observed = self.sight.see(lease.as_ref(), leads, now);
        match decide(&observed, &self.me, noon() + self.clock + since) {
            Step::Write(written) => {
                *lease = Some(*written);
                self.open = Some(now + DEADLINE);
                !leads
            }
            Step::Follow => false,
            Step::End => {
                self.starts();
                false
            }
        }
    }
}

#[test]
fn of_three_whose_clocks_jump_and_that_stop_and_go_on_never_two_may_write() {
    let mut chance = Chance(7);
    let mut all = ["a", "b", "c"].map(|name| Process {
        me: candidate(name),
        sight: Sight::default(),
        open: None,
        stopped: 0,
        clock: SignedDuration::ZERO,
    });
    let (begin, mut lease, mut changes, mut idle) = (Instant::now(), None, 0, 0);
    for round in 0..50_000_u64 {
        let since = Duration::from_millis(500) * u32::try_from(round).unwrap();
        let now = begin + since;
        for process in &mut all {
            if process.stopped > round {
                continue;
            }
            match chance.below(200) {
                // A node that hangs, or an API server that cannot be reached from there: for 40 s at most.
                0..=3 => process.stopped = round + chance.below(80),
                4 => process.starts(),
                5..=9 => {
                    let hours = i64::try_from(chance.below(4001)).unwrap() - 2000;
                    process.clock = SignedDuration::from_hours(hours);
                }
                // It looks every two seconds or so.
                10..=60 => {
                    if process.open.is_some_and(|until| until <= now) {
                        process.starts();
                    }
                    changes += u32::from(process.looks(&mut lease, since, now));
                }
                _ => {}
            }
        }
        // One that is stopped may be in the middle of a step.
        let open = all.iter().filter(|it| it.open.is_some_and(|t| t > now));
        let open = open.count();
        assert!(open <= 1, "round {round}");
        idle += u32::from(open == 0);
    }
    assert!(changes > 200, "{changes}");
    assert!(idle < 25_000, "somebody leads most of the time: {idle}");
}
