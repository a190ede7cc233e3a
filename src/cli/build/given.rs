//! What the command line says of an ImageBuild, read and checked: pure.

use std::path::{Component, Path};

use serde_json::{Map, Value, json};
use whittle_image::Repository;

use super::options::Options;
use crate::cluster::Failed;
use crate::inspect::location::Location;

/// The longest name that is made of a directory's.
const NAME: usize = 52;

/// A value that is invalid.
fn invalid(text: String) -> Failed {
    Failed::Use(text)
}

/// The spec, as far as the command line says something: without source and Dockerfile.
///
/// `environment`: what `--build-arg NAME` stands for.
pub(super) fn spec(
    options: &Options,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Map<String, Value>, Failed> {
    let mut spec = Map::new();
    let mut output = Map::new();
    if let Some(image) = &options.image {
        repository("--image", image)?;
        output.insert("image".into(), json!(image));
    }
    for tag in &options.tag {
        if tag.contains(['/', ':']) {
            let (image, tag) = tag.rsplit_once(':').unwrap_or((tag, "v1"));
            return Err(invalid(format!(
                "--tag: invalid tag: give the repository on its own: --image {image} --tag {tag}"
            )));
        }
    }
    if !options.tag.is_empty() {
        output.insert("tags".into(), json!(options.tag));
    }
    if let Some(name) = &options.push_secret {
        output.insert("secretRef".into(), json!({"name": name}));
    }
    if !options.label.is_empty() {
        let pair = |text: &String| pair("--label", text, |_| None);
        let labels: Result<Map<String, Value>, Failed> = options.label.iter().map(pair).collect();
        output.insert("labels".into(), labels?.into());
    }
    if !output.is_empty() {
        spec.insert("output".into(), output.into());
    }
    if !options.build_arg.is_empty() {
        let pair = |text: &String| pair("--build-arg", text, &environment);
        let args: Result<Map<String, Value>, Failed> = options.build_arg.iter().map(pair).collect();
        spec.insert("buildArgs".into(), args?.into());
    }
    if !options.platform.is_empty() {
        spec.insert("platforms".into(), json!(options.platform));
    }
    if let Some(target) = &options.target {
        spec.insert("target".into(), json!(target));
    }
    if !options.secret.is_empty() {
        let secrets: Result<Vec<Value>, Failed> = options.secret.iter().map(secret).collect();
        spec.insert("secrets".into(), secrets?.into());
    }
    if let Some(name) = &options.builder {
        spec.insert("builderRef".into(), json!({"name": name}));
    }
    Ok(spec)
}

fn pair(
    option: &str,
    text: &str,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<(String, Value), Failed> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.into())),
        None if !text.is_empty() => match environment(text) {
            Some(value) => Ok((text.to_owned(), value.into())),
            None => Err(invalid(format!(
                "{option} {text}: the value is missing: write {option} {text}=VALUE"
            ))),
        },
        _ => Err(invalid(format!(
            "{option} {text}: the name is missing: write {option} NAME=VALUE"
        ))),
    }
}

/// `id=ID,secret=NAME/KEY`, in any order.
fn secret(text: &String) -> Result<Value, Failed> {
    let wrong = |why: &str| {
        Err(invalid(format!(
            "--secret {text}: {why}: write id=ID,secret=NAME/KEY, where NAME is a Secret of the namespace: kubectl create secret generic \
             npm-token --from-file=token=FILE"
        )))
    };
    let (mut id, mut reference) = (None, None);
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("id", value)) => id = Some(value),
            Some(("secret", value)) => reference = value.split_once('/'),
            Some(("type", "file")) => {}
            Some(("src" | "source" | "env", _)) => {
                return wrong("files and variables of this machine are not sent");
            }
            _ => return wrong("invalid"),
        }
    }
    match (id, reference) {
        (Some(id), Some((name, key))) if ![id, name, key].contains(&"") => {
            Ok(json!({"id": id, "secretRef": {"name": name, "key": key}}))
        }
        (None, _) => wrong("the id is missing"),
        _ => wrong("the Secret or its key is missing"),
    }
}

/// A repository: a name without tag and digest.
pub(super) fn repository(option: &str, text: &str) -> Result<Repository, Failed> {
    let example = "write host/path, for example registry.example.com/team/hello";
    let read = Location::parse(text, |_| false)
        .map_err(|error| invalid(format!("{option}: {error}; {example}")))?;
    match read {
        Location::Registry(reference) if reference.digest.is_some() => Err(invalid(format!(
            "{option} {text}: invalid repository: it has a digest: {example}"
        ))),
        Location::Registry(reference) => match reference.tag {
            None => Ok(reference.repository),
            Some(tag) => {
                let name = text.strip_suffix(&format!(":{tag}")).unwrap_or(text);
                Err(invalid(format!(
                    "{option} {text}: invalid repository: it has a tag: write {option} {name} --tag {tag}"
                )))
            }
        },
        Location::Files { .. } | Location::Daemon { .. } => Err(invalid(format!(
            "{option} {text}: invalid repository: {example}"
        ))),
    }
}

/// The name of an object that a directory's name gives.
pub(super) fn name(folder: &Path) -> Result<String, Failed> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let mut valid = String::new();
    for c in name.chars().map(|c| c.to_ascii_lowercase()) {
        match c {
            'a'..='z' | '0'..='9' => valid.push(c),
            _ if valid.ends_with('-') || valid.is_empty() => {}
            _ => valid.push('-'),
        }
    }
    valid.truncate(NAME);
    let valid = valid.trim_end_matches('-');
    match valid.is_empty() {
        false => Ok(valid.to_owned()),
        true => Err(invalid(format!(
            "{} has no name that an ImageBuild can have: give one with --name",
            folder.display()
        ))),
    }
}

/// A given name of an object, checked.
pub(super) fn checked(name: &str) -> Result<String, Failed> {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'))
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    match name.len() <= 253 && name.split('.').all(part) {
        true => Ok(name.to_owned()),
        false => Err(invalid(format!(
            "--name {name}: invalid name: use lowercase letters, digits, - and ., starting and ending with a letter or digit"
        ))),
    }
}

/// A path within `folder`, with `/` and without `.`; none where it leads out. Both are absolute.
pub(super) fn within(folder: &Path, path: &Path) -> Option<String> {
    let mut clean = std::path::PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            part => clean.push(part),
        }
    }
    let rest = clean.strip_prefix(folder).ok()?.to_str()?;
    (!rest.is_empty()).then(|| rest.to_owned())
}

#[cfg(test)]
#[path = "given_tests.rs"]
mod tests;
