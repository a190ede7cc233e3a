//! Whose word counts beyond its own namespace: what the installation says.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;

use super::paths;
use whittle_image::Repository;

/// ImageBuilds of these namespaces speak for all workloads of the cluster, for images of these repositories.
#[derive(Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trust {
    /// Which namespaces, by their labels; an empty one selects all.
    pub namespace_selector: LabelSelector,
    /// `registry.example.com/team`: that repository and all below it; `*`: all.
    pub repositories: Vec<String>,
}

/// True where one of these prefixes has a repository below it, or is it: `registry.example.com/team` has
/// `registry.example.com/team/app`, and not `registry.example.com/teams`. Those of Docker's registry may leave the
/// host out.
pub fn covers(prefixes: &[String], repository: &str) -> bool {
    let repository = canonical_repository(repository);
    prefixes.iter().any(|prefix| {
        let prefix = prefix.trim_end_matches('/');
        let (first, rest) = prefix.split_once('/').unwrap_or((prefix, ""));
        let is_host = first.contains(['.', ':']) || first == "localhost";
        match (prefix, is_host) {
            ("*", _) => true,
            ("", _) => false,
            (_, true) if first == "index.docker.io" => paths::within(
                &repository,
                format!("docker.io/{rest}").trim_end_matches('/'),
            ),
            (_, true) => paths::within(&repository, prefix),
            (_, false) => paths::within(&repository, &format!("docker.io/{prefix}")),
        }
    })
}

/// `host/path`: the same for all names of a repository.
pub(super) fn canonical_repository(repository: &str) -> String {
    let Repository { host, path } = Repository::parse(repository);
    format!("{host}/{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_a_part_of_the_path_ends() {
        for (prefix, repository, expected) in [
            (
                "registry.example.com/team",
                "registry.example.com/team/app",
                true,
            ),
            (
                "registry.example.com/team/",
                "registry.example.com/team",
                true,
            ),
            (
                "registry.example.com/team",
                "registry.example.com/teams",
                false,
            ),
            (
                "registry.example.com/team",
                "registry.example.com:5000/team",
                false,
            ),
            ("registry.example.com", "registry.example.com/a/b", true),
            (
                "registry.example.com",
                "registry.example.com.evil.org/a",
                false,
            ),
            ("docker.io/team", "team/app", true),
            ("index.docker.io/team", "docker.io/team/app", true),
            ("library", "postgres", true),
            ("docker.io/library/postgres", "postgres", true),
            ("team", "registry.example.com/team", false),
            ("*", "registry.example.com/team", true),
            ("", "registry.example.com/team", false),
            ("/", "registry.example.com/team", false),
        ] {
            assert_eq!(
                covers(&[prefix.to_owned()], repository),
                expected,
                "{prefix} {repository}"
            );
        }
    }
}
