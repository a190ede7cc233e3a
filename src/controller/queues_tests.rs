use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::fixtures;

/// One that waits for its turn since `due`, on the Builder `default` of `team`.
fn queued(uid: &str, due: i64) -> ImageBuild {
    let mut build = fixtures::inline();
    build.metadata.name = Some(uid.into());
    build.metadata.uid = Some(uid.into());
    let status = json!({
        "observedGeneration": 1,
        "current": {"attempt": 1, "job": format!("{uid}-job"), "generation": 1},
        "conditions": [{"type": "Ready", "status": "Unknown", "reason": "Queued", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    });
    build.status = Some(serde_json::from_value(status).unwrap());
    let at = Time(Timestamp::from_second(due).unwrap());
    build.status.as_mut().unwrap().started_at = Some(at);
    build
}

/// The same, with a status that says that it runs.
fn running(uid: &str, due: i64) -> ImageBuild {
    let mut build = queued(uid, due);
    let status = build.status.as_mut().unwrap();
    status.conditions[0].reason = "Building".into();
    status.current.as_mut().unwrap().started = true;
    build
}

fn see(queues: &Queues, build: ImageBuild) {
    let known = queues.builds("team", "default");
    let old = known.into_iter().find(|old| old.uid() == build.uid());
    let new = Some(Arc::new(build));
    queues.build(&Change { old, new });
}

fn gone(queues: &Queues, build: ImageBuild) {
    let old = Some(Arc::new(build));
    queues.build(&Change { old, new: None });
}

fn object(name: &str, labels: Value, owner: &str, status: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "team", "labels": labels,
        "ownerReferences": [{"apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild", "name": owner, "uid": owner}]},
        "status": status})
}

fn labels(uid: &str) -> Value {
    json!({"whittle.dev/component": "runner", "whittle.dev/builder": "default", "whittle.dev/imagebuild-uid": uid})
}

fn job(uid: &str) -> Job {
    let job = object(&format!("{uid}-job"), labels(uid), uid, json!({}));
    serde_json::from_value(job).unwrap()
}

fn pod(uid: &str, phase: &str) -> Pod {
    let status = json!({"phase": phase});
    let pod = object(&format!("{uid}-job-x"), labels(uid), uid, status);
    serde_json::from_value(pod).unwrap()
}

/// The same, made in advance: the Job `NAME-made`, and its Pod.
fn in_advance(uid: &str) -> (Job, Pod) {
    let mut labels = labels(uid);
    labels["whittle.dev/standby"] = json!("true");
    let name = format!("{uid}-made");
    let job = object(&name, labels.clone(), uid, json!({}));
    let mut pod = object(
        &format!("{name}-x"),
        labels,
        uid,
        json!({"phase": "Running"}),
    );
    pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": "j", "controller": true}]);
    (
        serde_json::from_value(job).unwrap(),
        serde_json::from_value(pod).unwrap(),
    )
}

#[test]
fn a_runner_that_waits_runs_no_build_and_counts_once_an_attempt_is_carried_out_by_it() {
    let queues = Queues::default();
    let (job, pod) = in_advance("a");
    queues.job(&Event::Apply(job));
    queues.pod(&Event::Apply(pod));
    let other = queued("b", 20);
    see(&queues, other.clone());
    assert_eq!(ahead(&queues, &other), 0);
    assert_eq!(queues.busy("team", "default"), 0);
    // It waits for its turn: still nothing runs.
    see(&queues, queued("a", 30));
    assert_eq!(ahead(&queues, &other), 0);
    assert_eq!(queues.busy("team", "default"), 0);
    // Another Job carries its attempt out.
    see(&queues, running("a", 30));
    assert_eq!(queues.queue(&other).running, 0);
    let mut adopted = running("a", 30);
    let current = adopted.status.as_mut().unwrap().current.as_mut();
    current.unwrap().job = "a-made".into();
    see(&queues, adopted);
    assert_eq!(queues.queue(&other).running, 1);
    assert_eq!(queues.busy("team", "default"), 1);
}

