//! Base images that can change under a build: `latest`, or a tag without a digest.

use std::collections::BTreeMap;

use super::stages::origins;
use super::{Hint, HintKind, Look, listed};
use whittle_image::Reference;

/// How many images one hint names.
const NAMED: usize = 6;

pub(super) fn hints(look: &Look) -> Vec<Hint> {
    let mut latest: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    let mut tagged: Vec<(i32, String)> = vec![];
    for (line, image) in images(look) {
        let reference = Reference::parse(&image);
        match (&reference.digest, reference.tag.as_deref()) {
            (Some(_), _) => {}
            (None, None | Some("latest")) => latest.entry(image).or_default().push(line),
            (None, Some(_)) if tagged.iter().any(|(_, known)| *known == image) => {}
            (None, Some(_)) => tagged.push((line, image)),
        }
    }
    let mut hints: Vec<Hint> = latest
        .into_iter()
        .map(|(image, lines)| {
            let what = if image.ends_with(":latest") {
                format!("{image} is whatever was pushed last")
            } else {
                format!("{image} has no tag, which means latest: whatever was pushed last")
            };
            let text = format!(
                "{what}; name a version, best with its digest (name:version@sha256:…), so that the same \
                 Dockerfile builds the same image"
            );
            look.hint(HintKind::BaseImageLatest, lines.first().copied(), &text)
        })
        .collect();
    if !tagged.is_empty() {
        let names: Vec<String> = tagged
            .iter()
            .take(NAMED)
            .map(|(line, image)| format!("{image} (line {line})"))
            .collect();
        let more = match tagged.len().saturating_sub(NAMED) {
            0 => String::new(),
            n => format!(", and {n} more"),
        };
        let (stand, them) = match tagged.len() {
            1 => ("is named by a tag alone, which", "its digest"),
            _ => ("are named by tags alone, which", "their digests"),
        };
        let text = format!(
            "{}{more} {stand} can be overwritten; add {them} (name:tag@sha256:…) for the same \
                base image on every build",
            listed(&names)
        );
        hints.push(look.hint(HintKind::BaseImageNotPinned, None, &text));
    }
    hints
}

/// Images from registries that the target needs, with the line that names each.
fn images(look: &Look) -> Vec<(i32, String)> {
    let mut found = vec![];
    for (at, stage) in look.stages.each() {
        if stage.parent.is_none()
            && let Some(image) = &stage.image
        {
            found.push((stage.line, image.clone()));
        }
        for step in &stage.steps {
            for name in origins(step) {
                let number = name.bytes().all(|b| b.is_ascii_digit());
                if !number && !name.contains('$') && look.stages.find(&name, at).is_none() {
                    found.push((step.lines.0, name));
                }
            }
        }
    }
    found.retain(|(_, image)| {
        let known = image
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-/:@".contains(c));
        known && !image.is_empty() && image != "scratch" && image != "context"
    });
    found
}
