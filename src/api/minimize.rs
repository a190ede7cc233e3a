//! `spec.minimize`: what the program of an image never reaches is left out of it, and what became of that.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::item;
use super::health::{Exec, HttpGet};

/// Leaves out of the image what its program never reaches. The smaller image has to answer `spec.healthCheck` before any tag
/// points to it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Minimize {
    /// Apply (the tags point to the smaller image), or Suggest (only says what could go).
    pub mode: MinimizeMode,
    /// Files that are kept in any case: absolute paths, where * stands for any part of a name and ** for any number of
    /// directories, for example /app/templates/**.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("items" = item(1, PATTERN, PATTERN_RULE, &pattern_message("keep")))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub keep: Vec<String>,
    /// Files that are never kept, written like those of keep, for example /usr/share/doc/**.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("items" = item(1, PATTERN, PATTERN_RULE, &pattern_message("drop")))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub drop: Vec<String>,
    /// True has the full image run as a Pod first, through its health check and `exercise`, while it is noted which files it asks
    /// for: these are kept, too. Of mode Apply.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trace: bool,
    /// What the image must be able to do beside its health check, in this order: the smaller image is held to it before any tag
    /// points to it, and `trace` sees what it needs. Of mode Apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.map(e, has(e.exec) ? e.exec.command.map(a, size(a)).sum() : 0).sum() <= 16384").message("minimize.exercise: too large: more than 16,384 characters in all commands"))]
    pub exercise: Vec<Exercise>,
    /// What becomes of the build where the smaller image does not answer the health check: UseFull (the full image is held
    /// to it, and tagged), or Fail.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// Something that the image must be able to do: exactly one of `httpGet` and `exec`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.httpGet) != has(self.exec)").message("minimize.exercise: set exactly one of httpGet and exec"))]
pub struct Exercise {
    /// A request that must be answered with a status from 200 to 399.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGet>,
    /// A command within the container that must end with 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Exec>,
}

/// Characters of a pattern.
const PATTERN: u32 = 512;

/// True for an absolute path with wildcards.
const PATTERN_RULE: &str = "self.startsWith('/') && self != '/' && !self.split('/').exists(p, p == '..' || p == '.') && \
     !self.matches('[\\\\x00-\\\\x1f\\\\x7f]')";

fn pattern_message(field: &str) -> String {
    format!(
        "minimize.{field}: invalid path: write an absolute one without . and .. as parts and without control characters, for \
         example /app/templates/**"
    )
}

/// A rule of the whole spec: what shows that nothing is missing.
pub(super) const NEEDS_HEALTH_CHECK: &str =
    "!has(self.minimize) || self.minimize.mode != 'Apply' || has(self.healthCheck)";

/// A rule of the whole spec: what is run belongs to an image that is made.
pub(super) const NEEDS_APPLY: &str = "!has(self.minimize) || self.minimize.mode == 'Apply' || !(has(self.minimize.trace) && self.minimize.trace) \
     && !has(self.minimize.exercise)";

/// A rule of the whole spec: whoever has ended can do nothing more.
pub(super) const NEEDS_A_SERVER: &str = "!has(self.minimize) || !has(self.minimize.exercise) || !has(self.healthCheck) || !has(self.healthCheck.run)";

/// How it goes on.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum MinimizeMode {
    /// The tags point to the smaller image, once it has answered `spec.healthCheck`.
    Apply,
    /// Only says what could go.
    #[default]
    Suggest,
}

/// What becomes of a build whose smaller image does not answer.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum OnFailure {
    /// The full image is held to the health check, and tagged.
    #[default]
    UseFull,
    /// The build fails.
    Fail,
}

/// What `spec.minimize` came to.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum MinimizeOutcome {
    /// The image is the smaller one.
    Applied,
    /// Nothing was changed: only what could go is said.
    Suggested,
    /// Too little would go: nothing was changed.
    TooLittle,
    /// The smaller image did not answer the health check: the image is the full one.
    FullUsed,
    /// What the program reaches is unknown: nothing was changed.
    #[default]
    NotPossible,
}

/// What `spec.minimize` came to in the image of this status.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MinimizedStatus {
    /// Applied, Suggested, TooLittle, FullUsed (the smaller image did not answer the health check), or NotPossible.
    pub outcome: MinimizeOutcome,
    /// Digest of the smaller image, where one was made.
    #[serde(default)]
    pub digest: Option<String>,
    /// Bytes of the smaller image as stored in the registry, of its largest platform; in Suggest about what they would be.
    #[serde(default)]
    pub size: Option<i64>,
    /// Digest of the image as it was built.
    pub full_digest: String,
    /// Its bytes, as in `status.size`.
    #[serde(default)]
    pub full_size: Option<i64>,
    /// The largest of what was left out, or could be.
    #[serde(default)]
    pub left: Vec<LeftOut>,
    /// A sentence for people.
    pub message: String,
    /// Why the smaller image was rejected. The next one of the same full image is not tried, as long as nothing of this
    /// has changed.
    #[serde(default)]
    pub rejected: Option<Rejected>,
}

