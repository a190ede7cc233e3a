//! What is taken of an object while it is parsed. An object may have tens of thousands of labels, which take ten times
//! their text: what is not needed is skipped before it costs memory, and of a page one object at a time is whole.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::convert::identity;
use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus, Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Resource;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::imagebuild::brief;
use crate::names;
use whittle_api::{
    Builder, BuilderSpec, BuilderStatus, ImageBuild, ImageBuildSpec, ImageBuildStatus,
};

/// Owners, finalizers, labels and annotations that are taken, at most.
const FEW: usize = 32;
/// Keys of the labels and annotations that are taken begin with this, or are labels that a runner's Job gets too.
const OURS: &str = "whittle.dev/";

fn is_taken(key: &str) -> bool {
    key.starts_with(OURS) || names::HANDED_ON.contains(&key)
}

/// The metadata that is used. What has no field here is skipped.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    generation: Option<i64>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    owner_references: Option<Few<OwnerReference>>,
    finalizers: Option<Few<String>>,
    labels: Option<Ours>,
    annotations: Option<Ours>,
}

impl From<Metadata> for ObjectMeta {
    fn from(taken: Metadata) -> Self {
        Self {
            name: taken.name,
            namespace: taken.namespace,
            uid: taken.uid,
            generation: taken.generation,
            resource_version: taken.resource_version,
            creation_timestamp: taken.creation_timestamp,
            deletion_timestamp: taken.deletion_timestamp,
            deletion_grace_period_seconds: taken.deletion_grace_period_seconds,
            owner_references: taken.owner_references.map(|few| few.0),
            finalizers: taken.finalizers.map(|few| few.0),
            labels: taken.labels.map(|ours| ours.0),
            annotations: taken.annotations.map(|ours| ours.0),
            ..Self::default()
        }
    }
}

/// The first of a list.
struct Few<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct First<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for First<T> {
            type Value = Few<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
                let mut few = vec![];
                while few.len() < FEW {
                    match all.next_element()? {
                        Some(one) => few.push(one),
                        None => return Ok(Few(few)),
                    }
                }
                while all.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Few(few))
            }
        }
        deserializer.deserialize_seq(First(PhantomData))
    }
}

/// Those of a map whose keys are ours, or are handed on.
struct Ours(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Ours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Ours;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
                let mut ours = BTreeMap::new();
                while let Some(key) = all.next_key::<String>()? {
                    if is_taken(&key) && ours.len() < FEW {
                        ours.insert(key, all.next_value()?);
                    } else {
                        all.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Ours(ours))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// A kind that is taken in parts.
pub trait Parts: Resource<DynamicType = ()> + Sized {
    /// Its spec, or [`Skipped`].
    type Spec: DeserializeOwned;
    /// Its status.
    type Status: DeserializeOwned;
    /// All in one.
    fn of(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self;
    /// Leaves what is kept of one that is watched or listed.
    fn shorten(&mut self);
}

/// A part that is not taken.
pub type Skipped = Option<IgnoredAny>;

/// The kinds: what is taken of each, whether its spec is kept, and what shortens it.
macro_rules! parts {
    ($kind:ident, $spec:ty, $status:ty, $taken:expr, $shorten:expr) => {
        impl Parts for $kind {
            type Spec = $spec;
            type Status = $status;
            fn of(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self {
                Self {
                    metadata,
                    spec: $taken(spec),
                    status,
                }
            }
            fn shorten(&mut self) {
                $shorten(self);
            }
        }
    };
}

parts!(
    ImageBuild,
    ImageBuildSpec,
    ImageBuildStatus,
    identity,
    brief::image_build
);
parts!(
    Builder,
    BuilderSpec,
    BuilderStatus,
    identity,
    brief::builder
);
parts!(Pod, Option<PodSpec>, PodStatus, identity, brief::pod);
parts!(Job, Skipped, JobStatus, |_| None, |_| {});
parts!(Node, Option<NodeSpec>, NodeStatus, identity, brief::node);
parts!(StatefulSet, Skipped, StatefulSetStatus, |_| None, |_| {});
parts!(Deployment, Skipped, DeploymentStatus, |_| None, |_| {});

/// An object with lean metadata; `BRIEF`: shortened, too.
#[derive(Clone, Debug)]
pub struct Lean<K, const BRIEF: bool>(pub K);

impl<'de, K: Parts, const BRIEF: bool> Deserialize<'de> for Lean<K, BRIEF> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Taken<S, T> {
            metadata: Metadata,
            spec: S,
            status: Option<T>,
        }
        let taken = Taken::<K::Spec, K::Status>::deserialize(deserializer)?;
        let mut object = K::of(taken.metadata.into(), taken.spec, taken.status);
        if BRIEF {
            object.shorten();
        }
        Ok(Self(object))
    }
}

impl<K: Resource, const BRIEF: bool> Resource for Lean<K, BRIEF> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;
    fn kind(of: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(of)
    }
    fn group(of: &Self::DynamicType) -> Cow<'_, str> {
        K::group(of)
    }
    fn version(of: &Self::DynamicType) -> Cow<'_, str> {
        K::version(of)
    }
    fn plural(of: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(of)
    }
    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

