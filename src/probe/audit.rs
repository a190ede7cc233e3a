//! The audit: workloads that run already, against what their images hold.

use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec};

use super::{Handler, Images, Known, Speakers, Verdict, judge};
use whittle_api::Reason;
use whittle_image::{Contents, Reference};

/// Workloads that a condition names.
const NAMED: usize = 10;
/// Bytes of one workload's line.
const LINE: usize = 600;

/// A workload and its Pod template, as far as verdicts need it.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// `Deployment team/hello`.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The template.
    pub pod: PodSpec,
}

/// One image that Whittle built.
#[derive(Clone, Debug, Default)]
pub struct Audited {
    /// What it holds, one a platform.
    pub contents: Vec<Contents>,
    /// The probe that its ImageBuild declares.
    pub health_check: Option<Handler>,
}

/// What the audit of one ImageBuild came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Workloads that use one of its images.
    pub workloads: usize,
    /// Those whose probes cannot work, with a sentence on the first such probe of each.
    pub broken: Vec<(String, String)>,
}

impl Audit {
    /// What the condition `ProbesCompatible` says: the status, the reason and the message; none where no
    /// workload uses the image.
    pub fn told(&self) -> Option<(bool, Reason, String)> {
        if self.workloads == 0 {
            return None;
        }
        if self.broken.is_empty() {
            let message = match self.workloads {
                1 => "one workload uses this image, and none of its probes is known to fail"
                    .to_owned(),
                many => format!(
                    "{many} workloads use this image, and none of their probes is known to fail"
                ),
            };
            return Some((true, Reason::Compatible, message));
        }
        let mut lines: Vec<String> = self
            .broken
            .iter()
            .take(NAMED)
            .map(|(_, line)| line.clone())
            .collect();
        if self.broken.len() > NAMED {
            lines.push(format!("… and {} more", self.broken.len() - NAMED));
        }
        Some((false, Reason::CannotWork, lines.join("\n")))
    }
}

/// The image of a container in one form, so that all names of one image are the same:
/// `host/path:tag`, or `host/path@digest` where it has one.
pub fn canonical(image: &str) -> String {
    let reference = Reference::parse(image);
    let mark = if reference.digest.is_some() { '@' } else { ':' };
    format!(
        "{}/{}{mark}{}",
        reference.repository.host,
        reference.repository.path,
        reference.wanted()
    )
}

/// The parts of a Pod template that verdicts need. Values of variables stay away, but for PATH's, and so do
/// volumes: where something is mounted is enough, and a verdict only says less without them.
pub fn essence(pod: &PodSpec) -> PodSpec {
    let containers = |all: &[Container]| all.iter().map(container).collect::<Vec<_>>();
    PodSpec {
        containers: containers(&pod.containers),
        init_containers: pod.init_containers.as_deref().map(containers),
        security_context: pod.security_context.clone(),
        host_network: pod.host_network,
        ..PodSpec::default()
    }
}

fn container(container: &Container) -> Container {
    Container {
        name: container.name.clone(),
        image: container.image.clone(),
        ports: container.ports.clone(),
        working_dir: container.working_dir.clone(),
        restart_policy: container.restart_policy.clone(),
        security_context: container.security_context.clone(),
        env: container.env.as_ref().map(|all| {
            all.iter()
                .map(|variable| EnvVar {
                    name: variable.name.clone(),
                    value: variable.value.clone().filter(|_| variable.name == "PATH"),
                    value_from: variable
                        .value_from
                        .clone()
                        .filter(|_| variable.name == "PATH"),
                })
                .collect()
        }),
        env_from: container.env_from.clone(),
        volume_mounts: container.volume_mounts.clone(),
        liveness_probe: container.liveness_probe.clone(),
        readiness_probe: container.readiness_probe.clone(),
        startup_probe: container.startup_probe.clone(),
        lifecycle: container.lifecycle.clone(),
        ..Container::default()
    }
}

/// Images of the ImageBuild that is audited; what is not its own is not known.
struct Own<'a> {
    key: &'a str,
    namespace: &'a str,
    speakers: &'a Speakers,
    image: &'a Audited,
}

impl Own<'_> {
    fn has(&self, image: &str) -> bool {
        self.speakers.of(&canonical(image), self.namespace) == Some(self.key)
    }
}

impl Images for Own<'_> {
    fn of(&self, image: &str) -> Known<'_> {
        match self.has(image) {
            true => Known {
                contents: self.image.contents.iter().collect(),
                why_none: None,
                health_check: self.image.health_check.clone(),
            },
            false => Known::default(),
        }
    }
}

