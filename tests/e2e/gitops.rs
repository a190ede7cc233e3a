//! The walk of docs/gitops.md: two commits come to run, by the files of that page. The steps between the image and the Pod are Flux's; the test
//! takes them by the rules that Flux documents.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use regex::Regex;
use serde_json::{Value, json};
use whittle_api::{ImageBuild, ImageBuildStatus, TriggerReason};

use crate::field::{Field, Repository, variable};
use crate::guard::{allow_in, deny_in, refusal};
use crate::registry::manifest;
use crate::triggers::{forge, post};

const PAGE: &str = include_str!("../../docs/gitops.md");
const SECTION: &str = "## From a commit to a running Pod, with Flux\n";

/// The fenced blocks of the section: language and text.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let (_, section) = PAGE.split_once(SECTION).expect("the page has the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let fenced = section.split("\n```").skip(1).step_by(2);
    fenced
        .filter_map(|block| block.split_once('\n'))
        .map(|(language, text)| (language.trim(), text))
        .collect()
}

/// The files of this repository, as the page has them: path and text.
fn files(repository: &str) -> BTreeMap<&'static str, &'static str> {
    let mark = format!("# {repository}: ");
    let named = blocks().into_iter().filter_map(|(_, text)| {
        let (first, rest) = text.split_once('\n')?;
        Some((first.strip_prefix(&mark)?, rest))
    });
    named.collect()
}

/// The only block of this language that is no file.
fn snippet(language: &str) -> &'static str {
    let mut found = blocks()
        .into_iter()
        .filter(|(it, text)| *it == language && !text.starts_with("# "));
    let (_, text) = found.next().expect("the page has it");
    assert!(found.next().is_none(), "more than one block of {language}");
    text
}

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple::<Value>(text).unwrap()
}

/// The object of this kind in the files.
fn object(files: &BTreeMap<&str, String>, kind: &str) -> Value {
    let mut all = files.values().flat_map(|text| documents(text));
    all.find(|object| object["kind"] == kind)
        .unwrap_or_else(|| panic!("the page has no {kind}"))
}

/// What an ImagePolicy of numbers makes of the tags of a repository.
fn newest<'a>(policy: &Value, tags: &'a [String]) -> Option<&'a str> {
    let filter = &policy["filterTags"];
    let pattern = Regex::new(filter["pattern"].as_str().unwrap()).unwrap();
    let extract = filter["extract"].as_str().unwrap();
    let number = |tag: &str| {
        let mut number = String::new();
        pattern.captures(tag)?.expand(extract, &mut number);
        number.parse::<f64>().ok()
    };
    let numbered = tags.iter().filter_map(|tag| Some((number(tag)?, tag)));
    let by_number = |one: &(f64, &String), other: &(f64, &String)| one.0.total_cmp(&other.0);
    let found = match policy["policy"]["numerical"]["order"].as_str().unwrap() {
        "asc" => numbered.max_by(by_number),
        "desc" => numbered.min_by(by_number),
        other => panic!("no order of Flux: {other}"),
    };
    found.map(|(_, tag)| tag.as_str())
}

/// What the strategy Setters makes of a file: the field before each comment that names the policy is the image.
fn set(text: &str, policy: &str, image: &str) -> String {
    let line = |line: &str| {
        let marked = || {
            let (field, comment) = line.split_once(" # ")?;
            let marker: Value = serde_json::from_str(comment).ok()?;
            let (name, _) = field.split_once(": ")?;
            (marker["$imagepolicy"] == policy).then(|| format!("{name}: {image} # {comment}"))
        };
        marked().unwrap_or_else(|| line.to_owned()) + "\n"
    };
    text.lines().map(line).collect()
}

async fn tags(image: &str) -> Vec<String> {
    let (_, repository) = image.split_once('/').unwrap();
    let url = format!(
        "http://{}/v2/{repository}/tags/list",
        variable("REGISTRY_HOST")
    );
    let list: Value = reqwest::get(&url).await.unwrap().json().await.unwrap();
    serde_json::from_value(list["tags"].clone()).unwrap()
}

