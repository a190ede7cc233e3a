//! What IMAGE on the command line means: an image in a registry, or one in files.

use std::path::{Path, PathBuf};

use super::daemon::{self, Engine};
use super::error::InspectError;
use whittle_image::{Reference, is_digest};

/// Where an image is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// In a registry.
    Registry(Reference),
    /// In a daemon on this machine.
    Daemon {
        /// Whose.
        engine: Engine,
        /// As the daemon knows it.
        name: String,
    },
    /// In a folder or a tar.
    Files {
        /// The folder or the tar.
        path: PathBuf,
        /// How it is laid out, where the argument says so.
        form: Option<Form>,
        /// Which of its images: a tag, a name with a tag, or a digest.
        name: Option<String>,
    },
}

/// How an image lies in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>
    OciLayout,
    /// What `docker save` writes
    /// (<https://github.com/moby/moby/blob/master/image/spec/spec.md#combined-image-json--filesystem-changeset-format>).
    DockerArchive,
}

/// The prefixes that skopeo and podman have for the same
/// (<https://github.com/containers/image/blob/main/docs/containers-transports.5.md>).
const PREFIXES: [(&str, Form); 3] = [
    ("oci:", Form::OciLayout),
    ("oci-archive:", Form::OciLayout),
    ("docker-archive:", Form::DockerArchive),
];

impl Location {
    /// Reads the argument. A path is what has one of the prefixes, or begins with `/` or `.`; all else is
    /// a reference, also where a file of that name exists. `exists`: whether a path is there.
    pub(crate) fn parse(image: &str, exists: impl Fn(&Path) -> bool) -> Result<Self, InspectError> {
        for (prefix, form) in PREFIXES {
            if let Some(rest) = image.strip_prefix(prefix) {
                return files(rest, Some(form), exists);
            }
        }
        for engine in Engine::ALL {
            if let Some(name) = image.strip_prefix(engine.prefix()) {
                return match daemon::fault(name) {
                    None => Ok(Self::Daemon {
                        engine,
                        name: name.to_owned(),
                    }),
                    Some(why) => Err(InspectError::Name(format!("{image}: {why}"))),
                };
            }
        }
        if image.starts_with(['/', '.']) {
            return files(image, None, exists);
        }
        let name = image.strip_prefix("docker://").unwrap_or(image);
        if name.starts_with("http://") || name.starts_with("https://") {
            return Err(InspectError::Name(format!(
                "{image}: invalid image name: write host/repository:tag without http:// or \
                    https://; for a registry without TLS use --plain-http"
            )));
        }
        let reference = Reference::parse(name);
        match fault(name, &reference) {
            None => Ok(Self::Registry(reference)),
            Some(why) => Err(InspectError::Name(format!(
                "invalid image name {image}: {why}"
            ))),
        }
    }
}

/// A path, and behind a colon or an `@` which of its images. A file whose own name has a colon goes first.
fn files(
    text: &str,
    form: Option<Form>,
    exists: impl Fn(&Path) -> bool,
) -> Result<Location, InspectError> {
    if text.is_empty() {
        return Err(InspectError::Name(
            "the path of the image is missing".into(),
        ));
    }
    let whole = Path::new(text);
    let mut found = (whole, None);
    if !exists(whole) {
        let ends = text.char_indices().filter(|(_, c)| [':', '@'].contains(c));
        if let Some((end, _)) = ends
            .filter(|(end, _)| *end > 0 && exists(Path::new(&text[..*end])))
            .last()
        {
            found = (Path::new(&text[..end]), Some(text[end + 1..].to_owned()));
        }
    }
    Ok(Location::Files {
        path: found.0.to_owned(),
        form,
        name: found.1.filter(|name| !name.is_empty()),
    })
}

