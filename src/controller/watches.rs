//! The watches of this process, one of each kind, and what has been listed.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::Store;
use kube::runtime::watcher;
use tokio::sync::watch;

use crate::Context;
use crate::imagebuild::{brief, decide};
use crate::serve::Metrics;
use crate::shared::Shared;
use whittle_api::{Builder, ImageBuild};

/// Kinds without whose lists nothing is decided.
const NEEDED: [&str; 5] = ["ImageBuild", "Builder", "Job", "Pod", "StatefulSet"];
/// One error of a kind is logged within this time.
const COMPLAINT: Duration = Duration::from_secs(10);

/// The kinds that several loops listen to.
pub struct Watches {
    /// ImageBuilds that are looked after and not settled, or have a schedule, shortened: those that have ended are many.
    pub builds: Shared<ImageBuild>,
    /// All Builders, shortened.
    pub builders: Shared<Builder>,
}

/// What is known from the watches.
#[derive(Clone)]
pub struct Known {
    /// ImageBuilds that are not settled, have a schedule, or are being deleted.
    pub builds: Store<ImageBuild>,
    /// All Builders.
    pub builders: Store<Builder>,
}

impl Default for Watches {
    fn default() -> Self {
        let settled = |build: &ImageBuild| {
            let schedule = build.status.as_ref().and_then(|it| it.schedule.as_ref());
            // It is looked at when its time comes: what is not known by then is not looked at.
            let scheduled = schedule.is_some_and(|schedule| schedule.next.is_some());
            let stays = build.metadata.deletion_timestamp.is_none() && decide::is_settled(build);
            stays && !scheduled
        };
        Self {
            builds: Shared::without(settled),
            builders: Shared::default(),
        }
    }
}

impl Watches {
    /// What they know, now and later.
    pub fn known(&self) -> Known {
        Known {
            builds: self.builds.store(),
            builders: self.builders.store(),
        }
    }

    /// Watches until `stop`.
    pub async fn run(self, context: Arc<Context>, stop: impl Future<Output = ()>) {
        let Self {
            mut builds,
            mut builders,
        } = self;
        let paged = watcher::Config::default().page_size(brief::PAGE);
        let cluster = &context.cluster;
        // Whole: the guard looks at what is dropped here at once.
        let mut whole = cluster.watch_selected_whole::<ImageBuild>(paged.clone());
        let mut all = cluster.watch::<Builder>(paged);
        let of_builds = async {
            while let Some(event) = whole.next().await {
                let Ok(event) = event else { continue };
                context.images.put(&event);
                context.sources.put(&event);
                context.flux.put(&event);
                context.candidates.put(&event);
                let ends = matches!(event, watcher::Event::InitDone);
                builds.take(event.modify(brief::image_build), |change| {
                    if let Some(build) = change.new.as_ref().or(change.old.as_ref()) {
                        context.used.see(build, Timestamp::now());
                    }
                    context.queues.build(change);
                });
                if ends {
                    context.listed.is("ImageBuild");
                }
            }
        };
        let of_builders = async {
            while let Some(event) = all.next().await {
                let Ok(event) = event else { continue };
                let ends = matches!(event, watcher::Event::InitDone);
                builders.take(event, |change| context.candidates.builder(change));
                if ends {
                    context.listed.is("Builder");
                }
            }
        };
        tokio::select! {
            _ = futures::future::join(of_builds, of_builders) => {}
            () = stop => {}
        }
    }
}

/// Which kinds have not been listed yet.
#[derive(Clone)]
pub struct Listed(Arc<watch::Sender<BTreeSet<&'static str>>>);

impl Default for Listed {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(NEEDED.into())))
    }
}

impl Listed {
    /// This kind is waited for, too.
    pub fn expect(&self, kind: &'static str) {
        self.0.send_if_modified(|missing| missing.insert(kind));
    }

    /// This kind has been listed, or cannot be and is not waited for.
    pub fn is(&self, kind: &'static str) {
        self.0.send_if_modified(|missing| missing.remove(kind));
    }

    /// Those that have not.
    pub fn missing(&self) -> Vec<&'static str> {
        self.0.borrow().iter().copied().collect()
    }

    /// Waits until what decisions are made from is there.
    pub async fn needed(&self) {
        let mut listed = self.0.subscribe();
        let there = |missing: &BTreeSet<&str>| NEEDED.iter().all(|kind| !missing.contains(kind));
        // The sender lives as long as this.
        let _ = listed.wait_for(there).await;
    }
}

/// What goes wrong with watches: each error is counted, and now and then one is logged.
#[derive(Clone, Default)]
pub struct Trouble {
    metrics: Metrics,
    logged: Arc<Mutex<BTreeMap<String, Logged>>>,
}

/// When an error of a kind was logged, and how many came since.
struct Logged {
    at: Instant,
    since: u64,
}

impl Trouble {
    /// Counts here.
    pub fn counted(metrics: Metrics) -> Self {
        Self {
            metrics,
            logged: Arc::default(),
        }
    }

    /// A watch of this kind has failed; it tries again by itself.
    pub fn is(&self, kind: &str, error: &watcher::Error) {
        self.metrics.watch_error(kind);
        if let Some(more) = self.complains(kind, Instant::now()) {
            tracing::warn!(kind, %error, more, "a watch failed; retrying");
        }
    }

    /// How many errors of this kind were not logged, where this one is to be.
    fn complains(&self, kind: &str, now: Instant) -> Option<u64> {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        match logged.get_mut(kind) {
            Some(known) if now.duration_since(known.at) < COMPLAINT => {
                known.since += 1;
                None
            }
            Some(known) => {
                known.at = now;
                Some(std::mem::take(&mut known.since))
            }
            None => {
                logged.insert(kind.to_owned(), Logged { at: now, since: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_a_watch_are_counted_each_and_logged_now_and_then() {
        let metrics = Metrics::default();
        let trouble = Trouble::counted(metrics.clone());
        for _ in 0..100 {
            trouble.is("ImageBuild", &watcher::Error::NoResourceVersion);
        }
        let text = metrics.text();
        let line = r#"whittle_watch_errors_total{kind="ImageBuild"} 100"#;
        assert!(text.contains(line), "{text}");
        let now = Instant::now();
        assert_eq!(trouble.complains("ImageBuild", now), None);
        assert_eq!(trouble.complains("Builder", now), Some(0));
        let later = now + COMPLAINT;
        assert_eq!(trouble.complains("ImageBuild", later), Some(100));
        assert_eq!(trouble.complains("ImageBuild", later), None);
    }

    #[tokio::test]
    async fn it_is_ready_once_every_kind_was_listed() {
        let listed = Listed::default();
        listed.expect("Deployment");
        let waits = tokio::spawn({
            let listed = listed.clone();
            async move { listed.needed().await }
        });
        for kind in NEEDED {
            assert!(listed.missing().contains(&kind) && !waits.is_finished());
            listed.is(kind);
            tokio::task::yield_now().await;
        }
        // Builds go on while workloads are read.
        waits.await.unwrap();
        assert_eq!(listed.missing(), ["Deployment"]);
        listed.is("Deployment");
        assert!(listed.missing().is_empty());
    }
}
