//! What concerns Builders: their objects, their certificates, what is seen of their daemon.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Status;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::pki::{Authority, Issued};
use super::{Cluster, Error, FIELD_MANAGER, MOST_PODS, briefly, during, key, writing};
use crate::builder::objects::{BuilderObjects, metadata};
use crate::builder::{state, volume};
use crate::names;
use crate::placement;
use crate::refusal::{Told, Verb};
use whittle_api::{Builder, BuilderStatus};

/// True where what was to be claimed is gone or another than was read: a test of a JSON patch that fails is told as 422 with no
/// cause, and what the schema forbids as 422 with one.
fn went_or_changed(status: &Status) -> bool {
    let causes = status.details.as_ref().map_or(0, |it| it.causes.len());
    let by_webhook = status.message.contains("denied the request");
    matches!(status.code, 404 | 409) || status.code == 422 && causes == 0 && !by_webhook
}

impl Cluster {
    /// Reads a Builder, live.
    pub async fn builder(&self, namespace: &str, name: &str) -> Result<Option<Builder>, Error> {
        Api::<Builder>::namespaced(self.client.clone(), namespace)
            .get_opt(name)
            .await
            .map_err(during(format!("reading Builder {namespace}/{name}")))
    }

    /// Makes a Builder; one that exists is left as it is.
    pub async fn create_builder(&self, builder: &Builder) -> Result<(), Error> {
        self.create(builder).await
    }

    /// Writes a Builder that an ImageBuild has to itself.
    pub async fn apply_builder(&self, builder: &Builder) -> Result<(), Error> {
        self.apply(builder).await.map(drop)
    }

    /// Gives the Builder that is the daemon of a platform this spec, whole, and these annotations beside those that it has: as long as
    /// it is still the one that was read. One that has gone is left for the next time.
    pub async fn change_builder(&self, stands: &Builder, wanted: &Builder) -> Result<(), Error> {
        let (namespace, name) = key(stands);
        let mut annotations = stands.annotations().clone();
        annotations.extend(wanted.annotations().clone());
        let patch: json_patch::Patch = serde_json::from_value(json!([
            { "op": "test", "path": "/metadata/uid", "value": stands.uid() },
            { "op": "test", "path": "/metadata/generation", "value": stands.metadata.generation },
            { "op": "add", "path": "/metadata/annotations", "value": annotations },
            { "op": "replace", "path": "/spec", "value": wanted.spec },
        ]))
        .expect("a literal patch is always a patch");
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        let changed = Api::<Builder>::namespaced(self.client.clone(), &namespace)
            .patch(&name, &params, &Patch::Json::<()>(patch))
            .await;
        match changed {
            Err(kube::Error::Api(status)) if went_or_changed(&status) => Ok(()),
            other => other.map(drop).map_err(writing(Verb::Apply, wanted)),
        }
    }

    /// Deletes a Builder that an ImageBuild had to itself, as long as it is still this one.
    pub async fn delete_builder(&self, builder: &Builder) -> Result<(), Error> {
        let (namespace, name) = key(builder);
        let this_one = Preconditions {
            uid: builder.uid(),
            resource_version: None,
        };
        let params = DeleteParams::background().preconditions(this_one);
        let deleted = Api::<Builder>::namespaced(self.client.clone(), &namespace)
            .delete(&name, &params)
            .await;
        match deleted {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            other => other
                .map(drop)
                .map_err(during(format!("deleting Builder {namespace}/{name}"))),
        }
    }

