//! What starts a build besides people, and what ends one: a commit that is seen, a schedule, the annotation
//! whittle.dev/cancel.

use std::process::Command;
use std::time::Instant;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use whittle_api::{ImageBuild, ImageBuildStatus, TRIGGERS, TriggerReason, find};

use crate::faults::{arguments_of, processes_of};
use crate::field::{Field, Repository, variable};
use crate::registry::{files_of, manifest};
use crate::ssh::{section, serve};

const COPY: &str = "FROM scratch\nCOPY . /src/\n";

impl Field {
    pub async fn annotate(&self, name: &str, annotation: &str, value: Value) {
        let patch = json!({"metadata": {"annotations": {annotation: value}}});
        self.change(name, patch).await;
    }

    pub async fn change(&self, name: &str, patch: Value) {
        self.api::<ImageBuild>()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    pub async fn status(&self, name: &str) -> ImageBuildStatus {
        let build = self.api::<ImageBuild>().get(name).await.unwrap();
        build.status.unwrap_or_default()
    }

    /// Once this revision is in the image: what its status says.
    pub async fn has_built(&self, name: &str, revision: &str) -> ImageBuildStatus {
        self.until(&format!("{name} is built from {revision}"), async || {
            let status = self.status(name).await;
            let newest = status.revision.as_deref() == Some(revision);
            (newest && status.current.is_none()).then_some(status)
        })
        .await
    }

    /// Runs a command in a Pod.
    pub fn exec(&self, pod: &str, command: &[&str]) -> String {
        let output = Command::new("kubectl")
            .args(["exec", "--namespace", &self.namespace, pod, "--"])
            .args(command)
            .output()
            .unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The source has been looked at: what moves from now on is news.
    pub async fn is_looked_at(&self, name: &str) {
        self.triggers(name, "TriggersWork").await;
    }

    /// What the condition of the triggers says, once it says this.
    pub async fn triggers(&self, name: &str, reason: &str) -> String {
        self.until(
            &format!("the triggers of {name} are {reason}"),
            async || {
                let status = self.status(name).await;
                let told = find(&status.conditions, TRIGGERS)?;
                (told.reason == reason).then(|| told.message.clone())
            },
        )
        .await
    }
}

/// Starts a Pod from which a git server would post.
pub async fn forge(field: &Field) {
    field
        .create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "forge"}, "spec": {"terminationGracePeriodSeconds": 0,
            "containers": [{"name": "forge", "image": "busybox:1.36", "command": ["sleep", "3600"]}]}}))
        .await;
}

/// Posts to this path that a branch was pushed to, as GitHub does; the answer.
pub fn post(field: &Field, path: &str, branch: &str) -> String {
    let body = json!({"ref": format!("refs/heads/{branch}"), "before": "0", "after": "1", "repository": {"full_name": "team/hello"}});
    let url = format!("http://whittle.whittle-system.svc:8090{path}");
    let headers = ["Content-Type: application/json", "X-GitHub-Event: push"];
    let mut command = vec!["wget", "-q", "-O", "-"];
    for header in headers {
        command.extend(["--header", header]);
    }
    let body = body.to_string();
    command.extend(["--post-data", &body, &url]);
    field.exec("forge", &command)
}

fn watcher() -> &'static str {
    "whittle-builder-default-watcher"
}

