//! Repository names as people write them.

/// Docker's registry, as written in image names.
const DOCKER: &str = "docker.io";

/// A repository: where an image goes or comes from, without tag and digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// The registry's host as written, with its port where it has one; `docker.io` where none stands.
    pub host: String,
    /// The path within the registry.
    pub path: String,
}

impl Repository {
    /// Reads a repository, also where a tag or a digest follows. The first part is a host where it has a
    /// point or a colon, or is `localhost`; else the image is one of Docker's registry, in `library/`
    /// where it has one part only
    /// (<https://github.com/distribution/reference/blob/v0.6.0/normalize.go>).
    pub fn parse(image: &str) -> Self {
        let image = image.split('@').next().unwrap_or(image);
        let (host, rest) = match image.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
            _ => (DOCKER, image),
        };
        let path = rest.split(':').next().unwrap_or(rest);
        let host = if host == "index.docker.io" {
            DOCKER
        } else {
            host
        };
        Self {
            host: host.to_owned(),
            path: if host == DOCKER && !path.contains('/') {
                format!("library/{path}")
            } else {
                path.to_owned()
            },
        }
    }

    /// The host that speaks the protocol: Docker's has another name than its images say.
    pub fn api_host(&self) -> &str {
        if self.host == DOCKER {
            "registry-1.docker.io"
        } else {
            &self.host
        }
    }

    /// True for a registry on this very machine: where nothing else is said, it speaks HTTP without TLS, as
    /// BuildKit takes it.
    pub fn is_loopback(&self) -> bool {
        let host = &self.host;
        let name = host.rsplit_once(':').map_or(&host[..], |(name, _)| name);
        name == "localhost"
            || name
                .parse()
                .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    }
}

/// An image within a repository, by tag, by digest, or by both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Where it lies.
    pub repository: Repository,
    /// The tag, where one stands.
    pub tag: Option<String>,
    /// The digest, where one stands: it goes before the tag.
    pub digest: Option<String>,
}

impl Reference {
    /// Reads `host/path[:tag][@digest]`.
    pub fn parse(image: &str) -> Self {
        let (name, digest) = match image.split_once('@') {
            Some((name, digest)) => (name, Some(digest.to_owned())),
            None => (image, None),
        };
        let last = name.rsplit('/').next().unwrap_or(name);
        let tag = last.split_once(':').map(|(_, tag)| tag.to_owned());
        Self {
            repository: Repository::parse(image),
            tag,
            digest,
        }
    }

    /// What the registry is asked for: the digest, else the tag, else `latest`.
    pub fn wanted(&self) -> &str {
        self.digest
            .as_deref()
            .or(self.tag.as_deref())
            .unwrap_or("latest")
    }
}

#[cfg(test)]
mod tests {
    use super::{Reference, Repository};

    #[test]
    fn a_digest_goes_before_a_tag_and_latest_stands_for_nothing() {
        for (image, wanted) in [
            ("registry:5000/a/b", "latest"),
            ("registry:5000/a/b:1.2", "1.2"),
            ("registry:5000/a/b:1.2@sha256:00", "sha256:00"),
            ("busybox:1.36", "1.36"),
        ] {
            assert_eq!(Reference::parse(image).wanted(), wanted, "{image}");
        }
    }

    #[test]
    fn a_repository_is_read_as_docker_reads_it() {
        for (image, host, path) in [
            (
                "registry.example.com/team/hello",
                "registry.example.com",
                "team/hello",
            ),
            ("localhost/hello", "localhost", "hello"),
            ("registry:5000/hello", "registry:5000", "hello"),
            ("busybox", "docker.io", "library/busybox"),
            ("index.docker.io/team/hello", "docker.io", "team/hello"),
            ("127.0.0.1:5001/x/y:1@sha256:00", "127.0.0.1:5001", "x/y"),
            ("busybox:1.36", "docker.io", "library/busybox"),
        ] {
            let repository = Repository::parse(image);
            assert_eq!(
                (repository.host.as_str(), repository.path.as_str()),
                (host, path),
                "{image}"
            );
        }
        assert_eq!(
            Repository::parse("busybox").api_host(),
            "registry-1.docker.io"
        );
    }

    #[test]
    fn only_this_machine_counts_as_loopback() {
        for (image, expected) in [
            ("localhost:5000/a", true),
            ("127.0.0.1:5000/a", true),
            ("registry.example.com:5000/a", false),
            ("10.0.0.1:5000/a", false),
        ] {
            assert_eq!(Repository::parse(image).is_loopback(), expected, "{image}");
        }
    }
}
