use serde_json::json;

use super::*;
use crate::fixtures;
use crate::watcher::sources::Entry;
use whittle_api::Unseen;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

/// One that is polled, and has been looked at.
fn polled() -> ImageBuild {
    let mut build = fixtures::git_with_secrets();
    build.metadata.uid = Some("u".into());
    build.spec.triggers = serde_json::from_value(json!({"poll": {"interval": "1m"}})).unwrap();
    let mut status = ImageBuildStatus::default();
    say_triggers(&mut status, &build, Word::Watcher, now());
    build.status = Some(status);
    build
}

fn stands(build: &ImageBuild) -> (String, String, String) {
    let status = build.status.as_ref().unwrap();
    let told = find(&status.conditions, TRIGGERS).unwrap().clone();
    (told.status, told.reason, told.message)
}

/// Writes what is to be said; false where there is nothing.
fn tell(build: &mut ImageBuild, say: Option<&Say>) -> bool {
    let status = told(build, say, now());
    let changed = status.is_some();
    build.status = status.or(build.status.take());
    changed
}

fn silent() -> Say {
    Say::Silent("the watcher has not reported".into())
}

fn left_out() -> Say {
    Say::LeftOut("no room".into())
}

#[test]
fn a_silence_is_written_once_stays_whatever_becomes_of_the_build_and_ends_by_a_word() {
    let mut build = polled();
    let before = stands(&build);
    assert!(!tell(&mut build, None));
    assert!(tell(&mut build, Some(&silent())));
    let (to, reason, message) = stands(&build);
    assert_eq!((to.as_str(), reason.as_str()), ("Unknown", "WatcherSilent"));
    assert_eq!(message, "the watcher has not reported");
    assert!(!tell(&mut build, Some(&silent())));
    assert_eq!(Entry::of(&build).unwrap().said, Said::Of(silent()));
    // Another step of the ImageBuild.
    let mut status = build.status.clone().unwrap();
    say_triggers(&mut status, &build, Word::None, now());
    assert_eq!(Some(&status), build.status.as_ref());
    // What the watcher tells of it, or that it speaks at all.
    say_triggers(&mut status, &build, Word::Watcher, now());
    assert_eq!(
        find(&status.conditions, TRIGGERS).unwrap().reason,
        "TriggersWork"
    );
    assert!(tell(&mut build, None));
    assert_eq!(stands(&build), before);
}

#[test]
fn what_could_not_be_seen_before_a_silence_is_said_again_after_it() {
    let mut build = polled();
    let status = build.status.as_mut().unwrap();
    status.unseen.push(Unseen {
        id: "u/1".into(),
        reason: "SourceDenied".into(),
        message: "denied".into(),
    });
    assert!(tell(&mut build, Some(&silent())));
    assert_eq!(stands(&build).1, "WatcherSilent");
    assert!(tell(&mut build, None));
    assert_eq!(stands(&build).1, "SourceDenied");
}

#[test]
fn what_was_not_seen_before_a_silence_is_not_seen_yet_after_it_whoever_leads_then() {
    let mut build = polled();
    build.status = None;
    assert!(tell(&mut build, Some(&silent())));
    let (to, reason, message) = stands(&build);
    assert_eq!((to.as_str(), reason.as_str()), ("Unknown", "WatcherSilent"));
    assert_eq!(message, format!("{UNSEEN}the watcher has not reported"));
    // It says what is to be said, and another cause keeps that nothing was seen.
    assert!(!tell(&mut build, Some(&silent())));
    assert_eq!(Entry::of(&build).unwrap().said, Said::Of(silent()));
    assert!(tell(&mut build, Some(&Say::Silent("another cause".into()))));
    assert!(stands(&build).2.starts_with(UNSEEN));
    assert!(tell(&mut build, None));
    let (to, reason, message) = stands(&build);
    assert_eq!((to.as_str(), reason.as_str()), ("Unknown", "NotSeenYet"));
    assert_eq!(message, "the source has not been looked at yet");
    // The watcher's own word says more.
    assert!(tell(&mut build, Some(&silent())));
    let mut status = build.status.clone().unwrap();
    say_triggers(&mut status, &build, Word::Watcher, now());
    build.status = Some(status);
    assert_eq!(stands(&build).1, "TriggersWork");
    assert!(tell(&mut build, Some(&silent())));
    assert_eq!(stands(&build).2, "the watcher has not reported");
}

#[test]
fn what_is_left_out_stays_though_another_of_its_sources_is_heard_and_is_looked_at_once_there_is_room()
 {
    let mut build = polled();
    assert!(tell(&mut build, Some(&left_out())));
    let (to, reason, _) = stands(&build);
    assert_eq!((to.as_str(), reason.as_str()), ("False", "TooManySources"));
    let mut status = build.status.clone().unwrap();
    for word in [Word::None, Word::Watcher, Word::Flux] {
        say_triggers(&mut status, &build, word, now());
        assert_eq!(Some(&status), build.status.as_ref(), "{word:?}");
    }
    assert!(tell(&mut build, None));
    assert_eq!(stands(&build).1, "NotSeenYet");
}