#[tokio::test]
async fn a_commit_to_a_private_repository_is_seen_and_built_and_the_watcher_goes_with_the_trigger()
{
    let field = Field::new("poll").await;
    let password = std::fs::read_to_string(variable("GIT_PASSWORD_FILE")).unwrap();
    field
        .create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git"}, "type": "kubernetes.io/basic-auth",
            "stringData": {"username": variable("GIT_USER"), "password": password.trim()}}))
        .await;
    let repository = Repository::new(&format!("private/{}", field.namespace));
    let first = repository.commit(&[("Dockerfile", COPY), ("text", "one")], "refs/heads/main");
    let source = json!({"git": {"url": repository.url, "ref": {"branch": "main"}, "secretRef": {"name": "git"}}});
    let polled = json!({"triggers": {"poll": {"interval": "10s"}}});
    field.apply("hello", source.clone(), polled).await;
    // One whose branch does not exist yet says so, and is built once it does.
    let mut other = source;
    other["git"]["ref"] = json!({"branch": "next"});
    let patch = json!({"triggers": {"poll": {"interval": "10s"}}, "suspend": true});
    field.apply("next", other, patch).await;
    let status = field.succeeds("hello").await;
    assert_eq!(status.revision.unwrap(), format!("main@sha1:{first}"));
    assert_eq!(status.trigger.unwrap().reason, TriggerReason::Spec);
    field.triggers("hello", "TriggersWork").await;
    let said = field.triggers("next", "SourceNotFound").await;
    assert!(
        said.contains("next") && said.contains(&repository.url),
        "{said}"
    );

    let second = repository.commit(&[("text", "two")], "refs/heads/main");
    let status = field.succeeds_again("hello", 2).await;
    let revision = format!("main@sha1:{second}");
    assert_eq!(status.revision.as_deref(), Some(revision.as_str()));
    let trigger = status.trigger.unwrap();
    assert_eq!(
        (trigger.reason, trigger.detail),
        (TriggerReason::Commit, revision)
    );
    let files = files_of(&field.image("hello"), &status.digest.unwrap()).await;
    assert_eq!(files["src/text"], b"two");
    // Asked for once more: the same image, whose tags are not written again.
    field.request("hello").await;
    let status = field.succeeds_again("hello", 3).await;
    assert_eq!(status.trigger.unwrap().reason, TriggerReason::Request);
    assert!(status.history[0].unchanged && !status.history[1].unchanged);
    repository.commit(&[("text", "three")], "refs/heads/next");
    field.triggers("next", "TriggersWork").await;
    field
        .change("next", json!({"spec": {"suspend": false}}))
        .await;
    field.succeeds("next").await;
    // Looked at again and again, and built no more.
    assert_eq!(field.status("hello").await.build, Some(3));

    let deployments = field.api::<Deployment>();
    let pod = deployments
        .get(watcher())
        .await
        .unwrap()
        .spec
        .unwrap()
        .template
        .spec
        .unwrap();
    assert_eq!(pod.automount_service_account_token, Some(false));
    let mounted = pod
        .volumes
        .unwrap()
        .into_iter()
        .filter_map(|it| it.secret?.secret_name);
    let mounted: Vec<String> = mounted.collect();
    assert_eq!(
        mounted,
        ["whittle-builder-default-client", watcher(), "git"]
    );
    // A Secret that nobody has created: the next Pod has a place for it, and until then nothing is said of it.
    let mut lost = json!({"git": {"url": repository.url, "ref": {"branch": "main"}}});
    lost["git"]["secretRef"] = json!({"name": "lost"});
    let patch = json!({"triggers": {"poll": {"interval": "10s"}}, "suspend": true});
    field.apply("lost", lost, patch).await;
    let said = field.triggers("lost", "SourceDenied").await;
    assert!(said.contains("Secret lost not found"), "{said}");

    for name in ["hello", "next", "lost"] {
        field
            .change(name, json!({"spec": {"triggers": null}}))
            .await;
    }
    field
        .until("the watcher has gone, and its Secret", async || {
            let gone = deployments.get_opt(watcher()).await.unwrap().is_none();
            let secret = field.api::<Secret>().get_opt(watcher()).await.unwrap();
            (gone && secret.is_none()).then_some(())
        })
        .await;
    field.close().await;
}

#[tokio::test]
async fn a_build_that_is_canceled_ends_its_step_and_the_next_request_builds_again() {
    let field = Field::new("cancel").await;
    let base = "busybox:1.36";
    let slow = format!("FROM {base}\nARG SECONDS=987\nRUN sleep $SECONDS\n");
    field
        .build("slow", json!({"Dockerfile": slow}), json!({}))
        .await;
    field.step_runs("slow", "sleep").await;
    let daemon = field.api::<k8s_openapi::api::core::v1::Pod>();
    let daemon = daemon
        .get("whittle-builder-default-0")
        .await
        .unwrap()
        .metadata
        .uid
        .unwrap();
    let sleeps = || {
        let mut processes = processes_of(&daemon).into_iter();
        processes.any(|it| arguments_of(it).nth(1).as_deref() == Some("987"))
    };
    field
        .until("the step's process runs", async || sleeps().then_some(()))
        .await;
    field
        .annotate("slow", "whittle.dev/cancel", json!("1"))
        .await;
    let status = field.ready("slow", "False", "Canceled").await;
    assert_eq!(status.history[0].result, "Canceled");
    assert_eq!(status.digest, None);
    field
        .until("the step's process has gone", async || {
            (!sleeps()).then_some(())
        })
        .await;
    field
        .change("slow", json!({"spec": {"buildArgs": {"SECONDS": "0"}}}))
        .await;
    let status = field.succeeds_again("slow", 2).await;
    assert_eq!(status.trigger.unwrap().reason, TriggerReason::Spec);
    field.close().await;
}

