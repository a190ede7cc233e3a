//! The Secrets with credentials for registries: read as the kubelet reads them, and written for buildctl.

use std::path::Path;

use super::files::{Prepared, broken, write_private};
use crate::failure::{Facts, SecretNotes, plain};
use crate::place::Place;
use crate::request::BuildRequest;
use crate::used_images;
use whittle_api::{Failure, FailureReason};
use whittle_image::Repository;
use whittle_registry::{CONFIG_KEY, DockerConfig, MountFault};

/// The credentials in the Secret that is mounted at `folder`; none where none is. `field`: where the build names it,
/// and `secret`: its name.
pub(super) fn docker_config(
    folder: &Path,
    field: &str,
    secret: Option<&str>,
) -> Result<DockerConfig, Failure> {
    let name = secret.unwrap_or_default();
    let make = format!(
        "create one with `kubectl create secret docker-registry {name} --docker-server=HOST \
            --docker-username=… --docker-password=…`"
    );
    DockerConfig::mounted(folder).map_err(|fault| match fault {
        MountFault::Io(error) => plain(
            FailureReason::BuildFailed,
            format!("the registry credentials in Secret {name} of {field} cannot be read: {error}"),
        ),
        MountFault::Keys(keys) => plain(
            FailureReason::SecretNotFound,
            format!(
                "Secret {name} of {field} has the wrong type: kubernetes.io/dockerconfigjson is \
                    required; key {CONFIG_KEY} is missing (it has {}); delete it and {make}",
                match keys.is_empty() {
                    true => "none".to_owned(),
                    false => keys.join(", "),
                }
            ),
        ),
        // What stands there may be a password: it stays here.
        MountFault::Config(key, fault) => plain(
            FailureReason::PushDenied,
            format!(
                "Secret {name} of {field} has an invalid Docker config file in its key {key}: \
                {fault}; {make}"
            ),
        ),
    })
}

/// All credentials that are mounted and can be read: what must not be shown.
pub(super) fn mounted(place: &Place) -> impl Iterator<Item = DockerConfig> {
    [&place.registry_auth, &place.source_auth, &place.cache_auth]
        .into_iter()
        .filter_map(|folder| DockerConfig::mounted(folder).ok())
}

/// What of the credentials is told where a registry refuses.
pub(super) fn facts(config: &DockerConfig) -> Facts {
    Facts {
        credentials: config.keys().map(ToString::to_string).collect(),
        secret: SecretNotes {
            unusable: config
                .unusable()
                .iter()
                .map(|(key, why)| (key.to_string(), (*why).to_owned()))
                .collect(),
            helpers: config
                .helpers()
                .map(|(host, program)| (host.to_owned(), program.to_owned()))
                .collect(),
        },
        ..Facts::default()
    }
}

/// Writes what buildctl reads. `dockerfile`: its text, once it is known; with it, credentials by pattern and by path
/// find the hosts of base images. `cache`: what is in the Secret of the Builder's cache registry, which is used where nothing else is on that host.
pub(super) fn write(
    prepared: &Prepared,
    (config, cache): (&DockerConfig, &DockerConfig),
    request: &BuildRequest,
    dockerfile: Option<&str>,
) -> Result<(), Failure> {
    let mut used = vec![Repository::parse(&request.inputs.output.image)];
    let mirrors = request.registries.iter().flat_map(|it| &it.mirrors);
    let texts = dockerfile
        .into_iter()
        .chain(request.inputs.build_args.values().map(String::as_str))
        .chain(mirrors.map(String::as_str));
    used.extend(used_images::named(texts));
    let registry = request
        .cache
        .as_ref()
        .map(|it| Repository::parse(&it.image));
    let other = registry.as_ref().map(|repository| (cache, repository));
    write_private(
        &prepared.buildctl.docker_config.join("config.json"),
        &config.for_buildctl_with(&used, other),
    )
    .map_err(broken)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use whittle_registry::LEGACY_KEY;

    use super::*;

    fn said(files: &[(&str, &str)]) -> Result<DockerConfig, Failure> {
        let folder = tempfile::tempdir().unwrap();
        // As the kubelet lays them out.
        fs::create_dir(folder.path().join("..2026")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join("..2026").join(name), text).unwrap();
            let link = Path::new("..2026").join(name);
            std::os::unix::fs::symlink(link, folder.path().join(name)).unwrap();
        }
        docker_config(folder.path(), "output.secretRef", Some("push"))
    }

    #[test]
    fn a_secret_of_another_type_is_named_with_the_type_that_it_needs() {
        let files = [("username", "bob"), ("password", "hunter22")];
        let failure = said(&files).unwrap_err();
        assert_eq!(failure.reason, FailureReason::SecretNotFound);
        assert!(
            failure.message.starts_with(
                "Secret push of output.secretRef has the wrong type: kubernetes.io/dockerconfigjson is required; key \
                 .dockerconfigjson is missing (it has password, username)"
            ),
            "{}",
            failure.message
        );
        assert!(!failure.message.contains("hunter22"));
        assert!(said(&[]).unwrap_err().message.contains("(it has none)"));
    }

    #[test]
    fn both_types_of_docker_secrets_are_read() {
        let entry = r#"{"a.example":{"auth":"Ym9iOmh1bnRlcjIy"}}"#;
        let new = format!(r#"{{"auths":{entry}}}"#);
        for files in [[(CONFIG_KEY, new.as_str())], [(LEGACY_KEY, entry)]] {
            let config = said(&files).unwrap();
            assert!(config.find(&Repository::parse("a.example/x")).is_some());
        }
    }

    #[test]
    fn what_is_no_config_is_told_without_what_stands_there() {
        let failure = said(&[(CONFIG_KEY, "hunter22")]).unwrap_err();
        assert!(
            failure
                .message
                .contains("its key .dockerconfigjson: invalid JSON at line 1"),
            "{}",
            failure.message
        );
        assert!(!failure.message.contains("hunter22"), "{}", failure.message);
    }

    #[test]
    fn no_secret_is_no_fault() {
        let config = docker_config(Path::new("/no/such/folder"), "output.secretRef", None).unwrap();
        assert_eq!(config.keys().count(), 0);
    }
}