#[test]
fn a_loop_and_a_schedule_without_a_time_stay_said() {
    for reason in [Reason::Loop, Reason::NoSuchTime] {
        let mut build = polled();
        let conditions = &mut build.status.as_mut().unwrap().conditions;
        set(
            conditions,
            TRIGGERS,
            Some(false),
            (reason, "x"),
            None,
            now(),
        );
        for say in [Some(silent()), Some(left_out()), None] {
            assert!(!tell(&mut build, say.as_ref()));
        }
        assert_eq!(Entry::of(&build).unwrap().said, Said::Before);
    }
}

#[test]
fn nothing_is_said_of_a_watcher_where_nothing_is_watched_any_more() {
    let mut build = polled();
    assert!(tell(&mut build, Some(&silent())));
    build.spec.triggers = serde_json::from_value(json!({"schedule": "@daily"})).unwrap();
    let mut status = build.status.clone().unwrap();
    say_triggers(&mut status, &build, Word::None, now());
    assert_eq!(
        find(&status.conditions, TRIGGERS).unwrap().reason,
        "TriggersWork"
    );
    build.spec.triggers = None;
    assert!(!tell(&mut build, Some(&silent())));
}

#[test]
fn a_source_of_flux_says_nothing_of_the_watcher() {
    let mut build = polled();
    tell(&mut build, Some(&silent()));
    let mut status = build.status.clone().unwrap();
    say_triggers(&mut status, &build, Word::Flux, now());
    assert_eq!(
        find(&status.conditions, TRIGGERS).unwrap().reason,
        "WatcherSilent"
    );
}

#[tokio::test]
async fn one_status_that_cannot_be_written_keeps_no_other_one_from_being_told() {
    use crate::watcher::room::{Bound, LeftOut};
    let (context, server) = crate::scripted::context(&[]);
    let builder = ("team".to_owned(), "default".to_owned());
    let mut out = std::collections::BTreeMap::new();
    for name in ["a", "b"] {
        let mut build = polled();
        build.metadata.namespace = Some("team".into());
        build.metadata.name = Some(name.into());
        build.metadata.uid = Some(name.into());
        let (bound, what) = (Bound::Secrets, vec!["image h/a:1".to_owned()]);
        out.insert(name.to_owned(), LeftOut { bound, what });
        let json = serde_json::to_value(&build).unwrap();
        let one = format!("/apis/whittle.dev/v1alpha1/namespaces/team/imagebuilds/{name}");
        server.on(&format!("GET {one}"), json.clone());
        let write = format!("PATCH {one}/status");
        match name {
            "a" => server.refuse(&write, 403, "Forbidden", "denied"),
            _ => server.on(&write, json),
        };
        let event = kube::runtime::watcher::Event::Apply(build);
        context.sources.put(&event);
    }
    context.sources.leaves_out(&builder, out);
    tell_all(&context, "team").await;
    // Both were read, and both writes were tried.
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_builder_that_is_deleted_is_what_a_silence_says_and_not_that_something_is_created_again()
{
    let (context, server) = crate::scripted::context(&[]);
    let builder = ("team".to_owned(), "default".to_owned());
    let mut build = polled();
    build.metadata.namespace = Some("team".into());
    build.metadata.name = Some("a".into());
    let event = kube::runtime::watcher::Event::Apply(build.clone());
    context.sources.put(&event);
    // It was there, and its watcher was written.
    context.sources.wants(&builder, "deployment");
    tokio::time::advance(context.sources.silent_after()).await;
    let all = "/apis/whittle.dev/v1alpha1/namespaces/team";
    let missing = || {
        let one = format!("GET {all}/builders/default");
        server.refuse(&one, 404, "NotFound", "not found");
    };
    missing();
    look(&context, &builder).await.unwrap();
    let one = format!("{all}/imagebuilds/a");
    let json = serde_json::to_value(&build).unwrap();
    server.on(&format!("GET {one}"), json.clone());
    server.on(&format!("PATCH {one}/status"), json);
    tell_all(&context, "team").await;
    let asked = server.asked();
    let told = asked.last().unwrap().body.to_string();
    for words in ["Builder default not found", "whittle.dev/requestedAt"] {
        assert!(told.contains(words), "{told}");
    }
    assert!(!told.contains("created again"), "{told}");
    // What is written then says the same of it: nobody is told again.
    let why = cause::no_builder("team", "default");
    context.sources.fails(&builder, why);
    missing();
    look(&context, &builder).await.unwrap();
    assert_eq!(server.asked().len(), 1);
    build.status = told_status(&told);
    context
        .sources
        .put(&kube::runtime::watcher::Event::Apply(build));
    assert!(context.sources.untold("team", 9).is_empty());
    // Until it is there again.
    context.sources.wants(&builder, "deployment");
    let (turn, _) = context.sources.turn(&builder);
    assert_eq!(turn, Turn::Look(Why::Trouble));
}

/// The status in a patch.
fn told_status(patch: &str) -> Option<ImageBuildStatus> {
    let patch: serde_json::Value = serde_json::from_str(patch).unwrap();
    serde_json::from_value(patch["status"].clone()).unwrap()
}
