//! Watches over what this installation looks after: one stream a kind, however many namespaces these are.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures::stream::{BoxStream, SelectAll, Stream, StreamExt, select_all, unfold};
use k8s_openapi::api::core::v1::Node;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::runtime::utils::{Backoff, WatchStreamExt};
use kube::runtime::watcher::{self, Config, Event};
use kube::{Api, Resource};

use super::lean::{Lean, Meta, Parts};
use super::{Cluster, Error, Namespaced, during};
use crate::watches::Trouble;

/// Nodes of a page, of whose metadata little is taken: who makes them is trusted with the cluster.
const NODES: u32 = 100;

/// What a watch tells; it tries again by itself after an error, which is counted and logged.
pub type Events<K> = BoxStream<'static, watcher::Result<Event<K>>>;

impl Cluster {
    /// All objects of a kind in the namespaces that are looked after, shortened as `Parts::shorten` says.
    pub fn watch<K: Namespaced + Parts + Send + 'static>(&self, config: Config) -> Events<K> {
        self.watch_lean::<K, true>(config)
    }

    fn watch_lean<K, const BRIEF: bool>(&self, config: Config) -> Events<K>
    where
        K: Namespaced + Parts + Send + 'static,
    {
        let client = self.watching.clone();
        let (namespaces, trouble) = (self.namespaces.clone(), self.trouble.clone());
        self.merged(move |at| {
            let api: Api<Lean<K, BRIEF>> = match namespaces.get(at) {
                Some(namespace) => Api::namespaced(client.clone(), namespace),
                None => Api::all(client.clone()),
            };
            let events = watcher::watcher(api, config.clone());
            let events = told(events, K::kind(&()).into_owned(), trouble.clone());
            trying_again(events.map(|event| event.map(whole)), namespaces.len())
        })
    }

    /// The same, of those that the installation's selector selects, with their whole spec and status.
    pub fn watch_selected_whole<K>(&self, config: Config) -> Events<K>
    where
        K: Namespaced + Parts + Send + 'static,
    {
        self.watch_lean::<K, false>(self.selected(config))
    }

    fn selected(&self, config: Config) -> Config {
        match self.selector.selects_all() {
            true => config,
            false => config.labels_from(&self.selector),
        }
    }

    /// The metadata of all objects of a kind that is known by name.
    pub fn watch_kind(
        &self,
        resource: &ApiResource,
        config: Config,
    ) -> Events<Meta<DynamicObject>> {
        let client = self.watching.clone();
        let (namespaces, resource) = (self.namespaces.clone(), resource.clone());
        let trouble = self.trouble.clone();
        self.merged(move |at| {
            let api: Api<Meta<DynamicObject>> = match namespaces.get(at) {
                Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
                None => Api::all_with(client.clone(), &resource),
            };
            let events = watcher::watcher(api, config.clone());
            let events = told(events, resource.kind.clone(), trouble.clone());
            trying_again(events, namespaces.len())
        })
    }

    /// True where the API server knows this kind: its definition may be installed later.
    pub async fn knows(&self, resource: &ApiResource) -> Result<bool, Error> {
        let api: Api<Meta<DynamicObject>> = match self.namespaces.first() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        };
        let listed = api.list_metadata(&ListParams::default().limit(1)).await;
        match listed.map_err(during(format!("listing {}", resource.plural))) {
            Ok(_) => Ok(true),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The metadata of Nodes.
    pub fn watch_nodes(&self) -> Events<Meta<Node>> {
        let api: Api<Meta<Node>> = Api::all(self.client.clone());
        let events = watcher::watcher(api, Config::default().page_size(NODES));
        trying_again(told(events, "Node".into(), self.trouble.clone()), 1)
    }

    fn merged<K: Send + 'static>(
        &self,
        open: impl Fn(usize) -> Events<K> + Send + 'static,
    ) -> Events<K> {
        merged(self.namespaces.len(), open)
    }

    /// True where the selector of this installation selects an object with these labels.
    pub fn selects<K: Resource>(&self, object: &K) -> bool {
        use kube::core::SelectorExt;
        let labels = object.meta().labels.clone().unwrap_or_default();
        self.selector.matches(&labels)
    }
}