    /// Writes down that a Builder belongs to this installation. None where it has changed meanwhile: another one may
    /// have been quicker.
    pub async fn claim_builder(
        &self,
        builder: &Builder,
        installation: &str,
    ) -> Result<Option<Builder>, Error> {
        let (namespace, name) = key(builder);
        let status = BuilderStatus {
            installation: Some(installation.to_owned()),
            ..builder.status.clone().unwrap_or_default()
        };
        let patch: json_patch::Patch = serde_json::from_value(json!([
            { "op": "test", "path": "/metadata/resourceVersion", "value": builder.resource_version() },
            { "op": "add", "path": "/status", "value": status },
        ]))
        .expect("a literal patch is always a patch");
        let result = Api::<Builder>::namespaced(self.client.clone(), &namespace)
            .patch_status(&name, &PatchParams::default(), &Patch::Json::<()>(patch))
            .await;
        match result {
            Ok(claimed) => Ok(Some(claimed)),
            Err(kube::Error::Api(status)) if went_or_changed(&status) => Ok(None),
            Err(error) => Err(writing(Verb::WriteStatus, builder)(error)),
        }
    }

    /// The Builder's StatefulSet, and the Pods that it runs.
    pub async fn daemon(
        &self,
        builder: &Builder,
    ) -> Result<(Option<StatefulSet>, Vec<Pod>), Error> {
        let (namespace, name) = key(builder);
        let set = names::builder(&name);
        let sets = Api::<StatefulSet>::namespaced(self.client.clone(), &namespace);
        futures::try_join!(
            async {
                sets.get_opt(&set)
                    .await
                    .map_err(during(format!("reading StatefulSet {namespace}/{set}")))
            },
            self.daemon_pods(builder),
        )
    }

    /// The only Pod of a Builder, or what has the labels of those of one with several replicas: whose they are is to be asked.
    async fn daemon_pods(&self, builder: &Builder) -> Result<Vec<Pod>, Error> {
        let (namespace, name) = key(builder);
        if placement::has_several(builder) {
            let (component, of) = (names::COMPONENT, names::BUILDER_NAME);
            let labels = format!("{component}={},{of}={name}", names::BUILDER);
            let params = ListParams::default().labels(&labels);
            return briefly(&self.client, &namespace, params, MOST_PODS, |_| false)
                .await
                .map_err(during(format!(
                    "listing the Pods of Builder {namespace}/{name}"
                )));
        }
        let pod = names::builder_pod(&name, 0);
        let pods = Api::<Pod>::namespaced(self.client.clone(), &namespace);
        let found = pods.get_opt(&pod).await;
        found
            .map(|pod| pod.into_iter().collect())
            .map_err(during(format!("reading Pod {namespace}/{pod}")))
    }

    /// What others say of a daemon that is not up, newest first: its StatefulSet's controller, the scheduler, what
    /// makes volumes, its node.
    pub async fn daemon_events(
        &self,
        builder: &Builder,
        set: &StatefulSet,
        (replica, pod): (i32, Option<&Pod>),
    ) -> Result<Vec<Told>, Error> {
        match state::question(builder, set, (replica, pod)) {
            Some(question) => self.events(&key(builder).0, &question).await,
            None => Ok(vec![]),
        }
    }

    /// Applies all objects but the StatefulSet, which restarts the daemon where it changes.
    pub async fn apply_surroundings(&self, objects: &BuilderObjects) -> Result<(), Error> {
        self.apply(&objects.config_map).await?;
        self.apply(&objects.service).await?;
        self.apply(&objects.network_policy).await.map(drop)
    }

    /// Applies the StatefulSet.
    pub async fn apply_daemon(&self, objects: &BuilderObjects) -> Result<StatefulSet, Error> {
        self.apply(&objects.stateful_set).await
    }

    /// Asks for larger volumes of so many replicas; nothing where there is none.
    pub async fn enlarge(&self, builder: &Builder, replicas: i32, size: &str) -> Result<(), Error> {
        for replica in 0..replicas {
            self.enlarge_one(builder, replica, size).await?;
        }
        Ok(())
    }

