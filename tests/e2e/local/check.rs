//! `--check`, and a Builder of the cluster as the daemon.

use std::fs;

use serde_json::{Value, json};
use whittle_api::FailureReason;

use super::SAME;
use super::bench::{Bench, Ended, ended, manifest};
use crate::field::{Field, variable};

/// A server on this address, as a user that is not root.
fn server(listens: &str) -> String {
    format!(
        "FROM busybox:1.36\nRUN mkdir /www && echo hello > /www/index.html\nUSER 65532:65532\nCMD [\"sh\", \"-c\", \"echo starting; exec httpd -f -p {listens} -h /www\"]\n"
    )
}

fn spec(bench: &Bench, name: &str, dockerfile: &str, check: Option<Value>) -> String {
    let mut spec = json!({"source": {"inline": {"files": {"Dockerfile": dockerfile}}},
        "output": {"image": bench.image(name), "tags": ["one"]}});
    if let Some(check) = check {
        spec["healthCheck"] = check;
    }
    manifest(name, &spec)
}

fn probed(status: &Value) -> Option<(String, String)> {
    let all = status["conditions"].as_array()?;
    let found = all.iter().find(|it| it["type"] == "Probed")?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("message")))
}

/// Whether the tag of the image points to something.
fn is_tagged(bench: &Bench, name: &str) -> bool {
    let image = format!("{}:one", bench.image(name));
    let found = ended(bench.program().args(["inspect", "--plain-http", &image]));
    found.code == Some(0)
}

#[tokio::test]
async fn an_image_that_answers_is_pushed_and_written_and_its_tags_move() {
    let bench = Bench::new();
    let http = json!({"httpGet": {"port": 80, "path": "/index.html"}});
    let text = spec(&bench, "good", &server("80"), Some(http));
    let built = bench.checked(&text, &["--push"]);
    let (to, message) = probed(&built.status(0)).unwrap();
    assert_eq!(to, "True", "{}", built.said);
    assert!(
        message.starts_with("linux/amd64 was Ready after "),
        "{message}"
    );
    assert!(is_tagged(&bench, "good"));
    let layout = bench.path("layout");
    let output = format!("oci:{}", layout.display());
    let status = bench.checked(&text, &["--output", &output]).status(0);
    assert_eq!(probed(&status).unwrap().0, "True");
    let index = fs::read_to_string(layout.join("index.json")).unwrap();
    assert!(index.contains("\"one\""), "{index}");
    // A program that ends is held to what it prints; root is somebody else. What it keeps for others does not run.
    let run = json!({"run": {"args": ["sh", "-c", "id -u; grep CapBnd /proc/self/status"],
        "stdout": "65532\nCapBnd:\t0000000000000400"}});
    let text = spec(
        &bench,
        "run",
        "FROM busybox:1.36\nUSER root\nONBUILD RUN false\nCMD [\"sh\"]\n",
        Some(run),
    );
    let ended = bench.checked(&text, &["--push"]);
    let (to, message) = probed(&ended.status(0)).unwrap();
    assert_eq!(to, "True", "{}", ended.said);
    assert!(message.contains("ended as it had to"), "{message}");
    // Without a healthCheck it only has to start.
    let text = spec(&bench, "starts", &server("8080"), None);
    let ended = bench.checked(&text, &["--push"]);
    assert_eq!(probed(&ended.status(0)), None);
    assert!(
        ended.said.contains("it stayed up for 3 s"),
        "{}",
        ended.said
    );
    bench.nothing_is_left("checks");
}

#[tokio::test]
async fn an_image_that_does_not_answer_fails_in_the_words_of_the_cluster_and_no_tag_moves() {
    let bench = Bench::new();
    let http = |path: &str| json!({"httpGet": {"port": 8080, "path": path}, "timeoutSeconds": 2});
    let exits = server("8080").replace("exec httpd", "echo boom; exit 3; httpd");
    let curl = json!({"exec": {"command": ["/bin/curl", "localhost"]}, "timeoutSeconds": 2});
    let alone = server("127.0.0.1:8080");
    let root = "FROM busybox:1.36\nCMD [\"sh\", \"-c\", \"mkdir /data && exec sleep 1000\"]\n";
    for (name, dockerfile, check, words) in [
        (
            "missing",
            server("8080"),
            Some(http("/missing")),
            &[
                "timed out: not Ready within 2 s",
                "HTTP probe failed with statuscode: 404",
                "starting",
            ][..],
        ),
        (
            "ends",
            exits,
            Some(http("/")),
            &["exited with code 3 before it was Ready", "boom"],
        ),
        ("exec", server("8080"), Some(curl), &["/bin/curl"]),
        // In a cluster it is asked at the Pod's address.
        (
            "alone",
            alone,
            Some(http("/")),
            &["timed out: not Ready within 2 s", "refused"],
        ),
        (
            "root",
            root.into(),
            Some(http("/")),
            &["write USER 65532:65532 into the Dockerfile"],
        ),
        (
            "starts",
            "FROM busybox:1.36\nCMD [\"false\"]\n".into(),
            None,
            &["exited with code 1"],
        ),
    ] {
        let text = spec(&bench, name, &dockerfile, check.clone());
        let ended = bench.checked(&text, &["--push"]);
        let status = ended.status(1);
        let failure = &status["failure"];
        let said = format!("{}\n{}", failure["message"], failure["log"]);
        assert_eq!(
            failure["reason"],
            json!(FailureReason::HealthCheckFailed),
            "{said}"
        );
        for word in words {
            assert!(said.contains(word), "{name}: {said}");
        }
        let told = probed(&status).map(|it| it.0);
        assert_eq!(told.as_deref(), check.map(|_| "False"), "{name}");
        assert!(!is_tagged(&bench, name), "{name}");
    }
}