/// What keeps a name from being a reference
/// (<https://github.com/distribution/reference/blob/v0.6.0/reference.go>).
fn fault(name: &str, reference: &Reference) -> Option<String> {
    let path = &reference.repository.path;
    let in_path = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c);
    if let Some(wrong) = path.chars().find(|c| !in_path(*c)) {
        return Some(if wrong.is_ascii_uppercase() {
            format!("repositories must be lowercase, and it has {wrong}")
        } else {
            format!("invalid character {wrong:?} in a repository name")
        });
    }
    let whole = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    if !path.split('/').all(whole) {
        return Some("each part of it must start and end with a letter or digit".into());
    }
    let parted = |part: &str| {
        let mut between = part.split(|c: char| c.is_ascii_alphanumeric());
        between.all(|text| ["", ".", "_", "__"].contains(&text) || text.bytes().all(|b| b == b'-'))
    };
    if let Some(part) = path.split('/').find(|part| !parted(part)) {
        return Some(format!(
            "invalid part {part}: between letters it may have a single . or _, __, or dashes"
        ));
    }
    if path.len() > 255 {
        return Some("its path is too long: more than 255 characters".into());
    }
    let in_host = |c: char| c.is_ascii_alphanumeric() || "-.:[]_".contains(c);
    if !reference.repository.host.chars().all(in_host) {
        return Some("invalid host".into());
    }
    let in_tag = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if let Some(tag) = &reference.tag
        && (tag.is_empty() || tag.len() > 128 || !tag.chars().all(in_tag))
    {
        return Some(format!("invalid tag {tag:?}"));
    }
    if name.contains('@') {
        let digest = reference.digest.as_deref().unwrap_or_default();
        if !is_digest(digest) {
            return Some(format!(
                "invalid digest {digest:?}: write sha256: and 64 hexadecimal digits"
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(image: &str, there: &[&str]) -> Result<Location, InspectError> {
        Location::parse(image, |path| {
            there.iter().any(|known| Path::new(known) == path)
        })
    }

    fn at(path: &str, form: Option<Form>, name: Option<&str>) -> Location {
        Location::Files {
            path: path.into(),
            form,
            name: name.map(str::to_owned),
        }
    }

    #[test]
    fn a_name_is_a_reference_even_where_a_file_is_called_the_same() {
        for image in [
            "busybox",
            "team/hello:1",
            "registry:5000/a",
            "docker://busybox",
        ] {
            assert!(
                matches!(
                    parse(image, &["busybox", "team/hello:1"]),
                    Ok(Location::Registry(_))
                ),
                "{image}"
            );
        }
    }

    #[test]
    fn what_begins_with_a_slash_or_a_point_or_a_prefix_is_a_path() {
        let there = ["/a/layout", "./image.tar", "layout", "./od:d"];
        for (image, expected) in [
            ("/a/layout", at("/a/layout", None, None)),
            ("./image.tar", at("./image.tar", None, None)),
            ("../gone", at("../gone", None, None)),
            (
                "oci:layout:1.2",
                at("layout", Some(Form::OciLayout), Some("1.2")),
            ),
            (
                "docker-archive:./image.tar:registry:5000/a/b:1",
                at(
                    "./image.tar",
                    Some(Form::DockerArchive),
                    Some("registry:5000/a/b:1"),
                ),
            ),
            ("./od:d", at("./od:d", None, None)),
            ("./od:d:1", at("./od:d", None, Some("1"))),
        ] {
            assert_eq!(parse(image, &there).unwrap(), expected, "{image}");
        }
        let image = format!("oci:layout@{DIGEST}");
        assert_eq!(
            parse(&image, &there).unwrap(),
            at("layout", Some(Form::OciLayout), Some(DIGEST))
        );
    }

    #[test]
    fn an_image_of_a_daemon_is_known_by_its_prefix() {
        for (image, engine) in [
            ("docker-daemon:team/app:1", Engine::Docker),
            ("podman:team/app:1", Engine::Podman),
        ] {
            let name = "team/app:1".to_owned();
            assert_eq!(
                parse(image, &[]).unwrap(),
                Location::Daemon { engine, name }
            );
        }
        let said = parse("docker-daemon:", &[]).unwrap_err().to_string();
        assert!(said.contains("a name is missing"), "{said}");
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_reason() {
        for (image, why) in [
            ("https://example.com/a", "without http://"),
            ("Hello", "must be lowercase"),
            ("a b", "' '"),
            ("example.com/", "each part"),
            ("example.com/a..b", "between letters"),
            ("example.com/a___b", "between letters"),
            ("example.com/a_.b/c", "between letters"),
            ("example.com/-a", "each part"),
            ("a:", "invalid tag"),
            ("a@sha256:12", "invalid digest"),
            ("a@", "invalid digest"),
            ("oci:", "missing"),
        ] {
            let said = parse(image, &[]).unwrap_err().to_string();
            assert!(said.contains(why), "{image}: {said}");
        }
        let long = format!("example.com/{}", "a".repeat(256));
        assert!(parse(&long, &[]).is_err());
        for image in [&format!("a:1@{DIGEST}"), "example.com/a.b_c__d---e"] {
            assert!(parse(image, &[]).is_ok(), "{image}");
        }
    }
}
