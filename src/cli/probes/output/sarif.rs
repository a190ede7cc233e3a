//! SARIF 2.1.0 (<https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/sarif-v2.1.0-os.html>), as far as
//! results with places go.

use serde::Serialize;

use super::object;
use crate::probes::files::STDIN;
use crate::probes::manifests::{Judged, Spot};
use whittle_probe::Verdict;

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// The rules: id, name, what it says, level.
const RULES: [(&str, &str, &str, &str); 4] = [
    (
        "probe-cannot-work",
        "ProbeCannotWork",
        "The probe or lifecycle hook can never succeed on the container's image.",
        "error",
    ),
    (
        "probe-unknown",
        "ProbeUnknown",
        "It is unknown whether the probe or lifecycle hook works on the container's image.",
        "note",
    ),
    (
        "probe-odd",
        "ProbeOdd",
        "The probe or lifecycle hook works, but looks like a mistake.",
        "warning",
    ),
    (
        "health-check-ignored",
        "HealthCheckIgnored",
        "The image has a HEALTHCHECK, which Kubernetes ignores, and the container has no probe.",
        "warning",
    ),
];

#[derive(Serialize)]
struct Log {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    tool: Tool,
    /// Columns count characters, not UTF-16.
    column_kind: &'static str,
    invocations: [Invocation; 1],
    results: Vec<Outcome>,
}

#[derive(Serialize)]
struct Tool {
    driver: Driver,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Driver {
    name: &'static str,
    version: &'static str,
    rules: Vec<Rule>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    id: &'static str,
    name: &'static str,
    short_description: Message,
    default_configuration: Configuration,
}

#[derive(Serialize)]
struct Configuration {
    level: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    execution_successful: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_execution_notifications: Vec<Notification>,
}

#[derive(Serialize)]
struct Notification {
    level: &'static str,
    message: Message,
}

#[derive(Serialize)]
struct Message {
    text: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    rule_id: &'static str,
    rule_index: usize,
    level: &'static str,
    message: Message,
    locations: [Location; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: Physical,
    logical_locations: [Logical; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Physical {
    artifact_location: Artifact,
    region: Region,
}

#[derive(Serialize)]
struct Artifact {
    uri: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: usize,
    start_column: usize,
    end_line: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Logical {
    fully_qualified_name: String,
}

pub(super) fn write(judged: &Judged, strict: bool) -> String {
    let mut results = Vec::new();
    for (spot, finding) in &judged.findings {
        let rule = match finding.verdict {
            Verdict::Works => None,
            Verdict::CannotWork(_) => Some((0, "error")),
            Verdict::Unknown(_) => Some((1, if strict { "error" } else { "note" })),
        };
        if let Some((rule, level)) = rule {
            results.push(outcome(
                rule,
                level,
                spot,
                &finding.container,
                &finding.message,
            ));
        }
        for warning in &finding.warnings {
            results.push(outcome(2, "warning", spot, &finding.container, warning));
        }
    }
    for (spot, warning) in &judged.warnings {
        results.push(outcome(
            3,
            "warning",
            spot,
            &warning.container,
            &warning.message,
        ));
    }
    let log = Log {
        schema: SCHEMA,
        version: "2.1.0",
        runs: [Run {
            tool: Tool {
                driver: Driver {
                    name: "whittle",
                    version: env!("CARGO_PKG_VERSION"),
                    rules: RULES
                        .into_iter()
                        .map(|(id, name, text, level)| Rule {
                            id,
                            name,
                            short_description: Message { text: text.into() },
                            default_configuration: Configuration { level },
                        })
                        .collect(),
                },
            },
            column_kind: "unicodeCodePoints",
            invocations: [Invocation {
                execution_successful: judged.errors.is_empty(),
                tool_execution_notifications: judged
                    .errors
                    .iter()
                    .map(|error| Notification {
                        level: "error",
                        message: Message {
                            text: error.to_string(),
                        },
                    })
                    .collect(),
            }],
            results,
        }],
    };
    // Texts, numbers and lists alone: nothing in it can fail.
    serde_json::to_string_pretty(&log).unwrap_or_default() + "\n"
}

fn outcome(
    rule: usize,
    level: &'static str,
    spot: &Spot,
    container: &str,
    message: &str,
) -> Outcome {
    Outcome {
        rule_id: RULES[rule].0,
        rule_index: rule,
        level,
        message: Message {
            text: message.to_owned(),
        },
        locations: [Location {
            physical_location: Physical {
                artifact_location: Artifact {
                    uri: uri(&spot.file),
                },
                region: Region {
                    start_line: spot.line,
                    start_column: spot.column,
                    end_line: spot.end_line,
                },
            },
            logical_locations: [Logical {
                fully_qualified_name: format!("{} {container} {}", object(spot), spot.pointer),
            }],
        }],
    }
}

/// A path as a reference relative to where the command ran, or as a URI where it is absolute (RFC 3986).
fn uri(file: &str) -> String {
    if file == STDIN {
        return "stdin".into();
    }
    let path = file.strip_prefix("./").unwrap_or(file);
    let mut text = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