    async fn enlarge_one(&self, builder: &Builder, replica: i32, size: &str) -> Result<(), Error> {
        let (namespace, name) = key(builder);
        let claim = volume::claim(&name, replica);
        let larger = Patch::Merge(json!({"spec": {"resources": {"requests": {"storage": size}}}}));
        let what = PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(claim.clone()),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            ..PersistentVolumeClaim::default()
        };
        let asked = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &namespace);
        match asked
            .patch_metadata(&claim, &PatchParams::default(), &larger)
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(writing(Verb::Apply, &what)(error)),
        }
    }

    /// True where both Secrets of a Builder exist: asked by a patch that changes nothing, as there is no right to read
    /// any. The answer is their metadata alone.
    pub async fn has_certificates(&self, builder: &Builder) -> Result<bool, Error> {
        let (namespace, name) = key(builder);
        let api = Api::<Secret>::namespaced(self.client.clone(), &namespace);
        let nothing = Patch::Merge(json!({}));
        for secret in [
            names::builder_server_tls(&name),
            names::builder_client_tls(&name),
        ] {
            let params = PatchParams::default();
            let found = api.patch_metadata(&secret, &params, &nothing);
            match found.await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(false),
                Err(error) => {
                    let what = format!("looking for Secret {namespace}/{secret}");
                    return Err(during(what)(error));
                }
            }
        }
        Ok(true)
    }

    /// Writes new certificates into the two Secrets of a Builder. They are never read back.
    pub async fn apply_certificates(
        &self,
        builder: &Builder,
        issued: &Issued,
    ) -> Result<(), Error> {
        let name = builder.name_any();
        self.apply(&secret(
            builder,
            names::builder_server_tls(&name),
            &issued.server,
        ))
        .await?;
        self.apply(&secret(
            builder,
            names::builder_client_tls(&name),
            &issued.client,
        ))
        .await
        .map(drop)
    }

    /// Writes the status where it differs.
    pub async fn write_builder_status(
        &self,
        builder: &Builder,
        status: &BuilderStatus,
    ) -> Result<(), Error> {
        self.patch_status(builder, builder.status.as_ref(), status)
            .await
            .map(drop)
    }

    /// The operator's certificate authority: the one in its own namespace's Secret, made where there is none.
    pub async fn authority(&self, namespace: &str, name: &str) -> Result<Authority, Error> {
        let secrets = Api::<Secret>::namespaced(self.client.clone(), namespace);
        loop {
            let found = secrets
                .get_opt(name)
                .await
                .map_err(during(format!("reading Secret {namespace}/{name}")))?;
            if let Some(secret) = found {
                let text = |key: &str| {
                    secret
                        .data
                        .as_ref()
                        .and_then(|data| data.get(key))
                        .and_then(|value| String::from_utf8(value.0.clone()).ok())
                        .ok_or_else(|| Error::Pki(format!("Secret {namespace}/{name} is missing key {key}: delete it, and a new \
                            authority is created")))
                };
                return Authority::load(&text("tls.crt")?, &text("tls.key")?).map_err(|error| {
                    Error::Pki(format!(
                        "Secret {namespace}/{name} is invalid: {error}: delete it, and a new \
                            authority is created"
                    ))
                });
            }
            let made = Authority::make()?;
            let secret = Secret {
                metadata: ObjectMeta {
                    name: Some(name.to_owned()),
                    namespace: Some(namespace.to_owned()),
                    ..ObjectMeta::default()
                },
                type_: Some("kubernetes.io/tls".into()),
                data: Some(bytes(&made.files())),
                ..Secret::default()
            };
            match secrets.create(&PostParams::default(), &secret).await {
                Ok(_) => return Ok(made),
                // Another replica was quicker: its authority is the one.
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                Err(error) => {
                    return Err(during(format!("creating Secret {namespace}/{name}"))(error));
                }
            }
        }
    }
}

fn secret(builder: &Builder, name: String, files: &BTreeMap<&'static str, String>) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name),
            ..metadata(builder)
        },
        data: Some(bytes(files)),
        ..Secret::default()
    }
}

fn bytes(files: &BTreeMap<&'static str, String>) -> BTreeMap<String, ByteString> {
    files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), ByteString(text.clone().into_bytes())))
        .collect()
}
