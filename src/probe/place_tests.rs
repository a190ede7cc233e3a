use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapEnvSource, ConfigMapVolumeSource, EmptyDirVolumeSource, EnvFromSource,
    EnvVar, EnvVarSource, PodSecurityContext, SecurityContext, Volume, VolumeMount,
};

use super::*;
use crate::Verdict;
use crate::fixtures::{container, contents, debian, found, judged, live, pod, scratch};
use whittle_image::FolderLink;

fn name(verdict: &Verdict) -> &'static str {
    verdict.name()
}

fn env(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: Some(value.into()),
        value_from: None,
    }
}

fn from_afar(name: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(EnvVarSource::default()),
    }
}

/// The verdict about a command where the container is changed.
fn with(command: &[&str], contents: Contents, change: impl Fn(&mut Container)) -> Verdict {
    let mut container = live(command);
    change(&mut container);
    found(container, contents).verdict
}

#[test]
fn path_is_that_of_the_container_else_of_the_image_else_of_the_runtime() {
    let opt = || contents(&["/opt/bin/curl", "/usr/bin/cat"]);
    let set = |value: &'static str| {
        move |container: &mut Container| container.env = Some(vec![env("PATH", value)])
    };
    let none = |_: &mut Container| {};
    assert_eq!(name(&with(&["curl"], opt(), none)), "CannotWork");
    assert_eq!(name(&with(&["curl"], opt(), set("/x:/opt/bin"))), "Works");
    assert_eq!(name(&with(&["cat"], opt(), set("/opt/bin"))), "CannotWork");
    assert_eq!(name(&with(&["cat"], opt(), set(""))), "CannotWork");
    let image = || Contents {
        env_path: Some("/opt/bin".into()),
        ..opt()
    };
    assert_eq!(name(&with(&["curl"], image(), none)), "Works");
    assert_eq!(name(&with(&["cat"], image(), none)), "CannotWork");
    // The image's PATH is not known to the kubelet: this stays as it is written.
    assert_eq!(
        name(&with(&["cat"], image(), set("/x:$(PATH)"))),
        "CannotWork"
    );
    let two = |container: &mut Container| {
        container.env = Some(vec![env("DIR", "/opt"), env("PATH", "$(DIR)/bin")]);
    };
    assert_eq!(name(&with(&["curl"], opt(), two)), "Works");
    let afar = |container: &mut Container| container.env = Some(vec![from_afar("PATH")]);
    assert_eq!(name(&with(&["cat"], opt(), afar)), "Unknown");
    assert_eq!(name(&with(&["/usr/bin/cat"], opt(), afar)), "Works");
    let half = |container: &mut Container| {
        container.env = Some(vec![from_afar("DIR"), env("PATH", "$(DIR)/bin")]);
    };
    assert_eq!(name(&with(&["curl"], opt(), half)), "Unknown");
    // Nor is one that is longer than any that is meant.
    let long = |container: &mut Container| {
        container.env = Some(vec![env("PATH", &"/opt/bin:".repeat(500))]);
    };
    assert_eq!(name(&with(&["curl"], opt(), long)), "Unknown");
    let filled = |container: &mut Container| {
        let path = "$(DIR):".repeat(500);
        container.env = Some(vec![env("DIR", "/opt/bin"), env("PATH", &path)]);
    };
    assert_eq!(name(&with(&["curl"], opt(), filled)), "Unknown");
    let relative = set("bin");
    assert_eq!(
        name(&with(&["cat"], contents(&["/bin/cat"]), relative)),
        "Unknown"
    );
}

#[test]
fn env_from_may_set_path_only_by_that_name() {
    let from = |prefix: Option<&'static str>| {
        move |container: &mut Container| {
            container.env_from = Some(vec![EnvFromSource {
                prefix: prefix.map(str::to_owned),
                config_map_ref: Some(ConfigMapEnvSource::default()),
                ..EnvFromSource::default()
            }]);
        }
    };
    let opt = || contents(&["/opt/bin/curl", "/usr/bin/cat"]);
    assert_eq!(name(&with(&["curl"], opt(), from(None))), "Unknown");
    assert_eq!(
        name(&with(&["curl"], opt(), from(Some("APP_")))),
        "CannotWork"
    );
    // No directory of the image has it.
    assert_eq!(name(&with(&["wget"], opt(), from(None))), "CannotWork");
    assert_eq!(name(&with(&["cat"], opt(), from(None))), "Works");
}

