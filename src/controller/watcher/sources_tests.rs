use serde_json::json;

use super::*;
use crate::fixtures;
use whittle_watch::wire::{Outcome, Reason};

const A: &str = "main@sha1:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn build(name: &str, triggers: serde_json::Value) -> ImageBuild {
    let mut build = fixtures::git_with_secrets();
    build.metadata.name = Some(name.into());
    build.metadata.uid = Some(format!("uid-of-{name}"));
    build.spec.triggers = serde_json::from_value(triggers).unwrap();
    build
}

fn polled(name: &str) -> ImageBuild {
    build(name, json!({"poll": {"interval": "1m"}}))
}

fn default() -> Name {
    ("team".into(), "default".into())
}

/// What is to be looked at at once.
async fn look(sources: &Sources, builder: &Name) -> Vec<String> {
    let wanted = sources.wanted(builder, None, Duration::from_secs(25));
    wanted.await.0
}

/// The Builder whose list is to be written next; none where none is.
async fn next(sources: &Sources) -> Option<Name> {
    tokio::time::timeout(TOGETHER * 2, sources.next())
        .await
        .ok()
}

#[tokio::test(start_paused = true)]
async fn a_list_is_written_where_what_is_watched_changes_and_not_for_what_becomes_of_a_build() {
    let sources = Sources::default();
    let mut build = polled("a");
    sources.put(&Event::Apply(build.clone()));
    assert_eq!(next(&sources).await, Some(default()));
    let watched = sources.of(&default());
    assert_eq!((watched.len(), watched[0].interval_seconds), (1, 60));
    build.status = Some(serde_json::from_value(json!({"lastRevision": A})).unwrap());
    sources.put(&Event::Apply(build.clone()));
    assert_eq!(next(&sources).await, None);
    build.spec.source.git.as_mut().unwrap().secret_ref = None;
    sources.put(&Event::Apply(build.clone()));
    assert_eq!(next(&sources).await, Some(default()));
    // Another Builder: both lists.
    build.spec.builder_ref.name = "other".into();
    sources.put(&Event::Apply(build.clone()));
    let both = [
        next(&sources).await.unwrap().1,
        next(&sources).await.unwrap().1,
    ];
    assert!(both.contains(&"default".to_owned()) && both.contains(&"other".to_owned()));
    sources.put(&Event::Delete(build));
    assert_eq!(next(&sources).await.unwrap().1, "other");
    assert!(sources.of(&("team".into(), "other".into())).is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_image_build_that_went_while_nobody_watched_is_watched_no_more() {
    let sources = Sources::default();
    let list = |builds: &[ImageBuild]| {
        sources.put(&Event::Init);
        for build in builds {
            sources.put(&Event::InitApply(build.clone()));
        }
        sources.put(&Event::InitDone);
    };
    list(&[
        polled("a"),
        polled("b"),
        build("c", json!({"schedule": "@daily"})),
    ]);
    assert_eq!(next(&sources).await, Some(default()));
    assert_eq!(sources.of(&default()).len(), 2);
    list(&[polled("b")]);
    assert_eq!(next(&sources).await, Some(default()));
    assert!(sources.of(&default())[0].id.starts_with("uid-of-b/"));
}

#[tokio::test(start_paused = true)]
async fn a_change_does_not_wait_for_the_hour_in_which_a_list_is_written_again() {
    let sources = Sources::default();
    sources.touch_later(default(), Duration::from_secs(3600));
    assert_eq!(next(&sources).await, None);
    sources.touch(default());
    assert_eq!(next(&sources).await, Some(default()));
}

#[tokio::test(start_paused = true)]
async fn what_is_to_be_looked_at_is_told_at_once_and_once_and_to_its_own_watcher() {
    let sources = Sources::default();
    let other = ("team".to_owned(), "other".to_owned());
    let waiting = tokio::spawn({
        let sources = sources.clone();
        async move { look(&sources, &default()).await }
    });
    tokio::task::yield_now().await;
    sources.want(&other, "x");
    sources.want(&default(), "a");
    assert_eq!(waiting.await.unwrap(), ["a"]);
    assert!(look(&sources, &default()).await.is_empty());
    assert_eq!(look(&sources, &other).await, ["x"]);
}

#[tokio::test(start_paused = true)]
async fn a_source_in_doubt_is_looked_at_at_once_and_heard_whatever_is_known_of_it() {
    let sources = Sources::default();
    let mut build = polled("a");
    let status = |doubt: &str| {
        serde_json::from_value(json!({"lastRevision": A, "conditions": [{"type": "Triggers", "status": "True",
            "reason": "TriggersWork", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "pending": {"reason": "Commit", "detail": "d", "revision": "main@sha1:bb", "since": "2026-01-01T00:00:00Z", "doubt": doubt}}))
        .unwrap()
    };
    build.status = Some(status("2026-01-01T00:00:00Z"));
    let entry = Entry::of(&build).unwrap();
    let id = entry.watched[0].id.clone();
    let found = |id: &str| Seen {
        id: id.into(),
        wanted: false,
        tree: None,
        age_seconds: 0,
        begun_millis: None,
        outcome: Outcome::Found { revision: A.into() },
    };
    assert!(!entry.knows(&found(&id)));
    // Once for each doubt, and again by a controller that has just started.
    sources.put(&Event::Apply(build.clone()));
    sources.put(&Event::Apply(build.clone()));
    assert_eq!(look(&sources, &default()).await, std::slice::from_ref(&id));
    assert!(look(&sources, &default()).await.is_empty());
    let fresh = Sources::default();
    for event in [
        Event::Init,
        Event::InitApply(build.clone()),
        Event::InitDone,
    ] {
        fresh.put(&event);
    }
    assert_eq!(look(&fresh, &default()).await, std::slice::from_ref(&id));
    build.status = Some(status("2026-01-01T00:01:00Z"));
    let (put, one) = (Instant::now(), std::slice::from_ref(&id));
    sources.put(&Event::Apply(build));
    // Not so early that the look would not count; and a webhook does not wait for that.
    sources.want(&default(), &id);
    assert_eq!(look(&sources, &default()).await, one);
    assert!(put.elapsed() < DOUBTED);
    assert_eq!(look(&sources, &default()).await, one);
    assert!(put.elapsed() >= DOUBTED);
    assert!(look(&sources, &default()).await.is_empty());
}

#[test]
fn what_is_known_already_is_seen_without_asking_the_api_server() {
    let mut build = polled("a");
    build.status = Some(
        serde_json::from_value(json!({"lastRevision": A, "conditions": [{"type": "Triggers", "status": "True",
            "reason": "TriggersWork", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}))
        .unwrap(),
    );
    let seen = |id: &str, outcome| Seen {
        id: id.into(),
        wanted: false,
        tree: None,
        age_seconds: 0,
        begun_millis: None,
        outcome,
    };
    let found = |revision: &str| Outcome::Found {
        revision: revision.into(),
    };
    let entry = Entry::of(&build).unwrap();
    let id = &entry.watched[0].id;
    assert!(entry.knows(&seen(id, found(A))));
    assert!(!entry.knows(&seen(id, found("main@sha1:bb"))));
    assert!(!entry.knows(&seen("uid-of-a", found(A))));
    let failed = Outcome::Failed {
        reason: Reason::NotFound,
        message: "m".into(),
    };
    assert!(!entry.knows(&seen(id, failed.clone())));
    let unseen = json!([{"id": id, "reason": "SourceNotFound", "message": "m"}]);
    build.status.as_mut().unwrap().unseen = serde_json::from_value(unseen).unwrap();
    let entry = Entry::of(&build).unwrap();
    assert!(entry.knows(&seen(&entry.watched[0].id, failed)));
    assert!(!entry.knows(&seen(&entry.watched[0].id, found(A))));
}

#[test]
fn who_speaks_for_one_builder_finds_no_other_ones_sources() {
    let sources = Sources::default();
    sources.put(&Event::Apply(polled("a")));
    assert!(sources.find(&default(), "uid-of-a").is_some());
    assert!(sources.find(&default(), "uid-of-a/1").is_some());
    for builder in [
        ("team", "other"),
        ("other", "default"),
        ("team\0", "default"),
    ] {
        let builder = (builder.0.to_owned(), builder.1.to_owned());
        assert!(sources.find(&builder, "uid-of-a").is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_changes_is_sent_at_once_to_the_watcher_that_asks_with_its_credential() {
    let (sources, wait) = (Sources::default(), Duration::from_secs(25));
    let other = ("team".to_owned(), "other".to_owned());
    sources.lists(&default(), "u", "one");
    sources.lists(&other, "o", "of the other");
    let one = whittle_image::digest_of(b"one");
    let ask = |builder: Name, uid: &'static str, has: Option<String>| {
        let sources = sources.clone();
        async move {
            let has = has.as_deref().map(|has| (uid, has));
            let (look, list) = sources.wanted(&builder, has, wait).await;
            let text = list.and_then(|list| list.upgrade());
            (
                look,
                text.map(|text| serde_json::from_slice::<String>(&text).unwrap()),
            )
        }
    };
    let begun = Instant::now();
    let first = ask(default(), "u", Some(String::new())).await;
    assert_eq!(first, (vec![], Some("one".into())));
    let waiting = tokio::spawn(ask(default(), "u", Some(one.clone())));
    tokio::task::yield_now().await;
    // Each of these waits in vain: it takes none, its Builder was another one of that name, or it has it.
    let of_other = whittle_image::digest_of(b"of the other");
    for (builder, uid, has) in [
        (default(), "u", None),
        (default(), "before", Some(String::new())),
        (other.clone(), "u", Some(String::new())),
        (other.clone(), "o", Some(of_other)),
    ] {
        assert_eq!(ask(builder, uid, has).await, (vec![], None));
    }
    assert!(begun.elapsed() >= wait * 4);
    // It has ended by now, and asks again.
    assert_eq!(waiting.await.unwrap(), (vec![], None));
    let (waiting, begun) = (tokio::spawn(ask(default(), "u", Some(one))), Instant::now());
    tokio::task::yield_now().await;
    sources.want(&other, "x");
    sources.lists(&default(), "u", "two");
    assert_eq!(waiting.await.unwrap(), (vec![], Some("two".into())));
    assert_eq!(begun.elapsed(), Duration::ZERO);
    // One that has it at no time is sent it once a second, and is told at once what is wanted.
    sources.want(&default(), "a");
    let again = ask(default(), "u", Some(String::new()));
    assert_eq!(again.await, (vec!["a".into()], None));
    let again = ask(default(), "u", Some(String::new()));
    assert_eq!(again.await, (vec![], Some("two".into())));
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
    // What nobody asks for any more is sent no more.
    sources.unwants(&default());
    assert_eq!(
        ask(default(), "u", Some(String::new())).await,
        (vec![], None)
    );
}