/// A walk: the two repositories, and what the page calls otherwise.
struct Walk<'a> {
    field: &'a Field,
    hello: Repository,
    fleet: Repository,
}

impl<'a> Walk<'a> {
    fn new(field: &'a Field) -> Self {
        Self {
            field,
            hello: Repository::new(&format!("{}/hello", field.namespace)),
            fleet: Repository::new(&format!("{}/fleet", field.namespace)),
        }
    }

    /// With the names that things have here.
    fn here(&self, text: &str) -> String {
        [
            ("registry.example.com/team/hello", self.field.image("hello")),
            (
                "https://git.example.com/team/hello.git",
                self.hello.url.clone(),
            ),
            (
                "https://git.example.com/team/fleet.git",
                self.fleet.url.clone(),
            ),
            (
                "namespace: team",
                format!("namespace: {}", self.field.namespace),
            ),
            ("team:hello", format!("{}:hello", self.field.namespace)),
            ("team/hello", format!("{}/hello", self.field.namespace)),
        ]
        .into_iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, &to))
    }

    /// What stands in the repository `fleet` now.
    fn fleet(&self) -> BTreeMap<&'static str, String> {
        let read = |path| std::fs::read_to_string(self.fleet.tree().join(path)).unwrap();
        files("fleet")
            .into_keys()
            .map(|path| (path, read(path)))
            .collect()
    }

    fn push_page(&self, text: &str) -> String {
        let dockerfile = files("hello")["Dockerfile"];
        self.hello.commit(
            &[("Dockerfile", dockerfile), ("index.html", text)],
            "refs/heads/main",
        )
    }

    /// Flux from the image to the cluster: the image that it has chosen.
    async fn flux(&self) -> String {
        let fleet = self.fleet();
        let policy = object(&fleet, "ImagePolicy");
        let scanned = object(&fleet, "ImageRepository");
        assert_eq!(
            policy["spec"]["imageRepositoryRef"]["name"],
            scanned["metadata"]["name"]
        );
        assert_eq!(policy["spec"]["digestReflectionPolicy"], "IfNotPresent");
        let image = scanned["spec"]["image"].as_str().unwrap();
        let tags = tags(image).await;
        let tag = newest(&policy["spec"], &tags).unwrap_or_else(|| panic!("none of {tags:?}"));
        let (digest, _) = manifest(image, tag).await;
        let chosen = format!("{image}:{tag}@{digest}");
        let automation = object(&fleet, "ImageUpdateAutomation");
        let below = automation["spec"]["update"]["path"].as_str().unwrap();
        let below = below.trim_start_matches("./");
        let name = format!(
            "{}:{}",
            self.field.namespace,
            policy["metadata"]["name"].as_str().unwrap()
        );
        let changed: Vec<(&str, String)> = fleet
            .iter()
            .filter(|(path, _)| path.starts_with(below))
            .map(|(path, text)| (*path, set(text, &name, &chosen)))
            .collect();
        let changed: Vec<(&str, &str)> = changed
            .iter()
            .map(|(path, text)| (*path, text.as_str()))
            .collect();
        self.fleet.commit(&changed, "refs/heads/main");
        self.apply("apps").await;
        chosen
    }

    /// What this Kustomization applies: the files below its path, but for Flux's own kinds.
    async fn apply(&self, kustomization: &str) {
        let fleet = self.fleet();
        let mut all = fleet.values().flat_map(|text| documents(text));
        let found =
            all.find(|it| it["kind"] == "Kustomization" && it["metadata"]["name"] == kustomization);
        let found =
            found.unwrap_or_else(|| panic!("the page has no Kustomization {kustomization}"));
        let below = found["spec"]["path"]
            .as_str()
            .unwrap()
            .trim_start_matches("./");
        for object in fleet
            .iter()
            .filter(|(path, _)| path.starts_with(below))
            .flat_map(|(_, text)| documents(text))
            .filter(|object| {
                !object["apiVersion"]
                    .as_str()
                    .unwrap()
                    .contains(".fluxcd.io/")
            })
        {
            assert_eq!(
                object["metadata"]["namespace"],
                self.field.namespace.as_str()
            );
            self.field.create(object).await;
        }
    }

    /// The Deployment has no other Pod than one that is Ready and runs this digest; the page that it shows.
    async fn runs(&self, digest: &str) -> String {
        let deployments = self.field.api::<Deployment>();
        let what = format!("the Deployment runs {digest}");
        let address = self
            .field
            .until(&what, async || {
                let deployment = deployments.get("hello").await.unwrap();
                let status = deployment.status?;
                let seen = status.observed_generation == deployment.metadata.generation;
                if !seen
                    || status.updated_replicas != Some(1)
                    || status.available_replicas != Some(1)
                {
                    return None;
                }
                let labels = ListParams::default().labels("app=hello");
                let pods = self.field.api::<Pod>().list(&labels).await.unwrap().items;
                let mut running = pods
                    .into_iter()
                    .filter(|pod| pod.metadata.deletion_timestamp.is_none());
                let status = running.next()?.status?;
                let of = status.container_statuses?.remove(0);
                (running.next().is_none() && of.image_id.ends_with(digest))
                    .then_some(status.pod_ip?)
            })
            .await;
        let url = format!("http://{address}:8080/");
        self.field.exec("forge", &["wget", "-q", "-O", "-", &url])
    }
}

