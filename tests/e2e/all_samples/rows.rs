//! What each row of the list of systems must show, beyond that it is built and runs.

use std::collections::BTreeMap;
use std::process::Command;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use whittle_api::{ImageBuildStatus, find};
use whittle_image::{Base, Runs};

use super::{image, kubectl, pods, read};
use crate::field::{Field, variable};
use crate::leaks::Search;
use crate::registry::{blob, files_of, manifest, size};

/// All tags point to the digest in status, and its size is the registry's.
pub async fn stands_in_the_registry(field: &Field, name: &str, status: &ImageBuildStatus) {
    let image = image(field, name);
    let digest = status.digest.as_deref().unwrap();
    let (_, repository) = image.split_once('/').unwrap();
    let url = format!(
        "http://{}/v2/{repository}/tags/list",
        variable("REGISTRY_HOST")
    );
    let list: serde_json::Value = reqwest::get(&url).await.unwrap().json().await.unwrap();
    let tags = list["tags"].as_array().unwrap();
    assert!(!tags.is_empty(), "{name}");
    // The lists of what refers to an image are tags here: this registry keeps none by itself.
    let own = |tag: &&str| !tag.starts_with("sha256-");
    for tag in tags.iter().map(|tag| tag.as_str().unwrap()).filter(own) {
        let wanted = match tag.ends_with("-debug") {
            true => &status.debug.as_ref().unwrap().digest,
            false => digest,
        };
        assert_eq!(manifest(&image, tag).await.0, wanted, "{name}:{tag}");
    }
    for platform in &status.platforms {
        let found = manifest(&image, &platform.digest).await.1;
        assert_eq!(size(&found), platform.size, "{name} {}", platform.platform);
    }
}

pub async fn check(field: &Field, all: &BTreeMap<String, ImageBuildStatus>) {
    let files = async |name: &str| {
        files_of(&image(field, name), all[name].digest.as_deref().unwrap()).await
    };
    // 1: near the program alone, and a twentieth of the single stage at most.
    let (small, large) = (
        all["go-scratch"].size.unwrap(),
        all["go-single-stage"].size.unwrap(),
    );
    assert!(large > 20 * small, "{large} bytes against {small}");
    let found = files("go-scratch").await;
    assert_eq!(found.keys().collect::<Vec<_>>(), ["hello"]);
    assert!(small < found["hello"].len() as i64);
    // 2: what is linked at run time, and what is not.
    assert!(!interpreted(&files("go-static").await["hello"]));
    assert!(interpreted(&files("base-distroless").await["hello"]));
    // 2, 8, 9, 10 and 25: what `contents` says.
    contents(all);
    // 7 and 22: said where it is so, and only there.
    for (name, kind, told) in [
        ("go-copy-first", "Dockerfile:4: `COPY . .`", true),
        ("go-modules", "` is before `", false),
        ("go-cache", "` is before `", false),
        ("copy-from", "samples/sources/files", false),
    ] {
        let advice = find(&all[name].conditions, "Advice").unwrap();
        assert_eq!(advice.message.contains(kind), told, "{name}: {advice:#?}");
    }
    // 9 and 10
    let found = files("scratch-tmp").await;
    assert_eq!(found.keys().collect::<Vec<_>>(), ["hello"]);
    // 11: one index, and programs for different processors.
    platforms(field, &all["platforms"]).await;
    // 12: no value is anywhere.
    secrets(field).await;
    // 13
    let found = files("dockerignore").await;
    let app: Vec<_> = found
        .keys()
        .filter(|path| path.starts_with("app/"))
        .collect();
    assert_eq!(app, ["app/dist/keep.txt", "app/index.js"]);
    // 14: the stage that fails is not among those that the target needs.
    assert!(files("test-stage").await.contains_key(".passed"));
    // 15 and 24: one source, two images.
    for (one, other) in [
        ("binaries-server", "binaries-worker"),
        ("targets-development", "targets-production"),
    ] {
        assert_eq!(all[one].revision, all[other].revision);
        assert_ne!(all[one].digest, all[other].digest);
    }
    let (first, second) = (
        files("targets-development").await,
        files("targets-production").await,
    );
    assert!(first.contains_key("app/test_greet.py") && !second.contains_key("app/test_greet.py"));
    // 17 and 18: production has neither the tools of the build nor the sources.
    let found = files("node").await;
    assert!(found.contains_key("app/node_modules/tiny-router/index.js"));
    assert!(
        !found
            .keys()
            .any(|path| path.contains("tiny-bundle") || path.contains("app/src"))
    );
    let found = files("python").await;
    assert!(found.keys().any(|path| path.ends_with("/hello_app.py")));
    assert!(
        !found
            .keys()
            .any(|path| path.ends_with(".whl") || path.starts_with("src/"))
    );
    // 19: a shell beside the program, which runs.
    for name in ["debug-stage", "debug-base"] {
        let debug = all[name].debug.as_ref().unwrap();
        let command = json!({"command": ["sh", "-c", "/hello && ls /bin/sh"]});
        let words = ["hello from", "/bin/sh"];
        pods::prints(
            field,
            &format!("{name}-debug"),
            &debug.image,
            command,
            &words,
        )
        .await;
        assert!(!files(name).await.contains_key("bin/busybox"), "{name}");
    }
    // 20 and 21
    an_ephemeral_container_sees_the_program(field, &all["probes"]).await;
    the_probes_of_the_deployment_work(field, &all["probes"]).await;
    the_wrong_probe_is_warned_of(field, &all["probes"]).await;
    // 22
    for tag in ["1.4.0", "1.4", "latest"] {
        let found = manifest(&image(field, "tags"), tag).await.0;
        assert_eq!(Some(found), all["tags"].digest, "{tag}");
    }
    let by_commit = &all["tags-by-commit"];
    let commit = by_commit.revision.as_deref().unwrap();
    let short = &commit.rsplit(':').next().unwrap()[..7];
    let tags = by_commit.tags.as_ref().unwrap();
    assert_eq!(tags[0], format!("main-{short}-1"), "{tags:?}");
    assert!(
        tags[1].starts_with("main-20") && tags[1].ends_with('Z'),
        "{tags:?}"
    );
    assert_eq!(tags[2], "main");
    // 23
    let layers = &all["base-debian"].platforms[0].layers;
    let ballast = layers
        .iter()
        .find(|layer| layer.instruction.contains("/usr/share/ballast"))
        .unwrap_or_else(|| panic!("{layers:#?}"));
    assert!(
        (2_000_000..2_100_000).contains(&ballast.size),
        "{layers:#?}"
    );
    // 25
    assert_eq!(
        config(
            field,
            "alpine-user",
            &all["alpine-user"].platforms[0].digest
        )
        .await["config"]["User"],
        "app"
    );
}

