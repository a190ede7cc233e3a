//! An image in a registry.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::credentials::{Login, files, look};
use super::error::{Hint, InspectError, file};
use super::manifest::{ImageDocument, image, of};
use super::source::Pointed;
use whittle_image::{Contents, Entry, ImageConfig, Reference};
use whittle_registry::{Access, Client, Patience, ReadError, RegistryError, Settings};

/// Somebody waits at a terminal: three tries, within 20 s.
const PATIENCE: Patience = Patience {
    tries: 3,
    total: Duration::from_secs(20),
    first: Duration::from_millis(500),
    longest: Duration::from_secs(5),
};

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connection {
    /// HTTP without TLS; a registry on this machine is spoken to so in any case.
    pub(crate) plain_http: bool,
    /// A file of certificates in PEM that sign the registry's, besides those of the system.
    pub(crate) ca: Option<PathBuf>,
}

/// One reference of a registry.
pub(crate) struct Remote {
    client: Client,
    reference: Reference,
    login: Login,
    plain_http: bool,
}

impl Remote {
    /// Prepares the asking: nothing is sent yet.
    pub(super) fn new(reference: Reference, connection: &Connection) -> Result<Self, InspectError> {
        Self::with(reference, connection, Access::Pull)
    }

    /// The same, for reading or for writing, too.
    pub(crate) fn with(
        reference: Reference,
        connection: &Connection,
        access: Access,
    ) -> Result<Self, InspectError> {
        let login = look(&reference.repository, &files(|name| std::env::var_os(name)))?;
        Self::as_user(reference, connection, access, login)
    }

    /// The same with credentials that were looked for.
    pub(crate) fn as_user(
        reference: Reference,
        connection: &Connection,
        access: Access,
        login: Login,
    ) -> Result<Self, InspectError> {
        let ca = match &connection.ca {
            Some(path) => Some(certificates(path)?),
            None => None,
        };
        let plain_http =
            connection.plain_http || connection.ca.is_none() && reference.repository.is_loopback();
        let settings = Settings {
            plain_http,
            ca,
            credentials: login.credentials.clone(),
            patience: PATIENCE,
            access,
        };
        let client = Client::new(reference.repository.clone(), settings)
            .map_err(|error| InspectError::Registry(error, Hint(None)))?;
        Ok(Self {
            client,
            reference,
            login,
            plain_http,
        })
    }

    /// Who asks the registry.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The name that is asked for.
    pub(crate) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// What the reference points at.
    pub(super) async fn pointed(&self) -> Result<Pointed, InspectError> {
        let pointed = self.client.pointed(&self.reference).await;
        Ok(
            match pointed.map_err(|error| self.failed(error, "the manifest"))? {
                whittle_registry::Pointed::Image(manifest) => Pointed::One {
                    document: image(&manifest.bytes, &manifest.digest)?,
                    digest: manifest.digest,
                },
                whittle_registry::Pointed::Index {
                    digest, entries, ..
                } => Pointed::Many {
                    digest: Some(digest),
                    entries,
                },
            },
        )
    }

    /// The manifest of an index's entry.
    pub(super) async fn image(&self, entry: &Entry) -> Result<ImageDocument, InspectError> {
        let what = match &entry.platform {
            Some(platform) => format!("the manifest for {platform}"),
            None => "the manifest".into(),
        };
        let manifest = self.client.platform_manifest(&entry.digest).await;
        let manifest = manifest.map_err(|error| self.failed(error, &what))?;
        image(&manifest.bytes, &manifest.digest)
    }

    /// An image's config.
    pub(super) async fn config(
        &self,
        document: &ImageDocument,
    ) -> Result<ImageConfig, InspectError> {
        let config = self.client.image_config(&document.config).await;
        config.map_err(|error| self.failed(error, "the config"))
    }

    /// What an image holds. `now`: seconds since 1970.
    pub(super) async fn contents(
        &self,
        document: &ImageDocument,
        config: &ImageConfig,
        now: i64,
    ) -> Result<Contents, InspectError> {
        let contents = self.client.contents(&document.layers, config, now).await;
        contents.map_err(|error| self.unread(error, document))
    }

