//! `whittle debug POD`: the ephemeral container of docs/debugging.md, with the image for debugging that was built beside the Pod's own.
//!
//! `kubectl debug` does it: it knows terminals and their sizes. What is worked out here is what to tell it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use k8s_openapi::api::core::v1::{Container, Namespace, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::json;
use whittle_api::ImageBuild;

use super::answer::{self, Failed};
use super::{ENFORCE, Reach};

/// What `debug` is asked for.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    reach: Reach,
    /// The Pod.
    #[arg(value_name = "POD")]
    pod: String,
    /// The container; the first one by default.
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// The image with the tools. Without it: the image for debugging (`spec.debug`) of the ImageBuild that the container's image is of.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Print the kubectl command instead of running it.
    #[arg(long)]
    print: bool,
    /// What is run; sh by default.
    #[arg(last = true)]
    command: Vec<String>,
}

/// Runs it; kubectl takes this process's place.
pub(super) async fn run(options: &Options) -> Result<(), Failed> {
    let cluster = options.reach.cluster().await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let name = options.pod.strip_prefix("pod/").unwrap_or(&options.pod);
    let pod = pods.get(name).await.map_err(|error| match &error {
        kube::Error::Api(answer) if answer.code == 404 => Failed::Refused(format!(
            "Pod {name} not found in namespace {}",
            cluster.namespace
        )),
        other => answer::api(other, &format!("Pod {name}")),
    })?;
    let target = target(&pod, options.container.as_deref())?;
    let image = match &options.image {
        Some(image) => image.clone(),
        None => {
            let listed = cluster.builds().list(&ListParams::default()).await;
            let builds = listed
                .map_err(|error| answer::api(&error, "ImageBuilds"))?
                .items;
            debug_image(&pod, &target.name, &builds)?
        }
    };
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let enforced = namespaces.get(&cluster.namespace).await.ok();
    let level = enforced.as_ref().and_then(|it| it.labels().get(ENFORCE));
    let profile = profile(level.map(String::as_str));
    let user = (profile != "general")
        .then(|| user(&pod, &target))
        .flatten();
    let custom = user.map(|user| json!({"securityContext": {"runAsUser": user}}).to_string());
    let mut words: Vec<OsString> = vec!["debug".into(), format!("pod/{name}").into()];
    let mut add = |word: String| words.push(word.into());
    add(format!("--namespace={}", cluster.namespace));
    if let Some(context) = &options.reach.context {
        add(format!("--context={context}"));
    }
    if let Some(path) = &options.reach.kubeconfig {
        add(format!("--kubeconfig={}", path.display()));
    }
    add(format!("--image={image}"));
    add(format!("--target={}", target.name));
    add(format!("--profile={profile}"));
    add("-it".into());
    add("--".into());
    match options.command.is_empty() {
        true => add("sh".into()),
        false => options.command.iter().cloned().for_each(&mut add),
    }
    let line = line(&words, custom.as_deref());
    if options.print {
        anstream::println!("{line}");
        return Ok(());
    }
    anstream::eprintln!("{line}");
    if let Some(custom) = &custom {
        words.insert(1, format!("--custom={}", in_memory(custom)?).into());
    }
    let error = std::process::Command::new("kubectl").args(&words).exec();
    Err(Failed::Use(match error.kind() {
        std::io::ErrorKind::NotFound => {
            "kubectl not found on PATH: install it, or run the command above elsewhere".into()
        }
        _ => format!("kubectl cannot be started: {error}"),
    }))
}

/// What kubectl gives the container. Where the level of Pod Security allows no capability, it looks into processes of its own user
/// alone. Whoever may not read the level gets what most namespaces take.
fn profile(level: Option<&str>) -> &'static str {
    match level {
        Some("restricted") => "restricted",
        Some("baseline") => "baseline",
        _ => "general",
    }
}

/// The container that is looked into.
fn target(pod: &Pod, asked: Option<&str>) -> Result<Container, Failed> {
    let containers = pod
        .spec
        .as_ref()
        .map(|it| it.containers.clone())
        .unwrap_or_default();
    let names: Vec<String> = containers.iter().map(|it| it.name.clone()).collect();
    let mut wanted = containers
        .into_iter()
        .filter(|it| asked.is_none_or(|asked| it.name == asked));
    wanted.next().ok_or_else(|| {
        Failed::Use(format!(
            "container {} not found in Pod {}: it has {}",
            asked.unwrap_or_default(),
            pod.name_any(),
            names.join(", ")
        ))
    })
}

/// The digests by which a container's image is known: of what it names, and of what runs.
fn digests(pod: &Pod, container: &str) -> Vec<String> {
    let spec = pod
        .spec
        .iter()
        .flat_map(|it| &it.containers)
        .find(|it| it.name == container);
    let named = spec.and_then(|it| it.image.clone());
    let statuses = pod
        .status
        .iter()
        .flat_map(|it| it.container_statuses.iter().flatten());
    let runs = statuses
        .filter(|it| it.name == container)
        .map(|it| it.image_id.clone());
    let images = named.into_iter().chain(runs);
    images
        .filter_map(|image| image.rsplit_once('@').map(|(_, digest)| digest.to_owned()))
        .collect()
}