/// What the status says that the images hold.
fn contents(all: &BTreeMap<String, ImageBuildStatus>) {
    let contents = |name: &str| {
        let platforms = &all[name].platforms;
        let found = platforms.iter().map(|platform| platform.contents.as_ref());
        let found: Option<Vec<_>> = found.collect();
        found.unwrap_or_else(|| panic!("{name}: {platforms:#?}"))[0]
    };
    for (name, status) in all {
        assert_eq!(contents(name).starts, Runs::Yes, "{name}: {status:#?}");
        assert!(contents(name).report.is_some(), "{name}");
    }
    for (name, base, os, shell) in [
        ("go-scratch", Base::Scratch, None, false),
        (
            "go-static",
            Base::DistrolessStatic,
            Some("debian 12"),
            false,
        ),
        (
            "base-distroless",
            Base::Distroless,
            Some("debian 12"),
            false,
        ),
        ("base-alpine", Base::Musl, Some("alpine 3.22.0"), true),
        ("base-debian", Base::Glibc, Some("debian 12"), true),
        ("inline", Base::Other, None, true),
    ] {
        let found = contents(name);
        assert_eq!(found.base, base, "{name}: {found:#?}");
        assert_eq!(found.os.as_deref(), os, "{name}: {found:#?}");
        assert_eq!(found.shell, shell, "{name}: {found:#?}");
    }
    let found = contents("scratch-files");
    assert!(
        found.ca_certificates && found.time_zones && found.writable_tmp && !found.root,
        "{found:#?}"
    );
    let contract = find(&all["scratch-files"].conditions, "Contract").unwrap();
    assert_eq!(contract.reason, "Kept", "{contract:#?}");
    let found = contents("scratch-tmp");
    assert!(
        !found.ca_certificates && !found.time_zones && !found.writable_tmp,
        "{found:#?}"
    );
    let contract = find(&all["scratch-tmp"].conditions, "Contract").unwrap();
    assert_eq!(contract.reason, "Warned", "{contract:#?}");
    assert!(
        contract.message.contains("/tmp not found in the image"),
        "{contract:#?}"
    );
    let found = contents("alpine-user");
    assert_eq!(found.user.as_deref(), Some("app"), "{found:#?}");
    assert!(!found.root, "{found:#?}");
    // The single stage keeps what the small one leaves away.
    assert!(contents("go-single-stage").package_manager);
}

