//! Where an image comes from, whichever it is: what there is, its config, its contents.

use super::daemon::Daemon;
use super::docker::{Archive, Opened};
use super::error::InspectError;
use super::files::Files;
use super::layout::Layout;
use super::location::{Form, Location};
use super::manifest::ImageDocument;
use super::platform::{Platforms, choose, of_this_machine};
use super::remote::{Connection, Remote};
use whittle_image::{Contents, Entry, ImageConfig, Limits, Reference};

/// A registry's repository, an OCI layout, or what `docker save` writes.
pub(crate) enum Source {
    Remote(Box<Remote>),
    Layout(Layout),
    Archive(Archive),
    /// A daemon on this machine; one of the two before once it was asked.
    Daemon(Box<Daemon>),
}

/// What a name points at.
#[derive(Debug)]
pub(super) enum Pointed {
    /// One platform's image.
    One {
        digest: String,
        document: ImageDocument,
    },
    /// Images for several platforms; the digest is that of their index, where there is one.
    Many {
        digest: Option<String>,
        entries: Vec<Entry>,
    },
}

/// What was found under a name.
pub(crate) struct Target {
    /// Digest of the manifest or index that the name points at; none where there is none.
    pub(crate) digest: Option<String>,
    /// The images of the platforms that are meant, at least one.
    pub(crate) images: Vec<Found>,
}

/// One platform's image, before its layers are read.
pub(crate) struct Found {
    /// Digest of its manifest; none where it has none.
    pub(crate) digest: Option<String>,
    /// The image's ID: the digest of its config.
    pub(crate) id: String,
    /// Bytes of config and layers, as stored.
    pub(crate) size: i64,
    /// True where layers lie unpacked in a file: a registry would hold fewer bytes.
    pub(super) uncompressed: bool,
    /// The platform by which it was found in an index.
    pub(super) stated: Option<String>,
    /// Its config.
    pub(crate) config: ImageConfig,
    pub(super) stored: Stored,
}

/// By what the layers are found.
#[derive(Clone)]
pub(super) enum Stored {
    Document(ImageDocument),
    Saved(Box<Opened>),
}

impl Source {
    /// Opens files, or prepares for asking a registry.
    pub(crate) fn open(location: Location, connection: &Connection) -> Result<Self, InspectError> {
        let (path, form, name) = match location {
            Location::Registry(reference) => {
                let remote = Remote::new(reference, connection)?;
                return Ok(Self::Remote(Box::new(remote)));
            }
            Location::Daemon { engine, name } => {
                return Ok(Self::Daemon(Box::new(Daemon::new(engine, &name)?)));
            }
            Location::Files { path, form, name } => (path, form, name),
        };
        Self::of(Files::open(&path)?, form, name)
    }

    /// What is in files.
    fn of(
        mut files: Files,
        form: Option<Form>,
        name: Option<String>,
    ) -> Result<Self, InspectError> {
        match form {
            Some(Form::OciLayout) => Ok(Self::Layout(Layout::new(files, name))),
            Some(Form::DockerArchive) => Ok(Self::Archive(Archive::new(files, name))),
            // Docker writes both into one tar; the layout has the digests of manifests, where it has any.
            None if Layout::is(&files)
                && !(Archive::is(&files) && Layout::is_empty(&mut files)?) =>
            {
                Ok(Self::Layout(Layout::new(files, name)))
            }
            None if Archive::is(&files) => Ok(Self::Archive(Archive::new(files, name))),
            None => Err(InspectError::NoImage {
                path: files.path().to_owned(),
                why: "not an image: neither oci-layout and index.json (an OCI layout) nor \
                    manifest.json (`docker save`) found (`docker export` writes the files of a \
                    container, not an image)"
                    .into(),
            }),
        }
    }

    /// Finds the images of the platforms that are meant.
    pub(crate) async fn find(&mut self, platforms: &Platforms) -> Result<Target, InspectError> {
        if let Self::Daemon(daemon) = self {
            *self = Self::of(daemon.files().await?, None, None)?;
        }
        let pointed = match self {
            Self::Daemon(_) => unreachable!("it was asked"),
            Self::Remote(remote) => remote.pointed().await?,
            Self::Layout(layout) => layout.pointed()?,
            Self::Archive(archive) => {
                let opened = archive.open()?;
                return Ok(Target {
                    digest: None,
                    images: vec![Found {
                        digest: None,
                        id: opened.id.clone(),
                        size: opened.size,
                        uncompressed: opened.uncompressed,
                        stated: None,
                        config: opened.config.clone(),
                        stored: Stored::Saved(Box::new(opened)),
                    }],
                });
            }
        };
        match pointed {
            Pointed::One { digest, document } => {
                let image = self.found(&digest, None, document).await?;
                Ok(Target {
                    digest: Some(digest),
                    images: vec![image],
                })
            }
            Pointed::Many { digest, entries } => {
                let mut images = Vec::new();
                for entry in choose(&entries, platforms, &of_this_machine())? {
                    let document = match self {
                        Self::Remote(remote) => remote.image(entry).await?,
                        Self::Layout(layout) => layout.image(entry)?,
                        Self::Archive(_) | Self::Daemon(_) => {
                            unreachable!("an archive points at one image")
                        }
                    };
                    let stated = entry.platform.clone();
                    images.push(self.found(&entry.digest, stated, document).await?);
                }
                Ok(Target { digest, images })
            }
        }
    }

    async fn found(
        &mut self,
        digest: &str,
        stated: Option<String>,
        document: ImageDocument,
    ) -> Result<Found, InspectError> {
        let config = match self {
            Self::Remote(remote) => remote.config(&document).await?,
            Self::Layout(layout) => layout.config(&document)?,
            Self::Archive(_) | Self::Daemon(_) => unreachable!("an archive has no documents"),
        };
        Ok(Found {
            digest: Some(digest.to_owned()),
            id: document.config.clone(),
            size: document.size,
            uncompressed: matches!(self, Self::Layout(_)) && document.is_uncompressed(),
            stated,
            config,
            stored: Stored::Document(document),
        })
    }

    /// Reads the layers. `now`: seconds since 1970.
    pub(super) async fn contents(
        &mut self,
        found: &Found,
        now: i64,
    ) -> Result<Contents, InspectError> {
        match (self, &found.stored) {
            (Self::Remote(remote), Stored::Document(document)) => {
                remote.contents(document, &found.config, now).await
            }
            (Self::Layout(layout), Stored::Document(document)) => {
                let image = layout.read_layers(document, &found.config, Limits::default())?;
                Ok(Contents::of(&image, &found.config, now))
            }
            (Self::Archive(archive), Stored::Saved(opened)) => archive.contents(opened, now),
            _ => unreachable!("an image is read from where it was found"),
        }
    }
}

/// True where two names are the same image: `busybox` and `docker.io/library/busybox:latest`.
pub(super) fn same_name(one: &str, other: &str) -> bool {
    let (one, other) = (Reference::parse(one), Reference::parse(other));
    one.repository == other.repository && one.wanted() == other.wanted()
}

#[cfg(test)]
mod tests {
    use super::same_name;

    #[test]
    fn names_are_compared_as_docker_reads_them() {
        assert!(same_name("busybox", "docker.io/library/busybox:latest"));
        assert!(!same_name("busybox:1", "busybox"));
    }
}
