//! `whittle build --local`, on the local cluster's registry and git server with the daemon's own programs, which the local
//! cluster has: as root, and as a plain user.
//!
//! No packet leaves the machine: what is not on the local registry is asked for through a proxy that is not there.

mod bench;
mod check;
mod user;

use std::fs;

use serde_json::{Value, json};
use whittle_api::FailureReason;

use crate::all_samples::failing;
use crate::field::{Field, Repository, variable};
use bench::{Bench, Ended, manifest};

/// An image that comes out the same wherever and whenever it is built.
const SAME: &str =
    "FROM busybox:1.36\nENV GREETING=hello\nUSER 65532\nCMD [\"sh\", \"-c\", \"echo $GREETING\"]\n";

#[tokio::test]
async fn an_inline_image_build_has_the_same_digest_here_and_in_the_cluster() {
    let field = Field::new("local").await;
    let args =
        json!({"buildArgs": {"SOURCE_DATE_EPOCH": "1700000000"}, "output": {"tags": ["one"]}});
    field
        .build("same", json!({"Dockerfile": SAME}), args.clone())
        .await;
    let there = field.succeeds("same").await;
    let bench = Bench::new();
    let mut spec = json!({"source": {"inline": {"files": {"Dockerfile": SAME}}}, "contract": {"warn": ["RunnableEntrypoint"]},
        "output": {"image": bench.image("same")}});
    json_patch::merge(&mut spec, &args);
    let ended = bench.build(&manifest("same", &spec), &["--push"]);
    let here = ended.status(0);
    assert_eq!(here["digest"], json!(there.digest), "{}", ended.said);
    // What a cluster says of it, it says here, but for times and where it is.
    for field in [
        "tags",
        "size",
        "displaySize",
        "displayPlatforms",
        "revision",
    ] {
        let there = serde_json::to_value(&there).unwrap()[field].clone();
        assert_eq!(here[field], there, "{field}");
    }
    for kind in ["Ready", "Built", "Contract", "Advice"] {
        let of = |status: &Value| {
            let all = status["conditions"].as_array().unwrap().clone();
            let found = all.into_iter().find(|it| it["type"] == kind);
            found.map(|it| (it["status"].clone(), it["reason"].clone()))
        };
        assert_eq!(
            of(&here),
            of(&serde_json::to_value(&there).unwrap()),
            "{kind}"
        );
    }
    // The same number, from a layout that was never pushed.
    let layout = bench.path("layout");
    let output = format!("oci:{}", layout.display());
    let ended = bench.build(&manifest("same", &spec), &["--output", &output]);
    assert_eq!(ended.status(0)["digest"], json!(there.digest));
    let index = fs::read_to_string(layout.join("index.json")).unwrap();
    assert!(index.contains(there.digest.as_deref().unwrap()), "{index}");
    field.close().await;
}

