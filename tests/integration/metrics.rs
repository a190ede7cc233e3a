//! A real Prometheus reads the metrics of a real controller: each alert of the chart can be evaluated, and each panel of its dashboard shows something.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::api_server::free_ports;
use crate::stage::{Stage, root, success};

/// Debian's programs: tests/prometheus.sh fetches them.
fn programs() -> PathBuf {
    let said = Command::new(root().join("tests/prometheus.sh")).output();
    let said = said.unwrap();
    let error = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "tests/prometheus.sh: {error}");
    PathBuf::from(String::from_utf8(said.stdout).unwrap().trim())
}

struct Prometheus {
    process: Child,
    url: String,
    _data: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    /// Reads what is served on this port of this machine, each second.
    fn start(of: u16) -> Self {
        let data = tempfile::tempdir().unwrap();
        let rules = root().join("charts/whittle/files/rules.yaml");
        let config = json!({"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": [rules],
            "scrape_configs": [{"job_name": "whittle", "static_configs": [{"targets": [format!("127.0.0.1:{of}")]}]}]});
        let path = data.path().join("prometheus.yaml");
        std::fs::write(&path, config.to_string()).unwrap();
        let [port] = free_ports();
        let log = std::fs::File::create(data.path().join("log")).unwrap();
        let process = Command::new(programs().join("prometheus"))
            .arg(format!("--config.file={}", path.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                data.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            process,
            url: format!("http://127.0.0.1:{port}/api/v1"),
            _data: data,
        }
    }

    /// What it answers; none while it does not.
    async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Option<Value> {
        let url = format!("{}/{path}", self.url);
        let url = reqwest::Url::parse_with_params(&url, query).unwrap();
        let answer = reqwest::get(url).await.ok()?;
        serde_json::from_slice(&answer.bytes().await.ok()?).ok()
    }

    /// The samples of an expression.
    async fn samples(&self, expression: &str) -> Vec<Value> {
        let answer = self.ask("query", &[("query", expression)]).await;
        let answer = answer.unwrap_or_default();
        assert_ne!(answer["status"], "error", "{expression}: {answer}");
        answer["data"]["result"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }
}

/// The values that an expression tells a label apart by: `result=~"A|B"`.
fn named(expression: &str) -> Vec<String> {
    let mut found = vec![];
    for part in expression.split("=~\"").skip(1) {
        let values = part.split('"').next().unwrap_or_default();
        found.extend(values.split('|').map(str::to_owned));
    }
    found
}

#[tokio::test]
async fn a_prometheus_evaluates_each_alert_and_each_panel_shows_something() {
    let mut stage = Stage::new().await;
    stage.start_controller().await;
    let port = stage.health();
    let prometheus = Prometheus::start(port);
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    let reads = |expression: &'static str, expected: &'static str| {
        let prometheus = &prometheus;
        let stage = &stage;
        async move {
            stage
                .until(expression, async || {
                    let samples = prometheus.samples(expression).await;
                    (samples.first()?["value"][1] == expected).then_some(())
                })
                .await;
        }
    };
    // What runs now is looked at each time.
    reads("whittle_builds_running", "1").await;
    reads("whittle_builders{state=\"Awake\"}", "1").await;
    let digest = format!("sha256:{}", "a".repeat(64));
    stage.pod_ends(&job, &success(&digest)).await;
    stage.ready("hello", "True", "Succeeded").await;
    reads("whittle_builds_total{result=\"Succeeded\"}", "1").await;
    reads(
        "increase(whittle_builds_total{result=\"Succeeded\"}[1m]) > bool 0",
        "1",
    )
    .await;
    reads("whittle_builds_running", "0").await;
    reads("whittle_build_phase_seconds_sum{phase=\"solve\"}", "42.5").await;

    let text = std::fs::read_to_string(root().join("charts/whittle/files/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut expressions = vec![];
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            expressions.push(expression.replace("$__rate_interval", "1m"));
        }
    }
    assert!(expressions.len() > 15, "{expressions:?}");
    for expression in &expressions {
        let shows = async || (!prometheus.samples(expression).await.is_empty()).then_some(());
        stage
            .until(&format!("{expression} shows something"), shows)
            .await;
    }

    // All are evaluated without an error, and what they tell apart exists: a misspelt reason would never fire.
    let rules = stage
        .until("the rules were evaluated", async || {
            let answer = prometheus.ask("rules", &[]).await?;
            let rules = answer["data"]["groups"][0]["rules"].as_array()?.clone();
            let ok = rules.iter().all(|rule| rule["health"] == "ok");
            ok.then_some(rules)
        })
        .await;
    let metrics = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await;
    let metrics = metrics.unwrap().text().await.unwrap();
    for rule in &rules {
        let expression = rule["query"].as_str().unwrap();
        for value in named(expression) {
            let label = format!("=\"{value}\"");
            assert!(
                metrics.contains(&label),
                "{expression}: {value} is no value of a label"
            );
        }
        assert_eq!(rule["alerts"], json!([]), "{rule}");
    }
    let said = Command::new(programs().join("promtool"))
        .args(["test", "rules", "tests/prometheus/rules_test.yaml"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(said.status.success(), "{said:?}");
}
