//! Which ImageBuild names which source of Flux, from the watch of ImageBuilds, and which are to be looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::runtime::watcher::Event;
use tokio::sync::Notify;

use crate::queues::{Name, name};
use whittle_api::{FluxKind, ImageBuild};

/// Kind and name.
type Source = (FluxKind, String);

/// The sources of all ImageBuilds.
#[derive(Clone, Default)]
pub struct Sources(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    named: BTreeMap<Name, Source>,
    /// What a list that has not ended yet has told.
    fresh: BTreeMap<Name, Source>,
    /// ImageBuilds whose source may be another, or have moved.
    due: BTreeSet<Name>,
}

impl Sources {
    /// The watch has told this. The ImageBuild is whole.
    pub fn put(&self, event: &Event<ImageBuild>) {
        let mut state = self.lock();
        match event {
            Event::Init => state.fresh.clear(),
            Event::InitApply(build) => {
                if let Some(source) = source(build) {
                    state.fresh.insert(name(build), source);
                }
            }
            Event::InitDone => {
                state.named = std::mem::take(&mut state.fresh);
                state.due = state.named.keys().cloned().collect();
            }
            Event::Apply(build) => state.set(name(build), source(build)),
            Event::Delete(build) => state.set(name(build), None),
        }
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// This source has changed, or is gone.
    pub fn moved(&self, kind: FluxKind, namespace: &str, source: &str) {
        self.mark(|(of, _), (other, name)| of == namespace && *other == kind && name == source);
    }

    /// Any of this kind may have.
    pub fn all_moved(&self, kind: FluxKind) {
        self.mark(|_, (other, _)| *other == kind);
    }

    /// This ImageBuild is to be looked at again.
    pub fn again(&self, build: &Name) {
        self.mark(|name, _| name == build);
    }

    /// Waits until some ImageBuild names a source of this kind: before, nothing of Flux is asked for.
    pub async fn names(&self, kind: FluxKind) {
        self.until(|state| {
            state
                .named
                .values()
                .any(|(of, _)| *of == kind)
                .then_some(())
        })
        .await;
    }

    /// The next ImageBuild that is to be looked at. Whoever stops to wait loses nothing.
    pub async fn next(&self) -> Name {
        self.until(|state| state.due.pop_first()).await
    }

    async fn until<T>(&self, look: impl Fn(&mut State) -> Option<T>) -> T {
        loop {
            // Before the look: what comes meanwhile is heard.
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = look(&mut self.lock()) {
                return found;
            }
            changed.await;
        }
    }

    fn mark(&self, which: impl Fn(&Name, &Source) -> bool) {
        let mut state = self.lock();
        let State { named, due, .. } = &mut *state;
        let found = named.iter().filter(|(build, source)| which(build, source));
        due.extend(found.map(|(build, _)| build.clone()));
        drop(state);
        self.0.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn set(&mut self, name: Name, source: Option<Source>) {
        let before = match &source {
            Some(source) => self.named.insert(name.clone(), source.clone()),
            None => self.named.remove(&name),
        };
        // Its own status need not be looked at.
        if source.is_some() && before != source {
            self.due.insert(name);
        }
    }
}

fn source(build: &ImageBuild) -> Option<Source> {
    let alive = build.metadata.deletion_timestamp.is_none();
    let flux = build.spec.source.flux.as_ref().filter(|_| alive)?;
    Some((flux.kind, flux.name.clone()))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use whittle_api::FluxSource;

    use super::*;
    use crate::fixtures;

    fn of(name: &str, source: Option<&str>) -> ImageBuild {
        let mut build = fixtures::inline();
        build.metadata.name = Some(name.into());
        build.spec.source.flux = source.map(|source| FluxSource {
            kind: FluxKind::GitRepository,
            name: source.into(),
            sub_path: None,
        });
        build
    }

    fn due(sources: &Sources) -> Vec<String> {
        std::iter::from_fn(|| sources.next().now_or_never())
            .map(|(_, name)| name)
            .collect()
    }

    #[test]
    fn an_image_build_is_looked_at_where_its_source_is_new_or_has_moved() {
        let sources = Sources::default();
        for build in [of("a", Some("app")), of("b", Some("app")), of("c", None)] {
            sources.put(&Event::Apply(build));
        }
        assert_eq!(due(&sources), ["a", "b"]);
        // Its status alone.
        sources.put(&Event::Apply(of("a", Some("app"))));
        sources.moved(FluxKind::GitRepository, "team", "other");
        sources.moved(FluxKind::Bucket, "team", "app");
        sources.moved(FluxKind::GitRepository, "elsewhere", "app");
        assert!(due(&sources).is_empty());
        sources.moved(FluxKind::GitRepository, "team", "app");
        assert_eq!(due(&sources), ["a", "b"]);
        sources.put(&Event::Delete(of("a", Some("app"))));
        sources.all_moved(FluxKind::GitRepository);
        assert_eq!(due(&sources), ["b"]);
    }

    #[test]
    fn a_kind_is_named_once_an_image_build_names_it() {
        let sources = Sources::default();
        assert!(
            sources
                .names(FluxKind::GitRepository)
                .now_or_never()
                .is_none()
        );
        sources.put(&Event::Apply(of("a", Some("app"))));
        assert!(
            sources
                .names(FluxKind::GitRepository)
                .now_or_never()
                .is_some()
        );
        assert!(sources.names(FluxKind::Bucket).now_or_never().is_none());
    }
}
