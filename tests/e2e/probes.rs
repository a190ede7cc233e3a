//! `whittle probes`, as people run it: the program itself, on files, with a registry and a cluster to ask.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use whittle_api::ImageBuildStatus;

use crate::field::{Field, registry, variable};
use crate::guard::{allow_in, deny_in, image_with, refusal};

/// A Deployment whose liveness probe is to be put in.
const MANIFEST: &str = "\
# The shop.
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      containers:
        - name: app
          image: IMAGE
          livenessProbe: # is it alive?
            periodSeconds: 5
            exec: # asks
              command: COMMAND
          lifecycle:
            preStop:
              exec:
                command: [HOOK, '5'] # until nobody calls
";
/// Commands for it: one that the image has, one that has a fix of its own, and one that has none.
const RIGHT: &str = "[/app, health]";
const CURL: &str = "[curl, -f, 'http://localhost:8080/healthz']";
const CHECK: &str = "[/bin/check]";

fn manifest(image: &str, command: &str) -> String {
    // The hook of a right one is right, too.
    let hook = if command == RIGHT { "/app" } else { "sleep" };
    (MANIFEST.replace("IMAGE", image))
        .replace("COMMAND", command)
        .replace("HOOK", hook)
}

/// What a run of the command came to.
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

/// A folder with one manifest.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(text: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::write(folder.file(), text).unwrap();
        folder
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("shop.yaml")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }

    /// The command on this folder. The registry is its own proxy, so that its images are called here what
    /// the cluster calls them.
    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
        let output = Command::new(env!("CARGO_BIN_EXE_whittle"))
            .args(["probes", "-f"])
            .arg(self.0.path())
            .args(arguments)
            .env(
                "http_proxy",
                format!("http://{}", variable("REGISTRY_HOST")),
            )
            .env("no_proxy", "127.0.0.1")
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        Run {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn probes(&self, arguments: &[&str]) -> Run {
        self.run(arguments, &[])
    }

    fn ask_registry(&self, arguments: &[&str]) -> Run {
        self.probes(&[&["--registry", "--plain-http"], arguments].concat())
    }

    /// What the API server says against the manifest, where it does not take it.
    async fn refused(&self, field: &Field) -> Option<String> {
        let object: Value = serde_saphyr::from_str(&self.text()).unwrap();
        refusal(field, "Deployment", &object).await
    }
}

/// An image of two programs and no shell.
async fn built(field: &Field, spec: Value) -> ImageBuildStatus {
    let files = image_with(&["/bin/httpd", "/app"]);
    field.build("shop", files, spec).await;
    field.succeeds("shop").await
}

#[tokio::test]
async fn manifests_are_judged_by_the_reports_in_the_registry() {
    let field = Field::new("probes-registry").await;
    let status = built(&field, json!({})).await;
    let repository = field.image("shop");
    let digest = status.digest.unwrap();
    let tagged = format!("{repository}:latest");
    for image in [
        repository.clone(),
        tagged.clone(),
        format!("{repository}@{digest}"),
        format!("{tagged}@{digest}"),
        format!("{repository}@{}", status.platforms[0].digest),
    ] {
        let wrong = Folder::new(&manifest(&image, CHECK)).ask_registry(&[]);
        assert_eq!((wrong.code, &*wrong.err), (Some(1), ""), "{}", wrong.out);
        for words in [
            format!("container app, livenessProbe of image {image}: cannot work"),
            "program /bin/check not found in the image".into(),
            "Use sleep {\"seconds\":5}".into(),
            "2 probes: 0 work, 2 cannot work, 0 unknown".into(),
        ] {
            assert!(wrong.out.contains(&words), "{words}:\n{}", wrong.out);
        }
        let right = Folder::new(&manifest(&image, RIGHT)).ask_registry(&["--strict"]);
        let told = (right.code, right.err.as_str());
        assert_eq!(told, (Some(0), ""), "{}", right.out);
    }

    let wrong = Folder::new(&manifest(&tagged, CURL));
    let sarif = wrong.ask_registry(&["-o", "sarif"]);
    assert_eq!(sarif.code, Some(1));
    let sarif: Value = serde_json::from_str(&sarif.out).unwrap();
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "probe-cannot-work");
    let place = &result["locations"][0]["physicalLocation"];
    let uri = place["artifactLocation"]["uri"].as_str().unwrap();
    assert!(uri.ends_with("/shop.yaml"), "{uri}");
    assert_eq!(place["region"]["startLine"], 13);
    let junit = wrong.ask_registry(&["-o", "junit"]);
    assert_eq!(junit.code, Some(1));
    assert_eq!(failures(&junit.out), 2, "{}", junit.out);
    field.close().await;
}

