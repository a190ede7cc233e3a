//! How much of anything a spec may hold. What others write is bounded before it is kept: the controller holds many
//! objects in little memory, and buildctl's arguments have to fit into one exec.
//!
//! Lengths count characters, as the schema does: up to four bytes each. The schema cannot bound the keys of a map,
//! so each map has a rule that does.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// Characters of all build arguments, names and values.
pub const BUILD_ARGS: usize = 65_536;
/// Characters of all labels of an image, names and values.
pub const LABELS: usize = 32_768;
/// Characters of all annotations of an image, names and values: they share one argument of buildctl.
pub const ANNOTATIONS: usize = 16_384;

/// True for names of objects.
pub(super) const OBJECT_NAME: &str = "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')";
/// True for keys of ConfigMaps and Secrets.
pub(super) const DATA_KEY: &str = "self.matches('^[-._a-zA-Z0-9]+$')";
/// True without NUL, which no argument and no variable can hold.
pub(super) const NO_NUL: &str = "!self.contains('\\x00')";

// What git's check-ref-format forbids (https://git-scm.com/docs/git-check-ref-format), and whole names of refs.
/// True for a short name.
pub(super) const REF_WHOLE: &str = "!self.startsWith('refs/')";
/// True without signs that mean something to git.
pub(super) const REF_SIGNS: &str = r"!self.matches('[\\x00-\\x20\\x7f~^:?*\\[\\\\]')";
/// True for a name of allowed parts.
pub(super) const REF_FORM: &str = "self != '@' && !self.startsWith('-') && !self.startsWith('/') && !self.endsWith('/') && \
     !self.endsWith('.') && !self.contains('..') && !self.contains('//') && !self.contains('@{') && \
     !self.split('/').exists(p, p.startsWith('.') || p.endsWith('.lock'))";

/// One rule that says in words what is wrong: a `pattern` of a schema would show the regular expression.
fn said(rule: &str, message: &str) -> Value {
    json!([{"rule": rule, "message": message}])
}

/// One text of a list, held to a rule.
pub(super) fn item(least: u32, most: u32, rule: &str, message: &str) -> Value {
    json!({
        "type": "string",
        "minLength": least,
        "maxLength": most,
        "x-kubernetes-validations": said(rule, message),
    })
}

/// Contents of files.
pub(super) fn file(most: u32) -> Value {
    json!({"type": "string", "maxLength": most})
}

/// Requests and limits: a quantity has few digits, and a container few resources.
pub(super) fn resources(_: &mut SchemaGenerator) -> Schema {
    let quantities = |description: &str| {
        json!({
            "type": "object",
            "description": description,
            "maxProperties": 16,
            "additionalProperties": {
                "x-kubernetes-int-or-string": true,
                "anyOf": [{"type": "integer"}, {"type": "string"}],
                "maxLength": 32,
            },
            "x-kubernetes-validations": [key_rule("resources")],
        })
    };
    json_schema!({
        "type": "object",
        "properties": {
            "limits": quantities("Limits of the container, for example memory: 4Gi."),
            "requests": quantities("Requests of the container, for example cpu: 500m."),
            "claims": {
                "type": "array",
                "description": "Names of resource claims of the Pod.",
                "maxItems": 16,
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"type": "string", "maxLength": 253},
                        "request": {"type": "string", "maxLength": 253},
                    },
                },
            },
        },
    })
}

/// Labels of nodes.
pub(super) fn node_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 63},
        "x-kubernetes-validations": [key_rule("nodeSelector")],
    })
}

/// Tolerations, as a Pod has them.
pub(super) fn tolerations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": {
            "type": "object",
            "properties": {
                "key": {"type": "string", "maxLength": 317, "description": "Key of the taint; all where it is absent."},
                "operator": {"type": "string", "maxLength": 16, "description": "Equal (the default) or Exists."},
                "value": {"type": "string", "maxLength": 63, "description": "Value of the taint, for Equal."},
                "effect": {"type": "string", "maxLength": 32, "description": "NoSchedule, PreferNoSchedule or NoExecute; all where it is absent."},
                "tolerationSeconds": {"type": "integer", "format": "int64", "description": "How long NoExecute is tolerated; without limit where it is absent."},
            },
        },
    })
}

/// Keys as long as the longest name of a label: a prefix of 253 characters, a slash, 63 characters.
fn key_rule(field: &str) -> Value {
    json!({
        "rule": "self.all(k, size(k) <= 317)",
        "message": format!("{field}: name too long: at most 317 characters"),
    })
}
