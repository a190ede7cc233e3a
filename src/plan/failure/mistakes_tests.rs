//! Mistakes in Dockerfiles, each as buildctl and a rootless buildkitd 0.33.1 really answered it, hosts changed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::tests::request;
use super::*;

const REAL: &str = include_str!("../testdata/mistakes.jsonl");

/// One Dockerfile, and what came of it.
#[derive(Deserialize)]
struct Mistake {
    name: String,
    dockerfile: String,
    /// What buildctl printed at its end.
    text: String,
    /// Name, error and output of the vertex that failed first.
    vertex: Option<(String, String, String)>,
    #[serde(default)]
    warnings: Vec<(String, i32)>,
    #[serde(default)]
    scripts: std::collections::BTreeMap<String, String>,
}

impl Mistake {
    fn verdict(&self) -> Verdict {
        let mut state = State::default();
        if let Some((name, error, log)) = &self.vertex {
            let time = "2026-11-21T01:00:00Z";
            for line in [
                serde_json::json!({"vertexes": [{"digest": "v", "name": name, "started": time}]}),
                serde_json::json!({"logs": [{"vertex": "v", "data": STANDARD.encode(log)}]}),
                serde_json::json!({"vertexes": [{"digest": "v", "name": name, "started": time, "completed": time, "error": error}]}),
            ] {
                state.line(&line.to_string());
            }
        }
        for (short, line) in &self.warnings {
            let warning = serde_json::json!({"short": STANDARD.encode(short), "range": [{"start": {"line": line}}]});
            state.line(&serde_json::json!({"warnings": [warning]}).to_string());
        }
        for line in self.text.lines() {
            state.line(line);
        }
        let scripts = self.scripts.iter().map(|(path, first_line)| Script {
            path: path.clone(),
            first_line: first_line.clone(),
        });
        let facts = Facts {
            dockerfile: Some(self.dockerfile.clone()),
            scripts: scripts.collect(),
            ..Facts::default()
        };
        verdict(&state, Some(1), &request(), &facts)
    }
}

fn mistakes() -> Vec<Mistake> {
    let read = |line| serde_json::from_str(line).unwrap();
    REAL.lines().map(read).collect()
}

#[test]
fn print() {
    for mistake in mistakes() {
        let Verdict { failure, again } = mistake.verdict();
        println!(
            "{} | {} | {:?} | {:?} | {} || {}",
            mistake.name,
            failure.reason,
            failure.dockerfile_line,
            again,
            failure.message.replace('\n', "⏎"),
            failure.hint.unwrap_or_default()
        );
    }
}
