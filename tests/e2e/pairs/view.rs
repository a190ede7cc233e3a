//! The Pods and Events of a namespace, kept as they come: a hundred Pods are watched without asking for each.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::api::ListParams;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::field::Field;

/// How often the kubelet is asked for its counts.
const COUNTS: Duration = Duration::from_secs(1);

/// What there is, until it is dropped.
pub struct View {
    namespace: String,
    pods: Store<Pod>,
    events: Store<Event>,
    /// The kubelet's counts of probes, as Prometheus reads them.
    counts: Arc<Mutex<String>>,
    _tasks: JoinSet<()>,
}

impl View {
    pub async fn of(field: &Field) -> Self {
        let mut tasks = JoinSet::new();
        let counts = Arc::new(Mutex::new(String::new()));
        tasks.spawn(count(field.client.clone(), counts.clone()));
        let view = Self {
            namespace: field.namespace.clone(),
            pods: kept(&mut tasks, field.api()),
            events: kept(&mut tasks, field.api()),
            counts,
            _tasks: tasks,
        };
        view.pods.wait_until_ready().await.unwrap();
        view.events.wait_until_ready().await.unwrap();
        view
    }

    pub fn pod(&self, name: &str) -> Option<Arc<Pod>> {
        self.pods.get(&ObjectRef::new(name).within(&self.namespace))
    }

    /// Events that hold this.
    pub fn events(&self, holds: impl Fn(&Event) -> bool) -> Vec<Arc<Event>> {
        let mut all = self.events.state();
        all.retain(|event| holds(event));
        all
    }

    /// How often a Pod's liveness probe succeeded: no Event tells that.
    pub fn successes(&self, pod: &str) -> u64 {
        let labels = [
            format!("namespace=\"{}\"", self.namespace),
            format!("pod=\"{pod}\""),
            "probe_type=\"Liveness\"".to_owned(),
            "result=\"successful\"".to_owned(),
        ];
        let counts = self.counts.lock().unwrap();
        counts
            .lines()
            .filter(|line| line.starts_with("prober_probe_total{"))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>() as u64
    }
}

fn kept<K>(tasks: &mut JoinSet<()>, api: Api<K>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let stream = watcher(api, watcher::Config::default())
        .default_backoff()
        .reflect(writer);
    tasks.spawn(stream.for_each(async |_| {}));
    store
}

async fn count(client: Client, counts: Arc<Mutex<String>>) {
    let nodes = Api::<Node>::all(client.clone());
    let nodes = nodes.list(&ListParams::default()).await.unwrap();
    let [node] = &nodes.items[..] else {
        panic!("the local cluster has one node")
    };
    let name = node.metadata.name.as_deref().unwrap();
    let path = format!("/api/v1/nodes/{name}/proxy/metrics/probes");
    loop {
        let request = http::Request::get(&path).body(vec![]).unwrap();
        if let Ok(text) = client.request_text(request).await {
            *counts.lock().unwrap() = text;
        }
        tokio::time::sleep(COUNTS).await;
    }
}