/// The failures in a text of JUnit's XML.
fn failures(xml: &str) -> usize {
    use quick_xml::events::Event;
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut failures = 0;
    loop {
        match reader.read_event().unwrap() {
            Event::Start(tag) if tag.name().as_ref() == "failure" => failures += 1,
            Event::Eof => return failures,
            _ => {}
        }
    }
}

#[test]
fn an_image_without_a_report_is_not_known_and_a_registry_that_does_not_answer_is_an_error() {
    // Whittle did not build it.
    let base = format!("{}/library/busybox:1.36", registry());
    let unknown = Folder::new(&manifest(&base, CHECK));
    for (strict, code) in [(&[][..], 0), (&["--strict"], 1)] {
        for from in [&["--registry", "--plain-http"][..], &["--cluster"]] {
            let run = unknown.probes(&[from, strict].concat());
            assert_eq!((run.code, &*run.err), (Some(code), ""), "{from:?}");
            let words = format!("report of {base} not found");
            assert!(run.out.contains(&words), "{}", run.out);
        }
    }
    let missing = format!("{}/library/busybox:none", registry());
    for (image, words) in [
        ("127.0.0.1:1/shop:1", "Connection refused"),
        (missing.as_str(), "404 Not Found: manifest unknown"),
    ] {
        let run = Folder::new(&manifest(image, CHECK)).ask_registry(&[]);
        assert_eq!(run.code, Some(2), "{}", run.err);
        let begin = format!("error: {image} cannot be queried for its report: ");
        assert!(run.err.starts_with(&begin), "{}", run.err);
        assert!(run.err.contains(words), "{}", run.err);
    }
}

#[tokio::test]
async fn what_is_mended_in_the_file_is_taken_by_the_guard_that_refused_it() {
    let field = Field::new("probes-fix").await;
    deny_in(&field).await;
    built(&field, json!({})).await;
    let wrong = manifest(&field.image("shop"), CURL);
    let shop = Folder::new(&wrong);
    let refused = async || shop.refused(&field).await;
    let said = field.until("the guard knows the image", refused).await;
    assert!(said.contains("livenessProbe runs curl"), "{said}");

    let run = shop.ask_registry(&["--fix=write"]);
    let told = format!("{}: 2 fixed\n", shop.file().display());
    assert_eq!((run.code, run.err), (Some(0), told), "{}", run.out);
    let mended = wrong
        .replace(
            "            exec: # asks\n              command: [curl, -f, 'http://localhost:8080/healthz']\n",
            "            # asks\n            httpGet:\n              path: /healthz\n              port: 8080\n",
        )
        .replace(
            "              exec:\n                command: [sleep, '5']",
            "              sleep:\n                seconds: 5",
        );
    assert_eq!(shop.text(), mended);
    let run = shop.ask_registry(&["--strict"]);
    assert_eq!((run.code, &*run.err), (Some(0), ""), "{}", run.out);
    assert_eq!(shop.refused(&field).await, None);
    allow_in(&field).await;
    field.close().await;
}

#[tokio::test]
async fn the_cluster_offers_the_health_check_of_the_image_build() {
    let field = Field::new("probes-cluster").await;
    deny_in(&field).await;
    let check = json!({"tcpSocket": {"port": 8080}, "args": ["-f", "-p", "8080"]});
    let status = built(&field, json!({"healthCheck": check})).await;
    let image = format!("{}@{}", field.image("shop"), status.digest.unwrap());
    let shop = Folder::new(&manifest(&image, CHECK));
    let refused = async || shop.refused(&field).await;
    field.until("the guard knows the image", refused).await;

    // A registry knows no healthCheck.
    let run = shop.ask_registry(&["--fix"]);
    assert_eq!(run.code, Some(1), "{}", run.err);
    assert!(run.out.contains(CHECK) && !run.out.contains("sleep, '5'"));
    let run = shop.probes(&["--cluster"]);
    assert_eq!((run.code, &*run.err), (Some(1), ""), "{}", run.out);
    let words =
        "Use tcpSocket {\"port\":8080}, which the ImageBuild declares as the image's healthCheck";
    assert!(run.out.contains(words), "{}", run.out);
    let run = shop.ask_registry(&["--cluster", "--fix=write"]);
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    let run = shop.probes(&["--cluster", "--strict"]);
    assert_eq!((run.code, &*run.err), (Some(0), ""), "{}", run.out);
    assert_eq!(shop.refused(&field).await, None);

    // Another cluster, which is not there.
    let nowhere = shop.file().with_file_name("none");
    let run = shop.run(&["--cluster"], &[("KUBECONFIG", nowhere.to_str().unwrap())]);
    assert_eq!(run.code, Some(2), "{}", run.err);
    let begin = "error: the cluster's ImageBuilds cannot be read: ";
    assert!(run.err.starts_with(begin), "{}", run.err);
    assert!(run.err.contains("No such file"), "{}", run.err);
    allow_in(&field).await;
    field.close().await;
}
