//! For every hint a Dockerfile that earns it, and those that nearly do.

mod args;
mod bases;
mod caches;
mod checks;
mod corpus;
mod forms;
mod mounts;
mod order;
mod secrets;
mod whole;

use super::*;
use HintKind as K;

/// A pinned base, so that tests of other rules hear nothing of it.
const PIN: &str = "@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

#[derive(Default)]
struct Case<'a> {
    target: Option<&'a str>,
    build_args: &'a [(&'a str, &'a str)],
    files: &'a [(&'a str, &'a str)],
    warnings: &'a [(&'a str, i32)],
}

impl Case<'_> {
    /// `@@` stands for the digest.
    fn of(&self, dockerfile: &str) -> Vec<Hint> {
        let build_args = self
            .build_args
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let files: Vec<ContextFile> = self
            .files
            .iter()
            .map(|(path, head)| ContextFile {
                path: (*path).to_owned(),
                head: head.as_bytes().to_vec(),
            })
            .collect();
        let warnings: Vec<BuildWarning> = self
            .warnings
            .iter()
            .map(|(text, line)| BuildWarning {
                text: (*text).to_owned(),
                line: Some(*line),
                url: None,
            })
            .collect();
        advise(&View {
            dockerfile_path: "Dockerfile",
            dockerfile: &dockerfile.replace("@@", PIN),
            target: self.target,
            build_args: &build_args,
            files: &files,
            warnings: &warnings,
        })
    }

    fn kinds(&self, dockerfile: &str) -> Vec<(K, Option<i32>)> {
        let hints = self.of(dockerfile);
        hints.iter().map(|hint| (hint.kind, hint.line)).collect()
    }
}

fn kinds(dockerfile: &str) -> Vec<(K, Option<i32>)> {
    Case::default().kinds(dockerfile)
}

fn one(dockerfile: &str) -> Hint {
    let hints = Case::default().of(dockerfile);
    assert_eq!(hints.len(), 1, "{dockerfile}\n{hints:#?}");
    hints[0].clone()
}

#[track_caller]
fn silent(dockerfiles: &[&str]) {
    for dockerfile in dockerfiles {
        let hints = Case::default().of(dockerfile);
        assert!(hints.is_empty(), "{dockerfile}\n{hints:#?}");
    }
}
