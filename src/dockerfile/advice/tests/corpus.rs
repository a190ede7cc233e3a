//! Dockerfiles of all kinds, each with the hints that are right.
//!
//! `corpus/*.txt` holds them one after the other:
//!
//! ```text
//! ==== name tags          a Dockerfile; `tags`: its bases are named by tags alone; `crlf`, `bom`: as written elsewhere
//! #? PackageCacheInLayer  the next line earns these hints
//! #= BuildArgNotDeclared  these hints are about no line
//! ---- file path          a file of the context, its content behind
//! ---- args NAME=value    spec.buildArgs
//! ---- target name        spec.target
//! ```
//!
//! The marks are comments, so they stand in the Dockerfile that is looked at. `corpus/checks.tsv` holds what
//! BuildKit v0.33.1 itself warns of in each of them: name, line and text, as its frontend says it, the variables of
//! well-known base images known to it.

use std::collections::{BTreeMap, BTreeSet};

use strum::IntoEnumIterator;

use super::*;

const FILES: [&str; 11] = [
    include_str!("../corpus/distros.txt"),
    include_str!("../corpus/forms.txt"),
    include_str!("../corpus/go.txt"),
    include_str!("../corpus/images.txt"),
    include_str!("../corpus/java.txt"),
    include_str!("../corpus/node.txt"),
    include_str!("../corpus/odd.txt"),
    include_str!("../corpus/others.txt"),
    include_str!("../corpus/python.txt"),
    include_str!("../corpus/ruby-php.txt"),
    include_str!("../corpus/secrets.txt"),
];
const CHECKS: &str = include_str!("../corpus/checks.tsv");

/// A hint: its kind and its line.
type Told = (&'static str, Option<i32>);

struct Sample {
    name: String,
    text: String,
    files: Vec<ContextFile>,
    build_args: BTreeMap<String, String>,
    target: Option<String>,
    right: BTreeSet<Told>,
}

fn kind(name: &str) -> &'static str {
    HintKind::iter()
        .map(|kind| kind.as_str())
        .find(|known| *known == name)
        .unwrap_or_else(|| panic!("no such hint: {name}"))
}

fn samples() -> Vec<Sample> {
    FILES
        .iter()
        .flat_map(|file| file.split("==== ").skip(1))
        .map(sample)
        .collect()
}

fn sample(text: &str) -> Sample {
    let (head, body) = text.split_once('\n').unwrap();
    let mut words = head.split_whitespace();
    let name = words.next().unwrap().to_owned();
    let flags: Vec<&str> = words.collect();
    let mut parts = body.split("\n---- ");
    let mut text = format!("{}\n", parts.next().unwrap().trim_end());
    let mut right = BTreeSet::new();
    for (line, number) in text.lines().zip(1..) {
        if let Some(kinds) = line.strip_prefix("#? ") {
            right.extend(
                kinds
                    .split_whitespace()
                    .map(|name| (kind(name), Some(number + 1))),
            );
        }
        if let Some(kinds) = line.strip_prefix("#= ") {
            right.extend(kinds.split_whitespace().map(|name| (kind(name), None)));
        }
    }
    for flag in flags {
        match flag {
            "tags" => {
                right.insert((HintKind::BaseImageNotPinned.as_str(), None));
            }
            "crlf" => text = text.replace('\n', "\r\n"),
            "bom" => text.insert(0, '\u{feff}'),
            other => panic!("{name}: {other}"),
        }
    }
    let mut sample = Sample {
        name,
        text,
        files: vec![],
        build_args: BTreeMap::new(),
        target: None,
        right,
    };
    for part in parts {
        let (head, content) = part.split_once('\n').unwrap_or((part, ""));
        match head.trim().split_once(' ').unwrap() {
            ("file", path) => sample.files.push(ContextFile {
                path: path.to_owned(),
                head: content.as_bytes().to_vec(),
            }),
            ("args", pairs) => {
                let pairs = pairs
                    .split_whitespace()
                    .filter_map(|pair| pair.split_once('='));
                let owned = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
                sample.build_args.extend(owned);
            }
            ("target", name) => sample.target = Some(name.to_owned()),
            (other, _) => panic!("{}: {other}", sample.name),
        }
    }
    sample
}

