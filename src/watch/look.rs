//! One look at one source: whom to ask, and what to say of the answer.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use whittle_api::{GitRef, RegistryConfig};
use whittle_git::{Auth, Http, Kind, Remote, Wanted};
use whittle_image::{Reference, Repository, bounded};
use whittle_registry::answer::{self, told};
use whittle_registry::{
    Access, Client, DockerConfig, MountFault, Patience, RegistryError, Settings,
};

use crate::files::{mark, read, within};
use crate::schedule::Looked;
use crate::wire::{MESSAGE, Outcome, Reason, What};

/// The longest that a registry may take for all that one look asks it; git has its own.
const WITHIN: Duration = Duration::from_secs(30);
/// One try: the schedule knows when to try again.
const ONCE: Patience = Patience {
    tries: 1,
    ..Patience::USUAL
};

/// What went wrong, and how long the server asks to wait.
#[derive(Debug)]
pub(crate) struct Fault {
    reason: Reason,
    message: String,
    retry_after: Option<Duration>,
    /// True where the server answered well, and just has not what was looked for.
    answered: bool,
}

impl Fault {
    fn new(reason: Reason, message: String) -> Self {
        Self {
            reason,
            message,
            retry_after: None,
            answered: false,
        }
    }
}

/// Whom a source asks: host and port, as far as they can be told.
pub(crate) fn host(what: &What) -> String {
    match what {
        What::Git { url, .. } => {
            Remote::parse(url).map_or_else(|_| url.clone(), |remote| remote.host())
        }
        What::Image { image, .. } => Reference::parse(image).repository.api_host().to_owned(),
    }
}

/// Connections to servers, shared by what is asked over the same certificates.
pub(crate) struct Servers {
    git: Http,
    secrets: PathBuf,
    registry_ca: PathBuf,
    registries: HashMap<(bool, Option<PathBuf>), (u64, Client)>,
    /// Directories of what is trusted besides the public authorities.
    trusted: Vec<PathBuf>,
    /// Of them, as they were when the connections were made.
    mark: u64,
}

/// A look that has all it needs.
pub(crate) enum Asking {
    Git {
        http: Http,
        remote: Remote,
        auth: Auth,
        wanted: Wanted,
    },
    /// Where the builder would pull it from: its registry's mirrors, and then that.
    Image {
        places: Vec<Client>,
        wanted: String,
    },
    Known(Result<String, Fault>),
}

impl Servers {
    pub(crate) fn new(secrets: &Path, registry_ca: &Path) -> Result<Self, whittle_git::Error> {
        // As TLS reads it.
        let trusted = std::env::var_os("SSL_CERT_DIR").unwrap_or_default();
        let trusted = std::env::split_paths(&trusted).collect();
        Self::trusting(trusted, secrets, registry_ca)
    }

    fn trusting(
        trusted: Vec<PathBuf>,
        secrets: &Path,
        registry_ca: &Path,
    ) -> Result<Self, whittle_git::Error> {
        Ok(Self {
            mark: marks(&trusted),
            trusted,
            git: Http::new()?,
            secrets: secrets.to_owned(),
            registry_ca: registry_ca.to_owned(),
            registries: HashMap::new(),
        })
    }

    /// True where a directory is missing that the kubelet makes for this source, whether what is in it exists or not: it was not
    /// mounted when this Pod started.
    pub(crate) fn lacks(
        &self,
        what: &What,
        registries: impl Fn(&str) -> Vec<RegistryConfig>,
    ) -> bool {
        let (What::Git { secret, .. } | What::Image { secret, .. }) = what;
        let secret = secret.iter().filter_map(|name| within(&self.secrets, name));
        let mut needed: Vec<PathBuf> = secret.collect();
        if let What::Image { image, builder, .. } = what {
            let registries = registries(builder);
            let of_image = places(&Reference::parse(image).repository, &registries);
            let all = of_image.iter().filter_map(|it| configured(it, &registries));
            needed.extend(all.filter_map(|it| self.certificates(builder, it)));
        }
        !needed.iter().all(|folder| folder.exists())
    }