fn whole<K, const BRIEF: bool>(event: Event<Lean<K, BRIEF>>) -> Event<K> {
    match event {
        Event::Apply(lean) => Event::Apply(lean.0),
        Event::Delete(lean) => Event::Delete(lean.0),
        Event::Init => Event::Init,
        Event::InitApply(lean) => Event::InitApply(lean.0),
        Event::InitDone => Event::InitDone,
    }
}

/// Between two attempts at a namespace that cannot be watched, at first and at most; and after how long without a fault
/// it begins anew.
const FIRST: Duration = Duration::from_millis(800);
const MOST: Duration = Duration::from_secs(15);
const FORGIVEN: Duration = Duration::from_secs(120);

/// Grows from fault to fault. The usual one begins anew with each attempt, as that begins with an event; and where
/// one namespace of fifty is gone, that would be twelve requests a second, for ever.
struct Steady {
    wait: Duration,
    last: Option<Instant>,
}

impl Iterator for Steady {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let fresh = self.last.is_none_or(|last| last.elapsed() > FORGIVEN);
        self.wait = if fresh {
            FIRST
        } else {
            MOST.min(self.wait * 2)
        };
        self.last = Some(Instant::now());
        Some(self.wait)
    }
}

impl Backoff for Steady {
    fn reset(&mut self) {}
}

/// A watch whose errors are told.
fn told<K: Send + 'static>(
    watch: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    kind: String,
    trouble: Trouble,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static {
    watch.inspect(move |event| {
        if let Err(error) = event {
            trouble.is(&kind, error);
        }
    })
}

/// A watch that tries again: one of `namespaces`.
fn trying_again<K: Send + 'static>(
    watch: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    namespaces: usize,
) -> Events<K> {
    if namespaces < 2 {
        return watch.default_backoff().boxed();
    }
    let steady = Steady {
        wait: FIRST,
        last: None,
    };
    watch.backoff(steady).boxed()
}

/// How far the list of one namespace is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listed {
    No,
    /// It may be listed later: the others do not wait for it.
    Failed,
    Yes,
}

/// Several watches as one: one list, complete once each has been listed or has failed, and then what changes.
struct Merged<K, F> {
    open: F,
    streams: SelectAll<BoxStream<'static, (usize, watcher::Result<Event<K>>)>>,
    listed: Vec<Listed>,
    complete: bool,
    /// Changes that came before the list was complete: a list that replaces all would undo them.
    held: Vec<Event<K>>,
    out: VecDeque<Event<K>>,
}

fn merged<K: Send + 'static>(
    count: usize,
    open: impl Fn(usize) -> Events<K> + Send + 'static,
) -> Events<K> {
    if count < 2 {
        return open(0);
    }
    let mut all = Merged {
        open,
        streams: SelectAll::new(),
        listed: vec![Listed::No; count],
        complete: false,
        held: vec![],
        out: VecDeque::new(),
    };
    all.begin();
    unfold(all, |mut all| async move {
        let next = all.next().await?;
        Some((next, all))
    })
    .boxed()
}