fn checks(name: &str) -> Vec<BuildWarning> {
    CHECKS
        .lines()
        .filter_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix('\t')?
                .split_once('\t')
        })
        .map(|(line, text)| BuildWarning {
            text: text.to_owned(),
            line: line.parse().ok(),
            url: None,
        })
        .collect()
}

fn told(sample: &Sample) -> BTreeSet<Told> {
    let hints = advise(&View {
        dockerfile_path: "Dockerfile",
        dockerfile: &sample.text,
        target: sample.target.as_deref(),
        build_args: &sample.build_args,
        files: &sample.files,
        warnings: &checks(&sample.name),
    });
    hints
        .iter()
        .map(|hint| (hint.kind.as_str(), hint.line))
        .collect()
}

#[test]
fn the_hints_on_dockerfiles_of_all_kinds_are_the_right_ones() {
    let samples = samples();
    let mut wrong = vec![];
    let mut counts: BTreeMap<&str, [u32; 3]> = BTreeMap::new();
    for sample in &samples {
        let told = told(sample);
        for hint in told.union(&sample.right) {
            let at = match (told.contains(hint), sample.right.contains(hint)) {
                (true, true) => 0,
                (true, false) => 1,
                _ => 2,
            };
            counts.entry(hint.0).or_default()[at] += 1;
            if at > 0 {
                let what = ["", "false", "missed"][at];
                let line = hint.1.map_or(String::new(), |line| format!(":{line}"));
                wrong.push(format!("{what}: {}{line} {}", sample.name, hint.0));
            }
        }
    }
    let share = |[right, other]: [u32; 2]| f64::from(right) / f64::from((right + other).max(1));
    let mut all = [0; 3];
    println!("{:24} right false missed precision recall", "");
    let row = |name: &str, [right, false_, missed]: [u32; 3]| {
        println!(
            "{name:24} {right:5} {false_:5} {missed:6} {:9.3} {:6.3}",
            share([right, false_]),
            share([right, missed])
        );
    };
    for (name, count) in &counts {
        row(name, *count);
        (0..3).for_each(|n| all[n] += count[n]);
    }
    row(&format!("{} Dockerfiles", samples.len()), all);
    let [right, false_, missed] = all;
    assert!(samples.len() >= 150, "{}", samples.len());
    assert!(
        false_ == 0 && share([right, missed]) >= 0.95,
        "{}",
        wrong.join("\n")
    );
    // Each rule that needs no build has a part in it.
    for kind in HintKind::iter() {
        let built = matches!(
            kind,
            HintKind::HealthCheckCannotWork
                | HintKind::CacheMountEmpty
                | HintKind::CacheRegistryFailed
                | HintKind::SmallerImage
        );
        assert!(
            built || counts.contains_key(kind.as_str()),
            "{}",
            kind.as_str()
        );
    }
}

#[test]
fn every_dockerfile_of_the_corpus_is_one_and_has_a_name_of_its_own() {
    let samples = samples();
    let names: BTreeSet<&str> = samples.iter().map(|sample| sample.name.as_str()).collect();
    assert_eq!(names.len(), samples.len());
    for sample in &samples {
        let file = crate::reader::parse(&sample.text).unwrap_or_default();
        let stages = crate::advice::Stages::read(&file, None, &BTreeMap::new());
        assert!(
            stages.is_some_and(|stages| !stages.all.is_empty()),
            "{}",
            sample.name
        );
    }
    for line in CHECKS.lines() {
        let name = line.split('\t').next().unwrap();
        assert!(names.contains(name), "checks.tsv: {name}");
    }
}
