use super::super::super::fixtures::images;
use super::*;
use crate::workloads::Change;
use whittle_api::Reason;
use whittle_probe::Audit;

const A: &str = "r.example.com/team/a:1";
const B: &str = "r.example.com/team/b:1";
const LINE: &str = "Deployment team/app: its probe cannot work";

fn workloads(all: &[(&str, &[&str])]) -> Workloads {
    let mut workloads = Workloads::default();
    for (name, images) in all {
        workloads.take(Change::Is(Found::deployment("team", name, images)));
    }
    workloads
}

fn speakers() -> Speakers {
    [
        (A.to_owned(), "team", "team/a"),
        (B.to_owned(), "team", "team/b"),
    ]
    .into_iter()
    .collect()
}

/// Notes what each image that is due came to.
fn audited(images: &mut Images, workloads: &Workloads, broken: &[(&str, &str)]) {
    let (speakers, broken) = (speakers(), broken.to_vec());
    let users = Users::of(workloads, &speakers);
    for (key, looked_at) in due(images, &users, &speakers, "") {
        let used = users.get(&key);
        let mine = broken
            .iter()
            .filter(|(name, _)| used.iter().any(|it| it.title() == *name));
        let audit = Audit {
            workloads: used.len(),
            broken: mine
                .map(|(name, line)| ((*name).into(), (*line).into()))
                .collect(),
        };
        images.get_mut(&key).unwrap().audited = Some((looked_at, audit));
    }
}

fn due_keys(images: &Images, workloads: &Workloads, last: &str) -> Vec<String> {
    let speakers = speakers();
    let users = Users::of(workloads, &speakers);
    let due = due(images, &users, &speakers, last);
    due.into_iter().map(|(key, _)| key).collect()
}

struct Spoken {
    key: String,
    told: Vec<String>,
    known: Vec<String>,
    condition: Option<Option<Reason>>,
}

fn step(
    images: &Images,
    workloads: &Workloads,
    told: &[(&str, &str)],
    others: bool,
) -> Vec<Spoken> {
    let speakers = speakers();
    let users = Users::of(workloads, &speakers);
    let told = told
        .iter()
        .map(|(name, line)| ((*name).into(), (*line).into()));
    let step = decide(&Observed {
        images,
        users: &users,
        told: &told.collect(),
        last: "",
        is_others: &|_, _| others,
    });
    let said = step.into_iter().map(|say| {
        let lines = |tell: bool| {
            let lines = say
                .lines
                .iter()
                .filter(move |line| line.tell.is_some() == tell);
            lines.map(|line| line.workload.clone()).collect()
        };
        Spoken {
            told: lines(true),
            known: lines(false),
            key: say.key.clone(),
            condition: say.condition.map(|said| said.map(|said| said.1)),
        }
    });
    said.collect()
}

#[test]
fn an_image_is_audited_again_only_where_it_or_a_workload_that_uses_it_has_changed() {
    let mut images = images(&["team/a", "team/b"]);
    let one = workloads(&[("app", &[A])]);
    assert_eq!(due_keys(&images, &one, ""), ["team/a", "team/b"]);
    audited(&mut images, &one, &[]);
    assert!(due_keys(&images, &one, "").is_empty());
    let two = workloads(&[("app", &[A]), ("other", &[B])]);
    assert_eq!(due_keys(&images, &two, ""), ["team/b"]);
    let moved = workloads(&[("app", &[B])]);
    assert_eq!(due_keys(&images, &moved, ""), ["team/a", "team/b"]);
    images.get_mut("team/a").unwrap().print += 1;
    assert_eq!(due_keys(&images, &one, ""), ["team/a"]);
    images.get_mut("team/b").unwrap().fix = Some("tcpSocket :80".into());
    assert_eq!(due_keys(&images, &one, ""), ["team/a", "team/b"]);
}

#[test]
fn audits_go_on_after_the_image_that_was_the_last() {
    let images = images(&["team/a", "team/b", "team/c"]);
    let none = Workloads::default();
    assert_eq!(
        due_keys(&images, &none, "team/b"),
        ["team/c", "team/a", "team/b"]
    );
    assert_eq!(
        due_keys(&images, &none, "team/z"),
        ["team/a", "team/b", "team/c"]
    );
}

#[test]
fn a_workload_is_told_once_of_a_probe_that_cannot_work() {
    let mut images = images(&["team/a", "team/b"]);
    let workloads = workloads(&[("app", &[A])]);
    audited(&mut images, &workloads, &[("Deployment team/app", LINE)]);
    let said = step(&images, &workloads, &[], false);
    assert_eq!(said.len(), 1);
    assert_eq!((said[0].key.as_str(), said[0].told.len()), ("team/a", 1));
    // It was told in this process.
    let said = step(&images, &workloads, &[("Deployment team/app", LINE)], false);
    assert_eq!((said[0].told.len(), said[0].known.len()), (0, 1));
    // In words that are new.
    let said = step(
        &images,
        &workloads,
        &[("Deployment team/app", "older")],
        false,
    );
    assert_eq!(said[0].told.len(), 1);
    // By a process before this one: its condition has the line.
    let before = ("False".into(), Reason::CannotWork, format!("first\n{LINE}"));
    images.get_mut("team/a").unwrap().compatible = Some(before.into());
    let said = step(&images, &workloads, &[], false);
    assert_eq!((said[0].told.len(), said[0].known.len()), (0, 1));
}

#[test]
fn a_condition_is_written_where_it_differs_and_goes_with_the_last_workload() {
    let mut images = images(&["team/a", "team/b"]);
    let one = workloads(&[("app", &[A])]);
    audited(&mut images, &one, &[]);
    let said = step(&images, &one, &[], false);
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].condition, Some(Some(Reason::Compatible)));
    let (_, result) = images["team/a"].audited.clone().unwrap();
    images.get_mut("team/a").unwrap().compatible = result.told().map(super::said);
    assert!(step(&images, &one, &[], false).is_empty());
    let none = Workloads::default();
    audited(&mut images, &none, &[]);
    assert_eq!(step(&images, &none, &[], false)[0].condition, Some(None));
}

#[test]
fn a_workload_is_told_and_the_condition_left_where_another_installation_writes_that() {
    let mut images = images(&["team/a"]);
    let workloads = workloads(&[("app", &[A])]);
    audited(&mut images, &workloads, &[("Deployment team/app", LINE)]);
    let said = step(&images, &workloads, &[], true);
    assert_eq!((said[0].told.len(), &said[0].condition), (1, &None));
}

#[test]
fn an_image_that_was_not_audited_yet_says_nothing() {
    let images = images(&["team/a"]);
    let workloads = workloads(&[("app", &[A])]);
    assert!(step(&images, &workloads, &[], false).is_empty());
}

#[test]
fn a_workload_with_an_image_twice_uses_it_once_and_one_of_another_namespace_not_at_all() {
    let mut workloads = workloads(&[("app", &[A, A, B])]);
    workloads.take(Change::Is(Found::deployment("other", "app", &[A])));
    let users = Users::of(&workloads, &speakers());
    assert_eq!(users.get("team/a").len(), 1);
    assert_eq!(users.get("team/b").len(), 1);
    assert!(users.get("team/c").is_empty());
}
