//! A build as a trace, in OTLP's JSON: <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>.
//!
//! Its parts are told by whoever knows them, each at its time: the attempts by their runners, the build by the controller at its end. They
//! find together by identifiers that follow from the ImageBuild's UID, the build's number and the Job's name: nothing is kept for them, and
//! a controller that comes back knows them.

use std::collections::BTreeMap;

use kube::ResourceExt;
use serde::Serialize;

use crate::cluster::credentials::Attempt;
use crate::imagebuild::Ended;
use whittle_api::ImageBuild;
use whittle_build::course::{Course, Interval, Part};
use whittle_image::digest_of;

/// `SPAN_KIND_INTERNAL`.
const INTERNAL: u8 = 1;
/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    resource_spans: [ResourceSpans; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans {
    resource: Resource,
    scope_spans: [ScopeSpans; 1],
}

#[derive(Serialize)]
struct Resource {
    attributes: Vec<Attribute>,
}

#[derive(Serialize)]
struct ScopeSpans {
    scope: Scope,
    spans: Vec<Span>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    name: String,
    kind: u8,
    /// Numbers of 64 bits are text in this JSON.
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<Attribute>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

#[derive(Serialize)]
struct Status {
    code: u8,
    message: String,
}

#[derive(Serialize)]
struct Attribute {
    key: String,
    value: Value,
}

#[derive(Serialize)]
enum Value {
    #[serde(rename = "stringValue")]
    Text(String),
    #[serde(rename = "intValue")]
    Number(String),
    #[serde(rename = "boolValue")]
    Flag(bool),
    #[serde(rename = "arrayValue")]
    List(Values),
}

#[derive(Serialize)]
struct Values {
    values: Vec<Value>,
}

fn text(key: &str, value: impl Into<String>) -> Attribute {
    let (key, value) = (key.to_owned(), Value::Text(value.into()));
    Attribute { key, value }
}

fn number(key: &str, value: i64) -> Attribute {
    let (key, value) = (key.to_owned(), Value::Number(value.to_string()));
    Attribute { key, value }
}

fn given(key: &str, value: Option<&str>) -> Option<Attribute> {
    value.map(|value| text(key, value))
}

/// The identifiers of one build's trace.
struct Trace<'a> {
    uid: &'a str,
    build: i64,
}

impl Trace<'_> {
    /// The first bytes of a hash over what tells it from all others, in hexadecimal.
    fn id(&self, of: &[&str], bytes: usize) -> String {
        let build = self.build.to_string();
        let mut text = String::new();
        for part in ["whittle", self.uid, &build].iter().chain(of) {
            // With its length: no two lists come to the same text.
            text += &format!("{}:{part}", part.len());
        }
        let digest = digest_of(text.as_bytes());
        let hash = digest.trim_start_matches("sha256:");
        hash.chars().take(2 * bytes).collect()
    }

    /// A span of it, which the parts of its name tell from all others, below another one.
    fn span(&self, of: &[&str], parent: Option<&[&str]>, name: &str, time: Interval) -> Span {
        let nanoseconds = |milliseconds: i64| (i128::from(milliseconds) * 1_000_000).to_string();
        Span {
            trace_id: self.id(&[], 16),
            span_id: self.id(of, 8),
            parent_span_id: parent.map(|of| self.id(of, 8)),
            name: name.to_owned(),
            kind: INTERNAL,
            start_time_unix_nano: nanoseconds(time.from),
            end_time_unix_nano: nanoseconds(time.to),
            attributes: vec![],
            status: None,
        }
    }
}

/// The span of the whole build.
const BUILD: &[&str] = &["build"];

