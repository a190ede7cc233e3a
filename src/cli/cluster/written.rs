//! What is printed for programs.

use serde::Serialize;

use super::answer::Failed;

/// As JSON, with an end of line.
pub(crate) fn json(value: &impl Serialize) -> Result<String, Failed> {
    let text = serde_json::to_string_pretty(value).map_err(|error| internal(&error))?;
    Ok(text + "\n")
}

/// As YAML.
pub(crate) fn yaml(value: &impl Serialize) -> Result<String, Failed> {
    serde_saphyr::to_string(value).map_err(|error| internal(&error))
}

fn internal(error: &dyn std::fmt::Display) -> Failed {
    Failed::Refused(format!("internal error: it cannot be written: {error}"))
}
