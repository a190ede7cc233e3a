//! What build steps must not reach: the addresses of the cluster itself, found or given, for the Builders' NetworkPolicies.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use tokio::sync::watch;

mod ranges;
#[cfg(test)]
mod scripted_tests;

use super::{AFTER_ERROR, Context, in_time};
use crate::cluster::Meta;
pub use ranges::{Closed, Found, Given, NodeRanges};

/// What was found is looked for again after this long, though no Node has come or gone.
const RESYNC: Duration = Duration::from_secs(3600);
/// Where a Node has no range for its Pods yet, as others have.
const SOON: Duration = Duration::from_secs(30);
/// Nodes that come together are looked at together.
const TOGETHER: Duration = Duration::from_secs(3);

/// What is closed, once that is known.
#[derive(Clone)]
pub struct Known(Arc<watch::Sender<Option<Arc<Closed>>>>);

impl Default for Known {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Known {
    /// Waits until it is known.
    pub async fn get(&self) -> Arc<Closed> {
        let mut known = self.0.subscribe();
        // The sender lives as long as this.
        let found = known.wait_for(Option::is_some).await;
        found.ok().and_then(|it| it.clone()).unwrap_or_default()
    }

    /// Each time that it becomes another.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + 'static {
        let known = self.0.subscribe();
        futures::stream::unfold(known, |mut known| async {
            known.changed().await.ok()?;
            Some(((), known))
        })
    }

    /// It is this.
    pub fn is(&self, closed: Closed) {
        self.0.send_if_modified(|known| {
            let changes = known.as_deref() != Some(&closed);
            if changes {
                tracing::info!(
                    note = closed.note,
                    prefixes = closed.v4.len() + closed.v6.len(),
                    "build steps do not reach the cluster's own addresses"
                );
                *known = Some(Arc::new(closed));
            }
            changes
        });
    }
}

/// Runs until `stop`.
pub async fn run(context: Arc<Context>, stop: impl Future<Output = ()>) {
    let settings = &context.settings.builder.egress;
    if !settings.enabled {
        return;
    }
    if let Some(given) = &settings.cluster_cidrs {
        context.egress.is(given.closed());
        return;
    }
    let mut events = context.cluster.watch_nodes().fuse();
    let mut nodes = Nodes::default();
    let stop = stop.fuse();
    futures::pin_mut!(stop);
    loop {
        let read = async { Ok(context.cluster.ranges().await?) };
        let again = match in_time(read).await {
            Ok(found) => {
                context.egress.is(found.closed());
                nodes.read = found.nodes.iter().map(|node| node.uid.clone()).collect();
                if found.waits() { SOON } else { RESYNC }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot find out the cluster's own addresses, which build steps must not reach; retrying");
                AFTER_ERROR
            }
        };
        let due = tokio::time::sleep(again);
        tokio::pin!(due);
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = &mut due => break,
                event = events.next() => {
                    if let Some(Ok(event)) = event && nodes.take(event) {
                        due.set(tokio::time::sleep(TOGETHER));
                    }
                }
            }
        }
    }
}

/// Which Nodes there are, by their UIDs.
#[derive(Default)]
struct Nodes {
    /// Those that were read.
    read: BTreeSet<String>,
    /// Those that the watch knows.
    seen: BTreeSet<String>,
    /// While it lists.
    next: BTreeSet<String>,
}

impl Nodes {
    /// True where other Nodes are there than were read.
    fn take(&mut self, event: Event<Meta<Node>>) -> bool {
        let uid = |node: &Meta<Node>| node.uid().unwrap_or_default();
        match event {
            Event::Init => {
                self.next.clear();
                return false;
            }
            Event::InitApply(node) => {
                self.next.insert(uid(&node));
                return false;
            }
            Event::InitDone => self.seen = std::mem::take(&mut self.next),
            // Its status comes every few minutes: no news.
            Event::Apply(node) if !self.seen.insert(uid(&node)) => return false,
            Event::Apply(_) => {}
            Event::Delete(node) => {
                self.seen.remove(&uid(&node));
            }
        }
        self.seen != self.read
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(uid: &str) -> Meta<Node> {
        serde_json::from_value(json!({"metadata": {"name": uid, "uid": uid}})).unwrap()
    }

    #[test]
    fn nodes_that_come_and_go_are_news_and_their_heartbeats_are_not() {
        let mut nodes = Nodes {
            read: ["a".to_owned()].into(),
            ..Nodes::default()
        };
        let list = [Event::Init, Event::InitApply(node("a")), Event::InitDone];
        assert!(!list.into_iter().any(|event| nodes.take(event)));
        assert!(!nodes.take(Event::Apply(node("a"))));
        assert!(nodes.take(Event::Apply(node("b"))));
        assert!(!nodes.take(Event::Apply(node("b"))));
        assert!(!nodes.take(Event::Delete(node("b"))));
        assert!(nodes.take(Event::Delete(node("a"))));
        // A Node that was made again has another address.
        let list = [Event::Init, Event::InitApply(node("a2")), Event::InitDone];
        assert!(list.into_iter().any(|event| nodes.take(event)));
    }

    #[tokio::test]
    async fn only_what_is_another_wakes_builders() {
        let known = Known::default();
        let mut changes = Box::pin(known.changes());
        known.is(Closed::default());
        assert_eq!(changes.next().await, Some(()));
        known.is(Closed::default());
        assert_eq!(changes.next().now_or_never(), None);
        assert_eq!(*known.get().await, Closed::default());
    }
}