#[tokio::test]
async fn what_cannot_be_run_is_said_to_be_unchecked() {
    let bench = Bench::new();
    let text = spec(&bench, "any", SAME, Some(json!({"run": {}})));
    // The program of the tests is linked dynamically.
    let ended = bench.build(&text, &["--push", "--check"]);
    ended.status(0);
    assert!(
        ended.said.contains("health check: not done: ")
            && ended.said.contains("is linked dynamically"),
        "{}",
        ended.said
    );
    let scratch = "FROM scratch\nCOPY Dockerfile /app\nENTRYPOINT [\"/app\"]\n";
    let mut text = spec(&bench, "other", scratch, Some(json!({"run": {}})));
    text = text.replace("\"output\"", "\"platforms\": [\"linux/s390x\"], \"contract\": {\"warn\": [\"RunnableEntrypoint\"]}, \"output\"");
    let ended = bench.checked(&text, &["--push"]);
    let (to, message) = probed(&ended.status(0)).unwrap();
    assert_eq!(to, "Unknown");
    assert!(message.contains("linux/s390x was not run"), "{message}");
}

/// The command with a kubeconfig of its own.
fn of_cluster(bench: &Bench, kubeconfig: &str, address: &str, file: &str) -> Ended {
    let output = format!("oci:{}", bench.path("layout").display());
    let words = [
        "build", "--local", "-o", "json", "-f", file, "--check", "--output", &output,
    ];
    ended(
        bench
            .program()
            // A client of the API server would take it.
            .env_remove("HTTP_PROXY")
            .env_remove("HTTPS_PROXY")
            .args(words)
            .args(["--builder", address, "--kubeconfig", kubeconfig]),
    )
}

#[tokio::test]
async fn a_builder_of_the_cluster_builds_what_is_here() {
    let field = Field::new("local-kube").await;
    field
        .build("first", json!({"Dockerfile": SAME}), json!({}))
        .await;
    field.succeeds("first").await;
    let bench = Bench::new();
    let spec = json!({"source": {"inline": {"files": {"Dockerfile": SAME}}}, "output": {"image": "r.example/x", "tags": ["one"]},
        "healthCheck": {"run": {"stdout": "hello"}}});
    let file = bench.write(&manifest("x", &spec));
    let own = variable("KUBECONFIG");
    let address = format!("kube:{}/default", field.namespace);
    let built = of_cluster(&bench, &own, &address, &file);
    let status = built.status(0);
    assert_eq!(probed(&status).unwrap().0, "True", "{}", built.said);
    assert!(bench.path("layout").join("index.json").exists());
    let none = format!("kube:{}/none", field.namespace);
    let said = of_cluster(&bench, &own, &none, &file).said(2);
    assert!(said.contains("Builder none in namespace"), "{said}");
    assert!(
        said.contains("not found: see kubectl get builders"),
        "{said}"
    );
    // Who may see the Builder has no certificate by that, and who has one no connection.
    for (rules, words) in [
        (json!([]), "whittle-builder-default-client in namespace"),
        (
            json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]),
            "ask for a Role that allows to create and get pods/portforward",
        ),
    ] {
        let kubeconfig = user(&field, &bench, rules).await;
        let said = of_cluster(&bench, &kubeconfig, &address, &file).said(2);
        assert!(said.contains(words) && said.contains("denied"), "{said}");
    }
    field.close().await;
}

/// A kubeconfig of somebody who may see Builders, and has these rights.
async fn user(field: &Field, bench: &Bench, rules: Value) -> String {
    let mut all =
        json!([{"apiGroups": ["whittle.dev"], "resources": ["builders"], "verbs": ["get"]}]);
    all.as_array_mut()
        .unwrap()
        .extend(rules.as_array().unwrap().clone());
    let name = format!("user-{}", all.as_array().unwrap().len());
    let metadata = json!({"name": name});
    field
        .create(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}))
        .await;
    let group = "rbac.authorization.k8s.io";
    field
        .create(json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": metadata, "rules": all}))
        .await;
    field
        .create(
            json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": field.namespace}]}),
        )
        .await;
    let kubectl = || std::process::Command::new("kubectl");
    let token = ended(kubectl().args(["create", "token", &name, "-n", &field.namespace]));
    assert_eq!(token.code, Some(0), "{}", token.said);
    let view = ended(kubectl().args(["config", "view", "--raw", "--minify", "-o", "json"]));
    let mut config: Value = serde_json::from_str(&view.result).unwrap();
    config["users"][0]["user"] = json!({"token": token.result.trim()});
    let path = bench.path(&format!("{name}.json"));
    fs::write(&path, config.to_string()).unwrap();
    path.display().to_string()
}