#[test]
fn relative_paths_begin_at_the_working_directory() {
    let image = || Contents {
        working_dir: Some("/srv".into()),
        ..contents(&["/srv/bin/app", "/opt/bin/app2"])
    };
    assert_eq!(name(&with(&["bin/app"], image(), |_| {})), "Works");
    assert_eq!(name(&with(&["./bin/app2"], image(), |_| {})), "CannotWork");
    let moved = |container: &mut Container| container.working_dir = Some("/opt".into());
    assert_eq!(name(&with(&["bin/app2"], image(), moved)), "Works");
}

fn mounted(command: &[&str], contents: Contents, at: &str, volume: Volume) -> Verdict {
    let mut container = live(command);
    container.volume_mounts = Some(vec![VolumeMount {
        name: volume.name.clone(),
        mount_path: at.into(),
        ..VolumeMount::default()
    }]);
    let mut pod = pod(container);
    pod.volumes = Some(vec![volume]);
    judged(&pod, contents).findings.remove(0).verdict
}

fn empty_dir() -> Volume {
    Volume {
        name: "tools".into(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    }
}

#[test]
fn what_a_volume_covers_is_not_known() {
    for (command, at, expected) in [
        ("/scripts/probe", "/scripts", "Unknown"),
        ("/scripts/probe", "/scripts/probe", "Unknown"),
        ("/scripts/probe", "/script", "CannotWork"),
        ("curl", "/usr/local/bin", "Unknown"),
        ("curl", "/bin/curl", "Unknown"),
        ("curl", "/data", "CannotWork"),
        ("/app", "/app", "Unknown"),
        ("cat", "/bin", "Unknown"),
        ("cat", "/usr/", "Unknown"),
        ("cat", "/usr/lib", "Works"),
        ("cat", "/usr/local/bin", "Works"),
        ("/dynamic", "/lib64", "Unknown"),
        ("/dynamic", "/usr/lib/x86_64-linux-gnu", "Unknown"),
        ("/dynamic", "/usr/lib/app/conf", "Works"),
        ("/dynamic", "/opt/ld", "Unknown"),
        ("/script", "/usr/bin/python3", "Unknown"),
    ] {
        let mut image = debian();
        image.executables.items.extend(
            contents(&["/dynamic @ /opt/ld/ld.so", "/script # /bin/python3"])
                .executables
                .items,
        );
        let verdict = mounted(&[command], image, at, empty_dir());
        assert_eq!(name(&verdict), expected, "{command} with {at}: {verdict:?}");
    }
}

#[test]
fn files_of_a_config_map_say_that_nobody_may_run_them() {
    let scripts = |mode| Volume {
        name: "scripts".into(),
        config_map: Some(ConfigMapVolumeSource {
            name: "probe".into(),
            default_mode: mode,
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    };
    for (mode, said) in [(None, true), (Some(0o755), false)] {
        let verdict = mounted(&["/s/p.sh"], debian(), "/s", scripts(mode));
        let Verdict::Unknown(why) = verdict else {
            panic!("{verdict:?}");
        };
        assert!(why.contains("volume scripts (ConfigMap)"), "{why}");
        assert_eq!(why.contains("0644"), said, "{why}");
    }
}

#[test]
fn another_user_than_the_images_may_be_kept_out() {
    let image = |uid: i64, fault: Option<Fault>| {
        let mut image = scratch();
        image.user.uid = Some(uid);
        let app = &mut image.executables.items[0];
        app.restricted = fault.is_none();
        app.fault = fault;
        app.runs = if fault.is_some() { Runs::No } else { Runs::Yes };
        image
    };
    let user = |uid: i64| {
        move |container: &mut Container| {
            container.security_context = Some(SecurityContext {
                run_as_user: Some(uid),
                ..SecurityContext::default()
            });
        }
    };
    let none = |_: &mut Container| {};
    assert_eq!(name(&with(&["/app"], image(0, None), none)), "Works");
    assert_eq!(name(&with(&["/app"], image(0, None), user(0))), "Works");
    assert_eq!(
        name(&with(&["/app"], image(0, None), user(1000))),
        "Unknown"
    );
    assert_eq!(name(&with(&["/app"], scratch(), user(1000))), "Works");
    let barred = Some(Fault::NotPermitted);
    assert_eq!(
        name(&with(&["/app"], image(65532, barred), none)),
        "CannotWork"
    );
    assert_eq!(
        name(&with(&["/app"], image(65532, barred), user(0))),
        "Unknown"
    );
    assert_eq!(
        name(&with(&["/app"], image(0, barred), user(5))),
        "CannotWork"
    );
    let dropped = |container: &mut Container| {
        container.security_context = Some(SecurityContext {
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".into()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        });
    };
    assert_eq!(name(&with(&["/app"], image(0, None), dropped)), "Unknown");
    // The Pod's user counts where the container has none.
    let mut all = pod(live(&["/app"]));
    all.security_context = Some(PodSecurityContext {
        run_as_user: Some(7),
        ..PodSecurityContext::default()
    });
    let judgement = judged(&all, image(0, None));
    assert_eq!(name(&judgement.findings[0].verdict), "Unknown");
}

#[test]
fn what_a_report_leaves_out_may_be_there() {
    let cut = |programs: &[&str]| {
        let mut image = contents(programs);
        image.executables.omitted = 5;
        image
    };
    let of = |command: &str, image: Contents| with(&[command], image, |_| {});
    // Those in PATH come first: the last that is listed lies elsewhere, so all of PATH is there.
    let whole = || cut(&["/app", "/usr/bin/cat", "/opt/x"]);
    assert_eq!(name(&of("curl", whole())), "CannotWork");
    assert_eq!(name(&of("/opt/y", whole())), "Unknown");
    assert_eq!(name(&of("curl", cut(&["/app", "/usr/bin/cat"]))), "Unknown");
    assert_eq!(name(&of("cat", cut(&["/app", "/usr/bin/cat"]))), "Works");
    let partial = Contents {
        partial: true,
        ..debian()
    };
    assert_eq!(name(&of("curl", partial.clone())), "Unknown");
    assert_eq!(name(&of("cat", partial)), "Works");
    let mut links = scratch();
    links.links.items.push(FolderLink {
        path: "/a".into(),
        folder: "/b".into(),
    });
    links.links.omitted = 1;
    assert_eq!(name(&of("/c/d/e", links.clone())), "Unknown");
    assert_eq!(name(&of("/other", links)), "CannotWork");
}

#[test]
fn an_interpreter_from_path_depends_on_the_containers_path() {
    let image = || contents(&["/usr/bin/env", "/usr/bin/python3", "/probe # /usr/bin/env"]);
    let set = |container: &mut Container| container.env = Some(vec![env("PATH", "/x")]);
    assert_eq!(name(&with(&["/probe"], image(), |_| {})), "Works");
    assert_eq!(name(&with(&["/probe"], image(), set)), "Unknown");
}

#[test]
fn a_command_of_a_probe_is_filled_in_from_the_containers_env() {
    let set = |container: &mut Container| {
        container.env = Some(vec![env("APP", "/app"), from_afar("IP")]);
    };
    assert_eq!(name(&with(&["$(APP)"], scratch(), set)), "Works");
    assert_eq!(name(&with(&["$(NOPE)"], scratch(), set)), "CannotWork");
    let mut container = live(&["/app", "$(IP)"]);
    set(&mut container);
    assert_eq!(found(container, scratch()).warnings.len(), 1);
    assert!(container_has_no_findings());
}

fn container_has_no_findings() -> bool {
    judged(&pod(container()), scratch()).findings.is_empty()
}

#[test]
fn a_program_may_come_to_the_container_from_elsewhere() {
    use k8s_openapi::api::core::v1::ResourceRequirements;
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use std::collections::BTreeMap;

    let none = |_: &mut Container| {};
    assert_eq!(name(&with(&["/proc/1/exe"], scratch(), none)), "Unknown");
    let gpu = |container: &mut Container| {
        container.resources = Some(ResourceRequirements {
            limits: Some(BTreeMap::from([(
                "nvidia.com/gpu".to_owned(),
                Quantity("1".into()),
            )])),
            ..ResourceRequirements::default()
        });
    };
    assert_eq!(name(&with(&["nvidia-smi"], debian(), gpu)), "Unknown");
    assert_eq!(name(&with(&["cat"], debian(), gpu)), "Works");
    for (command, fixed, expected) in [
        ("apk add curl && exec /app", false, "Unknown"),
        ("cp /x/curl /usr/bin/; /app", false, "Unknown"),
        ("apk add curl && exec /app", true, "CannotWork"),
        ("/app --url curly", false, "CannotWork"),
    ] {
        let own = |container: &mut Container| {
            container.args = Some(vec!["-c".into(), command.into()]);
            container.security_context = Some(SecurityContext {
                read_only_root_filesystem: Some(fixed),
                ..SecurityContext::default()
            });
        };
        assert_eq!(name(&with(&["curl"], debian(), own)), expected, "{command}");
    }
    let mut classed = pod(live(&["curl"]));
    classed.runtime_class_name = Some("nvidia".into());
    assert_eq!(
        name(&judged(&classed, debian()).findings[0].verdict),
        "Unknown"
    );
}

#[test]
fn libraries_may_be_found_by_a_variable_that_stands_elsewhere() {
    let lacking = || contents(&["/check ! /check needs libz.so.1"]);
    let with = |env_from: Option<&str>| {
        let mut container = live(&["/check"]);
        container.env_from = env_from.map(|prefix| {
            vec![EnvFromSource {
                prefix: Some(prefix.into()),
                ..EnvFromSource::default()
            }]
        });
        found(container, lacking()).verdict.name()
    };
    assert_eq!(with(None), "CannotWork");
    assert_eq!(with(Some("")), "Unknown");
    assert_eq!(with(Some("LD_")), "Unknown");
    assert_eq!(with(Some("APP_")), "CannotWork");
}

#[test]
fn a_path_of_very_many_directories_is_not_looked_into() {
    let long = |container: &mut Container| {
        container.env = Some(vec![env("PATH", &vec!["/x"; MAX_FOLDERS + 1].join(":"))]);
    };
    assert_eq!(name(&with(&["cat"], debian(), long)), "Unknown");
    assert_eq!(name(&with(&["/usr/bin/cat"], debian(), long)), "Works");
}

#[test]
fn file_capabilities_are_held_against_those_that_the_container_may_have() {
    let image = |name: &str, runs: Runs| {
        let mut found = contents(&["/usr/bin/ping"]);
        let program = &mut found.executables.items[0];
        program.runs = runs;
        program.fault = Some(Fault::Capabilities);
        program.capabilities = vec![name.to_owned()];
        found
    };
    let of = |contents: &Contents, add: &[&str], drop: &[&str]| {
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let container = Container {
            security_context: Some(SecurityContext {
                capabilities: Some(Capabilities {
                    add: names(add),
                    drop: names(drop),
                }),
                ..SecurityContext::default()
            }),
            ..Container::default()
        };
        let place = Place::new(&PodSpec::default(), &container, contents);
        match place.find("ping", Starter::Runtime) {
            Found::Runs(_) => true,
            Found::Breaks(_) => false,
            other => panic!("{other:?}"),
        }
    };
    let raw = image("cap_net_raw", Runs::Unknown);
    assert!(of(&raw, &[], &[]) && of(&raw, &["NET_RAW"], &["ALL"]));
    assert!(!of(&raw, &[], &["ALL"]) && !of(&raw, &[], &["NET_RAW"]));
    let lock = image("cap_ipc_lock", Runs::No);
    assert!(!of(&lock, &[], &[]) && of(&lock, &["IPC_LOCK"], &[]));
}