#[test]
fn a_place_that_was_taken_for_one_is_counted_once() {
    let queues = Queues::default();
    let (job, pod) = in_advance("a");
    queues.job(&Event::Apply(job));
    queues.pod(&Event::Apply(pod));
    see(&queues, queued("a", 10));
    let other = queued("b", 20);
    see(&queues, other.clone());
    let taken = queues.take_place(&ticket(&queues), &place("a", "a-made"));
    assert!(taken);
    assert_eq!(queues.queue(&other).running, 1);
    let mut adopted = running("a", 10);
    let current = adopted.status.as_mut().unwrap().current.as_mut();
    current.unwrap().job = "a-made".into();
    see(&queues, adopted);
    assert_eq!(queues.queue(&other).running, 1);
    assert!(queues.lock().begun.is_empty());
}

/// What decides whether a build starts: it does where fewer are ahead than its Builder takes.
fn ahead(queues: &Queues, build: &ImageBuild) -> usize {
    let queue = queues.queue(build);
    queue.running + queue.before
}

fn ticket(queues: &Queues) -> Ticket {
    queues.ticket("team", "default")
}

fn place<'a>(uid: &'a str, job: &'a str) -> Place<'a> {
    Place {
        uid,
        job,
        stands_back: None,
        replica: None,
    }
}

#[test]
fn no_more_builds_that_stand_back_begin_in_the_cluster_than_are_to() {
    let queues = Queues::default();
    let back = |uid| Place {
        stands_back: Some(2),
        ..place(uid, "job")
    };
    let on = |namespace, builder| queues.ticket(namespace, builder);
    assert!(queues.take_place(&on("a", "one"), &back("a")));
    assert!(
        !queues.take_place(&on("a", "two"), &back("x")),
        "half is for others"
    );
    assert!(queues.take_place(&on("b", "two"), &back("b")));
    assert!(
        !queues.take_place(&on("c", "three"), &back("c")),
        "the third"
    );
    assert!(
        queues.take_place(&on("b", "two"), &back("b")),
        "its own place"
    );
    assert!(
        queues.take_place(&on("c", "three"), &place("p", "job")),
        "a person's build is none of them"
    );
    queues.leave_place("a");
    assert!(queues.take_place(&on("c", "three"), &back("c")));
}

#[test]
fn of_those_that_stand_back_the_first_of_each_builder_is_woken_and_those_of_a_full_namespace_last()
{
    let queues = Queues::new(4);
    let back = |uid: &str, due, (namespace, builder): (&str, &str), priority| {
        let mut build = match due {
            0 => running(uid, due),
            due => queued(uid, due),
        };
        let trigger = json!({"reason": "BaseImage", "detail": "", "since": "2026-01-01T00:00:00Z"});
        let status = build.status.as_mut().unwrap();
        status.trigger = Some(serde_json::from_value(trigger).unwrap());
        build.metadata.namespace = Some(namespace.into());
        build.spec.builder_ref.name = builder.into();
        build.spec.priority = priority;
        see(&queues, build);
    };
    let woken = || -> Vec<String> {
        let all = queues.waiting_back();
        all.iter().map(|build| build.name_any()).collect()
    };
    // Urgent ones of a namespace whose two places are taken.
    for uid in ["f1", "f2", "f3"] {
        back(uid, 1, ("full", uid), 90);
    }
    back("r1", 0, ("full", "one"), 0);
    assert_eq!(woken(), ["f1", "f2", "f3"]);
    back("r2", 0, ("full", "two"), 0);
    // One of the two may have ended just now, and be counted still: they are not left out.
    assert_eq!(woken(), ["f1", "f2", "f3"]);
    // Several of one Builder, and one of another.
    for (uid, due) in [("a1", 2), ("a2", 3), ("a3", 4)] {
        back(uid, due, ("free", "a"), 50);
    }
    back("b1", 5, ("free", "b"), 0);
    assert_eq!(woken(), ["a1", "b1", "f1", "f2", "f3"]);
}