/// The end of a build, and how long it waited: none where it is not known when it ended.
pub fn of_build(
    build: &ImageBuild,
    ended: &Ended,
    installation: &BTreeMap<String, String>,
) -> Option<Vec<u8>> {
    let uid = build.uid().unwrap_or_default();
    let (namespace, name) = (build.namespace().unwrap_or_default(), build.name_any());
    let number_of = ended.build;
    let trace = Trace {
        uid: &uid,
        build: number_of,
    };
    let to = ended.at.as_ref()?.0.as_millisecond();
    let seconds = |seconds: Option<i64>| seconds.unwrap_or(0).clamp(0, 604_800) * 1000;
    let ran = to - seconds(ended.duration_seconds);
    let due = ran - seconds(ended.queued_seconds);
    let mut whole = trace.span(BUILD, None, "build", Interval { from: due, to });
    if ended.corrects {
        // It has been told, and ended well by then.
        whole = trace.span(
            &["correction"],
            Some(BUILD),
            "correction",
            Interval { from: to, to },
        );
    }
    let tags = ended.tags.iter().cloned().map(Value::Text).collect();
    let tags = (!ended.tags.is_empty()).then(|| Attribute {
        key: "container.image.tags".into(),
        value: Value::List(Values { values: tags }),
    });
    let trigger = ended.trigger.as_ref().map(|it| it.reason.to_string());
    whole.attributes = [
        Some(text("k8s.namespace.name", namespace)),
        Some(text("whittle.imagebuild.name", name)),
        Some(text("whittle.imagebuild.uid", uid.clone())),
        Some(number("whittle.build.number", number_of)),
        Some(text("whittle.build.result", ended.reason)),
        given("whittle.build.trigger", trigger.as_deref()),
        given("whittle.build.revision", ended.revision.as_deref()),
        given("container.image.name", ended.image.as_deref()),
        given("oci.manifest.digest", ended.digest.as_deref()),
        tags,
    ]
    .into_iter()
    .flatten()
    .collect();
    if !ended.succeeded() {
        whole.status = Some(Status {
            code: ERROR,
            message: format!("{}: {}", ended.reason, ended.message),
        });
    }
    let mut spans = vec![whole];
    if due < ran && !ended.corrects {
        let time = Interval { from: due, to: ran };
        spans.push(trace.span(&["queue"], Some(BUILD), "queue", time));
    }
    Some(write(spans, installation))
}

/// What an attempt has come through.
pub fn of_attempt(
    attempt: &Attempt,
    name: &str,
    course: Course,
    installation: &BTreeMap<String, String>,
) -> Vec<u8> {
    let trace = Trace {
        uid: &attempt.uid,
        build: course.build,
    };
    let job = attempt.job.as_str();
    let this: &[&str] = &["attempt", job];
    let mut whole = trace.span(this, Some(BUILD), "attempt", course.time);
    whole.attributes = vec![
        text("k8s.namespace.name", attempt.namespace.as_str()),
        text("k8s.job.name", job),
        text("whittle.imagebuild.name", name),
        number("whittle.build.number", course.build),
    ];
    whole.status = course.failure.map(|message| Status {
        code: ERROR,
        message,
    });
    let mut spans = vec![whole];
    let solve = ["attempt", job, "solve"];
    let mut within: &[&str] = this;
    for phase in &course.phases {
        let of = ["attempt", job, phase.name.as_str()];
        if phase.name == solve[2] {
            within = &solve;
        }
        spans.push(trace.span(&of, Some(this), &phase.name, phase.time));
    }
    for (index, step) in course.steps.iter().enumerate() {
        let of = ["step", job, &index.to_string()];
        spans.push(step_of(
            trace.span(&of, Some(within), &step.name, step.time),
            step,
        ));
    }
    write(spans, installation)
}

fn step_of(mut span: Span, step: &Part) -> Span {
    if step.cached {
        span.attributes.push(Attribute {
            key: "whittle.step.cached".into(),
            value: Value::Flag(true),
        });
    }
    if step.failed {
        span.status = Some(Status {
            code: ERROR,
            message: String::new(),
        });
    }
    span
}

