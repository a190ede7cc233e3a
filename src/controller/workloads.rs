//! The workloads of the cluster, as far as the audit needs them: metadata is watched, and an object is read
//! only where its template may have changed; of what is read, just the part that verdicts need stays.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::TryFutureExt;
use futures::stream::{Stream, StreamExt, select_all};
use k8s_openapi::api::core::v1::{ObjectReference, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::runtime::watcher;

use super::{AFTER_ERROR, Context, Error, in_time};
use crate::cluster::{Cluster, Meta};
use crate::recorder::Word;
use whittle_image::packed::{deflate_quickly, inflate};
use whittle_probe::{canonical, essence, templates_of};

/// Group, version, kind and plural of what has a Pod template.
const KINDS: [(&str, &str, &str, &str); 7] = [
    ("apps", "v1", "Deployment", "deployments"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("apps", "v1", "DaemonSet", "daemonsets"),
    ("apps", "v1", "ReplicaSet", "replicasets"),
    ("batch", "v1", "CronJob", "cronjobs"),
    ("batch", "v1", "Job", "jobs"),
    ("", "v1", "Pod", "pods"),
];
/// Workloads that are kept at most: about half a KiB each.
const MOST: usize = 20_000;
/// Of one namespace.
const MOST_OF_ONE: usize = 5_000;
/// Bytes that are kept of them.
const BYTES: usize = 48 << 20;
/// Of one namespace.
const BYTES_OF_ONE: usize = 12 << 20;
/// Of one workload: an ordinary one has about 300.
const BYTES_OF_EACH: usize = 64 << 10;
/// Bytes of the part of a template that is judged, as JSON: an ordinary one has some thousand.
const TEMPLATE: u64 = 256 << 10;
/// How often a workload is read where the API server does not answer: nothing would ask for it again before it
/// changes.
const ATTEMPTS: u32 = 5;
/// Objects of a page: their labels and annotations may have a MiB.
const PAGE: u32 = 10;

/// A workload with probes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    kind: usize,
    namespace: String,
    name: String,
    uid: String,
    /// Canonical names of its images.
    pub images: Vec<String>,
    /// The essence of its template, deflated; empty where it has no probe.
    packed: Vec<u8>,
}

impl Found {
    /// `Deployment team/hello`.
    pub fn title(&self) -> String {
        format!("{} {}/{}", KINDS[self.kind].2, self.namespace, self.name)
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    fn bytes(&self) -> usize {
        let images = self.images.iter().map(String::len).sum::<usize>();
        self.packed.len() + images + self.namespace.len() * 2 + self.name.len() * 2 + 200
    }

    /// A Deployment with these images, for tests.
    #[cfg(test)]
    pub fn deployment(namespace: &str, name: &str, images: &[&str]) -> Self {
        Self {
            kind: 0,
            namespace: namespace.into(),
            name: name.into(),
            uid: String::new(),
            images: images.iter().map(|image| (*image).to_owned()).collect(),
            packed: vec![0],
        }
    }

    /// The essence of its template.
    pub fn pod(&self) -> Option<PodSpec> {
        serde_json::from_slice(&inflate(&self.packed, TEMPLATE).ok()?).ok()
    }
}

/// A change that was seen.
#[derive(Debug)]
pub enum Change {
    /// A workload, as it is now; with no probe it has no images.
    Is(Found),
    /// It is gone.
    Gone(usize, String, String),
    /// A kind is listed anew.
    Begins(usize),
    /// All of that kind has been seen.
    Ends(usize),
}

/// All workloads with probes.
#[derive(Default)]
pub struct Workloads {
    all: BTreeMap<(usize, String, String), Found>,
    fresh: BTreeMap<usize, BTreeSet<(String, String)>>,
    /// Of each namespace and of all: how many, and bytes.
    kept: HashMap<String, (usize, usize)>,
    sum: (usize, usize),
}

impl Workloads {
    /// Takes a change in; true where the audit may come to something else.
    pub fn take(&mut self, change: Change) -> bool {
        match change {
            Change::Begins(kind) => {
                self.fresh.insert(kind, BTreeSet::new());
                false
            }
            Change::Ends(kind) => {
                let fresh = self.fresh.remove(&kind).unwrap_or_default();
                let before = self.all.len();
                let gone: Vec<_> = self
                    .all
                    .keys()
                    .filter(|(of, namespace, name)| {
                        *of == kind && !fresh.contains(&(namespace.clone(), name.clone()))
                    })
                    .cloned()
                    .collect();
                for key in &gone {
                    self.remove(key);
                }
                before != self.all.len()
            }
            Change::Gone(kind, namespace, name) => self.remove(&(kind, namespace, name)).is_some(),
            Change::Is(found) => {
                let place = (found.namespace.clone(), found.name.clone());
                if let Some(fresh) = self.fresh.get_mut(&found.kind) {
                    fresh.insert(place.clone());
                }
                let key = (found.kind, place.0, place.1);
                let old = self.remove(&key);
                if found.packed.is_empty() {
                    return old.is_some();
                }
                if !self.has_room(&found) {
                    tracing::warn!(
                        workload = found.title(),
                        "too many or too large workloads: the audit leaves some out"
                    );
                    return old.is_some();
                }
                let changed = old.as_ref() != Some(&found);
                let (kept, bytes) = (
                    self.kept.entry(found.namespace.clone()).or_default(),
                    found.bytes(),
                );
                (kept.0, kept.1) = (kept.0 + 1, kept.1 + bytes);
                self.sum = (self.sum.0 + 1, self.sum.1 + bytes);
                self.all.insert(key, found);
                changed
            }
        }
    }

    fn has_room(&self, found: &Found) -> bool {
        let bytes = found.bytes();
        let kept = self.kept.get(&found.namespace).copied().unwrap_or_default();
        bytes <= BYTES_OF_EACH
            && kept.0 < MOST_OF_ONE
            && kept.1 + bytes <= BYTES_OF_ONE
            && self.sum.0 < MOST
            && self.sum.1 + bytes <= BYTES
    }

    fn remove(&mut self, key: &(usize, String, String)) -> Option<Found> {
        let found = self.all.remove(key)?;
        let bytes = found.bytes();
        self.sum = (self.sum.0 - 1, self.sum.1 - bytes);
        if let Some(kept) = self.kept.get_mut(&found.namespace) {
            (kept.0, kept.1) = (kept.0 - 1, kept.1 - bytes);
            if kept.0 == 0 {
                self.kept.remove(&found.namespace);
            }
        }
        Some(found)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Found> {
        self.all.values()
    }
}

/// Watches all kinds.
pub fn watch(context: &Context) -> impl Stream<Item = Change> + use<> {
    select_all((0..KINDS.len()).map(|kind| {
        let (group, version, name, plural) = KINDS[kind];
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, name), plural);
        let cluster = context.cluster.clone();
        let config = watcher::Config::default().page_size(PAGE);
        let mut seen: BTreeMap<(String, String), (String, i64)> = BTreeMap::new();
        let events = context.cluster.watch_kind(&resource, config);
        let listed = context.listed.clone();
        listed.expect(plural);
        // One that cannot be listed is not audited, and holds up nothing else: errors of watches are told.
        let events = events.inspect(move |event| {
            if matches!(event, Ok(watcher::Event::InitDone) | Err(_)) {
                listed.is(plural);
            }
        });
        events
            .filter_map(move |event| {
                let step = next(kind, event, &mut seen);
                let (cluster, resource) = (cluster.clone(), resource.clone());
                async move {
                    match step? {
                        Step::Tell(change) => Some(change),
                        Step::Read(meta) => read(kind, &cluster, &resource, &meta).await,
                    }
                }
            })
            .boxed()
    }))
}

/// True for a controller that has a template of its own here: what others make, as an operator's Pods, has none.
fn is_audited(owner: &OwnerReference) -> bool {
    let group = match owner.api_version.split_once('/') {
        Some((group, _)) => group,
        None => "",
    };
    let known = |kind: &(&str, &str, &str, &str)| kind.0 == group && kind.2 == owner.kind;
    owner.controller == Some(true) && KINDS.iter().any(known)
}

enum Step {
    Tell(Change),
    Read(Box<Meta<DynamicObject>>),
}

/// What an event asks for: nothing where a workload has been read as it is.
fn next(
    kind: usize,
    event: Result<watcher::Event<Meta<DynamicObject>>, watcher::Error>,
    seen: &mut BTreeMap<(String, String), (String, i64)>,
) -> Option<Step> {
    let place =
        |meta: &Meta<DynamicObject>| (meta.namespace().unwrap_or_default(), meta.name_any());
    match event {
        Err(_) => None,
        Ok(watcher::Event::Init) => {
            seen.clear();
            Some(Step::Tell(Change::Begins(kind)))
        }
        Ok(watcher::Event::InitDone) => Some(Step::Tell(Change::Ends(kind))),
        Ok(watcher::Event::Delete(meta)) => {
            let (namespace, name) = place(&meta);
            seen.remove(&(namespace.clone(), name.clone()));
            Some(Step::Tell(Change::Gone(kind, namespace, name)))
        }
        Ok(watcher::Event::Apply(meta) | watcher::Event::InitApply(meta)) => {
            // What comes of a template that is audited is audited with that.
            if meta.owner_references().iter().any(is_audited) {
                return None;
            }
            let now = (
                meta.uid().unwrap_or_default(),
                meta.metadata.generation.unwrap_or(0),
            );
            if seen.insert(place(&meta), now.clone()) == Some(now) {
                return None;
            }
            Some(Step::Read(Box::new(meta)))
        }
    }
}

async fn read(
    kind: usize,
    cluster: &Cluster,
    resource: &ApiResource,
    meta: &Meta<DynamicObject>,
) -> Option<Change> {
    let (namespace, name) = (meta.namespace().unwrap_or_default(), meta.name_any());
    let mut attempt = 1;
    let object = loop {
        let found = cluster.object(resource, &namespace, &name);
        match in_time(found.map_err(Error::from)).await {
            Ok(Some(object)) => break object,
            Ok(None) => return Some(Change::Gone(kind, namespace, name)),
            Err(error) => {
                tracing::warn!(%error, attempt, "cannot audit a workload");
                if attempt == ATTEMPTS {
                    return None;
                }
                attempt += 1;
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    };
    let mut value = serde_json::to_value(&object).ok()?;
    value["kind"] = KINDS[kind].2.into();
    let template = templates_of(&value).into_iter().next()?;
    let pod = template
        .spec
        .ok()
        .filter(has_probes)
        .map(|pod| essence(&pod));
    let images = pod.iter().flat_map(|pod| {
        let containers = pod.containers.iter();
        containers.chain(pod.init_containers.iter().flatten())
    });
    let images = images
        .filter_map(|container| container.image.as_deref().map(canonical))
        .collect();
    Some(Change::Is(Found {
        kind,
        namespace,
        name,
        uid: meta.uid().unwrap_or_default(),
        images,
        packed: pod.as_ref().and_then(packed).unwrap_or_default(),
    }))
}

fn has_probes(pod: &PodSpec) -> bool {
    let containers = pod.containers.iter();
    containers
        .chain(pod.init_containers.iter().flatten())
        .any(|container| {
            container.liveness_probe.is_some()
                || container.readiness_probe.is_some()
                || container.startup_probe.is_some()
                || container.lifecycle.is_some()
        })
}

/// None where it is too large to be judged.
fn packed(pod: &PodSpec) -> Option<Vec<u8>> {
    let json = serde_json::to_vec(pod).expect("a template is always JSON");
    (json.len() as u64 <= TEMPLATE).then(|| deflate_quickly(&json))
}

/// An Event on a workload whose probes cannot work.
pub async fn tell(context: &Context, found: &Found, line: &str) {
    let (group, version, kind, _) = KINDS[found.kind];
    let reference = ObjectReference {
        api_version: Some(match group {
            "" => version.to_owned(),
            _ => format!("{group}/{version}"),
        }),
        kind: Some(kind.to_owned()),
        namespace: Some(found.namespace.clone()),
        name: Some(found.name.clone()),
        uid: Some(found.uid.clone()),
        ..ObjectReference::default()
    };
    let word = Word {
        about: &reference,
        warning: true,
        reason: whittle_api::Reason::ProbeCannotWork,
        note: line,
        action: "Audit",
        annotations: BTreeMap::new(),
    };
    context.say(word).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(namespace: &str, name: &str, bytes: usize) -> Change {
        Change::Is(Found {
            packed: vec![0; bytes],
            ..Found::deployment(namespace, name, &["docker.io/library/app:1"])
        })
    }

    #[test]
    fn one_namespace_does_not_take_the_room_of_others_and_gives_it_back() {
        let mut workloads = Workloads::default();
        assert!(!workloads.take(found("team", "large", BYTES_OF_EACH + 1)));
        for number in 0..400 {
            workloads.take(found("hostile", &number.to_string(), BYTES_OF_EACH / 2));
        }
        let kept = workloads.all().count();
        assert!((300..400).contains(&kept), "{kept}");
        assert!(workloads.take(found("team", "app", 300)));
        assert!(!workloads.take(found("team", "app", 300)));
        workloads.take(Change::Begins(0));
        workloads.take(found("team", "app", 300));
        assert!(workloads.take(Change::Ends(0)));
        assert_eq!(workloads.all().count(), 1);
        assert!(workloads.take(found("hostile", "again", 300)));
        assert!(workloads.take(Change::Gone(0, "team".into(), "app".into())));
        assert!(workloads.take(Change::Gone(0, "hostile".into(), "again".into())));
        assert_eq!((workloads.sum, workloads.kept.len()), ((0, 0), 0));
    }

    #[test]
    fn pods_of_a_controller_without_a_template_here_are_audited_themselves() {
        let owner = |api_version: &str, kind: &str, controller: bool| OwnerReference {
            api_version: api_version.into(),
            kind: kind.into(),
            controller: Some(controller),
            ..OwnerReference::default()
        };
        assert!(is_audited(&owner("apps/v1", "ReplicaSet", true)));
        assert!(is_audited(&owner("batch/v1", "Job", true)));
        assert!(!is_audited(&owner("apps/v1", "ReplicaSet", false)));
        assert!(!is_audited(&owner(
            "postgresql.cnpg.io/v1",
            "Cluster",
            true
        )));
        assert!(!is_audited(&owner(
            "apps.kruise.io/v1beta1",
            "StatefulSet",
            true
        )));
    }
}