/// The lean metadata of an object: the API server sends no more than metadata.
#[derive(Debug)]
pub struct Meta<K> {
    /// What is taken of it.
    pub metadata: ObjectMeta,
    of: PhantomData<fn() -> K>,
}

impl<K> Clone for Meta<K> {
    fn clone(&self) -> Self {
        Self {
            metadata: self.metadata.clone(),
            of: PhantomData,
        }
    }
}

impl<'de, K> Deserialize<'de> for Meta<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Taken {
            metadata: Metadata,
        }
        let taken = Taken::deserialize(deserializer)?;
        Ok(Self {
            metadata: taken.metadata.into(),
            of: PhantomData,
        })
    }
}

impl<K: Resource> Resource for Meta<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;
    fn kind(of: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(of)
    }
    fn group(of: &Self::DynamicType) -> Cow<'_, str> {
        K::group(of)
    }
    fn version(of: &Self::DynamicType) -> Cow<'_, str> {
        K::version(of)
    }
    fn plural(of: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(of)
    }
    fn metadata_api() -> bool {
        true
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn of_ten_thousand_labels_and_owners_few_are_kept() {
        let labels: BTreeMap<String, Value> = (0..10_000)
            .map(|at| (format!("a{at:05}"), "".into()))
            .chain([("whittle.dev/component".to_owned(), "runner".into())])
            .collect();
        let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "a"});
        let object = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": "a", "namespace": "b", "uid": "c", "generation": 3, "resourceVersion": "5",
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": labels, "annotations": labels, "ownerReferences": vec![owner; 1000],
                "finalizers": vec!["a/b"; 1000], "managedFields": [{"manager": "m"}],
            },
            "spec": {"template": {"spec": null}},
            "status": {"active": 1},
        });
        let Lean::<Job, true>(job) = serde_json::from_value(object.clone()).unwrap();
        assert_eq!(
            (job.name_any().as_str(), job.metadata.generation),
            ("a", Some(3))
        );
        assert_eq!(job.status.as_ref().unwrap().active, Some(1));
        let meta: Meta<Job> = serde_json::from_value(object).unwrap();
        assert_eq!(meta.resource_version().as_deref(), Some("5"));
        for metadata in [job.meta(), meta.meta()] {
            let kept = [("whittle.dev/component".to_owned(), "runner".to_owned())];
            assert_eq!(metadata.labels, Some(kept.clone().into()));
            assert_eq!(metadata.annotations, Some(kept.into()));
            assert_eq!(metadata.owner_references.as_ref().unwrap().len(), FEW);
            assert_eq!(metadata.finalizers.as_ref().unwrap().len(), FEW);
            assert_eq!(metadata.managed_fields, None);
            assert!(metadata.creation_timestamp.is_some());
        }
    }
}
