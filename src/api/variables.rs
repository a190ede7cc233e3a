//! Variables in `output.tags` and in values of build arguments, labels and annotations: `$(COMMIT)`, written as
//! Kubernetes writes variables in a container's arguments
//! (<https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/>). What
//! Kubernetes leaves as it is, an unknown name, is rejected: it cannot be a tag.

use serde_json::{Value, json};

use super::bounds::NO_NUL;

/// What a build knows of itself and its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// All digits of the commit.
    Commit,
    /// Its first seven.
    ShortCommit,
    /// When it was committed.
    CommitTime,
    /// The branch.
    Branch,
    /// The git tag.
    Tag,
    /// The version that the git tag names.
    Semver,
    /// `status.build`.
    BuildNumber,
}

impl Variable {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Commit,
        Self::ShortCommit,
        Self::CommitTime,
        Self::Branch,
        Self::Tag,
        Self::Semver,
        Self::BuildNumber,
    ];

    /// As it stands between `$(` and `)`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Commit => "COMMIT",
            Self::ShortCommit => "SHORT_COMMIT",
            Self::CommitTime => "COMMIT_TIME",
            Self::Branch => "BRANCH",
            Self::Tag => "TAG",
            Self::Semver => "SEMVER",
            Self::BuildNumber => "BUILD_NUMBER",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }
}

/// All of them, as messages list them.
pub fn listed() -> String {
    Variable::ALL
        .map(|variable| format!("$({})", variable.name()))
        .join(", ")
}

/// An expression that matches one of them; short, as each of its characters counts where the API server estimates the cost
/// of a rule. Its backslashes are doubled, as texts of CEL have them.
const ANY: &str = r"\\$\\((SHORT_COMMIT|COMMIT(_TIME)?|BRANCH|TAG|SEMVER|BUILD_NUMBER)\\)";

/// True for a tag as far as it can be told before its variables are known.
pub(super) fn tag_rules() -> Value {
    json!([
        {
            "rule": "self.contains('$') || self.matches('^[A-Za-z0-9_][A-Za-z0-9._-]*$')",
            "message": "output.tags: invalid tag: use letters, digits, _, . and - only, not starting with . or -: write for \
                example feature-x for feature/x, and 1.2.3-4 for 1.2.3+4",
        },
        {
            "rule": format!("!self.contains('$') || self.matches('^([A-Za-z0-9_]|{ANY})([A-Za-z0-9._-]|{ANY})*$')"),
            "message": format!("output.tags: invalid variable or tag: write variables as $(NAME), one of {}, and around them \
                letters, digits, _, . and - only, not starting with . or -: for example main-$(SHORT_COMMIT)", listed()),
        },
    ])
}

/// Values of a map: texts of at most `most` characters, without NUL, which no argument can hold, and with known variables
/// alone.
pub(super) fn values(field: &str, most: u32) -> Value {
    json!({
        "type": "string",
        "maxLength": most,
        "x-kubernetes-validations": [
            {
                "rule": NO_NUL,
                "message": format!("{field}: a value contains a NUL character, which is not allowed: remove it"),
            },
            {
                "rule": format!("!self.contains('$(') || self.matches('^([^$]|\\\\$[^(]|{ANY})*\\\\$?$')"),
                "message": format!("{field}: unknown or unclosed variable: write one of {}, or $$( for $( itself", listed()),
            },
        ],
    })
}

/// True where a spec uses a variable whose name begins in one of these ways: that it is one of those known is another
/// rule's matter.
fn used(begins: &str) -> String {
    // Behind a dollar sign it is not one.
    let text = format!("(^|[^$])\\\\$\\\\(({begins})");
    let map =
        |field: &str| format!("(has({field}) && {field}.exists(k, {field}[k].matches('{text}')))");
    format!(
        "(self.output.tags.exists(t, t.matches('{text}')) || {} || {} || {})",
        map("self.buildArgs"),
        map("self.output.labels"),
        map("self.output.annotations"),
    )
}

/// True where nothing but the number of the build is used without a git source.
pub(super) fn needs_git() -> String {
    format!(
        "has(self.source.git) || has(self.source.flux) && self.source.flux.kind == 'GitRepository' || !{}",
        used("[^B]|BR")
    )
}

/// True where the branch is used of a source that has one.
pub(super) fn needs_branch() -> String {
    format!(
        "!has(self.source.git) || !has(self.source.git.ref) || has(self.source.git.ref.branch) || !{}",
        used("BRANCH")
    )
}

