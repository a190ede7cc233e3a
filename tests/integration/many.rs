//! ImageBuilds that have ended, of ordinary size, as many as are asked for.

use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use whittle_api::ImageBuild;
use whittle_controller::imagebuild::decide;
use whittle_image::{Contents, Executable, Runs};
use whittle_probe::pack;

/// They push to the repositories of so many teams.
pub const NAMESPACES: usize = 10;

/// Makes one, and returns its size in bytes.
pub async fn finished(builds: Api<ImageBuild>, number: usize) -> usize {
    let made = build(number);
    let made = builds.create(&PostParams::default(), &made).await.unwrap();
    let patch = Patch::Merge(status(&made, number));
    let whole = builds
        .patch_status(&made.name_any(), &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert!(decide::is_settled(&whole), "{number} is due");
    serde_json::to_vec(&whole).unwrap().len()
}

/// One that was built: the number decides how much is known of it.
fn build(number: usize) -> ImageBuild {
    let lines = 20 + number % 60;
    let dockerfile: String = (0..lines)
        .map(|line| format!("RUN install --mode=0755 /src/{number}/{line} /usr/bin/{line}\n"))
        .collect();
    let spec = json!({
        "source": {"inline": {"files": {"Dockerfile": format!("FROM debian:12\n{dockerfile}")}}},
        "output": {"image": format!("registry.example.com/team-{}/app-{number}", number % NAMESPACES)},
        "buildArgs": {"VERSION": "1.2.3", "COMMIT": format!("{number:040x}")},
    });
    ImageBuild::new(
        &format!("app-{number}"),
        serde_json::from_value(spec).unwrap(),
    )
}

/// What a status says of it, of 5 to 14 KB with the spec.
fn status(build: &ImageBuild, number: usize) -> Value {
    let digest = format!("sha256:{number:064x}");
    let image = format!("{}@{digest}", build.spec.output.image);
    let mut contents = Contents {
        platform: "linux/amd64".into(),
        ..Contents::default()
    };
    let programs = (0..200 + number % 300).map(|at| Executable {
        path: format!("/usr/bin/program-{}", at * 7919 % 1000),
        runs: Runs::Yes,
        ..Executable::default()
    });
    contents.executables.items = programs.collect();
    let condition = |kind: &str, state: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": state, "reason": reason, "message": message,
            "observedGeneration": 1, "lastTransitionTime": "2026-11-01T00:00:00Z"})
    };
    let hints =
        "Dockerfile:3: AptCacheKept: apt-get install leaves its lists in the layer\n".repeat(6);
    let history: Vec<Value> = (0..5)
        .map(|at| json!({"build": 5 - at, "generation": 1, "result": "Succeeded", "size": 31_234_567,
            "digest": format!("sha256:{:064x}", number * 10 + at), "revision": format!("main@sha1:{number:040x}"),
            "completedAt": "2026-11-01T00:00:00Z", "durationSeconds": 61, "queuedSeconds": 2}))
        .collect();
    let layers: Vec<Value> = (0..12)
        .map(|at| json!({"size": 1_234_567 + at, "instruction": "RUN /bin/sh -c apt-get update && apt-get install -y curl"}))
        .collect();
    json!({"status": {
        "observedGeneration": 1, "input": decide::input(build), "build": 5, "image": image, "digest": digest,
        "tags": ["latest"], "size": 31_234_567, "displaySize": "29.8 MiB", "displayPlatforms": "linux/amd64",
        "startedAt": "2026-11-01T00:00:00Z", "completedAt": "2026-11-01T00:01:03Z", "history": history,
        "conditions": [
            condition("Ready", "True", "Succeeded", &image), condition("Built", "True", "Succeeded", &image),
            condition("Advice", "True", "AptCacheKept", &hints),
            condition("Contract", "True", "Kept", "RunnableEntrypoint, NoSetuid, CaCertificates"),
        ],
        "platforms": [{"platform": "linux/amd64", "digest": digest, "size": 31_234_567, "layers": layers,
            "contents": {"base": "Glibc", "starts": "Yes", "command": ["/app"], "root": false, "shell": true,
                "packageManager": true, "caCertificates": true, "timeZones": false, "writableTmp": true,
                "setuidFiles": 0, "files": 4321, "unpackedSize": 91_234_567, "programs": pack(&contents)}}],
    }})
}
