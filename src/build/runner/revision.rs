//! What was really built.
//!
//! For git the commit comes from BuildKit's own look-up, which it logs (`<commit>\trefs/heads/main`) when
//! the source is surveyed, also where all is cached (but not in solves that join another's look-up: see
//! [`crate::buildctl::source_policy`]). The build itself is then held to that commit.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::buildctl::whole_ref;
use crate::request::BuildRequest;
use whittle_api::{GitRef, GitSource};
use whittle_image::digest_text;

/// `inline@sha256:digest` or `configmap@sha256:digest`, where `context` holds the files of such a source.
pub(super) fn of_files(
    request: &BuildRequest,
    context: Option<&Path>,
) -> io::Result<Option<String>> {
    let kind = match (
        &request.inputs.source.inline,
        &request.inputs.source.config_map,
    ) {
        (Some(_), _) => "inline",
        (_, Some(_)) => "configmap",
        _ => return Ok(None),
    };
    let mut files = BTreeMap::new();
    if let Some(context) = context {
        collect(context, "", &mut files)?;
    }
    Ok(Some(format!("{kind}@{}", digest(&files))))
}

fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{name}/"), files)?;
        } else {
            files.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(())
}

/// A digest of all names and contents, in the order of the names.
fn digest(files: &BTreeMap<String, Vec<u8>>) -> String {
    let mut hash = Sha256::new();
    for (name, bytes) in files {
        for part in [name.as_bytes(), bytes] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    digest_text(&hash.finalize())
}

/// The commit of a git revision.
pub(super) fn commit(revision: &str) -> Option<&str> {
    revision.rsplit(':').next().filter(|commit| {
        matches!(commit.len(), 40 | 64) && commit.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

/// `branch@sha1:commit`, `tag@sha1:commit` or `sha1:commit`; none where git's output does not say.
pub(super) fn of_git(source: &GitSource, output: &str) -> Option<String> {
    match &source.reference {
        Some(GitRef {
            commit: Some(commit),
            ..
        }) => Some(format!("{}:{commit}", algorithm(commit))),
        Some(GitRef {
            branch: Some(branch),
            ..
        }) => {
            let commit = commit_of(output, &format!("refs/heads/{branch}"))?;
            Some(format!("{branch}@{}:{commit}", algorithm(commit)))
        }
        Some(GitRef { tag: Some(tag), .. }) => {
            // An annotated tag has an object of its own; `^{}` is the commit behind it.
            let name = format!("refs/tags/{tag}");
            let commit =
                commit_of(output, &format!("{name}^{{}}")).or_else(|| commit_of(output, &name))?;
            Some(format!("{tag}@{}:{commit}", algorithm(commit)))
        }
        _ => {
            let name = head(output);
            let commit = name
                .and_then(|name| commit_of(output, name))
                .or_else(|| commit_of(output, "HEAD"))?;
            let short = name.map_or("HEAD", |name| name.trim_start_matches("refs/heads/"));
            Some(format!("{short}@{}:{commit}", algorithm(commit)))
        }
    }
}

/// The whole name of the ref that the source stands for, and the object behind it, as git's output says; none for a
/// commit.
pub(super) fn named(source: &GitSource, output: &str) -> Option<(String, String)> {
    let name = match &source.reference {
        Some(_) => whole_ref(source)?,
        None => head(output)?.to_owned(),
    };
    let object = commit_of(output, &name)?.to_owned();
    Some((name, object))
}

/// The ref that the remote's HEAD stands for.
fn head(output: &str) -> Option<&str> {
    output
        .lines()
        .find_map(|line| line.strip_prefix("ref: ")?.strip_suffix("\tHEAD"))
}

/// The commit in a line `<commit>\t<name>`.
fn commit_of<'a>(output: &'a str, name: &str) -> Option<&'a str> {
    output.lines().find_map(|line| {
        let (commit, found) = line.split_once('\t')?;
        let hex = commit.bytes().all(|b| b.is_ascii_hexdigit());
        (found == name && hex && matches!(commit.len(), 40 | 64)).then_some(commit)
    })
}

fn algorithm(commit: &str) -> &'static str {
    if commit.len() == 64 { "sha256" } else { "sha1" }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "837dd142b9ed4a2a48537e32a6406699dbe776bd";
    const TAG: &str = "3d1c8e505bd95cc9783f7cb75d5228216f01f964";

    fn source(reference: Option<GitRef>) -> GitSource {
        GitSource {
            url: "https://h/x.git".into(),
            reference,
            sub_path: None,
            secret_ref: None,
        }
    }

    fn branch(name: &str) -> GitSource {
        source(Some(GitRef {
            branch: Some(name.into()),
            ..GitRef::default()
        }))
    }

    #[test]
    fn a_branch_has_the_commit_that_buildkit_logged() {
        let output =
            format!("{COMMIT}\trefs/heads/main\nFrom http://h/x\n * [new branch] main -> main\n");
        assert_eq!(
            of_git(&branch("main"), &output),
            Some(format!("main@sha1:{COMMIT}"))
        );
        assert_eq!(of_git(&branch("other"), &output), None);
        assert_eq!(of_git(&branch("main"), ""), None);
    }

    #[test]
    fn an_annotated_tag_has_the_commit_behind_it() {
        let tag = source(Some(GitRef {
            tag: Some("v1".into()),
            ..GitRef::default()
        }));
        let light = format!("{COMMIT}\trefs/tags/v1\n");
        assert_eq!(of_git(&tag, &light), Some(format!("v1@sha1:{COMMIT}")));
        let annotated = format!("{TAG}\trefs/tags/v1\n{COMMIT}\trefs/tags/v1^{{}}\n");
        assert_eq!(of_git(&tag, &annotated), Some(format!("v1@sha1:{COMMIT}")));
    }

    #[test]
    fn without_a_ref_the_remotes_head_is_named() {
        let output =
            format!("ref: refs/heads/main\tHEAD\n{COMMIT}\tHEAD\n{COMMIT}\trefs/heads/main\n");
        assert_eq!(
            of_git(&source(None), &output),
            Some(format!("main@sha1:{COMMIT}"))
        );
        let detached = format!("{COMMIT}\tHEAD\n");
        assert_eq!(
            of_git(&source(None), &detached),
            Some(format!("HEAD@sha1:{COMMIT}"))
        );
    }

    #[test]
    fn a_commit_is_its_own_revision_and_may_be_sha256() {
        for (commit, algorithm) in [("a".repeat(40), "sha1"), ("b".repeat(64), "sha256")] {
            let fixed = source(Some(GitRef {
                commit: Some(commit.clone()),
                ..GitRef::default()
            }));
            assert_eq!(of_git(&fixed, ""), Some(format!("{algorithm}:{commit}")));
        }
    }

    #[test]
    fn a_kept_ref_has_its_whole_name_and_an_annotated_tag_its_own_object() {
        let tag = source(Some(GitRef {
            tag: Some("v1".into()),
            ..GitRef::default()
        }));
        let annotated = format!("{TAG}\trefs/tags/v1\n{COMMIT}\trefs/tags/v1^{{}}\n");
        let named_as = |name: &str, object: &str| Some((name.to_owned(), object.to_owned()));
        assert_eq!(named(&tag, &annotated), named_as("refs/tags/v1", TAG));
        let output =
            format!("ref: refs/heads/main\tHEAD\n{COMMIT}\tHEAD\n{COMMIT}\trefs/heads/main\n");
        assert_eq!(
            named(&source(None), &output),
            named_as("refs/heads/main", COMMIT)
        );
        let commit = source(Some(GitRef {
            commit: Some(COMMIT.into()),
            ..GitRef::default()
        }));
        assert_eq!(named(&commit, &output), None);
    }

    #[test]
    fn files_have_another_digest_for_each_content() {
        let of = |files: &[(&str, &str)]| {
            let files = files.iter().map(|(n, t)| ((*n).into(), (*t).into()));
            digest(&files.collect())
        };
        let digests = [
            of(&[("a", "bc")]),
            of(&[("ab", "c")]),
            of(&[("a", "b"), ("c", "")]),
        ];
        assert_eq!(digests[0].len(), 71);
        assert!(digests[0] != digests[1] && digests[1] != digests[2] && digests[0] != digests[2]);
    }

    #[test]
    fn the_commit_of_a_revision_is_its_end() {
        assert_eq!(commit(&format!("main@sha1:{COMMIT}")), Some(COMMIT));
        assert_eq!(commit("main@sha1:short"), None);
    }
}
