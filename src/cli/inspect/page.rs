//! What a page shows of an image that was inspected.

use super::report::{PlatformReport, Report};
use super::rules::Verdict;
use super::said::{lines, size};
use crate::page::{Judged, Large, Layer, Map, PARTS, Page, State};
use whittle_image::map::{LargeFile, Mapper, Region};
use whittle_image::reach::{Reach, Wanted, assumed_base};
use whittle_image::{Image, ImageConfig, Level, Outcome};

/// Files that are listed.
const LARGEST: usize = 60;

/// The maps of one image.
#[derive(Clone, Debug)]
pub(super) struct Drawn {
    folders: Region,
    layers: Region,
    largest: Vec<LargeFile>,
    /// Why it is not known what its program reaches.
    unsure: Option<String>,
    /// How many layers counted as the base's.
    base: usize,
}

/// How many layers count as the base's: files that the program reaches are then told from others.
pub(super) fn base(config: &ImageConfig) -> u16 {
    u16::try_from(assumed_base(config)).unwrap_or(u16::MAX)
}

/// Draws an image that was read with [`whittle_image::Limits::reach`].
pub(super) fn draw(image: &Image, config: &ImageConfig) -> Drawn {
    let reach = Reach::of(image, config, &Wanted::default());
    let mapper = Mapper {
        image,
        reach: Some(&reach).filter(|reach| reach.unsure.is_none()),
    };
    Drawn {
        folders: mapper.by_folder(PARTS),
        layers: mapper.by_layer(config, PARTS),
        largest: mapper.largest(LARGEST),
        unsure: reach.unsure,
        base: assumed_base(config),
    }
}

/// The page of an image.
pub(super) fn page(report: &Report, verdict: &Verdict, drawn: Drawn) -> Option<Page> {
    let image = report.images.first()?;
    let contents = &image.contents;
    let mut facts = vec![("Size", size(image))];
    facts.extend(
        lines(contents)
            .into_iter()
            .filter(|(name, _)| *name != "Platform"),
    );
    Some(Page {
        image: report.image.clone(),
        subtitle: format!(
            "{} · {}",
            image.platform,
            image.digest.as_ref().unwrap_or(&image.id)
        ),
        facts: facts
            .into_iter()
            .map(|(name, text)| (name.to_owned(), text))
            .collect(),
        rules: rules(verdict),
        reached: match &drawn.unsure {
            Some(_) => String::new(),
            None => reached(drawn.base),
        },
        notes: notes(image, drawn.unsure.as_deref()),
        maps: vec![
            Map {
                title: "by folder",
                root: drawn.folders,
            },
            Map {
                title: "by layer",
                root: drawn.layers,
            },
        ],
        layers: contents
            .layers
            .items
            .iter()
            .map(|layer| Layer {
                stored: layer.size.unsigned_abs(),
                content: layer.content.unsigned_abs(),
                hidden: layer.hidden.unsigned_abs(),
                made_by: layer
                    .instruction
                    .clone()
                    .or_else(|| layer.digest.clone())
                    .unwrap_or_default(),
            })
            .collect(),
        largest: drawn
            .largest
            .into_iter()
            .map(|file| Large {
                path: file.path,
                bytes: file.bytes,
                layer: file.layer,
                reached: file.reached,
            })
            .collect(),
    })
}

fn reached(base: usize) -> String {
    let base = match base {
        0 => "no layer counts as the base's".into(),
        1 => "the first layer counts as the base's".to_owned(),
        n => format!("the first {n} layers count as the base's"),
    };
    format!(
        "Judged as whittle minimize does, without running the image; {base}: with --base, whittle minimize --html \
         knows more"
    )
}

fn rules(verdict: &Verdict) -> Vec<Judged> {
    let lines = verdict.lines.iter().map(|line| {
        let (state, message) = match &line.outcome {
            Outcome::Kept => (State::Kept, ""),
            Outcome::Broken(message) => (State::Broken, message.as_str()),
            Outcome::Unknown(message) => (State::Unknown, message.as_str()),
        };
        let warning = match (line.level, state) {
            (Level::Warn, State::Broken | State::Unknown) => "a warning: ",
            _ => "",
        };
        Judged {
            rule: line.rule.to_owned(),
            state,
            message: format!("{warning}{message}"),
        }
    });
    let others = &verdict.others;
    let others = [
        (State::Kept, &others.kept),
        (State::Broken, &others.broken),
        (State::Unknown, &others.unknown),
    ];
    let others = others.into_iter().flat_map(|(state, names)| {
        names.iter().map(move |name| Judged {
            rule: (*name).to_owned(),
            state,
            message: "if a contract asked for it".into(),
        })
    });
    lines.chain(others).collect()
}

fn notes(image: &PlatformReport, unsure: Option<&str>) -> Vec<String> {
    let contents = &image.contents;
    let mut notes = Vec::new();
    if contents.partial {
        notes.push(
            "Incomplete: not all of the image was read, so what seems to be missing may exist."
                .into(),
        );
    }
    for note in &contents.notes.items {
        let layer = note.layer.map_or(String::new(), |n| format!("layer {n}: "));
        notes.push(format!("{layer}{}", note.message));
    }
    if let Some(why) = unsure {
        notes.push(format!("What the program reaches is unknown: {why}"));
    }
    notes
}