/// Does an ELF program ask for a loader (PT_INTERP)?
fn interpreted(program: &[u8]) -> bool {
    let number = |at: usize, bytes: usize| {
        program[at..at + bytes]
            .iter()
            .rev()
            .fold(0usize, |sum, byte| sum << 8 | usize::from(*byte))
    };
    assert_eq!(&program[..5], b"\x7fELF\x02", "a 64-bit ELF program");
    let (table, entry, entries) = (number(32, 8), number(54, 2), number(56, 2));
    (0..entries).any(|index| number(table + index * entry, 4) == 3)
}

async fn config(field: &Field, name: &str, digest: &str) -> serde_json::Value {
    let image = image(field, name);
    let found = manifest(&image, digest).await.1;
    let bytes = blob(&image, found["config"]["digest"].as_str().unwrap()).await;
    serde_json::from_slice(&bytes).unwrap()
}

async fn platforms(field: &Field, status: &ImageBuildStatus) {
    let image = image(field, "platforms");
    let (_, index) = manifest(&image, status.digest.as_deref().unwrap()).await;
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2, "{index:#}");
    // The number of the processor in the program's header.
    for (platform, machine) in [("linux/amd64", 62), ("linux/arm64", 183)] {
        let seen = status
            .platforms
            .iter()
            .find(|seen| seen.platform == platform);
        let digest = &seen
            .unwrap_or_else(|| panic!("{platform}: {status:#?}"))
            .digest;
        assert_eq!(
            files_of(&image, digest).await["hello"][18],
            machine,
            "{platform}"
        );
    }
}

async fn secrets(field: &Field) {
    let values = [
        "a-license-key-for-the-samples-only",
        "a-password-for-the-samples-only",
        "a-token-for-the-samples-only",
    ];
    let mut search = Search::new(&values);
    for (name, value) in [
        ("secret", values[0]),
        ("secret-go-module", values[1]),
        ("secret-npm-token", values[2]),
    ] {
        let text = read(format!("{name}.yaml"));
        assert!(text.contains(value), "{name}.yaml has another value");
        search.repository(&image(field, name)).await;
    }
    search.cluster(field).await;
    assert_eq!(search.found, Vec::<String>::new());
}

/// The command of docs/debugging.md.
async fn an_ephemeral_container_sees_the_program(field: &Field, status: &ImageBuildStatus) {
    pods::start(field, "probes", status.image.as_deref().unwrap(), json!({})).await;
    pods::answer(field, "probes").await;
    // The debugger traces.
    field.hold_to("privileged").await;
    let look = "ps -o pid,args; wget -q -O - http://127.0.0.1:8080/; ls -l /proc/1/root/";
    kubectl(
        field,
        &[
            "debug",
            "pod/probes",
            "--image=busybox:1.36",
            "--target=main",
            "--container=debugger",
            "--profile=general",
            "--",
            "sh",
            "-c",
            look,
        ],
    );
    let log = field
        .until("the ephemeral container has ended", async || {
            let status = field.api::<Pod>().get("probes").await.unwrap().status?;
            let statuses = status.ephemeral_container_statuses?;
            statuses.first()?.state.as_ref()?.terminated.as_ref()?;
            let params = kube::api::LogParams {
                container: Some("debugger".into()),
                ..Default::default()
            };
            field.api::<Pod>().logs("probes", &params).await.ok()
        })
        .await;
    for words in ["1 /hello", "hello, I am well", " hello\n"] {
        assert!(log.contains(words), "{words:?} is not in:\n{log}");
    }
    pods::stop(field, "probes").await;
}

async fn the_probes_of_the_deployment_work(field: &Field, status: &ImageBuildStatus) {
    let text = read("examples/deployment.yaml");
    let image = "registry.whittle.local:5000/samples/probes:latest";
    assert!(text.contains(image));
    let text = text.replace(image, status.image.as_deref().unwrap());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    kubectl(field, &["apply", "-f", &file.path().display().to_string()]);
    field
        .until("the Deployment is available", async || {
            let found = field.api::<Deployment>().get("probes").await.unwrap();
            (found.status?.available_replicas? == 1).then_some(())
        })
        .await;
    kubectl(field, &["delete", "deployment", "probes", "--wait=false"]);
}

/// kubectl prints the warning; the mode of the chart's values is Warn.
async fn the_wrong_probe_is_warned_of(field: &Field, status: &ImageBuildStatus) {
    let text = read("examples/wrong-probe.yaml");
    let image = "registry.whittle.local:5000/samples/probes:latest";
    let text = text.replace(image, status.image.as_deref().unwrap());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().display().to_string();
    field
        .until("the wrong probe is warned of", async || {
            let output = Command::new("kubectl")
                .args([
                    "--namespace",
                    &field.namespace,
                    "apply",
                    "--dry-run=server",
                    "-f",
                    &path,
                ])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{said}");
            said.contains("livenessProbe runs sh, which image")
                .then_some(())
        })
        .await;
}
