//! Reports from elsewhere: from the registries of the images, and from a cluster's ProbeProfiles.

use std::collections::BTreeSet;

use futures::StreamExt;
use kube::api::ListParams;
use kube::{Api, Client};

use super::{Error, Options, Report, Reports};
use crate::api::{ProbeProfile, ProbeProfileSpec, ProfileImage};
use crate::image::{Contents, Executable, Listed, Runs};
use crate::inspect::reports_beside;

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
                let why = format!("cannot be asked for its report: {error}");
                errors.push(Error::new(image, why));
            }
        }
    }
}

/// Adds what the ProbeProfiles of the current context's cluster know.
pub(super) async fn cluster(reports: &mut Reports, errors: &mut Vec<Error>) {
    let failed = |error: &dyn std::error::Error| {
        Error::new(
            "the cluster's ProbeProfiles",
            format!("cannot be read: {error}"),
        )
    };
    let client = match Client::try_default().await {
        Ok(client) => client,
        Err(error) => return errors.push(failed(&error)),
    };
    match Api::<ProbeProfile>::all(client)
        .list(&ListParams::default())
        .await
    {
        Ok(list) => list
            .items
            .iter()
            .flat_map(|profile| reports_of(&profile.spec))
            .for_each(|report| reports.add(report)),
        Err(error) => errors.push(failed(&error)),
    }
}

fn reports_of(profile: &ProbeProfileSpec) -> Vec<Report> {
    profile
        .references
        .iter()
        .filter_map(|(reference, id)| {
            let image = profile.images.get(id)?;
            Some(Report {
                image: reference.clone(),
                digests: reference
                    .split_once('@')
                    .map(|(_, digest)| digest.to_owned())
                    .into_iter()
                    .collect(),
                contents: contents_of(profile, image),
                health_check: None,
            })
        })
        .collect()
}

/// A report with what a profile knows: programs by every path that leads to them.
fn contents_of(profile: &ProbeProfileSpec, image: &ProfileImage) -> Contents {
    let mut contents = Contents {
        env_path: Some(image.path.join(":")),
        // A profile does not know these.
        unmarked: Listed {
            omitted: 1,
            ..Listed::default()
        },
        ..Contents::default()
    };
    for (folder, set) in &image.folders {
        for (name, certain) in profile.programs.get(set).into_iter().flatten() {
            contents.executables.items.push(Executable {
                path: format!("{}/{name}", folder.trim_end_matches('/')),
                runs: if *certain { Runs::Yes } else { Runs::Unknown },
                message: (!certain)
                    .then(|| "the ProbeProfile does not know whether it starts".into()),
                ..Executable::default()
            });
        }
    }
    contents
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Images, Profiled, profiles};

    #[test]
    fn what_a_profile_knows_is_judged_as_the_report_that_it_came_from() {
        let program = |path: &str, runs| Executable {
            path: path.into(),
            runs,
            ..Executable::default()
        };
        let image = Profiled {
            image_build: "team/app".into(),
            repository: "registry.example.com/team/app".into(),
            versions: vec![":1".into(), "@sha256:aa".into()],
            contents: vec![Contents {
                executables: Listed {
                    items: vec![
                        program("/app", Runs::Yes),
                        program("/usr/bin/tool", Runs::Unknown),
                        program("/broken", Runs::No),
                    ],
                    omitted: 0,
                },
                ..Contents::default()
            }],
            ..Profiled::default()
        };
        let all = profiles(&[image], &Default::default());
        let mut reports = Reports::default();
        for profile in all.values() {
            reports_of(profile)
                .into_iter()
                .for_each(|report| reports.add(report));
        }
        for name in [
            "registry.example.com/team/app:1",
            "registry.example.com/team/app@sha256:aa",
        ] {
            let known = reports.of(name);
            let found: Vec<(&str, Runs)> = known.contents[0]
                .executables
                .items
                .iter()
                .map(|program| (program.path.as_str(), program.runs))
                .collect();
            assert_eq!(
                found,
                [("/app", Runs::Yes), ("/usr/bin/tool", Runs::Unknown)]
            );
        }
        assert!(
            reports
                .of("registry.example.com/team/other:1")
                .contents
                .is_empty()
        );
    }
}
