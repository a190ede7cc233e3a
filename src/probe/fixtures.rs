//! Reports and Pod templates, for tests.

use k8s_openapi::api::core::v1::{
    Container, ExecAction, Lifecycle, LifecycleHandler, PodSpec, Probe,
};

use super::{Finding, Handler, Images, Judgement, Known, judge};
use whittle_image::{Contents, Executable, Fault, FolderLink, Listed, Os, ProgramKind, Runs, User};

/// The image that all of them are about.
pub const IMAGE: &str = "registry.example.com/team/app:1";

/// Links from a path to a folder, and how many are left out.
pub fn folder_links(pairs: &[(&str, &str)], omitted: i64) -> Listed<FolderLink> {
    let link = |(path, folder): &(&str, &str)| FolderLink {
        path: (*path).into(),
        folder: (*folder).into(),
    };
    Listed {
        items: pairs.iter().map(link).collect(),
        omitted,
    }
}

/// A report of an image for linux/amd64 that runs as root. Each program is `path`, `path -> file` (a
/// link), `path %` (may be run, and says not how), `path ! why` (does not start), `path ? why` (not known),
/// `path # interpreter` (a script) or `path @ loader` (dynamic); a folder link ends both its names with a slash.
pub fn contents(programs: &[&str]) -> Contents {
    let mut contents = Contents {
        platform: "linux/amd64".into(),
        user: User {
            uid: Some(0),
            ..User::default()
        },
        ..Contents::default()
    };
    for text in programs {
        let mut parts = text.split(' ');
        let path = parts.next().unwrap().to_owned();
        let mark = parts.next().unwrap_or_default();
        let rest = parts.collect::<Vec<_>>().join(" ");
        if path.ends_with('/') {
            contents.links.items.push(FolderLink {
                path: path.trim_end_matches('/').into(),
                folder: rest.trim_end_matches('/').into(),
            });
            continue;
        }
        if mark == "%" {
            contents.unmarked.items.push(path);
            continue;
        }
        let mut program = Executable {
            path,
            kind: ProgramKind::Static,
            runs: Runs::Yes,
            ..Executable::default()
        };
        match mark {
            "" => {}
            "->" => program.file = Some(rest),
            "!" => {
                program.runs = Runs::No;
                program.fault = Some(Fault::MissingLibraries);
                program.message = Some(rest);
            }
            "?" => {
                program.runs = Runs::Unknown;
                program.message = Some(rest);
            }
            "#" => {
                program.kind = ProgramKind::Script;
                program.interpreter = Some(rest);
            }
            "@" => {
                program.kind = ProgramKind::Dynamic;
                program.interpreter = Some(rest);
            }
            other => panic!("{other}"),
        }
        contents.executables.items.push(program);
    }
    contents
}

/// A small distribution with dash and coreutils, and without curl.
pub fn debian() -> Contents {
    let mut debian = contents(&[
        "/bin/ -> /usr/bin/",
        "/sbin/ -> /usr/sbin/",
        "/usr/bin/cat",
        "/usr/bin/dash",
        "/usr/bin/sh -> /usr/bin/dash",
        "/usr/bin/bash",
        "/usr/bin/env",
        "/usr/bin/grep",
        "/usr/bin/sleep",
        "/usr/bin/timeout",
        "/usr/bin/true",
        "/usr/bin/wget",
        "/usr/bin/python3",
        "/app",
    ]);
    debian.os = Some(Os {
        id: "debian".into(),
        version: Some("12".into()),
    });
    debian
}

/// Alpine: busybox with links for its applets.
pub fn alpine() -> Contents {
    contents(&[
        "/bin/busybox",
        "/bin/sh -> /bin/busybox",
        "/bin/cat -> /bin/busybox",
        "/usr/bin/wget -> /bin/busybox",
        "/usr/bin/timeout -> /bin/busybox",
        "/app",
    ])
}

/// One static program and nothing else.
pub fn scratch() -> Contents {
    contents(&["/app"])
}

/// What is known of the one image.
pub struct One {
    pub contents: Vec<Contents>,
    pub health_check: Option<Handler>,
}

impl Images for One {
    fn of(&self, _: &str) -> Known<'_> {
        Known {
            contents: self.contents.iter().collect(),
            why_none: None,
            health_check: self.health_check.clone(),
        }
    }
}

impl From<Contents> for One {
    fn from(contents: Contents) -> Self {
        Self {
            contents: vec![contents],
            health_check: None,
        }
    }
}

pub fn exec(command: &[&str]) -> ExecAction {
    ExecAction {
        command: Some(command.iter().map(|word| (*word).to_owned()).collect()),
    }
}

pub fn exec_probe(command: &[&str]) -> Probe {
    Probe {
        exec: Some(exec(command)),
        ..Probe::default()
    }
}

pub fn container() -> Container {
    Container {
        name: "app".into(),
        image: Some(IMAGE.into()),
        ..Container::default()
    }
}

pub fn pod(container: Container) -> PodSpec {
    PodSpec {
        containers: vec![container],
        ..PodSpec::default()
    }
}

/// A container whose livenessProbe runs a command.
pub fn live(command: &[&str]) -> Container {
    Container {
        liveness_probe: Some(exec_probe(command)),
        ..container()
    }
}

/// A container with a preStop hook.
pub fn stop(handler: LifecycleHandler) -> Container {
    Container {
        lifecycle: Some(Lifecycle {
            pre_stop: Some(handler),
            ..Lifecycle::default()
        }),
        ..container()
    }
}

pub fn judged(pod: &PodSpec, images: impl Into<One>) -> Judgement {
    let images = images.into();
    let judgement = judge(pod, &images);
    #[cfg(test)]
    super::policy::tests::agrees(pod, &images, &judgement);
    judgement
}

/// The one finding about a container.
pub fn found(container: Container, images: impl Into<One>) -> Finding {
    let mut judgement = judged(&pod(container), images);
    assert_eq!(judgement.findings.len(), 1);
    judgement.findings.remove(0)
}

/// The finding about a command as a livenessProbe.
pub fn of_command(command: &[&str], contents: Contents) -> Finding {
    found(live(command), contents)
}