/// Build `number` has ended well, from this commit: what its status says.
async fn built(field: &Field, number: i64, commit: &str) -> ImageBuildStatus {
    let status = field.succeeds_again("hello", number).await;
    assert_eq!(status.revision, Some(format!("main@sha1:{commit}")));
    let tag = format!("main-{}-{number}", &commit[..7]);
    assert_eq!(status.tags.as_deref(), Some(&[tag][..]));
    status
}

#[tokio::test]
async fn two_commits_come_to_run_by_the_files_of_the_page_and_a_probe_that_cannot_is_refused() {
    let field = Field::new("gitops").await;
    deny_in(&field).await;
    forge(&field).await;
    let walk = Walk::new(&field);
    let first = walk.push_page("the first page\n");
    let files: Vec<(&str, String)> = files("fleet")
        .into_iter()
        .map(|(path, text)| (path, walk.here(text)))
        .collect();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (*path, text.as_str()))
        .collect();
    walk.fleet.commit(&files, "refs/heads/main");
    // Whittle's part, and with it what the other files say of it.
    let fleet = walk.fleet();
    let build: ImageBuild = serde_json::from_value(object(&fleet, "ImageBuild")).unwrap();
    assert_eq!(
        object(&fleet, "ImageRepository")["spec"]["image"],
        build.spec.output.image.as_str()
    );
    let git = object(&fleet, "GitRepository");
    assert_eq!(git["spec"]["url"], walk.fleet.url.as_str());
    assert_eq!(
        object(&fleet, "ImageUpdateAutomation")["spec"]["sourceRef"]["name"],
        git["metadata"]["name"]
    );
    walk.apply("images").await;
    let status = built(&field, 1, &first).await;
    assert_eq!(status.trigger.as_ref().unwrap().reason, TriggerReason::Spec);
    let chosen = walk.flux().await;
    let digest = status.digest.clone().unwrap();
    assert_eq!(
        chosen,
        format!("{}:main-{}-1@{digest}", field.image("hello"), &first[..7])
    );
    assert_eq!(walk.runs(&digest).await, "the first page");

    // The second one, as soon as the server tells of it.
    field.is_looked_at("hello").await;
    let second = walk.push_page("the second page\n");
    let path = status.webhook.unwrap().path;
    assert_eq!(post(&field, &path, "main"), "accepted");
    let status = built(&field, 2, &second).await;
    let trigger = status.trigger.unwrap();
    assert_eq!(trigger.detail, format!("main@sha1:{second}"));
    assert!(
        matches!(
            trigger.reason,
            TriggerReason::Webhook | TriggerReason::Commit
        ),
        "{trigger:?}"
    );
    let chosen = walk.flux().await;
    let digest = status.digest.unwrap();
    assert_eq!(
        chosen,
        format!("{}:main-{}-2@{digest}", field.image("hello"), &second[..7])
    );
    assert_eq!(walk.runs(&digest).await, "the second page");

    // Neither of them is created where its name is taken: they have names of their own, and are not created either.
    let probe: Value = documents(snippet("yaml")).remove(0);
    let mut wrong = object(&walk.fleet(), "Deployment");
    wrong["metadata"]["name"] = json!("wrong");
    let container = &mut wrong["spec"]["template"]["spec"]["containers"][0];
    json_patch::merge(container, &probe);
    let said = field
        .until("the guard knows the image", async || {
            refusal(&field, "Deployment", &wrong).await
        })
        .await;
    let on_page = walk
        .here(snippet("text").trim())
        .replace("sha256:…", &digest);
    assert!(said.ends_with(&on_page), "{said}\nand not\n{on_page}");
    let mut right = object(&walk.fleet(), "Deployment");
    right["metadata"]["name"] = json!("right");
    assert_eq!(refusal(&field, "Deployment", &right).await, None);
    // Flux's commits are none to the source: two builds, and no more.
    let status = field
        .api::<ImageBuild>()
        .get("hello")
        .await
        .unwrap()
        .status
        .unwrap();
    assert_eq!(status.build, Some(2));
    allow_in(&field).await;
    field.close().await;
}