/// Those of config/samples/failing fail here as they fail in the cluster: the table is the one of the test there.
#[tokio::test]
async fn the_failing_samples_fail_with_the_words_that_they_have_in_the_cluster() {
    let bench = Bench::new();
    let built = |file: &str, name: &str| {
        let file = format!(
            "{}/config/samples/failing/{file}",
            env!("CARGO_MANIFEST_DIR")
        );
        let text = fs::read_to_string(&file).unwrap();
        let image = bench.image(name);
        bench.build(&text, &["--name", name, "--image", &image, "--push"])
    };
    for (name, reason, line, words) in failing::MISTAKES {
        let file = match *name {
            "failing-test" => "test-stage.yaml",
            _ => "mistakes.yaml",
        };
        let ended = built(file, name);
        let failure = ended.status(1)["failure"].clone();
        assert_eq!(failure["reason"], json!(reason), "{name}: {failure:#}");
        assert_eq!(
            failure["dockerfileLine"],
            json!(line),
            "{name}: {failure:#}"
        );
        let text = |key: &str| failure[key].as_str().unwrap_or_default().to_owned();
        let told = format!("{}\n{}", text("message"), text("log"));
        for word in words {
            assert!(told.contains(word), "{name}: {failure:#}");
        }
    }
    for (name, words) in failing::NOT_STARTING {
        let status = built("cgo-scratch.yaml", name).status(1);
        let failure = &status["failure"];
        assert_eq!(
            failure["reason"],
            json!(FailureReason::ContractBroken),
            "{name}"
        );
        let message = failure["message"].as_str().unwrap();
        assert!(
            message.starts_with("RunnableEntrypoint: ") && message.contains(words),
            "{name}: {failure:#}"
        );
    }
    let status = built("contract.yaml", "broken-contract").status(1);
    let conditions = status["conditions"].as_array().unwrap();
    let told = conditions
        .iter()
        .find(|it| it["type"] == "Contract")
        .unwrap();
    let message = told["message"].as_str().unwrap();
    let rules: Vec<&str> = message
        .lines()
        .map(|line| line.split(':').next().unwrap())
        .collect();
    assert_eq!(rules, failing::BROKEN_RULES, "{told:#}");
}

#[tokio::test]
async fn a_folder_is_built_under_its_ignore_file_into_what_docker_and_whittle_read() {
    let bench = Bench::new();
    let folder = bench.path("app");
    fs::create_dir(&folder).unwrap();
    let dockerfile = "FROM busybox:1.36\nARG WHO\nCOPY . /app/\nRUN --mount=type=secret,id=token grep -q hunter22 /run/secrets/token\nRUN echo $WHO > /who\nCMD [\"cat\", \"/who\"]\n";
    for (name, text) in [
        ("Dockerfile", dockerfile),
        (".dockerignore", "left\n"),
        ("kept", "kept"),
        ("left", "left"),
        ("token", "hunter22"),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    let archive = bench.path("app.tar");
    let output = format!("docker-archive:{}", archive.display());
    let secret = format!("id=token,src={}", folder.join("token").display());
    let folder_text = folder.display().to_string();
    let options = [
        folder_text.as_str(),
        "--image",
        "r.example/app",
        "-t",
        "one",
        "--build-arg",
        "WHO=world",
        "--secret",
        &secret,
        "--output",
        &output,
    ];
    let ended = bench.builder_of_the_file(&options);
    let status = ended.status(0);
    assert_eq!(status["tags"], json!(["one"]));
    assert!(
        status["image"]
            .as_str()
            .unwrap()
            .starts_with("r.example/app@sha256:")
    );
    let seen = bench.whittle(&["inspect", &format!("docker-archive:{}", archive.display())]);
    assert!(seen.contains("/bin/cat"), "{seen}");
    let manifest = bench.out_of_tar(&archive, "manifest.json");
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest[0]["RepoTags"], json!(["r.example/app:one"]));
    let names = bench.files_of(&archive, &manifest[0]["Layers"]);
    assert!(
        names.contains(&"app/kept".into()) && names.contains(&"who".into()),
        "{names:?}"
    );
    assert!(!names.contains(&"app/left".into()), "{names:?}");
    // What breaks its contract is written nowhere.
    fs::write(folder.join("Dockerfile"), "FROM scratch\nCOPY kept /\n").unwrap();
    fs::remove_file(&archive).unwrap();
    let failure = bench.builder_of_the_file(&options).status(1)["failure"].clone();
    assert_eq!(failure["reason"], "ContractBroken", "{failure:#}");
    assert!(!archive.exists());
}

