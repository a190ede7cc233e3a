use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use whittle_api::{Autoscale, BuilderStatus, ReplicasStatus};

use super::*;
use crate::fixtures;

const KEYS: usize = 1000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn keys() -> impl Iterator<Item = String> {
    (0..KEYS).map(|n| format!("git https://git.example.com/team/app-{n}\nserver"))
}

/// The first choice of each key among so many replicas.
fn choices(replicas: i32) -> Vec<i32> {
    keys().map(|key| preference(&key, 0..replicas)[0]).collect()
}

fn moved(from: &[i32], to: &[i32]) -> usize {
    from.iter().zip(to).filter(|(from, to)| from != to).count()
}

/// Replicas that are up, with so many builds.
fn up(running: &[usize]) -> Vec<Seat> {
    let seat = |(replica, running): (usize, &usize)| Seat {
        replica: i32::try_from(replica).unwrap(),
        down_since: None,
        running: *running,
    };
    running.iter().enumerate().map(seat).collect()
}

/// One that has just begun to wait, and does for 30 seconds.
fn patient() -> Patience {
    Patience {
        since: at(0),
        cache: SignedDuration::from_secs(30),
    }
}

/// A key, and its order of preference among three.
fn some() -> (String, Vec<i32>) {
    let key = keys().next().unwrap();
    let order = preference(&key, 0..3);
    (key, order)
}

fn index(replica: i32) -> usize {
    usize::try_from(replica).unwrap()
}

#[test]
fn a_thousand_keys_are_spread_evenly_over_each_number_of_replicas() {
    for replicas in [2, 3, 5, 8, 32] {
        let mut of: BTreeMap<i32, usize> = BTreeMap::new();
        for choice in choices(replicas) {
            *of.entry(choice).or_default() += 1;
        }
        assert_eq!(of.len(), index(replicas));
        let fair = KEYS as f64 / f64::from(replicas);
        // Four standard deviations of what chance does.
        let most = fair + 4.0 * fair.sqrt();
        let least = fair - 4.0 * fair.sqrt();
        for (replica, keys) in of {
            let keys = keys as f64;
            assert!(
                (least..=most).contains(&keys),
                "{replicas}: {replica} has {keys}"
            );
        }
    }
}

#[test]
fn from_four_replicas_to_five_no_more_keys_move_than_the_fifth_takes() {
    let (four, five) = (choices(4), choices(5));
    let share = moved(&four, &five) as f64 / KEYS as f64;
    println!(
        "4 -> 5 replicas: {:.1} % of {KEYS} keys move",
        share * 100.0
    );
    assert!(share <= 0.2 + 0.02, "{share}");
    for (before, after) in four.iter().zip(&five) {
        assert!(before == after || *after == 4, "{before} to {after}");
    }
}

#[test]
fn from_five_replicas_to_four_the_keys_of_the_fifth_alone_move() {
    let (five, four) = (choices(5), choices(4));
    let of_the_fifth = five.iter().filter(|it| **it == 4).count();
    assert!(of_the_fifth > 0);
    assert_eq!(moved(&five, &four), of_the_fifth);
}

#[test]
fn the_choice_is_the_same_in_each_process_and_version() {
    // Another hash would have all caches begin anew.
    let orders: Vec<_> = keys().take(4).map(|key| preference(&key, 0..5)).collect();
    let known = [
        [1, 0, 2, 3, 4],
        [1, 3, 2, 4, 0],
        [0, 1, 3, 4, 2],
        [3, 1, 4, 0, 2],
    ];
    assert_eq!(orders, known);
}

#[test]
fn a_build_goes_to_its_first_choice_where_that_has_a_place() {
    let (key, order) = some();
    let place = |running: &[usize]| place(&key, &up(running), 2, patient(), at(0));
    assert_eq!(place(&[0, 0, 0]), Place::On(order[0]));
    assert_eq!(place(&[1, 1, 1]), Place::On(order[0]));
}

#[test]
fn for_a_busy_first_choice_it_waits_a_while_and_then_goes_to_the_next_that_has_a_place() {
    let (key, order) = some();
    let mut running = [0; 3];
    running[index(order[0])] = 2;
    let seats = up(&running);
    let place = |seats: &[Seat], now| place(&key, seats, 2, patient(), now);
    let waits = Place::Waits {
        replica: order[0],
        until: at(30),
        down: false,
    };
    assert_eq!(place(&seats, at(0)), waits);
    assert_eq!(place(&seats, at(29)), waits);
    assert_eq!(place(&seats, at(30)), Place::On(order[1]));
    running[index(order[1])] = 2;
    assert_eq!(place(&up(&running), at(30)), Place::On(order[2]));
    assert_eq!(place(&up(&[2, 2, 2]), at(30)), Place::Full);
    // What has waited for its turn for longer waits no more for its cache.
    let late = Patience {
        since: at(-100),
        ..patient()
    };
    assert_eq!(
        super::place(&key, &seats, 2, late, at(0)),
        Place::On(order[1])
    );
}

