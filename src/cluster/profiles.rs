//! ProbeProfiles: what the probe guard's policies know of images.

use std::collections::BTreeMap;

use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};

use super::{Cluster, Error, during};
use crate::api::{ProbeProfile, ProbeProfileSpec};
use crate::plan::names::FIELD_MANAGER;

/// The label of those that the controller wrote.
const OURS: (&str, &str) = ("app.kubernetes.io/managed-by", "whittle");

impl Cluster {
    /// The ProbeProfiles that the controller wrote.
    pub async fn profiles(&self) -> Result<Vec<ProbeProfile>, Error> {
        Api::<ProbeProfile>::all(self.client.clone())
            .list(&ours())
            .await
            .map(|list| list.items)
            .map_err(during("listing ProbeProfiles"))
    }

    /// Versions of the ProbeProfiles that the controller wrote, by name.
    pub async fn profile_versions(&self) -> Result<BTreeMap<String, String>, Error> {
        let list = Api::<ProbeProfile>::all(self.client.clone())
            .list_metadata(&ours())
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

    /// Writes a ProbeProfile as a whole; `version`: of the one that it replaces. Returns its version.
    pub async fn write_profile(
        &self,
        name: &str,
        spec: ProbeProfileSpec,
        version: Option<&String>,
    ) -> Result<String, Error> {
        let mut profile = ProbeProfile::new(name, spec);
        profile
            .labels_mut()
            .insert(OURS.0.to_owned(), OURS.1.to_owned());
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

fn ours() -> ListParams {
    ListParams::default().labels(&format!("{}={}", OURS.0, OURS.1))
}