    /// Why an image's layers were not read.
    pub(super) fn unread(&self, error: ReadError, document: &ImageDocument) -> InspectError {
        match (&error, document.foreign.first()) {
            (ReadError::Registry(RegistryError::NotFound(_)), Some((layer, url))) => {
                InspectError::Foreign {
                    layer: *layer,
                    url: url.clone(),
                }
            }
            _ => self.failed(error, "the image"),
        }
    }

    /// The reports that Whittle has put beside the image, one a platform, each with its digests: of what the
    /// reference points at, and of the platform's own manifest.
    pub(super) async fn reports(&self) -> Result<Vec<(Vec<String>, Contents)>, InspectError> {
        let (top, digests) = match self.pointed().await? {
            Pointed::One { digest, .. } => (digest.clone(), vec![digest]),
            Pointed::Many { digest, entries } => (
                digest.unwrap_or_default(),
                entries.into_iter().map(|entry| entry.digest).collect(),
            ),
        };
        let mut found = vec![];
        for digest in digests {
            let report = self.client.report(&digest).await;
            if let Some(contents) = report.map_err(|error| self.refused(error))? {
                found.push((vec![top.clone(), digest], contents));
            }
        }
        Ok(found)
    }

    /// `what`: what was read.
    pub(crate) fn failed(&self, error: ReadError, what: &str) -> InspectError {
        match error {
            ReadError::Registry(error) => self.refused(error),
            ReadError::Manifest(error) => of(error, what),
            ReadError::Nested(digest) => InspectError::NestedIndex(digest),
            ReadError::Config(error) => error.into(),
            ReadError::Layer(error) => error.into(),
            ReadError::Mismatch(error) => error.into(),
        }
    }

    pub(crate) fn refused(&self, error: RegistryError) -> InspectError {
        let hint = self.hint(&error);
        InspectError::Registry(error, Hint(hint))
    }

    /// What most likely helps.
    fn hint(&self, error: &RegistryError) -> Option<String> {
        let host = &self.reference.repository.host;
        match error {
            RegistryError::Denied(_) => Some(denied(host, &self.login)),
            RegistryError::NotFound(_) => None,
            RegistryError::Transient { message, .. } | RegistryError::Other(message) => {
                if message.contains("invalid peer certificate") {
                    return Some(
                        "certificate signed by unknown authority: pass the authority's \
                            certificate with --ca FILE"
                            .into(),
                    );
                }
                // What rustls says of an answer that is no TLS.
                if message.contains("InvalidContentType") {
                    return Some(format!(
                        "{host} does not support TLS; for HTTP use --plain-http"
                    ));
                }
                if message.contains(", with an HTML page")
                    && !matches!(error, RegistryError::Transient { .. })
                {
                    return Some(format!(
                        "{host} is a web server, not a registry: check the image's name"
                    ));
                }
                if message.contains(": 429 ") {
                    return Some(format!(
                        "rate limit of {host} exceeded; it is higher for users who log in: \
                            `docker login {host}`"
                    ));
                }
                (self.plain_http && message.contains("400 Bad Request"))
                    .then(|| format!("{host} may require TLS, and was asked over plain HTTP"))
            }
        }
    }
}

/// What to do about a refusal.
fn denied(host: &str, login: &Login) -> String {
    let path = |path: &Option<PathBuf>| match path {
        Some(path) => path.display().to_string(),
        None => "the configuration".into(),
    };
    match (&login.credentials, &login.helper) {
        (Some(_), _) => format!(
            "the credentials for {host} are those of {}",
            path(&login.file)
        ),
        (None, Some(helper)) => format!(
            "{} uses the credential helper {helper} for {host}, which is unsupported: write the credentials into a \
             file, for example with `podman login --authfile FILE {host}`, and set REGISTRY_AUTH_FILE=FILE",
            path(&login.file)
        ),
        (None, None) => format!(
            "credentials for {host} not found: log in with `docker login {host}` or `podman \
                login {host}`, or set REGISTRY_AUTH_FILE"
        ),
    }
}

/// The bytes of a file with certificates, at least one.
fn certificates(path: &Path) -> Result<Vec<u8>, InspectError> {
    let pem = std::fs::read(path).map_err(file(path))?;
    match reqwest::Certificate::from_pem_bundle(&pem) {
        Ok(found) if !found.is_empty() => Ok(pem),
        _ => Err(InspectError::Certificates {
            path: path.to_owned(),
        }),
    }
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