#[tokio::test]
async fn a_base_image_that_moves_is_built_from_again_whatever_leads_to_it() {
    let field = Field::new("bases").await;
    let both = json!({"platforms": ["linux/amd64", "linux/arm64"]});
    let base = |text: &str| json!({"Dockerfile": COPY, "text": text});
    for name in ["base", "tool", "idle"] {
        field.build(name, base("one"), both.clone()).await;
    }
    for name in ["base", "tool", "idle"] {
        field.succeeds(name).await;
    }
    let [base_image, tool, idle] =
        ["base", "tool", "idle"].map(|name| format!("{}:latest", field.image(name)));
    // An ARG in FROM, a stage that nothing needs, one image twice, one that is copied from, and one by its digest.
    let (fixed, _) = manifest(&field.image("idle"), "latest").await;
    let dockerfile = format!(
        "ARG BASE={base_image}\nFROM ${{BASE}} AS first\nFROM {idle} AS unused\nFROM --platform=$BUILDPLATFORM {base_image} AS again\n\
         FROM {}@{fixed} AS fixed\nFROM scratch\nCOPY --from=first /src/text /first\nCOPY --from=again /src/text /again\n\
         COPY --from=fixed /src/text /fixed\nCOPY --from={tool} /src/text /tool\n",
        field.image("idle"),
    );
    let mut more = both.clone();
    more["triggers"] = json!({"baseImages": {"interval": "10s"}});
    field
        .build("app", json!({"Dockerfile": dockerfile}), more)
        .await;
    let status = field.succeeds("app").await;
    let vertexes: Vec<String> = field.runner_log("app").await;
    // The unit tests of rawjson.rs have these lines.
    std::fs::write("target/bases.txt", vertexes.join("\n")).unwrap();
    let mut bases: Vec<_> = status
        .bases
        .iter()
        .map(|base| (base.image.clone(), base.digest.clone(), base.stage.clone()))
        .collect();
    bases.sort();
    let digest = async |name: &str| manifest(&field.image(name), "latest").await.0;
    let stages: Vec<_> = bases.iter().map(|(.., stage)| stage.clone()).collect();
    assert_eq!(bases.len(), 2, "{bases:#?}\n{vertexes:#?}");
    assert_eq!(
        (&bases[0].0, &bases[0].1),
        (&base_image, &digest("base").await),
        "{vertexes:#?}"
    );
    assert_eq!(
        (&bases[1].0, &bases[1].1),
        (&tool, &digest("tool").await),
        "{vertexes:#?}"
    );
    assert!(
        matches!(stages[0].as_deref(), Some("first" | "again")),
        "{stages:?}\n{vertexes:#?}"
    );
    assert_eq!(stages[1], None, "{vertexes:#?}");
    field.triggers("app", "TriggersWork").await;

    for (number, name) in [(2, "base"), (3, "tool")] {
        field.build(name, base("two"), both.clone()).await;
        let moved = field.succeeds_again(name, 2).await.digest.unwrap();
        let status = field.succeeds_again("app", number).await;
        let trigger = status.trigger.unwrap();
        assert_eq!(trigger.reason, TriggerReason::BaseImage);
        let image = format!("{}:latest", field.image(name));
        assert!(
            trigger
                .detail
                .starts_with(&format!("{image} is {moved}, and was ")),
            "{}",
            trigger.detail
        );
        let base = status
            .bases
            .iter()
            .find(|base| base.image == image)
            .unwrap();
        assert_eq!((&base.digest, &base.seen), (&moved, &None));
    }
    // What nothing was built from moves nothing.
    field.build("idle", base("two"), both).await;
    field.succeeds_again("idle", 2).await;
    tokio::time::sleep(std::time::Duration::from_secs(25)).await;
    assert_eq!(field.status("app").await.build, Some(3));
    field.close().await;
}

impl Field {
    /// The lines of the runner's log that name images.
    async fn runner_log(&self, name: &str) -> Vec<String> {
        let pod = self.runner_any(name).await.unwrap().metadata.name.unwrap();
        let log = self.log(&pod).await;
        log.lines()
            .filter(|line| line.contains("FROM "))
            .map(str::to_owned)
            .collect()
    }
}