#[test]
fn a_build_that_stands_back_holds_up_nobody_while_enough_of_those_run() {
    let queues = Queues::new(2);
    let back = |mut build: ImageBuild| {
        let trigger = json!({"reason": "BaseImage", "detail": "", "since": "2026-01-01T00:00:00Z"});
        let status = build.status.as_mut().unwrap();
        status.trigger = Some(serde_json::from_value(trigger).unwrap());
        build
    };
    let mut urgent = back(queued("urgent", 1));
    urgent.spec.priority = 50;
    let person = queued("person", 2);
    see(&queues, urgent.clone());
    see(&queues, person.clone());
    assert_eq!(ahead(&queues, &person), 1);
    assert!(!queues.holds_back("team"));
    // The one place that such builds have in this namespace is taken, on another Builder.
    let mut other = back(running("other", 0));
    other.spec.builder_ref.name = "other".into();
    see(&queues, other.clone());
    assert_eq!(ahead(&queues, &person), 0);
    assert!(queues.holds_back("team") && !queues.holds_back("elsewhere"));
    // Once the other has ended the order is by priority again.
    gone(&queues, other);
    assert_eq!((ahead(&queues, &person), ahead(&queues, &urgent)), (1, 0));
}

#[test]
fn of_two_that_see_the_last_place_free_one_takes_it() {
    let queues = Queues::default();
    let (a, b) = (queued("a", 1), queued("b", 2));
    // Neither is in the other's watch.
    let (first, second) = (ticket(&queues), ticket(&queues));
    assert_eq!((ahead(&queues, &a), ahead(&queues, &b)), (0, 0));
    assert!(queues.take_place(&first, &place("a", "a-job")));
    assert!(!queues.take_place(&second, &place("b", "b-job")));
    // It looks again: the other runs, whatever the watches say.
    let again = ticket(&queues);
    assert_eq!(ahead(&queues, &b), 1);
    assert_eq!(ahead(&queues, &a), 0);
    // Who has the place may try again, and other Builders have places of their own.
    assert!(queues.take_place(&again, &place("a", "a-job")));
    assert!(queues.take_place(&queues.ticket("team", "other"), &place("c", "c-job")));
    assert_eq!(ahead(&queues, &b), 1);
}

#[test]
fn a_place_is_taken_until_both_watches_show_who_has_it_and_never_free_in_between() {
    for jobs_first in [true, false] {
        let queues = Queues::default();
        // It became due before the one that runs: nothing but that one's run is ahead of it.
        let late = queued("late", 1);
        see(&queues, queued("a", 2));
        assert!(queues.take_place(&ticket(&queues), &place("a", "a-job")));
        for step in [jobs_first, !jobs_first] {
            assert_eq!(ahead(&queues, &late), 1);
            match step {
                true => queues.job(&Event::Apply(job("a"))),
                false => see(&queues, running("a", 2)),
            }
        }
        assert!(queues.lock().begun.is_empty(), "both have shown it");
        assert_eq!(ahead(&queues, &late), 1);
        // Its end, as the watch of ImageBuilds tells it.
        let mut ended = running("a", 2);
        let input = decide::input(&ended);
        let status = ended.status.as_mut().unwrap();
        status.current = None;
        status.input = Some(input);
        see(&queues, ended);
        assert_eq!(ahead(&queues, &late), 0);
    }
}

#[test]
fn a_watch_that_shows_what_was_before_the_start_frees_no_place() {
    let queues = Queues::default();
    let late = queued("late", 1);
    assert!(queues.take_place(&ticket(&queues), &place("a", "a-job")));
    // Its status of before comes late, and the list of Jobs is from before.
    see(&queues, queued("a", 2));
    queues.job(&Event::Init);
    queues.job(&Event::InitDone);
    assert_eq!(ahead(&queues, &late), 1);
    queues.leave_place("a");
    assert_eq!(ahead(&queues, &late), 0);
}