#[test]
fn a_replica_that_restarts_keeps_its_builds_for_two_minutes_and_then_they_have_another_one() {
    let (key, order) = some();
    let mut seats = up(&[0, 0, 0]);
    seats[index(order[0])].down_since = Some(at(0));
    let place = |seats: &[Seat], now| place(&key, seats, 2, patient(), now);
    let waits = Place::Waits {
        replica: order[0],
        until: at(120),
        down: true,
    };
    assert_eq!(place(&seats, at(60)), waits);
    assert_eq!(place(&seats, at(119)), waits);
    assert_eq!(place(&seats, at(120)), Place::On(order[1]));
    // The next one is home then, and is worth a wait, too.
    seats[index(order[1])].running = 2;
    let later = Patience {
        since: at(120),
        ..patient()
    };
    let waits = Place::Waits {
        replica: order[1],
        until: at(150),
        down: false,
    };
    assert_eq!(super::place(&key, &seats, 2, later, at(120)), waits);
    // Back again, it has its builds again.
    seats[index(order[0])].down_since = None;
    assert_eq!(place(&seats, at(500)), Place::On(order[0]));
}

#[test]
fn where_none_is_left_a_build_goes_nowhere() {
    let (key, _) = some();
    let mut seats = up(&[0, 0]);
    for seat in &mut seats {
        seat.down_since = Some(at(0));
    }
    assert_eq!(place(&key, &seats, 2, patient(), at(120)), Place::Full);
    assert_eq!(place(&key, &[], 2, patient(), at(0)), Place::Full);
}

#[test]
fn a_cache_is_worth_about_a_build_and_nothing_where_there_is_none() {
    let seconds = |usual| worth(usual).as_secs();
    assert_eq!(seconds(None), 0);
    assert_eq!(seconds(Some(3)), 10);
    assert_eq!(seconds(Some(45)), 45);
    assert_eq!(seconds(Some(900)), 120);
}

#[test]
fn builds_of_one_repository_and_target_have_one_key() {
    let mut build = fixtures::git_with_secrets();
    let first = key(&build);
    build.metadata.name = Some("another".into());
    build.spec.source.git.as_mut().unwrap().url = "https://git.example.com/team/hello/".into();
    build.spec.source.git.as_mut().unwrap().reference = None;
    assert_eq!(key(&build), first);
    build.spec.target = Some("test".into());
    assert_ne!(key(&build), first);
    let mut inline = fixtures::inline();
    let first = key(&inline);
    inline.metadata.name = Some("another".into());
    assert_ne!(key(&inline), first);
    assert_eq!(
        repository("r.example.com:5000/a/b:1@sha256:aa"),
        "r.example.com:5000/a/b"
    );
    assert_eq!(
        repository("r.example.com:5000/a/b"),
        "r.example.com:5000/a/b"
    );
}

#[test]
fn builds_go_to_replicas_that_are_to_stay_and_have_been_up() {
    let mut builder = fixtures::builder();
    let one = |replica, ready, since: Option<i64>| ReplicaStatus {
        replica,
        ready,
        since: since.map(|it| Time(at(it))),
        running: 0,
        cache_bytes: None,
        draining: false,
    };
    let status = |desired, each| BuilderStatus {
        replicas: Some(ReplicasStatus {
            desired,
            each,
            ..ReplicasStatus::default()
        }),
        ..BuilderStatus::default()
    };
    builder.spec.replicas = 3;
    let each = vec![
        one(0, true, Some(0)),
        one(1, false, Some(5)),
        one(2, false, None),
        one(3, true, Some(0)),
    ];
    builder.status = Some(status(3, each));
    let found: Vec<_> = seats(&builder, |_| 1)
        .iter()
        .map(|seat| (seat.replica, seat.down_since))
        .collect();
    assert_eq!(found, [(0, None), (1, Some(at(5)))]);
    // What the status says counts where the load decides, within the spec's bounds.
    builder.spec.replicas = 1;
    builder.spec.autoscale = Some(Autoscale { min: 2, max: 4 });
    assert_eq!(desired(&builder), 3);
    builder.spec.autoscale = Some(Autoscale { min: 1, max: 2 });
    assert_eq!(desired(&builder), 2);
    builder.status = None;
    assert_eq!(desired(&builder), 1);
}

#[test]
fn whatever_time_stands_in_a_status_nobody_waits_for_it_and_nothing_ends() {
    let far = [
        Timestamp::MAX,
        Timestamp::MIN,
        at(0) + SignedDuration::from_hours(24),
    ];
    for since in far {
        let patience = Patience {
            since,
            cache: CACHE_WORTH[1],
        };
        let seats = [0, 1].map(|replica| Seat {
            replica,
            down_since: None,
            running: 0,
        });
        let first = preference("k", 0..2)[0];
        let busy = seats.map(|seat| Seat {
            running: usize::from(seat.replica == first) * 2,
            ..seat
        });
        let other = Place::On(1 - first);
        assert_eq!(place("k", &busy, 2, patience, at(0)), other, "{since}");
        let down = busy.map(|seat| Seat {
            down_since: (seat.replica == first).then_some(since),
            running: 0,
            ..seat
        });
        let found = place("k", &down, 2, patience, at(0));
        assert_eq!(found, other, "{since}");
    }
}

#[test]
fn a_builder_that_has_no_daemon_any_more_has_no_replicas_to_choose_from() {
    let mut builder = fixtures::builder();
    builder.spec.replicas = 4;
    assert!(has_several(&builder));
    builder.spec.sharing = whittle_api::Sharing::Build;
    assert!(!has_several(&builder));
}
