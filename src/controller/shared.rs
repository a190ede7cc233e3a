//! One watch of a kind for all who listen: what is known of each object is kept once, and each listener hears of the
//! changes that it asked for. Of objects with which nothing is to be done nothing is kept: most ImageBuilds have ended.
//!
//! kube's own shared streams (`reflect_shared`) are not used: they tell of no deletion, and a listener that is about to be
//! told of an object which has just gone is never polled again, until it holds up the watch for everybody.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use kube::Resource;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::Event;

/// Objects that changed, as a listener hears of them; it takes them at once, and decides later what to do.
pub type Heard<K> = UnboundedReceiver<Arc<K>>;

/// Where this differs, a listener is told.
type Trigger<K> = fn(&K) -> Option<u64>;

/// What is known of a kind, and who listens.
pub struct Shared<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: Store<K>,
    writer: Writer<K>,
    /// True for an object with which nothing is to be done until it changes.
    rests: fn(&K) -> bool,
    /// Of a list that has not ended: those that rest, and did not before.
    ended: Vec<Arc<K>>,
    listeners: Vec<(Trigger<K>, UnboundedSender<Arc<K>>)>,
}

/// An object before and after; a new one was nothing, and so was one that rested; one that has gone is nothing.
#[derive(Debug)]
pub struct Change<K> {
    /// As it was.
    pub old: Option<Arc<K>>,
    /// As it is.
    pub new: Option<Arc<K>>,
}

impl<K: Resource<DynamicType = ()> + Clone + Debug> Default for Shared<K> {
    fn default() -> Self {
        Self::without(|_| false)
    }
}

impl<K: Resource<DynamicType = ()> + Clone + Debug> Shared<K> {
    /// Nothing is kept of objects that rest: who listens hears of one as it begins to, and as it is at rest no more.
    pub fn without(rests: fn(&K) -> bool) -> Self {
        let (store, writer) = store();
        Self {
            store,
            writer,
            rests,
            ended: vec![],
            listeners: vec![],
        }
    }

    /// All objects that are known.
    pub fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// From now on tells of each object that has gone, or of which `trigger` says something else than before; of one that
    /// was not there it said nothing.
    pub fn listen(&mut self, trigger: Trigger<K>) -> Heard<K> {
        let (tell, heard) = unbounded();
        self.listeners.push((trigger, tell));
        heard
    }

    /// Takes an event in, and returns what has changed by it; it is known before anybody is told. `before_told` is the
    /// place to note it down where else it is to be known by then.
    pub fn take(&mut self, event: Event<K>, mut before_told: impl FnMut(&Change<K>)) {
        let changes = self.apply(event);
        changes.iter().for_each(&mut before_told);
        for change in &changes {
            let (old, new) = (change.old.as_deref(), change.new.as_deref());
            let Some(object) = change.new.as_ref().or(change.old.as_ref()) else {
                continue;
            };
            if old.is_none() && new.is_some_and(self.rests) {
                continue;
            }
            for (trigger, tell) in &self.listeners {
                if new.is_none() || old.and_then(trigger) != new.and_then(trigger) {
                    let _ = tell.unbounded_send(object.clone());
                }
            }
        }
    }