/// True where the tag is used of a source that has one.
pub(super) fn needs_tag() -> String {
    format!(
        "!has(self.source.git) || (has(self.source.git.ref) && (has(self.source.git.ref.tag) || has(self.source.git.ref.semver))) \
         || !{}",
        used("TAG|SEMVER")
    )
}

/// True where the version is used of a tag that is one.
pub(super) fn needs_version() -> String {
    const NUMBER: &str = "(0|[1-9][0-9]*)";
    const WORDS: &str = "[0-9A-Za-z-]+([.][0-9A-Za-z-]+)*";
    format!(
        "!has(self.source.git) || !has(self.source.git.ref) || !has(self.source.git.ref.tag) || \
         self.source.git.ref.tag.matches('^v?{NUMBER}[.]{NUMBER}[.]{NUMBER}(-{WORDS})?([+]{WORDS})?$') || !{}",
        used("SEMVER")
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{accepted, refused};
    use super::*;

    fn git(reference: Value) -> Value {
        json!({"inline": null, "git": {"url": "https://git.example.com/a.git", "ref": reference}})
    }

    fn with(source: Value, tag: &str) -> Value {
        json!({"source": source, "output": {"tags": [tag]}})
    }

    #[test]
    fn each_variable_is_found_by_its_name_and_no_other() {
        let any = regex::Regex::new(&format!("^{}$", ANY.replace("\\\\", "\\"))).unwrap();
        for variable in Variable::ALL {
            assert_eq!(Variable::named(variable.name()), Some(variable));
            let text = format!("$({})", variable.name());
            assert!(listed().contains(&text) && any.is_match(&text), "{text}");
        }
        for other in ["", "NOPE", "commit", "COMMIT ", "SHORT_COMMIT_TIME"] {
            assert_eq!(Variable::named(other), None, "{other}");
            assert!(!any.is_match(&format!("$({other})")), "{other}");
        }
    }

    #[test]
    fn a_variable_that_the_source_cannot_have_is_refused_with_what_to_write() {
        let inline = || json!({});
        accepted(with(inline(), "$(BUILD_NUMBER)"));
        for name in [
            "COMMIT",
            "SHORT_COMMIT",
            "COMMIT_TIME",
            "BRANCH",
            "TAG",
            "SEMVER",
        ] {
            refused(
                with(inline(), &format!("a-$({name})")),
                "requires source.git",
            );
        }
        for reference in [json!(null), json!({"branch": "main"})] {
            accepted(with(git(reference.clone()), "$(BRANCH)-$(SHORT_COMMIT)"));
            for name in ["TAG", "SEMVER"] {
                let tag = format!("$({name})");
                refused(
                    with(git(reference.clone()), &tag),
                    "require source.git.ref.tag",
                );
            }
        }
        let commit = || git(json!({"commit": "a".repeat(40)}));
        accepted(with(commit(), "$(COMMIT)-$(COMMIT_TIME)"));
        refused(
            with(commit(), "$(BRANCH)"),
            "requires source.git.ref.branch",
        );
        let tag = |name: &str| git(json!({"tag": name}));
        accepted(with(tag("release"), "$(TAG)"));
        refused(
            with(tag("v1"), "$(BRANCH)"),
            "requires source.git.ref.branch",
        );
        for version in ["v1.2.3", "1.2.3", "v1.2.3-rc.1+build.5", "0.0.0"] {
            accepted(with(tag(version), "$(SEMVER)"));
        }
        for other in [
            "v1",
            "v1.2",
            "1.02.3",
            "release-1.2.3",
            "v1.2.3-",
            "vv1.2.3",
            "1.2.3.4",
        ] {
            refused(with(tag(other), "$(SEMVER)"), "a version such as v1.2.3");
        }
    }

    #[test]
    fn a_variable_in_any_field_is_seen_and_an_escaped_one_is_not() {
        for (patch, escaped) in [
            (
                json!({"buildArgs": {"A": "x $(COMMIT)"}}),
                json!({"buildArgs": {"A": "x $$(COMMIT)"}}),
            ),
            (
                json!({"output": {"labels": {"a": "$(TAG)"}}}),
                json!({"output": {"labels": {"a": "$$(TAG)"}}}),
            ),
            (
                json!({"output": {"annotations": {"a": "$(TAG)"}}}),
                json!({"output": {"annotations": {"a": "$$(TAG)"}}}),
            ),
        ] {
            refused(patch, "requires source.git");
            accepted(escaped);
        }
    }
}
