//! What is known of a git source, as annotations that tools look for
//! (<https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md>).
//!
//! The same commit has the same ones: `created` is the time of the commit, and never that of the build.

use std::collections::BTreeMap;

use super::inputs::Inputs;
use super::variables::Known;

/// Those that the user has not given. The time is known only where something else asks for it.
pub fn of_source(inputs: &Inputs, known: &Known) -> BTreeMap<String, String> {
    let Some(git) = &inputs.source.git else {
        return BTreeMap::new();
    };
    let found = [
        ("source", Some(without_credentials(&git.url))),
        ("revision", known.commit.clone()),
        ("created", known.time.map(|time| time.to_string())),
        ("version", known.version(&inputs.source).map(str::to_owned)),
    ];
    let named = found.into_iter().filter_map(|(name, value)| {
        let name = format!("org.opencontainers.image.{name}");
        Some((name, value?))
    });
    let given = &inputs.output.annotations;
    named
        .filter(|(name, _)| !given.contains_key(name))
        .collect()
}

/// A URL without a password, and over HTTP without a user: specs from before the rule against them may have both.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) if scheme == "ssh" => {
            format!("{}@{host}", user.split(':').next().unwrap_or_default())
        }
        Some((_, host)) => host.to_owned(),
        None => authority.to_owned(),
    };
    format!("{scheme}://{authority}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::request;
    use whittle_api::{GitRef, GitSource};

    fn inputs(url: &str, tag: &str) -> Inputs {
        let mut inputs = request().inputs;
        inputs.source.git = Some(GitSource {
            url: url.into(),
            reference: Some(GitRef {
                tag: Some(tag.into()),
                ..GitRef::default()
            }),
            sub_path: None,
            secret_ref: None,
        });
        inputs
    }

    fn known(tag: &str) -> Known {
        Known {
            commit: Some("c".repeat(40)),
            found_by: Some(tag.into()),
            time: None,
            build: 7,
        }
    }

    #[test]
    fn what_is_known_of_a_git_source_is_annotated_and_of_others_nothing() {
        let found = of_source(&inputs("https://h/x", "v1.2.3"), &known("v1.2.3"));
        insta::assert_debug_snapshot!(found, @r#"
        {
            "org.opencontainers.image.revision": "cccccccccccccccccccccccccccccccccccccccc",
            "org.opencontainers.image.source": "https://h/x",
            "org.opencontainers.image.version": "1.2.3",
        }
        "#);
        let timed = Known {
            time: Some("2026-11-26T18:45:00Z".parse().unwrap()),
            ..known("main")
        };
        let found = of_source(&inputs("https://h/x", "main"), &timed);
        assert_eq!(
            found["org.opencontainers.image.created"],
            "2026-11-26T18:45:00Z"
        );
        assert!(!found.contains_key("org.opencontainers.image.version"));
        assert_eq!(of_source(&request().inputs, &timed), BTreeMap::new());
    }

    #[test]
    fn what_the_user_gives_stays() {
        let mut inputs = inputs("https://h/x", "v1.2.3");
        let name = "org.opencontainers.image.version";
        inputs.output.annotations = [(name.into(), "mine".into())].into();
        let found = of_source(&inputs, &known("v1.2.3"));
        assert_eq!(found.len(), 2);
        assert!(!found.contains_key(name));
    }

    #[test]
    fn no_credentials_are_annotated() {
        for (url, expected) in [
            ("https://bob:hunter2@h:1/x", "https://h:1/x"),
            ("https://token@h/x@y", "https://h/x@y"),
            ("ssh://git:hunter2@h/x", "ssh://git@h/x"),
            ("ssh://git@h/x", "ssh://git@h/x"),
            ("git@h:team/x.git", "git@h:team/x.git"),
            ("http://h/x", "http://h/x"),
        ] {
            assert_eq!(without_credentials(url), expected);
        }
    }
}