impl<K: Send + 'static, F: Fn(usize) -> Events<K>> Merged<K, F> {
    fn begin(&mut self) {
        self.streams = select_all((0..self.listed.len()).map(|at| {
            let stream = (self.open)(at);
            stream.map(move |event| (at, event)).boxed()
        }));
        self.listed.fill(Listed::No);
        self.complete = false;
        self.held.clear();
        self.out.push_back(Event::Init);
    }

    async fn next(&mut self) -> Option<watcher::Result<Event<K>>> {
        loop {
            if let Some(event) = self.out.pop_front() {
                return Some(Ok(event));
            }
            let (at, event) = self.streams.next().await?;
            match event {
                // It goes no further: whoever is told of an error waits, and the other namespaces with it.
                Err(_) if self.listed[at] == Listed::No => self.list_ended(at, Listed::Failed),
                Err(_) => {}
                // What has gone meanwhile is known only from a list of all.
                Ok(Event::Init) if self.listed[at] == Listed::Yes => self.begin(),
                Ok(Event::Init) => {}
                Ok(Event::InitApply(object)) if self.complete => {
                    return Some(Ok(Event::Apply(object)));
                }
                Ok(Event::InitApply(object)) => return Some(Ok(Event::InitApply(object))),
                Ok(Event::InitDone) => self.list_ended(at, Listed::Yes),
                Ok(change) if self.complete => return Some(Ok(change)),
                Ok(change) => self.held.push(change),
            }
        }
    }

    fn list_ended(&mut self, at: usize, how: Listed) {
        self.listed[at] = how;
        if !self.complete && self.listed.iter().all(|listed| *listed != Listed::No) {
            self.complete = true;
            self.out.push_back(Event::InitDone);
            self.out.extend(self.held.drain(..));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures::channel::mpsc::{UnboundedSender, unbounded};
    use futures::executor::block_on;

    use super::*;

    type Sent = watcher::Result<Event<&'static str>>;

    /// Two namespaces; what the newest watch of each is told.
    struct Played(
        Arc<Mutex<Vec<Option<UnboundedSender<Sent>>>>>,
        Events<&'static str>,
    );

    fn two() -> Played {
        let senders = Arc::new(Mutex::new(vec![None, None]));
        let kept = senders.clone();
        let stream = merged(2, move |at| {
            let (sender, receiver) = unbounded();
            kept.lock().unwrap()[at] = Some(sender);
            receiver.boxed()
        });
        Played(senders, stream)
    }

    impl Played {
        fn tell(&self, at: usize, events: impl IntoIterator<Item = Sent>) {
            let senders = self.0.lock().unwrap();
            for event in events {
                senders[at].as_ref().unwrap().unbounded_send(event).unwrap();
            }
        }

        /// All that can be had now.
        fn said(&mut self) -> Vec<String> {
            use futures::FutureExt;
            std::iter::from_fn(|| block_on(async { self.1.next().now_or_never() }).flatten())
                .map(|event| match event {
                    Ok(Event::Init) => "init".to_owned(),
                    Ok(Event::InitApply(name)) => format!("listed {name}"),
                    Ok(Event::InitDone) => "done".to_owned(),
                    Ok(Event::Apply(name)) => format!("is {name}"),
                    Ok(Event::Delete(name)) => format!("gone {name}"),
                    Err(_) => "error".to_owned(),
                })
                .collect()
        }
    }

    fn list(name: &'static str) -> [Sent; 3] {
        [
            Ok(Event::Init),
            Ok(Event::InitApply(name)),
            Ok(Event::InitDone),
        ]
    }

    #[test]
    fn the_list_of_two_namespaces_is_complete_with_the_second() {
        let mut all = two();
        all.tell(0, list("a"));
        all.tell(0, [Ok(Event::Delete("a"))]);
        assert_eq!(all.said(), ["init", "listed a"]);
        all.tell(1, list("b"));
        assert_eq!(all.said(), ["listed b", "done", "gone a"]);
        all.tell(0, [Ok(Event::Apply("c"))]);
        assert_eq!(all.said(), ["is c"]);
    }

    #[test]
    fn a_namespace_that_cannot_be_listed_holds_up_no_other() {
        let mut all = two();
        all.tell(0, [Ok(Event::Init), Err(watcher::Error::NoResourceVersion)]);
        all.tell(1, list("b"));
        assert_eq!(all.said(), ["init", "listed b", "done"]);
        // It is there after all: nothing of it was known.
        all.tell(0, list("a"));
        assert_eq!(all.said(), ["is a"]);
    }

    #[test]
    fn where_one_is_listed_anew_all_are() {
        let mut all = two();
        all.tell(0, list("a"));
        all.tell(1, list("b"));
        assert_eq!(all.said(), ["init", "listed a", "listed b", "done"]);
        all.tell(0, [Ok(Event::Init)]);
        assert_eq!(all.said(), ["init"]);
        all.tell(0, list("c"));
        all.tell(1, list("b"));
        assert_eq!(all.said(), ["listed c", "listed b", "done"]);
    }
}