/// The image for debugging that was built beside a container's image.
fn debug_image(pod: &Pod, container: &str, builds: &[ImageBuild]) -> Result<String, Failed> {
    let digests = digests(pod, container);
    let of = |build: &&ImageBuild| {
        build.status.as_ref().is_some_and(|status| {
            let platforms = status.platforms.iter().map(|it| &it.digest);
            status
                .digest
                .iter()
                .chain(platforms)
                .any(|digest| digests.contains(digest))
        })
    };
    let elsewhere = "or name an image with tools: --image busybox:1.36";
    let has = |build: &&ImageBuild| build.status.as_ref().is_some_and(|it| it.debug.is_some());
    let found = builds.iter().filter(of).find(has);
    let Some(build) = found.or_else(|| builds.iter().find(of)) else {
        let what = match digests.first() {
            Some(digest) => {
                format!("no ImageBuild of the namespace has {digest} as its newest image")
            }
            None => "the container has not started, so the digest of its image is unknown".into(),
        };
        return Err(Failed::Refused(format!("{what}: {elsewhere}")));
    };
    let debug = build.status.as_ref().and_then(|it| it.debug.as_ref());
    debug.map(|it| it.image.clone()).ok_or_else(|| {
        Failed::Refused(format!(
            "ImageBuild {} has no image for debugging: set `spec.debug` (docs/debugging.md), {elsewhere}",
            build.name_any()
        ))
    })
}

/// The user that the container runs as, where its Pod says so.
fn user(pod: &Pod, container: &Container) -> Option<i64> {
    let own = container
        .security_context
        .as_ref()
        .and_then(|it| it.run_as_user);
    let of_pod = pod
        .spec
        .as_ref()
        .and_then(|it| it.security_context.as_ref())
        .and_then(|it| it.run_as_user);
    own.or(of_pod)
}

/// The path of a file with this text, which kubectl reads after this process has become it: in memory, so that nothing is left behind.
fn in_memory(text: &str) -> Result<String, Failed> {
    use std::io::Write;
    use std::os::fd::IntoRawFd;
    let made = rustix::fs::memfd_create("whittle-debug", rustix::fs::MemfdFlags::empty());
    let written = made.map_err(std::io::Error::from).and_then(|made| {
        let mut file = std::fs::File::from(made);
        file.write_all(text.as_bytes())?;
        Ok(file)
    });
    let file = written
        .map_err(|error| Failed::Use(format!("no memory for what kubectl is told: {error}")))?;
    // It stays open for kubectl. Opened by this path it is read from its beginning.
    Ok(format!("/proc/self/fd/{}", file.into_raw_fd()))
}

/// The command as a shell takes it. `custom`: what is laid over the container, which kubectl wants as a file.
fn line(words: &[OsString], custom: Option<&str>) -> String {
    let plain = |word: &str| {
        !word.is_empty()
            && word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_=/.:@,+".contains(c))
    };
    let quoted = |word: &str| match plain(word) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    let mut words: Vec<String> = words
        .iter()
        .map(|word| quoted(&word.to_string_lossy()))
        .collect();
    if let Some(custom) = custom {
        words.insert(1, format!("--custom=<(echo {})", quoted(custom)));
    }
    format!("kubectl {}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    fn pod(image: &str, id: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"securityContext": {"runAsUser": 7},
            "containers": [{"name": "main", "image": image}, {"name": "other", "image": "x"}]},
            "status": {"containerStatuses": [{"name": "main", "image": image, "imageID": id, "ready": true, "restartCount": 0}]}}))
        .unwrap()
    }

    #[test]
    fn the_image_for_debugging_is_found_by_the_digest_that_runs() {
        let id = format!("registry.example.com/team/hello@sha256:{}", "c".repeat(64));
        let runs = pod("hello:latest", &id);
        let without = debug_image(&runs, "main", &[fixtures::failed()]).unwrap_err();
        assert!(
            without.to_string().contains("set `spec.debug`"),
            "{without}"
        );
        let with = json!({"status": {"debug": {"image": "i@sha256:debug", "digest": "sha256:debug", "size": 1}}});
        let builds = [fixtures::failed(), fixtures::build(with)];
        assert_eq!(
            debug_image(&runs, "main", &builds).unwrap(),
            "i@sha256:debug"
        );
        let none = debug_image(&pod("hello:latest", ""), "main", &[]).unwrap_err();
        assert!(none.to_string().contains("has not started"), "{none}");
    }

    #[test]
    fn a_container_that_does_not_exist_is_named_with_those_that_do() {
        let pod = pod("x", "");
        assert_eq!(target(&pod, None).unwrap().name, "main");
        let error = target(&pod, Some("no")).unwrap_err();
        assert!(error.to_string().contains("it has main, other"), "{error}");
        assert_eq!(user(&pod, &target(&pod, None).unwrap()), Some(7));
    }

    #[test]
    fn the_command_is_one_for_a_shell() {
        let words = ["debug", "pod/p", "--", "sh", "-c", "echo 'a b'"].map(OsString::from);
        let expected = r"kubectl debug pod/p -- sh -c 'echo '\''a b'\'''";
        assert_eq!(line(&words, None), expected);
        let custom = line(&words, Some(r#"{"a":1}"#));
        assert!(
            custom.starts_with(r#"kubectl debug --custom=<(echo '{"a":1}') pod/p"#),
            "{custom}"
        );
    }
}
