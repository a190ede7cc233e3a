//! ProbeProfiles: what the probe guard's policies know of images.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::Selector;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{Cluster, Error, during};
use crate::names::FIELD_MANAGER;
use whittle_api::{ImageBuild, ProbeProfile, ProbeProfileSpec, Reason, clear, set};

/// The label of those that a controller wrote.
const OURS: (&str, &str) = ("app.kubernetes.io/managed-by", "whittle");
/// The label with the installation's name: those of others are left alone.
const INSTALLATION: &str = "whittle.dev/installation";

/// Names of ProbeProfiles: `INSTALLATION-NUMBER`.
pub mod names_of_profiles {
    /// The name of one.
    pub fn name(installation: &str, number: usize) -> String {
        format!("{installation}-{number}")
    }

    /// The number of one.
    pub fn number(installation: &str, name: &str) -> Option<usize> {
        name.strip_prefix(installation)?
            .strip_prefix('-')?
            .parse()
            .ok()
    }
}

impl Cluster {
    /// A ProbeProfile and its version.
    pub async fn profile(&self, name: &str) -> Result<Option<(ProbeProfileSpec, String)>, Error> {
        let found = Api::<ProbeProfile>::all(self.client.clone())
            .get_opt(name)
            .await
            .map_err(during(format!("reading ProbeProfile {name}")))?;
        Ok(found.map(|profile| {
            let version = profile.resource_version().unwrap_or_default();
            (profile.spec, version)
        }))
    }

    /// Versions of the ProbeProfiles of an installation, by name.
    pub async fn profile_versions(
        &self,
        installation: &str,
    ) -> Result<BTreeMap<String, String>, Error> {
        self.versions(&format!(
            "{}={},{INSTALLATION}={installation}",
            OURS.0, OURS.1
        ))
        .await
    }

    /// Names of those that carry no installation's name: an earlier version wrote them, and no policy reads them.
    pub async fn unnamed_profiles(&self) -> Result<Vec<String>, Error> {
        let found = self
            .versions(&format!("{}={},!{INSTALLATION}", OURS.0, OURS.1))
            .await?;
        Ok(found.into_keys().collect())
    }

    async fn versions(&self, labels: &str) -> Result<BTreeMap<String, String>, Error> {
        let list = Api::<ProbeProfile>::all(self.client.clone())
            .list_metadata(&ListParams::default().labels(labels))
            .await
            .map_err(during("listing ProbeProfiles"))?;
        Ok(list
            .iter()
            .map(|found| {
                (
                    found.name_any(),
                    found.resource_version().unwrap_or_default(),
                )
            })
            .collect())
    }

    /// Names of the namespaces with these labels.
    pub async fn namespaces(&self, selector: &LabelSelector) -> Result<BTreeSet<String>, Error> {
        let selector: Selector = selector
            .clone()
            .try_into()
            .map_err(|error| Error::Selector(format!("{error}")))?;
        let list = Api::<Namespace>::all(self.client.clone())
            .list_metadata(&ListParams::default().labels_from(&selector))
            .await
            .map_err(during("listing namespaces"))?;
        Ok(list.iter().map(ResourceExt::name_any).collect())
    }

    /// Writes a ProbeProfile as a whole; `version`: of the one that it replaces. Returns its version.
    pub async fn write_profile(
        &self,
        installation: &str,
        name: &str,
        spec: ProbeProfileSpec,
        version: Option<&String>,
    ) -> Result<String, Error> {
        let mut profile = ProbeProfile::new(name, spec);
        let labels = profile.labels_mut();
        labels.insert(OURS.0.to_owned(), OURS.1.to_owned());
        labels.insert(INSTALLATION.to_owned(), installation.to_owned());
        let api = Api::<ProbeProfile>::all(self.client.clone());
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        let written = match version {
            Some(version) => {
                profile.metadata.resource_version = Some(version.clone());
                api.replace(name, &params, &profile).await
            }
            None => api.create(&params, &profile).await,
        };
        written
            .map(|written| written.resource_version().unwrap_or_default())
            .map_err(during(format!("writing ProbeProfile {name}")))
    }

    /// Writes a condition of an ImageBuild: status, reason and message; takes it away where there is none. Other writers' conditions stay: the write fails where the object has changed
    /// meanwhile, and comes again.
    pub async fn write_condition(
        &self,
        namespace: &str,
        name: &str,
        kind: &'static str,
        wanted: Option<&(String, Reason, String)>,
    ) -> Result<(), Error> {
        let Some(build) = self.image_build(namespace, name).await? else {
            return Ok(());
        };
        let Some(mut status) = build.status.clone() else {
            return Ok(());
        };
        match wanted {
            Some((state, reason, message)) => set(
                &mut status.conditions,
                kind,
                Some(state == "True"),
                (*reason, message),
                build.metadata.generation,
                Timestamp::now(),
            ),
            None => clear(&mut status.conditions, kind),
        }
        let patch: json_patch::Patch = serde_json::from_value(json!([
            { "op": "test", "path": "/metadata/resourceVersion", "value": build.resource_version() },
            { "op": "replace", "path": "/status/conditions", "value": status.conditions },
        ]))
        .expect("a literal patch is always a patch");
        Api::<ImageBuild>::namespaced(self.client.clone(), namespace)
            .patch_status(name, &PatchParams::default(), &Patch::Json::<()>(patch))
            .await
            .map(drop)
            .map_err(during(format!(
                "writing the condition {kind} of ImageBuild {namespace}/{name}"
            )))
    }

    /// Deletes a ProbeProfile.
    pub async fn delete_profile(&self, name: &str) -> Result<(), Error> {
        let deleted = Api::<ProbeProfile>::all(self.client.clone())
            .delete(name, &DeleteParams::default())
            .await;
        match deleted {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(during(format!("deleting ProbeProfile {name}"))(error)),
        }
    }
}
