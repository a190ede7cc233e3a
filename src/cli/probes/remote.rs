//! Reports from elsewhere: from the registries of the images, and from a cluster's ImageBuilds.

use std::collections::BTreeSet;

use futures::StreamExt;
use kube::api::ListParams;
use kube::{Api, Client};

use super::{Error, Options, Report, Reports};
use crate::cluster::answer;
use crate::inspect::daemon::Engine;
use crate::inspect::{contents_in, reports_beside};
use whittle_api::ImageBuild;
use whittle_build::variables::literal;
use whittle_image::Contents;
use whittle_probe::{Handler, unpack};

/// Images that are asked for at a time: one registry that is silent does not hold up all others.
const AT_ONCE: usize = 8;

/// Adds the reports that lie beside these images. An image without one stays not known; a registry that
/// does not answer is an error, since the verdict would then depend on the network.
pub(super) async fn registry(
    options: &Options,
    images: &BTreeSet<String>,
    reports: &mut Reports,
    errors: &mut Vec<Error>,
) {
    let named = images.iter().filter(|image| !image.is_empty()).cloned();
    let asked: Vec<_> = futures::stream::iter(named)
        .map(|image| async {
            let found = reports_beside(&image, options.plain_http, options.ca.clone()).await;
            (image, found)
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    for (image, found) in asked {
        match found {
            Ok(found) => {
                for (digests, contents) in found {
                    reports.add(Report {
                        image: image.clone(),
                        digests,
                        contents,
                        health_check: None,
                    });
                }
            }
            Err(error) => {
                let why = format!("cannot be queried for its report: {error}");
                errors.push(Error::new(image, why));
            }
        }
    }
}

/// Adds what images hold that Docker or Podman on this machine has. One that they do not have stays not known.
pub(super) async fn daemon(
    engine: Engine,
    images: &BTreeSet<String>,
    reports: &mut Reports,
    errors: &mut Vec<Error>,
) {
    for image in images.iter().filter(|image| !image.is_empty()) {
        match contents_in(engine, image).await {
            Ok(Some((digests, contents))) => reports.add(Report {
                image: image.clone(),
                digests,
                contents,
                health_check: None,
            }),
            Ok(None) => {}
            Err(error) => {
                let why = format!("cannot be read: {error}");
                errors.push(Error::new(image.clone(), why));
            }
        }
    }
}

/// Adds what the ImageBuilds of the current context's cluster say of their images.
pub(super) async fn cluster(reports: &mut Reports, errors: &mut Vec<Error>) {
    let failed = |error: kube::Error| {
        let why = answer::said(&error);
        Error::new(
            "the cluster's ImageBuilds",
            format!("cannot be read: {why}"),
        )
    };
    let client = match Client::try_default().await {
        Ok(client) => client,
        Err(error) => return errors.push(failed(error)),
    };
    let namespace = client.default_namespace().to_owned();
    let all = ListParams::default();
    let mut listed = Api::<ImageBuild>::all(client.clone()).list(&all).await;
    if let Err(kube::Error::Api(answer)) = &listed
        && answer.code == 403
    {
        eprintln!(
            "{}: only those of namespace {namespace} are read",
            answer.message
        );
        let own = Api::<ImageBuild>::namespaced(client, &namespace);
        listed = own.list(&all).await;
    }
    match listed {
        Ok(list) => list
            .items
            .iter()
            .flat_map(reports_of)
            .for_each(|report| reports.add(report)),
        Err(error) => errors.push(failed(error)),
    }
}

/// What an ImageBuild says of its image, for each tag and platform; nothing where it does not know one of
/// the platforms.
fn reports_of(build: &ImageBuild) -> Vec<Report> {
    let status = build.status.clone().unwrap_or_default();
    let image = status.image.unwrap_or_default();
    let (repository, _) = image.split_once('@').unwrap_or_default();
    let known: Option<Vec<(Vec<String>, Contents)>> = status
        .platforms
        .into_iter()
        .map(|platform| {
            let digests = status.digest.iter().cloned().chain([platform.digest]);
            Some((digests.collect(), unpack(&platform.contents?.programs?)?))
        })
        .collect();
    let known = known.unwrap_or_default();
    let check = build.spec.health_check.as_ref();
    let health_check = check.and_then(Handler::of_health_check);
    let mut reports = Vec::new();
    // A status of an earlier version does not say which tags were moved.
    let tags = status
        .tags
        .unwrap_or_else(|| literal(&build.spec.output.tags));
    for tag in tags {
        reports.extend(known.iter().map(|(digests, contents)| Report {
            image: format!("{repository}:{tag}"),
            digests: digests.clone(),
            contents: contents.clone(),
            health_check: health_check.clone(),
        }));
    }
    reports
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use whittle_api::ContentsStatus;
    use whittle_probe::{Images, fixtures, pack};

    fn platform(name: &str, digest: &str, contents: Option<&Contents>) -> Value {
        let contents = ContentsStatus {
            programs: contents.map(pack),
            ..ContentsStatus::default()
        };
        json!({"platform": name, "digest": digest, "size": 1, "contents": contents})
    }

    fn reports(platforms: &[Value]) -> Reports {
        let build = serde_json::from_value(json!({
            "apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild", "metadata": {"name": "app"},
            "spec": {
                "source": {"inline": {"files": {"Dockerfile": "FROM scratch"}}},
                "output": {"image": "registry.example.com/team/app", "tags": ["1", "2"]},
                "healthCheck": {"tcpSocket": {"port": 8080}},
            },
            "status": {
                "image": "registry.example.com/team/app@sha256:aa", "digest": "sha256:aa", "platforms": platforms,
            },
        }));
        let mut reports = Reports::default();
        for report in reports_of(&build.unwrap()) {
            reports.add(report);
        }
        reports
    }

    #[test]
    fn what_an_image_build_says_is_known_of_its_tags_and_digests() {
        let contents = fixtures::scratch();
        let both = reports(&[
            platform("linux/amd64", "sha256:bb", Some(&contents)),
            platform("linux/arm64", "sha256:cc", Some(&contents)),
        ]);
        for (version, platforms) in [
            (":1", 2),
            (":2", 2),
            (":3", 0),
            ("@sha256:aa", 2),
            (":1@sha256:aa", 2),
            ("@sha256:cc", 1),
            ("@sha256:dd", 0),
        ] {
            let known = both.of(&format!("registry.example.com/team/app{version}"));
            assert_eq!(known.contents.len(), platforms, "{version}");
            let declared = matches!(known.health_check, Some(Handler::TcpSocket(_)));
            assert_eq!(declared, platforms > 0, "{version}");
            for known in known.contents {
                assert_eq!(
                    known.executables.items.len(),
                    contents.executables.items.len()
                );
                assert_eq!(known.working_dir, contents.working_dir);
            }
        }
    }

    #[test]
    fn an_image_of_which_one_platform_is_not_known_is_not_known() {
        let contents = fixtures::scratch();
        let one = reports(&[
            platform("linux/amd64", "sha256:bb", Some(&contents)),
            platform("linux/arm64", "sha256:cc", None),
        ]);
        assert!(one.is_empty());
    }
}
