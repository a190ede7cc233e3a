//! BuildKit's JSON, made of the runner's log: each line a `SolveStatus`
//! (<https://github.com/moby/buildkit/blob/v0.33.1/client/graph.go>), as `buildctl --progress=rawjson` prints it.
//!
//! The log has no digests: a vertex has that of its number and name, the same throughout the log.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use whittle_image::digest_of;

use super::steps::Line;

/// What is known of the steps.
#[derive(Default)]
pub(super) struct Raw {
    steps: BTreeMap<usize, Step>,
}

struct Step {
    digest: String,
    name: String,
    started: Timestamp,
}

impl Raw {
    /// The JSON of a line that was printed at this time; none for what is not of a step.
    pub(super) fn line(&mut self, time: Timestamp, line: &Line<'_>) -> Option<String> {
        let value = match line {
            Line::Text(_) => return None,
            Line::Started { step, name } => {
                let began = Step {
                    digest: digest_of(format!("{step} {name}").as_bytes()),
                    name: (*name).to_owned(),
                    started: time,
                };
                let value = json!({"vertexes": [vertex(&began)]});
                self.steps.insert(*step, began);
                value
            }
            Line::Output {
                step,
                seconds,
                text,
            } => {
                let step = self.steps.get(step)?;
                let after = SignedDuration::try_from_secs_f64(*seconds).unwrap_or_default();
                let at = step.started.checked_add(after).unwrap_or(time);
                let data = STANDARD.encode(format!("{text}\n"));
                json!({"logs": [{"vertex": step.digest, "stream": 1, "data": data, "timestamp": at.to_string()}]})
            }
            Line::Done { step, .. } => self.ended(*step, time, json!({}))?,
            Line::Cached { step } => self.ended(*step, time, json!({"cached": true}))?,
            Line::Failed { step, error } => self.ended(*step, time, json!({"error": error}))?,
        };
        Some(value.to_string())
    }

    fn ended(&self, step: usize, time: Timestamp, more: Value) -> Option<Value> {
        let mut vertex = vertex(self.steps.get(&step)?);
        vertex["completed"] = time.to_string().into();
        for (key, value) in more.as_object().into_iter().flatten() {
            vertex[key] = value.clone();
        }
        Some(json!({"vertexes": [vertex]}))
    }
}

fn vertex(step: &Step) -> Value {
    json!({"digest": step.digest, "name": step.name, "started": step.started.to_string()})
}

#[cfg(test)]
mod tests {
    use super::super::steps::parse;
    use super::*;
    use whittle_build::rawjson::State;

    #[test]
    fn what_reads_buildkits_json_reads_ours() {
        let mut raw = Raw::default();
        let mut state = State::default();
        let mut events = vec![];
        for (second, line) in [
            "#1 [build 1/2] FROM golang",
            "#1 CACHED",
            "#2 [build 2/2] RUN go build",
            "#2 0.250 hello",
            "#2 ERROR: exit code: 1",
        ]
        .iter()
        .enumerate()
        {
            let time = Timestamp::from_second(1_800_000_000 + second as i64).unwrap();
            let json = raw.line(time, &parse(line)).unwrap();
            events.extend(state.line(&json, &str::to_owned));
        }
        assert_eq!(
            raw.line(Timestamp::UNIX_EPOCH, &parse("advice: none")),
            None
        );
        insta::assert_debug_snapshot!(events);
    }
}