    /// Where the certificates of a registry are mounted; none where it needs none.
    fn certificates(&self, builder: &str, registry: &RegistryConfig) -> Option<PathBuf> {
        registry.ca_ref.as_ref()?;
        within(&within(&self.registry_ca, builder)?, &registry.folder())
    }

    /// Reads what is mounted for a look. Nothing of it is kept.
    pub(crate) fn prepare(
        &mut self,
        what: &What,
        registries: impl Fn(&str) -> Vec<RegistryConfig>,
    ) -> Asking {
        self.renew();
        let prepared = match what {
            What::Git {
                url,
                reference,
                secret,
            } => self.git(url, reference.as_ref(), secret.as_deref()),
            What::Image {
                image,
                builder,
                secret,
            } => self.image(image, builder, secret.as_deref(), &registries(builder)),
        };
        prepared.unwrap_or_else(|fault| Asking::Known(Err(fault)))
    }

    /// Connections know what was trusted when they were made: what is trusted now makes new ones.
    fn renew(&mut self) {
        let now = marks(&self.trusted);
        if now != self.mark
            && let Ok(git) = Http::new()
        {
            (self.git, self.mark) = (git, now);
            self.registries.clear();
        }
    }

    fn git(
        &self,
        url: &str,
        reference: Option<&GitRef>,
        secret: Option<&str>,
    ) -> Result<Asking, Fault> {
        let remote = Remote::parse(url).map_err(|error| git_fault(url, secret, &error))?;
        let auth = match (secret, &remote) {
            (Some(name), _) => {
                let folder = within(&self.secrets, name);
                let folder = folder.ok_or_else(|| {
                    Fault::new(Reason::Invalid, format!("Secret {name}: invalid name"))
                })?;
                Auth::read(&folder, &remote)
            }
            (None, Remote::Http(_)) => Ok(Auth::None),
            (None, Remote::Ssh(server)) => {
                return Err(Fault::new(
                    Reason::Denied,
                    format!(
                        "git repository {url} is read over SSH: name a Secret of type kubernetes.io/ssh-auth in \
                        git.secretRef, with the keys ssh-privatekey and known_hosts (the output of `ssh-keyscan {}`)",
                        server.host
                    ),
                ));
            }
        };
        Ok(Asking::Git {
            http: self.git.clone(),
            auth: auth.map_err(|error| git_fault(url, secret, &error))?,
            remote,
            wanted: wanted(reference).map_err(|error| git_fault(url, secret, &error))?,
        })
    }

    fn image(
        &mut self,
        image: &str,
        builder: &str,
        secret: Option<&str>,
        registries: &[RegistryConfig],
    ) -> Result<Asking, Fault> {
        let reference = Reference::parse(image);
        if let Some(digest) = reference.digest {
            return Ok(Asking::Known(Ok(digest)));
        }
        let credentials = match secret {
            Some(name) => self.credentials(image, name)?,
            None => DockerConfig::default(),
        };
        let all = places(&reference.repository, registries);
        let mut places = vec![];
        for repository in all {
            let credentials = credentials.find(&repository).cloned();
            let client = self.registry(&repository, builder, registries);
            let client = client.map_err(|fault| match fault {
                Away::Certificates(fault) => fault,
                Away::Client(error) => image_fault(image, secret, &error),
            })?;
            places.push(client.beside(repository, credentials));
        }
        let wanted = reference.wanted().to_owned();
        Ok(Asking::Image { places, wanted })
    }

    /// A client for the registry of this repository, as the Builder is configured.
    fn registry(
        &mut self,
        repository: &Repository,
        builder: &str,
        registries: &[RegistryConfig],
    ) -> Result<Client, Away> {
        let known = configured(repository, registries);
        let ca = known.and_then(|registry| self.certificates(builder, registry));
        let ca = ca.map(|folder| folder.join("ca.crt"));
        let plain_http = known.map_or_else(|| repository.is_loopback(), |it| it.plain_http);
        let now = ca.as_deref().map_or(0, mark);
        let key = (plain_http, ca);
        if let Some((before, client)) = self.registries.get(&key)
            && *before == now
        {
            return Ok(client.beside(repository.clone(), None));
        }
        let settings = Settings {
            plain_http,
            ca: key.1.as_deref().map(read).transpose().map_err(|error| {
                let host = &repository.host;
                let message = format!(
                    "the certificates of registry {host} cannot be read: {error}: check the ConfigMap of caRef in Builder {builder}"
                );
                Away::Certificates(Fault::new(Reason::Invalid, message))
            })?,
            credentials: None,
            patience: ONCE,
            access: Access::Pull,
        };
        let client = Client::new(repository.clone(), settings).map_err(Away::Client)?;
        let beside = client.beside(repository.clone(), None);
        self.registries.insert(key, (now, client));
        Ok(beside)
    }

