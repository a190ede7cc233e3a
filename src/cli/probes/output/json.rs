//! All that is known, as JSON.

use serde::Serialize;

use crate::probes::manifests::{Judged, Spot, below};
use whittle_probe::{Fix, Hook, Role};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Output<'a> {
    findings: Vec<Finding<'a>>,
    warnings: Vec<Warning<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    passed_over: Vec<PassedOver<'a>>,
    errors: Vec<String>,
    summary: Summary,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    works: usize,
    cannot_work: usize,
    unknown: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Where<'a> {
    file: &'a str,
    /// From 0.
    document: usize,
    line: usize,
    column: usize,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    name: &'a str,
    /// From the object's root.
    pointer: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding<'a> {
    #[serde(flatten)]
    at: Where<'a>,
    container: &'a str,
    role: Role,
    probe: Hook,
    image: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<&'a str>,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<Fix>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Warning<'a> {
    #[serde(flatten)]
    at: Where<'a>,
    container: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<Fix>,
}

/// Containers with probes that are not judged.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PassedOver<'a> {
    #[serde(flatten)]
    at: Where<'a>,
    containers: usize,
}

fn at(spot: &Spot) -> Where<'_> {
    Where {
        file: &spot.file,
        document: spot.document,
        line: spot.line,
        column: spot.column,
        kind: &spot.kind,
        namespace: spot.namespace.as_deref(),
        name: &spot.name,
        pointer: &spot.pointer,
    }
}

/// The fix with its patch from the object's root; `own`: the pointer that the patch counts from in the
/// Pod template.
fn from_root(fix: Option<&Fix>, spot: &Spot, own: &str) -> Option<Fix> {
    let mut fix = fix?.clone();
    let template = spot.pointer.strip_suffix(own).unwrap_or_default();
    fix.patch = fix.patch.map(|patch| below(template, &patch));
    Some(fix)
}

pub(super) fn write(judged: &Judged) -> String {
    let (works, cannot_work, unknown) = judged.counts();
    let output = Output {
        findings: judged
            .findings
            .iter()
            .map(|(spot, finding)| Finding {
                at: at(spot),
                container: &finding.container,
                role: finding.role,
                probe: finding.hook,
                image: &finding.image,
                program: finding.program.as_deref(),
                verdict: finding.verdict.name(),
                why: finding.verdict.why(),
                message: &finding.message,
                warnings: &finding.warnings,
                fix: from_root(finding.fix.as_ref(), spot, &finding.pointer),
            })
            .collect(),
        warnings: judged
            .warnings
            .iter()
            .map(|(spot, warning)| Warning {
                at: at(spot),
                container: &warning.container,
                message: &warning.message,
                fix: from_root(warning.fix.as_ref(), spot, &warning.pointer),
            })
            .collect(),
        passed_over: judged
            .passed_over
            .iter()
            .map(|(spot, object)| PassedOver {
                at: at(spot),
                containers: object.containers,
            })
            .collect(),
        errors: judged.errors.iter().map(ToString::to_string).collect(),
        summary: Summary {
            works,
            cannot_work,
            unknown,
        },
    };
    // Texts, numbers and lists alone: nothing in it can fail.
    serde_json::to_string_pretty(&output).unwrap_or_default() + "\n"
}
