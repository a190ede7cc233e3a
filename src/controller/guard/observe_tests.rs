use kube::runtime::watcher::Event;
use serde_json::json;

use super::super::fixtures;
use super::super::image::key;
use super::*;

fn seen(key: &str, digest: &str) -> ImageBuild {
    fixtures::build(key, digest, json!({}))
}

/// As the mailbox hands it on.
fn take(taken: &mut Taken, event: Event<ImageBuild>) -> bool {
    let letter = |build: ImageBuild| Letter {
        key: key(&build),
        image: Image::of(&build).map(Box::new),
    };
    taken.take(match event {
        Event::Init => Event::Init,
        Event::InitApply(build) => Event::InitApply(letter(build)),
        Event::InitDone => Event::InitDone,
        Event::Apply(build) => Event::Apply(letter(build)),
        Event::Delete(build) => Event::Delete(letter(build)),
    })
}

/// Two ImageBuilds, listed and judged.
fn listed() -> Taken {
    let mut taken = Taken::default();
    assert!(!take(&mut taken, Event::Init));
    for key in ["team/a", "team/b"] {
        assert!(take(&mut taken, Event::InitApply(seen(key, "sha256:aa"))));
    }
    assert!(!taken.complete);
    assert!(take(&mut taken, Event::InitDone));
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
    assert!(!take(&mut taken, Event::Apply(seen("team/a", "sha256:aa"))));
    assert!(taken.images["team/a"].judged);
    assert!(take(&mut taken, Event::Apply(seen("team/a", "sha256:bb"))));
    assert!(!taken.images["team/a"].judged);
    assert_eq!(profiles::unjudged(&taken.images), ["team/a"]);
}

#[test]
fn an_image_build_without_an_image_or_that_is_gone_is_forgotten() {
    let mut taken = listed();
    let mut without = seen("team/a", "sha256:aa");
    without.status = None;
    assert!(take(&mut taken, Event::Apply(without.clone())));
    assert!(!take(&mut taken, Event::Apply(without)));
    assert!(take(&mut taken, Event::Delete(seen("team/b", "sha256:aa"))));
    assert!(!take(
        &mut taken,
        Event::Delete(seen("team/b", "sha256:aa"))
    ));
    assert!(taken.images.is_empty());
}

#[test]
fn a_list_anew_keeps_what_was_judged_and_drops_what_is_gone_with_its_end() {
    let mut taken = listed();
    assert!(!take(&mut taken, Event::Init));
    assert!(!taken.complete);
    // Nothing has changed of it: it need not be judged again.
    assert!(!take(
        &mut taken,
        Event::InitApply(seen("team/a", "sha256:aa"))
    ));
    assert!(taken.images["team/a"].judged);
    assert!(take(&mut taken, Event::InitDone));
    assert_eq!(keys(&taken), ["team/a"]);
}

#[test]
fn a_list_that_begins_again_before_its_end_loses_nothing() {
    let mut taken = listed();
    take(&mut taken, Event::Init);
    take(&mut taken, Event::InitApply(seen("team/a", "sha256:aa")));
    take(&mut taken, Event::Init);
    for key in ["team/a", "team/b"] {
        assert!(
            !take(&mut taken, Event::InitApply(seen(key, "sha256:aa"))),
            "{key}"
        );
    }
    take(&mut taken, Event::InitDone);
    assert_eq!(keys(&taken), ["team/a", "team/b"]);
    assert!(taken.images.values().all(|image| image.judged));
}