/// Audits the workloads that use images of one ImageBuild, `key`, as far as its word counts for them, and for as
/// long as `goes_on` is true.
pub fn audit(
    key: &str,
    workloads: impl IntoIterator<Item = Workload>,
    speakers: &Speakers,
    image: &Audited,
    goes_on: impl Fn() -> bool,
) -> Audit {
    let mut audit = Audit::default();
    for workload in workloads {
        if !goes_on() {
            break;
        }
        let pod = &workload.pod;
        let own = Own {
            key,
            namespace: &workload.namespace,
            speakers,
            image,
        };
        let mut containers = pod
            .containers
            .iter()
            .chain(pod.init_containers.iter().flatten());
        if !containers.any(|container| container.image.as_deref().is_some_and(|it| own.has(it))) {
            continue;
        }
        audit.workloads += 1;
        let broken = judge(pod, &own).findings.into_iter().find(|finding| {
            matches!(finding.verdict, Verdict::CannotWork(_)) && own.has(&finding.image)
        });
        if let Some(finding) = broken {
            let line = format!("{}: {}", workload.name, finding.message);
            audit
                .broken
                .push((workload.name.clone(), whittle_api::bounded(line, LINE)));
        }
    }
    audit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use serde_json::json;

    fn workload(name: &str, image: &str, command: &[&str]) -> Workload {
        let pod: PodSpec =
            serde_json::from_value(json!({"containers": [{"name": "app", "image": image,
            "env": [{"name": "PASSWORD", "value": "hunter22"}],
            "livenessProbe": {"exec": {"command": command}}}]}))
            .unwrap();
        Workload {
            name: name.into(),
            namespace: "team".into(),
            pod: essence(&pod),
        }
    }

    fn audited(workloads: Vec<Workload>) -> Audit {
        let own = |reference: &str| (canonical(reference), "team", "team/app");
        let speakers = Speakers::from_iter([
            own("registry.example.com/team/app:1"),
            own("registry.example.com/team/app@sha256:aa"),
        ]);
        let image = Audited {
            contents: vec![fixtures::scratch()],
            health_check: None,
        };
        audit("team/app", workloads, &speakers, &image, || true)
    }

    #[test]
    fn workloads_whose_probes_cannot_work_are_listed_for_the_image_that_they_use() {
        let mut foreign = workload(
            "Deployment other/wrong",
            "registry.example.com/team/app:1",
            &["/bin/sh"],
        );
        foreign.namespace = "other".into();
        let workloads = vec![
            foreign,
            workload(
                "Deployment team/wrong",
                "registry.example.com/team/app:1",
                &["/bin/sh"],
            ),
            workload(
                "Deployment team/right",
                "registry.example.com/team/app@sha256:aa",
                &["/app", "health"],
            ),
            workload(
                "Deployment team/other",
                "registry.example.com/other:1",
                &["/bin/sh"],
            ),
        ];
        let audit = audited(workloads);
        assert_eq!(audit.workloads, 2);
        let (status, reason, message) = audit.told().unwrap();
        assert_eq!((status, reason), (false, Reason::CannotWork));
        assert!(
            message.starts_with("Deployment team/wrong: ") && message.contains("/bin/sh"),
            "{message}"
        );
        assert_eq!(message.lines().count(), 1);
    }

    #[test]
    fn an_image_that_nobody_uses_has_no_condition_and_one_that_works_says_so() {
        assert_eq!(audited(vec![]).told(), None);
        let right = workload("Pod team/app", "registry.example.com/team/app:1", &["/app"]);
        let told = audited(vec![right]).told().unwrap();
        assert_eq!((told.0, told.1), (true, Reason::Compatible));
    }

    #[test]
    fn what_takes_too_long_is_looked_at_in_part() {
        let left = std::cell::Cell::new(2);
        let goes_on = || left.replace(left.get() - 1) > 0;
        let workloads: Vec<Workload> = (0..9)
            .map(|number| {
                workload(
                    &format!("Pod team/{number}"),
                    "registry.example.com/team/app:1",
                    &["/app"],
                )
            })
            .collect();
        let speakers = Speakers::from_iter([(
            canonical("registry.example.com/team/app:1"),
            "team",
            "team/app",
        )]);
        let found = audit(
            "team/app",
            workloads,
            &speakers,
            &Audited::default(),
            goes_on,
        );
        assert_eq!(found.workloads, 2);
    }

    #[test]
    fn a_condition_names_ten_and_says_how_many_more() {
        let workloads: Vec<Workload> = (0..13)
            .map(|number| {
                workload(
                    &format!("Pod team/{number}"),
                    "registry.example.com/team/app:1",
                    &["/bin/sh"],
                )
            })
            .collect();
        let (_, _, message) = audited(workloads).told().unwrap();
        assert_eq!(message.lines().count(), 11);
        assert!(message.ends_with("… and 3 more"), "{message}");
    }

    #[test]
    fn values_of_variables_are_not_kept() {
        let kept = workload("Pod team/app", "a:1", &["/app"]);
        assert!(
            !serde_json::to_string(&kept.pod)
                .unwrap()
                .contains("hunter22")
        );
    }
}