#[test]
fn a_build_that_was_deleted_has_no_place() {
    let queues = Queues::default();
    see(&queues, queued("a", 1));
    assert!(queues.take_place(&ticket(&queues), &place("a", "a-job")));
    assert_eq!(ahead(&queues, &queued("b", 2)), 1);
    gone(&queues, queued("a", 1));
    assert_eq!(ahead(&queues, &queued("b", 2)), 0);
}

#[test]
fn a_builder_with_a_build_that_was_just_begun_is_busy_and_wanted() {
    let queues = Queues::default();
    assert_eq!(queues.busy("team", "default"), 0);
    assert!(queues.take_place(&ticket(&queues), &place("a", "a-job")));
    assert_eq!(queues.busy("team", "default"), 1);
    assert_eq!(queues.wanted("team", "default"), 1);
    queues.job(&Event::Apply(job("a")));
    assert_eq!(queues.busy("team", "default"), 1);
    assert_eq!(queues.wanted("team", "default"), 1);
    assert_eq!(queues.busy("team", "other"), 0);
    assert_eq!(queues.busy("tea", "default"), 0);
}

#[test]
fn jobs_and_pods_count_while_they_run() {
    let queues = Queues::default();
    let builder = ("team".to_owned(), "default".to_owned());
    let seen = |queues: &Queues| {
        let (_, runners, _) = queues.lock().on(&builder, None);
        (runners.active.len(), runners.started.len())
    };
    queues.job(&Event::Apply(job("a")));
    queues.pod(&Event::Apply(pod("a", "Pending")));
    assert_eq!(seen(&queues), (1, 0));
    queues.pod(&Event::Apply(pod("a", "Running")));
    assert_eq!(seen(&queues), (1, 1));
    queues.pod(&Event::Apply(pod("a", "Succeeded")));
    let mut ended = job("a");
    let status = json!({"completionTime": "2026-01-01T00:00:00Z"});
    ended.status = Some(serde_json::from_value(status).unwrap());
    queues.job(&Event::Apply(ended));
    assert_eq!(seen(&queues), (0, 0));
    // A check's Job is none of a Builder's.
    let mut check = job("b");
    check
        .labels_mut()
        .insert("whittle.dev/component".into(), "gate".into());
    queues.job(&Event::Apply(check));
    assert_eq!(seen(&queues), (0, 0));
    // A new list replaces what was known, at its end.
    queues.job(&Event::Apply(job("a")));
    queues.job(&Event::Init);
    queues.job(&Event::InitApply(job("b")));
    queues.job(&Event::InitApply(job("c")));
    assert_eq!(seen(&queues), (1, 0));
    queues.job(&Event::InitDone);
    assert_eq!(seen(&queues), (2, 0));
    queues.job(&Event::Delete(job("c")));
    assert_eq!(seen(&queues), (1, 0));
}

#[test]
fn a_build_that_waits_is_looked_at_again_where_its_place_is_near_or_half_of_what_it_was_told() {
    let queues = Queues::default();
    let all: Vec<ImageBuild> = (0..100)
        .map(|at| queued(&format!("b{at:03}"), at))
        .collect();
    all.iter().for_each(|build| see(&queues, build.clone()));
    let mine = &all[99];
    let look = Look::at(mine, None);
    assert!(!queues.waits_still(look, mine), "it was told nothing yet");
    let mut looks = 0;
    for ended in &all[..98] {
        if !queues.waits_still(look, mine) {
            looks += 1;
            queues.told(look, mine, (1, None), &queues.queue(mine));
        }
        assert!(queues.waits_still(look, mine));
        gone(&queues, ended.clone());
    }
    // 99, 49, 24, 12, 6, 4, 3, 2
    assert_eq!(looks, 8);
}

