//! What the builder does not do.

use super::{Again, Case, Finding, listed, quoted_after};
use whittle_api::FailureReason;

impl Case<'_> {
    pub(super) fn rejected(&self, line: &mut Option<i32>) -> Option<Finding> {
        let said = self.error.lines().next().unwrap_or_default();
        let rejected = |message: String| Some((FailureReason::BuildRejected, message, Again::No));
        if let Some(id) = said
            .strip_prefix("secret ")
            .and_then(|r| r.strip_suffix(": not found"))
        {
            let ids: Vec<&str> = self
                .request
                .inputs
                .secrets
                .iter()
                .map(|s| s.id.as_str())
                .collect();
            let given = if ids.is_empty() {
                "has none".into()
            } else {
                format!("has {}", listed(&ids))
            };
            return rejected(format!(
                "secret \"{id}\" missing: the Dockerfile requires it, but spec.secrets {given}"
            ));
        }
        if let Some(id) = quoted_after(said, "no SSH key ") {
            let named = match id {
                "" | "default" => String::new(),
                id => format!(" \"{id}\""),
            };
            let why = match (&self.request.inputs.source.git, named.as_str()) {
                (Some(git), "") if git.secret_ref.is_some() => {
                    "its source's Secret is not of type kubernetes.io/ssh-auth"
                }
                (_, "") => "the build has none",
                _ => "the build has at most the one of id default",
            };
            return rejected(format!(
                "{}: SSH key missing: --mount=type=ssh needs one{named}, but {why}: use a git \
                    source with a Secret of type kubernetes.io/ssh-auth (source.git.secretRef), \
                    or pass the key as a build secret with spec.secrets and --mount=type=secret",
                self.place(*line)
            ));
        }
        if let Some(what) = said
            .strip_prefix("failed to load LLB: ")
            .and_then(|rest| rest.strip_suffix(" is not allowed"))
        {
            let flag = match what.split_once('.') {
                Some((kind, value)) => format!("--{kind}={value}"),
                None => what.to_owned(),
            };
            let mut all = self.lines.instructions.iter();
            let by = all.find(|one| one.text.split_whitespace().any(|word| word == flag));
            *line = line.or_else(|| by.map(|one| one.line));
            let who = match *line {
                Some(line) => self.place(Some(line)),
                None => "the Dockerfile".into(),
            };
            return rejected(format!(
                "{who} requires {what}, which is never allowed: remove it"
            ));
        }
        if let Some(device) = quoted_after(said, "required device ") {
            let mut all = self.lines.instructions.iter();
            let by = all.find(|one| one.text.contains("--device="));
            *line = line.or_else(|| by.map(|one| one.line));
            return rejected(format!(
                "{} requires device {device}, which is unsupported: remove it",
                self.place(*line)
            ));
        }
        if said.starts_with("exit code: ")
            && (self.lines.names_frontend
                || self
                    .request
                    .inputs
                    .build_args
                    .contains_key("BUILDKIT_SYNTAX"))
        {
            return rejected(format!(
                "the image of # syntax= is not a working Dockerfile frontend ({said}): check its \
                    name, or remove the line"
            ));
        }
        None
    }
}
