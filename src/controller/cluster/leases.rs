//! The Lease by which the processes of one installation agree who leads.

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};

use super::{Error, during};
use crate::names::FIELD_MANAGER;

/// One Lease, by name.
pub struct Leases {
    api: Api<Lease>,
    namespace: String,
    name: String,
}

impl Leases {
    /// Over a client of its own: nothing else holds up a renewal.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The Lease; none where there is none.
    pub async fn read(&self) -> Result<Option<Lease>, Error> {
        let found = self.api.get_opt(&self.name).await;
        found.map_err(during(format!("reading Lease {}", self.key())))
    }

    /// Writes it over the one that was read, or makes it where none was. None where somebody else was quicker.
    pub async fn write(&self, lease: &Lease) -> Result<Option<Lease>, Error> {
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        let written = match lease.metadata.resource_version {
            Some(_) => self.api.replace(&self.name, &params, lease).await,
            None => {
                let mut lease = lease.clone();
                lease.metadata.name = Some(self.name.clone());
                self.api.create(&params, &lease).await
            }
        };
        match written {
            Ok(written) => Ok(Some(written)),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
            Err(error) => Err(during(format!("writing Lease {}", self.key()))(error)),
        }
    }
}
