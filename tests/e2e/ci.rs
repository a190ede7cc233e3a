//! The jobs of docs/ci.md, as they stand there: their steps are taken from the page and run in a Pod that is what the page asks for.

use std::fmt::Write;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{LogParams, PostParams};
use serde_json::{Value, json};

use crate::field::{Field, registry};
use crate::registry::manifest;

const PAGE: &str = include_str!("../../docs/ci.md");
/// Between the parts of what a job prints.
const PART: &str = "=== part ";

/// The block of the page in this language that begins so.
fn block(language: &str, begins: &str) -> &'static str {
    let mut blocks = PAGE.split("\n```").skip(1).step_by(2);
    let found = blocks.find_map(|block| {
        let text = block.strip_prefix(language)?.strip_prefix('\n')?;
        text.starts_with(begins).then_some(text)
    });
    found.unwrap_or_else(|| panic!("docs/ci.md has no {language} that begins with {begins}"))
}

fn yaml(begins: &str) -> Value {
    serde_saphyr::from_str(block("yaml", begins)).unwrap()
}

/// A script of the page, but that the local registry has no TLS.
fn here(script: &str) -> String {
    script.replace("whittle inspect ", "whittle inspect --plain-http ")
}

/// The steps of the job for GitHub, each a shell of its own.
fn of_github() -> String {
    let job = yaml("# .github/workflows/image.yaml");
    let steps = job["jobs"]["image"]["steps"].as_array().unwrap().clone();
    let runs = steps.iter().filter_map(|step| step["run"].as_str());
    let steps: Vec<String> = runs
        .map(|run| format!("sh -e <<'STEP'\n{}\nSTEP", here(run).trim_end()))
        .collect();
    assert_eq!(steps.len(), 3, "{job:#}");
    steps.join("\n")
}

/// The script of the job for GitLab, in one shell.
fn of_gitlab() -> String {
    let job = yaml("# .gitlab-ci.yml");
    let lines = job["image"]["script"].as_array().unwrap().clone();
    let lines: Vec<&str> = lines.iter().map(|line| line.as_str().unwrap()).collect();
    here(&lines.join("\n"))
}

const GOOD: &str =
    "FROM busybox:1.36\nRUN echo hello >/hello\nUSER 4000\nCMD [\"cat\", \"/hello\"]\n";

fn deployment(probe: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: hello}}\nspec:\n  selector: {{matchLabels: {{app: hello}}}}\n  template:\n    metadata: {{labels: {{app: hello}}}}\n    spec:\n      containers:\n        - name: hello\n          image: HELLO_IMAGE\n          livenessProbe:\n            exec: {{command: [{probe}]}}\n"
    )
}

/// A job, what it is of, and what it writes.
struct Round {
    name: &'static str,
    dockerfile: String,
    probe: &'static str,
}

/// Runs the rounds one after the other in a Pod of this user; what each has ended with, written and said.
async fn run(field: &Field, image: &str, user: i64, job: &str, rounds: &[Round]) -> Vec<Ended> {
    let builder = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"}, "spec": {
        "registries": [{"host": "docker.io", "mirrors": [registry()]}, {"host": registry(), "plainHTTP": true}]}});
    let spec = format!("{}\n---\n{builder}\n", block("yaml", "# whittle.yaml"));
    let mut script = String::new();
    for Round {
        name,
        dockerfile,
        probe,
    } in rounds
    {
        let manifest = deployment(probe);
        write!(
            script,
            "mkdir -p /work/{name}/deploy && cd /work/{name}\ncat >whittle.yaml <<'FILE'\n{spec}\nFILE\ncat >Dockerfile <<'FILE'\n{dockerfile}\nFILE\n\
             cat >deploy/hello.yaml <<'FILE'\n{manifest}\nFILE\nexport TAG={name}\n(set -e\n{job}\n) 2>said\n\
             printf '\\n{PART}%s\\n' $?\ncat image.json\nprintf '\\n{PART}\\n'\ncat probes.sarif 2>/dev/null\nprintf '\\n{PART}\\n'\ncat said\n"
        )
        .unwrap();
    }
    let variables = json!([{"name": "REGISTRY", "value": "registry.example.com"}, {"name": "REGISTRY_USER", "value": "u"},
        {"name": "REGISTRY_PASSWORD", "value": "p"}, {"name": "IMAGE", "value": field.image(&format!("by-{user}"))}]);
    let name = format!("job-{user}");
    // What the page asks for, and nothing beyond.
    let pod = json!({"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "automountServiceAccountToken": false,
        "securityContext": {"runAsUser": user, "runAsGroup": user, "fsGroup": user, "runAsNonRoot": true},
        "volumes": [{"name": "work", "emptyDir": {}}],
        "containers": [{"name": "job", "image": image, "command": ["sh", "-c", script], "env": variables,
            "volumeMounts": [{"name": "work", "mountPath": "/work"}],
            "securityContext": {"seccompProfile": {"type": "Unconfined"}}}]}});
    let pods = field.api::<Pod>();
    let pod = serde_json::from_value(pod).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    field
        .until(&format!("{name} has ended"), async || {
            let phase = pods.get(&name).await.unwrap().status?.phase?;
            ["Succeeded", "Failed"]
                .contains(&phase.as_str())
                .then_some(())
        })
        .await;
    let log = pods.logs(&name, &LogParams::default()).await.unwrap();
    let mut parts = log.split(PART).skip(1);
    let mut ended = vec![];
    while let (Some(image), Some(sarif), Some(said)) = (parts.next(), parts.next(), parts.next()) {
        let (code, image) = image.split_once('\n').unwrap();
        ended.push(Ended {
            code: code.trim().into(),
            image: image.into(),
            sarif: sarif.trim().into(),
            said: said.into(),
        });
    }
    assert_eq!(ended.len(), rounds.len(), "{log}");
    ended
}