    fn credentials(&self, image: &str, name: &str) -> Result<DockerConfig, Fault> {
        let denied = |why: String| {
            let message = format!(
                "image {image}: {why}: create a Secret of type kubernetes.io/dockerconfigjson named {name}"
            );
            Fault::new(Reason::Denied, message)
        };
        let folder = within(&self.secrets, name)
            .ok_or_else(|| denied(format!("Secret {name} has an invalid name")))?;
        DockerConfig::mounted(&folder).map_err(|fault| {
            denied(match fault {
                MountFault::Io(error) => format!("Secret {name} cannot be read: {error}"),
                MountFault::Keys(_) => format!("Secret {name} not found, or of another type"),
                MountFault::Config(key, fault) => {
                    format!(
                        "Secret {name} has an invalid Docker config file in its key {key}: {fault}"
                    )
                }
            })
        })
    }
}

fn marks(folders: &[PathBuf]) -> u64 {
    let marks = folders.iter().map(|folder| mark(folder));
    marks.fold(0, |all, one| all.rotate_left(1) ^ one)
}

/// How a Builder reaches the registry of this repository, where it says so.
fn configured<'a>(
    repository: &Repository,
    registries: &'a [RegistryConfig],
) -> Option<&'a RegistryConfig> {
    registries.iter().find(|it| it.host == repository.host)
}

/// Where an image is looked for: at its registry's mirrors, and then there.
fn places(repository: &Repository, registries: &[RegistryConfig]) -> Vec<Repository> {
    let mirrors = configured(repository, registries).map_or(&[][..], |it| &it.mirrors);
    let mirrored = mirrors.iter().map(|mirror| {
        let mirror = mirror.trim_end_matches('/');
        Repository::parse(&format!("{mirror}/{}", repository.path))
    });
    mirrored.chain([repository.clone()]).collect()
}

/// Why a registry cannot be asked.
enum Away {
    Certificates(Fault),
    Client(RegistryError),
}

/// The digest of a tag, at the first place that has it; each is given its time.
async fn digest(places: &[Client], wanted: &str) -> Result<String, RegistryError> {
    let mut last = Err(RegistryError::Other("no registry".into()));
    for client in places {
        let asked = tokio::time::timeout(WITHIN, client.digest(wanted)).await;
        last = asked.unwrap_or_else(|_| {
            Err(RegistryError::Transient {
                message: format!(
                    "timed out: the registry did not answer within {} s",
                    WITHIN.as_secs()
                ),
                retry_after: None,
            })
        });
        if last.is_ok() {
            break;
        }
    }
    last
}

/// What a reference of a spec means.
fn wanted(reference: Option<&GitRef>) -> Result<whittle_git::Wanted, whittle_git::Error> {
    use whittle_git::{Range, Wanted};
    let Some(GitRef {
        branch,
        tag,
        semver,
        commit,
    }) = reference
    else {
        return Ok(Wanted::Head);
    };
    Ok(match (branch, tag, semver, commit) {
        (Some(branch), ..) => Wanted::Branch(branch.clone()),
        (_, Some(tag), ..) => Wanted::Tag(tag.clone()),
        (_, _, Some(range), _) => Wanted::Versions(Range::parse(range)?),
        (_, _, _, Some(commit)) => Wanted::Commit(commit.clone()),
        _ => Wanted::Head,
    })
}

impl Asking {
    /// The tree of a folder of a repository at a revision; none where there is none, or the server does not let it be seen.
    pub(crate) async fn tree(self, revision: &str, folder: &str) -> Option<String> {
        let Self::Git {
            http, remote, auth, ..
        } = self
        else {
            return None;
        };
        let commit = revision.rsplit(':').next()?;
        let tree = whittle_git::folder_tree(&http, &remote, &auth, commit, folder).await;
        tree.inspect_err(|error| tracing::debug!(%error, "the tree of a folder cannot be seen"))
            .ok()
            .flatten()
    }