#[tokio::test]
async fn a_commit_of_git_and_files_of_a_config_map_are_built() {
    let bench = Bench::new();
    let repository = Repository::new(&format!("local-{}", std::process::id()));
    let dockerfile = "FROM busybox:1.36\nCOPY file /\nCMD [\"cat\", \"/file\"]\n";
    let commit = repository.commit(&[("Dockerfile", dockerfile), ("file", "x")], "main");
    let url = repository
        .url
        .replace(&variable("GIT_URL"), &variable("GIT_HOST_URL"));
    let spec = json!({"source": {"git": {"url": url, "ref": {"branch": "main"}}},
        "output": {"image": bench.image("git"), "tags": ["$(SHORT_COMMIT)"]}});
    let ended = bench.build(&manifest("git", &spec), &["--push"]);
    let status = ended.status(0);
    assert_eq!(
        status["revision"],
        json!(format!("main@sha1:{commit}")),
        "{}",
        ended.said
    );
    assert_eq!(status["tags"], json!([&commit[..7]]));
    let spec = json!({"source": {"configMap": {"name": "files"}}, "output": {"image": bench.image("map")}});
    let map = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "files"},
        "data": {"Dockerfile": SAME}});
    let text = format!("{}---\n{map}\n", manifest("map", &spec));
    let status = bench.build(&text, &["--push"]).status(0);
    assert!(
        status["revision"]
            .as_str()
            .unwrap()
            .starts_with("configmap@sha256:")
    );
    let ended = bench.build(&text, &["--push", "--progress", "rawjson"]);
    ended.status(0);
    let lines: Vec<Value> = (ended.said.lines())
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect();
    assert!(
        lines.iter().any(|line| line["vertexes"].is_array()),
        "{}",
        ended.said
    );
    let said = bench.build(&manifest("map", &spec), &["--push"]).said(2);
    assert!(
        said.contains("ConfigMap files of source.configMap not found"),
        "{said}"
    );
}

#[tokio::test]
async fn a_daemon_ends_with_its_build_however_that_ends() {
    let bench = Bench::new();
    let spec = json!({"source": {"inline": {"files": {"Dockerfile": "FROM busybox:1.36\nRUN sleep 1000\n"}}},
        "output": {"image": bench.image("slow")}, "timeout": "24h"});
    for (signal, code) in [("INT", Some(130)), ("TERM", Some(143)), ("KILL", None)] {
        let mut running = bench.start(&manifest("slow", &spec), &["--push"]);
        running.says("RUN sleep 1000");
        running.signal(signal);
        assert_eq!(running.end(), code, "{signal}");
        bench.nothing_is_left(signal);
    }
    let ended = bench.build(&manifest("slow", &spec), &["--push", "--timeout", "3s"]);
    let failure = ended.status(124)["failure"].clone();
    assert_eq!(failure["reason"], "Timeout");
    assert!(
        failure["message"]
            .as_str()
            .unwrap()
            .contains("did not end within 3s"),
        "{failure:#}"
    );
    bench.nothing_is_left("the end of its time");
}

#[tokio::test]
async fn wrong_use_is_told_before_anything_is_built() {
    let bench = Bench::new();
    let spec = json!({"source": {"inline": {"files": {"Dockerfile": SAME}}}, "output": {"image": bench.image("x")}});
    let text = manifest("x", &spec);
    for (options, words) in [
        (
            &[][..],
            "--push pushes it to its repository; --output oci:DIRECTORY",
        ),
        (
            &["--push", "--builder", "nowhere:1"],
            "--builder: invalid address nowhere:1",
        ),
        (&["--push", "--name", "other"], "ImageBuild other not found"),
        (
            &["--push", "--image", "r.example/x:1"],
            "without tag and digest",
        ),
        (&["--output", "oci:/proc"], "/proc is not an OCI layout"),
        (
            &["--push", "--timeout", "1d"],
            "timeout: invalid duration: write one between 1s and 24h",
        ),
    ] {
        let said = bench.build(&text, options).said(2);
        assert!(said.contains(words), "{options:?}: {said}");
    }
    let Ended { said, .. } = bench.without_programs(&text, &["--push"]);
    assert!(
        said.contains("buildctl not found: it is in the archive of"),
        "{said}"
    );
}