#[test]
fn a_build_that_waits_is_looked_at_again_where_it_its_builder_or_its_neighbours_have_changed() {
    let queues = Queues::default();
    let (first, mine) = (queued("a", 1), queued("b", 2));
    let builder = fixtures::builder();
    see(&queues, first.clone());
    see(&queues, mine.clone());
    let look = Look::at(&mine, Some(&builder));
    queues.told(look, &mine, (1, None), &queues.queue(&mine));
    assert!(queues.waits_still(look, &mine));
    let mut larger = builder.clone();
    larger.metadata.generation = Some(2);
    assert!(!queues.waits_still(Look::at(&mine, Some(&larger)), &mine));
    let mut asked = mine.clone();
    let now = (whittle_api::REQUESTED_AT.to_owned(), "now".to_owned());
    asked.annotations_mut().extend([now]);
    assert!(!queues.waits_still(Look::at(&asked, Some(&builder)), &asked));
    // The one before it hangs for want of a Secret: this one may need it, too.
    let mut hangs = running("a", 1);
    let ready = &mut hangs.status.as_mut().unwrap().conditions[0];
    (ready.status, ready.reason) = ("False".into(), "SecretNotFound".into());
    see(&queues, hangs);
    assert!(!queues.waits_still(look, &mine));
    queues.told(look, &mine, (1, None), &queues.queue(&mine));
    queues.not_told("b");
    assert!(!queues.waits_still(look, &mine));
}

/// One that is built, and whose programs are fetched.
fn fetching(uid: &str) -> ImageBuild {
    let mut build = queued(uid, 1);
    let input = decide::input(&build);
    let status = build.status.as_mut().unwrap();
    status.current = None;
    status.input = Some(input);
    let fetch = json!({"digest": "sha256:aa", "attempt": 1, "job": format!("{uid}-job")});
    status.fetch = Some(serde_json::from_value(fetch).unwrap());
    build.metadata.generation = Some(1);
    build
}

#[test]
fn what_is_fetched_once_a_build_has_ended_is_nothing_on_its_builder() {
    let queues = Queues::default();
    see(&queues, fetching("a"));
    queues.job(&Event::Apply(job("a")));
    queues.pod(&Event::Apply(pod("a", "Running")));
    assert_eq!(queues.builds("team", "default").len(), 1);
    assert_eq!(ahead(&queues, &queued("b", 2)), 0);
    assert_eq!(queues.busy("team", "default"), 0);
    assert_eq!(queues.wanted("team", "default"), 0);
}

#[test]
fn a_job_counts_for_the_owner_that_its_label_names_alone() {
    let queues = Queues::default();
    let mut other = job("a");
    other.metadata.owner_references.as_mut().unwrap()[0].uid = "b".into();
    queues.job(&Event::Apply(other));
    assert_eq!(queues.wanted("team", "default"), 0);
    queues.job(&Event::Apply(job("a")));
    assert_eq!(queues.wanted("team", "default"), 1);
}

#[test]
fn what_a_list_has_told_counts_from_its_end_and_until_then_what_was_begun_here() {
    let queues = Queues::default();
    see(&queues, queued("a", 1));
    assert!(queues.take_place(&ticket(&queues), &place("a", "a-job")));
    see(&queues, running("a", 1));
    queues.job(&Event::Init);
    queues.job(&Event::InitApply(job("a")));
    assert_eq!(queues.busy("team", "default"), 1);
    queues.job(&Event::InitDone);
    assert_eq!(queues.busy("team", "default"), 1);
    assert_eq!(ahead(&queues, &queued("b", 2)), 1);
}

#[test]
fn a_namespace_that_is_full_of_jobs_is_full_for_itself_alone() {
    let queues = Queues::default();
    for number in 0..=MOST {
        queues.job(&Event::Apply(job(&format!("j{number}"))));
    }
    assert_eq!(queues.wanted("team", "default"), MOST);
    let mut elsewhere = job("a");
    elsewhere.metadata.namespace = Some("elsewhere".into());
    queues.job(&Event::Apply(elsewhere));
    assert_eq!(queues.wanted("elsewhere", "default"), 1);
    // One that was begun here counts, though there is no room for its Job.
    see(&queues, queued("late", 1));
    assert!(queues.take_place(&ticket(&queues), &place("late", "late-job")));
    queues.job(&Event::Apply(job("late")));
    see(&queues, running("late", 1));
    assert_eq!(queues.busy("team", "default"), MOST + 1);
}