    /// Asks. `what`: what it was prepared for.
    pub(crate) async fn look(self, what: &What) -> Looked {
        let begun = Instant::now();
        let found = match (self, what) {
            (Self::Known(known), _) => known,
            (
                Self::Git {
                    http,
                    remote,
                    auth,
                    wanted,
                },
                What::Git { url, secret, .. },
            ) => {
                let found = whittle_git::look(&http, &remote, &auth, &wanted).await;
                found.map_err(|error| match (&auth, secret, error.kind) {
                    (Auth::None, Some(name), Kind::Denied | Kind::NotFound) => Fault::new(
                        Reason::Denied,
                        format!(
                            "authentication required for git repository {url}: Secret {name} not found, or key password \
                                is missing: create it with type kubernetes.io/basic-auth"
                        ),
                    ),
                    _ => git_fault(url, secret.as_deref(), &error),
                })
            }
            (Self::Image { places, wanted }, What::Image { image, secret, .. }) => {
                let found = digest(&places, &wanted).await;
                found.map_err(|error| image_fault(image, secret.as_deref(), &error))
            }
            _ => unreachable!("a look is prepared for what it looks at"),
        };
        let took = begun.elapsed();
        match found {
            Ok(revision) => Looked {
                outcome: Outcome::Found { revision },
                answered: true,
                retry_after: None,
                took,
            },
            Err(fault) => Looked {
                outcome: Outcome::Failed {
                    reason: fault.reason,
                    message: bounded(fault.message, MESSAGE),
                },
                answered: fault.answered,
                retry_after: fault.retry_after,
                took,
            },
        }
    }
}

fn git_fault(url: &str, secret: Option<&str>, error: &whittle_git::Error) -> Fault {
    let reason = match error.kind {
        Kind::NotFound | Kind::NoRef => Reason::NotFound,
        Kind::NoMatch => Reason::NoMatch,
        Kind::Denied | Kind::HostKey => Reason::Denied,
        Kind::Unreachable => Reason::Unreachable,
        Kind::RateLimited => Reason::RateLimited,
        Kind::Url | Kind::Range | Kind::Redirect | Kind::Protocol => Reason::Invalid,
    };
    Fault {
        retry_after: error.retry_after,
        answered: matches!(error.kind, Kind::NoRef | Kind::NoMatch),
        ..Fault::new(reason, error.told(url, secret))
    }
}

fn image_fault(image: &str, secret: Option<&str>, error: &RegistryError) -> Fault {
    let with = match secret {
        Some(name) => format!("check that the credentials in Secret {name} may read it"),
        None => "a private image needs a Secret".to_owned(),
    };
    match error {
        RegistryError::NotFound(said) => Fault {
            answered: true,
            ..Fault::new(
                Reason::NotFound,
                format!("image {image} not found: {said}: check its name; {with}"),
            )
        },
        RegistryError::Denied(said) => Fault::new(
            Reason::Denied,
            format!("access to image {image} is denied: {said}: {with}"),
        ),
        RegistryError::Transient {
            message,
            retry_after,
        } => {
            let limited = told(message).kind == answer::Kind::RateLimited;
            let (reason, words) = match limited {
                true => (Reason::RateLimited, "rate limit exceeded"),
                false => (Reason::Unreachable, "cannot be read"),
            };
            Fault {
                retry_after: *retry_after,
                ..Fault::new(
                    reason,
                    format!("image {image}: {words}: {message}; retrying"),
                )
            }
        }
        RegistryError::Other(said) if said.contains("invalid peer certificate") => Fault::new(
            Reason::Invalid,
            format!(
                "image {image}: the certificate of its registry is not trusted: {said}: set its CA in registries[].caRef of the \
                Builder, or for all servers in caRef of the Builder (caBundle of the chart, for all namespaces)"
            ),
        ),
        RegistryError::Other(said) => Fault::new(
            Reason::Invalid,
            format!("image {image}: {said}: check its name and its registry"),
        ),
    }
}

#[cfg(test)]
#[path = "look_tests.rs"]
mod tests;