#[derive(Debug)]
struct Ended {
    code: String,
    image: String,
    sarif: String,
    said: String,
}

impl Ended {
    /// The results of the SARIF that it has written.
    fn results(&self) -> Vec<Value> {
        let sarif: Value =
            serde_json::from_str(&self.sarif).unwrap_or_else(|error| panic!("{error}: {self:#?}"));
        assert_eq!(sarif["version"], "2.1.0", "{sarif:#}");
        assert_eq!(sarif["runs"][0]["tool"]["driver"]["name"], "whittle");
        sarif["runs"][0]["results"].as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn the_jobs_of_the_page_build_check_and_push_without_a_cluster_and_without_root() {
    let field = Field::new("ci").await;
    // The image that the page describes, from what the local cluster has.
    let dockerfile = block("dockerfile", "FROM moby/buildkit");
    let released = "registry.example.com/you/whittle:0.1.0";
    assert!(dockerfile.contains(released), "{dockerfile}");
    let own = format!("{}/whittle/whittle:dev", registry());
    let files = json!({"Dockerfile": dockerfile.replace(released, &own)});
    field.build("ci", files, json!({})).await;
    let image = field.succeeds("ci").await.image.unwrap();
    field.hold_to("privileged").await;

    let good = |name: &'static str| Round {
        name,
        dockerfile: GOOD.into(),
        probe: "cat, /hello",
    };
    let broken = Round {
        name: "broken",
        dockerfile: GOOD.replace("USER 4000\n", ""),
        probe: "cat, /hello",
    };
    let ended = run(&field, &image, 1000, &of_gitlab(), &[good("good"), broken]).await;
    assert_eq!(ended[0].code, "0", "{:#?}", ended[0]);
    assert_eq!(ended[0].results(), Vec::<Value>::new());
    let pushed = manifest(&field.image("by-1000"), "good").await.0;
    assert!(
        ended[0].image.contains(&pushed),
        "{pushed}: {:#?}",
        ended[0]
    );
    assert_eq!(ended[1].code, "1", "{:#?}", ended[1]);
    assert!(
        ended[1].image.contains("\"reason\": \"ContractBroken\""),
        "{:#?}",
        ended[1]
    );
    assert!(ended[1].said.contains("NonRoot: "), "{:#?}", ended[1]);
    assert_eq!(ended[1].sarif, "");

    let probe = Round {
        name: "probe",
        dockerfile: GOOD.into(),
        probe: "curl, localhost",
    };
    let ended = run(&field, &image, 1001, &of_github(), &[good("good"), probe]).await;
    assert_eq!(ended[0].code, "0", "{:#?}", ended[0]);
    let pushed = manifest(&field.image("by-1001"), "good").await.0;
    assert!(
        ended[0].image.contains(&pushed),
        "{pushed}: {:#?}",
        ended[0]
    );
    assert_eq!(ended[1].code, "1", "{:#?}", ended[1]);
    let results = ended[1].results();
    let place = &results[0]["locations"][0]["physicalLocation"];
    let file = place["artifactLocation"]["uri"].as_str().unwrap();
    assert!(file.ends_with("deploy/hello.yaml"), "{results:#?}");
    field.close().await;
}