#[tokio::test]
async fn a_webhook_has_a_push_built_as_soon_as_a_request_would() {
    const PUSHES: usize = 5;
    let field = Field::new("webhook").await;
    forge(&field).await;
    let repository = Repository::new(&field.namespace);
    repository.commit(&[("Dockerfile", COPY), ("text", "0")], "refs/heads/main");
    let source = json!({"git": {"url": repository.url, "ref": {"branch": "main"}}});
    field
        .apply(
            "hello",
            source.clone(),
            json!({"triggers": {"webhook": {}}}),
        )
        .await;
    field.apply("asked", source, json!({})).await;
    let path = field.succeeds("hello").await.webhook.unwrap().path;
    field.succeeds("asked").await;
    let deployments = field.api::<Deployment>();
    field
        .until("the watcher runs", async || {
            let watcher = deployments.get_opt(watcher()).await.unwrap()?;
            (watcher.status?.ready_replicas? > 0).then_some(())
        })
        .await;
    // It has looked once, and looks again when somebody posts.
    field.triggers("hello", "TriggersWork").await;
    let mut times = [vec![], vec![]];
    for push in 0..PUSHES {
        let text = format!("push {push}");
        let commit = repository.commit(&[("text", &text)], "refs/heads/main");
        let revision = format!("main@sha1:{commit}");
        let begun = Instant::now();
        assert_eq!(post(&field, &path, "main"), "accepted");
        let status = field.has_built("hello", &revision).await;
        times[0].push(begun.elapsed().as_secs_f64());
        assert_eq!(status.trigger.unwrap().reason, TriggerReason::Webhook);
        let begun = Instant::now();
        field.request("asked").await;
        field.has_built("asked", &revision).await;
        times[1].push(begun.elapsed().as_secs_f64());
    }
    let [hook, request] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[PUSHES / 2]
    });
    let text = format!(
        "| by | median of {PUSHES}, s |\n|---|---:|\n| webhook | {hook:.1} |\n| request | {request:.1} |\n"
    );
    std::fs::write("target/triggers-webhook.md", text).unwrap();
    // Another branch, and somebody who guesses the path: nothing is built.
    repository.commit(&[("text", "other")], "refs/heads/other");
    assert_eq!(post(&field, &path, "other"), "accepted");
    let url = format!("http://whittle.whittle-system.svc:8090{path}");
    let (rest, last) = url.split_at(url.len() - 1);
    let guessed = format!("{rest}{}", if last == "A" { "E" } else { "A" });
    let body = ["wget", "-q", "-O", "-", "--post-data", "{}", &guessed];
    let refused = Command::new("kubectl")
        .args(["exec", "--namespace", &field.namespace, "forge", "--"])
        .args(body)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("404"), "{said}");
    assert_eq!(
        field.status("hello").await.build,
        Some(1 + i64::try_from(PUSHES).unwrap())
    );
    field.close().await;
}

#[tokio::test]
async fn the_newest_version_in_a_range_is_built_and_no_version_beyond_it() {
    let field = Field::new("semver").await;
    let repository = Repository::new(&field.namespace);
    let release = |version: &str| {
        let commit = repository.commit(
            &[("Dockerfile", COPY), ("text", version)],
            "refs/heads/main",
        );
        repository.tag(version);
        format!("{version}@sha1:{commit}")
    };
    release("v1.0.0");
    let newest = release("v1.1.0");
    release("v2.0.0");
    let source = json!({"git": {"url": repository.url, "ref": {"semver": ">=1 <2"}}});
    let polled = json!({"triggers": {"poll": {"interval": "10s"}}});
    field.apply("hello", source, polled).await;
    let status = field.succeeds("hello").await;
    assert_eq!(status.revision.as_deref(), Some(newest.as_str()));
    field.triggers("hello", "TriggersWork").await;
    release("v2.1.0");
    let next = release("v1.2.0");
    let status = field.has_built("hello", &next).await;
    assert_eq!(
        (status.build, status.trigger.unwrap().reason),
        (Some(2), TriggerReason::Commit)
    );
    let files = files_of(&field.image("hello"), &status.digest.unwrap()).await;
    assert_eq!(files["src/text"], b"v1.2.0");
    field.close().await;
}

#[tokio::test]
async fn a_repository_that_is_read_by_ssh_is_polled() {
    let field = Field::new("sshpoll").await;
    let (host, log) = serve(&field).await;
    let known = format!("{host} {}", section(&log, "host").unwrap());
    field
        .create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git"}, "type": "kubernetes.io/ssh-auth",
            "stringData": {"ssh-privatekey": section(&log, "user").unwrap(), "known_hosts": known}}))
        .await;
    let url = format!("ssh://root@{host}/srv/hello.git");
    let source =
        json!({"git": {"url": url, "ref": {"branch": "main"}, "secretRef": {"name": "git"}}});
    let polled = json!({"triggers": {"poll": {"interval": "10s"}}});
    field.apply("hello", source, polled).await;
    field.succeeds("hello").await;
    field.triggers("hello", "TriggersWork").await;
    let commit = "cd /tmp/tree && echo again > kept && git -c user.name=e2e -c user.email=e2e@example.com commit -qam again \
        && git push -q /srv/hello.git HEAD:main && git rev-parse HEAD";
    let commit = field.exec("sshd", &["sh", "-c", commit]);
    let status = field
        .has_built("hello", &format!("main@sha1:{commit}"))
        .await;
    assert_eq!(
        (status.build, status.trigger.unwrap().reason),
        (Some(2), TriggerReason::Commit)
    );
    field.close().await;
}