fn policy() -> Value {
    let files = files("fleet");
    let files = files
        .into_iter()
        .map(|(path, text)| (path, text.to_owned()));
    object(&files.collect(), "ImagePolicy")["spec"].clone()
}

#[test]
fn the_newest_of_the_pages_policy_is_the_highest_number_and_not_the_last_in_the_alphabet() {
    let tags = [
        "latest",
        "main-fffffff-9",
        "main-0000000-10",
        "main-00fe112-2",
        "main",
        "next-0000000-11",
        "main-0000000-12-debug",
        "sha256-0000.sig",
        "main-XYZ-13",
    ]
    .map(str::to_owned);
    assert_eq!(newest(&policy(), &tags), Some("main-0000000-10"));
    let mut alphabet = tags.to_vec();
    alphabet.sort();
    assert!(
        alphabet.iter().rposition(|it| it == "main-fffffff-9")
            > alphabet.iter().rposition(|it| it == "main-0000000-10")
    );
    assert_eq!(newest(&policy(), &tags[..1]), None);
}

#[test]
fn a_setter_writes_the_image_where_its_policy_is_named_and_nowhere_else() {
    let text = "# image: a\n- image: a:1 # {\"$imagepolicy\": \"team:hello\"}\n- image: b:1 # {\"$imagepolicy\": \"team:other\"}\n- image: c # kept\n";
    let expected = text.replace("a:1", "a:main-0-2@sha256:00");
    assert_eq!(set(text, "team:hello", "a:main-0-2@sha256:00"), expected);
}

#[test]
fn the_page_has_the_files_of_both_repositories() {
    assert_eq!(
        files("hello").into_keys().collect::<Vec<_>>(),
        ["Dockerfile"]
    );
    assert_eq!(
        files("fleet").into_keys().collect::<Vec<_>>(),
        [
            "apps/hello.yaml",
            "flux.yaml",
            "images/automation.yaml",
            "images/hello.yaml",
            "images/policy.yaml"
        ]
    );
    for (path, text) in files("fleet") {
        assert!(!documents(text).is_empty(), "{path}");
    }
}