#[test]
fn a_build_in_a_queue_of_kueue_keeps_its_place_and_its_builder_from_no_restart() {
    let queues = Queues::default();
    let mut build = running("a", 1);
    let current = json!({"current": {"started": false, "waiting": {"reason": "JobSuspended"}},
        "conditions": [{"type": "Ready", "status": "Unknown", "reason": "JobSuspended", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    let mut status = serde_json::to_value(build.status.unwrap()).unwrap();
    json_patch::merge(&mut status, &current);
    build.status = serde_json::from_value(status).unwrap();
    see(&queues, build);
    queues.job(&Event::Apply(job("a")));
    assert_eq!(queues.queue(&queued("b", 2)).running, 1);
    assert_eq!(queues.busy("team", "default"), 0);
    assert_eq!(queues.wanted("team", "default"), 2);
}

#[test]
fn what_runs_is_known_by_replica_and_nothing_begins_on_one_that_is_to_go() {
    let queues = Queues::default();
    let on = |uid: &str, replica| {
        let mut build = running(uid, 1);
        let status = build.status.as_mut().unwrap();
        status.current.as_mut().unwrap().replica = replica;
        build
    };
    see(&queues, on("a", Some(3)));
    see(&queues, on("b", None));
    see(&queues, queued("c", 2));
    for uid in ["a", "b"] {
        queues.job(&Event::Apply(job(uid)));
    }
    let load = queues.load("team", "default", Timestamp::UNIX_EPOCH);
    assert_eq!(load.running, [(0, 1), (3, 1)].into());
    assert_eq!(load.waiting, 1);
    let to = |uid, replica| Place {
        replica: Some(replica),
        ..place(uid, "job")
    };
    assert!(queues.take_place(&ticket(&queues), &to("d", 3)));
    // What was begun just now counts, also for those that choose.
    let running = queues.close("team", "default", 2);
    assert_eq!(running, [(0, 1), (3, 2)].into());
    assert_eq!(queues.queue(&queued("e", 3)).on, [(0, 1), (3, 2)].into());
    assert!(!queues.take_place(&ticket(&queues), &to("e", 2)));
    assert!(!queues.take_place(&ticket(&queues), &to("e", 3)));
    assert!(queues.take_place(&ticket(&queues), &to("e", 1)));
    // One whose status names it since before goes there all the same, once more.
    let again = Place {
        replica: Some(3),
        ..place("a", "a-job")
    };
    assert!(queues.take_place(&ticket(&queues), &again));
    let other = queues.ticket("team", "other");
    assert!(queues.take_place(&other, &to("f", 3)), "of another Builder");
    // More are wanted again.
    queues.close("team", "default", 4);
    assert!(queues.take_place(&ticket(&queues), &to("g", 3)));
    // The Builder has one replica for good.
    queues.close("team", "default", 1);
    queues.open("team", "default");
    assert!(queues.take_place(&ticket(&queues), &place("h", "job")));
}

#[test]
fn how_long_a_build_waits_for_its_turn_is_since_it_began_to() {
    let queues = Queues::default();
    let at = |seconds| Timestamp::from_second(seconds).unwrap();
    for (uid, since) in [("a", 30), ("b", 10), ("c", 20)] {
        let mut build = queued(uid, 1);
        let status = build.status.as_mut().unwrap();
        status.current.as_mut().unwrap().waiting_since = Some(Time(at(since)));
        build.spec.suspend = uid == "b";
        see(&queues, build);
    }
    let load = queues.load("team", "default", at(60));
    assert_eq!(load.waiting, 2, "one is held by a person");
    assert_eq!(load.longest.map(|it| it.as_secs()), Some(40));
}