/// What was left out of an image.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct LeftOut {
    /// A file, or a directory.
    pub path: String,
    /// Its bytes, unpacked.
    pub size: i64,
}

/// Why a smaller image was rejected.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    /// DoesNotStart, or NotReady.
    pub reason: Rejection,
    /// What its Pod said.
    pub message: String,
    /// Digest of all that another try depends on: spec.minimize, spec.healthCheck, what asks for a build, and the version of
    /// Whittle.
    #[serde(default)]
    pub input: String,
}

/// How a smaller image did not answer.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Rejection {
    /// Its container could not be started, or has ended.
    #[default]
    DoesNotStart,
    /// It ran, and was not Ready in time.
    NotReady,
}

#[cfg(test)]
mod tests {
    use super::super::tests::{accepted, refused};
    use super::*;
    use serde_json::{Value, json};

    fn minimize(change: Value) -> Value {
        let mut minimize = json!({"mode": "Apply"});
        json_patch::merge(&mut minimize, &change);
        json!({"minimize": minimize, "healthCheck": {"tcpSocket": {"port": 80}}})
    }

    #[test]
    fn what_is_applied_needs_a_health_check_and_what_is_suggested_does_not() {
        accepted(minimize(json!({})));
        let mut without = minimize(json!({}));
        without.as_object_mut().unwrap().remove("healthCheck");
        refused(without.clone(), "minimize: mode Apply requires healthCheck");
        without["minimize"]["mode"] = "Suggest".into();
        accepted(without);
    }

    #[test]
    fn paths_are_absolute_and_have_wildcards() {
        for path in ["/app/**", "/etc/myapp/*", "/usr/lib/a..b", "/sp ace", "/ü"] {
            accepted(minimize(json!({"keep": [path], "drop": [path]})));
        }
        for path in ["app/**", "/", "**", "/a/../b", "/a/.", "/a\nb"] {
            refused(
                minimize(json!({"keep": [path]})),
                "minimize.keep: invalid path",
            );
            refused(
                minimize(json!({"drop": [path]})),
                "minimize.drop: invalid path",
            );
        }
    }

    #[test]
    fn what_is_run_is_of_mode_apply_and_each_exercise_is_one_thing() {
        let exercise =
            json!([{"httpGet": {"port": 80}}, {"exec": {"command": ["/app", "selftest"]}}]);
        accepted(minimize(json!({"trace": true, "exercise": exercise})));
        accepted(minimize(json!({"mode": "Suggest", "trace": false})));
        for change in [json!({"trace": true}), json!({"exercise": exercise})] {
            let mut minimize = minimize(change);
            minimize["minimize"]["mode"] = "Suggest".into();
            refused(
                minimize,
                "minimize.trace and minimize.exercise require mode Apply",
            );
        }
        for one in [
            json!({}),
            json!({"httpGet": {"port": 80}, "exec": {"command": ["a"]}}),
        ] {
            refused(
                minimize(json!({"exercise": [one]})),
                "minimize.exercise: set exactly one of httpGet and exec",
            );
        }
        let long =
            json!({"exec": {"command": ["a".repeat(4000), "b".repeat(4000), "c".repeat(4000)]}});
        refused(
            minimize(json!({"exercise": [long, long]})),
            "minimize.exercise: too large",
        );
    }

    #[test]
    fn the_full_image_may_be_the_one_for_debugging() {
        let mut spec = minimize(json!({}));
        spec["debug"] = json!({"full": true});
        accepted(spec.clone());
        spec["debug"]["image"] = "busybox:1.36".into();
        refused(spec.clone(), "debug: set exactly one of");
        spec["debug"] = json!({"full": false});
        refused(spec, "debug: set exactly one of");
        refused(
            json!({"debug": {"full": true}}),
            "debug.full requires minimize",
        );
    }

    #[test]
    fn a_program_that_ends_is_not_exercised() {
        let mut spec = minimize(json!({"exercise": [{"httpGet": {"port": 80}}]}));
        spec["healthCheck"] = json!({"run": {"args": ["--version"], "stdout": "1.2"}});
        refused(
            spec,
            "minimize.exercise: not allowed beside healthCheck.run",
        );
    }

    #[test]
    fn the_full_image_is_used_where_nothing_else_is_said() {
        let read: Minimize = serde_json::from_value(json!({"mode": "Apply"})).unwrap();
        assert_eq!(read.on_failure, OnFailure::UseFull);
        assert!(serde_json::from_value::<Minimize>(json!({})).is_err());
    }
}