fn write(spans: Vec<Span>, installation: &BTreeMap<String, String>) -> Vec<u8> {
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    let own = [("service.name", "whittle"), ("service.version", VERSION)];
    let own = own
        .into_iter()
        .filter(|(key, _)| !installation.contains_key(*key));
    let own = own.map(|(key, value)| text(key, value));
    let given = installation
        .iter()
        .map(|(key, value)| text(key, value.as_str()));
    let request = Request {
        resource_spans: [ResourceSpans {
            resource: Resource {
                attributes: own.chain(given).collect(),
            },
            scope_spans: [ScopeSpans {
                scope: Scope {
                    name: "whittle",
                    version: VERSION,
                },
                spans,
            }],
        }],
    };
    serde_json::to_vec(&request).expect("a trace is always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    /// It has waited for a while, and is of nobody's asking.
    fn ended() -> Ended {
        Ended {
            queued_seconds: Some(5),
            trigger: None,
            ..fixtures::ended()
        }
    }

    fn spans(text: &[u8]) -> Vec<serde_json::Value> {
        let read: serde_json::Value = serde_json::from_slice(text).unwrap();
        let spans = &read["resourceSpans"][0]["scopeSpans"][0]["spans"];
        spans.as_array().unwrap().clone()
    }

    fn course() -> Course {
        let part = |name: &str, from, to| Part {
            name: name.into(),
            time: Interval { from, to },
            ..Part::default()
        };
        Course {
            build: 3,
            time: Interval {
                from: 988_100,
                to: 999_900,
            },
            failure: None,
            phases: vec![
                part("source", 988_100, 989_000),
                part("solve", 989_000, 995_000),
            ],
            steps: vec![Part {
                cached: true,
                ..part("[build 1/2] FROM x", 989_100, 989_200)
            }],
        }
    }

    fn attempt() -> Attempt {
        Attempt {
            namespace: "team".into(),
            uid: fixtures::inline().uid().unwrap(),
            job: "hello-3-1".into(),
        }
    }

    #[test]
    fn a_build_and_its_attempt_are_one_trace_although_they_are_told_apart() {
        let none = BTreeMap::new();
        let build = spans(&of_build(&fixtures::inline(), &ended(), &none).unwrap());
        let attempt = spans(&of_attempt(&attempt(), "hello", course(), &none));
        let all: Vec<_> = build.iter().chain(&attempt).collect();
        let of = |name: &str| *all.iter().find(|span| span["name"] == name).unwrap();
        assert!(all.iter().all(|span| span["traceId"] == all[0]["traceId"]));
        assert_eq!(all[0]["traceId"].as_str().unwrap().len(), 32);
        assert_eq!(all[0]["spanId"].as_str().unwrap().len(), 16);
        for (child, parent) in [
            ("queue", "build"),
            ("attempt", "build"),
            ("source", "attempt"),
            ("solve", "attempt"),
            ("[build 1/2] FROM x", "solve"),
        ] {
            assert_eq!(of(child)["parentSpanId"], of(parent)["spanId"], "{child}");
        }
        assert!(of("build").get("parentSpanId").is_none());
        let mut ids: Vec<_> = all.iter().map(|span| span["spanId"].to_string()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all.len());
    }

    #[test]
    fn a_trace_is_in_the_json_of_otlp() {
        let none = BTreeMap::from([("k8s.cluster.name".to_owned(), "c".to_owned())]);
        let text = of_build(&fixtures::inline(), &ended(), &none).unwrap();
        let text = String::from_utf8(text).unwrap();
        let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        insta::assert_yaml_snapshot!(value);
        let text = of_attempt(&attempt(), "hello", course(), &none);
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        insta::assert_yaml_snapshot!(value["resourceSpans"][0]["scopeSpans"][0]["spans"]);
    }

    #[test]
    fn a_failure_is_one_with_its_reason_and_a_correction_does_not_take_the_place_of_the_end_before()
    {
        let failed = Ended {
            reason: "StepFailed",
            ..ended()
        };
        let none = BTreeMap::new();
        let told = spans(&of_build(&fixtures::inline(), &failed, &none).unwrap());
        assert_eq!(told[0]["status"]["code"], 2);
        assert_eq!(told[0]["status"]["message"], "StepFailed: m");
        let corrected = Ended {
            corrects: true,
            ..failed
        };
        let again = spans(&of_build(&fixtures::inline(), &corrected, &none).unwrap());
        assert_eq!(again.len(), 1);
        assert_eq!(again[0]["parentSpanId"], told[0]["spanId"]);
    }

    #[test]
    fn another_build_attempt_or_imagebuild_has_other_identifiers() {
        let id = |uid: &str, build, of: &[&str]| Trace { uid, build }.id(of, 8);
        let all = [
            id("u", 1, &["a", "b"]),
            id("u", 2, &["a", "b"]),
            id("v", 1, &["a", "b"]),
            id("u", 1, &["ab"]),
            id("u1", 1, &["a", "b"]),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
    }
}
