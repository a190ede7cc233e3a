//! What the CRDs' rules refuse in a cluster, where the file's words become paths here: no API server has looked at it.

use std::collections::BTreeSet;

use whittle_api::{BuilderSpec, ImageBuild};
use whittle_image::Repository;

use super::Error;
use super::spec::is_id;

/// Refuses ids of secrets and hosts of registries that are none, before anything is written.
pub fn checked(build: &ImageBuild, builder: &BuilderSpec) -> Result<(), Error> {
    for secret in &build.spec.secrets {
        if !is_id(&secret.id) {
            return Err(Error::new(format!(
                "secrets: invalid id {:?}: use letters, digits, _, . and - only, not starting or ending with . or -, nor \
                 starting with GIT_AUTH_, and at most 63 characters",
                secret.id
            )));
        }
    }
    for registry in &builder.registries {
        if !is_host(&registry.host) {
            return Err(Error::new(format!(
                "registries.host: invalid host {:?}: write it as in image names, with its port, without https:// and without a \
                 path, for example registry.example.com:5000",
                registry.host
            )));
        }
    }
    Ok(())
}

/// The rule of the CRD: labels of letters, digits and `-` with points between them, and a port.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let is_label = |label: &str| {
        let ends = !label.starts_with('-') && !label.ends_with('-');
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty() && ends && label.bytes().all(plain)
    };
    let is_port =
        |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
    host.len() <= 255 && name.split('.').all(is_label) && port.is_none_or(is_port)
}

/// The hosts that the file wants asked without TLS, as credentials name them; those on this very machine are none.
pub fn in_clear(builder: &BuilderSpec) -> BTreeSet<String> {
    let plain = builder.registries.iter().filter(|it| it.plain_http);
    plain
        .map(|registry| named(&registry.host))
        .filter(|host| !Repository::parse(&format!("{host}/x")).is_loopback())
        .collect()
}

/// A host as its credentials are kept: Docker's registry has several names, which all get the same.
pub fn named(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    match host.trim_end_matches(":443").trim_end_matches(":80") {
        "index.docker.io" | "registry-1.docker.io" | "docker.io" => "docker.io".into(),
        _ => host,
    }
}

/// Why credentials of `docker login` do not go to this host.
pub fn refused(host: &str) -> Error {
    Error::new(format!(
        "registry {host}: plainHTTP in the file of -f would send the credentials of `docker login` without encryption: remove \
         plainHTTP to speak HTTPS, or name a Secret with credentials that may be sent so in secretRef, in the same file"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use whittle_api::RegistryConfig;

    #[test]
    fn a_host_is_what_the_rule_of_the_crd_takes() {
        for host in ["docker.io", "r.example:5000", "localhost", "10.0.0.1:80"] {
            assert!(is_host(host), "{host}");
        }
        let long = "a".repeat(256);
        for host in [
            "",
            ".",
            "..",
            "../x",
            "/etc/docker/certs.d/docker.io",
            "r.example/x",
            "r..example",
            "-r.example",
            "r.example:",
            "r.example:123456",
            "r.example:1:2",
            "https://r.example",
            "r.example\n",
            &long,
        ] {
            assert!(!is_host(host), "{host}");
        }
    }

    #[test]
    fn all_names_of_a_host_in_clear_are_one_and_this_machine_is_none() {
        let registry = |host: &str, plain_http| RegistryConfig {
            host: host.into(),
            plain_http,
            ..RegistryConfig::default()
        };
        let builder = BuilderSpec {
            registries: vec![
                registry("Registry-1.docker.io", true),
                registry("R.example:5000", true),
                registry("s.example", false),
                registry("localhost:5000", true),
                registry("127.0.0.1", true),
            ],
            ..BuilderSpec::default()
        };
        let hosts: Vec<String> = in_clear(&builder).into_iter().collect();
        assert_eq!(hosts, ["docker.io", "r.example:5000"]);
    }
}
