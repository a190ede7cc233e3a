use super::super::super::fixtures::images;
use super::super::super::image::said;
use super::*;
use whittle_api::Reason;
use whittle_probe::{NotKnown, Profiled};

/// A cluster in which some ImageBuilds have an image.
struct Stage {
    images: Images,
    layout: Layout,
    versions: BTreeMap<String, String>,
    unnamed: Vec<String>,
    objects: BTreeMap<String, (String, String)>,
    told: String,
    others: Vec<&'static str>,
}

fn laid_out(images: &Images) -> Layout {
    let all = images.iter().map(|(key, image)| Profiled {
        image_build: key.clone(),
        repository: image.repository.clone(),
        digest: image.digest.clone(),
        versions: image.versions.clone(),
        known: image.known.clone().unwrap(),
        earlier: vec![],
        fix: None,
        trusted: false,
    });
    whittle_probe::profiles(all.collect(), &BTreeMap::new())
}

impl Stage {
    fn of(keys: &[&str]) -> Self {
        let images = images(keys);
        let layout = laid_out(&images);
        Self {
            images,
            layout,
            versions: BTreeMap::new(),
            unnamed: vec![],
            objects: BTreeMap::new(),
            told: String::new(),
            others: vec![],
        }
    }

    /// The guard does not know the images of these.
    fn not_known(mut self, keys: &[&str]) -> Self {
        for key in keys {
            self.images.get_mut(*key).unwrap().known = Some(Err(NotKnown {
                reason: Reason::NotRead,
                message: "no report".into(),
            }));
        }
        self.layout = laid_out(&self.images);
        self
    }

    fn step(&self) -> Step {
        decide(&Observed {
            images: &self.images,
            layout: &self.layout,
            digests: &digests(&self.layout),
            installation: "w",
            versions: &self.versions,
            unnamed: &self.unnamed,
            objects: &self.objects,
            told: &self.told,
            is_others: &|namespace, builder| {
                self.others.contains(&namespace) && builder == whittle_api::DEFAULT_BUILDER
            },
        })
    }

    /// What was decided has been written, and stands as `version`.
    fn written(mut self, version: &str) -> Self {
        for write in self.step().write {
            let written = (write.digest, version.to_owned());
            self.versions.insert(write.name.clone(), version.into());
            self.objects.insert(write.name, written);
        }
        self
    }
}

fn told(step: &Step) -> Vec<&str> {
    step.tell.iter().map(|(key, _)| key.as_str()).collect()
}

#[test]
fn a_profile_is_written_once_and_again_only_where_it_differs_from_what_stands() {
    let stage = Stage::of(&["team/a"]);
    let step = stage.step();
    assert_eq!(step.write.len(), 1);
    assert_eq!(
        (step.write[0].name.as_str(), &step.write[0].version),
        ("w-0", &None)
    );
    assert_eq!(step.stand, ["w-0".to_owned()].into());
    assert!(step.delete.is_empty() && step.tell.is_empty());
    let mut stage = stage.written("7");
    assert_eq!(stage.step().write, []);
    // Somebody else has written it.
    stage.versions.insert("w-0".into(), "8".into());
    let step = stage.step();
    assert_eq!(step.write[0].version.as_deref(), Some("8"));
    // Somebody has deleted it.
    stage.versions.clear();
    assert_eq!(stage.step().write[0].version, None);
    // An image was added.
    let mut more = Stage::of(&["team/a", "team/b"]);
    more.versions.insert("w-0".into(), "7".into());
    more.objects = Stage::of(&["team/a"]).written("7").objects;
    assert_eq!(more.step().write[0].version.as_deref(), Some("7"));
}

#[test]
fn profiles_without_an_image_go_and_so_do_those_that_no_installation_has_named() {
    let mut stage = Stage::of(&[]);
    stage.versions = ["w-0", "w-1"].map(|name| (name.into(), "1".into())).into();
    stage.unnamed = vec!["whittle-0".into()];
    let step = stage.step();
    assert_eq!(step.delete, ["w-0", "w-1", "whittle-0"]);
    assert!(step.write.is_empty() && step.stand.is_empty());
}

#[test]
fn what_the_guard_does_not_know_is_counted_and_said_where_it_was_not_said_before() {
    let mut stage = Stage::of(&["team/a", "team/b"]).not_known(&["team/b"]);
    let step = stage.step();
    assert_eq!(step.not_known, 1);
    assert_eq!(told(&step), ["team/b"]);
    let condition = step.tell[0].1.clone();
    assert_eq!(condition.as_ref().unwrap().1, Reason::NotRead);
    stage.images.get_mut("team/b").unwrap().profile = condition;
    assert_eq!(stage.step().tell, []);
    assert_eq!(stage.step().not_known, 1);
    // It is known now: the condition is to go.
    let mut known = Stage::of(&["team/b"]);
    let before = said((false, Reason::NotRead, String::new()));
    known.images.get_mut("team/b").unwrap().profile = Some(before);
    assert_eq!(known.step().tell, [("team/b".to_owned(), None)]);
}

#[test]
fn conditions_are_written_in_turns_after_the_namespace_that_had_the_last() {
    let keys = ["a/1", "a/2", "b/1", "c/1"];
    let mut stage = Stage::of(&keys).not_known(&keys);
    assert_eq!(told(&stage.step()), ["a/1", "b/1", "c/1", "a/2"]);
    stage.told = "b".into();
    assert_eq!(told(&stage.step()), ["c/1", "a/1", "b/1", "a/2"]);
}

#[test]
fn the_conditions_of_another_installations_image_builds_are_left_to_that() {
    let keys = ["mine/a", "theirs/a"];
    let mut stage = Stage::of(&keys).not_known(&keys);
    stage.others = vec!["theirs"];
    assert_eq!(told(&stage.step()), ["mine/a"]);
}

#[test]
fn what_is_not_judged_is_judged_in_turns() {
    let mut images = images(&["a/1", "a/2", "b/1", "c/1"]);
    for key in ["a/1", "a/2", "b/1"] {
        images.get_mut(key).unwrap().judged = false;
    }
    assert_eq!(unjudged(&images), ["a/1", "b/1", "a/2"]);
}
