use kube::runtime::watcher::Event;
use serde_json::json;

use super::super::fixtures;
use super::*;

fn seen(key: &str, digest: &str) -> ImageBuild {
    fixtures::build(key, digest, json!({}))
}

/// Two ImageBuilds, listed and judged.
fn listed() -> Taken {
    let mut taken = Taken::default();
    assert!(!taken.take(Event::Init));
    for key in ["team/a", "team/b"] {
        assert!(taken.take(Event::InitApply(seen(key, "sha256:aa"))));
    }
    assert!(!taken.complete);
    assert!(taken.take(Event::InitDone));
    assert!(taken.complete);
    taken
        .images
        .values_mut()
        .for_each(|image| image.judged = true);
    taken
}

fn keys(taken: &Taken) -> Vec<&str> {
    taken.images.keys().map(String::as_str).collect()
}

#[test]
fn an_image_that_changes_has_something_written_and_one_that_stays_has_not() {
    let mut taken = listed();
    assert!(!taken.take(Event::Apply(seen("team/a", "sha256:aa"))));
    assert!(taken.images["team/a"].judged);
    assert!(taken.take(Event::Apply(seen("team/a", "sha256:bb"))));
    assert!(!taken.images["team/a"].judged);
    assert_eq!(profiles::unjudged(&taken.images), ["team/a"]);
}

#[test]
fn an_image_build_without_an_image_or_that_is_gone_is_forgotten() {
    let mut taken = listed();
    let mut without = seen("team/a", "sha256:aa");
    without.status = None;
    assert!(taken.take(Event::Apply(without.clone())));
    assert!(!taken.take(Event::Apply(without)));
    assert!(taken.take(Event::Delete(seen("team/b", "sha256:aa"))));
    assert!(!taken.take(Event::Delete(seen("team/b", "sha256:aa"))));
    assert!(taken.images.is_empty());
}

#[test]
fn a_list_anew_keeps_what_was_judged_and_drops_what_is_gone_with_its_end() {
    let mut taken = listed();
    assert!(!taken.take(Event::Init));
    assert!(!taken.complete);
    // Nothing has changed of it: it need not be judged again.
    assert!(!taken.take(Event::InitApply(seen("team/a", "sha256:aa"))));
    assert!(taken.images["team/a"].judged);
    assert!(taken.take(Event::InitDone));
    assert_eq!(keys(&taken), ["team/a"]);
}

#[test]
fn a_list_that_begins_again_before_its_end_loses_nothing() {
    let mut taken = listed();
    taken.take(Event::Init);
    taken.take(Event::InitApply(seen("team/a", "sha256:aa")));
    taken.take(Event::Init);
    for key in ["team/a", "team/b"] {
        assert!(
            !taken.take(Event::InitApply(seen(key, "sha256:aa"))),
            "{key}"
        );
    }
    taken.take(Event::InitDone);
    assert_eq!(keys(&taken), ["team/a", "team/b"]);
    assert!(taken.images.values().all(|image| image.judged));
}