    fn apply(&mut self, event: Event<K>) -> Vec<Change<K>> {
        match &event {
            Event::Apply(object) => {
                let reference = ObjectRef::from_obj(object);
                let old = self.store.get(&reference);
                if (self.rests)(object) {
                    let gone = Event::Delete(object.clone());
                    self.writer.apply_watcher_event(&gone);
                    let new = Some(Arc::new(object.clone()));
                    return vec![Change { old, new }];
                }
                self.writer.apply_watcher_event(&event);
                let new = self.store.get(&reference);
                vec![Change { old, new }]
            }
            Event::Delete(object) => {
                let old = Some(Arc::new(object.clone()));
                self.writer.apply_watcher_event(&event);
                vec![Change { old, new: None }]
            }
            Event::InitApply(object) if (self.rests)(object) => {
                let new = Arc::new(object.clone());
                if self.store.get(&ObjectRef::from_obj(object)).is_some() {
                    self.ended.push(new);
                    return vec![];
                }
                let (old, new) = (None, Some(new));
                vec![Change { old, new }]
            }
            // A list replaces all at its end: until then what was known before is.
            Event::Init | Event::InitApply(_) => {
                if matches!(event, Event::Init) {
                    self.ended.clear();
                }
                self.writer.apply_watcher_event(&event);
                vec![]
            }
            Event::InitDone => {
                let mut before: HashMap<ObjectRef<K>, Arc<K>> = self
                    .store
                    .state()
                    .into_iter()
                    .map(|object| (ObjectRef::from_obj(object.as_ref()), object))
                    .collect();
                self.writer.apply_watcher_event(&event);
                let mut changes: Vec<_> = self
                    .store
                    .state()
                    .into_iter()
                    .chain(self.ended.drain(..))
                    .map(|new| Change {
                        old: before.remove(&ObjectRef::from_obj(new.as_ref())),
                        new: Some(new),
                    })
                    .collect();
                let gone = |old| Change {
                    old: Some(old),
                    new: None,
                };
                changes.extend(before.into_values().map(gone));
                changes
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixtures, triggers};
    use kube::ResourceExt;
    use whittle_api::ImageBuild;

    fn build(name: &str, generation: i64) -> ImageBuild {
        let mut build = fixtures::inline();
        build.metadata.name = Some(name.into());
        build.metadata.uid = Some(name.into());
        build.metadata.generation = Some(generation);
        build
    }

    fn names(heard: &mut Heard<ImageBuild>) -> Vec<String> {
        let mut all: Vec<String> = std::iter::from_fn(|| heard.try_recv().ok())
            .map(|build| build.name_any())
            .collect();
        all.sort();
        all
    }

    fn listed(shared: &mut Shared<ImageBuild>, builds: impl IntoIterator<Item = ImageBuild>) {
        shared.take(Event::Init, |_| {});
        for build in builds {
            shared.take(Event::InitApply(build), |_| {});
        }
        shared.take(Event::InitDone, |_| {});
    }

    #[test]
    fn each_listener_hears_of_what_it_asked_for_and_all_hear_of_what_has_gone() {
        let mut shared = Shared::default();
        let mut specs = shared.listen(triggers::image_build);
        let mut runs = shared.listen(triggers::build_runs);
        listed(&mut shared, [build("a", 1), build("b", 1)]);
        assert_eq!(names(&mut specs), ["a", "b"]);
        assert!(names(&mut runs).is_empty(), "none is under way");
        // Another spec starts nothing by itself.
        shared.take(Event::Apply(build("a", 2)), |_| {});
        assert_eq!(names(&mut specs), ["a"]);
        assert!(names(&mut runs).is_empty());
        shared.take(Event::Apply(build("a", 2)), |_| {});
        assert!(names(&mut specs).is_empty());
        shared.take(Event::Delete(build("b", 1)), |_| {});
        assert_eq!(names(&mut specs), ["b"]);
        assert_eq!(names(&mut runs), ["b"]);
    }

    #[test]
    fn what_came_and_went_while_there_was_no_watch_is_told_once_it_is_known() {
        let mut shared = Shared::default();
        let mut specs = shared.listen(triggers::image_build);
        listed(&mut shared, [build("stays", 1), build("goes", 1)]);
        names(&mut specs);
        shared.take(Event::Init, |_| {});
        shared.take(Event::InitApply(build("comes", 1)), |_| {});
        shared.take(Event::InitApply(build("stays", 1)), |_| {});
        assert!(names(&mut specs).is_empty(), "it could not be found yet");
        assert_eq!(shared.store().len(), 2);
        shared.take(Event::InitDone, |_| {});
        assert_eq!(names(&mut specs), ["comes", "goes"]);
    }

    #[test]
    fn of_those_that_rest_nothing_is_kept_and_who_listens_hears_of_them_as_they_begin_and_cease_to()
    {
        let mut shared = Shared::without(|build: &ImageBuild| build.spec.suspend);
        let mut specs = shared.listen(triggers::image_build);
        let at_rest = |name: &str, generation| {
            let mut build = build(name, generation);
            build.spec.suspend = true;
            build
        };
        listed(&mut shared, [at_rest("a", 1), build("b", 1), build("c", 1)]);
        assert_eq!(
            (shared.store().len(), names(&mut specs).as_slice()),
            (2, ["b", "c"].map(str::to_owned).as_slice())
        );
        let mut seen = vec![];
        let mut see =
            |change: &Change<ImageBuild>| seen.push((change.old.is_some(), change.new.is_some()));
        // It rests still, begins to, and ceases to.
        shared.take(Event::Apply(at_rest("a", 2)), &mut see);
        assert!(names(&mut specs).is_empty());
        shared.take(Event::Apply(at_rest("b", 2)), &mut see);
        shared.take(Event::Apply(build("a", 3)), &mut see);
        assert_eq!(names(&mut specs), ["a", "b"]);
        // A list that was missed: one rests since, and one that rested has gone.
        shared.take(Event::Init, &mut see);
        shared.take(Event::InitApply(at_rest("a", 4)), &mut see);
        shared.take(Event::InitApply(build("c", 1)), &mut see);
        assert!(names(&mut specs).is_empty());
        shared.take(Event::InitDone, &mut see);
        assert_eq!(
            (names(&mut specs), shared.store().len()),
            (vec!["a".to_owned()], 1)
        );
        assert_eq!(
            seen,
            [
                (false, true),
                (true, true),
                (false, true),
                (true, true),
                (true, true)
            ]
        );
    }

    #[test]
    fn what_is_told_is_known_before() {
        let mut shared = Shared::default();
        let store = shared.store();
        let mut seen = vec![];
        shared.take(Event::Apply(build("a", 1)), |change| {
            assert!(change.old.is_none());
            seen.extend(store.state().iter().map(|build| build.name_any()));
        });
        assert_eq!(seen, ["a"]);
    }
}
