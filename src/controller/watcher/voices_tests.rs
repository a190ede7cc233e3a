use kube::runtime::watcher::Event;
use serde_json::json;

use super::*;
use crate::fixtures;
use whittle_api::ImageBuild;

fn builder(name: &str) -> Name {
    ("team".into(), name.into())
}

fn missing() -> Cause {
    Cause {
        kind: "NoBuilder",
        words: "not found".into(),
    }
}

fn polled(name: &str, builder: &str) -> ImageBuild {
    let mut build = fixtures::git_with_secrets();
    build.metadata.namespace = Some("team".into());
    build.metadata.name = Some(name.into());
    build.metadata.uid = Some(format!("uid-of-{name}"));
    build.spec.builder_ref.name = builder.into();
    build.spec.triggers = serde_json::from_value(json!({"poll": {"interval": "1m"}})).unwrap();
    build
}

#[tokio::test(start_paused = true)]
async fn all_builders_of_a_namespace_are_told_for_at_once_and_each_for_so_many_at_most() {
    let sources = Sources::default();
    for (name, of) in [
        ("a", "one"),
        ("b", "two"),
        ("c", "one"),
        ("d", "one"),
        ("e", "works"),
    ] {
        sources.put(&Event::Apply(polled(name, of)));
        sources.wants(&builder(of), "deployment");
    }
    // Another namespace's.
    sources.wants(&("team2".into(), "one".into()), "deployment");
    tokio::time::advance(sources.silent_after()).await;
    sources.speaks(&builder("works"));
    for of in ["one", "two", "works"] {
        sources.found(&builder(of), &missing(), None, of.to_owned());
    }
    let told: Vec<_> = sources.untold("team", 2).into_iter().collect();
    let all: Vec<_> = told
        .iter()
        .map(|it| (it.name.1.as_str(), it.builder.as_str()))
        .collect();
    assert_eq!(all, [("a", "one"), ("b", "two"), ("c", "one")]);
    let say = |words: &str| Some(Say::Silent(words.into()));
    assert_eq!((&told[0].say, &told[1].say), (&say("one"), &say("two")));
    assert!(told.iter().all(|untold| sources.is_untold(untold)));
    assert!(sources.untold("team2", 2).is_empty());
    // It names another Builder by now.
    sources.put(&Event::Apply(polled("a", "two")));
    assert!(!sources.is_untold(&told[0]));
}

#[tokio::test(start_paused = true)]
async fn names_of_builders_that_somebody_makes_up_leave_nothing() {
    let sources = Sources::default();
    for number in 0..1_000 {
        let made_up = builder(&format!("b{number}"));
        sources.fails(&made_up, missing());
        assert_eq!(sources.watchers(), std::slice::from_ref(&made_up));
        // The ImageBuild names the next one: what is told of this one still changes nothing.
        sources.unwants(&made_up);
        sources.speaks(&made_up);
        assert_eq!(sources.turn(&made_up), (Turn::Known, None));
        sources.unwants(&made_up);
    }
    assert!(sources.watchers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_that_is_wanted_no_more_is_known_until_its_request_has_ended() {
    let (sources, default) = (Sources::default(), builder("default"));
    sources.wants(&default, "deployment");
    let held = sources.holds(&default);
    sources.unwants(&default);
    assert_eq!(sources.watchers(), std::slice::from_ref(&default));
    drop(held);
    assert!(sources.watchers().is_empty());
    // Before its list was written: one that is wanted stays known.
    let held = sources.holds(&default);
    sources.wants(&default, "deployment");
    drop(held);
    assert_eq!(sources.watchers(), [default]);
}
